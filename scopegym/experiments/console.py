"""Standard output: text for people, or one JSON object and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_only_json: TextIO | None = None


class ClosedPipe(Exception):  # noqa: N818 - an event, not a mistake
    """The reader of standard output, such as head, has seen enough."""


@contextmanager
def json_alone() -> Iterator[None]:
    """Keep standard output for ``answer``: whatever else prints in the block, a plug-in, a worker
    or a library in C, prints to standard error.

    The file descriptor is not given back: what C has buffered is written when the process ends.
    """
    global _only_json
    former = sys.stdout
    _only_json = _apart() if former is sys.__stdout__ else former
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        if _only_json is not None:
            _only_json.flush()
        sys.stdout, _only_json = former, None


def _apart() -> TextIO | None:
    """A stream of its own to standard output, while descriptor 1 leads to standard error; None
    where standard output is closed."""
    if sys.stdout is None:
        return None
    sys.stdout.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return sys.stdout
    return os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace")


def answer(text: str) -> None:
    """Write to standard output. Raises ClosedPipe when nobody reads it any more."""
    stream = sys.stdout if _only_json is None else _only_json
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
        raise ClosedPipe from None


def show(plain: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """Write what a command did: the object alone, or the lines for people."""
    from scopegym.experiments.outputs import to_json

    answer(to_json(plain) if as_json else "\n".join(lines) + "\n")


def tell(text: str) -> None:
    """Write a line to standard error, where there is one."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def printable(stream: Any) -> None:
    """Let a stream of another encoding than UTF-8 escape what it lacks."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Let nothing that is left in the buffer of a closed pipe raise when the process ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
