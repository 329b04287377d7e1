"""Agents propose workflows and receive scores; the front keeps the non-dominated trials."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, overload

import numpy as np

from scopegym.artifacts import Array
from scopegym.envs.episode import Episode
from scopegym.envs.problem import Problem, Task, Trial
from scopegym.errors import ScopegymError
from scopegym.registry import Registry
from scopegym.rewards.base import Reward
from scopegym.workflow import Workflow

Pick = Literal["value", "euclidean", "chebyshev"]


class Budget:
    """Limit of operator executions on one problem, counted before cache hits."""

    def __init__(self, problem: Problem, executions: int) -> None:
        self.problem = problem
        self.executions = executions
        self.spent = 0

    @property
    def left(self) -> int:
        """Remaining executions."""
        return self.executions - self.spent

    def evaluate(self, workflow: Workflow) -> Trial | None:
        """Run a workflow and charge its cost; None if the cost exceeds the rest of the budget."""
        # An empty workflow costs one execution, for its score.
        cost = max(1, len(workflow))
        if cost > self.left:
            return None
        self.spent += cost
        return self.problem.evaluate(workflow)

    def record(self, episode: Episode) -> Trial:
        """Charge an episode on the problem and return it as a trial."""
        self.spent += max(1, episode.executions)
        return episode.trial


Search = Callable[[Problem, Budget, np.random.Generator], Iterator[Trial]]


@dataclass(frozen=True)
class Agent:
    """A search strategy: a generator function that spends a budget on a problem."""

    name: str
    function: Search
    __doc__: str = field(default="", repr=False)
    #: False if all seeds give the same trials.
    chance: bool = True
    #: True if it plays episodes on an image, False if it only needs scores of workflows.
    episodes: bool = False

    def search(
        self, problem: Problem, budget: int, rng: np.random.Generator | int
    ) -> Iterator[Trial]:
        """Yield trials until ``budget`` operator executions are spent.

        Raises ScopegymError when the budget does not cover the first workflow.
        """
        check_budget(problem.task, budget)
        yield from self.function(problem, Budget(problem, budget), np.random.default_rng(rng))


def check_budget(task: Task, budget: int) -> None:
    """Raise ScopegymError when a budget [executions] does not cover the expert's workflow."""
    if budget < len(task.expert):
        raise ScopegymError(
            f"A budget of {budget} operator executions is too small: the expert's workflow of "
            f"task {task.name} alone takes {len(task.expert)}."
        )


#: All agents by name.
registry: Registry[Agent] = Registry("agent")


@overload
def agent(function: Search) -> Agent: ...


@overload
def agent(*, chance: bool = True, episodes: bool = False) -> Callable[[Search], Agent]: ...


def agent(
    function: Search | None = None, *, chance: bool = True, episodes: bool = False
) -> Agent | Callable[[Search], Agent]:
    """Register a generator function of problem, budget and random generator as an agent.

    Use ``@agent`` alone or with the fields of ``Agent`` as arguments.
    """

    def register(function: Search) -> Agent:
        doc = inspect.getdoc(function) or ""
        return registry.add(Agent(function.__name__, function, doc, chance, episodes))

    return register if function is None else register(function)


class Front:
    """The Pareto front: trials that no other trial dominates.

    Terms are compared by their goodness (0..1, 1 is best), whatever their direction.
    """

    def __init__(self, reward: Reward, trials: Iterable[Trial] = ()) -> None:
        self.reward = reward
        self.trials: tuple[Trial, ...] = ()
        for trial in trials:
            self.add(trial)

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def add(self, trial: Trial) -> bool:
        """Add a trial unless another one is as good in all terms; remove those it dominates."""
        if trial.failure is not None:
            return False
        new = self._goodness(trial)
        old = [self._goodness(kept) for kept in self.trials]
        if any((kept >= new).all() for kept in old):
            return False
        survivors = [t for t, kept in zip(self.trials, old, strict=True) if not (new >= kept).all()]
        self.trials = (*survivors, trial)
        return True

    def best(self, pick: Pick = "value") -> Trial:
        """The trial of highest value, or nearest to the ideal point (all terms at their best) by
        Euclidean or Chebyshev distance. Raises ScopegymError on an empty front."""
        if not self.trials:
            raise ScopegymError("No workflow succeeded, so there is no best one.")
        if pick == "value":
            return max(self.trials, key=lambda trial: trial.score.value)
        distance = {
            "euclidean": lambda gap: float(np.sqrt(np.sum(gap**2))),
            "chebyshev": lambda gap: float(gap.max()),
        }
        if pick not in distance:
            raise ScopegymError(f"Pick by value, euclidean or chebyshev, not '{pick}'.")
        return min(self.trials, key=lambda trial: distance[pick](1 - self._goodness(trial)))

    def _goodness(self, trial: Trial) -> Array:
        return np.array(list(self.reward.goodnesses(trial.score.terms).values()))
