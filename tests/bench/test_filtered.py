"""The workloads of `bench.filtered`, how it counts what was found, and its peers' rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tessella as ts
from bench.datasets import Dataset, unit
from bench.filtered import harness, report, runs
from bench.filtered.peers import CANDIDATES, Built, of_harness
from bench.filtered.truth import K, check_truth, share_found, truth_of
from bench.filtered.workloads import MADE_SHARES, Workload, made, of_masks

N, DIM = 2000, 16


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset("small", "cosine", unit(rng.standard_normal((N, DIM))), unit(rng.standard_normal((20, DIM))))


@pytest.fixture(scope="module")
def exact(data: Dataset) -> ts.Index:
    index = ts.Index("Flat", dim=DIM, metric="ip")
    index.add(data.base)
    return index


def test_made_workloads_admit_their_share_near_and_far(data: Dataset, exact: ts.Index) -> None:
    workloads = {each.name: each for each in made(data, 20)}
    assert len(workloads) == 3 * len(MADE_SHARES) + 1
    assert workloads["100%"].free
    for share in MADE_SHARES:
        for kind in ("by chance", "near", "far"):
            assert (workloads[f"{share:.2%} {kind}"].counts == max(1, round(share * N))).all()
    near, far = (workloads[f"10.00% {kind}"] for kind in ("near", "far"))
    scores = data.queries @ data.base.T
    mean = [[scores[i, w.mask(int(w.which[i]))].mean() for i in range(20)] for w in (near, far)]
    assert np.mean(mean[0]) > 0.1 > -0.1 > np.mean(mean[1])
    for workload in workloads.values():
        check_truth(data.base, workload, truth_of(exact, data.base, workload), count=20)


def test_a_twin_admits_as_many_elsewhere(data: Dataset) -> None:
    mask = np.arange(N) < 300
    workload = of_masks("W2", "some", data.queries, [mask, ~mask], np.arange(20) % 2)
    twin = workload.twin()
    assert twin.counts.tolist() == workload.counts.tolist() == [300, N - 300]
    assert not np.array_equal(twin.words, workload.words)
    some = workload.first(1)
    assert (len(some.words), some.which.tolist()) == (1, [0])


def test_what_is_found_counts_once_and_only_where_it_is_admitted(data: Dataset, exact: ts.Index) -> None:
    workload = of_masks("some", "some", data.queries[:2], [np.arange(N) < 4, np.arange(N) < N], [0, 1])
    truth = truth_of(exact, data.base, workload)
    ids = exact.search(data.queries[:2], K, where=[np.arange(4), None]).ids
    whole = share_found(data.base, workload, truth, ids)
    assert (whole.mean, whole.short, whole.foreign) == (1.0, 0, 0)
    ids[0, 4] = 7  # not admitted
    ids[1, 1:] = ids[1, 0]  # twice
    part = share_found(data.base, workload, truth, ids)
    assert part.recalls.tolist() == [1.0, 0.1]
    assert (part.short, part.foreign) == (1, 1)


def test_musts_follow_the_share_of_rows() -> None:
    assert report.must_for(0.0001)[0] == 1.0
    assert report.must_for(0.01) == (3.0, 30, 20, 4.0)
    assert report.must_for(1.0)[0] == 1.5
    best, factors = report.ratios(2.0, {"faiss Flat ids": 3.0, "hnswlib": 8.0, "usearch": None, "qdrant rules": 4.0})
    assert (best, factors) == ("faiss Flat ids", [1.5, None, 4.0, 2.0])


@pytest.mark.parametrize("library", ["hnswlib", "usearch"])
def test_peers_in_the_harness_find_what_matches(
    data: Dataset, exact: ts.Index, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(library: str, folder: Path) -> Path:
        raise harness.Missing(f"no headers of {library}")

    monkeypatch.setattr(harness, "fetched", offline)
    kept = Built(tmp_path, "small", 1)
    try:
        entries = list(of_harness(library, data.base, kept, lambda name: True))
    except harness.Missing as reason:
        pytest.skip(str(reason))
    for workload in (each for each in made(data, 20) if each.counts.min() >= K):
        case = runs.Case(workload, truth_of(exact, data.base, workload))
        for entry in entries:
            share = runs.found_by(data.base, entry, case, CANDIDATES[-1])
            assert share.foreign == 0
            assert share.mean >= (0.95 if library == entry.name or "lucene" in entry.name else 0.0)


def test_free_workloads_are_known(data: Dataset) -> None:
    workload = of_masks("all", "none", data.queries, [np.ones(N, np.bool_)])
    assert isinstance(workload, Workload)
    assert workload.free and workload.shared and workload.selectivity == (1.0, 1.0, 1.0)
