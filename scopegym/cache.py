"""Results keyed by their derivation, so that nothing is computed twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

V = TypeVar("V")

#: Default memory of a cache [bytes].
DEFAULT_BYTES = 256 * 2**20


class Cache:
    """A memory-bounded store, least recently used out first. Safe to share between threads."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __reduce__(self) -> tuple[Any, ...]:
        # A cache is pickled empty: another process can compute its content.
        return Cache, (self.max_bytes,)

    def get(self, key: Any, compute: Callable[[], V]) -> V:
        """The value under this key, computed and stored if it is missing.

        Values larger than the whole cache are returned but not kept.
        """
        with self._lock:
            if key in self._entries:
                self.hits += 1
                self._entries.move_to_end(key)
                value: V = self._entries[key][0]
                return value
            self.misses += 1
        value = compute()
        size = sizeof(value)
        with self._lock:
            if key not in self._entries and size <= self.max_bytes:
                # An alarm may end this between any two lines: no more is ever held than counted,
                # and what is counted too much is put right when the cache is full.
                self.nbytes += size
                if self.nbytes > self.max_bytes:
                    self.nbytes = size + sum(held for _, held in self._entries.values())
                while self.nbytes > self.max_bytes:
                    _, (_, freed) = self._entries.popitem(last=False)
                    self.nbytes -= freed
                self._entries[key] = (value, size)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0


def sizeof(value: Any) -> int:
    """Memory of a value [bytes]: its arrays, and a small amount for the rest."""
    overhead = 256
    if isinstance(value, (tuple, list)):
        return overhead + sum(map(sizeof, value))
    return overhead + int(getattr(value, "nbytes", 0))


_current: ContextVar[Cache | None] = ContextVar("scopegym_cache", default=None)
_shared = Cache()


def current() -> Cache:
    """The current cache: that of the enclosing ``using``, otherwise that of the process."""
    chosen = _current.get()
    return _shared if chosen is None else chosen


@contextmanager
def using(cache: Cache | None) -> Iterator[Cache]:
    """Make a cache the current one; None keeps the current cache."""
    chosen = current() if cache is None else cache
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)
