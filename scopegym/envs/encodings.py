"""Alternative action spaces with a whole step per action instead of micro-steps.

They serve comparison, and libraries that need such spaces. Agents learn faster with micro-steps.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from itertools import product
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from scopegym.artifacts import Array
from scopegym.envs.actions import Actions
from scopegym.envs.workflow_env import WorkflowEnv

#: Values per parameter in the flat encoding: five parameters give 243 actions.
LEVELS = 3


class WholeSteps(gymnasium.Wrapper[dict[str, Array], Any, dict[str, Array], np.int64]):
    """An environment in which every action is a whole operator step, or stops the episode.

    Wraps a ``WorkflowEnv`` or another wrapper of one. ``info["action_mask"]`` and
    ``action_masks()`` use the wrapper's encoding.
    """

    @property
    def base(self) -> WorkflowEnv:
        """The wrapped environment of micro-steps."""
        env = self.unwrapped
        assert isinstance(env, WorkflowEnv)
        return env

    @property
    def actions(self) -> Actions:
        """The micro-steps below."""
        return self.base.rules.actions

    @abstractmethod
    def micro_steps(self, action: Any) -> list[int]:
        """The micro-steps that an action stands for."""

    @abstractmethod
    def action_masks(self) -> Array:
        """Which actions are legal now, in the layout of sb3-contrib."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Take all micro-steps of an action; an illegal one ends it."""
        earned = 0.0
        for micro in self.micro_steps(action):
            observation, reward, stopped, cut_off, info = self.env.step(np.int64(micro))
            earned += float(reward)
            if stopped or cut_off or info["illegal"]:
                break
        return observation, earned, stopped, cut_off, {**info, "action_mask": self.action_masks()}

    def _operators_legal(self) -> Array:
        """Stopping and every operator, bool ``[1 + operators]``."""
        return self.base.action_masks()[: self.actions.first_bin]


class MultiDiscreteActions(WholeSteps):
    """The operator (0 stops), then one bin for each parameter of any operator.

    Parameters that the chosen operator lacks are ignored. Masks are per dimension, so every bin is
    legal: a parameter with fewer values distributes them over all bins.
    """

    def __init__(self, env: gymnasium.Env[dict[str, Array], np.int64]) -> None:
        super().__init__(env)
        actions = self.actions
        self.bins = actions.size - actions.first_bin
        sizes = [actions.first_bin, *[self.bins] * (actions.longest - 1)]
        self.action_space = spaces.MultiDiscrete(sizes)

    def micro_steps(self, action: Any) -> list[int]:
        """The operator, and the value of each bin."""
        chosen, *bins = map(int, action)
        if chosen == Actions.STOP:
            return [chosen]
        grid = self.actions.grids[self.actions.operators[chosen - 1]]
        values = [bin_ * len(values) // self.bins for bin_, values in zip(bins, grid, strict=False)]
        return [chosen, *(self.actions.first_bin + value for value in values)]

    def action_masks(self) -> Array:
        """The masks of all dimensions, concatenated."""
        bins = np.ones(self.bins * (self.actions.longest - 1), bool)
        return np.concatenate([self._operators_legal(), bins])


class FlatActions(WholeSteps):
    """One action per operator and combination of ``LEVELS`` values of each of its parameters."""

    def __init__(self, env: gymnasium.Env[dict[str, Array], np.int64]) -> None:
        super().__init__(env)
        self.action_space = spaces.Discrete(len(self.table))

    @cached_property
    def table(self) -> list[list[int]]:
        """The micro-steps of every action; the first stops."""
        actions = self.actions
        rows = [[Actions.STOP]]
        for number, grid in enumerate(actions.grids.values(), 1):
            levels = [_spread(len(values)) for values in grid]
            rows += [
                [number, *(actions.first_bin + i for i in chosen)] for chosen in product(*levels)
            ]
        return rows

    def micro_steps(self, action: Any) -> list[int]:
        """The row of the table."""
        return self.table[int(action)]

    def action_masks(self) -> Array:
        """An action is legal when its operator is."""
        return self._operators_legal()[[row[0] for row in self.table]]


def _spread(count: int) -> list[int]:
    """Indices of at most ``LEVELS`` of this number of values, ends included."""
    levels = min(LEVELS, count)
    return [round(i * (count - 1) / max(levels - 1, 1)) for i in range(levels)]
