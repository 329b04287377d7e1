"""The workflow an expert would try first, unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.envs.problem import Problem, Trial


@agent(chance=False)
def expert(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Try the task's expert workflow once: the baseline."""
    del rng
    trial = budget.evaluate(problem.task.expert)
    if trial is not None:
        yield trial
