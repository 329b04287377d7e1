"""Operators in a separate process, which can be ended at any time.

An alarm cannot interrupt compiled code. Each thread has one such process. It starts with the first
isolated operator, serves all others, and is replaced after it was ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopegym import device, limits, registry, resources
from scopegym.errors import ScopegymError
from scopegym.resources import Resource

if TYPE_CHECKING:
    from scopegym.operators.base import Operator
    from scopegym.workers.processes import Subprocess

_here = threading.local()


@dataclass(frozen=True)
class Call:
    """A function to call in the other process, with its arguments, resources and limits."""

    name: str
    function: Operator | Callable[..., Any]
    resources: Mapping[str, Resource]
    weights: Mapping[str, Path]
    device: str
    inputs: Sequence[Any] = ()
    parameters: Mapping[str, Any] | None = None
    nbytes: int | None = None

    def carried_out(self) -> Any:
        """The result; None if the call only loads resources."""
        with device.using(self.device), resources.using(self.weights):
            loaded = {name: resource.load() for name, resource in self.resources.items()}
            if self.parameters is None:
                return None
            with limits.within_memory(self.nbytes, self.name):
                function = getattr(self.function, "function", self.function)
                return function(*self.inputs, **self.parameters, **loaded)


class Runner:
    """The object in the other process."""

    def run(self, content: bytes) -> Any:
        """Run a pickled ``Call``."""
        import pickle

        call: Call = pickle.loads(content)
        return call.carried_out()


def prepare(operator: Operator) -> None:
    """Start the process and load the resources; this does not count as the operator's time.

    Raises ScopegymError when the process cannot start or a resource is missing.
    """
    from scopegym.workers.pool import START_SECONDS

    _started()
    if operator.resources:
        _ask(operator, (), None, START_SECONDS)


def carried_out(operator: Operator, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
    """The result of an operator, from the other process.

    Raises LimitExceededError when a limit is exceeded and ScopegymError when the process ends. The
    process is replaced after both.
    """
    return _ask(operator, inputs, parameters, limits.seconds_left())


def _ask(
    operator: Operator,
    inputs: Sequence[Any],
    parameters: Mapping[str, Any] | None,
    seconds: float | None,
) -> Any:
    import cloudpickle

    from scopegym.workers.base import WorkerDied

    in_force = limits.current()
    content = cloudpickle.dumps(
        Call(
            operator.name,
            _portable(operator),
            operator.resources,
            resources.chosen(),
            device.current(),
            inputs,
            parameters,
            None if in_force is None else in_force.nbytes,
        )
    )
    child = _started()
    try:
        answer = child.call("run", content)
        error = answer.exception(seconds)
    except TimeoutError:
        _end()
        raise limits.exceeded() from None
    except BaseException:  # an alarm or Ctrl-C, while the other process works on
        _end()
        raise
    if isinstance(error, WorkerDied):
        _end()
        raise ScopegymError(f"{operator.name} ended its process: {error}.") from None
    if error is not None:
        raise error
    return answer.result()


def _portable(operator: Operator) -> Operator | Callable[..., Any]:
    """The operator, pickled by name, if the other process has its module; otherwise its
    function."""
    module = operator.function.__module__
    if module.partition(".")[0] == "scopegym" or module in registry.loaded:
        return operator
    return operator.function


def _started() -> Subprocess:
    """The process of this thread, ready, with all plug-ins that are loaded here."""
    from scopegym.workers.base import WorkerDied
    from scopegym.workers.pool import START_SECONDS
    from scopegym.workers.processes import Subprocess

    plugins = tuple(registry.loaded.values())
    if getattr(_here, "child", None) is None or _here.plugins != plugins:
        _end()
        _here.child, _here.plugins = Subprocess(Runner, plugins=plugins), plugins
    child: Subprocess = _here.child
    try:
        child.ready.result(START_SECONDS)
    except (WorkerDied, TimeoutError) as error:
        _end()
        raise ScopegymError(f"The process for operators cannot start: {error}.") from None
    except BaseException:
        _end()
        raise
    return child


def _end() -> None:
    child: Subprocess | None = getattr(_here, "child", None)
    _here.child = None
    if child is not None:
        child.stop()
