"""Workers in a Ray cluster, of this machine or of many.

A cluster has scopegym installed on every machine. It needs no shared disk: plug-ins travel with the
workers, files as a ``Parcel``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from scopegym.errors import ScopegymError
from scopegym.registry import PluginFile
from scopegym.workers.base import Holder, WorkerDied, failed, first_line

#: Time limit to reach a cluster at an address [s].
PATIENCE = 20
#: Ray reads these at import. The last one suppresses its messages on standard output, such as
#: deaths of workers; the caller reports these.
SETTINGS_OF_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
#: How an HTTP/2 client begins, and the kind of frame that a server answers with (RFC 9113, 3.4).
PREFACE, SETTINGS_FRAME = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]),
    4,
)

#: The address of the cluster that this process started.
_own: str | None = None


class Actor:
    """The object in a Ray actor, on this machine or another of the cluster."""

    def __init__(
        self,
        factory: Callable[..., Any],
        *arguments: Any,
        plugins: Sequence[PluginFile] = (),
        cpus: float = 1.0,
        gpus: float = 0.0,
    ) -> None:
        import ray

        # Tasks are pure functions of their arguments, so a dead actor is replaced, not revived.
        # Ray itself keeps the libraries of an actor to as many threads as it has cores.
        self._remote = ray.remote(Holder).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        self._factory, self._plugins = factory, tuple(plugins)
        self._actor: Any = None
        self.restart(*arguments)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        return self._ask("call", method, *arguments)

    def restart(self, *arguments: Any) -> None:
        from ray import cloudpickle

        self.stop()
        content = cloudpickle.dumps((self._factory, arguments))
        self._actor = self._remote.remote()
        self.ready: Future[int] = self._ask("begin", self._plugins, content)

    def stop(self) -> None:
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)

    def _ask(self, method: str, *arguments: Any) -> Future[Any]:
        try:
            called = getattr(self._actor, method).remote(*arguments)
        except Exception as error:  # arguments that cannot travel, a file that is gone
            return failed(error)
        return _translated(called.future())


def _translated(future: Future[Any]) -> Future[Any]:
    """The same future, raising WorkerDied for what Ray raises, and a method's own errors."""
    from ray.exceptions import RayError, RayTaskError

    mine: Future[Any] = Future()

    def pass_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            mine.set_result(done.result())
        elif isinstance(error, RayTaskError):
            mine.set_exception(error.cause)
        else:
            mine.set_exception(
                WorkerDied(first_line(error)) if isinstance(error, RayError) else error
            )

    future.add_done_callback(pass_on)
    return mine


def start_ray(address: str | None = None, cpus: int | None = None) -> None:
    """Join the cluster at an address or at ``RAY_ADDRESS``; without either, start a local one.

    A local cluster has ``cpus`` processors (default: those of the machine; more are allowed). Does
    nothing when a cluster is joined already.

    Raises ScopegymError when the address cannot be reached.
    """
    for name, value in SETTINGS_OF_RAY.items():
        os.environ.setdefault(name, value)
    import ray

    if address is not None:
        _answers(address)
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        _start(cpus)
        return
    _answers(address)
    try:
        _init(address=address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ScopegymError(
            f"The Ray cluster at '{address}' cannot be joined: {first_line(error)}."
        ) from None


def _start(cpus: int | None) -> None:
    global _own
    import ray

    _init(address="local", num_cpus=cpus, include_dashboard=False)
    _own = ray.get_runtime_context().gcs_address


def _init(**options: Any) -> None:
    """``ray.init`` that prints nothing and keeps this process's SIGTERM handler."""
    import ray

    former = signal.getsignal(signal.SIGTERM)
    ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    if callable(former) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, former)


def _answers(address: str) -> None:
    """Raise ScopegymError when no gRPC server answers at ``host:port``. Ray itself would retry for
    minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return
            connection.sendall(PREFACE)
            answer = connection.recv(9)
    except (OSError, ValueError) as error:
        raise ScopegymError(f"No Ray cluster answers at '{address}': {error}.") from None
    if len(answer) < 4 or answer[3] != SETTINGS_FRAME:
        raise ScopegymError(f"No Ray cluster answers at '{address}': another program does.")


def joined() -> bool:
    """True for a cluster that this process did not start: workers may run on machines without its
    files."""
    if "ray" not in sys.modules:
        return False
    import ray

    return ray.is_initialized() and ray.get_runtime_context().gcs_address != _own


def places(cpus: float = 1.0, gpus: float = 0.0) -> int:
    """Number of workers of this size that the cluster can hold; at least 1, as it may grow."""
    import ray

    has = ray.cluster_resources()
    asked = [("CPU", cpus), ("GPU", gpus)]
    fits = [int(has.get(name, 0.0) / amount + 1e-9) for name, amount in asked if amount > 0]
    return max(1, min(fits, default=1))


def wants(cpus: float = 1.0, gpus: float = 0.0) -> str:
    """The resources of a worker and of the cluster, in words."""
    import ray

    has, free = ray.cluster_resources(), ray.available_resources()
    return (
        f"each asks for {cpus:g} CPU and {gpus:g} GPU, and the cluster has "
        f"{has.get('CPU', 0.0):g} CPU ({free.get('CPU', 0.0):g} free) and "
        f"{has.get('GPU', 0.0):g} GPU ({free.get('GPU', 0.0):g} free)"
    )
