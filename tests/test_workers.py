"""Objects in other processes: the same answers everywhere, and deaths that are told."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from concurrent.futures import wait
from pathlib import Path

import pytest

from scopegym.errors import ScopegymError
from scopegym.workers import Backend, WorkerDied, hire, spread, start_ray


class Counter:
    """Something with a state."""

    def __init__(self, start: int) -> None:
        self.count = start

    def add(self, number: int) -> int:
        self.count += number
        return self.count

    def fail(self) -> None:
        raise ScopegymError("nothing to be done")

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def end(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def check_worker(backend: Backend) -> None:
    workers = [hire(backend, Counter, 10 * i) for i in range(2)]
    try:
        futures = [worker.call("add", 1) for worker in workers for _ in range(2)]
        wait(futures)
        assert [future.result() for future in futures] == [1, 2, 11, 12]
        with pytest.raises(ScopegymError, match="nothing to be done"):
            workers[0].call("fail").result()
        assert workers[0].call("add", 1).result() == 3
        if backend != "serial":
            assert workers[0].call("environment", "OMP_NUM_THREADS").result() == "1"
            with pytest.raises(WorkerDied):
                workers[0].call("end").result()
            with pytest.raises(WorkerDied):
                workers[0].call("add", 1).result()
        workers[0].restart(100)
        assert [w.call("add", 1).result() for w in workers] == [101, 13]
    finally:
        for worker in workers:
            worker.stop()


def test_worker_here():
    check_worker("serial")


@pytest.mark.slow
def test_worker_in_a_subprocess():
    check_worker("processes")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_worker_in_a_ray_actor():
    check_worker("ray")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "nowhere.invalid:6379"])
def test_an_address_that_is_none_is_refused(address: str):
    with pytest.raises(ScopegymError, match="No Ray cluster answers"):
        start_ray(address)


def test_an_unreachable_address_is_refused():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ScopegymError, match=f"No Ray cluster answers at '127.0.0.1:{port}'"):
        start_ray(f"127.0.0.1:{port}")


class Unready:
    """Something that cannot be made."""

    def __init__(self) -> None:
        raise ScopegymError("no plug-in there")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_an_actor_that_cannot_begin_says_why_in_one_line():
    worker = hire("ray", Unready)
    with pytest.raises(WorkerDied, match="no plug-in there") as died:
        worker.call("anything").result()
    assert "\n" not in str(died.value)
    worker.stop()


class Fragile:
    """Something whose process ends in some calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def work(self, name: str, deaths: int) -> str:
        number = len(list(self.folder.glob(f"{name}-*")))
        (self.folder / f"{name}-{number}").touch()
        if number < deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return name.upper()


def check_spread(backend: Backend, folder: Path, tasks: list[tuple[str, int]]) -> dict:
    """What came of tasks, of which "a" is followed by "z"."""
    outcomes = {}
    waiting = deque(tasks)
    for (name, _), future in spread(waiting, "work", 2, backend, Fragile, folder):
        died = isinstance(future.exception(), WorkerDied)
        outcomes[name] = "died" if died else future.result()
        if name == "a":
            waiting.append(("z", 0))
    return outcomes


def test_tasks_are_spread_and_may_be_followed_by_others(tmp_path):
    done = check_spread("serial", tmp_path, [("a", 0), ("b", 0)])
    assert done == {"a": "A", "b": "B", "z": "Z"}
    assert check_spread("serial", tmp_path, []) == {}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_a_task_whose_worker_dies_is_tried_once_more(backend: Backend, tmp_path, request):
    if backend == "ray":
        request.getfixturevalue("ray_here")
    done = check_spread(backend, tmp_path, [("a", 1), ("b", 2), ("c", 0)])
    assert done == {"a": "A", "b": "died", "c": "C", "z": "Z"}
    assert len(list(tmp_path.glob("b-*"))) == 2
