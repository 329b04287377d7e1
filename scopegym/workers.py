"""Objects that live in other processes: Ray actors, subprocesses, or simply here.

All three answer calls with ``concurrent.futures.Future``, so that whoever waits for the first of
many need not know where they run. What dies is replaced by ``restart``.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeVar

from scopegym.errors import ScopegymError

Backend = Literal["ray", "processes", "serial"]
#: The arguments of one call.
Task = TypeVar("Task", bound=tuple[Hashable, ...])

#: Libraries read these when they load; each worker is one thread, there are as many as cores.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
#: A call that ends this many workers is given up.
MAX_DEATHS = 2
#: Seconds to wait for a cluster at an address before it counts as unreachable.
PATIENCE = 20


class WorkerDied(Exception):  # noqa: N818 - an event to recover from, not a mistake
    """The process of a worker ended; the call it was in is lost."""


class Worker(Protocol):
    """An object somewhere, made by a factory."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method; the future raises WorkerDied when the process ended."""

    def restart(self, *arguments: Any) -> None:
        """Make the object anew, with these arguments of the factory."""

    def stop(self) -> None:
        """End the process."""


class Here:
    """The object in this process; a call is over when it returns."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any) -> None:
        self._factory = factory
        self.restart(*arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(getattr(self._object, method)(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def restart(self, *arguments: Any) -> None:
        self._object = self._factory(*arguments)

    def stop(self) -> None:
        pass


class Subprocess:
    """The object in a process of its own."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any) -> None:
        self._factory = factory
        self._start(*arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        try:
            return _translated(self._pool.submit(_call, method, arguments), BrokenProcessPool)
        except BrokenProcessPool as error:
            return _failed(WorkerDied(str(error)))

    def restart(self, *arguments: Any) -> None:
        self.stop()
        self._start(*arguments)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, *arguments: Any) -> None:
        from multiprocessing import get_context

        # A fresh interpreter: a fork of one that runs threads can hang.
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_make, initargs=(self._factory, arguments)
        )
        with _environment(ONE_THREAD):
            self._pool.submit(_nothing)


class Actor:
    """The object in a Ray actor, on this machine or another of the cluster."""

    def __init__(
        self, factory: Callable[..., Any], *arguments: Any, cpus: float = 1.0, gpus: float = 0.0
    ) -> None:
        import ray

        # Tasks are pure functions of their arguments, so a dead actor is replaced, not revived.
        # Ray itself keeps the libraries of an actor to as many threads as it has cores.
        self._remote = ray.remote(_Made).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        self._factory = factory
        self._actor: Any = None
        self.restart(*arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

        died = (RayActorError, ActorDiedError, ActorUnavailableError)
        return _translated(self._actor.call.remote(method, *arguments).future(), *died)

    def restart(self, *arguments: Any) -> None:
        self.stop()
        self._actor = self._remote.remote(self._factory, *arguments)

    def stop(self) -> None:
        import ray

        if self._actor is not None:
            ray.kill(self._actor)


class _Made:
    """What a Ray actor holds."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any) -> None:
        self._object = factory(*arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._object, method)(*arguments)


def one_thread() -> None:
    """Keep the libraries of this process to one thread: there is a worker for every core."""
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1)


def start_ray(address: str | None = None, cpus: int | None = None) -> None:
    """Join the cluster at an address, or start one on this machine, unless one is joined already.

    Raises ScopegymError when the address cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if address is not None:
        _answers(address)
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ScopegymError(f"The Ray cluster at '{address}' cannot be joined: {reason}.") from None


def _answers(address: str) -> None:
    """Raise ScopegymError when nothing listens at ``host:port``; Ray itself would try for long."""
    import socket

    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, ValueError) as error:
        raise ScopegymError(f"No Ray cluster answers at '{address}': {error}.") from None


def _translated(future: Future[Any], *died: type[BaseException]) -> Future[Any]:
    """The same future, raising WorkerDied for what its library raises."""
    mine: Future[Any] = Future()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            mine.set_result(done.result())
        else:
            mine.set_exception(WorkerDied(_reason(error)) if isinstance(error, died) else error)

    future.add_done_callback(pass_on)
    return mine


def _reason(error: BaseException) -> str:
    """Why a worker ended, in one line: Ray quotes the whole traceback of a failed beginning."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "creation task" in lines[0] else lines[0]


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


_object: Any = None


def _make(factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    global _object
    _object = factory(*arguments)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_object, method)(*arguments)


def _nothing() -> None:
    pass


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def hire(
    backend: Backend,
    factory: Callable[..., Any],
    *arguments: Any,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> Worker:
    """A worker that holds ``factory(*arguments)``. Ray has to be started before."""
    if backend == "ray":
        return Actor(factory, *arguments, cpus=cpus, gpus=gpus)
    return (Subprocess if backend == "processes" else Here)(factory, *arguments)


def spread(
    waiting: deque[Task],
    method: str,
    workers: int,
    backend: Backend,
    factory: Callable[..., Any],
    *arguments: Any,
    gpus: float = 0.0,
) -> Iterator[tuple[Task, Future[Any]]]:
    """Call ``method`` of objects made by ``factory(*arguments)`` with every task that waits, and
    yield tasks with their finished calls as they come; whoever takes them may add more tasks.

    Each worker has one task at a time; one that dies is replaced, and its task tried once more
    before its call is yielded with WorkerDied.
    """
    if not waiting:
        return
    if backend == "ray":
        start_ray(cpus=workers)
    pool = [hire(backend, factory, *arguments, gpus=gpus) for _ in range(workers)]
    idle = deque(pool)
    running: dict[Future[Any], tuple[Worker, Task]] = {}
    deaths: Counter[Task] = Counter()
    try:
        while waiting or running:
            while waiting and idle:
                worker, task = idle.popleft(), waiting.popleft()
                running[worker.call(method, *task)] = worker, task
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                worker, task = running.pop(future)
                idle.append(worker)
                if isinstance(future.exception(), WorkerDied):
                    worker.restart(*arguments)
                    deaths[task] += 1
                    if deaths[task] < MAX_DEATHS:
                        waiting.append(task)
                        continue
                yield task, future
    finally:
        for worker in pool:
            worker.stop()
