"""`Index.build`: the recall that was asked for, in the memory there is, and a report of what was tried."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tessella as ts
from tessella import building
from tessella.building import BuildReport, Room, Trial, choose, fits

Floats = npt.NDArray[np.float32]
N, D = 10_000, 32
pytestmark = pytest.mark.filterwarnings("ignore:build. .* rows stood in for queries:tessella.RecallWarning")


@pytest.fixture(autouse=True)
def lists_and_graphs_are_for_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """From N rows on they are tried, and not from 20,000 on: a graph takes its time to build."""
    monkeypatch.setattr(building, "_FEW_ROWS", N)


def drawer(rng: np.random.Generator, kind: str, dim: int = D) -> Callable[[int], Floats]:
    """Draws rows and queries of one kind: about 300 centres; for `ip` of lengths that vary by half."""
    centres = rng.standard_normal((300, dim))

    def draw(n: int) -> Floats:
        x = centres[rng.integers(300, size=n)] + 0.7 * rng.standard_normal((n, dim))
        return (x * rng.lognormal(0, 0.4, (n, 1)) if kind == "ip" else x).astype(np.float32)

    return draw


def recall(ix: ts.Index, x: Floats, q: Floats, k: int = 10, ids: Any = None) -> float:
    """The share of the true k best that a search with the defaults finds, counting ties."""
    flat = ts.Index("Flat", dim=x.shape[1], metric=ix.metric)
    flat.add(x, ids=ids)
    truth, found = flat.search(q, k), ix.search(q, k)
    if len(np.unique(x, axis=0)) == len(x):
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(truth.ids, found.ids, strict=True)]))
    place = {int(id): row for row, id in enumerate(flat.ids)}
    rows = np.array([[place[int(id)] for id in row] for row in found.ids])
    assert ix.metric == "l2"
    distances = np.square(x[rows] - q[:, None]).sum(axis=2)
    return float((distances <= truth.scores[:, -1:] * (1 + 1e-5) + 1e-5).mean())


# ---- what was asked for


@pytest.mark.parametrize(("metric", "target"), [("cosine", 0.9), ("l2", 0.95), ("ip", 0.95)])
def test_unseen_queries_see_the_recall_that_was_asked_for(rng: np.random.Generator, metric: str, target: float) -> None:
    draw = drawer(rng, metric)
    x, unseen = draw(N), draw(4000)
    ix = ts.Index.build(x, metric=metric, recall=target)
    assert (len(ix), ix.metric, ix.dim) == (N, metric, D)
    assert recall(ix, x, unseen) > target - 0.02

    report = ix.report
    assert isinstance(report, BuildReport)
    assert (report.spec, report.effort, report.target, report.k) == (ix.spec, ix.effort, target, 10)
    assert target <= report.recall + 0.01 and abs(report.recall - recall(ix, x, unseen)) < 0.02
    tried = {trial.spec for trial in report.trials}
    assert tried == {"Flat", "Flat,B1+U8", "IVF,B1+U8", "IVF+SOAR,B1+U8"}
    assert ix.calibration is not None and (ix.calibration.k, ix.calibration.queries) == (10, N // 10)
    assert ix.calibration.truth == "exact"
    exact = next(trial for trial in report.trials if trial.spec == "Flat")
    assert (int(exact.bytes_per_row), exact.best_recall, exact.effort) == (4 * D, 1.0, 0)
    chosen = next(trial for trial in report.trials if trial.spec == ix.spec)
    assert chosen.queries_per_s == max(trial.queries_per_s or 0 for trial in report.trials)


def test_queries_of_another_kind_are_what_counts(rng: np.random.Generator) -> None:
    """Queries far from the rows need more lists than rows would; those that were given decide."""
    x, queries = drawer(rng, "cosine")(N), rng.standard_normal((5000, D), dtype=np.float32)
    ix = ts.Index.build(x, recall=0.9, queries=queries[:2000])
    assert ix.calibration is not None and ix.calibration.queries == 2000
    assert recall(ix, x, queries[2000:]) > 0.89


def test_a_higher_target_tries_finer_codes(rng: np.random.Generator) -> None:
    draw = drawer(rng, "cosine")
    x = draw(N)
    ix = ts.Index.build(x, recall=0.99)
    assert ix.report is not None and ix.report.recall > 0.98
    assert {"IVF+SOAR,B1+U8+F16", "Flat,B1+U8+F16"} <= {trial.spec for trial in ix.report.trials}
    asked = ts.Index.build(x, recall=0.99, queries=draw(500)).report
    assert asked is not None and "Graph32,B1+F16" in {trial.spec for trial in asked.trials}


def test_k_is_what_recall_counts(rng: np.random.Generator) -> None:
    draw = drawer(rng, "cosine")
    x, unseen = draw(3000), draw(1000)
    ix = ts.Index.build(x, recall=0.9, k=40)
    assert ix.report is not None and ix.calibration is not None
    assert ix.report.k == 40 == ix.calibration.k
    assert recall(ix, x, unseen, k=40) > 0.89


# ---- what is reported


def test_no_effort_is_judged_by_the_queries_that_chose_it(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the queries find all with 2 lists, the others need 10: together they are content with 10, but each half
    is judged at what the other asked for."""
    queries = drawer(rng, "cosine")(300)
    half = building.first_half(len(queries))
    assert half.sum() == 150 and 50 < half[:150].sum() < 100

    def shares(exam: Any, index: ts.Index, effort: int, *_: Any) -> npt.NDArray[np.float64]:
        return np.where(half, effort >= 2, effort >= 10).astype(float)

    monkeypatch.setattr(building._Exam, "_shares", shares)
    monkeypatch.setattr(building, "_candidates", lambda *_, **__: ["IVF,B1+U8"])
    with pytest.warns(ts.RecallWarning) as heard:
        ix = ts.Index.build(drawer(rng, "cosine")(N), recall=0.9, queries=queries)
    assert ix.report is not None and ix.calibration is not None
    assert (ix.effort, ix.calibration.recall_at(10), ix.report.recall) == (10, 1.0, 0.5)
    assert [str(each.message) for each in heard] == [
        "build: recall 0.9 is not sure: of 'IVF,B1+U8', queries that no effort was chosen by saw 0.5000;"
        " more of them tell better"
    ]


