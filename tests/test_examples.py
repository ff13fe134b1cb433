"""Every example runs and ends in a result; the sample is what its page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DATA = EXAMPLES / "data"
# What each one prints, in a word that a failing run would not print.
RESULTS = {
    "compress.py": "Flat,B1",
    "own_ids.py": "100 rows removed, 1,900 left, ids[150] in mapped = False",
    "search_packages.py": "tuxpaint-stamps-default",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_an_example_ends_in_its_result(name: str) -> None:
    done = run(name)
    assert done.returncode == 0, done.stderr
    assert RESULTS[name] in done.stdout


def test_an_unknown_package_is_a_sentence() -> None:
    done = run("search_packages.py", "no-such-package")
    assert done.returncode == 1
    assert done.stderr == "no-such-package is not among the 8,000 packages of the sample\n"


def test_the_sample_is_what_its_page_says() -> None:
    files = [path for path in DATA.iterdir() if path.suffix in {".npy", ".parquet"}]
    page = (DATA / "README.md").read_text()
    assert all(f"`{path.name}`" in page for path in files)
    assert sum(path.stat().st_size for path in files) <= 8_000_000
    x, q = np.load(DATA / "embeddings.npy"), np.load(DATA / "query_embeddings.npy")
    assert (x.shape, q.shape, x.dtype, q.dtype) == ((8000, 384), (300, 384), np.float16, np.float16)
    packages = pq.read_table(DATA / "packages.parquet")
    assert packages.num_rows == len(x)
    assert "maintainer" not in packages.column_names
    assert not any(re.search(r"\w@\w+\.\w", text) for text in packages["long"].to_pylist())
    queries = pq.read_table(DATA / "queries.parquet")
    assert queries.num_rows == len(q)
    assert not set(queries["name"].to_pylist()) & set(packages["name"].to_pylist()), "held out"


def test_the_ground_truth_is_exact() -> None:
    x, q = (np.load(DATA / name).astype(np.float64) for name in ("embeddings.npy", "query_embeddings.npy"))
    scores = q @ x.T
    best = -np.sort(-scores, axis=1)[:, :10]
    stored = np.take_along_axis(scores, np.load(DATA / "gt10_ids.npy"), axis=1)
    np.testing.assert_allclose(stored, best, rtol=1e-9)
    np.testing.assert_allclose(np.load(DATA / "gt10_scores.npy"), best, rtol=1e-6)
