"""Workers in processes of this machine."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from queue import SimpleQueue
from typing import Any

from scopegym.registry import PluginFile
from scopegym.workers.base import Holder, WorkerDied, failed, portable

#: Libraries read these at import. Each worker has one thread, because every core has a worker.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
#: Time for the system to remove a killed process [s].
REAPING = 5.0

#: Queue of calls: the future of the answer and the pickled request. None closes the connection.
Requests = SimpleQueue[tuple[Future[Any], bytes] | None]


class Subprocess:
    """The object in a separate process, which ends with this one."""

    def __init__(
        self, factory: Callable[..., Any], *arguments: Any, plugins: Sequence[PluginFile] = ()
    ) -> None:
        self._factory, self._plugins = factory, tuple(plugins)
        self._end: Finalize | None = None
        self.restart(*arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        return self._ask("call", method, *arguments)

    def restart(self, *arguments: Any) -> None:
        self.stop()
        content = pickle.dumps((self._factory, arguments))
        self._start()
        self.ready: Future[int] = self._ask("begin", self._plugins, content)

    def stop(self) -> None:
        if self._end is not None:
            self._end()

    def _start(self) -> None:
        # A new interpreter, because a fork of a process with threads can hang.
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        from_main = threading.current_thread() is threading.main_thread()
        process = context.Process(target=_serve, args=(theirs, from_main))
        with _environment(ONE_THREAD), _interrupts_blocked():
            process.start()
        theirs.close()
        self._requests: Requests = SimpleQueue()
        # A thread sends and receives: a large request to a stopped process would block this one.
        threading.Thread(
            target=_converse, args=(ours, process, self._requests), daemon=True
        ).start()
        # Called by ``stop``, by the garbage collector, and at exit before the interpreter waits for
        # processes that may be stopped.
        self._end = Finalize(self, _kill, (process, self._requests), exitpriority=10)

    def _ask(self, *request: Any) -> Future[Any]:
        if self._end is None or not self._end.still_active():
            return failed(WorkerDied("the worker was stopped"))
        try:
            content = pickle.dumps(request)
        except Exception as error:
            return failed(error)
        future: Future[Any] = Future()
        self._requests.put((future, content))
        return future


def _converse(connection: Connection, process: BaseProcess, requests: Requests) -> None:
    """Send requests one after the other until there are no more."""
    with connection:
        while (request := requests.get()) is not None:
            future, content = request
            try:
                connection.send_bytes(content)
                worked, answer = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                process.join(REAPING)
                worked, answer = False, WorkerDied(_ended(process.exitcode))
            except Exception as error:  # an answer that cannot be read here
                worked, answer = False, error
            if worked:
                future.set_result(answer)
            else:
                future.set_exception(answer)


def _ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process ended with exit code {code}"
    return f"the process was ended by {signal.Signals(-code).name}"


def _kill(process: BaseProcess, requests: Requests) -> None:
    process.kill()  # unlike SIGTERM it ends a stopped process too
    process.join(REAPING)
    requests.put(None)


# --- in the other process -------------------------------------------------------------------------


def _serve(connection: Connection, from_main: bool) -> None:
    """Answer requests until the other side closes."""
    # Ctrl-C goes to all processes of a terminal; the driver ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    # For the system, the end of the starting thread is the end of the parent.
    holder = Holder(tied=from_main)
    while True:
        try:
            content = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(_answer(holder, content))


def _answer(holder: Holder, content: bytes) -> bytes:
    try:
        method, *arguments = pickle.loads(content)
        return pickle.dumps((True, getattr(holder, method)(*arguments)))
    except Exception as error:
        return pickle.dumps((False, portable(error)))


def _end_with_parent() -> None:
    """End this process after its parent has ended in any way."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- how a process starts -------------------------------------------------------------------------


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


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in processes started meanwhile until they ignore it themselves."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Python's own helper process unblocks the signal when it starts.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
