"""The pictures of the history: which rows count, what a line is, and that docs/ has one for each data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bench import pictures
from bench.compare.recall import Point

POINTS = [(0.8, 400.0), (0.9, 300.0), (0.85, 200.0), (0.99, 100.0)]  # the third is beaten


def row(spec: str = "M=32", peer: str = "hnswlib", points: Any = POINTS, **other: Any) -> dict[str, Any]:
    made = {"time": "2026-01-01T00:00:00+00:00", "cpu": "one", "level": "avx2", "dataset": "made", "metric": "l2"}
    made |= {"n": 1000, "d": 16, "k": 10, "seed": None, "rounds": 3, "mode": "batch", "threads": 1}
    curve = [{"recall": recall, "qps": qps} for recall, qps in points]
    return made | {"peer": peer, "spec": spec, "curve": curve} | other


def read(folder: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    (folder / "2026-01-01-made.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return pictures.read(folder)["made"]


def test_the_newest_row_of_an_index_counts(tmp_path: Path) -> None:
    later = row(points=[(0.7, 1.0)], time="2026-01-02T00:00:00+00:00")
    failed = {"time": "2026-01-03T00:00:00+00:00", "dataset": "made", "peer": "hnswlib", "failure": "no memory"}
    other = row("M=16")
    assert read(tmp_path, later, row(), other, failed) == [other, later]
    several = [row(), row(mode="single"), row(threads=2)]
    assert read(tmp_path, *several) == several


def test_rows_of_two_machines_never_share_a_picture(tmp_path: Path) -> None:
    here, there = row("M=16"), row(cpu="another", time="2026-01-02T00:00:00+00:00")
    assert read(tmp_path, there, here) == [there]
    more = row(n=2000, time="2026-01-03T00:00:00+00:00")
    assert read(tmp_path, here, there, more) == [more]


def test_a_line_is_the_frontier_of_a_library() -> None:
    small = row("M=16", points=[(0.8, 500.0), (0.95, 150.0), (0.97, 50.0)])
    (line,) = pictures.panels([row(), small])["batch", 1]
    assert line.name == "hnswlib"
    assert line.specs == ("M=16", "M=32")
    assert line.points == [Point(0.8, 500), Point(0.9, 300), Point(0.95, 150), Point(0.99, 100)]
    (line,) = pictures.panels([row(), row("M=8", points=[(0.8, 5.0)])])["batch", 1]
    assert line.specs == ("M=32",)  # nothing of the other is to be seen


def test_our_structures_have_lines_of_their_own() -> None:
    specs = ["Flat,B1+U8", "IVF64,B1+U8", "IVF128+SOAR,B1+U8", "Graph32,U8"]
    lines = pictures.panels([row(), *(row(spec, "tessella") for spec in specs)])["batch", 1]
    assert [line.name for line in lines] == ["tessella Graph", "tessella IVF", "tessella Flat", "hnswlib"]
    assert lines[1].specs == ("IVF128+SOAR,B1+U8", "IVF64,B1+U8")


def test_a_picture_parses_and_is_the_same_again(tmp_path: Path) -> None:
    rows = [row(mode=mode, threads=threads) for mode in ("batch", "single") for threads in (1, 2)]
    pictures.draw(tmp_path / "one.svg", [*rows, row("Flat", "tessella", [(1.0, 50.0)])])
    pictures.draw(tmp_path / "two.svg", [*rows, row("Flat", "tessella", [(1.0, 50.0)])])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    words = " ".join(ElementTree.parse(tmp_path / "one.svg").getroot().itertext())
    for expected in ("one batch, 2 threads", "one by one, 1 thread", "hnswlib: M=32", "1,000 × 16", "recall@10"):
        assert expected in words


def test_a_picture_may_have_one_panel(tmp_path: Path) -> None:
    pictures.draw(tmp_path / "one.svg", [row()])
    words = "".join(ElementTree.parse(tmp_path / "one.svg").getroot().itertext())
    assert words.count("one batch") == 1
    assert "one by one" not in words


def test_docs_show_every_data_set_of_the_history() -> None:
    page = (pictures.PICTURES.parent / "benchmarks.md").read_text()
    for dataset, rows in pictures.read(pictures.HISTORY).items():
        assert f"(pictures/{dataset}.svg)" in page
        words = " ".join(ElementTree.parse(pictures.PICTURES / f"{dataset}.svg").getroot().itertext())
        for lines in pictures.panels(rows).values():
            assert all(spec in words for line in lines for spec in line.specs)
