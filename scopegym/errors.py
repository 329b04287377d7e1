"""The one exception that a user is meant to read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ScopegymError(ValueError):
    """Bad input. The message is one sentence that names the object, the rule and the value."""


def unknown(kind: str, name: str, known: Iterable[str]) -> ScopegymError:
    """The error for a name that is not in a registry, with the nearest names that are."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    near = [folded[key] for key in get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return ScopegymError(f"Unknown {kind} '{name}'; {hint}")
