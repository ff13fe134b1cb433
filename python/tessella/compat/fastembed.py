"""fastembed's `postprocess.Muvera` over `FDE`: the same constructor, the same numbers.

Swap `from fastembed.postprocess import Muvera` for `from tessella.compat.fastembed import Muvera`. Matrices are drawn
as fastembed draws them, so encodings of one seed can be compared with its own; they are float32 where those are
float64. One thing differs: of equally near cells an empty one is filled from the cell with the first token, where
fastembed takes the cell with the lowest number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tessella._backend import whole_number
from tessella.errors import InvalidArgument
from tessella.fde import FDE

__all__ = ["Muvera"]

Floats = npt.NDArray[np.float32]


class Muvera:
    """Encodes the vectors of a document or a query, one at a time, as one vector of `embedding_size` numbers.

    Args:
        dim: length of a token vector.
        k_sim: hyperplanes of a repetition; 2^k_sim cells.
        dim_proj: numbers a cell, at most `dim`.
        r_reps: repetitions.
        random_seed: of NumPy's default generator, from which the matrices come.

    >>> import numpy as np
    >>> muvera = Muvera(dim=64, k_sim=4, dim_proj=8, r_reps=10)
    >>> muvera.embedding_size, muvera.process_document(np.ones((3, 64))).shape
    (1280, (1280,))

    See also: FDE, which encodes many at once.
    """

    def __init__(self, dim: int, k_sim: int = 5, dim_proj: int = 16, r_reps: int = 20, random_seed: int = 42) -> None:
        self.dim = whole_number(dim, 1, "dim", "Muvera")
        self.k_sim = whole_number(k_sim, 0, "k_sim", "Muvera")
        self.dim_proj = whole_number(dim_proj, 1, "dim_proj", "Muvera")
        self.r_reps = whole_number(r_reps, 1, "r_reps", "Muvera")
        if self.dim_proj > self.dim:
            raise InvalidArgument(f"Muvera: expected dim_proj <= dim; got {dim_proj} and {dim}")
        draw = np.random.default_rng(random_seed)
        planes = np.stack([draw.normal(size=(dim, k_sim)) for _ in range(r_reps)])
        signs = draw.choice([-1, 1], size=(r_reps, dim, dim_proj))
        # Its first hyperplane is the lowest bit of a cell's number, ours the highest of a Gray code's.
        matrix = None if dim_proj == dim else signs.swapaxes(1, 2) / np.sqrt(dim_proj)
        self._encoder = FDE.from_matrices(planes.swapaxes(1, 2)[:, ::-1], matrix, fill="nearest")
        self._places = _places(k_sim)

    @classmethod
    def from_multivector_model(
        cls, model: Any, k_sim: int = 5, dim_proj: int = 16, r_reps: int = 20, random_seed: int = 42
    ) -> Muvera:
        """For a model that says how long its vectors are, by `embedding_size`."""
        return cls(model.embedding_size, k_sim, dim_proj, r_reps, random_seed)

    @property
    def embedding_size(self) -> int:
        """r_reps * 2^k_sim * dim_proj."""
        return self._encoder.output_dim

    def process_document(self, vectors: Any) -> Floats:
        """The encoding (embedding_size,) float32 of a document's vectors (t, dim): means, empty cells filled."""
        return self.process(vectors)

    def process_query(self, vectors: Any) -> Floats:
        """The encoding (embedding_size,) float32 of a query's vectors (t, dim): sums, nothing filled."""
        return self.process(vectors, fill_empty_clusters=False, normalize_by_count=False)

    def process(self, vectors: Any, fill_empty_clusters: bool = True, normalize_by_count: bool = True) -> Floats:
        """What the two others do; documents and queries are the only combinations there are."""
        if fill_empty_clusters != normalize_by_count:
            raise InvalidArgument("process: expected fill_empty_clusters and normalize_by_count alike")
        tokens = np.asarray(vectors, dtype=np.float32)
        if tokens.ndim != 2 or len(tokens) == 0:
            raise InvalidArgument(f"process: expected vectors of shape (t, {self.dim}), t > 0; got {tokens.shape}")
        encode = self._encoder.encode_documents if normalize_by_count else self._encoder.encode_queries
        cells: Floats = encode([tokens]).reshape(self.r_reps, len(self._places), self.dim_proj)
        return np.ascontiguousarray(cells[:, self._places]).reshape(-1)


def _places(k_sim: int) -> npt.NDArray[np.int64]:
    """Where our encoding has each of fastembed's cells, whose number in binary is what a Gray code is made of."""
    cells = np.arange(1 << k_sim)
    places = cells.copy()
    shift = 1
    while shift < max(1, k_sim):
        places ^= places >> shift
        shift *= 2
    return places
