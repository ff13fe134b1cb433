"""Pooling: every level against the reference, through the public face; and the operator of torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella import _core
from tessella.pooling import MODES
from tessella.reference import pooling as reference
from tests.kernels.cases import Array, assert_close, same_bits

SHAPES = [(1, 1, 1), (3, 7, 31), (7, 33, 64), (9, 5, 127), (2, 130, 100), (17, 4, 256)]


def states(rng: np.random.Generator, n: int, t: int, d: int, holes: bool = False) -> tuple[Array, Array]:
    """Hidden states and a mask: right-padded, or with holes anywhere; some rows are full, one may be empty."""
    hidden = rng.standard_normal((n, t, d)).astype(np.float32)
    lengths = rng.integers(1, t + 1, n)
    lengths[0] = t
    mask = np.arange(t) < lengths[:, None]
    if holes:
        mask &= rng.random((n, t)) < 0.6
    if n > 2:
        mask[1] = False
    return hidden, mask.astype(np.int64)


def expected(hidden: Array, mask: Array, modes: list[str], skip: int = 0) -> Array:
    _, t, d = hidden.shape
    segments = []
    for i, row in enumerate(mask):
        places = np.flatnonzero(row)
        first, end = (places[0], places[-1] + 1) if len(places) else (0, 0)
        segments.append((i * t + first, i * t + min(first + skip, end), i * t + end))
    return reference.pooling_forward(hidden.reshape(-1, d), mask.reshape(-1), segments, modes)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_mode(level: str, rng: np.random.Generator, shape: tuple[int, ...], mode: str, holes: bool) -> None:
    hidden, mask = states(rng, *shape, holes=holes)
    magnitude = 4.0 if mode != "mean_sqrt" else 4.0 * np.sqrt(shape[1])
    assert_close(ts.pool(hidden, mask, mode=mode, normalize=False), expected(hidden, mask, [mode]), magnitude)


@pytest.mark.parametrize("skip", [0, 3])
def test_several_modes_stand_side_by_side(level: str, rng: np.random.Generator, skip: int) -> None:
    hidden, mask = states(rng, 9, 21, 40, holes=True)
    wanted = expected(hidden, mask, list(MODES), skip)
    got = ts.pool(hidden, mask, mode=MODES, normalize=False, instruction_lengths=skip)
    assert_close(got, wanted, 20.0)
    assert_close(ts.pool(hidden, mask, mode=MODES, instruction_lengths=skip), reference.finish(wanted), 4.0)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_types_of_states(level: str, rng: np.random.Generator, kind: str) -> None:
    hidden, mask = states(rng, 5, 9, 37)
    given: Any = hidden.astype(kind if kind != "bfloat16" else np.float32)
    if kind == "bfloat16":
        torch = pytest.importorskip("torch", reason="torch is an extra")
        given = torch.from_numpy(hidden).bfloat16()
        hidden = given.float().numpy()
    else:
        hidden = given.astype(np.float32)
    got = ts.pool(given, mask, mode=["mean", "max"], normalize=False)
    assert type(got) is type(given)
    assert_close(np.asarray(got), expected(hidden, mask, ["mean", "max"]), 4.0)


def test_flat_is_padded_without_padding(level: str, rng: np.random.Generator) -> None:
    hidden, mask = states(rng, 8, 19, 48)
    mask[1, :4] = 1
    flat = hidden[mask > 0]
    starts = np.concatenate([[0], np.cumsum(mask.sum(1))])
    for mode in MODES:
        padded = ts.pool(hidden, mask, mode=mode, instruction_lengths=2)
        assert same_bits(ts.pool(flat, cu_seqlens=starts, mode=mode, instruction_lengths=2), padded)


def test_padding_on_the_left_is_padding(level: str, rng: np.random.Generator) -> None:
    hidden, mask = states(rng, 8, 19, 48)
    left = hidden.copy(), mask.copy()
    for i, length in enumerate(mask.sum(1)):
        left[0][i], left[1][i] = np.roll(hidden[i], 19 - length, axis=0), np.roll(mask[i], 19 - length)
    for mode in MODES:
        assert same_bits(ts.pool(*left, mode=mode), ts.pool(hidden, mask, mode=mode))


def test_padding_is_never_read(level: str, rng: np.random.Generator) -> None:
    hidden, mask = states(rng, 6, 12, 33, holes=True)
    plain = ts.pool(hidden, mask, mode=MODES)
    hidden[mask == 0] = np.nan
    assert same_bits(ts.pool(hidden, mask, mode=MODES), plain)


def test_spans(level: str, rng: np.random.Generator) -> None:
    hidden, mask = states(rng, 3, 20, 24)
    mask[1, :9] = 1
    spans = [[(0, 5), (3, 9), (4, 4)], [], [(0, 1)]]
    table = np.array([(0, 0, 5), (0, 3, 9), (0, 4, 4), (2, 0, 1)])
    got = ts.pool(hidden, mask, spans=spans, mode=["mean", "weighted_mean"], normalize=False)
    segments = [(i * 20 + a, i * 20 + a, i * 20 + b) for i, a, b in table]
    wanted = reference.pooling_forward(hidden.reshape(-1, 24), mask.reshape(-1), segments, ["mean", "weighted_mean"])
    assert_close(got, wanted, 4.0)
    assert same_bits(got, ts.pool(hidden, mask, spans=table, mode=["mean", "weighted_mean"], normalize=False))
    assert not got[2].any()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dim", [None, 1, 19])
def test_projection_truncation_and_length(level: str, rng: np.random.Generator, dim: int | None, bias: bool) -> None:
    hidden, mask = states(rng, 11, 9, 53)
    modes = ["mean", "last"]
    dense = (rng.standard_normal((31, 106)).astype(np.float32), rng.standard_normal(31).astype(np.float32))
    got = ts.pool(hidden, mask, mode=modes, dim=dim, dense=(dense[0], dense[1] if bias else None), normalize=False)
    pooled = expected(hidden, mask, modes)
    wanted = reference.finish(pooled, dense[0], dense[1] if bias else None, dim, normalize=False)
    assert_close(got, wanted, 106.0)
    unit = ts.pool(hidden, mask, mode=modes, dim=dim, dense=(dense[0], dense[1] if bias else None))
    np.testing.assert_allclose(np.linalg.norm(unit[np.linalg.norm(got, axis=1) > 0], axis=1), 1.0, rtol=1e-6)
    cut = ts.pool(hidden, mask, mode=modes, dim=dim)
    kept = pooled.reshape(11, 2, 53)[:, :, :dim].reshape(11, -1)
    assert_close(cut, reference.finish(kept), 4.0)


@pytest.mark.parametrize("width", [1, 7, 64, 100, 131])
def test_casts(level: str, rng: np.random.Generator, width: int) -> None:
    hidden, mask = states(rng, 9, 6, width)
    y = ts.pool(hidden, mask)
    assert same_bits(ts.pool(hidden, mask, dtype="float16"), reference.cast(y, "float16"))
    assert same_bits(ts.pool(hidden, mask, dtype="binary"), reference.cast(y, "binary"))
    assert same_bits(ts.pool(hidden, mask, dtype="int8"), reference.cast(y, "int8", np.float32(127)))
    scale = rng.uniform(50, 900, width).astype(np.float32)  # some are clipped
    assert same_bits(ts.pool(hidden, mask, dtype="int8", scale=scale), reference.cast(y, "int8", scale))


def test_halves_round_as_numpy_does(level: str) -> None:
    values = np.array([0, 1, 65519, 65520, 1e9, 6e-8, 2.9e-8, 1e-9, 2049, 2051, np.inf], np.float32)
    hidden = np.concatenate([values, -values])[None, None]
    with np.errstate(over="ignore"):
        assert same_bits(ts.pool(hidden, normalize=False, dtype="float16"), hidden[0].astype(np.float16))


def test_results_do_not_depend_on_the_batch_nor_on_threads(level: str, rng: np.random.Generator) -> None:
    hidden, mask = states(rng, 40, 17, 65, holes=True)
    dense = (rng.standard_normal((20, 65)).astype(np.float32), None)
    whole = ts.pool(hidden, mask, dense=dense, threads=3)
    assert same_bits(whole, ts.pool(hidden, mask, dense=dense, threads=1))
    assert same_bits(whole[7:9], ts.pool(hidden[7:9], mask[7:9], dense=dense))


@pytest.mark.parametrize("values", [1e-30, 1e25])
def test_short_and_long_vectors(level: str, rng: np.random.Generator, values: float) -> None:
    hidden, mask = states(rng, 4, 5, 30)
    hidden *= np.float32(values)
    assert_close(ts.pool(hidden, mask), reference.finish(expected(hidden, mask, ["mean"])), 4.0)


def test_nothing_gives_nothing(level: str) -> None:
    assert ts.pool(np.zeros((0, 5, 8), np.float32)).shape == (0, 8)
    empty = ts.pool(np.ones((2, 0, 8), np.float32), np.ones((2, 0)), mode=MODES)
    assert empty.shape == (2, 48) and not empty.any()
    assert ts.pool(np.ones((3, 8), np.float32), cu_seqlens=[0], dtype="binary").shape == (0, 1)


# ---- gradients


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_the_reference(level: str, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    hidden, mask = states(rng, *shape, holes=True)
    n, t, d = shape
    segments = np.array(
        [(i * t + a, i * t + (a + b) // 2, i * t + b) for i in range(n) for a, b in [(0, t), (t // 3, t)]]
    )
    weights = rng.standard_normal((len(segments), len(MODES) * d)).astype(np.float32)
    flat, counted = hidden.reshape(-1, d), mask.reshape(-1)
    got = _core.pooling_backward(
        flat, kind="f32", segments=segments.astype(np.uint64), mask=counted.astype(np.uint8), modes=list(MODES),
        pooled_gradient=weights, threads=2,
    )  # fmt: skip
    wanted = reference.pooling_backward(flat, counted, [tuple(each) for each in segments], MODES, weights)
    assert_close(got, wanted, 30.0)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is an extra")


def plain(torch: Any, hidden: Any, mask: Any, mode: str) -> Any:
    """What torch makes of it, for masks without empty rows and of right padding."""
    m = mask[:, :, None].to(hidden.dtype)
    last = mask.sum(1) - 1
    places = torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype)[None, :, None] * m
    return {
        "mean": lambda: (hidden * m).sum(1) / m.sum(1),
        "mean_sqrt": lambda: (hidden * m).sum(1) / m.sum(1).sqrt(),
        "weighted_mean": lambda: (hidden * places).sum(1) / places.sum(1),
        "max": lambda: hidden.masked_fill(m == 0, -torch.inf).max(1)[0],
        "cls": lambda: hidden[:, 0],
        "last": lambda: hidden[torch.arange(len(hidden)), last],
    }[mode]()


@pytest.mark.parametrize("mode", MODES)
def test_torch_differentiates_through_it(level: str, rng: np.random.Generator, torch: Any, mode: str) -> None:
    array, counted = states(rng, 6, 11, 20)
    counted[1, :3] = 1
    mask = torch.from_numpy(counted)
    results = []
    for dtype in (torch.float32, torch.float64):
        hidden = torch.tensor(array, dtype=dtype, requires_grad=True)
        weight = torch.tensor(np.linspace(-1, 1, 240).reshape(12, 20), dtype=dtype, requires_grad=True)
        bias = torch.linspace(0, 1, 12, dtype=dtype, requires_grad=True)
        if dtype == torch.float32:
            y = ts.pool(hidden, mask, mode=mode, dense=(weight, bias), dim=8)
        else:
            y = torch.nn.functional.linear(plain(torch, hidden, mask, mode), weight, bias)[:, :8]
            y = torch.nn.functional.normalize(y, dim=1)
        (y * torch.arange(48, dtype=dtype).reshape(6, 8)).sum().backward()
        results.append([y.detach(), hidden.grad, weight.grad, bias.grad])
    for got, wanted in zip(*results, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-6 * float(wanted.abs().max()))


def test_the_operator_is_a_good_citizen_of_torch(rng: np.random.Generator, torch: Any) -> None:
    from tessella import pooling_op

    array, counted = states(rng, 4, 6, 10)
    hidden, mask = torch.tensor(array, requires_grad=True), torch.from_numpy(counted)
    starts, spans = torch.tensor([0, 6, 24]), torch.tensor([[0, 0, 3], [1, 2, 10]])
    flat = torch.tensor(array.reshape(24, 10), requires_grad=True)
    bf16 = torch.tensor(array).bfloat16().requires_grad_()
    for given in (
        (hidden, mask, None, None, None, "mean,max"),
        (flat, None, starts, spans, torch.tensor([1, 0]), "weighted_mean,cls"),
        (bf16, mask, None, None, None, "last"),
    ):
        torch.library.opcheck(pooling_op.pooled, given)


def test_compiled_and_exported(rng: np.random.Generator, torch: Any) -> None:
    array, counted = states(rng, 4, 6, 10)
    mask = torch.from_numpy(counted)

    class Model(torch.nn.Module):  # type: ignore[misc]
        def forward(self, hidden: Any, mask: Any) -> Any:
            from tessella import pooling_op

            return pooling_op.pool(hidden * 2, mask, mode=["mean", "last"], dim=4)

    hidden = torch.tensor(array, requires_grad=True)
    eager = Model()(hidden, mask)
    compiled = torch.compile(Model(), backend="aot_eager", fullgraph=True)(hidden, mask)
    exported = torch.export.export(Model(), (hidden, mask)).module()(hidden, mask)
    assert torch.equal(eager, compiled) and torch.equal(eager, exported)
    compiled.sum().backward()
    got = hidden.grad.clone()
    hidden.grad = None
    Model()(hidden, mask).sum().backward()
    assert torch.equal(got, hidden.grad)


DTYPES = ("float32", "float16", "int8", "binary")


def whole_graph(dtype: str, torch: Any) -> Any:
    """A model that ends in `ts.pool`, and what it is called with: flat rows, a projection, Matryoshka."""

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(20, 12)

        def forward(self, hidden: Any, starts: Any) -> Any:
            dense = (self.linear.weight, self.linear.bias)
            scale = self.linear.bias.detach().abs() + 100
            return ts.pool(
                hidden * 2, mode=["mean", "last"], cu_seqlens=starts, dense=dense, dim=11, dtype=dtype,
                scale=scale[:11],
            )  # fmt: skip

    torch.manual_seed(0)
    return Model(), (torch.randn(13, 10), torch.tensor([0, 4, 4, 13]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_compiles_and_exports_as_one_graph(dtype: str, torch: Any) -> None:
    model, given = whole_graph(dtype, torch)
    eager = model(*given)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(*given)
    program = torch.export.export(model, given)
    for found in (compiled, program.module()(*given)):
        assert found.dtype == eager.dtype
        if dtype == "float32":  # the projection is torch's there
            assert torch.allclose(found, eager, atol=1e-6)
        else:
            assert torch.equal(found, eager)
    wanted = "tessella.pool.default" if dtype == "float32" else "tessella.pool_quantized.default"
    assert wanted in {str(node.target) for node in program.graph.nodes}


@pytest.mark.parametrize("dtype", DTYPES)
def test_padded_states_compile_with_options_as_they_are(dtype: str, torch: Any) -> None:
    """`ts.pool` itself, its defaults and numbers for scale and instructions."""
    hidden, mask = torch.randn(3, 5, 8), torch.ones(3, 5)
    pool = torch.compile(ts.pool, backend="aot_eager", fullgraph=True)
    for more in ({}, {"instruction_lengths": 2, "scale": 50.0, "normalize": False, "mode": "cls"}):
        assert torch.allclose(pool(hidden, mask, dtype=dtype, **more), ts.pool(hidden, mask, dtype=dtype, **more))


def test_compiled_calls_refuse_what_eager_ones_do(torch: Any) -> None:
    pool = torch.compile(ts.pool, backend="aot_eager")
    for error, options in (("dtype 'float32', 'float16'", {"dtype": "int4"}), ("dim from 1 to 3", {"dim": 4})):
        with pytest.raises(ts.InvalidArgument, match=f"pool: expected {error}"):
            pool(torch.ones(1, 2, 3), dtype=options.pop("dtype", "int8"), **options)
    with pytest.raises(ts.InvalidArgument, match="expected dtype 'float32' where a gradient is asked for; got 'int8'"):
        pool(torch.ones(1, 2, 3, requires_grad=True), dtype="int8")


def test_gradients_are_of_float32_results(rng: np.random.Generator, torch: Any) -> None:
    hidden = torch.ones(1, 2, 3, requires_grad=True)
    with pytest.raises(ts.InvalidArgument, match="expected dtype 'float32' where a gradient is asked for; got 'int8'"):
        ts.pool(hidden, dtype="int8")
    with torch.no_grad():
        assert ts.pool(hidden, dtype="int8").dtype == torch.int8


def test_pooling_arrays_does_not_import_torch() -> None:
    code = "import sys, numpy, tessella; tessella.pool(numpy.ones((1, 2, 3), 'f4')); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mistakes_get_a_sentence() -> None:
    hidden = np.ones((2, 4, 6), np.float32)
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"mask": np.ones((2, 5))}, r"pool: expected mask of shape \(2, 4\); got \(2, 5\)"),
        ({"mode": "sum"}, "pool: expected mode as one to six of mean, cls"),
        ({"mode": []}, "pool: expected mode as one to six of"),
        ({"dim": 7}, "pool: expected dim from 1 to 6; got 7"),
        ({"dim": 0}, "pool: expected dim >= 1; got 0"),
        ({"dtype": "int4"}, "pool: expected dtype 'float32', 'float16', 'int8' or 'binary'; got 'int4'"),
        ({"cu_seqlens": [0, 8]}, r"pool: expected hidden of shape \(tokens, d\) with cu_seqlens; got \(2, 4, 6\)"),
        ({"spans": [[(0, 1)]]}, "pool: expected spans of 2 sequences; got 1"),
        ({"spans": [[(0, 5)], []]}, r"pool: expected spans inside of their sequences; got \[0, 0, 5\]"),
        ({"instruction_lengths": [1]}, r"pool: expected instruction_lengths of 2 numbers >= 0; got \[1\]"),
        ({"dense": (np.ones((3, 5)), None)}, r"pool: expected dense weight of shape \(n, 6\); got \(3, 5\)"),
        ({"dense": (np.ones((3, 6)), np.ones(2))}, r"pool: expected dense bias of shape \(3,\)"),
        ({"dtype": "int8", "scale": np.ones(5)}, r"pool: expected scale as a finite number or \(6,\) of them"),
        ({"threads": 0}, "pool: expected threads >= 1; got 0"),
    ]
    for wrong, message in mistakes:
        with pytest.raises(ts.TessellaError, match=message):
            ts.pool(hidden, **wrong)
    with pytest.raises(ts.InvalidArgument, match=r"pool: expected cu_seqlens rising from 0 to at most 4; got \[0, 5\]"):
        ts.pool(hidden[0], cu_seqlens=[0, 5])
    with pytest.raises(ts.InvalidArgument, match=r"segments first <= begin <= end <= 4; got 1, 0, 2 at segment 0"):
        _core.pooling_backward(
            hidden[0], kind="f32", segments=np.array([[1, 0, 2]], np.uint64), modes=["mean"],
            pooled_gradient=hidden[0, :1], threads=1,
        )  # fmt: skip
