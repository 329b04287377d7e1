"""Ctrl-C and SIGTERM: a command says what it kept and how to go on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Exit codes that shells expect of a process that a signal ended.
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
#: What interrupts a command. Ray's own handler of SIGTERM, in force once ray is imported, raises
#: SystemExit as ours does.
INTERRUPTIONS = (KeyboardInterrupt, SystemExit)


class Stopped(BaseException):
    """A command was interrupted; the message says what was kept and how to go on."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def on_interrupt(kept: str | Callable[[], str]) -> Iterator[None]:
    """Turn an interruption of the block into Stopped with this message, or with what a function
    says then: what was kept, and how to go on."""
    try:
        yield
    except INTERRUPTIONS as stop:
        asked = isinstance(stop, SystemExit)
        if isinstance(stop, SystemExit) and stop.code not in (signal.SIGTERM, TERMINATED):
            raise
        message = kept if isinstance(kept, str) else kept()
        raise Stopped(message, TERMINATED if asked else INTERRUPTED) from stop
