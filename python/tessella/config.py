"""What an index is made of: `IndexConfig`, and the spec strings that spell it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tessella.errors import InvalidArgument, UnsupportedType

STRUCTURES = ("Flat", "IVF")
METRICS = ("cosine", "ip", "l2")
_STRUCTURE = re.compile(r"(Flat|IVF)(\d*)(\+SOAR)?")
_MOST_LISTS = 1 << 24


@dataclass(frozen=True)
class IndexConfig:
    """A structure and the codecs of its rows, coarse to fine.

    `codecs` is up to three of: a scan codec `B1`, a refining codec `U8`, `N4` or `R2`..`R8`, a raw one `F32`,
    `F16`, `BF16` or `UINT8`; at least one. A search goes through them in this order.

    `Flat` looks at every row. `IVF` keeps rows in `lists` by nearest centroid (0: decided when it is trained, from the
    number of rows) and looks into the nearest; with `soar` every row is in a second list too.

    >>> IndexConfig.parse("Flat,B1+U8")
    IndexConfig(structure='Flat', codecs=('B1', 'U8'), lists=0, soar=False)
    >>> IndexConfig.parse("IVF1024+SOAR,B1+U8").lists
    1024
    >>> IndexConfig.parse("Flat").spec
    'Flat'
    """

    structure: str = "Flat"
    codecs: tuple[str, ...] = ("F32",)
    lists: int = 0
    soar: bool = False

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            known = ", ".join(STRUCTURES)
            raise InvalidArgument(f"spec: expected a structure of {known}; got {self.structure!r}")
        if self.structure == "Flat" and (self.lists or self.soar):
            raise InvalidArgument("spec: expected lists and SOAR with IVF only; Flat has none")
        if not 0 <= self.lists <= _MOST_LISTS:
            raise InvalidArgument(f"spec: expected 1 to {_MOST_LISTS} lists; got {self.lists}")

    @classmethod
    def parse(cls, spec: str | IndexConfig) -> IndexConfig:
        """Reads a spec such as `Flat`, `Flat,F16`, `Flat,B1+U8` or `IVF1024+SOAR,B1+U8`; spaces do not matter."""
        if isinstance(spec, IndexConfig):
            return spec
        if not isinstance(spec, str):
            raise UnsupportedType(f"spec: expected a string or an IndexConfig; got {type(spec).__name__}")
        head, comma, codecs = "".join(spec.split()).partition(",")
        match = _STRUCTURE.fullmatch(head)
        if match is None:
            known = "Flat, IVF, IVF1024 (1,024 lists) or IVF1024+SOAR"
            raise InvalidArgument(f"spec: expected a structure of {known}; got {head!r}")
        structure, lists, soar = match.groups()
        if lists and int(lists) == 0:
            raise InvalidArgument(f"spec: expected at least one list; got {head!r}")
        named = tuple("F32" if codec == "Flat" else codec for codec in codecs.split("+")) if comma else ("F32",)
        return cls(structure, named, int(lists or 0), soar is not None)

    @property
    def spec(self) -> str:
        """The spec string, in its shortest form."""
        head = f"{self.structure}{self.lists or ''}{'+SOAR' if self.soar else ''}"
        return head if self.codecs == ("F32",) else f"{head},{'+'.join(self.codecs)}"
