"""`Turns`: many read, or one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Reading:
    """A reader's turn; an object that all readers share, as it has nothing of its own."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        self._turns.begin_reading()

    def __exit__(self, *_: object) -> None:
        self._turns.end_reading()


class Turns:
    """Keeps row numbers still while a search goes by them. Who waits to change them goes before new readers."""

    def __init__(self) -> None:
        self._turn = threading.Condition(threading.Lock())
        self._as_reader = _Reading(self)
        self._reading = 0
        self._waiting = 0
        self._changing = False

    def reading(self) -> _Reading:
        return self._as_reader

    def begin_reading(self) -> None:
        with self._turn:
            while self._changing or self._waiting:
                self._turn.wait()
            self._reading += 1

    def end_reading(self) -> None:
        with self._turn:
            self._reading -= 1
            if self._waiting and not self._reading:
                self._turn.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self._turn:
            self._waiting += 1
            try:
                while self._changing or self._reading:
                    self._turn.wait()
                self._changing = True
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._turn:
                self._changing = False
                self._turn.notify_all()
