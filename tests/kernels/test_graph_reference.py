"""The graph's engine beside the reference: the edges of a small graph, its records, what a walk to all rows finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tessella import _core
from tessella.reference import graph as reference
from tessella.reference.rotate import rotate_forward, rotate_signs
from tests.kernels.cases import Floats

N, DIM, PADDED, DEGREE, SEED = 240, 60, 64, 32, 7
LEAF_NEAR = 16  # candidates of a row of a graph without leaves
COARSE = {"B1": ["B1", "U8"], "none": ["U8"]}


@dataclass(frozen=True)
class Made:
    """An engine, its graph, its rows R(x - centre) and three queries: as they are, rotated, and what scores add."""

    engine: _core.GraphIndex
    graph: reference.Graph
    values: Floats
    centre: Floats | None  # R(centre), under inner product
    queries: Floats
    rotated: Floats
    adds: Floats


@pytest.fixture(params=["l2", "ip"])
def metric(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=COARSE)
def made(request: pytest.FixtureRequest, metric: str, rng: np.random.Generator) -> Made:
    topics = rng.standard_normal((6, DIM))
    rows, queries = (
        (topics[rng.integers(6, size=m)] + rng.standard_normal((m, DIM))).astype(np.float32) for m in (N, 3)
    )
    engine = _core.GraphIndex(dim=DIM, metric=metric, codecs=COARSE[request.param], seed=SEED, degree=DEGREE)
    engine.train(rows)
    engine.add(rows, None, 1, None)
    state, signs, l2 = engine.snapshot(), rotate_signs(PADDED, SEED), metric == "l2"

    def column(name: str, dtype: str) -> np.ndarray:
        parts = state["columns"][name]
        blocks = np.concatenate([np.asarray(part).reshape(-1) for part in parts])
        return blocks.reshape(-1, len(blocks) // -(-N // 32) // 32)[:N].view(dtype)

    centre = state["centre"]
    scored = reference.Rows(
        metric, codes=column("codes", "u1"), scales=column("scales", "<f4")[:, 0],
        norms2=column("norms2", "<f4")[:, 0] if l2 else None,
    )  # fmt: skip
    rotated = rotate_forward(queries, signs, centre if l2 else None)
    return Made(
        engine, reference.unpack_records(column("links", "u1"), DEGREE, PADDED, scored),
        rotate_forward(rows, signs, centre), None if l2 else rotate_forward(centre[None], signs)[0], queries, rotated,
        -np.square(rotated).sum(axis=1) if l2 else queries @ centre,
    )  # fmt: skip


def test_a_small_graph_has_the_edges_of_the_reference(made: Made) -> None:
    wide = made.values.astype(np.float64)
    distances = np.square(wide[:, None] - wide).sum(axis=2).astype(np.float32)
    nearest = np.argsort(distances, axis=1)[:, 1 : LEAF_NEAR + 1].astype(np.uint32)
    lengths = np.take_along_axis(distances, nearest.astype(np.int64), axis=1)
    each = zip(nearest, lengths, strict=True)
    edges = reference.stack([reference.graph_prune(made.values, i, *near, DEGREE) for i, near in enumerate(each)])
    linked = reference.graph_link(made.values, edges)
    same = (np.sort(made.graph.neighbours, axis=1) == np.sort(linked.rows, axis=1)).all(axis=1)
    assert same.mean() > 0.98  # sums in another order; and rows that could not be reached


def test_records_are_those_of_the_reference(made: Made) -> None:
    if made.graph.blocks is None:
        pytest.skip("records without codes")
    for row, near in enumerate(made.graph.neighbours):
        lanes = near != reference.NO_ROW
        edges = reference.graph_encode(made.values[row], made.values[near[lanes]], made.centre)
        stored = reference.unpack_blocks(made.graph.blocks[row])
        assert np.array_equal(stored.bits[lanes], edges.bits)
        assert np.array_equal(stored.scales[lanes], reference.from_bfloat16(reference.to_bfloat16(edges.scales)))
        assert np.isposinf(stored.terms[~lanes]).all()


def test_a_walk_to_all_rows_finds_what_a_search_of_all_does(made: Made) -> None:
    found, scores = made.engine.search(made.queries, 10, 1.9, N, 1)[:2]
    sign = -1 if made.graph.rows.metric == "l2" else 1
    for i, query in enumerate(made.rotated):
        entries = np.arange(0, N, 3, dtype=np.uint32)  # as many as the engine has, about
        walk = reference.graph_walk(made.graph, reference.Asked(query, made.adds[i], N, 10), entries)
        assert len(walk.visited) == N
        assert [row for _, row, _ in walk.best] == found[i].tolist()
        assert np.allclose([sign * score for _, _, score in walk.best], scores[i], rtol=1e-5)
