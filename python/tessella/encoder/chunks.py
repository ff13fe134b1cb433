"""Late chunking: a long text is encoded whole, or in windows that overlap, and pooled piece by piece.

Every token has then seen what surrounds its chunk, which a chunk encoded by itself has not (Günther et al., arXiv
2409.04701).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tessella.errors import InvalidArgument

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Vectors of the chunks of some texts, one text after another.

    Attributes:
        embeddings: (chunks, dim), in the type asked for.
        offsets: (n + 1,); the chunks of text i are the rows offsets[i] to offsets[i + 1].
        spans: (chunks, 2), the characters of its text that a chunk covers.
    """

    embeddings: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]

    def of(self, text: int) -> npt.NDArray[Any]:
        """The vectors of one text's chunks."""
        return self.embeddings[self.offsets[text] : self.offsets[text + 1]]

    def texts(self) -> npt.NDArray[np.int64]:
        """The number of the text that each chunk is of, (chunks,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens `start` to `stop` of a text that go through the model together, and the chunks pooled from them."""

    start: int
    stop: int
    chunks: tuple[Span, ...]  # in tokens of the text


def even(n: int, size: int) -> list[Span]:
    """Chunks of `size` tokens; the last one may be shorter.

    >>> even(7, 3)
    [(0, 3), (3, 6), (6, 7)]
    """
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def in_tokens(spans: Sequence[Span], offsets: Sequence[Span], operation: str) -> list[Span]:
    """Spans of characters as spans of tokens: every token that begins within one."""
    begins = np.array([start for start, _ in offsets], np.int64)
    found = []
    for start, stop in spans:
        first, last = (int(np.searchsorted(begins, each)) for each in (start, stop))
        if first == last:
            raise InvalidArgument(f"{operation}: expected spans that hold a token; got ({start}, {stop})")
        found.append((first, last))
    return found


def windows(n: int, chunks: Sequence[Span], room: int | None) -> list[Window]:
    """Covers a text of n tokens, at most `room` at a time; each chunk is pooled where it lies most in the middle,
    of equally good windows in the first.

    >>> [(each.start, each.stop, each.chunks) for each in windows(8, even(8, 2), room=4)]
    [(0, 4, ((0, 2), (2, 4))), (2, 6, ((4, 6),)), (4, 8, ((6, 8),))]
    """
    if room is None or n <= room:
        return [Window(0, n, tuple(chunks))]
    starts = [*range(0, n - room, max(room // 2, 1)), n - room]
    homes: dict[int, list[Span]] = {}
    for first, last in chunks:
        end = min(last, first + room)  # a chunk longer than a window is cut, as texts are
        holding = [start for start in starts if start <= first and end <= start + room]
        centred = min(max((first + end - room) // 2, 0), n - room)  # a window of its own, where no other holds it
        best = min(holding, key=lambda start: abs(2 * start + room - first - end), default=centred)
        homes.setdefault(best, []).append((first, end))
    return [Window(start, start + room, tuple(homes[start])) for start in sorted(homes)]
