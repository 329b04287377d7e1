"""Bayesian optimisation over the task's whole space of workflows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scopegym.agents.base import Budget, Front, agent
from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Array
from scopegym.envs.problem import Problem, Task, Trial
from scopegym.rewards.base import Reward
from scopegym.workflow import Step, Workflow

#: Share of proposals that optimise the reward's value; the others extend the front.
AIM_AT_VALUE = 0.6
#: Trees of the model, and uniform random candidates: the defaults of scikit-optimize.
TREES, EVEN_DRAWS = 100, 10_000
#: Further candidates: neighbours of the front's workflows.
NEIGHBOURS = 400


@agent
def bayes(problem: Problem, budget: Budget, rng: np.random.Generator) -> Iterator[Trial]:
    """Bayesian optimisation: extremely randomised trees predict where improvement is expected.

    Random Chebyshev weights, drawn anew for every proposal, combine several objectives into one
    (ParEGO, Knowles 2006). Trees suit choices with parameters that depend on them.
    """
    encoding = Encoding(problem.task)
    front = Front(problem.reward)
    points: list[Array] = []
    trials: list[Trial] = []
    starts = iter(starting_points(problem.task))
    while True:
        workflow = next(starts, None)
        if workflow is None:
            loss = _losses(problem.reward, trials, rng)
            workflow = _propose(encoding, points, loss, front, rng)
        trial = budget.evaluate(workflow)
        if trial is None:
            return
        points.append(_encoded(encoding, workflow))
        trials.append(trial)
        front.add(trial)
        yield trial


def starting_points(task: Task) -> list[Workflow]:
    """The expert's workflow, and its variants with each other operator of its mandatory slots."""
    filled = task.grammar.filled(task.expert) or []
    starts = [task.expert]
    for at, (slot, held) in enumerate(zip(task.grammar.slots, filled, strict=False)):
        if held is not None and not slot.optional:
            for name in slot.operators:
                steps = (*filled[:at], Step(name), *filled[at + 1 :])
                if name != held.op:
                    starts.append(Workflow(tuple(step for step in steps if step is not None)))
    return starts


def _losses(reward: Reward, trials: list[Trial], rng: np.random.Generator) -> Array:
    """The objective to minimise ``[N]``: one minus the value, or a weighted worst term."""
    if rng.random() < AIM_AT_VALUE:
        return np.array([1 - trial.score.value for trial in trials])
    gaps = np.array([list(reward.goodnesses(trial.score.terms).values()) for trial in trials])
    gaps = 1 - gaps
    weights = rng.dirichlet(np.ones(gaps.shape[1]))
    # The small sum separates points with the same worst term.
    loss: Array = np.max(weights * gaps, axis=1) + 0.05 * (gaps @ weights)
    return loss


def _propose(
    encoding: Encoding,
    points: list[Array],
    loss: Array,
    front: Front,
    rng: np.random.Generator,
) -> Workflow:
    """The best expected improvement among uniform draws and neighbours of the workflows on the
    front.

    The same numbers as ``skopt.Optimizer``, without the cost of its general spaces.
    """
    from skopt.acquisition import gaussian_ei
    from skopt.learning import ExtraTreesRegressor

    draws = np.random.RandomState(int(rng.integers(2**31)))  # scikit-learn needs this class
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=3, random_state=draws.randint(2**31 - 1))
    forest.fit(np.array(points), loss)
    model, lowest = _Walked(forest), float(loss.min())
    even = draws.uniform(size=(encoding.dimensions, EVEN_DRAWS)).T
    candidates = [even[int(np.argmax(gaussian_ei(even, model, y_opt=lowest)))]]
    parents = [_encoded(encoding, trial.workflow) for trial in front]
    if parents:
        best = points[int(np.argmin(loss))]
        for _ in range(NEIGHBOURS):
            parent = best if rng.random() < 0.5 else parents[rng.integers(len(parents))]
            candidates.append(encoding.mutate(parent, rng))
    cube = np.array([encoding.canonical(point) for point in candidates])
    expected = gaussian_ei(cube, model, y_opt=lowest)
    # Trees are constant around tested points, so improvement need not vanish there. A workflow and
    # its encoding differ because parameters have six digits.
    tried = (np.abs(cube[:, None] - np.array(points)).max(axis=2) < 1e-4).any(axis=1)
    expected[tried] = -1.0
    return encoding.decode(cube[int(np.argmax(expected))])


@dataclass(frozen=True, eq=False)
class _Walked:
    """A fitted forest of scikit-optimize; one pass over its trees gives mean and deviation."""

    forest: Any

    def predict(self, cube: Array, return_std: bool) -> tuple[Array, Array]:
        """Mean and standard deviation ``[N]`` at points ``[N, dimensions]``, identical to the
        forest's (Hutter et al. 2014, Algorithm runtime prediction, section 4.3.2)."""
        del return_std
        at = np.ascontiguousarray(cube, dtype=np.float32)
        mean, square = np.zeros(len(at)), np.zeros(len(at))
        for estimator in self.forest.estimators_:
            tree = estimator.tree_
            leaf = tree.apply(at)
            value = tree.value[leaf, 0, 0]
            mean += value
            square += np.maximum(tree.impurity[leaf], self.forest.min_variance) + value**2
        count = len(self.forest.estimators_)
        mean /= count
        return mean, np.sqrt(np.maximum(square / count - mean**2, 0.0))


def _encoded(encoding: Encoding, workflow: Workflow) -> Array:
    point = encoding.encode(workflow)
    if point is None:
        raise ValueError(f"{workflow} does not fit the task's slots.")
    return point
