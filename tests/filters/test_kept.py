"""What a filter keeps from one search to the next: sorted rows, copies of codes; and rows that are stored in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tessella import InvalidArgument
from tessella.testing import filtered_by

N, DIM, K = 4000, 32, 10
SPECS = ["Flat,B1+U8", "Flat,B1", "IVF64,B1+U8", "IVF64+SOAR,B1+U8", "IVF64,B1+N4+F32", "Graph32,B1+U8"]
RNG = np.random.default_rng(3)
CENTRES = RNG.standard_normal((40, DIM))
X = (CENTRES[RNG.integers(40, size=N)] + 0.5 * RNG.standard_normal((N, DIM))).astype(np.float32)
Q = (CENTRES[RNG.integers(40, size=40)] + 0.5 * RNG.standard_normal((40, DIM))).astype(np.float32)
SIZES = RNG.permutation(N)
WHERES = ["size < 7", "size < 400", "size >= 2000", "size < 0"]


def made(spec: str, metric: str = "ip") -> ts.Index:
    index = ts.Index(spec, dim=DIM, metric=metric)
    index.add(X, attributes={"size": SIZES})
    return index


def mask_of(where: str) -> npt.NDArray[np.bool_]:
    return {"<": int(where.split()[2]) > SIZES, ">=": int(where.split()[2]) <= SIZES}[where.split()[1]]


def true_ids(mask: npt.NDArray[np.bool_], metric: str) -> npt.NDArray[np.int64]:
    scores = Q @ X.T if metric == "ip" else -((Q[:, None] - X[None]) ** 2).sum(axis=2)
    return np.argsort(np.where(mask, -scores, np.inf), axis=1, kind="stable")[:, : min(K, mask.sum())]


def recall(ids: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> float:
    if not true.size:
        return 1.0
    return sum(len(np.intersect1d(a, b)) for a, b in zip(ids, true, strict=True)) / true.size


def equal(one: ts.Hits, other: ts.Hits) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("spec", SPECS)
def test_a_kept_filter_finds_what_a_new_one_finds(spec: str, where: str) -> None:
    index = made(spec)
    kept = index.filter(where)
    first = index.search(Q, K, where=where)
    for _ in range(3):  # by and by its rows are sorted into lists
        equal(index.search(Q, K, where=kept), first)
        for i in range(len(Q)):
            alone = index.search(Q[i : i + 1], K, where=kept, threads=1)
            equal(alone, ts.Hits(first.ids[i : i + 1], first.scores[i : i + 1]))


def test_rows_are_sorted_into_lists_once_and_anew_after_a_change() -> None:
    index = made("IVF64,B1+U8")
    kept = index.filter("size >= 2000")
    empty = kept.nbytes
    with filtered_by("lists"):
        for i in range(40):
            index.search(Q[i : i + 1], K, where=kept)
        assert kept.nbytes == empty + 4 * (kept.count + 65)
        index.update([0], X[1:2])
        after = index.search(Q, K, where=kept)
        equal(after, index.search(Q, K, where="size >= 2000"))
        index.remove(np.arange(0, N, 3))
        index.compact()
        equal(index.search(Q, K, where=kept), index.search(Q, K, where="size >= 2000"))


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("spec", SPECS)
def test_copies_find_no_less(spec: str, metric: str) -> None:
    index = made(spec, metric)
    for where in WHERES:
        mask = mask_of(where)
        plain, copied = index.filter(where), index.filter(where, materialize=True)
        with filtered_by("copies"):
            hits = index.search(Q, K, where=copied)
            equal(hits, index.search(Q, K, where=copied, threads=1))
            for i in range(0, len(Q), 7):
                alone = index.search(Q[i : i + 1], K, where=copied)
                equal(alone, ts.Hits(hits.ids[i : i + 1], hits.scores[i : i + 1]))
        wanted = min(K, mask.sum())
        assert ((hits.ids >= 0).sum(axis=1) == wanted).all() and mask[hits.ids[:, :wanted]].all()
        if metric != "cosine" and spec != "Flat,B1":
            true = true_ids(mask, metric)
            assert recall(hits.ids, true) >= recall(index.search(Q, K, where=plain).ids, true) - 0.003


@pytest.mark.parametrize("spec", ["Flat,B1+U8", "Flat,B1"])
def test_copies_are_the_codes_of_a_scan(spec: str) -> None:
    index = made(spec, "l2")
    copied = index.filter("size >= 2000", materialize=True)
    with filtered_by("copies"):
        hits = index.search(Q, K, where=copied, epsilon=3)  # less, and copies keep wider bounds than a scan
    with filtered_by("scan"):
        equal(hits, index.search(Q, K, where="size >= 2000", epsilon=3))


def test_a_score_does_not_depend_on_copies() -> None:
    index = made("IVF64,B1+U8")
    copied = index.filter("size >= 100", materialize=True)
    with filtered_by("copies"):
        hits = index.search(Q, K, where=copied)
    with filtered_by("gather"):
        all_hits = index.search(Q, 1000, where=copied)
    for ids, scores, true_ids_, true_scores in zip(*hits, *all_hits, strict=True):
        known = dict(zip(true_ids_.tolist(), true_scores.tolist(), strict=True))
        assert [known[each] for each in ids.tolist()] == scores.tolist()


@pytest.mark.parametrize("spec", ["Flat,B1+U8", "IVF64,B1+U8", "Graph32,B1+U8"])
def test_copies_follow_the_index(spec: str) -> None:
    index = made(spec)
    copied = index.filter("size >= 2000", materialize=True)
    with filtered_by("copies"):
        best = index.search(Q, K, where=copied).ids[0, 0]
        index.update([best], -X[best : best + 1])
        assert best not in index.search(Q[:1], K, where=copied).ids
        gone = index.search(Q[:1], K, where=copied).ids[0]
        index.remove(gone)
        index.add(Q[:1] * 3, ids=[N + 5], attributes={"size": [9999]})
        found = index.search(Q[:1], K, where=copied)
        assert found.ids[0, 0] == N + 5 and not np.intersect1d(found.ids, gone).size
        assert set(found.ids[0]) <= set(copied.ids)


def test_explain_tells_of_copies_and_nbytes_of_their_size() -> None:
    index = made("Flat,B1+U8")
    plain, copied = index.filter("size >= 2000"), index.filter("size >= 2000", materialize=True)
    told = index.explain(Q[:1], where=copied)
    assert told.plans == {"copies": 1} and told.scanned == told.matched == 2000
    assert told.estimates["copies"] < min(told.estimates["gather"], told.estimates["scan"])
    assert "copies" not in index.explain(Q[:1], where=plain).estimates
    blocks = (2000 + 31) // 32
    assert copied.nbytes - plain.nbytes == 4 * 2000 + blocks * 32 * (64 // 8 + 4)


@pytest.mark.parametrize("spec", ["Flat", "Flat,U8", "IVF64,B1", "Flat,PQ8"])
def test_copies_need_codes_to_copy(spec: str) -> None:
    index = ts.Index(spec, dim=DIM)
    with pytest.raises(InvalidArgument, match="expected a spec with B1"):
        index.filter([1], materialize=True)


# ---- rows in order ---------------------------------------------------------------------------------------------------


def test_rows_are_stored_in_the_order_of_a_column() -> None:
    sizes: list[Any] = [None if i % 100 == 7 else int(size) // 2 for i, size in enumerate(SIZES)]
    index = ts.Index.build(X, attributes={"size": sizes}, sort_by="size", recall=0.5, queries=Q)
    assert index.attributes is not None
    stored = index.attributes.to_frame(["size"])["size"].to_list()
    assert stored == sorted(each for each in sizes if each is not None) + [None] * 40
    assert sorted(index.ids.tolist()) == list(range(N)) and [sizes[i] for i in index.ids] == stored
    np.testing.assert_allclose(index.reconstruct([17]), X[17:18] / np.linalg.norm(X[17]), atol=0.05)
    assert index.ids[:2].tolist() == sorted(index.ids[:2].tolist())  # equal values as they came


def test_a_range_of_rows_in_order_is_one_slice() -> None:
    order = np.argsort(SIZES)
    sorted_, mixed = ts.Index("Flat,B1+U8", dim=DIM), ts.Index("Flat,B1+U8", dim=DIM)
    sorted_.add(X[order], ids=order, attributes={"size": SIZES[order]})
    mixed.add(X, attributes={"size": SIZES})
    where = "size BETWEEN 1000 AND 2999"
    one, other = sorted_.explain(Q[:1], where=where), mixed.explain(Q[:1], where=where)
    assert one.plans == {"scan": 1} and 2000 <= one.scanned <= 2000 + 62
    assert one.estimates["scan"] < other.estimates["scan"]


def test_sort_by_wants_a_column_that_has_an_order() -> None:
    with pytest.raises(InvalidArgument, match="expected attributes with sort_by='size'"):
        ts.Index.build(X, sort_by="size")
    with pytest.raises(InvalidArgument, match="'tags' is List"):
        ts.Index.build(X[:50], attributes={"tags": [["a"]] * 50}, sort_by="tags")
    with pytest.raises(InvalidArgument, match="size"):
        ts.Index.build(X[:50], attributes={"size": [1] * 50}, sort_by="weight")
    ids = np.arange(3000)[::-1].copy()
    index = ts.Index.build(X[:3000], ids=ids, attributes={"size": SIZES[:3000]}, sort_by="size", recall=0.5, queries=Q)
    assert index.ids[0] == ids[SIZES[:3000].argmin()]
