"""Random search over structures and parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.encoding import Encoding
from scopegym.envs.problem import Problem, Trial


@agent
def random(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Draw workflows evenly from the whole space of the task."""
    encoding = Encoding(problem.task)
    while (trial := budget.evaluate(encoding.sample(rng))) is not None:
        yield trial
