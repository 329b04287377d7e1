"""Regularised evolution over the task's whole space of workflows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from scopegym.agents.base import Budget, agent
from scopegym.agents.bayes import starting_points
from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Array
from scopegym.envs.problem import Problem, Trial
from scopegym.workflow import Workflow

#: Population size. Mean best score on 16 hard images, 3 seeds, 120 executions (about 30 trials):
#: 0.860 with 10 and tournaments of 5, 0.859 with 5 and 5 or 10 and 10, 0.854 to 0.855 with weaker
#: selection or larger populations, 0.851 with random workflows after the starting points. The first
#: three do not differ significantly.
POPULATION = 10
#: Workflows of a tournament, of which the best is the parent; measured as above.
TOURNAMENT = 5
#: Most consecutive proposals that were tested before; in a small space no others are left.
PATIENCE = 100


@agent
def evolution(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Regularised evolution: mutate the best of a few workflows; the oldest one is removed.

    A workflow thus survives only through descendants with high scores (Real et al. 2019,
    Regularized Evolution for Image Classifier Architecture Search, algorithm 1).
    """
    encoding = Encoding(problem.task)
    starts = deque(starting_points(problem.task))
    living: deque[Trial] = deque(maxlen=POPULATION)
    tried: list[Array] = []

    def proposed() -> Workflow:
        """The next starting point; then a random workflow until the population is full; then a
        child."""
        if starts:
            return starts.popleft()
        if len(living) < POPULATION:
            return encoding.sample(rng)
        parent = _point(encoding, tournament(list(living), rng).workflow)
        return encoding.decode(encoding.mutate(parent, rng))

    while True:
        for _ in range(PATIENCE):
            workflow = proposed()
            point = _point(encoding, workflow)
            # A workflow and its encoding differ because parameters have six digits.
            if not any(np.abs(point - known).max() < 1e-4 for known in tried):
                break
        trial = budget.evaluate(workflow)
        if trial is None:
            return
        tried.append(point)
        living.append(trial)
        yield trial


def tournament(living: list[Trial], rng: np.random.Generator) -> Trial:
    """The best of a few drawn with replacement."""
    drawn = rng.integers(len(living), size=TOURNAMENT)
    return max((living[i] for i in drawn), key=lambda trial: trial.score.value)


def _point(encoding: Encoding, workflow: Workflow) -> Array:
    point = encoding.encode(workflow)
    assert point is not None  # starting points, samples and children all fit the slots
    return point
