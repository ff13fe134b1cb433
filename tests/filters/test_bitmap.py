"""Bitmaps: bits, counts, and pieces laid end to end at any offset."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.bitmap import Bitmap, full_words, joined, packed, unpacked

SIZES = [0, 1, 7, 31, 33, 63, 64, 65, 127, 1000]


@pytest.mark.parametrize("n", SIZES)
def test_a_mask_comes_back(n: int, rng: np.random.Generator) -> None:
    mask = rng.random(n) < 0.4
    bitmap = Bitmap.of_mask(mask)
    assert bitmap.words.dtype == np.uint64 and len(bitmap.words) == (n + 63) // 64
    assert np.array_equal(bitmap.mask(), mask)
    assert bitmap.rows().tolist() == np.flatnonzero(mask).tolist()
    assert (bitmap.count, len(bitmap)) == (mask.sum(), n)


def test_bits_count_from_the_lowest() -> None:
    mask = np.zeros(70, np.bool_)
    mask[[0, 5, 64, 69]] = True
    assert Bitmap.of_mask(mask).words.tolist() == [0b100001, 0b100001]


@pytest.mark.parametrize("n", SIZES)
def test_all_rows_and_none_after_them(n: int) -> None:
    assert Bitmap.of_words(full_words(n), n).count == n


def test_words_are_shared_and_so_not_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Bitmap.of_mask(np.array([True])).words[0] = 0


@pytest.mark.parametrize("sizes", [[5], [64, 64], [1, 63, 1], [7, 0, 130, 64, 3], [65, 65, 65]])
def test_pieces_join(sizes: list[int], rng: np.random.Generator) -> None:
    masks = [rng.random(n) < 0.5 for n in sizes]
    words = joined([(packed(mask), len(mask)) for mask in masks])
    assert np.array_equal(unpacked(words, sum(sizes)), np.concatenate(masks))
    assert len(words) == (sum(sizes) + 63) // 64