def test_rows_in_place_of_queries_are_told(rng: np.random.Generator) -> None:
    draw = drawer(rng, "cosine")
    x = draw(2000)
    with pytest.warns(ts.RecallWarning) as heard:
        ix = ts.Index.build(x, recall=0.9)
    report = ix.report
    assert isinstance(report, BuildReport) and (report.queries, report.stand_ins) == (200, True)
    assert [str(each.message) for each in heard] == [
        "build: 200 rows stood in for queries; real ones are often harder, and then recall is less than the"
        f" {report.recall:.4f} of the report; queries= measures with yours"
    ]
    assert heard[0].filename == __file__
    assert str(report).endswith("\n  measured with 200 rows in place of queries; real ones are often harder")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ix = ts.Index.build(x, recall=0.9, queries=draw(120))
    assert ix.report is not None and (ix.report.queries, ix.report.stand_ins) == (120, False)
    assert "in place of" not in str(ix.report)


def test_one_query_is_better_than_none(rng: np.random.Generator) -> None:
    x = rng.standard_normal((500, 8), dtype=np.float32)
    ix = ts.Index.build(x, recall=0.9, queries=x[:1] + np.float32(0.1))
    assert ix.report is not None and ix.report.queries == 1 and ix.report.recall > 0.85


# ---- memory


@pytest.mark.parametrize(("bytes_per_row", "own_ids"), [(60, False), (125, True)])
def test_no_more_memory_is_taken_than_there_is(rng: np.random.Generator, bytes_per_row: int, own_ids: bool) -> None:
    x = drawer(rng, "cosine")(N)
    memory = (bytes_per_row + 24 * own_ids) * N
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.RecallWarning)
        ix = ts.Index.build(x, recall=0.9, memory=memory, ids=np.arange(N) * 3 if own_ids else None)
    assert len(ix) == N and ix.nbytes <= memory


