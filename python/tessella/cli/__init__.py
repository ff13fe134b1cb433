"""The command line. `main` is its edge: what goes wrong inside leaves as one sentence and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TextIO

from tessella.cli.extras import require
from tessella.errors import RecallWarning, TessellaError

__all__ = ["main"]

FAILED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after a sentence on stderr, or 130 when interrupted."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("TESSELLA_DEBUG"):
            raise
        return _fail(_sentence(error))


def _run(arguments: list[str]) -> int:
    typer = require("typer")
    require("rich")
    from tessella.cli.app import app

    try:
        with _warnings_as_sentences():
            code = app(arguments or ["--help"], standalone_mode=False)
    except typer.Abort:
        return _fail("interrupted", INTERRUPTED)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    """What the library warns of appears as one sentence, without a line of its source."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, RecallWarning):
                print("tessella:", message, file=sys.stderr)
            else:
                plain(message, category, filename, lineno, file, line)

        warnings.simplefilter("always", RecallWarning)
        warnings.showwarning = show
        yield


def _sentence(error: Exception) -> str:
    if isinstance(error, TessellaError):
        return str(error)
    if hasattr(error, "format_message"):  # a usage error of the command line itself
        return str(error.format_message())
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    return f"an error of tessella's own, {type(error).__name__}: {error} (TESSELLA_DEBUG=1 shows where)"


def _fail(sentence: str, code: int = FAILED) -> int:
    print("tessella:", " ".join(sentence.split()), file=sys.stderr)
    return code
