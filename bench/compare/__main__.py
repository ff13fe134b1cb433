"""`python -m bench.compare`: see bench/README.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import datasets, machine, record
from bench.compare import drawing, entries, history, report, rounds
from bench.compare.recall import true_floors
from bench.roofs import Roofs, higher, roofs


def arguments() -> argparse.ArgumentParser:
    """The options; every default is the honest choice for a published figure."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--dataset", default="debian", help="a name, a .npy file, or synthetic:n=…,d=…")
    what.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    what.add_argument("--queries", help="queries of a .npy data set; else rows are held out")
    what.add_argument("--metric", default="cosine", choices=["cosine", "ip", "l2"], help="of a .npy data set")
    what.add_argument("--seed", type=int, default=datasets.SEED, help="of synthetic sets and held-out rows")
    what.add_argument("--preset", choices=sorted(entries.PRESETS), help="a named list of entries")
    what.add_argument("--entry", action="append", default=[], help="peer:spec[@knob=v1,v2;…]; repeatable")
    how = parser.add_argument_group("how")
    how.add_argument("--k", type=int, default=10, help="neighbours")
    how.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    how.add_argument("--modes", nargs="+", default=["batch", "single"], choices=["batch", "single"])
    how.add_argument("--rounds", type=int, default=5, help="interleaved rounds; the median is shown")
    how.add_argument("--batch", type=int, default=2000, help="queries of a batch")
    how.add_argument("--single", type=int, default=500, help="queries asked one by one")
    how.add_argument("--max-settings", type=int, help="thin every sweep to so many settings")
    how.add_argument("--huge-pages", action="store_true", help="glibc.malloc.hugetlb=1 for everyone")
    how.add_argument("--roofs", action="store_true", help="measure the machine's roofs too (flat always does)")
    where = parser.add_argument_group("where it goes")
    where.add_argument("--name", help="of the history file and the drawing; else data set and preset")
    where.add_argument("--history", type=Path, default=record.HISTORY)
    where.add_argument("--out", type=Path, default=machine.ROOT / "out", help="folder of the drawing")
    return parser


def main() -> None:
    """Loads, measures, reports."""
    chosen = arguments().parse_args()
    try:
        _compare(chosen)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"compare: {error}")


def _compare(chosen: argparse.Namespace) -> None:
    data = datasets.load(
        chosen.dataset,
        data=chosen.data,
        queries=chosen.queries,
        metric=chosen.metric,
        count=max(chosen.batch, chosen.single),
        seed=chosen.seed,
    )
    n, d = data.shape
    preset = chosen.preset or ("" if chosen.entry else "text")
    listed = [*entries.PRESETS.get(preset, ()), *chosen.entry]
    wanted = [entries.parse(text, n=n, d=d) for text in listed]
    rounds.say(f"{data.name}: finding the true neighbours of {len(data.queries):,} queries")
    floors = true_floors(data, chosen.k)

    results: list[rounds.Result] = []
    peaks: dict[int, Roofs] = {}
    for threads in chosen.threads:
        plan = _plan(chosen, threads, len(data.queries))
        measure_roofs = chosen.roofs or preset == "flat"
        if measure_roofs:
            peaks[threads] = roofs(threads)
        results += rounds.run(data, wanted, plan, floors)
        if measure_roofs:  # again: the machine may have been busier before
            peaks[threads] = higher(peaks[threads], roofs(threads))

    name = chosen.name or f"{data.name}-{preset or 'own'}"
    picture = chosen.out / f"compare-{name}.png"
    _print(data, results, peaks, plan)
    print(f"\nhistory: {history.write(chosen.history, name, data, results, plan, peaks)}")
    try:
        drawing.draw(picture, data, results, chosen.k)
        print(f"drawing: {picture}")
    except ModuleNotFoundError:
        print("drawing: none, matplotlib is not installed")


def _plan(chosen: argparse.Namespace, threads: int, queries: int) -> rounds.Plan:
    return rounds.Plan(
        threads=threads,
        modes=tuple(dict.fromkeys(chosen.modes)),
        rounds=chosen.rounds,
        k=chosen.k,
        batch=min(chosen.batch, queries),
        single=min(chosen.single, queries),
        max_settings=chosen.max_settings,
        huge_pages=chosen.huge_pages,
    )


def _print(data: datasets.Dataset, results: list[rounds.Result], peaks: dict[int, Roofs], plan: rounds.Plan) -> None:
    n, d = data.shape
    pages = ", huge pages asked for" if plan.huge_pages else ""
    asked = f"batch of {plan.batch:,}, {plan.single:,} one by one"
    print(f"{data.name}: {n:,} x {d}, {data.metric}, k={plan.k}, {asked}, {plan.rounds} rounds{pages}")
    print(f"{machine.cpu_model()}, {machine.cpu_level()}, commit {machine.commit()}", end=", ")
    print(f"load average at the end {machine.load_average()}")
    for peak in peaks.values():
        print(peak)
    print(f"\n{report.settings_table(data, results, peaks)}\n\n{report.summary_table(data, results)}")


if __name__ == "__main__":
    main()
