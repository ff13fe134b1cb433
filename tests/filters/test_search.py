"""Filtered searches: only what the filter admits, as many as there are, and the best of them, in every structure."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tessella import FormatError, InvalidArgument
from tessella.attributes import arrow
from tessella.testing import filtered_by

N, DIM, K, QUERIES = 6000, 32, 10, 25
SPECS = ["Flat", "Flat,B1+U8", "IVF64", "IVF64,B1+U8", "IVF64+SOAR,B1+U8", "Graph32,B1+U8", "Graph32,U8"]
CODED = ["Flat,B1+U8", "IVF64,B1+U8", "Graph32,B1+U8"]
FORMATS = Path(__file__).parents[1] / "data" / "formats"
SHARES = [0.001, 0.01, 0.1, 0.5, 1.0]

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def clustered() -> tuple[Floats, Floats]:
    """Rows around 60 centres, and queries near the first ten of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((60, DIM))
    x = centres[rng.integers(60, size=N)] + 0.5 * rng.standard_normal((N, DIM))
    q = centres[rng.integers(10, size=QUERIES)] + 0.5 * rng.standard_normal((QUERIES, DIM))
    return x.astype(np.float32), q.astype(np.float32)


X, Q = clustered()
NEARNESS = X @ Q.mean(axis=0)  # attributes may go with the place of a row, or against it


def table(rows: npt.NDArray[np.int64] | None = None) -> dict[str, Any]:
    ids = np.arange(N) if rows is None else rows
    rng = np.random.default_rng(1)
    return {
        "number": ids,
        "dice": rng.random(N)[ids],  # no matter where a row lies
        "near": (NEARNESS.argsort()[::-1].argsort() / N)[ids],  # 0: the nearest to the queries
        "section": np.array(["python", "math", "games"])[ids % 3].tolist(),
    }


def scores_of(metric: str) -> Floats:
    if metric == "ip":
        return Q @ X.T
    return -((Q[:, None] - X[None]) ** 2).sum(axis=2)


def truth(metric: str, masks: list[Mask]) -> npt.NDArray[np.int64]:
    """(nq, K) ids of the best rows that each query's mask admits, -1 where there are fewer."""
    ids = np.full((QUERIES, K), -1)
    for q, (scores, mask) in enumerate(zip(scores_of(metric), masks, strict=True)):
        best = np.flatnonzero(mask)[np.argsort(-scores[mask], kind="stable")][:K]
        ids[q, : len(best)] = best
    return ids


