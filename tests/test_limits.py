"""Limits on time and memory: what they interrupt, what they say, and that they leave nothing."""

from __future__ import annotations

import signal
import threading
import time

import cv2
import numpy as np
import pytest

from scopegym.cache import Cache, sizeof
from scopegym.limits import LimitExceededError, Limits, MemoryExceededError, limited

resource = pytest.importorskip("resource")


def state() -> tuple:
    """What a limit sets in the process."""
    return (
        signal.getsignal(signal.SIGALRM),
        signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        resource.getrlimit(resource.RLIMIT_AS),
    )


def test_they_grow_with_the_image():
    assert Limits.of((256, 256)).seconds == Limits().seconds == 30
    small, large = Limits.of((256, 256)), Limits.of((8192, 8192))
    assert large.seconds == 64 * 30
    assert large.nbytes - small.nbytes == 12 * 4 * (8192**2 - 256**2)


def test_they_say_what_was_exceeded_and_leave_nothing():
    before = state()
    late, much = r"^it took longer than 0\.1 s$", r"^it needs more than 0\.25 GiB$"
    with pytest.raises(LimitExceededError, match=late), limited(Limits(seconds=0.1)):
        time.sleep(5)
    with pytest.raises(MemoryExceededError, match=much), limited(Limits(nbytes=2**28)):
        np.ones(2**30, np.uint8)
    with pytest.raises(MemoryExceededError), limited(Limits(nbytes=2**28)):
        cv2.resize(np.zeros((9, 9), np.uint8), (2**15, 2**15))
    assert state() == before


def test_code_that_swallows_every_error_is_interrupted_again():
    def stubborn() -> None:
        for _ in range(2):
            try:
                time.sleep(10)
            except Exception:
                continue
        time.sleep(10)

    start = time.monotonic()
    with pytest.raises(LimitExceededError), limited(Limits(seconds=0.1)):
        stubborn()
    assert time.monotonic() - start < 8


def test_a_block_around_keeps_its_own_limit():
    with pytest.raises(LimitExceededError, match=r"0\.4 s"), limited(Limits(seconds=0.4)):
        with pytest.raises(LimitExceededError, match=r"0\.1 s"), limited(Limits(seconds=0.1)):
            time.sleep(5)
        time.sleep(5)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_threads_run_without_limits_and_leave_none_behind():
    """The memory of one thread cannot be told from another's: overlapping limits would stay."""
    before = state()
    seen = []

    def work() -> None:
        with limited(Limits(seconds=0.05, nbytes=2**20)):
            time.sleep(0.2)
            seen.append(state()[2] == before[2])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 3 and state() == before


def test_an_interrupted_cache_stays_whole():
    """Alarms at any moment: no lock is left held, nothing wrong is kept, and what is held is never
    more than allowed."""
    cache = Cache(max_bytes=40_000)
    end = time.monotonic() + 1.5
    interrupted, number = 0, 0
    while time.monotonic() < end:
        try:
            with limited(Limits(seconds=0.001 + 1e-5 * (number % 97))):
                while True:
                    number += 1
                    key = number % 50
                    value = cache.get(key, lambda key=key: np.full(1000, key, np.uint8))
                    assert value[0] == key
        except LimitExceededError:
            interrupted += 1
        assert not cache._lock.locked()
        held = sum(sizeof(value) for value, _ in cache._entries.values())
        assert held <= cache.nbytes and held <= cache.max_bytes
    assert interrupted > 5
    for key in range(100, 200):
        cache.get(key, lambda: np.zeros(1000, np.uint8))
    assert cache.nbytes == sum(size for _, size in cache._entries.values()) <= cache.max_bytes
