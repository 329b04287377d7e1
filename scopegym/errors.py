"""The one exception that a user is meant to read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

#: A message longer than this is cut: it may quote a file from a stranger [characters].
LONGEST = 600


class ScopegymError(ValueError):
    """Bad input. The message is one sentence that names the object, the rule and the value.

    Line breaks and control characters, which a quoted file may hold, never reach a terminal.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class FrameError(ScopegymError):
    """An operator failed on one frame of a stack; the message names it."""


def one_line(text: str, most: int = LONGEST) -> str:
    """The text in one line of printable characters, cut in the middle where it is longer."""
    line = " ".join(text[: 4 * most].split()) if len(text) > 4 * most else " ".join(text.split())
    line = "".join(c if c.isprintable() else "\ufffd" for c in line)
    return line if len(line) <= most else f"{line[: most - 80]} ... {line[-60:]}"


def shown(value: Any, most: int = 60) -> str:
    """A value as a message quotes it, short whatever it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a whole number of more than 19 digits"
    if isinstance(value, dict | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)} entries"
    return one_line(repr(value[: 2 * most] if isinstance(value, str) else value), most + 90)


def unknown(kind: str, name: str, known: Iterable[str]) -> ScopegymError:
    """The error for a name that is not in a registry, with the nearest names that are."""
    names = sorted(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    name = name[:80]  # what is compared and quoted; no name is longer
    near = [folded[key] for key in get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
    return ScopegymError(f"Unknown {kind} '{name}'; {hint}")
