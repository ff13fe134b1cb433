"""`python -m bench.filtered`: filtered searches, ours and peers'.

Stages, each of which can be run by itself: `found` (what ours find under every filter), `tune` (the least effort at
which each peer finds the recall; nothing is timed), `time` (ours at their defaults and peers at those efforts),
`report` (all that was timed so far, and the ratios), `regret` (the planner beside each fixed plan), `costs` (what the
planner's steps cost here), `kept` (filters that are new, kept and materialised) and `mixed` (W15).
Indexes, efforts and times are kept in `--store`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tessella as ts
from bench import machine
from bench.datasets import data_folder, unit
from bench.filtered import costs, kept, mixed, ours, peers, report, runs
from bench.filtered.truth import Truths, check_truth, local_share, share_found, truth_of
from bench.filtered.workloads import Debian, Floats, Workload, made, made_data

STAGES = ("found", "tune", "time", "report", "regret", "costs", "kept", "mixed")


def say(text: str) -> None:
    print(f"filtered: {text}", file=sys.stderr, flush=True)


class Run:
    """A set, its workloads and what is true of them."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        name = "debian" if chosen.made is None else f"made{chosen.made}"
        self.built = peers.Built(Path(chosen.store), name, chosen.build_threads)
        self.debian: Debian | None = None
        self.x: Floats
        self.known: Floats  # queries for calibration, asked nowhere else
        workloads: list[Workload]
        if chosen.made is None:
            folder = data_folder(chosen.data) / "debian"
            self.debian = Debian(folder, 500)
            self.x, workloads = self.debian.x, list(self.debian.all())
            self.known = unit(np.load(folder / "query_embeddings.npy")[1000:2000])
        else:
            data = made_data(chosen.made, self.built.folder)
            self.x, workloads = data.base, list(made(data, 500))
            self.known = data.queries[500:]
        self.exact = ts.Index("Flat", dim=self.x.shape[1], metric="ip")
        self.exact.add(self.x)
        self.workloads = [each for each in workloads if (not chosen.only or each.name.split()[0] in chosen.only)]
        self.common = {"dataset": name, "n": len(self.x), "d": self.x.shape[1], "k": 10, "recall_wanted": ours.RECALL}

    def cases(self, queries: int) -> list[runs.Case]:
        known = Truths(self.built.folder / f"{self.built.name}-truth-{queries}.npz")
        cases = []
        for workload in self.workloads:
            some = workload.first(queries)
            truth = known.get(some.name)
            if truth is None:
                truth = truth_of(self.exact, self.x, some)
                check_truth(self.x, some, truth)
                known.put(some.name, truth)
            cases.append(runs.Case(some, truth))
        known.write()
        return cases

    def wanted(self, name: str) -> bool:
        return not self.chosen.entry or any(name.startswith(each) for each in self.chosen.entry)

    # ---- stages

    def found(self) -> None:
        rows: list[dict[str, Any]] = []
        cases = self.cases(self.chosen.queries)
        near = {case.workload.name: local_share(self.exact, case.workload) for case in cases}
        for entry in ours.entries(self.x, self.known, self.built, self.wanted):
            say(f"{entry.name}: {entry.nbytes / self.x.nbytes:.3f} of the float32 bytes")
            for case in cases:
                w = case.workload
                share = runs.found_by(self.x, entry, case, 0)
                row = {"workload": w.name, "says": w.says, "selectivity": w.selectivity, "near": near[w.name]}
                row |= {"index": entry.name, "recall": round(share.mean, 4), "p5": share.low, "short": share.short}
                row |= {"foreign": share.foreign, "us": round(runs.microseconds(entry, w, 0), 2)}
                rows.append(row)
        print(report.found_table(sorted(rows, key=lambda row: list(near).index(row["workload"]))))
        self.save("found", rows)

    def settings(self) -> runs.Settings:
        return runs.Settings.read(self.built.folder / f"{self.built.name}-settings.json")

    def tune(self) -> None:
        limit = 10_000.0 if len(self.x) < 200_000 else 60_000.0
        entries = peers.all_peers(self.x, self.built, self.wanted, say)
        runs.tune(self.x, entries, self.cases(self.chosen.speed), ours.RECALL, limit, self.settings(), say)

    @property
    def times(self) -> Path:
        return self.built.folder / f"{self.built.name}-times.json"

    def time(self) -> None:
        settings = self.settings()
        cases = [
            each for each in self.cases(self.chosen.speed) if self.chosen.twins or "twin" not in each.workload.name
        ]
        both: dict[str, runs.Times] = json.loads(self.times.read_text()) if self.times.is_file() else {}
        mine, theirs = both.setdefault("ours", {}), both.setdefault("peers", {})

        def keep() -> None:
            self.times.write_text(json.dumps(both, indent=1))

        runs.timed(ours.entries(self.x, self.known, self.built, self.wanted), cases, None, mine, keep, say)
        runs.timed(peers.all_peers(self.x, self.built, self.wanted, say), cases, settings, theirs, keep, say)

    def report(self) -> None:
        both: dict[str, runs.Times] = json.loads(self.times.read_text())
        settings, rows = self.settings(), []
        for w in (each.first(self.chosen.speed) for each in self.workloads if each.name in both["ours"]):
            row = {"workload": w.name, "says": w.says, "selectivity": w.selectivity, "us": both["ours"][w.name]}
            row |= {"peers": both["peers"].get(w.name, {}), "efforts": settings.efforts.get(w.name, {})}
            rows.append(row | {"load_average": None})  # that of now says nothing about then
        self.save("time", rows)
        for spec in rows[0]["us"]:
            table = []
            for row in rows:
                best, factors = report.ratios(row["us"][spec], row["peers"])
                must = report.must_for(row["selectivity"][1])
                table.append(row | {"us": row["us"][spec], "best": best, "ratios": factors, "musts": must})
            print(report.speed_table(spec, table), "\n")

    def regret(self) -> None:
        cases = self.cases(self.chosen.speed)
        for spec, entries in ours.forced(self.x, self.known, self.built, self.wanted):
            ratios, times = runs.regrets(self.x, entries, cases, ours.RECALL)
            total = runs.summary(ratios.values())
            print(f"{spec}: regret mean {total['mean']:.3f}, p95 {total['p95']:.3f}, worst {total['worst']:.2f}")
            for name, ratio in sorted(ratios.items(), key=lambda item: -item[1])[:8]:
                print(f"  {name:14} {ratio:.2f}  " + ", ".join(f"{k} {v:.1f}" for k, v in times[name].items()))
            self.save("regret", [{"index": spec, "regret": total, "ratios": ratios, "us": times}])

    def costs(self) -> None:
        for spec in filter(self.wanted, ours.specs(len(self.x))):
            steps = costs.measured(ours.index_of(spec, self.x, self.known, self.built), self.known[:32])
            print(f"{spec}: " + ", ".join(f"{step} {ns:,.1f} ns" for step, ns in steps.items()))
            self.save("costs", [{"index": spec, "ns": {step: round(ns, 2) for step, ns in steps.items()}}])

    def kept(self) -> None:
        rows: list[dict[str, Any]] = []
        for spec in filter(self.wanted, ours.specs(len(self.x))):
            index = ours.index_of(spec, self.x, self.known, self.built)
            for case in self.cases(self.chosen.speed):
                if "twin" not in case.workload.name and not case.workload.free:
                    rows += [{"index": spec} | row for row in kept.measured(index, self.x, case)]
        print(kept.table(sorted(rows, key=lambda row: row["workload"])))
        self.save("kept", rows)

    def mixed(self) -> None:
        if self.debian is None:
            return
        workload, texts = mixed.mixed(self.debian, self.workloads)
        truth = truth_of(self.exact, self.x, workload)
        rows: list[dict[str, Any]] = []
        for spec in filter(self.wanted, ours.specs(len(self.x))):
            file = self.built.file(f"mixed-{spec}")
            index = ours.index_of(spec, self.x, self.known, self.built)
            index.update(index.ids, attributes=self.debian.frame)
            index.save(file)
            times = [mixed.ours(ts.Index.load(file), workload, texts) for _ in range(5)]
            share = share_found(self.x, workload, truth, times[0][1])
            rows.append({"entry": spec, "s": float(np.median([each[0] for each in times])), "recall": share.mean})
        rows += self.loops(workload, texts, truth)
        for row in rows:
            print(
                f"W15 {row['entry']:16} {row['s'] * 1e3:8.1f} ms  recall {row['recall']:.3f}  {row.get('effort', '')}"
            )
        self.save("mixed", rows)

    def loops(self, workload: Workload, texts: list[str], truth: Any) -> list[dict[str, Any]]:
        import faiss

        faiss.omp_set_num_threads(1)
        assert self.debian is not None
        kinds = [
            ("Flat", (0,), lambda sel, _: faiss.SearchParameters(sel=sel)),
            ("IVF512,Flat", peers.LISTS, lambda sel, n: faiss.SearchParametersIVF(sel=sel, nprobe=n)),
            ("HNSW32", peers.CANDIDATES, lambda sel, n: faiss.SearchParametersHNSW(sel=sel, efSearch=n)),
        ]
        rows = []
        for spec, efforts, parameters in kinds:
            index = peers.faiss_index(faiss, spec, self.x, self.built)

            def search(q: Floats, sel: Any, effort: int, index: Any = index, parameters: Any = parameters) -> Any:
                return index.search(q, 10, params=parameters(sel, effort))[1][0]

            for effort in efforts:
                taken, predicates, ids = mixed.by_loop(search, self.debian.frame, workload, texts, effort)
                recall = share_found(self.x, workload, truth, ids).mean
                if recall >= ours.RECALL or taken > 20:
                    again = [mixed.by_loop(search, self.debian.frame, workload, texts, effort)[0] for _ in range(2)]
                    row = {"entry": f"faiss {spec}", "s": float(np.median([taken, *again])), "recall": recall}
                    rows.append(row | {"effort": effort, "predicates_s": predicates})
                    break
        return rows

    def save(self, kind: str, rows: list[dict[str, Any]]) -> None:
        if self.chosen.save:
            report.save(kind, self.common, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.filtered", description="Filtered searches.")
    parser.add_argument("--data", help="folder of the real sets (or TESSELLA_DATA)")
    parser.add_argument("--made", type=int, help="instead, so many made rows of 384 dimensions")
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--only", nargs="+", help="workloads by the first word of their names")
    parser.add_argument("--twins", action="store_true", help="time the workloads over shuffled rows, too")
    parser.add_argument("--entry", nargs="+", help="indexes whose names begin so")
    parser.add_argument("--queries", type=int, default=500, help="of each workload, to see what is found")
    parser.add_argument("--speed", type=int, default=100, help="… and to time")
    parser.add_argument("--store", default="out/filtered", help="folder for built indexes and settings")
    parser.add_argument("--build-threads", type=int, default=2)
    parser.add_argument("--save", action="store_true", help="append the results to bench/history")
    chosen = parser.parse_args()
    run = Run(chosen)
    print(f"{machine.cpu_model()}; {len(run.x):,} rows")
    for stage in STAGES:
        if stage in chosen.stage:
            getattr(run, stage)()


if __name__ == "__main__":
    main()
