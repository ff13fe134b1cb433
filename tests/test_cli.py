"""The command line: every kind of file, every command, and one sentence for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file as save_tensors

import tessella as ts
from tessella.cli import main

N, D = 40, 12
SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "data"


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    """Small whole numbers, the same in every type."""
    return rng.integers(0, 50, size=(N, D)).astype(np.float32)


def vecs(x: np.ndarray, dtype: str) -> bytes:
    return b"".join(np.int32(len(row)).tobytes() + row.astype(dtype).tobytes() for row in x)


def write_parquet(path: Path, x: np.ndarray, kind: pa.DataType) -> None:
    ids = pa.array(np.arange(len(x)) * 10)
    table = pa.table({"name": [f"row {i}" for i in range(len(x))], "key": ids, "v": pa.array(list(x), type=kind)})
    pq.write_table(table, path, row_group_size=16)


WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "x.npy": np.save,
    "float64.npy": lambda path, x: np.save(path, x.astype(np.float64)),
    "fortran.npy": lambda path, x: np.save(path, np.asfortranarray(x)),
    "one.npz": lambda path, x: np.savez(path, x=x),
    "two.npz:base": lambda path, x: np.savez_compressed(path, base=x, other=x[:3]),
    "x.fvecs": lambda path, x: path.write_bytes(vecs(x, "<f4")),
    "x.bvecs": lambda path, x: path.write_bytes(vecs(x, "u1")),
    "x.ivecs": lambda path, x: path.write_bytes(vecs(x, "<i4")),
    "x.safetensors": lambda path, x: safetensors.numpy.save_file({"x": x}, path),
    "two.safetensors:x": lambda path, x: safetensors.numpy.save_file({"a": x[:1, :5].copy(), "x": x}, path),
    "bf16.safetensors": lambda path, x: save_tensors({"x": torch.from_numpy(x).bfloat16()}, path),
    "list.parquet": lambda path, x: write_parquet(path, x, pa.list_(pa.float32())),
    "large.parquet": lambda path, x: write_parquet(path, x, pa.large_list(pa.float64())),
    "fixed.parquet": lambda path, x: write_parquet(path, x, pa.list_(pa.float32(), D)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_build_reads_every_kind_of_file(name: str, tmp_path: Path, x: np.ndarray) -> None:
    WRITERS[name](tmp_path / name.partition(":")[0], x)
    target = tmp_path / "index"
    options = ["--spec", "Flat", "--metric", "l2", "--batch", "7"]
    assert main(["build", str(tmp_path / name), str(target), *options]) == 0
    index = ts.Index.load(target)
    assert (index.spec, index.metric) == ("Flat", "l2")
    np.testing.assert_array_equal(index.ids, np.arange(N))
    np.testing.assert_array_equal(index.reconstruct(index.ids), x)


def test_bfloat16_means_bfloat16(x: np.ndarray) -> None:
    """The numbers of the tests above survive bfloat16, or the .safetensors case would prove nothing."""
    np.testing.assert_array_equal(x.astype(ml_dtypes.bfloat16).astype(np.float32), x)


def test_ids_come_from_a_column(tmp_path: Path, x: np.ndarray) -> None:
    write_parquet(tmp_path / "x.parquet", x, pa.list_(pa.float32()))
    options = ["--column", "v", "--id-column", "key", "--spec", "Flat", "--batch", "9"]
    assert main(["build", str(tmp_path / "x.parquet"), str(tmp_path / "index"), *options]) == 0
    np.testing.assert_array_equal(ts.Index.load(tmp_path / "index").ids, np.arange(N) * 10)


@pytest.fixture
def built(tmp_path: Path, x: np.ndarray) -> Path:
    """A folder with x.npy, an index of it, and queries q.npy."""
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", x[:6] + 0.25)
    index = ts.Index("Flat", dim=D, metric="l2")
    index.add(x)
    index.save(tmp_path / "index")
    return tmp_path


def test_search_prints_and_writes(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, q = str(built / "index"), str(built / "q.npy")
    wanted = ts.Index.load(built / "index").search(np.load(built / "q.npy"), k=3)
    assert main(["search", index, q, "-k", "3", "--show", "2", "--out", str(built / "h.npz")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("query ") == 2
    assert str(wanted.ids[1, 2]) in printed
    written = np.load(built / "h.npz")
    np.testing.assert_array_equal(written["ids"], wanted.ids)
    np.testing.assert_array_equal(written["scores"], wanted.scores)
    assert main(["search", index, q, "-k", "3", "--mmap", "--out", str(built / "h.jsonl")]) == 0
    lines = [json.loads(line) for line in (built / "h.jsonl").read_text().splitlines()]
    assert [line["ids"] for line in lines] == wanted.ids.tolist()


def test_more_neighbours_than_rows(built: Path) -> None:
    arguments = ["search", str(built / "index"), str(built / "q.npy"), "-k", "100", "--show", "0"]
    assert main([*arguments, "--out", str(built / "h.jsonl")]) == 0
    assert len(json.loads((built / "h.jsonl").read_text().splitlines()[0])["ids"]) == N


def test_info_shows_facts_and_tensors(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(built / "index"), "--verify"]) == 0
    printed = capsys.readouterr().out
    for fact in ("Flat", "l2", f"{N}", "all checked", "centre", "F32"):
        assert fact in printed


def test_info_tells_what_a_flat_index_was_calibrated_to(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = ts.Index.load(built / "index")
    index.calibrate(np.load(built / "q.npy"), k=3)
    index.save(built / "index")
    assert main(["info", str(built / "index")]) == 0
    printed = capsys.readouterr().out
    assert "recall@3 of 6 queries: best 1.0000" in printed
    assert "nprobe" not in printed and "own" not in printed  # Flat knows the exact neighbours


@pytest.fixture
def lists(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with x.npy, an IVF index of it with 1-bit codes built and calibrated by command, and queries q.npy."""
    topics = rng.standard_normal((40, 24))
    drawn = topics[rng.integers(40, size=2300)] + 0.6 * rng.standard_normal((2300, 24))
    np.save(tmp_path / "x.npy", drawn[:2000].astype(np.float16))
    np.save(tmp_path / "q.npy", drawn[2000:].astype(np.float32))
    files = [str(tmp_path / name) for name in ("x.npy", "index")]
    options = ["--spec", "IVF32+SOAR,B1+U8", "--recall", "0.9", "--queries", str(tmp_path / "q.npy"), "--batch", "900"]
    assert main(["build", *files, *options]) == 0
    return tmp_path


