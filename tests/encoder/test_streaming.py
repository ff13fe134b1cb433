"""encode_to: the vectors of `encode`, written as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tessella as ts
from tessella.encoder import Encoder, streaming
from tessella.encoder import encoder as module
from tessella.errors import InvalidArgument, UnsupportedType
from tests.encoder.models import write_transformer


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    monkeypatch.setattr(module, "BLOCK_TEXTS", 16)
    return Encoder.load(write_transformer(tmp_path / "m"))


@pytest.mark.parametrize("dtype", ["float32", "binary"])
def test_a_file_holds_what_encode_returns(
    dtype: str, encoder: Encoder, tmp_path: Path, sentences: Callable[[int, int], list[str]]
) -> None:
    texts, heard = sentences(50, 9), list[int]()
    assert encoder.encode_to(tmp_path / "x.npy", iter(texts), dtype=dtype, progress=heard.append) == 50
    written = np.load(tmp_path / "x.npy", mmap_mode="r")
    wanted = encoder.encode(texts, dtype=dtype)
    assert written.dtype == wanted.dtype and sum(heard) == 50
    np.testing.assert_array_equal(written, wanted)


def test_no_more_than_a_block_is_read_ahead(encoder: Encoder, sentences: Callable[[int, int], list[str]]) -> None:
    texts, read, added = sentences(50, 9), [0], [0]

    def coming() -> Iterator[str]:
        for text in texts:
            read[0] += 1
            assert read[0] - added[0] <= 16
            yield text

    class Sink:
        def add(self, x: np.ndarray, *, ids: object = None) -> None:
            added[0] += len(x)

    assert encoder.encode_to(Sink(), coming()) == 50 == added[0]


def test_an_index_takes_ids(encoder: Encoder, sentences: Callable[[int, int], list[str]]) -> None:
    texts = sentences(40, 9)
    index = ts.Index("Flat", dim=32)
    assert encoder.encode_to(index, texts, ids=range(100, 140)) == 40
    np.testing.assert_allclose(index.reconstruct(index.ids), encoder.encode(texts, normalize=True), atol=1e-6)
    assert index.ids.tolist() == list(range(100, 140))


def test_an_error_leaves_the_older_file(encoder: Encoder, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))

    def torn() -> Iterator[str]:
        yield from ["w1"] * 20
        raise LookupError("the source is gone")

    with pytest.raises(LookupError, match="the source is gone"):
        encoder.encode_to(tmp_path / "x.npy", torn())
    assert np.load(tmp_path / "x.npy").tolist() == [0, 1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "x.npy"]


def test_what_is_wrong_is_a_sentence(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"a path that ends in .npy; got 'x.bin'"):
        encoder.encode_to("x.bin", ["w1"])
    with pytest.raises(InvalidArgument, match="ids with an index only"):
        encoder.encode_to(tmp_path / "x.npy", ["w1"], ids=[1])
    with pytest.raises(InvalidArgument, match="an id for each text; got 1 in all"):
        encoder.encode_to(ts.Index("Flat", dim=32), ["w1", "w2"], ids=[1])
    with pytest.raises(UnsupportedType, match="got int at place 1"):
        encoder.encode_to(tmp_path / "x.npy", ["w1", 2])  # type: ignore[list-item]


def test_blocks() -> None:
    assert list(streaming.in_blocks(range(5), 2)) == [[0, 1], [2, 3], [4]]
