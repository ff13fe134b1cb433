"""Bars for long work, for parts of the house that use the public face."""

from __future__ import annotations

from tessella._progress import Progress, counted, shown

__all__ = ["Progress", "counted", "shown"]
