"""Late chunking: which tokens a chunk is pooled from, and what they have seen."""

from __future__ import annotations

import numpy as np
import pytest

from tessella.encoder import Encoder
from tessella.encoder.chunks import even, windows
from tessella.errors import InvalidArgument
from tests.encoder.conftest import TEXTS

LONG = " ".join(TEXTS[i] for i in (0, 3, 4)) * 9


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_chunks_of_a_short_text_are_means_of_its_states(minilm: Encoder) -> None:
    states = minilm.encode_tokens(TEXTS[3], normalize=False)
    found = minilm.encode_chunks(TEXTS[3], chunk_tokens=10)
    wanted = [states[start : start + 10].mean(axis=0) for start in range(0, len(states), 10)]
    np.testing.assert_allclose(found.embeddings, unit(np.stack(wanted)), atol=2e-6)
    assert found.spans[0, 0] == 0 and found.spans[-1, 1] == len(TEXTS[3])


def test_spans_in_characters(minilm: Encoder) -> None:
    text = "The first sentence is here. The second one follows."
    cut = text.index("The second")
    found = minilm.encode_chunks([text, "one more"], spans=[[(0, cut), (cut, len(text))], [(0, 8)]], dim=64)
    assert found.offsets.tolist() == [0, 2, 3] and found.texts().tolist() == [0, 0, 1]
    assert found.spans.tolist() == [[0, cut - 1], [cut, len(text)], [0, 8]]
    states = minilm.encode_tokens(text, normalize=False)
    np.testing.assert_allclose(found.of(0)[0], unit(states[:6].mean(axis=0)[:64]), atol=2e-6)
    alone = minilm.encode_chunks(text[:cut].strip()).embeddings[0]
    assert np.abs(found.of(0)[0] - unit(alone[:64])).max() > 1e-3  # it has seen the second sentence


def test_long_texts_are_covered_whole(minilm: Encoder) -> None:
    found = minilm.encode_chunks([LONG, "", LONG], chunk_tokens=40, dtype="float16")
    assert found.embeddings.dtype == np.float16 and found.offsets[1] == found.offsets[2]
    ends = found.spans[: found.offsets[1]]
    assert ends[0, 0] == 0 and ends[-1, 1] == len(LONG)
    assert all(LONG[a:b].strip() == "" for a, b in zip(ends[:-1, 1], ends[1:, 0], strict=True))
    np.testing.assert_array_equal(found.of(0), found.of(2))
    assert ((found.of(0).astype(np.float32) ** 2).sum(axis=1) > 0.99).all()


@pytest.mark.parametrize("size", [1, 3, 7, 20])
@pytest.mark.parametrize("room", [None, 1, 4, 10, 64])
@pytest.mark.parametrize("n", [1, 9, 63, 64, 65, 200])
def test_every_chunk_lies_in_one_window(n: int, room: int | None, size: int) -> None:
    parts = even(n, size)
    covered = windows(n, parts, room)
    homes = sorted(each for window in covered for each in window.chunks)
    assert [first for first, _ in homes] == [first for first, _ in parts]
    for window in covered:
        assert 0 <= window.start < window.stop <= n and window.stop - window.start <= (room or n)
        for first, last in window.chunks:
            assert window.start <= first < last <= window.stop
            assert room is None or size > room or (first, last) in parts
            middle = abs(first + last - window.start - window.stop) / 2
            inner = room is not None and size <= room // 2 and room // 2 <= first and last <= n - room // 2
            assert not inner or middle <= room / 4 + 1 + size  # as much text to its left as to its right, nearly


def test_what_is_wrong_is_a_sentence(minilm: Encoder) -> None:
    with pytest.raises(InvalidArgument, match="expected spans of 2 texts; got 1"):
        minilm.encode_chunks(["a", "b"], spans=[[(0, 1)]])
    with pytest.raises(InvalidArgument, match=r"spans that hold a token; got \(3, 3\)"):
        minilm.encode_chunks(["a b c"], spans=[[(3, 3)]])
    with pytest.raises(InvalidArgument, match="chunk_tokens as a whole number"):
        minilm.encode_chunks(["a"], chunk_tokens=0)
