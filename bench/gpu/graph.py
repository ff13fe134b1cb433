"""Graphs beside torch: a walk beside every row, which torch compares; the choice of neighbours beside batched ones."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from bench.gpu.beside import Comparison, Comparisons

N, DIM, DEGREE = 200_000, 384, 32
CANDIDATES = 64
MOST_BACK = 128
K, EF = 10, 100
ENTRIES = 16  # of a walk, the same for all
PART = 2048  # rows that torch takes at once
SLACK = 0.09  # the CPU's at ef = 100


def comparisons(torch: Any, door: Any) -> Comparisons:
    shape = f"n={N:,} d={DIM}"
    for nq in (100, 10_000):
        for coded in (True, False):
            name = f"search {shape} ef={EF} nq={nq:,} {'coded' if coded else 'plain'}"
            yield name, partial(_search, torch, door, nq, coded)
    yield f"prune {shape} m={CANDIDATES}", partial(_prune, torch, door)
    yield f"link {shape}", partial(_link, torch, door)
    yield f"write {shape}", partial(_write, torch, door)


@cache
def _rows(torch: Any) -> Any:
    """Rows around topics."""
    topics = torch.randn(500, DIM, device="cuda")
    return topics[torch.randint(500, (N,), device="cuda")] + torch.randn(N, DIM, device="cuda")


def _nearest(torch: Any, queries: Any, rows: Any, k: int) -> tuple[Any, Any]:
    """-> (nq, k) row numbers, squared distances."""
    norms2, found = rows.square().sum(1), []
    for part in queries.split(PART):
        distances = part.square().sum(1)[:, None] + norms2 - 2 * part @ rows.T
        found.append(distances.topk(k, dim=1, largest=False))
    return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found]).clamp_(min=0)


@cache
def _candidates(torch: Any) -> tuple[Any, Any]:
    numbers, distances = _nearest(torch, _rows(torch), _rows(torch), CANDIDATES)
    return numbers.int(), distances


@cache
def _edges(torch: Any, door: Any) -> Any:
    return door.graph_prune(_rows(torch), *_candidates(torch), DEGREE)


def _search(torch: Any, door: Any, nq: int, coded: bool) -> Comparison:
    rows = _rows(torch)
    records = door.graph_write(rows, door.graph_link(rows, _edges(torch, door)).neighbours, coded=coded)
    queries = rows[torch.randint(N, (nq,), device="cuda")] + 0.5 * torch.randn(nq, DIM, device="cuda")
    entries = torch.randint(N, (ENTRIES,), dtype=torch.int32, device="cuda").expand(nq, ENTRIES)
    adds = -queries.square().sum(1)

    def ours() -> Any:
        return door.graph_search(
            queries, records, door.GraphRows(rows), entries, degree=DEGREE, metric="l2", adds=adds, ef=EF, k=K,
            slack=SLACK,
        )  # fmt: skip

    _, found, visits = ours()
    truth, _ = _nearest(torch, queries, rows, K)
    recall = float((found[:, :, None] == truth[:, None]).any(2).float().mean())
    seen = int(visits.sum())
    read = seen * (records.shape[1] + 4 * DIM * (1 if coded else DEGREE))
    return Comparison(ours, lambda: _nearest(torch, queries, rows, K), read, float(seen) * DIM * DEGREE, nq, recall)


def _prune(torch: Any, door: Any) -> Comparison:
    rows, (numbers, distances) = _rows(torch), _candidates(torch)
    return Comparison(
        lambda: door.graph_prune(rows, numbers, distances, DEGREE), lambda: _choose(torch, numbers, distances),
        4 * N * CANDIDATES * DIM, float(N) * DEGREE * CANDIDATES / 2 * DIM, N,
    )  # fmt: skip


def _link(torch: Any, door: Any) -> Comparison:
    rows, edges = _rows(torch), _edges(torch, door)
    return Comparison(
        lambda: door.graph_link(rows, edges), lambda: _choose(torch, *_with_links_back(torch, edges)),
        4 * N * 2 * DEGREE * DIM, float(N) * DEGREE * DEGREE * DIM, N,
    )  # fmt: skip


def _choose(torch: Any, numbers: Any, distances: Any) -> None:
    """The rounds of the cover rule, over many rows at once."""
    rows = _rows(torch)
    for part, lengths in zip(numbers.split(PART), distances.split(PART), strict=True):
        values = rows[part.long().clamp(min=0)]
        covers = lengths[:, None] / torch.cdist(values, values).square_()  # (PART, m taken, m candidates)
        most, allowed = torch.zeros_like(lengths), 1.0
        taken = torch.zeros_like(lengths, dtype=torch.bool)
        while allowed <= 4.0:
            for i in range(lengths.shape[1]):
                takes = ~taken[:, i] & (most[:, i] <= allowed) & (taken.sum(1) < DEGREE)
                taken[:, i] |= takes
                most = torch.where(takes[:, None], torch.maximum(most, covers[:, i]), most)
            allowed *= 1.1


def _with_links_back(torch: Any, edges: Any) -> tuple[Any, Any]:
    """Each row's neighbours and the nearest rows that want it, nearest first."""
    wanted = torch.arange(DEGREE, device="cuda") < edges.wanted[:, None]
    sources = torch.nonzero(wanted)[:, 0]
    targets, lengths = edges.neighbours[wanted].long(), edges.distances[wanted]
    order = lengths.argsort()
    order = order[targets[order].argsort(stable=True)]
    sources, targets, lengths = sources[order], targets[order], lengths[order]
    places = torch.arange(len(targets), device="cuda") - torch.searchsorted(targets, targets)
    kept = places < MOST_BACK
    numbers = torch.full((N, MOST_BACK), -1, dtype=torch.int32, device="cuda")
    distances = torch.full((N, MOST_BACK), torch.inf, device="cuda")
    numbers[targets[kept], places[kept]] = sources[kept].int()
    distances[targets[kept], places[kept]] = lengths[kept]
    distances, nearest = torch.cat([distances, edges.distances], dim=1).sort(dim=1)
    return torch.cat([numbers, edges.neighbours], dim=1).gather(1, nearest), distances


def _write(torch: Any, door: Any) -> Comparison:
    rows, neighbours = _rows(torch), _edges(torch, door).neighbours
    weights = 2 ** torch.arange(8, dtype=torch.uint8, device="cuda")

    def torchs() -> None:  # edges, their signs, lengths and sums
        for part, own in zip(neighbours.split(PART), rows.split(PART), strict=True):
            edges = rows[part.long().clamp(min=0)] - own[:, None]
            (edges >= 0).view(*edges.shape[:2], -1, 8).mul(weights).sum(dim=3, dtype=torch.uint8)
            edges.square().sum(2)
            edges.abs().sum(2)

    moved = 4 * N * DEGREE * DIM + N * DEGREE * (4 + 4 + DIM // 8)
    return Comparison(lambda: door.graph_write(rows, neighbours), torchs, moved, 3.0 * N * DEGREE * DIM, N)
