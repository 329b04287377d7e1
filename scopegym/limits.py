"""Bounds on what one operator may take: time and memory."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scopegym import device
from scopegym.errors import ScopegymError


@dataclass(frozen=True)
class Limits:
    """What one operator may take before it counts as failed.

    ``seconds`` interrupts it between two Python instructions, in the main thread of a process;
    ``nbytes`` is what it may allocate beyond what the process holds already, on Linux.
    """

    seconds: float = 30.0
    nbytes: int = 4 * 2**30


class LimitExceededError(ScopegymError):
    """An operator took longer than it may."""


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Hold the enclosed block to its limits: LimitExceededError past the time, MemoryError past
    the memory."""
    with _within_memory(limits.nbytes), _within_time(limits.seconds):
        yield


@contextmanager
def _within_time(seconds: float) -> Iterator[None]:
    # Signals reach the main thread only, and Windows has no alarm.
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*signal_and_frame: object) -> None:
        del signal_and_frame
        raise LimitExceededError(f"took longer than {seconds:g} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@contextmanager
def _within_memory(nbytes: int) -> Iterator[None]:
    pages = Path("/proc/self/statm")
    # A GPU's driver maps far more addresses than it takes memory.
    if not pages.exists() or device.current() != "cpu":
        yield
        return
    import resource  # which Windows does not have

    held = int(pages.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + nbytes if hard == resource.RLIM_INFINITY else min(held + nbytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
