"""Bounds on what one operator may take: time and memory."""

from __future__ import annotations

import contextlib
import os
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


#: Memory that is taken for free where the system does not tell (Windows) [bytes].
UNKNOWN_MEMORY = 8 * 2**30
#: For version 2 and 1 of control groups: the folder of the memory controller, the files with its
#: limit and its use, and the entry of the cached files in that use, which the kernel gives back.
_CONTROL_GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_bytes() -> int:
    """Memory that this process can still take: the least of what the computer, its control groups
    (containers) and the limit on its addresses leave [bytes].

    Where the system does not tell what is free, all of its memory counts as free.
    """
    return max(0, min(_free_of_system(), *_free_of_groups(), *_free_of_addresses()))


def _free_of_system() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        table = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(table["MemAvailable"].split()[0]) * 1024
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return UNKNOWN_MEMORY


def _free_of_groups(root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> Iterator[int]:
    """Limit less use of every control group that holds this process."""
    listed = Path("/proc/self/cgroup")
    own = own or (listed.read_text() if listed.exists() else "")
    for line in own.splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers not in _CONTROL_GROUPS:
            continue
        folder, limit, use, cached = _CONTROL_GROUPS[controllers]
        group = Path(name.strip("/"))
        for path in (root / folder / group, *(root / folder / above for above in group.parents)):
            # A container sees its own group at the root, and one without a limit says "max".
            with contextlib.suppress(OSError, ValueError, KeyError):
                held = int((path / use).read_text())
                table = dict(
                    line.split() for line in (path / "memory.stat").read_text().splitlines()
                )
                yield int((path / limit).read_text()) - held + int(table[cached])


def _free_of_addresses() -> Iterator[int]:
    pages = Path("/proc/self/statm")
    if pages.exists():
        import resource  # which Windows does not have

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            yield soft - int(pages.read_text().split()[0]) * resource.getpagesize()
