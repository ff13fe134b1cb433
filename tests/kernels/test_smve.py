"""Sparse anchors: encodings of every level, bit for bit as the reference has them; blocks of the inverted file, and
`ts.SMVE`."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella import _core
from tessella.reference import rotate
from tessella.reference import smve as reference
from tests.kernels.cases import Array, Floats, rows, same_bits

LENGTHS = (3, 0, 1, 17)
# d, rotations, kept
SHAPES = ((128, 8, 32), (64, 3, 5), (96, 2, 128), (20, 1, 32), (20, 1, 64), (200, 3, 7), (1, 1, 1))


def starts(lengths: tuple[int, ...]) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def drawn_signs(d: int, rotations: int) -> Array:
    padded = rotate.padded_dim(d)
    return np.stack([rotate.rotate_signs(padded, 7 + i * 4 * padded // 64) for i in range(rotations)])


@pytest.mark.parametrize("queries", [True, False])
@pytest.mark.parametrize(("d", "rotations", "kept"), SHAPES)
def test_encodings_are_the_reference_bit_for_bit(
    level: str, rng: np.random.Generator, d: int, rotations: int, kept: int, queries: bool
) -> None:
    x, offsets, signs = rows(rng, sum(LENGTHS), d), starts(LENGTHS), drawn_signs(d, rotations)
    x[1] = 0  # a token that is like nothing
    x[5:8] = x[4]  # tokens that stay at the same anchors
    for threads in (1, 2):
        ends, anchors, weights = _core.smve_encode(x, offsets, signs, kept=kept, queries=queries, threads=threads)
        assert ends[0] == 0 and ends[-1] == len(anchors) == len(weights)
        for i, (a, b) in enumerate(pairwise(offsets)):
            wanted = reference.smve_encode(x[a:b], signs, kept, query=queries)
            own = slice(ends[i], ends[i + 1])
            assert same_bits(anchors[own], wanted[0]) and same_bits(weights[own], wanted[1])


def test_equal_products_go_to_the_first_anchor(level: str) -> None:
    signs = drawn_signs(64, 2)
    token = rotate.rotate_inverse(np.ones((1, 64), np.float32), signs[0], 64)  # all coordinates alike, but for rounding
    rotated = reference.products(token[0].astype(np.float32), signs)
    for kept in (1, 7, 64):
        _, anchors, _ = _core.smve_encode(
            token.astype(np.float32), starts((1,)), signs, kept=kept, queries=True, threads=1
        )
        assert np.array_equal(anchors // 2, np.sort(reference.nearest(rotated, kept)))


def sparse(rng: np.random.Generator, n: int, anchors: int) -> tuple[list[tuple[Array, Array]], Array, Array, Array]:
    """Rows of drawn anchors and weights of a byte, and the same one after another."""
    made = []
    for _ in range(n):
        own = np.sort(rng.choice(anchors, rng.integers(0, anchors + 1), replace=False)).astype(np.uint32)
        made.append((own, rng.integers(0, 256, len(own)).astype(np.uint8)))
    offsets = starts(tuple(len(own) for own, _ in made))
    return made, offsets, np.concatenate([a for a, _ in made]), np.concatenate([w for _, w in made])


def empty_block(anchors: int) -> Any:
    return _core.SmveBlock(np.zeros(anchors + 1, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint8), 0)


def test_blocks_score_as_the_reference_does(level: str, rng: np.random.Generator) -> None:
    anchors, sizes = 16, (7, 0, 13, 1)
    blocks, expected = [empty_block(anchors)], []
    queries = [sparse(rng, 1, anchors)[0][0] for _ in range(3)]
    whole = [(a, w.astype(np.uint32) * 257) for a, w in queries]
    for n in sizes:
        made, offsets, numbers, weights = sparse(rng, n, anchors) if n else ([], starts(()), *map(_none, "IB"))
        half = n // 2
        block = empty_block(anchors).extended(offsets[: half + 1], numbers[: offsets[half]], weights[: offsets[half]])
        rest = slice(offsets[half], None)
        blocks.append(block.extended(offsets[half:] - offsets[half], numbers[rest], weights[rest]))
        lists = reference.inverted(made, anchors)
        assert blocks[-1].count == n
        assert [row for each in lists for row, _ in each] == blocks[-1].rows.tolist()
        assert [weight for each in lists for _, weight in each] == blocks[-1].weights.tolist()
        expected.append(np.stack([reference.scores(lists, n, *each) for each in whole]))
    scales = rng.random(sum(sizes), dtype=np.float32)
    got = _core.smve_score(
        blocks, scales, starts(tuple(len(a) for a, _ in whole)), np.concatenate([a for a, _ in whole]),
        np.concatenate([w for _, w in whole]).astype(np.uint32), threads=2,
    )  # fmt: skip
    assert same_bits(got, np.concatenate(expected, axis=1).astype(np.float32) * scales)


def _none(kind: str) -> Array:
    return np.empty(0, kind)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"starts": [0, 2, 1]}, "rise from 0"),
        ({"starts": [0, 1, 3]}, "rise from 0"),
        ({"starts": [1, 1, 2]}, "rise from 0"),
        ({"rows": [0, 3]}, "rows below 3"),
        ({"weights": [1]}, "as many weights"),
        ({"count": 8193}, "at most 8192"),
    ],
)
def test_a_damaged_block_is_refused(change: dict[str, Any], says: str) -> None:
    given = {"starts": [0, 1, 2], "rows": [0, 2], "weights": [5, 9], "count": 3}

    def block(starts: Any, rows: Any, weights: Any, count: int) -> Any:
        return _core.SmveBlock(
            np.array(starts, np.int64), np.array(rows, np.uint16), np.array(weights, np.uint8), count
        )

    assert block(**given).count == 3
    with pytest.raises(ts.InvalidArgument, match=says):
        block(**(given | change))


def dense(found: ts.smve.SparseRows, anchors: int) -> Floats:
    out = np.zeros((found.n, anchors), np.float32)
    for i, (a, b) in enumerate(pairwise(found.offsets)):
        out[i, found.anchors[a:b]] = found.weights[a:b]
    return out


def test_encodings_rank_as_maxsim_does(rng: np.random.Generator) -> None:
    words = rng.standard_normal((60, 64))
    documents = [
        (words[(i + rng.integers(0, 6, 30)) % 60] + 0.5 * rng.standard_normal((30, 64))).astype(np.float32)
        for i in range(60)
    ]
    documents = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in documents]
    queries = [x[:8] for x in documents]
    smve = ts.SMVE(64, rotations=16, kept=16)
    tables = dense(smve.encode_queries(queries), smve.anchors) @ dense(smve.encode_documents(documents), smve.anchors).T
    exact = ts.maxsim(queries, documents)
    kept, best = np.argsort(-tables, axis=1)[:, :15], np.argsort(-exact, axis=1)[:, :5]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(best, kept, strict=True)]) > 0.9


def test_forms_and_types_of_tokens_agree(rng: np.random.Generator) -> None:
    x = rows(rng, 9, 20).astype(np.float16)
    smve = ts.SMVE(20, rotations=2, kept=4)
    wanted = smve.encode_documents([x[:4], x[4:4], x[4:]])
    for other in (
        smve.encode_documents((x, np.array([0, 4, 4, 9]))),
        smve.encode_documents([x[:4].astype(np.float32), [], x[4:].astype(np.float32)], threads=2),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(wanted, other, strict=True))
    assert wanted.n == 3 and wanted.offsets[1] == wanted.offsets[2]
    assert smve.encode_documents([]).n == 0
    twice = smve.encode_queries([np.concatenate([x[:4], x[:4]])])
    assert np.allclose(twice.weights, 2 * smve.encode_queries([x[:4]]).weights)


def test_a_file_brings_the_encoder_back(rng: np.random.Generator, tmp_path: Path) -> None:
    x = rows(rng, 9, 70)
    smve = ts.SMVE(70, rotations=3, kept=9, seed=2**63 - 5)
    smve.save(tmp_path / "smve")
    other = ts.SMVE.load(tmp_path / "smve")
    assert repr(other) == repr(smve) == "SMVE(70, rotations=3, kept=9: 768 anchors)"
    assert all(map(np.array_equal, smve.encode_queries([x]), other.encode_queries([x])))
    with pytest.raises(ts.FormatError):
        ts.FDE.load(tmp_path / "smve")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dim": 0}, "dim"),
        ({"dim": 64, "rotations": 0}, "rotations"),
        ({"dim": 64, "kept": 0}, "kept"),
        ({"dim": 64, "rotations": 1, "kept": 65}, "kept <= 64"),
        ({"dim": 64, "rotations": 1 << 20}, "at most"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(ts.InvalidArgument, match=says):
        ts.SMVE(**options)


def test_tokens_that_are_not_finite_or_too_large_are_refused() -> None:
    smve = ts.SMVE(4, rotations=1, kept=2)
    with pytest.raises(ts.InvalidArgument, match="token 1 of number 0"):
        smve.encode_documents([np.array([[1, 2, 3, 4], [np.nan, 0, 0, 0]], np.float32)])
    with pytest.raises(ts.InvalidArgument, match=r"up to 1e\+30"):
        smve.encode_queries([np.full((3, 4), 3e38, np.float32)])
    with pytest.raises(ts.InvalidArgument, match="4 numbers"):
        smve.encode_queries([np.ones((2, 5), np.float32)])
