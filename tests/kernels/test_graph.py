"""Edge codes on every level: bits and factors as the reference has them, estimates from blocks that are part full."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tessella import _core
from tessella.errors import InvalidArgument
from tessella.reference import graph as reference
from tessella.reference.rabitq import sign_values
from tests.kernels.cases import PADDED, ROWS, VALUES, Floats, assert_close, rows, same_bits

Reach = npt.NDArray[np.uint32]
WIDE = 4160  # beyond what 16-bit sums hold at once
METRICS = ("ip", "l2")
LOWEST = float(np.finfo(np.float32).min)  # what a walk asks for that has room: every neighbour, no empty lane


def edges_of(vertex: Floats, neighbours: Floats, centre: Floats | None) -> reference.GraphEdges:
    return reference.GraphEdges(*_core.graph_encode(vertex, neighbours, centre))


def scan(
    query: Floats, blocks: npt.NDArray[np.uint8], metric: str, add: float = 0.0, threshold: float = LOWEST
) -> tuple[Floats, Reach]:
    """One visit of the one vertex there is."""
    visit, adds = np.zeros(1, np.uint32), np.array([add], np.float32)
    estimates, reach = _core.graph_scan(query, blocks[None], visit, metric, adds=adds, threshold=threshold)
    return estimates[0], reach[0]


def lanes_in(reach: Reach) -> list[int]:
    return np.flatnonzero(np.unpackbits(reach.view(np.uint8), bitorder="little")).tolist()


def magnitude(query: Floats, blocks: npt.NDArray[np.uint8], add: float) -> npt.NDArray[np.float64]:
    """Of what an estimate is summed from; 0 in empty lanes, where nothing is rounded."""
    edges = reference.unpack_blocks(blocks)
    total = 2 * edges.scales * np.abs(query).sum(dtype=np.float64) + abs(add) + np.abs(edges.terms)
    return np.where(np.isfinite(edges.terms), total, 0.0)


def assert_estimates(got: Floats, query: Floats, blocks: npt.NDArray[np.uint8], metric: str, add: float) -> None:
    expected = reference.graph_scan(query, blocks, add, metric)
    empty = np.isneginf(expected)
    assert np.array_equal(np.isneginf(got), empty)
    assert_close(got[~empty], expected[~empty], magnitude(query, blocks, add)[~empty])


def centre_for(rng: np.random.Generator, metric: str, padded: int) -> Floats | None:
    return rows(rng, 1, padded)[0] if metric == "ip" else None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("padded", [*PADDED, WIDE])
def test_encode(level: str, rng: np.random.Generator, padded: int, values: str, metric: str) -> None:
    """Bit for bit. With "zeros" every other neighbour, and the vertex itself, is the centre: edges of zero."""
    x, centre = rows(rng, 34, padded, values), centre_for(rng, metric, padded)
    got, expected = edges_of(x[0], x[1:], centre), reference.graph_encode(x[0], x[1:], centre)
    for name in ("bits", "scales", "terms"):
        assert same_bits(getattr(got, name), getattr(expected, name)), name


@pytest.mark.parametrize("n", ROWS)
def test_encode_sizes(level: str, rng: np.random.Generator, n: int) -> None:
    vertex, neighbours = rows(rng, 1, 128)[0], rows(rng, n, 128)
    assert same_bits(edges_of(vertex, neighbours, None).terms, reference.graph_encode(vertex, neighbours).terms)


@pytest.mark.parametrize("metric", METRICS)
def test_an_edge_of_zero_is_as_good_as_its_vertex(level: str, rng: np.random.Generator, metric: str) -> None:
    vertex, query = rows(rng, 2, 128)
    edges = edges_of(vertex, vertex[None], centre_for(rng, metric, 128))
    assert (edges.scales[0], edges.terms[0]) == (0.0, 0.0)
    estimates, reach = scan(query, reference.pack_blocks(edges, 32), metric, add=3.5)
    assert estimates[0] == 3.5
    assert lanes_in(reach) == [0]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("padded", [*PADDED, 1024, 4096, WIDE, 8256])
def test_estimates(level: str, rng: np.random.Generator, padded: int, metric: str) -> None:
    vertex, query = rows(rng, 2, padded)
    edges = edges_of(vertex, vertex + rows(rng, 31, padded), centre_for(rng, metric, padded))
    blocks, add = reference.pack_blocks(edges, 32), float(rows(rng, 1, 1)[0, 0])
    estimates, reach = scan(query, blocks, metric, add)
    assert_estimates(estimates, query, blocks, metric, add)
    assert lanes_in(reach) == list(range(31))


@pytest.mark.parametrize("degree", [32, 64, 256])
@pytest.mark.parametrize("n", [0, 1, 7, 31, 32])
def test_empty_lanes_reach_nothing(level: str, rng: np.random.Generator, n: int, degree: int) -> None:
    """The last block is part full, or the only one and without a neighbour."""
    vertex, query = rows(rng, 2, 192)
    filled = degree - 32 + n
    edges = edges_of(vertex, vertex + rows(rng, filled, 192), None)
    blocks = reference.pack_blocks(edges, degree)
    estimates, reach = scan(query, blocks, "l2", -1.0)
    assert_estimates(estimates, query, blocks, "l2", -1.0)
    assert np.all(np.isneginf(estimates[filled:]))
    assert lanes_in(reach) == list(range(filled))


def test_lanes_may_be_empty_anywhere(level: str, rng: np.random.Generator) -> None:
    """A neighbour that is taken out leaves its bits behind; the term alone says that it is gone."""
    vertex, query = rows(rng, 2, 64)
    edges = edges_of(vertex, vertex + rows(rng, 64, 64), None)
    gone = [0, 5, 31, 32, 63]
    blocks = reference.pack_blocks(edges, 64)
    halves = blocks[:, 4 * 64 :].view("<u2")
    for lane in gone:
        halves[lane // 32, 32 + lane % 32] = reference.NO_TERM
    estimates, reach = scan(query, blocks, "l2")
    assert np.isneginf(estimates[gone]).all()
    assert lanes_in(reach) == [lane for lane in range(64) if lane not in gone]


@pytest.mark.parametrize("metric", METRICS)
def test_a_threshold_is_reached_by_those_that_meet_it(level: str, rng: np.random.Generator, metric: str) -> None:
    vertex, query = rows(rng, 2, 128)
    edges = edges_of(vertex, vertex + rows(rng, 90, 128), centre_for(rng, metric, 128))
    blocks = reference.pack_blocks(edges, 96)
    estimates, _ = scan(query, blocks, metric)
    for threshold in np.sort(estimates[:90])[[0, 44, 89]]:  # met by the one that it is taken from
        again, reach = scan(query, blocks, metric, threshold=float(threshold))
        assert same_bits(again, estimates)
        assert lanes_in(reach) == np.flatnonzero(estimates >= threshold).tolist()
    assert not scan(query, blocks, metric, threshold=np.inf)[1].any()


def test_each_visit_has_its_own_vertex_and_add(level: str, rng: np.random.Generator) -> None:
    query, adds = rows(rng, 1, 64)[0], rows(rng, 5, 1)[:, 0]
    vertices = [edges_of(*rows(rng, 1, 64), rows(rng, n, 64), None) for n in (3, 0, 60)]
    blocks = np.stack([reference.pack_blocks(edges, 64) for edges in vertices])
    visits = np.array([2, 0, 1, 2, 0], np.uint32)
    estimates, reach = _core.graph_scan(query, blocks, visits, "l2", adds=adds, threshold=-1.0)
    assert (estimates.shape, reach.shape) == ((5, 64), (5, 2))
    for i, vertex in enumerate(visits):
        alone = scan(query, blocks[vertex], "l2", adds[i], -1.0)
        assert same_bits(estimates[i], alone[0])
        assert same_bits(reach[i], alone[1])
    none = _core.graph_scan(query, blocks, visits[:0], "l2", adds=adds[:0], threshold=0.0)
    assert (none[0].shape, none[1].shape) == ((0, 64), (0, 2))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("length", [1e-15, 1e6, 1e17])
def test_no_edge_is_too_long_for_its_factors(level: str, rng: np.random.Generator, length: float, metric: str) -> None:
    """A float16 would end at 65,504: at 1e17 scales are of 1e17, and terms of 1e36."""
    x = rows(rng, 34, 384) * np.float32(length)
    vertex, query = x[0], x[1]
    edges = edges_of(vertex, x[2:], np.zeros(384, np.float32) if metric == "ip" else None)
    blocks = reference.pack_blocks(edges, 32)
    exact = x[2:].astype(np.float64) @ query if metric == "ip" else -np.square(x[2:].astype(np.float64) - query).sum(1)
    here = float(vertex @ query) if metric == "ip" else -float(np.square(vertex - query).sum())
    estimates, _ = scan(query, blocks, metric, here)
    assert np.isfinite(estimates).all()
    assert_estimates(estimates, query, blocks, metric, float(np.float32(here)))
    distances = np.linalg.norm((x[2:] - vertex).astype(np.float64), axis=1)
    error = (estimates - exact) / (np.linalg.norm((query - vertex).astype(np.float64)) * distances)
    deviation = (2 if metric == "l2" else 1) * np.sqrt((np.pi / 2 - 1) / 384)  # of a 1-bit code
    assert np.abs(error).max() < 4.5 * deviation


def test_a_query_near_the_vertex_sees_its_neighbours_sharply(rng: np.random.Generator) -> None:
    """The error of an estimate is that of <q - c, r>, so it shrinks as the walk comes closer."""
    vertex = rows(rng, 1, 384)[0]
    others = vertex + rows(rng, 32, 384)
    edges = reference.graph_encode(vertex, others)
    errors = []
    for far in (1.0, 0.1):
        query = vertex + np.float32(far) * rows(rng, 1, 384)[0]
        here = -np.square(vertex - query).sum()
        off = 2 * edges.scales * (sign_values(edges.bits) @ query)
        exact = -np.square(others - query).sum(axis=1, dtype=np.float64)
        errors.append(np.sqrt(np.mean((here + off - edges.terms - exact) ** 2)))
    assert 0.05 < errors[1] / errors[0] < 0.2


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_of_zeros_is_told_by_terms_alone(level: str, rng: np.random.Generator, metric: str) -> None:
    vertex = rows(rng, 1, 64)[0]
    edges = edges_of(vertex, rows(rng, 32, 64), centre_for(rng, metric, 64))
    estimates, _ = scan(np.zeros(64, np.float32), reference.pack_blocks(edges, 32), metric, add=2.0)
    terms = reference.from_bfloat16(reference.to_bfloat16(edges.terms))
    assert same_bits(estimates, np.float32(2.0) - np.float32(1.0 if metric == "l2" else 2.0) * terms)


def test_bfloat16_rounds_to_nearest_even() -> None:
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.3e38, np.inf, 0.0], dtype=np.float32)
    halves = reference.to_bfloat16(x)
    assert reference.from_bfloat16(halves[:4]).tolist() == [1.0, 1.0, 1 + 2**-6, -1.0]
    assert abs(reference.from_bfloat16(halves[4:5])[0] / 3.3e38 - 1) < 2**-8
    assert halves[5] == reference.NO_TERM
    assert halves[6] == 0


def test_packing_keeps_every_lane(rng: np.random.Generator) -> None:
    edges = reference.graph_encode(*rows(rng, 1, 128), rows(rng, 40, 128))
    lanes = reference.unpack_blocks(reference.pack_blocks(edges, 64))
    assert same_bits(lanes.bits[:40], edges.bits)
    assert np.allclose(lanes.scales[:40], edges.scales, rtol=2**-8)
    assert np.allclose(lanes.terms[:40], edges.terms, rtol=2**-8)
    assert np.isposinf(lanes.terms[40:]).all()


BAD_EDGES = {
    "expected neighbours of shape (n, D), D a multiple of 64; got (3, 65)": {"neighbours": (3, 65)},
    "expected neighbours of shape (n, D), D a multiple of 64; got (64,)": {"neighbours": (64,)},
    "expected a vertex of shape (64,); got (128,)": {"vertex": (128,)},
    "expected a vertex of shape (64,); got (1, 64)": {"vertex": (1, 64)},
    "expected a centre of shape (64,); got (63,)": {"centre": (63,)},
}


@pytest.mark.parametrize("sentence", BAD_EDGES)
def test_wrong_edges_are_sentences(sentence: str) -> None:
    shapes = {"vertex": (64,), "neighbours": (3, 64), "centre": (64,)} | BAD_EDGES[sentence]
    with pytest.raises(InvalidArgument) as raised:
        _core.graph_encode(**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert str(raised.value) == f"graph_encode: {sentence}"


BAD_SCANS = {
    "expected metric 'ip' or 'l2'; got 'cosine'": {"metric": "cosine"},
    "expected query of shape (D,), D a multiple of 64; got (65,)": {"query": np.zeros(65, np.float32)},
    "expected query of shape (D,), D a multiple of 64; got (1, 64)": {"query": np.zeros((1, 64), np.float32)},
    "expected blocks of shape (n, degree / 32, 384); got (2, 1, 383)": {"blocks": np.zeros((2, 1, 383), np.uint8)},
    "expected blocks of shape (n, degree / 32, 384); got (2, 0, 384)": {"blocks": np.zeros((2, 0, 384), np.uint8)},
    "expected blocks of shape (n, degree / 32, 384); got (2, 384)": {"blocks": np.zeros((2, 384), np.uint8)},
    "expected visits of shape (v,); got (1, 1)": {"visits": np.zeros((1, 1), np.uint32)},
    "expected visits below 2; got 2": {"visits": np.array([2], np.uint32)},
    "expected adds of shape (1,); got (2,)": {"adds": np.zeros(2, np.float32)},
}


@pytest.mark.parametrize("sentence", BAD_SCANS)
def test_wrong_scans_are_sentences(sentence: str) -> None:
    good = {
        "query": np.zeros(64, np.float32),
        "blocks": np.zeros((2, 1, 384), np.uint8),
        "visits": np.zeros(1, np.uint32),
        "metric": "ip",
        "adds": np.zeros(1, np.float32),
        "threshold": 0.0,
    }
    with pytest.raises(InvalidArgument) as raised:
        _core.graph_scan(**good | BAD_SCANS[sentence])
    assert str(raised.value) == f"graph_scan: {sentence}"
