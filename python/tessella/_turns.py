"""`Turns`: many read, or one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Keeps row numbers still while a search goes by them. Who waits to change them goes before new readers."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._reading = 0
        self._waiting = 0
        self._changing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._turn:
            self._turn.wait_for(lambda: not (self._changing or self._waiting))
            self._reading += 1
        try:
            yield
        finally:
            with self._turn:
                self._reading -= 1
                self._turn.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        with self._turn:
            self._waiting += 1
            try:
                self._turn.wait_for(lambda: not (self._changing or self._reading))
                self._changing = True
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            with self._turn:
                self._changing = False
                self._turn.notify_all()
