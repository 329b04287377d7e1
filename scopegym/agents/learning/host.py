"""Several environments with one policy in one process, without a deep-learning library.

A host plays whole fragments of episodes independently, so a slow operator delays only its host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scopegym.agents.network import Network, log_probabilities
from scopegym.artifacts import Array
from scopegym.cache import Cache
from scopegym.envs.problem import Problem
from scopegym.envs.workflow_env import Sampler, WorkflowEnv
from scopegym.registry import PluginFile
from scopegym.workers import one_thread

Weights = dict[str, Array]


@dataclass(frozen=True)
class EnvSpec:
    """How a host makes its environments; all fields can be pickled."""

    task: str
    #: Further arguments of ``WorkflowEnv``.
    arguments: dict[str, Any] = field(default_factory=dict)
    #: Plug-in files that a new process loads first.
    plugins: tuple[PluginFile, ...] = ()
    #: Number of training problems that a host keeps, and the probability to draw a new one.
    pool: int = 24
    renewal: float = 0.2
    #: Memory for the results of all environments of a host [bytes].
    cache_bytes: int = 512 * 2**20


class Stream:
    """A sampler that returns each problem a few times before it is replaced.

    Later episodes use cached results. Several episodes on one image also separate good choices from
    easy images.
    """

    def __init__(self, sample: Sampler, pool: int, renewal: float) -> None:
        self.sample, self.pool, self.renewal = sample, pool, renewal
        self.problems: list[Problem] = []

    def __call__(self, rng: np.random.Generator) -> Problem:
        if len(self.problems) < self.pool:
            self.problems.append(self.sample(rng))
            return self.problems[-1]
        at = int(rng.integers(self.pool))
        if rng.random() < self.renewal:
            self.problems[at] = self.sample(rng)
        return self.problems[at]


@dataclass(frozen=True, eq=False)
class Fragment:
    """``steps`` micro-steps of ``count`` environments.

    Arrays are ``[steps, count, ...]``, those after the last step ``[count]``. ``episodes`` holds
    return and number of executions of finished episodes; ``executions`` counts all operators run.
    """

    observations: dict[str, Array]
    actions: Array
    rewards: Array
    starts: Array
    values: Array
    log_probabilities: Array
    masks: Array
    last_values: Array
    last_starts: Array
    episodes: list[tuple[float, int]]
    executions: int


class Host:
    """The environments of one process."""

    def __init__(self, spec: EnvSpec, count: int, seed: int) -> None:
        one_thread()
        arguments = {"cache": Cache(spec.cache_bytes), **spec.arguments}
        self.envs = [WorkflowEnv(spec.task, **arguments) for _ in range(count)]
        shared = Stream(self.envs[0].task.practice, spec.pool, spec.renewal)
        for env in self.envs:
            if spec.arguments.get("images") is None:
                env.images = shared
        self.rng = np.random.default_rng([seed, 1])
        self.reset(seed)

    def reset(self, seed: int | None) -> tuple[dict[str, Array], Array]:
        """Reset all environments: observations ``[count, ...]`` and masks ``[count, actions]``."""
        begun = [
            env.reset(seed=None if seed is None else seed + i) for i, env in enumerate(self.envs)
        ]
        self._see([seen for seen, _ in begun], [info for _, info in begun])
        self.starts = np.ones(len(self.envs), bool)
        self.returns = np.zeros(len(self.envs))
        return self.observations, self.masks

    def step(self, actions: Array) -> list[tuple[Any, ...]]:
        """One micro-step in all environments: observation, reward, whether it ended, ``info``.

        After the end of an episode the next one begins; ``info`` holds the last observation.
        """
        played = [_step(env, int(a)) for env, a in zip(self.envs, actions, strict=True)]
        self._see([seen for seen, *_ in played], [info for *_, info in played])
        self.starts = np.array([ended for _, _, ended, _ in played])
        return played

    def _see(self, observations: list[dict[str, Array]], infos: list[dict[str, Any]]) -> None:
        self.observations = {
            key: np.stack([seen[key] for seen in observations]) for key in observations[0]
        }
        self.masks = np.stack([info["action_mask"] for info in infos])

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every environment."""
        return [getattr(env, method)(*arguments) for env in self.envs]

    def fragment(self, weights: Weights, steps: int) -> Fragment:
        """Play this number of micro-steps with a policy of these weights."""
        network, count = Network(weights), len(self.envs)
        rows: list[tuple[Any, ...]] = []
        episodes: list[tuple[float, int]] = []
        before = sum(env.stats.executions for env in self.envs)
        for _ in range(steps):
            logits, values = network(self.observations)
            chances = log_probabilities(logits, self.masks)
            # The argmax of log-probability plus Gumbel noise is a draw from the distribution.
            actions = np.argmax(chances + self.rng.gumbel(size=chances.shape), axis=1)
            taken = chances[np.arange(count), actions]
            before_it = (self.observations, actions, self.starts, values, taken, self.masks)
            played = self.step(actions)
            rewards = np.array([reward for _, reward, _, _ in played], np.float32)
            rows.append((*before_it, rewards))
            self.returns += rewards
            for i in np.flatnonzero(self.starts):
                episodes.append((float(self.returns[i]), played[i][-1]["executions"]))
                self.returns[i] = 0.0
        seen, *others = zip(*rows, strict=True)
        actions, starts, values, taken, masks, rewards = map(np.stack, others)
        return Fragment(
            observations={key: np.stack([o[key] for o in seen]) for key in seen[0]},
            actions=actions,
            rewards=rewards,
            starts=starts,
            values=values,
            log_probabilities=taken,
            masks=masks,
            last_values=network(self.observations)[1],
            last_starts=self.starts,
            episodes=episodes,
            executions=sum(env.stats.executions for env in self.envs) - before,
        )


def _step(env: WorkflowEnv, action: int) -> tuple[dict[str, Array], float, bool, dict[str, Any]]:
    seen, reward, terminated, truncated, info = env.step(action)
    ended = terminated or truncated
    if ended:
        assert env.episode is not None
        last = {
            "terminal_observation": seen,
            "TimeLimit.truncated": truncated,
            "executions": env.episode.executions,
            "final_score": info["score"],
        }
        seen, info = env.reset()
        info = {**info, **last}
    return seen, reward, ended, info