def test_recall_of_what_codes_know_is_told(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(lists / name) for name in ("x.npy", "coarse")]
    options = ["--spec", "IVF32,B1", "--recall", "0.9", "--queries", str(lists / "q.npy")]
    assert main(["build", *files, *options]) == 0
    said = "tessella: calibrate: recall counts against the best that 'IVF32,B1' itself finds, not against exact"
    assert capsys.readouterr().err.startswith(said)
    assert main(["info", files[1]]) == 0
    assert "against the index's own best" in " ".join(capsys.readouterr().out.split())


def test_build_makes_lists_and_calibrates_them(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = ts.Index.load(lists / "index")
    assert (index.spec, len(index), len(index.list_sizes)) == ("IVF32+SOAR,B1+U8", 2000, 32)
    assert index.calibration is not None and index.calibration.queries == 300
    assert index.nprobe == index.calibration.effort_for(0.9) < 32
    assert main(["build", str(lists / "x.npy"), str(lists / "plain"), "--spec", "IVF,B1+U8"]) == 0
    plain = ts.Index.load(lists / "plain")
    assert plain.calibration is None and len(plain.list_sizes) > 32  # by all of the rows
    assert "IVF,B1+U8" in capsys.readouterr().out


def test_info_shows_lists_and_what_recall_takes(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = ts.Index.load(lists / "index")
    assert main(["info", str(lists / "index")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    sizes = index.list_sizes
    assert f"lists 32 of {sizes.min()} to {sizes.max()} rows nprobe {index.nprobe} calibration" in printed
    assert f"recall@10 of 300 queries: 0.8 at nprobe {index.calibration.effort_for(0.8)}, 0.9 at nprobe" in printed
    assert f"best {max(index.calibration.recalls):.4f}" in printed


def test_search_takes_nprobe_or_recall(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, q = ts.Index.load(lists / "index"), np.load(lists / "q.npy")
    for option, effort in (("--nprobe", {"nprobe": 3}), ("--recall", {"recall": 0.8})):
        options = [option, str(*effort.values()), "--show", "0", "--out", str(lists / "h.npz")]
        assert main(["search", str(lists / "index"), str(lists / "q.npy"), *options]) == 0
        np.testing.assert_array_equal(np.load(lists / "h.npz")["ids"], index.search(q, 10, **effort).ids)
    index._calibration = ts.Calibration(k=10, queries=300, efforts=(1, 2), recalls=(0.5, 0.75))
    index.save(lists / "index")
    capsys.readouterr()
    assert main(["search", str(lists / "index"), str(lists / "q.npy"), "--recall", "0.9", "--show", "0"]) == 0
    assert capsys.readouterr().err == (
        "tessella: search: recall 0.9 was not reached when 'IVF32+SOAR,B1+U8' was calibrated; its best is 0.7500\n"
    )


@pytest.mark.parametrize("asked", [False, True])
def test_build_chooses_a_spec_for_a_recall(asked: bool, lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--recall", "0.9", *(["--queries", str(lists / "q.npy")] if asked else [])]
    assert main(["build", str(lists / "x.npy"), str(lists / "chosen"), *options]) == 0
    (printed, said), index = capsys.readouterr(), ts.Index.load(lists / "chosen")
    assert ("tessella: build: 200 rows stood in for queries" in said) is not asked
    assert f"{index.spec}: recall@10 " in printed and "(asked for 0.9)" in printed and "queries/s" in printed
    assert len(index) == 2000 and index.calibration is not None
    assert index.calibration.queries == (300 if asked else 200)


def test_a_chosen_spec_keeps_ids_from_a_column(tmp_path: Path, x: np.ndarray) -> None:
    write_parquet(tmp_path / "x.parquet", x, pa.list_(pa.float32()))
    options = ["--id-column", "key", "--recall", "0.9", "--metric", "l2", "--batch", "9"]
    assert main(["build", str(tmp_path / "x.parquet"), str(tmp_path / "index"), *options]) == 0
    np.testing.assert_array_equal(ts.Index.load(tmp_path / "index").ids, np.arange(N) * 10)


def test_bench_finds_exact_search_exact(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--base", str(built / "x.npy"), "-k", "5", "--repeats", "1", "--threads", "1"]
    threads = ts.get_num_threads()
    try:
        assert main(["bench", str(built / "index"), str(built / "q.npy"), *arguments]) == 0
    finally:
        ts.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert printed.count("1.0000") == 2
    assert "1 thread" in printed


def test_bench_counts_what_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An index over other vectors than --base has a recall far from one."""
    rng = np.random.default_rng(0)
    index = ts.Index("Flat", dim=D, metric="ip")
    index.add(rng.standard_normal((400, D)))
    index.save(tmp_path / "index")
    np.save(tmp_path / "x.npy", rng.standard_normal((400, D)))
    np.save(tmp_path / "q.npy", rng.standard_normal((50, D)))
    files = [str(tmp_path / name) for name in ("index", "q.npy", "x.npy")]
    assert main(["bench", files[0], files[1], "--base", files[2], "--repeats", "1"]) == 0
    exact, other = capsys.readouterr().out.splitlines()[-2:]
    assert float(exact.split()[2]) == 1.0
    assert float(other.split()[1]) < 0.2


def test_demo_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawing = tmp_path / "new" / "drawing.png"
    assert main(["demo", "--data", str(SAMPLE), "--drawing", str(drawing)]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    recalls = {name: float(rows[name][1]) for name in ("NumPy", "Flat", "Flat,B1+U8", "Flat,B1+N4")}
    for spec, least in ((r"IVF\+SOAR,B1\+U8", 0.96), (r"Graph32,B1\+U8", 0.95)):
        row = re.search(spec + r" +([\d.]+) +[\d.]+ +[\d,]+", printed)
        assert row is not None and float(row[1]) > least
    assert re.search(r"IVF\+SOAR,B1\+U8 looks into \d+ of its 512 lists, and Graph32,B1\+U8 keeps \d+ rows", printed)
    assert recalls["NumPy"] == recalls["Flat"] == 1.0
    assert recalls["Flat,B1+U8"] > 0.98
    assert recalls["Flat,B1+N4"] > 0.85
    assert re.search(r"explain: [\d,]+ of 8,000 rows match, [\d,]+ were looked at; chosen: \w+; estimated: ", printed)
    assert "bit for bit" in printed
    assert drawing.read_bytes().startswith(b"\x89PNG")


def test_search_goes_by_a_filter(tmp_path: Path, x: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    index = ts.Index("Flat", dim=D, metric="l2")
    index.add(x, attributes={"number": np.arange(N)})
    index.save(tmp_path / "index")
    np.save(tmp_path / "x.npy", x)
    files = [str(tmp_path / name) for name in ("index", "x.npy", "hits.npz")]
    assert main(["search", *files[:2], "-k", "3", "--where", "number >= 38", "--out", files[2]]) == 0
    assert "where number >= 38: 2 of 40 rows" in capsys.readouterr().out
    ids = np.load(files[2])["ids"]
    assert (np.sort(ids, axis=1) == [-1, 38, 39]).all()


# ---- what goes wrong


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must fail; returns its one sentence."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("tessella: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


WRONG: dict[str, tuple[list[str], str]] = {
    "no such command": (["fly"], "No such command 'fly'"),
    "no such option": (["build", "x.npy", "i", "--fast"], "--fast"),
    "missing argument": (["build", "x.npy"], "Missing argument"),
    "no number": (["search", "index", "q.npy", "-k", "many"], "-k"),
    "missing file": (["build", "no.npy", "i"], "expected no.npy to be a file"),
    "missing index": (["search", "no", "q.npy"], "cannot use no: No such file or directory"),
    "missing folder": (["build", "x.npy", "no/i"], "cannot use .*no/i: No such file or directory"),
    "unknown kind of file": (["build", "notes.txt", "i"], "one of the kinds .npy, .npz"),
    "file of another kind": (["build", "text.npy", "i"], "text.npy is no readable .npy file"),
    "empty file": (["build", "empty.npy", "i"], "empty.npy is no readable .npy file"),
    "not a zip": (["build", "text.npz", "i"], "text.npz is no readable .npz file"),
    "no safetensors": (["build", "text.safetensors", "i"], "no readable .safetensors file"),
    "no parquet": (["build", "text.parquet", "i"], "no readable .parquet file"),
    "no vecs": (["build", "text.fvecs", "i"], "no readable .fvecs file"),
    "torn vecs": (["build", "torn.fvecs", "i"], "no multiple of rows of 12 dimensions"),
    "uneven vecs": (["build", "uneven.bvecs", "i"], "row 1 is not of 4 dimensions"),
    "pickled objects": (["build", "objects.npy", "i"], "no readable .npy file"),
    "one-dimensional": (["build", "flat.npy", "i"], r"of shape \(n, d\); got \(40,\)"),
    "which array": (["build", "two.npz", "i"], "NAME with one of the arrays a, b; got None"),
    "no such array": (["build", "two.npz:c", "i"], "one of the arrays a, b; got c"),
    "no such column": (
        ["build", "x.parquet", "i", "--column", "w"],
        "got w, and its columns of vectors are v",
    ),
    "column of text": (["build", "x.parquet", "i", "--column", "name"], "got name, and"),
    "ids of text": (["build", "x.parquet", "i", "--id-column", "name"], "got name, and it has key"),
    "column of an array": (
        ["build", "x.npy", "i", "--column", "v"],
        "a .parquet file where columns are named",
    ),
    "ragged column": (["build", "ragged.parquet", "i"], "row 1 of ragged.parquet has 2 dimensions"),
    "null rows": (["build", "null.parquet", "i"], r"has empty places \(null\)"),
    "NaN": (["build", "nan.npy", "i"], "row 3"),
    "unknown spec": (["build", "x.npy", "i", "--spec", "Flat,Q9"], "Q9"),
    "unknown metric": (["build", "x.npy", "i", "--metric", "hamming"], "'hamming'"),
    "wrong dim": (["search", "index", "flat2.npy"], r"of shape \(n, 12\); got \(4, 10\)"),
    "recall of 2": (["search", "index", "q.npy", "--recall", "2"], "expected a recall above 0 and up to 1"),
    "nprobe of Flat": (["search", "index", "q.npy", "--nprobe", "4"], "expected nprobe with IVF only"),
    "nprobe and recall": (["search", "index", "q.npy", "--nprobe", "4", "--recall", "0.9"], "got both"),
    "unknown recall": (["build", "x.npy", "i", "--recall", "95"], "expected a recall above 0 and up to 1; got 95"),
    "queries without recall": (["build", "x.npy", "i", "--queries", "q.npy"], "expected --recall with --queries"),
    "recall without queries": (["build", "x.npy", "i", "--spec", "Flat", "--recall", "0.9"], "expected --queries"),
    "queries of another dim": (
        ["build", "x.npy", "i", "--recall", "0.9", "--queries", "flat2.npy"],
        r"expected queries of shape \(n, 12\); got \(4, 10\)",
    ),
    "k 0": (["search", "index", "q.npy", "-k", "0"], "k"),
    "unknown output": (["search", "index", "q.npy", "--out", "h.csv"], "end in .npz or .jsonl"),
    "no index": (["info", "x.npy"], "x.npy is no safetensors file"),
    "other safetensors": (["info", "x.safetensors"], "not one of tessella"),
    "threads 0": (["bench", "index", "q.npy", "--base", "x.npy", "--threads", "0"], "threads"),
    "no sample": (["demo", "--data", "."], "lacks packages.parquet"),
}


@pytest.fixture
def files(built: Path, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the table above, in the current folder."""
    monkeypatch.chdir(built)
    for suffix in ("txt", "npy", "npz", "safetensors", "parquet", "fvecs"):
        Path("notes.txt" if suffix == "txt" else f"text.{suffix}").write_text("This is a text.\n" * 9)
    Path("empty.npy").touch()
    Path("torn.fvecs").write_bytes(vecs(x, "<f4")[:-1])
    Path("uneven.bvecs").write_bytes(vecs(x[:1, :4], "u1") + vecs(x[:1, :12], "u1"))
    np.save("objects.npy", np.array([[{}]]), allow_pickle=True)
    np.save("flat.npy", x[:, 0])
    np.save("flat2.npy", x[:4, :10])
    np.save("nan.npy", np.where(np.arange(N)[:, None] == 3, np.nan, x))
    np.savez("two.npz", a=x, b=x)
    safetensors.numpy.save_file({"x": x}, "x.safetensors")
    write_parquet(Path("x.parquet"), x, pa.list_(pa.float32()))
    pq.write_table(pa.table({"v": [[1.0], [1.0, 2.0]]}), "ragged.parquet")
    pq.write_table(pa.table({"v": [[1.0], None]}), "null.parquet")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = WRONG[name]
    sentence = refused(arguments, capsys)
    assert re.search(message, sentence), sentence
    assert not Path("i").exists()


@pytest.mark.parametrize("package", ["typer", "rich", "pyarrow", "matplotlib", "safetensors"])
def test_a_missing_package_is_named(
    package: str, built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    commands = {
        "pyarrow": ["build", str(built / "x.parquet"), "i"],
        "matplotlib": ["demo", "--data", str(SAMPLE), "--drawing", str(built / "d.png")],
    }
    (built / "x.parquet").touch()
    sentence = refused(commands.get(package, ["info", str(built / "index")]), capsys)
    assert f'needs {package}, which pip install "tessella[cli]" brings' in sentence


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "build" in capsys.readouterr().out


def test_an_interrupt_ends_quietly(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a search over a large file: exit code 130 and no traceback."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((60_000, 64), dtype=np.float32))
    index = ts.Index("Flat", dim=64)
    index.add(np.load(tmp_path / "x.npy"))
    index.save(tmp_path / "index")
    command = [sys.executable, "-m", "tessella", "search", str(tmp_path / "index"), str(tmp_path / "x.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in errors


def test_a_closed_pipe_ends_quietly(built: Path) -> None:
    command = [sys.executable, "-m", "tessella", "info", str(built / "index")]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""
