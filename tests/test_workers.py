"""Objects in other processes: the same answers everywhere, and deaths that are told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import pytest

from scopegym.errors import ScopegymError
from scopegym.workers import Backend, WorkerDied, map_unordered, start_ray, start_worker


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
    workers = [start_worker(backend, Counter, 10 * i) for i in range(2)]
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
    if backend != "serial":
        with pytest.raises(WorkerDied):
            workers[0].call("add", 1).result(10)


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
    worker = start_worker("ray", Unready)
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
    for (name, _), future in map_unordered(waiting, "work", 2, backend, Fragile, folder):
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


# --- workers that stop, get lost, or never begin --------------------------------------------------


class Steady:
    """Something that works for a moment, or is stopped in it the first time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def work(self, number: int, stopped: bool = False) -> tuple[int, int]:
        mark = self.folder / f"{number}"
        if stopped and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.05)
        return number, os.getpid()

    def never(self, number: int) -> None:
        time.sleep(3600 + number)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether a condition holds before the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_a_stopped_worker_is_ended_and_its_task_done_by_another(
    backend: Backend, tmp_path, request
):
    if backend == "ray":
        request.getfixturevalue("ray_here")
    waiting = deque([(0, True), *((number, False) for number in range(1, 6))])
    done = [
        (task[0], future.result()[0])
        for task, future in map_unordered(waiting, "work", 2, backend, Steady, tmp_path, seconds=3)
    ]
    assert sorted(done) == [(number, number) for number in range(6)]


@pytest.mark.slow
def test_a_call_that_never_returns_is_reported_and_its_process_gone(tmp_path):
    before = children()
    [(_, future)] = map_unordered(
        deque([(0,)]), "never", 1, "processes", Steady, tmp_path, seconds=0.5
    )
    with pytest.raises(WorkerDied, match="did not answer in time"):
        future.result()
    assert until(lambda: children() == before)


def children() -> set[int]:
    """The worker processes of this one."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"spawn_main" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_more_workers_than_processors_end(tmp_path):
    tasks = deque((number,) for number in range(8))
    done = [
        future.result()[0] for _, future in map_unordered(tasks, "work", 6, "ray", Steady, tmp_path)
    ]
    assert sorted(done) == list(range(8))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_cluster_without_room_says_what_it_has(tmp_path):
    calls = map_unordered(deque([(0,)]), "work", 1, "ray", Steady, tmp_path, gpus=64, patience=1)
    with pytest.raises(ScopegymError, match=r"each asks for 1 CPU and 64 GPU.*the cluster has 2"):
        list(calls)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_a_factory_that_fails_is_told_in_one_sentence(backend: Backend, request):
    if backend == "ray":
        request.getfixturevalue("ray_here")
    with pytest.raises(ScopegymError, match=r"^no plug-in there$"):
        list(map_unordered(deque([(0,)]), "work", 2, backend, Unready))


class Once:
    """Something that can be made a limited number of times; its calls end the process."""

    def __init__(self, folder: Path, times: int) -> None:
        marks = len(list(folder.iterdir()))
        if marks >= times:
            raise ScopegymError("it was made before")
        (folder / f"{marks}").touch()

    def end(self, _: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_tasks_fail_when_no_worker_is_left(tmp_path):
    tasks = deque((number,) for number in range(3))
    done = dict(map_unordered(tasks, "end", 1, "processes", Once, tmp_path, 1))
    assert sorted(done) == [(0,), (1,), (2,)]
    for future in done.values():
        with pytest.raises(WorkerDied, match="no worker is left: it was made before"):
            future.result()


def test_arguments_that_cannot_travel_fail_their_call(tmp_path):
    [(_, future)] = map_unordered(deque([(lambda: 0,)]), "work", 1, "processes", Steady, tmp_path)
    assert not isinstance(future.exception(), WorkerDied | None)


class AwkwardError(Exception):
    """An error that cannot be made from its message."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Failing:
    def work(self, kind: str) -> None:
        if kind == "exit":
            raise SystemExit(3)
        raise AwkwardError("one", "two")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "ray"])
def test_errors_of_any_kind_come_back(backend: Backend, request):
    if backend == "ray":
        request.getfixturevalue("ray_here")
    tasks = deque([("exit",), ("awkward",)])
    told = {task[0]: f.exception() for task, f in map_unordered(tasks, "work", 1, backend, Failing)}
    assert isinstance(told["exit"], WorkerDied)
    assert "one and two" in str(told["awkward"])


# --- drivers that are ended -----------------------------------------------------------------------

DRIVER = """
import os, sys, time
from collections import deque
from scopegym.workers import map_unordered, start_ray, stopping_on_sigterm

class Slow:
    def work(self, number):
        open(os.path.join(os.environ["MARKS"], str(os.getpid())), "w").close()
        time.sleep(600)

if __name__ == "__main__":
    with stopping_on_sigterm():
        for _ in map_unordered(deque((n,) for n in range(4)), "work", 2, sys.argv[1], Slow):
            pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "how", "stopped"),
    [
        ("processes", signal.SIGTERM, False),
        ("processes", signal.SIGTERM, True),
        ("processes", signal.SIGINT, False),
        ("processes", signal.SIGKILL, False),
        ("processes", signal.SIGKILL, True),
        ("ray", signal.SIGTERM, True),
        ("ray", signal.SIGINT, False),
        ("ray", signal.SIGKILL, True),
    ],
)
def test_workers_end_with_their_driver(backend: str, how: signal.Signals, stopped: bool, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen(
        [sys.executable, str(script), backend],
        env={**os.environ, "MARKS": str(marks), "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A job in the background inherits that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
    )
    workers: list[int] = []
    try:
        assert until(lambda: len(list(marks.iterdir())) == 2, 60)
        workers = [int(mark.name) for mark in marks.iterdir()]
        if stopped:
            os.kill(workers[0], signal.SIGSTOP)
        # Ctrl-C reaches all processes of the terminal.
        (os.killpg if how == signal.SIGINT else os.kill)(driver.pid, how)
        said, told = driver.communicate(timeout=30)
        assert until(lambda: not any(map(alive, workers)), 20)
    finally:
        driver.kill()
        driver.wait()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
    assert not said
    if how == signal.SIGTERM:
        assert driver.returncode == 143 and not told
    if how == signal.SIGINT:  # the driver's own traceback, and no other
        assert told.count("Traceback") == 1
