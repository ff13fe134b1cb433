"""The command line. `main` is its edge: what goes wrong inside leaves as one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tessella.cli.extras import require
from tessella.errors import TessellaError

__all__ = ["main"]

FAILED = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after a sentence on stderr, or 130 when interrupted."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("TESSELLA_DEBUG"):
            raise
        return _fail(_sentence(error))


def _run(arguments: list[str]) -> int:
    typer = require("typer")
    require("rich")
    from tessella.cli.app import app

    try:
        code = app(arguments or ["--help"], standalone_mode=False)
    except typer.Abort:
        return _fail("interrupted", INTERRUPTED)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, TessellaError):
        return str(error)
    if hasattr(error, "format_message"):  # a usage error of the command line itself
        return str(error.format_message())
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}"
    return f"an error of tessella's own, {type(error).__name__}: {error} (TESSELLA_DEBUG=1 shows where)"


def _fail(sentence: str, code: int = FAILED) -> int:
    print("tessella:", " ".join(sentence.split()), file=sys.stderr)
    return code
