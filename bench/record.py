"""Rows of measurements, appended to `bench/history`, a file for each day and subject."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).resolve().parent / "history"


def append(name: str, rows: Iterable[Mapping[str, Any]], folder: Path = HISTORY) -> Path:
    """Appends rows of plain values to `<date>-<name>.jsonl` and returns its path."""
    lines = [json.dumps(dict(row)) + "\n" for row in rows]  # all of them, before the file is touched
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today():%Y-%m-%d}-{name}.jsonl"
    with path.open("a") as file:
        file.writelines(lines)
    return path