def test_room_to_spare_is_given_back_before_another_spec_is_taken(rng: np.random.Generator) -> None:
    """Rows added in many slices leave room in the lists; the memory that was allowed holds without it."""
    x = np.repeat(drawer(rng, "cosine")(45_000).astype(np.float16), 3, axis=0)  # converted, so added in slices
    roomy = ts.Index("IVF+SOAR,B1+U8", dim=D)
    roomy.train(x)
    roomy.add(x)
    full = roomy.nbytes
    assert not fits(roomy, full // 2, 2)
    tight = roomy.nbytes
    assert tight < 0.95 * full and fits(roomy, tight, 2)


def test_too_little_memory_is_refused_with_the_least_there_is() -> None:
    x = np.random.default_rng(0).standard_normal((2000, D), dtype=np.float32)
    with pytest.raises(ts.InvalidArgument) as caught:
        ts.Index.build(x, memory=10_000)
    sentence = str(caught.value)
    found = re.fullmatch(r"build: expected memory of at least ([\d,]+) bytes for 2,000 rows; got 10,000", sentence)
    assert found, sentence
    least = int(found[1].replace(",", ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ts.RecallWarning)
        assert ts.Index.build(x, memory=least + 1).nbytes <= least + 1


def test_a_target_out_of_reach_is_a_warning_where_build_was_called(rng: np.random.Generator) -> None:
    x = rng.standard_normal((4000, D), dtype=np.float32)
    with pytest.warns(ts.RecallWarning) as heard:
        ix = ts.Index.build(x, recall=0.99, memory=60 * 4000)
    said = re.fullmatch(
        r"build: recall 0\.99 is out of reach within what was allowed; 'Flat,B1\+N4' reaches (0\.\d{4})",
        str(heard[0].message),
    )
    assert said and heard[0].filename == __file__
    assert ix.report is not None and f"{ix.report.recall:.4f}" == said[1]
    assert all(trial.queries_per_s is None for trial in ix.report.trials if "N4" in trial.spec)


def test_over_more_rows_than_the_sample_lists_are_worth_more() -> None:
    """Looking at every row gets slower with the rows, looking into lists with their square root."""
    trials = [Trial("Flat,B1+U8", 440, 0.99, 0, 1000.0), Trial("IVF,B1+U8", 452, 0.97, 9, 500.0)]
    assert choose(trials, Room(50_000, None, False), 50_000).spec == "Flat,B1+U8"
    assert choose(trials, Room(1_000_000, None, False), 50_000).spec == "IVF,B1+U8"
    assert choose(trials, Room(1_000_000, 445_000_000, False), 50_000).spec == "Flat,B1+U8"


# ---- rows of every kind


def test_graphs_are_tried_with_real_queries(rng: np.random.Generator) -> None:
    draw = drawer(rng, "cosine")
    x, asked, unseen = draw(N), draw(2000), draw(4000)
    ix = ts.Index.build(x, recall=0.9, queries=asked)
    assert ix.report is not None and "Graph32,B1+U8" in {trial.spec for trial in ix.report.trials}
    assert recall(ix, x, unseen) > 0.9 - 0.02
    assert abs(ix.report.recall - recall(ix, x, unseen)) < 0.02


def test_few_rows_are_kept_flat(rng: np.random.Generator) -> None:
    for n in (11, 100, N - 1):
        ix = ts.Index.build(rng.standard_normal((n, 8), dtype=np.float32), recall=0.9)
        assert ix.spec.startswith("Flat") and len(ix) == n
        assert ix.effort == 0 and ix.report is not None and ix.report.effort == 0
        assert all(trial.spec.startswith("Flat") for trial in ix.report.trials)


@pytest.mark.parametrize("n", [2000])
def test_ids_of_ones_own(rng: np.random.Generator, n: int) -> None:
    draw = drawer(rng, "cosine")
    x, unseen = draw(n), draw(1000)
    ids = rng.permutation(10 * n)[:n] + 7
    ix = ts.Index.build(x, recall=0.9, ids=ids)
    np.testing.assert_array_equal(np.sort(ix.ids), np.sort(ids))
    assert ix.report is not None and ix.report.recall > 0.89
    assert recall(ix, x, unseen, ids=ids) > 0.89
    assert len(ts.Index.build(x[:50], ids=ids[:50].tolist())) == 50


@pytest.mark.parametrize("n", [3000])
def test_rows_that_occur_many_times_count_as_equals(rng: np.random.Generator, n: int) -> None:
    draw = drawer(rng, "l2")
    x = draw(n // 3)[rng.integers(n // 3, size=n)]
    x[: n // 4] = x[0]  # far more of them than k
    ix = ts.Index.build(x, metric="l2", recall=0.95)
    assert ix.report is not None and ix.report.recall > 0.94
    assert recall(ix, x, draw(1000)) > 0.94


def test_all_rows_alike() -> None:
    for metric in ("cosine", "l2", "ip"):
        ix = ts.Index.build(np.ones((1000, 8), np.float32), metric=metric)
        assert ix.report is not None and ix.report.recall == 1.0


@pytest.mark.parametrize("cast", ["float16", "float64", "bfloat16", "uint8", "torch bfloat16", "strided"])
def test_every_type_is_measured_by_its_own_values(rng: np.random.Generator, cast: str) -> None:
    x = rng.integers(0, 60, (2000, 16)).astype(np.float32)  # the same numbers in every type
    if cast == "bfloat16":
        rows: Any = x.astype(pytest.importorskip("ml_dtypes", reason="brings the type").bfloat16)
    elif cast == "torch bfloat16":
        torch = pytest.importorskip("torch", reason="torch is an extra")
        rows = torch.from_numpy(x).to(torch.bfloat16)
    else:
        rows = np.repeat(x, 2, axis=1)[:, ::2] if cast == "strided" else x.astype(cast)
    ix, plain = (ts.Index.build(each, metric="l2", recall=0.9) for each in (rows, x))
    assert ix.report is not None and plain.report is not None
    for one, other in zip(ix.report.trials, plain.report.trials, strict=True):
        assert (one.spec, one.best_recall, one.effort) == (other.spec, other.best_recall, other.effort)
    if ix.spec == plain.spec:
        assert ix.report.recall == plain.report.recall
    np.testing.assert_allclose(ix.reconstruct(ix.ids[:9]), x[:9], atol=1.0)


# ---- what it brings besides


def test_the_report_reads_as_a_table(rng: np.random.Generator) -> None:
    report = BuildReport(
        "IVF,B1+U8",
        9,
        0.95213,
        0.95,
        10,
        (Trial("IVF,B1+U8", 452.4, 0.99, 8, 12_345.6), Trial("Flat,B1+N4", 248, 0.93, 0, None)),
    )
    assert str(report).splitlines() == [
        "IVF,B1+U8, nprobe 9: recall@10 0.9521 (asked for 0.95)",
        "  IVF,B1+U8                    452 bytes a row, best recall 0.9900, 12,346 queries/s",
        "  Flat,B1+N4                   248 bytes a row, best recall 0.9300, below the target",
    ]
    flat = ts.Index.build(rng.standard_normal((500, 8), dtype=np.float32))
    assert re.match(r"Flat(,B1\+U8)?: recall@10 \d\.\d{4} \(asked for 0\.95\)\n  Flat,B1\+U8 ", str(flat.report))


def test_files_keep_the_effort_and_what_it_was_chosen_by(rng: np.random.Generator, tmp_path: Any) -> None:
    ix = ts.Index.build(drawer(rng, "cosine")(N), recall=0.9)
    ix.save(tmp_path / "built")
    for other in (ts.Index.load(tmp_path / "built"), pickle.loads(pickle.dumps(ix))):
        assert (other.spec, other.effort, other.calibration) == (ix.spec, ix.effort, ix.calibration)
    assert ts.Index("Flat", dim=2).report is None


def test_progress_rises_to_the_end_and_a_seed_is_taken(rng: np.random.Generator) -> None:
    shares: list[float] = []
    x = rng.standard_normal((1000, 8), dtype=np.float32)
    assert len(ts.Index.build(x, progress=shares.append, seed=3, threads=1)) == 1000
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1.0


def test_progress_rises_within_each_spec_and_ends_the_work(rng: np.random.Generator) -> None:
    draw, shares = drawer(rng, "cosine"), list[float]()
    x, q = draw(N), draw(100)
    ix = ts.Index.build(x, recall=0.9, queries=q, progress=shares.append)
    assert ix.report is not None
    assert shares == sorted(shares) and shares[-1] == 1.0
    tried = len(ix.report.trials)
    for first in np.arange(tried) * 0.4 / tried:  # the graph and the inverted files come first, then what is flat
        within = sum(first < share < first + 0.4 / tried - 1e-9 for share in shares)
        assert within > 2 or first > 0.4 * 2.5 / tried
    assert ix.knob == "" or sum(0.4 < share < 0.65 for share in shares) > 2

    def stop(share: float) -> None:
        if share > 0.01:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        ts.Index.build(x, recall=0.9, queries=q, progress=stop)


def test_progress_does_not_go_back_where_a_second_spec_is_built(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def fits_at_last(index: ts.Index, most_bytes: int | None, threads: int) -> bool:
        refused.append(index.spec)
        return len(refused) > 2

    monkeypatch.setattr(building, "fits", fits_at_last)
    shares: list[float] = []
    ts.Index.build(drawer(rng, "cosine")(N), recall=0.9, memory=1 << 40, progress=shares.append)
    assert len(refused) == 3 and shares == sorted(shares) and shares[-1] == 1.0


X = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
NAN = X.copy()
NAN[202, 3] = np.nan
MISTAKES: list[tuple[Callable[[], object], str]] = [
    (lambda: ts.Index.build(X[:10]), "build: expected more rows than k=10, to measure recall with; got 10"),
    (lambda: ts.Index.build(X[:0]), "build: expected more rows than k=10, to measure recall with; got 0"),
    (lambda: ts.Index.build(np.ones((2, 3, 6))), "build: expected x of shape (n, d); got (2, 3, 6)"),
    (lambda: ts.Index.build(X.astype(complex)), "build: expected x of type"),
    (lambda: ts.Index.build(NAN), "build: expected finite x; row 202 has a NaN or an infinity"),
    (lambda: ts.Index.build(X, queries=X[:, :5]), "build: expected queries of shape (n, 6); got (300, 5)"),
    (lambda: ts.Index.build(X, queries=NAN), "build: expected finite queries; row 202 has a NaN or an infinity"),
    (lambda: ts.Index.build(X, metric="hamming"), "expected metric 'cosine', 'ip', 'l2'; got 'hamming'"),
    (lambda: ts.Index.build(X, recall=0), "build: expected a recall above 0 and up to 1; got 0"),
    (lambda: ts.Index.build(X, recall=95), "build: expected a recall above 0 and up to 1; got 95"),
    (lambda: ts.Index.build(X, recall=float("nan")), "build: expected a recall above 0 and up to 1; got nan"),
    (lambda: ts.Index.build(X, recall="high"), "build: expected recall as a number; got str"),
    (lambda: ts.Index.build(X, memory=0), "build: expected memory >= 1; got 0"),
    (lambda: ts.Index.build(X, memory=1e9), "build: expected memory as an int; got float"),
    (lambda: ts.Index.build(X, k=0), "build: expected k >= 1; got 0"),
    (lambda: ts.Index.build(X, k=2048), "build: expected k in 1..2047; got 2048"),
    (lambda: ts.Index.build(X, seed=-1), "build: expected seed >= 0; got -1"),
    (lambda: ts.Index.build(X, threads=0), "build: expected threads >= 1; got 0"),
    (lambda: ts.Index.build(X, ids=np.arange(299)), "build: expected ids of shape (300,); got (299,)"),
    (lambda: ts.Index.build(X, ids=np.arange(300) - 1), "build: expected ids between 0 and 2**63 - 1; got -1"),
    (lambda: ts.Index.build(X, ids=np.arange(300) // 2 * 2), "build: expected ids without repeats; 0 occurs more than"),
    (lambda: ts.Index.build(X, ids=np.arange(300) / 2), "build: expected ids of an integer type; got float64"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes_get_a_sentence(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(ts.TessellaError) as caught:
        mistake()
    assert message in str(caught.value)
    assert isinstance(caught.value, (ValueError, TypeError))


def test_a_row_that_is_not_finite_is_named_by_its_own_number() -> None:
    """Not by its number in the sample."""
    x = np.ones((50_100, 2), np.float16)
    x[50_001, 1] = np.inf
    with pytest.raises(ts.InvalidArgument, match="build: expected finite x; row 50001 has a NaN or an infinity"):
        ts.Index.build(x)
