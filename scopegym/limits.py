"""Limits on the time and memory of one operator."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from scopegym import device
from scopegym.errors import ScopegymError

#: Limits of time and memory on small images [s, bytes], and their growth with the image. The
#: slowest operator takes 15 s on a megapixel, and 12 float32 copies are enough.
SECONDS, SECONDS_PER_MEGAPIXEL = 30.0, 30.0
NBYTES, COPIES = 4 * 2**30, 12
#: Interval of further alarms after the first [s], for code that catches all exceptions.
AGAIN = 1.0


@dataclass(frozen=True)
class Limits:
    """Limits of one operator, or of one scoring of its result; beyond them it has failed.

    ``seconds`` interrupts it between two Python instructions. ``nbytes`` limits its additional
    memory, on Linux. Both hold only in the main thread of a process: other threads get no signals,
    and memory is not counted per thread. In a separate process they hold for every operator, from
    any thread; ``isolated`` runs every operator that way.
    """

    seconds: float = SECONDS
    nbytes: int = NBYTES
    isolated: bool = False

    @classmethod
    def of(cls, shape: Sequence[int]) -> Limits:
        """For an image or a stack of this shape [px]: 30 s per megapixel, at least 30 s, and 4 GiB
        and twelve times the float32 image or frame."""
        seconds = SECONDS_PER_MEGAPIXEL * math.prod(shape) / 2**20
        return cls(max(SECONDS, seconds), NBYTES + COPIES * 4 * math.prod(shape[-2:]))


class LimitExceededError(ScopegymError):
    """An operator took longer than it may."""


class MemoryExceededError(ScopegymError, MemoryError):
    """An operator needs more memory than it may."""


_in_force: ContextVar[tuple[Limits, float, str] | None] = ContextVar(
    "scopegym_limits", default=None
)


@contextmanager
def limited(limits: Limits, name: str = "it") -> Iterator[None]:
    """Apply limits to the enclosed block.

    Raises LimitExceededError beyond the time and MemoryExceededError beyond the memory, both with
    the ``name``. Blocks can be nested; each has its own limits.
    """
    token = _in_force.set((limits, time.monotonic() + limits.seconds, name))
    try:
        with within_memory(limits.nbytes, name), _within_time(limits.seconds, name):
            yield
    finally:
        _in_force.reset(token)


def current() -> Limits | None:
    """The limits of the innermost block around, None outside of all."""
    found = _in_force.get()
    return None if found is None else found[0]


def seconds_left() -> float | None:
    """The rest of the current time limit; None without a limit."""
    found = _in_force.get()
    return None if found is None else max(0.0, found[1] - time.monotonic())


def exceeded() -> LimitExceededError:
    """The error for the current time limit."""
    found = _in_force.get()
    limits, _, name = found or (Limits(), 0.0, "it")
    return LimitExceededError(f"{name} took longer than {limits.seconds:g} s")


@contextmanager
def _within_time(seconds: float, name: str) -> Iterator[None]:
    # Windows has no alarm.
    if not _in_main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    running = True

    def stop(*signal_and_frame: object) -> None:
        del signal_and_frame
        if running:
            raise LimitExceededError(f"{name} took longer than {seconds:g} s")

    former = signal.signal(signal.SIGALRM, stop)
    start, left, interval = time.monotonic(), 0.0, 0.0
    try:
        left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        if left:  # the alarm of a block around this one
            left = max(left - (time.monotonic() - start), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


@contextmanager
def within_memory(nbytes: int | None, name: str) -> Iterator[None]:
    """Limit the memory of the enclosed block; None is no limit."""
    if nbytes is None:
        yield
        return
    try:
        with _addresses(nbytes):
            yield
    except Exception as error:
        if isinstance(error, MemoryExceededError) or not _out_of_memory(error):
            raise
        raise MemoryExceededError(f"{name} needs more than {nbytes / 2**30:.3g} GiB") from None


@contextmanager
def _addresses(nbytes: int) -> Iterator[None]:
    """Allow the process this much more address space."""
    pages = Path("/proc/self/statm")
    # A GPU's driver maps far more addresses than it takes memory.
    if not _in_main_thread() or not pages.exists() or device.current() != "cpu":
        yield
        return
    import resource  # which Windows does not have

    held = int(pages.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([held + nbytes, *given]), hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in NumPy, in OpenCV (error -4) or in PyTorch."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == -4:
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


#: Assumed free memory if the system does not report it (Windows) [bytes].
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
