"""Environments in many processes as one vector environment of stable-baselines3."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnv,
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from scopegym.agents.learning.host import EnvSpec, Fragment, Host, Weights
from scopegym.artifacts import Array
from scopegym.envs.workflow_env import WorkflowEnv
from scopegym.errors import ScopegymError
from scopegym.workers import Backend, Worker, WorkerDied, room, start_worker
from scopegym.workers.pool import CALL_SECONDS, START_SECONDS

#: A host that dies this often in succession is not started again.
MAX_DEATHS = 5


class RayVecEnv(VecEnv):
    """``hosts`` processes with ``per_host`` environments each.

    Steps are synchronous, as in any vector environment. ``fragments`` instead collects whole
    fragments that the hosts play independently; this is much faster if operator times differ. A
    host that dies, or does not answer within ``seconds``, is replaced. Its episodes end; at most
    one fragment is lost. In a smaller cluster there are fewer hosts than requested.

    ``backend`` is ``ray``, ``processes`` or ``serial``. ``num_gpus`` can be a fraction, for
    operators on a GPU. A new host has ``patience`` additional seconds for its first answer.
    """

    def __init__(
        self,
        spec: EnvSpec,
        hosts: int = 2,
        per_host: int = 4,
        *,
        seed: int = 0,
        backend: Backend = "ray",
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        seconds: float = CALL_SECONDS,
        patience: float = START_SECONDS,
    ) -> None:
        if hosts < 1 or per_host < 1:
            raise ScopegymError(
                f"Give at least 1 host and 1 environment per host, not {hosts} and {per_host}."
            )
        hosts = room(backend, hosts, num_cpus, num_gpus)
        # The driver of a cluster may lack the GPU of its workers.
        self._like = WorkflowEnv(spec.task, **{**spec.arguments, "device": "cpu"})
        self.spec_of_envs, self.per_host = spec, per_host
        self._seed, self._deaths, self._in_a_row = seed, 0, 0
        self._seconds, self._patience = seconds, patience
        more: dict[str, Any] = {"plugins": spec.plugins, "cpus": num_cpus, "gpus": num_gpus}
        self._hosts: list[Worker] = [
            start_worker(backend, Host, *self._arguments(number), **more) for number in range(hosts)
        ]
        #: Hosts that have not answered yet, because they still import libraries.
        self._new = {*range(hosts)}
        self._running: dict[Future[Any], tuple[int, float]] = {}
        self._actions: Array = np.zeros(hosts * per_host, np.int64)
        super().__init__(hosts * per_host, self._like.observation_space, self._like.action_space)

    @property
    def deaths(self) -> int:
        """How many hosts died and were replaced."""
        return self._deaths

    def _arguments(self, number: int) -> tuple[EnvSpec, int, int]:
        # A replacement must not repeat the episodes of the former host.
        seed = self._seed + 1000 * (number + 1) + 1_000_003 * self._deaths
        return self.spec_of_envs, self.per_host, seed

    def _replace(self, number: int, death: WorkerDied) -> None:
        self._deaths += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_DEATHS:
            raise ScopegymError(f"Environment workers die repeatedly: {death}.") from death
        self._hosts[number].restart(*self._arguments(number))
        self._new.add(number)

    def _deadline(self, number: int) -> float:
        """Deadline of a call that begins now."""
        return time.monotonic() + self._seconds + (self._patience if number in self._new else 0.0)

    def _answered(self, number: int) -> None:
        self._in_a_row = 0
        self._new.discard(number)

    # Fragments ------------------------------------------------------------------------------------

    def fragments(self, weights: Weights, steps: int) -> list[Fragment]:
        """The first finished fragments, one per host on average.

        A finished host continues at once with the newest weights. The fragment of a slow host is
        returned by a later call.
        """
        done: list[Fragment] = []
        busy = {number for number, _ in self._running.values()}
        for number in range(len(self._hosts)):
            if number not in busy:
                self._begin(number, weights, steps)
        while len(done) < len(self._hosts):
            self._wait()
            # The earliest first; further finished fragments belong to the next call.
            over = [future for future in self._running if future.done() or self._late(future)]
            for future in over[: len(self._hosts) - len(done)]:
                number, _ = self._running.pop(future)
                try:
                    done.append(_result(future))
                    self._answered(number)
                except WorkerDied as death:
                    self._replace(number, death)
                if len(done) < len(self._hosts):
                    self._begin(number, weights, steps)
        return done

    def _begin(self, number: int, weights: Weights, steps: int) -> None:
        future = self._hosts[number].call("fragment", weights, steps)
        self._running[future] = number, self._deadline(number)

    def _wait(self) -> None:
        """Return when a fragment is ready or overdue."""
        first = min(until for _, until in self._running.values())
        wait(self._running, max(0.0, first - time.monotonic()), FIRST_COMPLETED)

    def _late(self, future: Future[Any]) -> bool:
        return time.monotonic() >= self._running[future][1]

    # Lock-step ------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        """Begin anew everywhere."""
        begun = self._each("reset", [(self._seed_of(i),) for i in range(len(self._hosts))])
        self._masks = np.concatenate([masks for _, masks in begun])
        return _together([seen for seen, _ in begun])

    def _seed_of(self, number: int) -> int | None:
        seed = self._seeds[number * self.per_host]
        return None if seed is None else int(seed)

    def step_async(self, actions: Array) -> None:
        """Note the actions to take."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take them. If a host died, its episodes are truncated without a reward."""
        parts = np.split(np.asarray(self._actions), len(self._hosts))
        played = [row for rows in self._each("step", [(part,) for part in parts]) for row in rows]
        seen, rewards, ended, infos = zip(*played, strict=True)
        self._masks = np.stack([info["action_mask"] for info in infos])
        observations = {key: np.stack([o[key] for o in seen]) for key in seen[0]}
        return observations, np.array(rewards, np.float32), np.array(ended), list(infos)

    def _each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every host; a host that died is restarted and marked."""
        futures = [h.call(method, *a) for h, a in zip(self._hosts, arguments, strict=True)]
        limits = [self._deadline(number) for number in range(len(futures))]
        return [
            self._answer(number, method, future, until)
            for number, (future, until) in enumerate(zip(futures, limits, strict=True))
        ]

    def _answer(self, number: int, method: str, future: Future[Any], until: float) -> Any:
        wait([future], max(0.0, until - time.monotonic()))
        try:
            answer = _result(future)
        except WorkerDied as death:
            self._replace(number, death)
            begun = self._hosts[number].call("reset", None)
            seen, masks = self._answer(number, "reset", begun, self._deadline(number))
            return (seen, masks) if method == "reset" else _cut_off(seen, masks)
        self._answered(number)
        return answer

    def close(self) -> None:
        """End all hosts."""
        for host in self._hosts:
            host.stop()

    # Further methods of a vector environment ----------------------------------------------------

    def has_attr(self, attr_name: str) -> bool:
        """True when the environments have it, methods included."""
        return hasattr(self._like, attr_name)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environments."""
        return self.env_method("__getattribute__", attr_name, indices=indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments."""
        if indices is not None:
            raise NotImplementedError("Attributes are set in all environments together.")
        self.env_method("__setattr__", attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the environments."""
        if method_kwargs:
            raise NotImplementedError("Methods are called with positional arguments.")
        if method_name == "action_masks":
            answers = list(self._masks)
        else:
            calls = [(method_name, *method_args)] * len(self._hosts)
            answers = [answer for part in self._each("call", calls) for answer in part]
        return [answers[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No wrapper is used."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]


def _result(future: Future[Any]) -> Any:
    """The answer to a call after its deadline. Raises WorkerDied if there is none."""
    if not future.done():
        raise WorkerDied("no answer in time")
    return future.result()


def _together(parts: Iterable[dict[str, Array]]) -> dict[str, Array]:
    parts = list(parts)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _cut_off(seen: dict[str, Array], masks: Array) -> list[tuple[Any, ...]]:
    """The answer of a replaced host in place of a step."""
    rows = []
    for i in range(len(masks)):
        observation = {key: values[i] for key, values in seen.items()}
        info = {
            "action_mask": masks[i],
            "terminal_observation": observation,
            "TimeLimit.truncated": True,
            "worker_died": True,
        }
        rows.append((observation, 0.0, True, info))
    return rows
