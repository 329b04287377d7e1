"""Check plug-ins: ``python -m scopegym.testing FILE.py...``; exits with 1 for a broken contract."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scopegym.errors import ScopegymError
from scopegym.testing.plugin import check_plugin


def main(paths: Sequence[str]) -> int:
    """Check plug-ins, print the checks and return the exit code."""
    if not paths:
        print("Usage: python -m scopegym.testing FILE.py...", file=sys.stderr)
        return 2
    for path in paths:
        try:
            for entry, checked in check_plugin(path).items():
                print(f"{entry}: ok")
                print(*(f"  {line}" for line in checked), sep="\n")
        except (AssertionError, ScopegymError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
