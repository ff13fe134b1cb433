"""Bars and callbacks for long work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from tessella.errors import InvalidArgument

Step: TypeAlias = Callable[[float], None]
Progress: TypeAlias = bool | Step
Report: TypeAlias = Step | None


@contextlib.contextmanager
def shown(progress: Progress, what: str) -> Iterator[Report]:
    """A function to call with the share of the work done; None where nobody wants to know."""
    if callable(progress):
        yield progress
    elif not progress:
        yield None
    else:
        with _bar() as bar:
            task = bar.add_task(what, total=1.0)
            yield lambda share: bar.update(task, completed=share)


def part(whole: Step, first: float, last: float) -> Step:
    """What a piece of the work reports to: its own share done becomes one between `first` and `last` of the whole."""
    return lambda share: whole(first + (last - first) * share)


@contextlib.contextmanager
def counted(progress: bool | Callable[[int], None], total: int | None, what: str) -> Iterator[Callable[[int], None]]:
    """A function to call with so many more rows done."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda rows: None
    else:
        with _bar() as bar:
            task = bar.add_task(what, total=total)
            yield lambda rows: bar.advance(task, rows)


def _bar() -> Any:
    try:
        from rich.progress import Progress as Bar
    except ImportError as error:
        raise InvalidArgument('progress=True: expected rich; `pip install "tessella[cli]"` brings it') from error
    return Bar()
