"""What an index is made of: `IndexConfig`, and the spec strings that spell it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tessella.errors import InvalidArgument, UnsupportedType

STRUCTURES = ("Flat", "IVF", "Graph")
METRICS = ("cosine", "ip", "l2")
_STRUCTURE = re.compile(r"(Flat|IVF|Graph)(\d*)(\+SOAR)?")
_MOST_LISTS = 1 << 24
_DEGREES = range(32, 257, 32)
_DEGREE = 32


@dataclass(frozen=True)
class IndexConfig:
    """A structure and the codecs of its rows, coarse to fine.

    `codecs` is up to three of: a scan codec `B1` or one of product codes (`PQ48`, `PQ96x4` of 4 bits, `OPQ48`, `APQ48`,
    `PRQ24x2x8` of two levels; docs/concepts/pq.md), a refining codec `U8`, `N4` or `R2`..`R8`, a raw one `F32`,
    `F16`, `BF16` or `UINT8`; at least one. A search goes through them in this order.

    `Flat` looks at every row. `IVF` keeps rows in `lists` by nearest centroid (0: decided when it is trained, from the
    number of rows) and looks into the nearest; with `soar` every row is in a second list too. `Graph` links every row
    to `degree` others and walks from one to the next.

    >>> IndexConfig.parse("Flat,B1+U8")
    IndexConfig(structure='Flat', codecs=('B1', 'U8'), lists=0, soar=False, degree=0)
    >>> IndexConfig.parse("IVF1024+SOAR,B1+U8").lists
    1024
    >>> IndexConfig.parse("Graph,B1+U8").degree
    32
    >>> IndexConfig.parse("Flat").spec
    'Flat'
    """

    structure: str = "Flat"
    codecs: tuple[str, ...] = ("F32",)
    lists: int = 0
    soar: bool = False
    degree: int = 0

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            known = ", ".join(STRUCTURES)
            raise InvalidArgument(f"spec: expected a structure of {known}; got {self.structure!r}")
        if self.structure != "IVF" and (self.lists or self.soar):
            raise InvalidArgument(f"spec: expected lists and SOAR with IVF only; {self.structure} has none")
        if self.structure == "Graph" and self.degree not in _DEGREES:
            raise InvalidArgument(f"spec: expected a graph of degree 32, 64, ..., 256; got {self.degree}")
        if self.structure != "Graph" and self.degree:
            raise InvalidArgument(f"spec: expected a degree with Graph only; {self.structure} has none")
        if not 0 <= self.lists <= _MOST_LISTS:
            raise InvalidArgument(f"spec: expected 1 to {_MOST_LISTS} lists; got {self.lists}")

    @classmethod
    def parse(cls, spec: str | IndexConfig) -> IndexConfig:
        """Reads `Flat`, `Flat,F16`, `Flat,B1+U8`, `IVF1024+SOAR,B1+U8`, `Graph32,B1+U8`; spaces do not matter."""
        if isinstance(spec, IndexConfig):
            return spec
        if not isinstance(spec, str):
            raise UnsupportedType(f"spec: expected a string or an IndexConfig; got {type(spec).__name__}")
        head, comma, codecs = "".join(spec.split()).partition(",")
        match = _STRUCTURE.fullmatch(head)
        if match is None:
            known = "Flat, IVF, IVF1024 (1,024 lists), IVF1024+SOAR or Graph32 (32 links a row)"
            raise InvalidArgument(f"spec: expected a structure of {known}; got {head!r}")
        structure, number, soar = match.groups()
        if number and int(number) == 0 and structure != "Graph":
            raise InvalidArgument(f"spec: expected at least one list; got {head!r}")
        named = tuple("F32" if codec == "Flat" else codec for codec in codecs.split("+")) if comma else ("F32",)
        if structure == "Graph":
            return cls(structure, named, soar=soar is not None, degree=int(number or _DEGREE))
        return cls(structure, named, int(number or 0), soar is not None)

    @property
    def spec(self) -> str:
        """The spec string, in its shortest form."""
        head = f"{self.structure}{self.lists or self.degree or ''}{'+SOAR' if self.soar else ''}"
        return head if self.codecs == ("F32",) else f"{head},{'+'.join(self.codecs)}"
