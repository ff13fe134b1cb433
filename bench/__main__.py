"""`python -m bench` runs every benchmark; `python -m bench compare …` runs one, with its own options."""

from __future__ import annotations

import subprocess
import sys

EVERYTHING = (("roofs",), ("kernels",), ("compare", "--preset", "flat"))


def main() -> int:
    """Returns the exit code of the first benchmark that fails, else 0."""
    names = [command[0] for command in EVERYTHING]
    chosen = sys.argv[1:]
    if chosen and chosen[0] not in names:
        print(f"bench: expected one of {', '.join(names)}; got {chosen[0]!r}", file=sys.stderr)
        return 2
    for name, *options in [tuple(chosen)] if chosen else EVERYTHING:
        code = subprocess.run([sys.executable, "-m", f"bench.{name}", *options], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
