"""Gradients of a batch that does not fit: embed in parts, differentiate the loss, go through the parts once more.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983. The loss sees
embeddings alone, so its gradient with respect to them is all that a second pass through the model needs; the second
pass starts each part from the random state of the first, and so drops out the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tessella.errors import InvalidArgument

Model = Callable[[list[str]], Tensor]


class RandomState(NamedTuple):
    """Where torch's generators stand."""

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> RandomState:
        """Of the CPU, and of every CUDA device where one is in use."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])

    def back(self) -> None:
        """Draws go on from here."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


class Part(NamedTuple):
    """Texts of one column that are embedded at once, and the random state that they met."""

    column: str
    texts: list[str]
    state: RandomState | None


class Embedded:
    """Embeddings of columns of texts, cut from the model; `backward` takes their gradients on to it.

    Args:
        model: texts to (n, d), or (n, layers, d).
        columns: lists of texts (n,), or of k texts each: these give (n, k, d).
        mini_batch: rows embedded at once. With fewer than there are, no graph is kept and `backward` embeds again.
    """

    def __init__(self, model: Model, columns: dict[str, Any], mini_batch: int) -> None:
        self.model, self.parts = model, list(_parts(columns, mini_batch))
        self.cached = mini_batch < max(len(each) for each in columns.values())
        outputs: list[Tensor] = []
        with torch.set_grad_enabled(not self.cached):
            for i, part in enumerate(self.parts):
                self.parts[i] = part._replace(state=RandomState.now())
                outputs.append(self._embed(part))
        self.outputs = [] if self.cached else outputs
        # The loss is computed in float32 or more, whatever the model computes in.
        self.rows = {
            name: _leaf([out for out, part in zip(outputs, self.parts, strict=True) if part.column == name])
            for name in columns
        }
        self.columns = {name: _as_lists(self.rows[name], texts) for name, texts in columns.items()}

    def backward(self) -> None:
        """From the columns' gradients to those of the model's parameters."""
        gradients = [part for name, rows in self.rows.items() for part in self._split(name, _gradient(rows))]
        if not self.cached:
            cast = [each.to(out.dtype) for each, out in zip(gradients, self.outputs, strict=True)]
            torch.autograd.backward(self.outputs, cast)
            return
        with _kept_random_state():
            for part, gradient in zip(self.parts, gradients, strict=True):
                assert part.state is not None
                part.state.back()
                out = self._embed(part)
                out.backward(gradient.to(out.dtype))

    def _split(self, name: str, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradient of a column's rows, for each of its parts."""
        return tuple(gradient.split([len(part.texts) for part in self.parts if part.column == name]))

    def _embed(self, part: Part) -> Tensor:
        return _checked(self.model(part.texts), part)


@torch.no_grad()
def without_graph(model: Model, columns: dict[str, Any], mini_batch: int) -> dict[str, Tensor]:
    """Embeddings of columns of texts, without a way back."""
    found: dict[str, list[Tensor]] = {name: [] for name in columns}
    for part in _parts(columns, mini_batch):
        found[part.column].append(_checked(model(part.texts), part))
    return {name: _as_lists(torch.cat(found[name]), texts) for name, texts in columns.items()}


def _checked(out: object, part: Part) -> Tensor:
    if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(part.texts):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        expected = f"a tensor of {len(part.texts)} rows for {part.column}"
        raise InvalidArgument(f"train: expected the model to give {expected}; got {got}")
    return out


def _leaf(outputs: list[Tensor]) -> Tensor:
    rows = torch.cat([each.detach() for each in outputs])
    return (rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows).requires_grad_()


def _as_lists(rows: Tensor, texts: Sequence[Any]) -> Tensor:
    """(n, d) of texts as they are, (n, k, d) of lists of k texts."""
    return rows if isinstance(texts[0], str) else rows.unflatten(0, (len(texts), -1))


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _parts(columns: dict[str, Any], mini_batch: int) -> Iterator[Part]:
    for name, column in columns.items():
        for start in range(0, len(column), mini_batch):
            rows = column[start : start + mini_batch]
            texts = [text for row in rows for text in ([row] if isinstance(row, str) else row)]
            yield Part(name, texts, None)


@contextmanager
def _kept_random_state() -> Iterator[None]:
    after = RandomState.now()
    try:
        yield
    finally:
        after.back()
