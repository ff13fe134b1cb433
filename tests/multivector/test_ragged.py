"""The door for token vectors: every shape they come in gives the same documents, and mistakes get a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tessella as ts
from tessella._ragged import Ragged, as_ragged, check_finite

LENGTHS = (3, 0, 1, 7, 0)


def documents(rng: np.random.Generator, dtype: str = "float32", d: int = 6) -> list[Any]:
    return [rng.integers(-9, 10, (t, d)).astype(dtype) for t in LENGTHS]


def same(ragged: Ragged, wanted: list[Any]) -> None:
    assert ragged.n == len(wanted)
    assert ragged.offsets.dtype == np.int64
    assert ragged.flat.flags.c_contiguous
    assert list(ragged.lengths) == [len(each) for each in wanted]
    for i, each in enumerate(wanted):
        assert np.array_equal(ragged.flat[ragged.offsets[i] : ragged.offsets[i + 1]], each)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_lists_pairs_and_padded_arrays_are_the_same_documents(rng: np.random.Generator, dtype: str) -> None:
    listed = documents(rng, dtype)
    flat, offsets = np.concatenate(listed), np.cumsum([0, *LENGTHS])
    mask = np.arange(9) < np.array(LENGTHS)[:, None]
    padded = np.full((len(LENGTHS), 9, 6), 99, dtype)
    padded[mask] = flat
    for tokens, given in [
        (listed, None),
        (tuple(listed), None),
        ((flat, offsets), None),
        ((flat, offsets.astype(np.uint32)), None),
        ((flat, list(offsets)), None),
        (padded, mask),
        (padded, mask.astype(np.int32)),
    ]:
        ragged = as_ragged("add", tokens, dim=6, mask=given)
        same(ragged, listed)
        assert ragged.flat.dtype == dtype
        assert ragged.kind == {"float32": "f32", "float16": "f16", "int8": "i8"}[dtype]
        assert not ragged.torch
    objects = np.empty(len(listed), object)
    objects[:] = listed
    same(as_ragged("add", objects), listed)


def test_what_can_be_read_as_it_lies_is_not_copied(rng: np.random.Generator) -> None:
    flat = rng.standard_normal((11, 6), dtype=np.float32)
    assert np.shares_memory(as_ragged("add", (flat, [0, 11])).flat, flat)
    assert np.shares_memory(as_ragged("add", flat.reshape(1, 11, 6)).flat, flat)
    ragged = as_ragged("add", flat)
    assert ragged.single and ragged.n == 1 and np.shares_memory(ragged.flat, flat)
    assert as_ragged("add", ragged) is ragged


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8", ">f4"])
def test_other_numbers_become_float32(rng: np.random.Generator, dtype: str) -> None:
    listed = [np.abs(each) for each in documents(rng)]
    ragged = as_ragged("add", [each.astype(dtype) for each in listed])
    same(ragged, listed)
    assert ragged.kind == "f32" and ragged.flat.dtype == np.float32


def test_documents_without_tokens_have_no_say_in_the_type() -> None:
    ragged = as_ragged("add", [np.empty((0, 4)), np.ones((2, 4), np.float16), [], np.empty((0, 0))])
    assert ragged.kind == "f16" and list(ragged.offsets) == [0, 0, 2, 2, 2]
    for none in ([], [[]], [np.empty((0, 4), np.float16)]):
        empty = as_ragged("add", none, dim=4)
        assert empty.flat.shape == (0, 4) and empty.n == len(none)
    assert as_ragged("add", np.empty((3, 0, 4))).n == 3


def test_torch_comes_in_and_is_told(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    listed = documents(rng)
    for dtype, kind in [(torch.float32, "f32"), (torch.float16, "f16"), (torch.bfloat16, "bf16"), (torch.int8, "i8")]:
        tensors = [torch.from_numpy(each).to(dtype) for each in listed]
        ragged = as_ragged("add", tensors)
        assert ragged.kind == kind and ragged.torch
        values = (ragged.flat.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else ragged.flat
        same(ragged._replace(flat=values), listed)
        pair = as_ragged("add", (torch.cat(tensors), torch.tensor(np.cumsum([0, *LENGTHS]))))
        assert np.array_equal(pair.flat, ragged.flat) and pair.kind == kind and pair.torch
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in listed], batch_first=True)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    same(as_ragged("add", padded, mask=mask), listed)


def test_dlpack_comes_in(rng: np.random.Generator) -> None:
    class Sealed:  # speaks DLPack alone
        def __init__(self, array: Any) -> None:
            self._array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self._array.__dlpack_device__()

    listed = documents(rng)
    same(as_ragged("add", [Sealed(each) for each in listed]), listed)


def test_slices_hold_whole_documents(rng: np.random.Generator) -> None:
    listed = documents(rng)
    ragged = as_ragged("add", listed)
    for tokens in (1, 3, 4, 100):
        seen: list[Any] = []
        for first, part in ragged.slices(tokens):
            assert first == len(seen)
            assert len(part.flat) <= tokens or part.n == 1
            assert np.shares_memory(part.flat, ragged.flat) or len(part.flat) == 0
            seen += [part.flat[a:b] for a, b in zip(part.offsets[:-1], part.offsets[1:], strict=True)]
        assert len(seen) == len(listed)
        assert all(np.array_equal(a, b) for a, b in zip(seen, listed, strict=True))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found(rng: np.random.Generator, kind: str, value: float) -> None:
    listed = documents(rng)
    listed[3][4, 5] = value
    if kind == "bfloat16":
        torch = pytest.importorskip("torch", reason="torch is an extra")
        ragged = as_ragged("add", [torch.from_numpy(each).to(torch.bfloat16) for each in listed])
    else:
        ragged = as_ragged("add", [each.astype(kind) for each in listed])
    with pytest.raises(ts.InvalidArgument, match="add: expected finite tokens; token 4 of number 3 has a NaN"):
        check_finite("add", ragged)
    check_finite("add", ragged.part(0, 3))


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    flat, one = rng.standard_normal((5, 4), dtype=np.float32), np.ones((2, 4), np.float32)
    mistakes: list[tuple[Any, dict[str, Any], str]] = [
        ((flat, [0, 4]), {}, "expected offsets that rise from 0 to the number of tokens, 5; got [0 4]"),
        ((flat, [1, 5]), {}, "got [1 5]"),
        ((flat, [0, 3, 2, 5]), {}, "got [0 3 2 5]"),
        ((flat, np.array([0, 2**64 - 1, 5], np.uint64)), {}, "expected offsets that rise"),
        ((flat, np.empty(0, np.int64)), {}, "expected offsets that rise"),
        ((flat, np.array([0.0, 5.0])), {}, "expected offsets of an integer type; got float64"),
        ((flat[0], [0, 4]), {}, "expected flat tokens of shape (T, d); got (4,)"),
        ([one, flat[:, :3]], {}, "expected tokens of one type and length; got 4 and 3"),
        ([one, one.astype(np.float16)], {}, "expected tokens of one type and length; got f32 and f16"),
        ([one, flat[0]], {}, "expected tokens[1] of shape (t, d); got (4,)"),
        ([one, one.astype(complex)], {}, "expected tokens[1] of type float32, float16, bfloat16 or int8; got complex"),
        ([], {}, "expected tokens with a document of shape (t, d); got none"),
        (flat, {"dim": 3}, "expected tokens of 3 numbers each; got 4"),
        ([one], {"dim": 3}, "expected tokens of 3 numbers each; got 4"),
        (np.empty((2, 3, 0), np.float32), {}, "expected tokens of at least one number each; got 0"),
        (flat[0], {}, "or an array of shape (n, t, d) or (t, d); got shape (4,)"),
        (flat, {"mask": np.ones(5)}, "expected a mask with padded tokens (n, t, d) only"),
        ([one], {"mask": np.ones((1, 2))}, "expected a mask with padded tokens (n, t, d) only"),
        (
            one[None],
            {"mask": np.ones((1, 3), bool)},
            "expected mask of shape (1, 2), of bool or",
        ),
        (one[None], {"mask": np.ones((1, 2))}, "got (1, 2), float64"),
        ("text", {}, "expected tokens of type float32, float16, bfloat16 or int8; got <U4"),
    ]
    for tokens, options, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            as_ragged("add", tokens, **options)
        assert message in str(caught.value), (tokens, str(caught.value))
