"""The interface of a worker, and the worker in this process."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, Protocol

from scopegym.errors import ScopegymError
from scopegym.registry import PluginFile, load_plugins

#: ``PR_SET_PDEATHSIG`` of prctl(2): the signal to a process whose parent ended.
PARENT_DEATH = 1

Backend = Literal["ray", "processes", "serial"]


class WorkerDied(Exception):  # noqa: N818 - an event to recover from, not a mistake
    """The process of a worker ended or does not answer; the call it was in is lost."""


class Worker(Protocol):
    """An object, made by a factory, in some process."""

    @property
    def ready(self) -> Future[int]:
        """The process id, once the object is made. Raises the factory's errors, and WorkerDied
        when the process ended earlier."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method; the future raises WorkerDied when the process ended."""

    def restart(self, *arguments: Any) -> None:
        """End the process and make a new object with these arguments of the factory."""

    def stop(self) -> None:
        """End the process in any state."""


class Here:
    """The object in this process. Calls are synchronous and have no time limit."""

    def __init__(
        self, factory: Callable[..., Any], *arguments: Any, plugins: Sequence[PluginFile] = ()
    ) -> None:
        load_plugins(plugins)
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
        self.ready: Future[int] = Future()
        self.ready.set_result(os.getpid())

    def stop(self) -> None:
        pass


class Holder:
    """The holder of the object in another process; ``begin`` makes the object.

    A ``tied`` process ends with its parent; for a Ray actor this is the process of the node.
    """

    _broken = "its object was never made"
    _object: Any = None

    def __init__(self, tied: bool = True) -> None:
        if tied and sys.platform == "linux":
            # A stopped process cannot notice the end of its parent: the system must end it.
            ctypes.CDLL(None).prctl(PARENT_DEATH, int(signal.SIGKILL))

    def begin(self, plugins: Sequence[PluginFile], content: bytes) -> int:
        """Load plug-ins, make the object, and return the process id.

        ``content`` is a pickled pair of factory and arguments. It can refer to objects of plug-ins,
        so it is read after they are loaded.
        """
        try:
            load_plugins(plugins)
            factory, arguments = pickle.loads(content)
            self._object = factory(*arguments)
        except Exception as error:
            self._broken = first_line(error)
            raise portable(error) from None
        return os.getpid()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object."""
        if self._object is None:
            raise WorkerDied(self._broken)
        try:
            return getattr(self._object, method)(*arguments)
        except Exception as error:
            raise portable(error) from None


def portable(error: Exception) -> Exception:
    """The error, or a ScopegymError or RuntimeError with its message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        if isinstance(error, ScopegymError):
            return ScopegymError(str(error))
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's message without full stop; its type if there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def failed(error: BaseException) -> Future[Any]:
    """A call that has failed already."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def one_thread() -> None:
    """Limit the libraries of this process to one thread, because every core has a worker."""
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(1)
    threadpool_limits(1)


@contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into ``SystemExit(143)``, so that workers end and files are closed. A second
    SIGTERM ends the process at once.

    Does nothing outside the main thread, because Python handles signals there only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if former is None else former)
