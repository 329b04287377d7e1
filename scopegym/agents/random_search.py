"""Random search over structures and parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.encoding import Encoding
from scopegym.envs.problem import Problem, Trial


@agent
def random(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Draw random workflows among those that the rest of the budget allows."""
    encoding = Encoding(problem.task)
    shortest = max(1, sum(not slot.optional for slot in encoding.slots))
    while budget.left >= shortest:
        trial = budget.evaluate(encoding.sample(rng))
        if trial is not None:
            yield trial
