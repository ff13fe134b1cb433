"""tessella: compress embeddings and search them.

>>> import numpy as np, tessella as ts
>>> x = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
>>> ix = ts.Index("Flat,B1+U8", dim=64, metric="cosine")
>>> ix.add(x)
>>> ids, scores = ix.search(x[:2], k=3)
>>> ids[:, 0]
array([0, 1])
"""

from importlib import import_module
from typing import Any

from tessella import errors
from tessella._backend import get_num_threads, set_num_threads
from tessella._core import __version__
from tessella.binary import BinaryQuantizer
from tessella.calibration import Calibration
from tessella.config import IndexConfig
from tessella.errors import (
    CudaError,
    DeviceUnavailable,
    FormatError,
    InvalidArgument,
    RecallWarning,
    TessellaError,
    UnsupportedType,
)
from tessella.fde import FDE
from tessella.filters.conditions import field
from tessella.hits import Hits, RangeHits
from tessella.index import Index
from tessella.kmeans import KMeans
from tessella.lemur import LEMUR
from tessella.maxsim import maxsim
from tessella.multivector import MultiVectorHits, MultiVectorIndex
from tessella.pooling import pool
from tessella.pq import ProductQuantizer
from tessella.rabitq import RaBitQuantizer
from tessella.scalar import ScalarQuantizer
from tessella.smve import SMVE

__all__ = [
    "FDE",
    "LEMUR",
    "SMVE",
    "BinaryQuantizer",
    "Calibration",
    "CudaError",
    "DeviceUnavailable",
    "FormatError",
    "Hits",
    "Index",
    "IndexConfig",
    "InvalidArgument",
    "KMeans",
    "MultiVectorHits",
    "MultiVectorIndex",
    "ProductQuantizer",
    "RaBitQuantizer",
    "RangeHits",
    "RecallWarning",
    "ScalarQuantizer",
    "TessellaError",
    "UnsupportedType",
    "__version__",
    "errors",
    "field",
    "get_num_threads",
    "maxsim",
    "pool",
    "set_num_threads",
]

_LAZY = ("encoder", "eval", "train")  # parts with needs of their own: imported when they are first asked for


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"tessella.{name}")
    raise AttributeError(f"module 'tessella' has no attribute {name!r}")
