"""Distribution of calls over many workers, with replacement of failed workers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from scopegym.errors import ScopegymError
from scopegym.registry import PluginFile
from scopegym.workers.base import Backend, Here, Worker, WorkerDied, failed
from scopegym.workers.cluster import Actor, places, start_ray, wants
from scopegym.workers.processes import Subprocess

#: The arguments of one call.
Task = TypeVar("Task", bound=tuple[Hashable, ...])

#: A call fails after this many lost workers.
MAX_DEATHS = 2
#: A worker is abandoned after this many failed starts.
MAX_STARTS = 2
#: Time limit of a call [s]: ten times that of the slowest single image.
CALL_SECONDS = 600.0
#: Time limit per operator execution [s], for calls with a budget.
EXECUTION_SECONDS = 60.0
#: Time limit for the start of a worker [s]: many may import PyTorch from a slow disk at once.
START_SECONDS = 120.0


def start_worker(
    backend: Backend,
    factory: Callable[..., Any],
    *arguments: Any,
    plugins: Sequence[PluginFile] = (),
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Worker:
    """A worker that holds ``factory(*arguments)``, made after these plug-ins are loaded. Start Ray
    first."""
    if backend == "ray":
        return Actor(factory, *arguments, plugins=plugins, cpus=cpus, gpus=gpus)
    kind = Subprocess if backend == "processes" else Here
    return kind(factory, *arguments, plugins=plugins)


def room(backend: Backend, workers: int, cpus: float = 1.0, gpus: float = 0.0) -> int:
    """The number of workers to start, at most as many as fit; starts Ray if it is requested and not
    yet joined."""
    if backend != "ray":
        return workers
    start_ray(cpus=max(1, round(workers * cpus)))
    return min(workers, places(cpus, gpus))


@dataclass(eq=False)
class _Post(Generic[Task]):
    """A worker and its pending answer: its start or its task; none if it is idle."""

    worker: Worker
    answer: Future[Any] | None
    until: float
    task: Task | None = None
    starts: int = 1

    def overdue(self) -> WorkerDied | None:
        """The reason for a missing answer after the time limit."""
        if self.answer is None or self.answer.done() or time.monotonic() < self.until:
            return None
        what = "was not ready" if self.task is None else "did not answer"
        return WorkerDied(f"the worker {what} in time")


def map_unordered(
    waiting: deque[Task],
    method: str,
    workers: int,
    backend: Backend,
    factory: Callable[..., Any],
    *arguments: Any,
    plugins: Sequence[PluginFile] = (),
    gpus: float = 0.0,
    seconds: float = CALL_SECONDS,
    patience: float = START_SECONDS,
) -> Iterator[tuple[Task, Future[Any]]]:
    """Call ``method`` of objects made by ``factory(*arguments)`` for every waiting task, and yield
    tasks with their finished calls in order of completion. The caller may add tasks meanwhile.

    Each worker has one task at a time and gets the first when its object is made. A worker that
    dies or needs more than ``seconds`` for a call is replaced. Its task is repeated once, after all
    others, before it is yielded with WorkerDied. When the last worker is gone, all other tasks are
    yielded with WorkerDied. Calls in this process (``serial``) have no limit. Raises ScopegymError
    when no worker starts within ``patience`` seconds in two attempts.
    """
    if not waiting:
        return
    pool: list[_Post[Task]] = []
    deaths: Counter[Task] = Counter()
    began, reason = False, BaseException()

    def begin(post: _Post[Task]) -> None:
        post.answer, post.until = post.worker.ready, time.monotonic() + patience

    try:
        for _ in range(room(backend, workers, gpus=gpus)):
            worker = start_worker(backend, factory, *arguments, plugins=plugins, gpus=gpus)
            pool.append(_Post(worker, None, 0.0))
            begin(pool[-1])
        while waiting or any(post.task is not None for post in pool):
            _hand_out(waiting, pool, method, seconds)
            if not pool and not began:
                raise _not_begun(reason, backend, gpus)
            if not pool:
                yield waiting.popleft(), failed(WorkerDied(f"no worker is left: {reason}"))
                continue
            _await(pool)
            for post in [*pool]:
                late = post.overdue()
                answer = post.answer if late is None else failed(late)
                if answer is None or not answer.done():
                    continue
                task, post.task, post.answer = post.task, None, None
                error = answer.exception()
                died = isinstance(error, WorkerDied)
                if task is None and error is None:
                    began, post.starts = True, 0
                elif task is None and (not died or post.starts >= MAX_STARTS):
                    assert error is not None
                    reason = error
                    pool.remove(post)
                    post.worker.stop()
                elif died:
                    post.worker.restart(*arguments)
                    post.starts += 1
                    begin(post)
                if task is None:
                    continue
                deaths[task] += died
                if died and deaths[task] < MAX_DEATHS:
                    waiting.append(task)
                else:
                    yield task, answer
    finally:
        for post in pool:
            post.worker.stop()


def _hand_out(waiting: deque[Task], pool: list[_Post[Task]], method: str, seconds: float) -> None:
    """Give tasks to idle workers."""
    for post in pool:
        if waiting and post.answer is None:
            post.task = waiting.popleft()
            post.until = time.monotonic() + seconds
            post.answer = post.worker.call(method, *post.task)


def _await(pool: list[_Post[Task]]) -> None:
    """Return when a worker has answered or is overdue."""
    expected = [post for post in pool if post.answer is not None]
    left = min(post.until for post in expected) - time.monotonic()
    answers = [post.answer for post in expected if post.answer is not None]
    wait(answers, max(0.0, left), FIRST_COMPLETED)


def _not_begun(reason: BaseException, backend: Backend, gpus: float) -> ScopegymError:
    """The error when no worker could start."""
    if isinstance(reason, ScopegymError):
        return reason
    kind = "" if isinstance(reason, WorkerDied) else f"{type(reason).__name__}: "
    asked = f" ({wants(gpus=gpus)})" if backend == "ray" else ""
    return ScopegymError(f"No worker can begin: {kind}{str(reason).rstrip('.')}{asked}.")
