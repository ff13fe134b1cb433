"""Encoder: texts in, embeddings out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tessella.encoder import chunks as chunking
from tessella.encoder import folder, streaming
from tessella.encoder.batches import by_tokens
from tessella.encoder.chunks import Chunks
from tessella.encoder.extras import require
from tessella.encoder.finding import find
from tessella.encoder.scales import Scales, default_step
from tessella.errors import FormatError, InvalidArgument, UnsupportedType
from tessella.progress import counted

if TYPE_CHECKING:
    import torch

    from tessella.encoder.outputs import Output
    from tessella.encoder.static import Static
    from tessella.encoder.tokens import Ids
    from tessella.encoder.trainable import TrainablePooling
    from tessella.encoder.transformer import Transformer

Array: TypeAlias = npt.NDArray[Any]
Bar: TypeAlias = bool | Callable[[int], None]
T = TypeVar("T")

QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
BLOCK_TEXTS = 8192  # tokenised and sorted by length together: what bounds the memory of a call
BUDGET = {"cpu": 1024, "cuda": 16_384}  # tokens of a batch
WEIGHTS = ("float32", "float16", "bfloat16")


class Encoder:
    """A model that turns texts into vectors. Made by `Encoder.load`.

    Texts are tokenised once, sorted by their number of tokens, and go through the transformer end to end, without
    padding, where its architecture allows that (`padding_free`; tried at loading). A text's vector does not depend on
    the texts beside it.

    Attributes:
        prompts: instructions by name, put in front of texts: `query`, `document`, ….
        default_prompt: the name of the one that `encode` takes when told nothing.
        similarity: how the model's vectors are compared: `cosine`, `dot`, `euclidean` or `manhattan`.
        truncate_dim: how many leading coordinates are kept where no `dim` is given, as its folder says; None: all.
        pooler: the module with weights that pools, where there is one (`set_pooling`); None: `pooling` says how.

    >>> from tessella.encoder import Encoder
    >>> encoder = Encoder.load("minilm")
    >>> encoder
    Encoder(384 dimensions, at most 256 tokens)
    >>> x = encoder.encode(["a cat on a mat", "a kitten on a rug", "the price of oil"])
    >>> x.shape, bool(x[0] @ x[1] > x[0] @ x[2])
    ((3, 384), True)
    >>> encoder.encode("one text gives one row", dim=256, dtype="int8").shape
    (256,)

    See also: docs/concepts/encoder.md, docs/howto/encode-texts.md.
    """

    def __init__(
        self, backbone: Transformer | Static, head: torch.nn.Sequential, described: folder.Description
    ) -> None:
        from tessella.encoder.head import without_last_normalize

        self.backbone = backbone
        self.head = head
        self._body = without_last_normalize(head)
        self.pooling = described.pooling
        self.pooler: TrainablePooling | None = None
        self.prompts = dict(described.prompts)
        self.default_prompt = described.default_prompt
        self.similarity = described.similarity
        self.truncate_dim = described.truncate_dim
        self.scales = Scales.from_json(described.own.get("int8_steps", {}))

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str = "cpu",
        weights: str = "float32",
        max_tokens: int | None = None,
        layers: int | None = None,
        download: bool = False,
    ) -> Encoder:
        """Reads a model folder: of sentence-transformers, plain Hugging Face, or model2vec.

        Args:
            name: path of the folder; `minilm`, for all-MiniLM-L6-v2 out of the extra of that name; or the name of a
                model of the Hugging Face hub that is in the local cache.
            device: `cpu`, `cuda`, `cuda:1`, ….
            weights: the type the model computes in: float32, float16 or bfloat16.
            max_tokens: where to cut texts, if earlier than the model does.
            layers: keep so many of the transformer's layers, the first ones; of a model that was trained so
                (`losses.Matryoshka2D`, `losses.Starbucks`).
            download: whether a model that is not here may be fetched from the hub.

        A damaged folder is a FormatError, a missing package an ImportError that names the extra. Cost: reading the
        weights, and two short texts to try out whether padding can be left away.
        """
        torch = require("torch")
        if weights not in WEIGHTS:
            raise InvalidArgument(f"load: expected weights of {', '.join(WEIGHTS)}; got {weights!r}")
        described = folder.describe(find(name, download))
        from tessella.encoder import head, pooler

        kind = getattr(torch, weights)
        if layers is not None:
            _natural(layers, "layers", "load")
        backbone = _backbone(described, device, kind, layers)
        made = cls(backbone, head.load(described.head, kind).to(device), described)
        if described.pooler is not None:
            module = pooler.load(described.pooler)
            if reason := pooler.misfit(module, backbone, head.in_dim(made.head)):
                cut = module.layered and layers is not None
                raise (InvalidArgument if cut else FormatError)(f"load: {described.pooler.path}: {reason}")
            made._pool_by(module, described.pooling.include_prompt)
        if max_tokens is not None:
            _natural(max_tokens, "max_tokens", "load")
            backbone.tokens.max_tokens = min(max_tokens, backbone.tokens.max_tokens or max_tokens)
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a folder that sentence-transformers 6 reads, too; the fitted int8 steps go into tessella.json.

        The folder takes the place of an older one in one step. A folder that holds something else is an
        InvalidArgument. A pooling with weights (`set_pooling`) has a folder of its own in it, and such a model is read
        by `Encoder.load` alone.
        """
        from tessella.encoder.saving import save

        save(self, Path(path))

    def set_pooling(self, module: TrainablePooling, *, include_prompt: bool | None = None) -> None:
        """Pools by a module with weights from here on, in place of the model's own modes.

        Args:
            module: `LatentAttention`, `WeightedLayers` or `LayerPooling` of `tessella.encoder.trainable`, made for the
                `dim` of the backbone and its `depth` in layers. It is moved to the model's device and type.
            include_prompt: whether instructions are pooled; None leaves that as it is.

        `encode` and what stands on it, `encode_chunks` and `embed` go through it, a `Trainer` made afterwards trains
        it, and `save` writes it. `encode_tokens` gives the states before pooling, as ever. Rows stay without padding.
        int8 steps that were fitted are dropped, since vectors are others now. A module that does not fit is an
        InvalidArgument, and the model stays as it was.

        >>> from tessella.encoder import Encoder
        >>> from tessella.encoder.trainable import LatentAttention
        >>> encoder = Encoder.load("minilm")
        >>> encoder.set_pooling(LatentAttention(encoder.backbone.dim, latents=16, heads=4, head_dim=32))
        >>> encoder.encode(["a cat on a mat", "a kitten"]).shape
        (2, 384)
        """
        from tessella.encoder import head, pooler

        if type(module) not in pooler.KINDS.values():
            known = ", ".join(pooler.KINDS)
            raise InvalidArgument(f"set_pooling: expected a module {known}; got {type(module).__name__}")
        if reason := pooler.misfit(module, self.backbone, head.in_dim(self.head)):
            raise InvalidArgument(f"set_pooling: {reason}")
        self._pool_by(module, self.pooling.include_prompt if include_prompt is None else include_prompt)
        self.scales = Scales()

    # ---- what it is

    @property
    def dim(self) -> int:
        """Length of a vector, where no other is asked for: `truncate_dim`, or all that the model gives."""
        return min(self.full_dim, self.truncate_dim or self.full_dim)

    @property
    def full_dim(self) -> int:
        """Length of a vector of which nothing is cut off: the most that `dim` may be."""
        from tessella.encoder.head import out_dim

        return out_dim(self.head, self.backbone.dim * len(self.pooling.modes))

    @property
    def max_tokens(self) -> int | None:
        """Where texts are cut, special tokens included; None: nowhere."""
        return self.backbone.tokens.max_tokens

    @property
    def normalizes(self) -> bool:
        """Whether the model's vectors have length 1."""
        return len(self._body) < len(self.head)

    @property
    def padding_free(self) -> bool:
        """Whether texts of a batch run end to end, so that no padding is computed."""
        return self.backbone.flat

    @property
    def device(self) -> str:
        """Where the model is."""
        return str(next(self.backbone.parameters()).device)

    def __repr__(self) -> str:
        limit = "any number of" if self.max_tokens is None else f"at most {self.max_tokens:,}"
        return f"Encoder({self.dim} dimensions, {limit} tokens)"

    # ---- texts to vectors

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dim: int | None = None,
        dtype: str = "float32",
        normalize: bool | None = None,
        token_budget: int | None = None,
        progress: Bar = False,
    ) -> Array:
        """Vectors of texts, in their order.

        Args:
            texts: n strings, or one. Longer ones are cut at `max_tokens`; `encode_chunks` loses nothing.
            prompt: text put in front of each; or, by name out of `prompts`, `prompt_name`.
            dim: keep so many leading coordinates (Matryoshka), and normalise those; by default `truncate_dim`.
            dtype: `float32`, `float16`, `int8` (see `fit_quantizer`) or `binary` (sign bits, eight to a byte, bit 0
                first, as of `BinaryQuantizer`).
            normalize: length 1 or not; None does what the model does.
            token_budget: tokens of a batch; by default 1,024 on a CPU and 16,384 on a GPU.
            progress: True for a bar, or a function that is called with the number of texts done since the last call.

        Returns (n, dim) of that type, uint8 (n, ceil(dim / 8)) for binary; for one string, one row. An empty text
        without any token is the zero vector. Something other than strings is an UnsupportedType.
        """
        rows = _strings(texts, "encode")
        output = self._output(dim, dtype, normalize, "encode")
        prefix = self._prompt(prompt, prompt_name, self.default_prompt, "encode")
        budget = self._budget(token_budget, "encode")
        made = output.empty(len(rows))
        with counted(progress, len(rows), "encoding") as done:
            for start in range(0, len(rows), BLOCK_TEXTS):
                block = rows[start : start + BLOCK_TEXTS]
                self._encode_block(block, prefix, output, budget, made[start : start + len(block)], done)
        return made[0] if isinstance(texts, str) else made

    def encode_queries(self, texts: str | Sequence[str], **options: Any) -> Array:
        """`encode` with the model's prompt for queries, where it has one."""
        return self.encode(texts, **self._named(QUERY_PROMPTS, options))

    def encode_documents(self, texts: str | Sequence[str], **options: Any) -> Array:
        """`encode` with the model's prompt for documents, where it has one."""
        return self.encode(texts, **self._named(DOCUMENT_PROMPTS, options))

    def encode_tokens(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        special_tokens: bool = False,
        normalize: bool = True,
        dtype: str = "float32",
        token_budget: int | None = None,
        progress: Bar = False,
    ) -> Any:
        """A vector for each token, for late interaction: a list of (tokens, dim) arrays, one for each text.

        The states of the last layer, before pooling, of length 1 unless `normalize=False`; float32 or float16. Special
        tokens ([CLS], [SEP]) are left out unless asked for. For one string, one array.

        >>> from tessella.encoder import Encoder
        >>> [x.shape for x in Encoder.load("minilm").encode_tokens(["one two", "three"])]
        [(2, 384), (1, 384)]
        """
        from tessella.encoder.outputs import Output

        rows = _strings(texts, "encode_tokens")
        if dtype not in ("float32", "float16"):
            raise InvalidArgument(f"encode_tokens: expected dtype float32 or float16; got {dtype!r}")
        output = Output(self.backbone.dim, dtype, normalize, None)
        prefix = self._prompt(prompt, prompt_name, self.default_prompt, "encode_tokens")
        budget = self._budget(token_budget, "encode_tokens")
        made: list[Array] = [output.empty(0)] * len(rows)
        with counted(progress, len(rows), "encoding") as done:
            for start in range(0, len(rows), BLOCK_TEXTS):
                block = [prefix + text for text in rows[start : start + BLOCK_TEXTS]]
                ids, special = self.backbone.tokens.with_special(block)
                for places, states in self._states(ids, budget, self.backbone):
                    parts = states.split([len(ids[i]) for i in places])
                    for place, part in zip(places, parts, strict=True):
                        kept = output.finished(part)
                        made[start + place] = kept if special_tokens else kept[~special[place]]
                    done(len(places))
        return made[0] if isinstance(texts, str) else made

    def encode_chunks(
        self,
        texts: str | Sequence[str],
        *,
        chunk_tokens: int = 128,
        spans: Sequence[Sequence[tuple[int, int]]] | None = None,
        dim: int | None = None,
        dtype: str = "float32",
        normalize: bool | None = None,
        token_budget: int | None = None,
        progress: Bar = False,
    ) -> Chunks:
        """Late chunking: vectors of the pieces of long texts, each of which has seen the text around it.

        A text within `max_tokens` is encoded once; a longer one in windows that overlap by half, each chunk being
        pooled from the window whose middle it is nearest to. Only tokens of the chunk are pooled, no special ones. What
        of a chunk does not fit into a window is cut off, as texts are.

        Args:
            chunk_tokens: length of a chunk; or
            spans: for each text its chunks as (start, end) in characters, sentences for example.

        The other arguments are those of `encode`. One string counts as a list of one. A text without a token has no
        chunk.
        """
        rows = _strings(texts, "encode_chunks")
        _natural(chunk_tokens, "chunk_tokens", "encode_chunks")
        if spans is not None and len(spans) != len(rows):
            raise InvalidArgument(f"encode_chunks: expected spans of {len(rows)} texts; got {len(spans)}")
        output = self._output(dim, dtype, normalize, "encode_chunks")
        budget = self._budget(token_budget, "encode_chunks")
        embeddings, counts, places = [], [0], []
        with counted(progress, len(rows), "encoding") as done:
            for number, text in enumerate(rows):
                vectors, found = self._chunks(text, chunk_tokens, None if spans is None else spans[number], budget)
                embeddings.append(output.finished(vectors))
                counts.append(len(found))
                places += found
                done(1)
        whole = np.concatenate(embeddings) if embeddings else output.empty(0)
        return Chunks(whole, np.cumsum(counts), np.array(places, np.int64).reshape(-1, 2))

    def encode_to(
        self,
        target: streaming.Index | str | os.PathLike[str],
        texts: Iterable[str],
        *,
        ids: Iterable[int] | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        dim: int | None = None,
        dtype: str = "float32",
        normalize: bool | None = None,
        token_budget: int | None = None,
        progress: Bar = False,
    ) -> int:
        """Encodes texts into an index or a .npy file as they come; returns their number.

        `texts` may be any iterable, a generator over a file for example: at most 8,192 of them are held at a time. An
        index gets the rows by `add`, under `ids` where they are given. A file takes its place when all is written; an
        error on the way leaves an older one as it was.

        Cost: memory for a block of texts and its vectors, however many come.

        >>> import tessella as ts
        >>> from tessella.encoder import Encoder
        >>> encoder, index = Encoder.load("minilm"), ts.Index("Flat", dim=384)
        >>> encoder.encode_to(index, (f"{i} bottles of beer" for i in range(20)))
        20
        >>> index.search(encoder.encode("seven bottles of beer"), k=1).ids
        array([[7]])
        """
        options: dict[str, Any] = {"prompt": prompt, "prompt_name": prompt_name, "dim": dim, "dtype": dtype}
        options |= {"normalize": normalize, "token_budget": token_budget}
        self._output(dim, dtype, normalize, "encode_to")
        total = len(texts) if isinstance(texts, Sized) else None
        if isinstance(target, (str, os.PathLike)):
            if ids is not None:
                raise InvalidArgument("encode_to: expected ids with an index only; a file holds none")
            with streaming.NpyFile(target) as file, counted(progress, total, "encoding") as done:
                return self._stream(texts, lambda rows, _: file.write(rows), None, options, done)
        with counted(progress, total, "encoding") as done:
            return self._stream(texts, lambda rows, keys: target.add(rows, ids=keys), ids, options, done)

    def fit_quantizer(self, texts: Sequence[str], *, dims: Sequence[int] = (), **options: Any) -> None:
        """Fits the step of `dtype="int8"` to a sample of texts, for whole vectors and for those cut to `dims`.

        A thousand texts of the kind to come are plenty. The steps are kept with the model: `save` writes them. Until
        then int8 has a step for unit vectors in general, 8 / (127 sqrt(dim)). Codes made before of these dimensions no
        longer fit; steps that an earlier call fitted for others stay. `options` are those of `encode`. Texts whose
        vectors are all zero, as those without a token are, are an InvalidArgument, and the steps stay as they were.
        """
        if not len(texts):
            raise InvalidArgument("fit_quantizer: expected texts; got none")
        wanted = (self.dim, *dims)
        samples = {each: self.encode(texts, dim=each, dtype="float32", **options) for each in wanted}
        self.scales = self.scales.joined(Scales.fit(samples))

    def embed(self, texts: Sequence[str], *, prompt: str | None = None, dim: int | None = None) -> torch.Tensor:
        """Vectors as a torch tensor that carries gradients: one pass over all the texts together, for training."""

        from tessella.encoder.head import headed
        from tessella.encoder.pooler import pooled_by, states_of
        from tessella.encoder.pooling import pool

        rows = _strings(texts, "embed")
        output: Output = self._output(dim, "float32", None, "embed")
        ids, skip = self._ids(rows, prompt or "")
        states, lengths = states_of(self.backbone, self.pooler)(ids), [len(each) for each in ids]
        pooled = pooled_by(self.pooler, states, lengths, lambda x: pool(x, lengths, self.pooling.modes, skip))
        return output.vectors(headed(self._body, pooled))

    # ---- behind the door

    def _encode_block(
        self, texts: Sequence[str], prefix: str, output: Output, budget: int, made: Array, done: Callable[[int], None]
    ) -> None:
        from tessella.encoder.pooler import states_of

        ids, skip = self._ids(texts, prefix)
        made[[i for i, each in enumerate(ids) if not each]] = 0
        for places, states in self._states(ids, budget, states_of(self.backbone, self.pooler)):
            made[places] = self._finished(states, [len(ids[i]) for i in places], skip, output)
            done(len(places))
        done(sum(not each for each in ids))

    def _pool_by(self, module: TrainablePooling, include_prompt: bool) -> None:
        from tessella.encoder.pooler import mode_of, ready

        self.pooler = ready(module, self.backbone)
        self.pooling = folder.Pooling((mode_of(module),), include_prompt)

    def _states(
        self, ids: Sequence[Ids], budget: int, run: Callable[[Sequence[Ids]], Any]
    ) -> Iterator[tuple[list[int], Any]]:
        torch = require("torch")
        for places in by_tokens([len(each) for each in ids], budget):
            with torch.inference_mode():
                yield places, run([ids[i] for i in places])

    def _finished(self, states: Any, lengths: Sequence[int], skip: int, output: Output) -> Array:
        """What is asked for: in one pass over the states, where the head is a linear map or nothing."""
        from tessella.encoder import pooling
        from tessella.encoder.head import dense_of, fits_one_pass, headed

        modes = self.pooling.modes
        if self.pooler is not None:
            pooled = self.pooler.flat(states, lengths, lambda x: pooling.pool(x, lengths, modes, skip))
            return output.finished(headed(self._body, pooled))
        dense = dense_of(self._body)
        by_mode = len(modes) > 1 and dense is None  # tessella.pool would cut each mode by itself
        whole = not by_mode or output.dim == self.full_dim
        if fits_one_pass(self._body) and whole and pooling.fused(states) and pooling.one_pass(modes, skip):
            options = output.options() | ({"dim": None} if by_mode else {})
            return pooling.finished(states, lengths, modes, skip, dense=dense, **options)
        return output.finished(headed(self._body, pooling.pool(states, lengths, modes, skip)))

    def _ids(self, texts: Sequence[str], prefix: str) -> tuple[list[Ids], int]:
        """Token ids, and how many of them at the start are an instruction that is not pooled."""
        tokens = self.backbone.tokens
        ids = tokens([prefix + text for text in texts] if prefix else texts)
        return ids, 0 if self.pooling.include_prompt or not prefix else tokens.prompt_tokens(prefix)

    def _chunks(
        self, text: str, size: int, spans: Sequence[tuple[int, int]] | None, budget: int
    ) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        """Vectors of one text's chunks, and their characters."""
        torch = require("torch")
        from tessella.encoder.head import headed
        from tessella.encoder.pooler import pooled_by, states_of
        from tessella.encoder.pooling import of_spans

        tokens = self.backbone.tokens
        ids, characters = tokens.whole(text)
        parts = chunking.even(len(ids), size)
        if spans is not None:
            parts = chunking.in_tokens(spans, characters, "encode_chunks")
        before, after = tokens.frame()
        covered = chunking.windows(len(ids), parts, tokens.content_tokens) if parts else []
        rows = [before + ids[each.start : each.stop] + after for each in covered]
        vectors: dict[tuple[int, int], Any] = {}
        modes = self.pooling.modes
        for places, states in self._states(rows, budget, states_of(self.backbone, self.pooler)):
            held = [(i, covered[place], chunk) for i, place in enumerate(places) for chunk in covered[place].chunks]
            shifts = [len(before) - window.start for _, window, _ in held]
            inside = [(i, by + first, by + last) for by, (i, _, (first, last)) in zip(shifts, held, strict=True)]
            lengths, spans_of = [len(rows[i]) for i in places], np.array(inside)
            with torch.inference_mode():
                piece = partial(of_spans, lengths=lengths, modes=modes, spans=spans_of)
                pooled = pooled_by(self.pooler, states, lengths, piece)
            vectors.update(zip((chunk for _, _, chunk in held), pooled, strict=True))
        with torch.inference_mode():
            found = [vectors[key] for key in sorted(vectors)]
            joined = torch.stack(found) if found else torch.zeros(0, self.backbone.dim * len(modes))
            made = headed(self._body, joined.to(self.device))
        return made, [(characters[first][0], characters[last - 1][1]) for first, last in sorted(vectors)]

    def _stream(
        self,
        texts: Iterable[str],
        write: Callable[[Array, Array | None], object],
        ids: Iterable[int] | None,
        options: dict[str, Any],
        done: Callable[[int], None],
    ) -> int:
        keys = None if ids is None else iter(ids)
        count = 0
        for block in streaming.in_blocks(texts, BLOCK_TEXTS):
            rows = self.encode(_strings(block, "encode_to"), **options, progress=done)
            names = None if keys is None else np.array([key for _, key in zip(block, keys, strict=False)], np.int64)
            if names is not None and len(names) != len(block):
                raise InvalidArgument(f"encode_to: expected an id for each text; got {count + len(names)} in all")
            write(rows, names)
            count += len(block)
        return count

    def _output(self, dim: int | None, dtype: str, normalize: bool | None, operation: str) -> Output:
        from tessella.encoder.outputs import DTYPES, Output

        size = self.dim if dim is None else _natural(dim, "dim", operation)
        if size > self.full_dim:
            raise InvalidArgument(f"{operation}: expected dim up to {self.full_dim}; got {dim}")
        if dtype not in DTYPES:
            raise InvalidArgument(f"{operation}: expected dtype {', '.join(DTYPES)}; got {dtype!r}")
        unit = self.normalizes if normalize is None else normalize
        step = self.scales.step(size) if dtype == "int8" else None
        if dtype == "int8" and step is None:
            if not unit:
                raise InvalidArgument(
                    f"{operation}: expected fit_quantizer(texts, dims=({size},)) before int8 of vectors that are not"
                    " normalised"
                )
            step = default_step(size)
        return Output(size, dtype, unit, step)

    def _prompt(self, prompt: str | None, name: str | None, default: str | None, operation: str) -> str:
        if prompt is not None:
            return prompt
        name = default if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InvalidArgument(f"{operation}: expected the name of a prompt of this model ({known}); got {name!r}")
        return self.prompts[name]

    def _named(self, names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Options with the first of these prompts that the model has, unless the caller names one."""
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return options
        known = next((name for name in names if name in self.prompts), None)
        return options if known is None else options | {"prompt_name": known}

    def _budget(self, token_budget: int | None, operation: str) -> int:
        if token_budget is not None:
            return _natural(token_budget, "token_budget", operation)
        return BUDGET["cpu" if self.device == "cpu" else "cuda"]


def _backbone(
    described: folder.Description, device: str, weights: torch.dtype, layers: int | None
) -> Transformer | Static:
    require("tokenizers")
    require("safetensors")
    if described.static:
        from tessella.encoder.static import Static

        if layers is not None:
            raise InvalidArgument(f"load: expected layers of a transformer; {described.path} has static embeddings")
        return Static.load(described, device, weights)
    require("transformers")
    from tessella.encoder.transformer import Transformer

    return Transformer.load(described, device, weights, layers)


def _strings(texts: object, operation: str) -> list[str]:
    rows = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, Iterable) else None
    if rows is None:
        raise UnsupportedType(f"{operation}: expected texts as strings; got {type(texts).__name__}")
    for place, text in enumerate(rows):
        if not isinstance(text, str):
            raise UnsupportedType(f"{operation}: expected texts as strings; got {type(text).__name__} at place {place}")
    return rows


def _natural(value: object, name: str, operation: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(f"{operation}: expected {name} as a whole number of at least 1; got {value!r}")
    return int(value)
