"""`Bitmap`: which rows count, one bit a row in storage order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
# NumPy before 2.0 counts no bits
_BITS_IN_BYTE = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Row i counts when bit i % 64 of `words[i // 64]` is set; bits past the last row are clear.

    >>> bitmap = Bitmap.of_mask(np.array([True, False, True]))
    >>> bitmap.count, bitmap.rows(), bitmap.words
    (2, array([0, 2]), array([5], dtype=uint64))
    """

    words: Words
    n: int  # rows there are
    count: int  # rows that count

    @classmethod
    def of_mask(cls, mask: npt.NDArray[np.bool_]) -> Bitmap:
        """From a mask (n,)."""
        return cls.of_words(packed(mask), len(mask))

    @classmethod
    def of_words(cls, words: Words, n: int) -> Bitmap:
        """Over words that hold n rows; they become read-only, as many searches may share them."""
        words.flags.writeable = False
        return cls(words, n, _count(words))

    def rows(self) -> npt.NDArray[np.int64]:
        """The numbers of the rows that count, ascending."""
        return np.flatnonzero(self.mask())

    def mask(self) -> npt.NDArray[np.bool_]:
        """(n,) one bool a row."""
        return unpacked(self.words, self.n)

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True, eq=False)
class KeptBitmap(Bitmap):
    """One that will be searched by again: whose it is, and what its engine keeps of it (`_core.RowFilter`)."""

    owner: Any
    row_filter: Any


def word_count(n: int) -> int:
    """Words that n rows take."""
    return (n + 63) // 64


def full_words(n: int) -> Words:
    words = np.full(word_count(n), _ONES)
    clear_tail(words, n)
    return words


def clear_tail(words: Words, n: int) -> None:
    """Clears the bits past row n."""
    if n % 64:
        words[-1] &= _ONES >> np.uint64(64 - n % 64)


def packed(mask: npt.NDArray[np.bool_]) -> Words:
    """A mask as words."""
    words = np.zeros(word_count(len(mask)), np.uint64)
    packed_bytes = np.packbits(mask, bitorder="little")
    words.view(np.uint8)[: len(packed_bytes)] = packed_bytes
    return words


def unpacked(words: Words, n: int) -> npt.NDArray[np.bool_]:
    """Words as a mask of n rows."""
    return np.unpackbits(words.view(np.uint8), count=n, bitorder="little").view(np.bool_)


def joined(pieces: list[tuple[Words, int]]) -> Words:
    """One bitmap of several, each (words, rows), laid end to end."""
    if len(pieces) == 1:
        return pieces[0][0]
    start, total = 0, sum(rows for _, rows in pieces)
    words = np.zeros(word_count(total) + 1, np.uint64)  # one to spare, for bits carried out of the last word
    for piece, rows in pieces:
        first, shift = divmod(start, 64)
        words[first : first + len(piece)] |= piece << np.uint64(shift)
        if shift:
            words[first + 1 : first + 1 + len(piece)] |= piece >> np.uint64(64 - shift)
        start += rows
    return words[:-1]


def _count(words: Words) -> int:
    if hasattr(np, "bitwise_count"):
        return int(np.bitwise_count(words).sum())
    return int(_BITS_IN_BYTE[words.view(np.uint8)].sum(dtype=np.int64))
