"""The cache: what is computed, what is kept, and which one is in force."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym import cache as module
from scopegym.artifacts import Image
from scopegym.cache import Cache, current, sizeof, using


def block(kilobytes: int) -> np.ndarray:
    return np.zeros(kilobytes * 1000, np.uint8)


def test_a_known_key_is_not_computed_again() -> None:
    cache = Cache()
    value = cache.get("key", lambda: block(1))
    assert cache.get("key", lambda: pytest.fail("computed twice")) is value
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(max_bytes=3500)
    for key in "abc":
        cache.get(key, lambda: block(1)[:900])
    cache.get("a", lambda: pytest.fail("still there"))
    cache.get("d", lambda: block(1)[:900])
    cache.get("a", lambda: pytest.fail("used more recently than b"))
    misses = cache.misses
    cache.get("b", lambda: block(1)[:900])
    assert cache.misses == misses + 1


def test_a_value_larger_than_the_cache_is_returned_but_not_kept() -> None:
    cache = Cache(max_bytes=2000)
    small = cache.get("small", lambda: block(1))
    assert len(cache.get("large", lambda: block(5))) == 5000
    assert len(cache) == 1
    assert cache.get("small", lambda: pytest.fail("thrown out for nothing")) is small


def test_an_error_is_raised_and_not_kept() -> None:
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)
    assert cache.get("key", lambda: 7) == 7


def test_clear_forgets_everything() -> None:
    cache = Cache()
    cache.get("key", lambda: block(1))
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)
    assert cache.get("key", lambda: "again") == "again"


def test_computing_may_use_the_cache_itself() -> None:
    cache = Cache()
    assert cache.get("outer", lambda: cache.get("inner", lambda: 1) + 1) == 2
    assert len(cache) == 2


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_it_never_holds_more_than_its_limit(requests: list[tuple[int, int]]) -> None:
    cache = Cache(max_bytes=100_000)
    for key, kilobytes in requests:
        value = cache.get((key, kilobytes), lambda kilobytes=kilobytes: block(kilobytes))
        assert len(value) == 1000 * kilobytes
        assert cache.nbytes <= cache.max_bytes
        held = [entry for entry, _ in cache._entries.values()]
        assert cache.nbytes == sum(map(sizeof, held))
    assert cache.hits + cache.misses == len(requests)


def test_threads_may_share_it() -> None:
    cache = Cache(max_bytes=50_000)

    def use(seed: int) -> bool:
        keys = np.random.default_rng(seed).integers(0, 40, 300).tolist()
        return all(cache.get(key, lambda key=key: block(key))[:1].size == (key > 0) for key in keys)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert 0 <= cache.nbytes <= cache.max_bytes
    assert cache.hits + cache.misses == 8 * 300


@pytest.mark.parametrize(
    ("value", "least"),
    [
        (np.zeros(1000), 8000),
        ((np.zeros(1000), [np.zeros(500)]), 12000),
        (Image(np.zeros((50, 40))), 8000),
        ("text", 0),
        (None, 0),
    ],
)
def test_size_is_that_of_the_arrays_and_a_little_more(value: object, least: int) -> None:
    assert least < sizeof(value) < least + 2000


def test_an_empty_cache_can_be_in_force() -> None:
    """An empty container is false; the cache in force is the one given all the same."""
    with using(Cache()) as cache:
        assert current() is cache
        current().get("key", lambda: 1)
        assert len(cache) == 1


def test_using_nests_and_ends() -> None:
    outside = current()
    with using(Cache()) as outer:
        with using(Cache()) as inner:
            assert current() is inner
        with using(None) as same:
            assert same is outer
        assert current() is outer
        with pytest.raises(RuntimeError), using(Cache()):
            raise RuntimeError
        assert current() is outer
    assert current() is outside is module._shared


def test_another_thread_has_the_cache_of_the_process() -> None:
    seen: list[Cache] = []
    with using(Cache()):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [module._shared]


def test_a_cache_travels_empty_and_a_problem_with_it():
    import pickle

    from scopegym.envs.problem import registry as tasks

    problem = tasks["atoms"].sample(np.random.default_rng(0))
    score = problem.evaluate(tasks["atoms"].expert).score
    assert len(problem.cache) > 0
    again = pickle.loads(pickle.dumps(problem))
    assert len(again.cache) == 0 and again.cache.max_bytes == problem.cache.max_bytes
    assert again.evaluate(tasks["atoms"].expert).score == score