def recall(ids: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> float:
    found = sum(len(np.intersect1d(row[row >= 0], best[best >= 0])) for row, best in zip(ids, true, strict=True))
    return found / max(1, (true >= 0).sum())


def check(ids: npt.NDArray[np.int64], masks: list[Mask]) -> None:
    """min(K, matches) different ids, all of them admitted."""
    for row, mask in zip(ids, masks, strict=True):
        found = row[row >= 0]
        assert len(np.unique(found)) == len(found) == min(K, mask.sum())
        assert mask[found].all()
        assert (row[len(found) :] == -1).all()


@pytest.fixture(scope="module", params=[(spec, metric) for spec in SPECS for metric in ("ip", "l2")], ids=str)
def made(request: pytest.FixtureRequest) -> ts.Index:
    spec, metric = request.param
    index = ts.Index(spec, dim=DIM, metric=metric)
    index.add(X, attributes=table())
    return index


def small(spec: str = "Flat", rows: int = 300) -> ts.Index:
    index = ts.Index(spec, dim=DIM, metric="l2")
    index.add(X[:rows], attributes=table(np.arange(rows)))
    return index


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("column", ["dice", "near", "far"])
def test_the_best_rows_that_match(made: ts.Index, share: float, column: str) -> None:
    known = table()
    where, mask = f"{column} < {share}", known.get(column, known["near"]) < share
    if column == "far":  # the opposite of what the queries ask for
        where, mask = f"near >= {1 - share}", known["near"] >= 1 - share
    masks = [mask] * QUERIES
    hits = made.search(Q, K, where=where)
    check(hits.ids, masks)
    free = recall(made.search(Q, K).ids, truth(made.metric, [np.ones(N, bool)] * QUERIES))
    assert recall(hits.ids, truth(made.metric, masks)) >= min(0.95, free - 0.01)
    both = made.search(Q, K, where=where, threads=1), made.search(Q, K, where=where, threads=2)
    np.testing.assert_array_equal(both[0].ids, both[1].ids)
    np.testing.assert_array_equal(both[0].scores, both[1].scores)


def test_few_matches_are_found_to_the_last(made: ts.Index) -> None:
    for where, mask in [("number = 4321", np.arange(N) == 4321), ("number < 0", np.zeros(N, bool))]:
        ids = made.search(Q, K, where=where).ids
        check(ids, [mask] * QUERIES)


def test_each_query_has_a_filter_of_its_own(made: ts.Index) -> None:
    filters: list[Any] = ["section = 'python'", None, [5, 7], "number = 3", {"section": "math"}, "dice < 0.02"]
    wheres = [filters[i % len(filters)] for i in range(QUERIES)]
    known = table()
    section = np.array(known["section"])
    numbers = np.arange(N)
    masks_of = [section == "python", numbers >= 0, np.isin(numbers, [5, 7]), numbers == 3, section == "math"]
    masks_of.append(known["dice"] < 0.02)
    masks = [masks_of[i % len(filters)] for i in range(QUERIES)]
    hits = made.search(Q, K, where=wheres)
    check(hits.ids, masks)
    assert recall(hits.ids, truth(made.metric, masks)) >= 0.95
    for i in range(len(filters)):
        alone = made.search(Q[i : i + 1], K, where=filters[i] if i else [filters[i]])
        np.testing.assert_array_equal(alone.ids[0], hits.ids[i])


@pytest.mark.parametrize("share", [0.01, 0.2, 0.7])
@pytest.mark.parametrize("way", ["gather", "scan", "lists", "walk"])
def test_every_way_finds_what_matches_in_any_company(made: ts.Index, way: str, share: float) -> None:
    where, mask = f"near >= {1 - share}", table()["near"] >= 1 - share
    with filtered_by(way):
        together = made.search(Q, K, where=where)
        check(together.ids, [mask] * QUERIES)
        for i in (0, 7):
            alone = made.search(Q[i : i + 1], K, where=where)
            np.testing.assert_array_equal(alone.ids[0], together.ids[i])
            np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_a_way_that_there_is_not_is_refused() -> None:
    with (
        pytest.raises(InvalidArgument, match="expected gather, scan, lists, walk, copies; got 'guess'"),
        filtered_by("guess"),
    ):
        pass


def test_a_batch_of_more_than_one_slice_keeps_its_filters() -> None:
    index = small()
    q = np.tile(Q, (200, 1))
    wheres = ["number % 2 = 0" if i % 2 else "number % 2 = 1" for i in range(len(q))]
    ids = index.search(q, 3, where=wheres).ids
    assert (ids % 2 == (np.arange(len(q)) % 2 == 0)[:, None]).all()


@pytest.mark.parametrize("spec", ["Flat", "Flat,F16"])
def test_a_batch_finds_what_each_query_finds(spec: str) -> None:
    index = small(spec, 2000)
    index.remove(np.arange(0, 300, 7))  # rows are no longer in the order of their ids
    for where in ("number < 0", "number = 1500", "number % 50 = 1", "number % 2 = 0", "number >= 0"):
        together = index.search(Q, K, where=where)
        for i in range(5):
            alone = index.search(Q[i : i + 1], K, where=where)
            np.testing.assert_array_equal(together.ids[i], alone.ids[0])
            np.testing.assert_array_equal(together.scores[i], alone.scores[0])


def test_all_rows_admitted_is_as_no_filter_where_search_is_exact() -> None:
    index = small(rows=1000)
    free, held = index.search(Q, K), index.search(Q, K, where="number >= 0")
    np.testing.assert_array_equal(free.ids, held.ids)
    np.testing.assert_array_equal(free.scores, held.scores)


@pytest.mark.parametrize("spec", ["Flat,B1", "IVF16,B1", "Flat,PQ8x4", "IVF16,PQ8", "IVF16,PQ8x4+U8", "Flat,B1+U8+F32"])
def test_codecs_that_score_no_row_by_itself(spec: str) -> None:
    index = ts.Index(spec, dim=DIM, metric="l2")
    index.add(X, attributes=table())
    for where, mask in [("dice < 0.001", table()["dice"] < 0.001), ("section = 'math'", np.arange(N) % 3 == 1)]:
        check(index.search(Q, K, where=where).ids, [mask] * QUERIES)


def test_values_come_with_the_hits() -> None:
    index = small()
    hits = index.search(Q[:2], 3, where="number IN (4, 5)", with_attributes=["number", "section"])
    ids, scores = hits
    assert ids is hits.ids and scores is hits.scores
    expected = [{"number": None if i < 0 else int(i), "section": None if i < 0 else ["python", "math", "games"][i % 3]}
                for i in hits.ids.ravel()]  # fmt: skip
    assert hits.attributes.to_dicts() == expected
    assert index.search(Q, 3).attributes is None


@pytest.mark.parametrize("spec", CODED)
def test_all_matches_within_a_threshold(spec: str) -> None:
    index = ts.Index(spec, dim=DIM, metric="l2")
    index.add(X, attributes=table())
    free = index.range_search(Q, 40.0)
    one_each = ["section = 'math'" if i % 2 else None for i in range(QUERIES)]
    for where in ("section = 'math'", one_each):
        held = index.range_search(Q, 40.0, where=where)
        for i in range(QUERIES):
            ids = free.ids[free.offsets[i] : free.offsets[i + 1]]
            if where is not one_each or i % 2:
                ids = ids[ids % 3 == 1]
            np.testing.assert_array_equal(held.ids[held.offsets[i] : held.offsets[i + 1]], ids)
    assert len(free.ids) > len(held.ids) > 100 and len(held.scores) == len(held.ids)


# ---- in step with changes --------------------------------------------------------------------------------------------


def in_step(index: ts.Index) -> bool:
    assert index.attributes is not None
    return np.array_equal(index.attributes.to_frame(["number"])["number"].to_numpy(), index.ids)


@pytest.mark.parametrize("spec", CODED)
def test_attributes_stay_with_their_rows(spec: str, tmp_path: Path) -> None:
    index = ts.Index(spec, dim=DIM, metric="l2")
    index.add(X[:3000], attributes=table(np.arange(3000)))
    rng = np.random.default_rng(2)
    index.remove(rng.permutation(3000)[:40])
    assert in_step(index)
    index.add(X[3000:5000], ids=np.arange(3000, 5000), attributes=table(np.arange(3000, 5000)))
    index.update(index.ids[100:160], X[:60])
    assert in_step(index)
    index.remove(rng.permutation(index.ids)[:1500])
    changed = set(index.ids[:20].tolist())
    index.update(sorted(changed), X[:20], attributes={"section": ["changed"] * 20})
    index.compact()
    index.remove(np.setdiff1d(index.ids, sorted(changed))[:3])
    assert in_step(index)
    index.save(tmp_path / "index.tessella")
    copies = [ts.Index.load(tmp_path / "index.tessella", mmap=mmap) for mmap in (False, True)]
    copies += [pickle.loads(pickle.dumps(index)), copy.deepcopy(index)]
    for each in [index, *copies]:
        assert in_step(each)
        assert set(each.filter("section = 'changed'").ids.tolist()) == changed
        ids = each.search(Q, K, where="number % 2 = 0 AND dice < 0.3").ids
        assert (ids >= 0).all() and (ids % 2 == 0).all() and (table()["dice"][ids] < 0.3).all()
        each.remove(sorted(changed)[:5])
        each.add(X[5000:5010], ids=np.arange(5000, 5010), attributes=table(np.arange(5000, 5010)))
        assert in_step(each)


def test_attributes_of_earlier_files_are_read(tmp_path: Path) -> None:
    """Whose stream is not compressed; written once, by the version that wrote such files."""
    for mmap in (False, True):
        index = ts.Index.load(FORMATS / "index-v1-flat-u8-attributes-ip.tessella", mmap=mmap)
        assert index.attributes is not None
        frame = index.attributes.to_frame()
        assert frame["name"].to_list() == ["a", None, "a", "b", "a"]
        assert frame["tags"].to_list() == [["x", "y"], [], None, ["x"], ["z"]]
        assert frame["day"].to_list()[0] == datetime.date(2024, 5, 31)
        assert index.filter("size >= 2 AND array_has(tags, 'z')").ids.tolist() == [4]
        index.save(tmp_path / "again.tessella")
        again = ts.Index.load(tmp_path / "again.tessella", mmap=mmap)
        assert again.attributes is not None and again.attributes.to_frame().equals(frame)


def test_files_hold_attributes_compressed(tmp_path: Path) -> None:
    index = small("Flat,U8", 2000)
    index.save(tmp_path / "index.tessella")
    data = (tmp_path / "index.tessella").read_bytes()
    tensors = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # of any safetensors file
    assert "attributes" not in tensors and index.attributes is not None
    (stored,) = tensors["attributes.zstd"]["shape"]
    assert stored < 0.9 * len(index.attributes.to_arrow())
    for mmap in (False, True):
        loaded = ts.Index.load(tmp_path / "index.tessella", mmap=mmap)
        assert loaded.attributes is not None and loaded.attributes.to_frame().equals(index.attributes.to_frame())


def test_rows_without_attributes_have_nulls() -> None:
    index = ts.Index("Flat", dim=DIM)
    index.add(X[:3])
    index.add(X[3:5], attributes={"size": [1, 2]})
    index.add(X[5:6])
    assert index.attributes is not None
    assert index.attributes.to_frame()["size"].to_list() == [None, None, None, 1, 2, None]
    index.update([5, 0], attributes={"size": [9, 8], "name": ["a", "b"]})
    assert index.filter("size > 7").ids.tolist() == [0, 5]
    assert index.filter("name IS NULL").count == 4


def test_merging_brings_the_attributes() -> None:
    one, other = small(rows=20), ts.Index("IVF4", dim=DIM, metric="l2")
    other.add(X[20:120], ids=np.arange(20, 120), attributes=table(np.arange(20, 120)))
    one.merge_from(other)
    assert in_step(one) and len(one) == 120 and len(other) == 0 and other.attributes is not None
    assert len(other.attributes) == 0


def test_building_takes_attributes() -> None:
    index = ts.Index.build(X, metric="l2", attributes=table(), recall=0.8, queries=Q)
    assert in_step(index)
    check(index.search(Q, K, where="dice < 0.1").ids, [table()["dice"] < 0.1] * QUERIES)
    with pytest.raises(InvalidArgument, match="build: expected attributes of 6000 rows; got 3"):
        ts.Index.build(X, attributes={"number": [1, 2, 3]})


@pytest.mark.parametrize("spec", CODED)
@pytest.mark.parametrize(
    "mistake",
    [
        lambda ix: ix.add(X[:2], attributes={"number": [1]}),
        lambda ix: ix.add(X[:2], attributes={"number": ["a", "b"]}),
        lambda ix: ix.add(X[:1], attributes=7),
        lambda ix: ix.add(X[:2] * np.nan, attributes={"number": [1, 2], "new": [1, 2]}),
        lambda ix: ix.add(X[:1], ids=[3], attributes={"number": [1], "new": [1]}),
        lambda ix: ix.update([1, 2], X[:2], attributes={"number": ["a", "b"]}),
        lambda ix: ix.update([1, 2], X[:2] * np.nan, attributes={"number": [7, 7]}),
        lambda ix: ix.update([1, 999], attributes={"number": [7, 7]}),
        lambda ix: ix.update([1, 1], attributes={"number": [7, 7]}),
        lambda ix: ix.update([1, 2]),
        lambda ix: ix.remove([1, 999]),
        lambda ix: ix.search(Q, where="nonsense = 3"),
        lambda ix: ix.search(Q, where=["number = 3"] * 3),
        lambda ix: ix.search(Q, where=np.ones(7, bool)),
        lambda ix: ix.search(Q, with_attributes=["nonsense"]),
    ],
)
def test_mistakes_change_nothing(spec: str, mistake: Callable[[ts.Index], object]) -> None:
    index = small(spec)
    index.remove([0])
    with pytest.raises(ts.TessellaError):
        mistake(index)
    assert in_step(index) and len(index) == 299
    assert index.attributes is not None and set(index.attributes.types) == set(table())
    np.testing.assert_array_equal(index.search(X[5:6], 1).ids, [[5]])


def test_filters_without_attributes_say_so() -> None:
    index = ts.Index("Flat", dim=DIM)
    index.add(X[:10])
    with pytest.raises(InvalidArgument, match="no attributes"):
        index.search(Q, where="size = 3")
    with pytest.raises(InvalidArgument, match="with_attributes"):
        index.search(Q, with_attributes=["size"])


# ---- filters that are kept -------------------------------------------------------------------------------------------


def test_a_filter_follows_the_index() -> None:
    index = small()
    python = index.filter("section = 'python'")
    assert python.count == len(python) == 100 and (python.ids % 3 == 0).all()
    index.remove([0, 3])
    assert python.count == 98
    index.add(X[:1], ids=[0], attributes={"section": ["python"]})
    assert python.count == 99
    np.testing.assert_array_equal(index.search(X[:1], 1, where=python).ids, [[0]])
    assert "99 rows" in repr(python)
    mixed = index.search(X[:2], 1, where=[python, None])
    np.testing.assert_array_equal(mixed.ids, [[0], [1]])


@pytest.mark.parametrize("spec", CODED)
def test_masks_and_ids_speak_of_rows_as_ids_lists_them(spec: str) -> None:
    index = ts.Index(spec, dim=DIM, metric="l2")
    index.add(X[:500], ids=np.arange(1000, 1500))
    index.remove([1000, 1100, 1499])  # a graph still steps on them
    mask = index.ids % 2 == 0
    kept = index.filter(mask)
    for where in (mask, kept, kept.bitmap(), mask.tolist(), index.ids[mask]):
        ids = index.search(Q, K, where=where).ids
        assert (ids >= 1000).all() and (ids % 2 == 0).all()
    one_each = index.search(Q, 1, where=np.arange(len(index)) == np.arange(QUERIES)[:, None])
    np.testing.assert_array_equal(one_each.ids[:, 0], index.ids[:QUERIES])
    index.remove(index.ids[:100])
    assert (kept.ids % 2 == 0).all() and kept.count == (index.ids % 2 == 0).sum()
    assert index.search(Q, K, where=[1001, 1000, 7]).ids.max() <= 1001  # ids that are not here are passed over


def test_masks_and_ids_need_no_extras() -> None:
    code = """
import sys
sys.modules["polars"] = sys.modules["pyarrow"] = None
import numpy as np, tessella as ts
ix = ts.Index("Flat", dim=2, metric="ip")
ix.add(np.eye(2), ids=[7, 9])
assert ix.search([[1, 1]], 2, where=np.array([False, True])).ids.tolist() == [[9, -1]]
assert ix.search([[1, 1]], 2, where=ix.filter([7])).ids.tolist() == [[7, -1]]
ix.add(np.eye(2), attributes={"size": [1, 2]})
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode and "attributes: expected polars and pyarrow; `pip install" in result.stderr


def test_searches_beside_a_writer_return_what_their_filter_admits() -> None:
    index = small("IVF16,B1+U8", 2000)
    failed: list[Any] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            ids = index.search(Q, K, where="section = 'math'").ids
            if not ((ids == -1) | (ids % 3 == 1)).all():
                failed.append(ids)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        for i in range(60):
            index.remove(np.arange(i * 20, i * 20 + 20))
            new = np.arange(2000 + 20 * i, 2020 + 20 * i)
            index.add(X[new], ids=new, attributes=table(new))
    finally:
        done.set()
        searching.join()
    assert not failed


# ---- plans and files -------------------------------------------------------------------------------------------------


def test_explaining_tells_the_plan() -> None:
    index = ts.Index("Flat,B1+U8", dim=DIM)
    index.add(X, attributes=table())
    few, many = (index.explain(Q, K, where=where) for where in ("number = 3", "number >= 0"))
    assert few.matched == QUERIES and few.plans == {"gather": QUERIES} and few.scanned == QUERIES
    assert many.matched == QUERIES * N and many.plans == {"scan": QUERIES}
    assert set(many.estimates) == {"gather", "scan"} and many.estimates["gather"] > many.estimates["scan"]
    assert few.estimates["gather"] < many.estimates["gather"]
    mixed = index.explain(Q[:2], K, where=["number = 3", None])
    assert mixed.plans == {"gather": 1, "scan": 1}
    free = index.explain(Q, K)
    assert free.plans == {} and free.estimates == {} and free.matched == QUERIES * N


def test_a_file_whose_attributes_are_of_other_rows_is_damaged(tmp_path: Path) -> None:
    index = small()
    index._filtering.restored(small(rows=299).attributes)
    index.save(tmp_path / "wrong.tessella")
    with pytest.raises(FormatError, match="attributes of 299 rows"):
        ts.Index.load(tmp_path / "wrong.tessella")


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_attributes_are_a_format_error(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, index = tmp_path / "index.tessella", small()
    assert index.attributes is not None
    attributes = index.attributes.to_arrow()
    if packed:
        made = arrow.compressed(attributes)
        assert made is not None
        attributes = made
    else:
        monkeypatch.setattr(arrow, "compressed", lambda stream: None)
    index.save(path)
    whole = path.read_bytes()
    start = whole.index(attributes)
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(80):
        data = bytearray(whole)
        for at in rng.integers(1200, size=8):  # where the stream says what follows
            data[start + at] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            ts.Index.load(path, verify=False).search(Q, where="section = 'math'")
        except ts.TessellaError as error:
            refused += isinstance(error, FormatError)
    assert refused > 40
