"""The errors tessella raises; every message is a full sentence: operation, expectation, what came."""

from __future__ import annotations

__all__ = [
    "CudaError",
    "DeviceUnavailable",
    "FormatError",
    "InvalidArgument",
    "RecallWarning",
    "TessellaError",
    "UnsupportedType",
]


class TessellaError(Exception):
    """The root: `except TessellaError` catches whatever tessella itself refuses."""


class InvalidArgument(TessellaError, ValueError):
    """A value of the right type that cannot be used: a wrong shape, k <= 0, NaN, a duplicate id."""


class UnsupportedType(TessellaError, TypeError):
    """An input whose type, dtype or place in memory is not accepted."""


class DeviceUnavailable(TessellaError, RuntimeError):
    """The build, the driver or the machine lacks the device or instruction set that was asked for."""


class CudaError(TessellaError, RuntimeError):
    """A CUDA call failed."""


class FormatError(TessellaError, ValueError):
    """A file is damaged, truncated, or not one that this version reads."""


class RecallWarning(UserWarning):
    """A recall that may be less than it says: out of reach of every measured effort, so that the search did its best;
    counted against what the index itself finds; or measured with rows in place of queries."""
