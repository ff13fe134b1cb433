"""What an index is made of: `IndexConfig`, and the spec strings that spell it."""

from __future__ import annotations

from dataclasses import dataclass

from tessella.errors import InvalidArgument, UnsupportedType

STRUCTURES = ("Flat",)
METRICS = ("cosine", "ip", "l2")


@dataclass(frozen=True)
class IndexConfig:
    """A structure and the codecs of its rows, coarse to fine.

    `codecs` is up to three of: a scan codec `B1`, a refining codec `U8`, `N4` or `R2`..`R8`, a raw one `F32`,
    `F16`, `BF16` or `UINT8`; at least one. A search goes through them in this order.

    >>> IndexConfig.parse("Flat,B1+U8")
    IndexConfig(structure='Flat', codecs=('B1', 'U8'))
    >>> IndexConfig.parse("Flat").spec
    'Flat'
    """

    structure: str = "Flat"
    codecs: tuple[str, ...] = ("F32",)

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            known = ", ".join(STRUCTURES)
            raise InvalidArgument(f"spec: expected a structure of {known}; got {self.structure!r}")

    @classmethod
    def parse(cls, spec: str | IndexConfig) -> IndexConfig:
        """Reads a spec such as `Flat`, `Flat,F16` or `Flat,B1+U8`; spaces do not matter."""
        if isinstance(spec, IndexConfig):
            return spec
        if not isinstance(spec, str):
            raise UnsupportedType(f"spec: expected a string or an IndexConfig; got {type(spec).__name__}")
        structure, comma, codecs = "".join(spec.split()).partition(",")
        if not comma:
            return cls(structure)
        return cls(structure, tuple(codecs.split("+")))

    @property
    def spec(self) -> str:
        """The spec string, in its shortest form."""
        if self.codecs == ("F32",):
            return self.structure
        return f"{self.structure},{'+'.join(self.codecs)}"
