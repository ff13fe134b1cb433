"""Random adds, removals, updates and searches on an index, step by step beside plain NumPy arrays.

    python -m tests.fuzz.operations --operations 100000  # every case, about a minute each
    python -m tests.fuzz.operations --operations 100000 --seed 7 --spec IVF4,PRQ2x2x4 --metric ip

Rows are small whole numbers, so scores have no rounding, ties are many, and every search has one right answer: it
looks into all lists and keeps every error bound. Between the steps the index is compacted, pickled, saved and loaded.
A failure names its operation; the same seed comes to it again.

Product codes alone, such as IVF4,PRQ2x2x4 or Flat,APQ4, keep rows as a ProductQuantizer trained on the same rows says.
Sums of their look-ups are rounded, so a score may be off by as much, and rows as good may change places.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

import tessella as ts

DIM = 20
MOST_ROWS = 1500  # beyond them removals outweigh
CASES = (
    ("IVF16+SOAR,B1+F32", "l2"), ("IVF16+SOAR,B1+F32", "ip"), ("IVF7,F32", "l2"), ("Flat,B1+F32", "ip"),
    ("Graph32,B1+F32", "l2"), ("Graph64,F32", "ip"),
    ("IVF7+SOAR,PQ4x4+F32", "l2"), ("IVF4,PRQ2x2x4", "l2"), ("IVF4+SOAR,PQ5", "ip"), ("IVF4,PRQ5x3x8", "ip"),
    ("Flat,OPQ4x4", "l2"), ("Flat,APQ4", "ip"), ("IVF4+SOAR,APQ5x4", "ip"),
)  # fmt: skip
ROUNDING = 1e-4  # of scores that are sums of look-ups
ALIKE = 0.02  # an anisotropic code may err by so much more: its codewords are found one after another
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spec", help="one of your own (default: every case there is)")
    parser.add_argument("--metric", default="l2", choices=["l2", "ip"], help="of the spec")
    chosen = parser.parse_args()
    for spec, metric in CASES if chosen.spec is None else [(chosen.spec, chosen.metric)]:
        with tempfile.TemporaryDirectory() as folder:
            print(run(Path(folder), chosen.operations, chosen.seed, spec=spec, metric=metric), flush=True)


def run(folder: Path, operations: int, seed: int = 1, *, spec: str, metric: str) -> str:
    pair = Pair(folder, seed, spec, metric)
    for number in range(operations):
        try:
            pair.step()
        except BaseException as error:
            where = f"operation {number} of seed {seed} on {spec}, {metric}"
            raise SystemExit(f"{where}: {type(error).__name__}: {error}") from error
    done = ", ".join(f"{count:,} {name}" for name, count in sorted(pair.tally.items()))
    return (
        f"{operations:,} operations on {spec}, {metric}: {done}; {len(pair.index):,} rows left, all as NumPy has them"
    )


class Pair:
    """An index, and the arrays that it should agree with."""

    def __init__(self, folder: Path, seed: int, spec: str, metric: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.path = folder / "index"
        self.metric = metric
        self.index = ts.Index(spec, dim=DIM, metric=metric)
        first = self.rows(400)
        self.index.train(first)
        self.quantizer = quantizer_of(self.index.config.codecs)
        if self.quantizer is not None:
            self.quantizer.train(first)
        self.ids: Ids = np.empty(0, np.int64)
        self.x: Floats = np.empty((0, DIM), np.float32)
        self.next_id = 0
        self.tally: collections.Counter[str] = collections.Counter()

    def rows(self, n: int) -> Floats:
        """Rows about a few places, many of them equal."""
        places = 4 * self.rng.integers(-3, 4, (12, DIM)) if n > 12 else np.zeros((1, DIM))
        near = self.rng.integers(-2, 3, (n, DIM))
        return (places[self.rng.integers(len(places), size=n)] + near).astype(np.float32)

    def size(self) -> int:
        """Mostly small, now and then beyond a block, seldom large."""
        return int(self.rng.integers([2, 2, 8, 40, 300][self.rng.integers(5)] + 1))

    def step(self) -> None:
        shares = {"searches": 40, "adds": 22, "updates": 18, "removals": 20 if len(self.ids) < MOST_ROWS else 60}
        shares |= {"compactions": 0.5, "files": 0.5, "copies": 0.2, "clearings": 0.05}
        weights = np.array(list(shares.values()))
        name = str(self.rng.choice(list(shares), p=weights / weights.sum()))
        self.tally[name] += 1
        getattr(self, f"_{name}")()
        assert len(self.index) == len(self.ids)

    def _adds(self) -> None:
        x = self.rows(self.size())
        threads = int(self.rng.integers(1, 3))
        if self.rng.random() < 0.5:
            ids = np.arange(self.next_id, self.next_id + len(x))
            self.index.add(x, threads=threads)
        else:
            ids = np.setdiff1d(self.rng.integers(0, self.next_id + 1000, len(x)), self.ids)
            self.rng.shuffle(ids)
            x = x[: len(ids)]
            self.index.add(x, ids=ids, threads=threads)
        x = self.kept(x, ids)
        self.ids, self.x = np.concatenate([self.ids, ids]), np.concatenate([self.x, x])
        self.next_id = max(self.next_id, int(ids.max(initial=-1)) + 1)

    def _removals(self) -> None:
        which = self.some()
        assert self.index.remove(self.ids[which]) == len(which)
        self.ids, self.x = np.delete(self.ids, which), np.delete(self.x, which, axis=0)

    def _updates(self) -> None:
        which = self.some()
        x = self.rows(len(which))
        self.index.update(self.ids[which], x, threads=int(self.rng.integers(1, 3)))
        self.x[which] = self.kept(x, self.ids[which])

    def _clearings(self) -> None:
        self.index.remove(self.rng.permutation(self.ids))
        self.ids, self.x = self.ids[:0], self.x[:0]

    def _compactions(self) -> None:
        self.index.compact()
        self.check_all()

    def _files(self) -> None:
        self.index.save(self.path)
        self.index = ts.Index.load(self.path, mmap=bool(self.rng.integers(2)))
        self.check_all()

    def _copies(self) -> None:
        self.index = pickle.loads(pickle.dumps(self.index))
        self.check_all()

    def _searches(self) -> None:
        q, k = self.rows(int(self.rng.integers(1, 6))), int(self.rng.integers(1, 25))
        effort = {self.index.knob: 1 << 20} if self.index.knob else {}
        found = self.index.search(q, k, epsilon=100, threads=int(self.rng.integers(1, 3)), **effort)
        ids, scores = self.best(q, k)
        if self.quantizer is not None:
            self.check_rounded(q, found, ids, scores)
            return
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_array_equal(found.scores, scores)

    def some(self) -> npt.NDArray[np.intp]:
        """Places of a few rows, in any order."""
        return self.rng.permutation(len(self.ids))[: self.size()]

    def kept(self, x: Floats, ids: Ids) -> Floats:
        """Rows as the index keeps them now: in product codes, of codewords that tie either may be taken."""
        if self.quantizer is None or not len(x):
            return x
        expected, held = self.quantizer.decode(self.quantizer.encode(x)), self.index.reconstruct(ids)
        other = ~np.isclose(held, expected, rtol=ROUNDING, atol=ROUNDING).all(axis=1)
        off, least = (np.square(rows[other] - x[other]).sum(axis=1) for rows in (held, expected))
        slack = ROUNDING if self.quantizer.anisotropic is None else ALIKE
        assert (off <= (1 + slack) * least + ROUNDING).all(), f"a code errs {(off / least).max()} times as much"
        return held

    def check_rounded(self, q: Floats, found: ts.Hits, ids: Ids, scores: Floats) -> None:
        """Hits are the best there are, in their order, but for the rounding."""
        limit = ROUNDING * max(1.0, float(np.abs(self.scores(q)).max(initial=0)))
        np.testing.assert_allclose(found.scores, scores, rtol=0, atol=limit)
        np.testing.assert_array_equal(found.ids < 0, ids < 0)
        place = {int(id): row for row, id in enumerate(self.ids)}
        for every, one, values in zip(self.scores(q), found.ids, found.scores, strict=True):
            real = one[one >= 0]
            assert len(set(real.tolist())) == len(real)
            np.testing.assert_allclose(every[[place[int(id)] for id in real]], values[one >= 0], rtol=0, atol=limit)
            assert (np.diff(real)[np.diff(values[one >= 0]) == 0] > 0).all()  # ties to the smaller id

    def scores(self, q: Floats) -> Floats:
        """Of all rows (nq, n)."""
        return np.square(q[:, None] - self.x).sum(-1) if self.metric == "l2" else q @ self.x.T

    def best(self, q: Floats, k: int) -> tuple[Ids, Floats]:
        """The k best of all rows, ties to the smaller id, with what pads them."""
        worst, scores = np.inf if self.metric == "l2" else -np.inf, self.scores(q)
        first = scores if self.metric == "l2" else -scores
        order = np.lexsort((np.broadcast_to(self.ids, scores.shape), first))[:, :k]
        missing = ((0, 0), (0, k - order.shape[1]))
        return (
            np.pad(self.ids[order], missing, constant_values=-1),
            np.pad(np.take_along_axis(scores, order, axis=1), missing, constant_values=worst),
        )

    def check_all(self) -> None:
        """Every row is there and as it was given; every list entry is accounted for."""
        assert sorted(self.index.ids.tolist()) == sorted(self.ids.tolist())
        np.testing.assert_array_equal(self.index.reconstruct(self.ids), self.x)
        lists = self.index.list_sizes
        if len(lists):
            assert lists.sum() == len(self.ids) * (2 if self.index.config.soar and len(lists) > 1 else 1)


def quantizer_of(codecs: tuple[str, ...]) -> ts.ProductQuantizer | None:
    """What product codes that stand alone are made by; None where the finest codec keeps every number."""
    named = re.fullmatch(r"([OA]?)P(R?)Q(\d+)(?:x(\d+))??(?:x([48]))?", codecs[-1])
    if named is None:
        return None
    kind, residual, m, levels, bits = named.groups()
    return ts.ProductQuantizer(
        DIM, int(m), int(bits or 8), opq=kind == "O", residual_levels=int(levels or 1) if residual else 1,
        anisotropic=0.2 if kind == "A" else None,
    )  # fmt: skip


if __name__ == "__main__":
    main()
