"""Token vectors at the door: every form they come in gives the same documents, and mistakes get a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tessella as ts

LENGTHS = (3, 0, 1, 7, 0)


def documents(rng: np.random.Generator, dtype: str = "float32", d: int = 6) -> list[Any]:
    """Of whole numbers, which every type holds."""
    return [rng.integers(-9, 10, (t, d)).astype(dtype) for t in LENGTHS]


def scores(rng: np.random.Generator, tokens: Any, **options: Any) -> Any:
    queries = np.random.default_rng(0).integers(-9, 10, (2, 4, 6)).astype(np.float32)
    return ts.maxsim(queries, tokens, **options)


def exact(listed: list[Any]) -> Any:
    queries = np.random.default_rng(0).integers(-9, 10, (2, 4, 6)).astype(float)
    return [[(q @ x.astype(float).T).max(1).sum() if len(x) else -np.inf for x in listed] for q in queries]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int32", ">f4"])
def test_lists_pairs_and_padded_arrays_are_the_same_documents(rng: np.random.Generator, dtype: str) -> None:
    listed = documents(rng, dtype)
    flat, offsets = np.concatenate(listed), np.cumsum([0, *LENGTHS])
    mask = np.arange(9) < np.array(LENGTHS)[:, None]
    padded = np.full((len(LENGTHS), 9, 6), 99, dtype)
    padded[mask] = flat
    objects = np.empty(len(listed), object)
    objects[:] = listed
    for tokens, given in [
        (listed, None),
        (tuple(listed), None),
        (objects, None),
        ([x.tolist() for x in listed], None),
        ((flat, offsets), None),
        ((flat, offsets.astype(np.uint32)), None),
        ((flat, list(offsets)), None),
        ((np.repeat(flat, 2, axis=0)[::2], offsets), None),
        (padded, mask),
        (padded, mask.astype(np.int32)),
        (padded[:, ::-1], mask[:, ::-1]),
    ]:
        assert np.array_equal(scores(rng, tokens, mask=given), exact(listed))
    assert np.array_equal(scores(rng, listed[3]), exact(listed[3:4]))  # one document


def test_bytes_are_numbers_too(rng: np.random.Generator) -> None:
    listed = documents(rng, "int8")
    queries = rng.integers(-9, 10, (4, 6)).astype(np.int8)
    wanted = ts.maxsim(queries.astype(np.float32), [x.astype(np.float32) for x in listed])
    assert np.array_equal(ts.maxsim(queries, listed), wanted)


def test_documents_without_tokens_have_no_say_in_the_type(rng: np.random.Generator) -> None:
    x = rng.integers(-9, 10, (2, 6)).astype(np.float16)
    got = scores(rng, [np.empty((0, 6)), x, [], np.empty((0, 0))])
    assert np.array_equal(got[:, 1], np.array(exact([x]))[:, 0])
    assert (np.delete(got, 1, axis=1) == -np.inf).all()
    assert scores(rng, np.empty((3, 0, 6))).shape == (2, 3)


def test_torch_comes_in(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    listed = documents(rng)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensors = [torch.from_numpy(each).to(dtype) for each in listed]
        assert np.array_equal(scores(rng, tensors), exact(listed))
        pair = torch.cat(tensors), torch.tensor(np.cumsum([0, *LENGTHS]))
        assert np.array_equal(scores(rng, pair), exact(listed))
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in listed], batch_first=True)
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    assert np.array_equal(scores(rng, padded, mask=mask), exact(listed))


def test_dlpack_comes_in(rng: np.random.Generator) -> None:
    class Sealed:  # speaks DLPack alone
        def __init__(self, array: Any) -> None:
            self._array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self._array.__dlpack_device__()

    listed = documents(rng)
    assert np.array_equal(scores(rng, [Sealed(each) for each in listed]), exact(listed))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found(rng: np.random.Generator, kind: str, value: float) -> None:
    listed = documents(rng)
    listed[3][4, 5] = value
    tokens: list[Any] = [each.astype(np.float16) for each in listed] if kind == "float16" else listed
    if kind == "bfloat16":
        torch = pytest.importorskip("torch", reason="torch is an extra")
        tokens = [torch.from_numpy(each).to(torch.bfloat16) for each in listed]
    ix = ts.MultiVectorIndex(ts.FDE(6, k_sim=1, repetitions=1, projection_dim=4))
    with pytest.raises(ts.InvalidArgument, match="add: expected finite documents; token 4 of number 3 has a NaN"):
        ix.add(tokens)
    ix.add(tokens[:3])
    assert len(ix) == 3


def test_mistakes_get_a_sentence(rng: np.random.Generator) -> None:
    flat, one = rng.standard_normal((5, 6), dtype=np.float32), np.ones((2, 6), np.float32)
    numbers = "expected documents of type float32, float16, bfloat16 or int8"
    mistakes: list[tuple[Any, Any, str]] = [
        ((flat, [0, 4]), None, "expected offsets that rise from 0 to the number of documents, 5; got [0 4]"),
        ((flat, [1, 5]), None, "got [1 5]"),
        ((flat, [0, 3, 2, 5]), None, "got [0 3 2 5]"),
        ((flat, np.array([0, 2**64 - 1, 5], np.uint64)), None, "expected offsets that rise"),
        ((flat, np.empty(0, np.int64)), None, "expected offsets that rise"),
        ((flat, np.array([0.0, 5.0])), None, "expected offsets of an integer type; got float64"),
        ((flat[0], [0, 6]), None, "expected flat documents of shape (T, d); got (6,)"),
        ([one, flat[:, :3]], None, "expected documents of one type and length; got 6 and 3"),
        ([one, one.astype(np.float16)], None, "expected documents of one type and length; got f32 and f16"),
        ([one, flat[0]], None, "expected documents[1] of shape (t, d); got (6,)"),
        ([one, one.astype(complex)], None, "documents[1] of type float32, float16, bfloat16 or int8; got complex"),
        ([], None, "expected documents with a document of shape (t, d); got none"),
        (np.empty((2, 3, 0), np.float32), None, "expected documents of at least one number each; got 0"),
        (flat[0], None, "or an array of shape (n, t, d) or (t, d); got shape (6,)"),
        (flat, np.ones(5), "expected a mask with padded documents (n, t, d) only"),
        ([one], np.ones((1, 2)), "expected a mask with padded documents (n, t, d) only"),
        (one[None], np.ones((1, 3), bool), "expected mask of shape (1, 2), of bool or whole numbers; got (1, 3)"),
        (one[None], np.ones((1, 2)), "got (1, 2), float64"),
        ("text", None, f"{numbers}; got <U4"),
    ]
    for tokens, mask, message in mistakes:
        with pytest.raises(ts.TessellaError) as caught:
            scores(rng, tokens, mask=mask)
        assert message in str(caught.value) and str(caught.value).startswith("maxsim: "), str(caught.value)
