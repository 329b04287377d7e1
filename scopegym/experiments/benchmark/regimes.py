"""The three regimes of a benchmark, and the worker that carries out their runs.

- A: a search of one image within a budget of operator executions.
- B: a single episode of a policy, compared with one workflow tuned on many images, and with a long
  search of every image.
- C: a search from a policy's proposal, compared with a search from the expert's workflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from scopegym.agents.base import Agent
from scopegym.agents.base import registry as agents
from scopegym.agents.bayes import starting_points
from scopegym.agents.policy import Policy
from scopegym.agents.ppo import guided
from scopegym.envs.problem import Problem, Task
from scopegym.errors import ScopegymError
from scopegym.experiments.benchmark.searches import (
    Ensemble,
    Point,
    Run,
    Timed,
    judged,
    timed,
    warm_started,
)
from scopegym.experiments.benchmark.setting import Setting
from scopegym.experiments.solve import explore
from scopegym.workers import one_thread
from scopegym.workflow import Workflow

REGIMES = {"A": "search", "B": "amortised", "C": "refined"}
#: Largest number of seeds per regime. A run of B costs ten to sixty times one of A, and a workflow
#: tuned on ten images varies less between seeds than images do. C repeats A from another start.
MOST_SEEDS = {"A": 2**31, "B": 3, "C": 5}
#: A budget larger than any search needs that is ended after its evaluations.
UNLIMITED = 2**31
#: Names in regime B: a workflow tuned on many images, and a long search of every image.
TUNED, REFERENCE = "tuned by ", "bayes per image"
POLICY, EXPERT = "ppo", "expert"
#: Names in regime C: a search from the policy's proposal, and the same search in regime A.
WARM, COLD = ", warm", ", cold"


class Unit(NamedTuple):
    """A piece of work on one image, or on all images together (None)."""

    regime: str
    agent: str
    image: int | None
    seed: int

    @property
    def file(self) -> str:
        """Name of the file with its result."""
        image = "all" if self.image is None else f"{self.image:04d}"
        agent = re.sub(r"\W+", "-", self.agent)
        return f"{self.regime}-{agent}-{image}-{self.seed:03d}.json"


def units(setting: Setting, names: Sequence[str], regimes: Iterable[str], seeds: int) -> list[Unit]:
    """All pieces of work, the longest first, so that all workers end at about the same time."""
    chosen = {name: agents[name] for name in names}
    work = [unit for regime in regimes for unit in _PLANS[regime](setting, chosen, seeds)]
    return sorted(work, key=lambda unit: (unit.image is not None, unit.agent != REFERENCE))


def _plan_a(setting: Setting, chosen: dict[str, Agent], seeds: int) -> list[Unit]:
    images = range(len(setting.names))
    return [
        Unit("A", name, image, setting.seed + seed)
        for name, agent in chosen.items()
        for image in images
        for seed in range(seeds if agent.chance else 1)
    ]


def _plan_b(setting: Setting, chosen: dict[str, Agent], seeds: int) -> list[Unit]:
    seeds = min(seeds, MOST_SEEDS["B"])
    tuned = [
        Unit("B", f"{TUNED}{name}", None, setting.seed + seed)
        for name in tunable(chosen)
        for seed in range(seeds if agents[name].chance else 1)
    ]
    fixed = [name for name in (POLICY, EXPERT) if name in chosen]
    per_image = [
        Unit("B", name, image, setting.seed) for name in fixed for image in setting.held_out
    ]
    reference = [
        Unit("B", REFERENCE, image, setting.seed + seed)
        for image in setting.held_out
        for seed in range(seeds)
    ]
    return [*tuned, *per_image, *reference]


def _plan_c(setting: Setting, chosen: dict[str, Agent], seeds: int) -> list[Unit]:
    names = [name for name, agent in chosen.items() if agent.chance]
    return [
        Unit("C", name if name == POLICY else f"{name}{WARM}", image, setting.seed + seed)
        for name in names
        for image in range(len(setting.names))
        for seed in range(min(seeds, MOST_SEEDS["C"]))
    ]


_PLANS: dict[str, Callable[[Setting, dict[str, Agent], int], list[Unit]]] = {
    "A": _plan_a,
    "B": _plan_b,
    "C": _plan_c,
}


def tunable(names: Iterable[str]) -> list[str]:
    """The agents that can tune one workflow on many images. Agents that play episodes cannot:
    an episode has one image."""
    return [name for name in names if name != EXPERT and not agents[name].episodes]


class Runner:
    """Carries out pieces of work in a worker."""

    def __init__(self, setting: Setting, names: tuple[str, ...]) -> None:
        one_thread()
        self.setting, self.policy = setting, setting.load_policy()
        self._warm_up(names)

    def run(self, regime: str, agent: str, image: int | None, seed: int) -> dict[str, Any]:
        """The result of a piece of work as plain values, or the reason why it failed."""
        try:
            done = self._run(regime, agent, image, seed)
        except Exception as error:  # one bad run must not end a benchmark of thousands
            kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
            done = {"error": f"{kind}{error}"}
        return {"regime": regime, "agent": agent, "image": image, "seed": seed, **done}

    def _run(self, regime: str, agent: str, image: int | None, seed: int) -> dict[str, Any]:
        if image is None:
            return self._tuned(agents[agent.removeprefix(TUNED)], seed)
        problem = prepared(self.setting.problem(image))
        if regime == "B":
            return _plain(*judged(image, problem, self._at_once(agent, problem, seed)))
        name = agent.removesuffix(WARM)
        if regime == "A":
            trials = explore(problem, self._agent(name), self.setting.budget, seed)
            return _plain(*judged(image, problem, timed(trials)))
        return self._refined(name, image, problem, seed)

    def _agent(self, name: str) -> Agent:
        """The agent; ``ppo`` with this benchmark's policy."""
        if name != POLICY or self.policy is None:
            return agents[name]
        policy = self.policy
        return replace(agents[name], function=lambda *search: guided(policy, *search))

    def _at_once(self, agent: str, problem: Problem, seed: int) -> list[Timed]:
        """Regime B on one image: the policy's episode, the expert's workflow, or a long search."""
        if agent == POLICY:
            policy = self._needed()
            return timed(policy.propose(problem, problem.task.few) for _ in range(1))
        if agent == EXPERT:
            return timed(problem.evaluate(problem.task.expert) for _ in range(1))
        search = explore(problem, agents["bayes"], UNLIMITED, seed)
        return timed(islice(search, self.setting.budget))

    def _tuned(self, agent: Agent, seed: int) -> dict[str, Any]:
        """Regime B: tune one workflow on some images, and run it on each of the others."""
        setting = self.setting
        together = Ensemble.of(
            prepared(setting.tuning_problem(index)) for index in range(setting.tuning_images)
        )
        # A grid needs to know its budget in advance; others are ended after their evaluations.
        pays = UNLIMITED if agent.chance else setting.budget * len(together.task.expert)
        search = timed(islice(explore(together, agent, pays, seed), setting.budget))
        tuned, _ = judged(-1, together, search)
        workflow, runs = Workflow.from_dict(tuned.workflow), []
        for index in setting.held_out:
            problem = prepared(setting.problem(index))
            run, _ = judged(index, problem, timed(problem.evaluate(workflow) for _ in range(1)))
            runs.append(run.to_dict())
        return {"runs": runs, "tuning": tuned.to_dict()}

    def _refined(self, name: str, image: int, problem: Problem, seed: int) -> dict[str, Any]:
        """Regime C: the policy's proposal, then draws of the policy or a search."""
        policy, budget = self._needed(), self.setting.budget
        if name == POLICY:
            search = timed(self._agent(name).search(problem, budget, seed))
        else:
            search = timed(warm_started(agents[name], policy, problem, budget, seed))
        return _plain(*judged(image, problem, search, search[0].trial.workflow))

    def _needed(self) -> Policy:
        if self.policy is None:
            raise ScopegymError("This regime needs a policy.")
        return self.policy

    def _warm_up(self, names: tuple[str, ...]) -> None:
        """Run every agent once, so that imports are not timed."""
        budget = enough(self.setting.task)
        for name in {*names, "bayes"} - _warm:
            problem = self.setting.tuning_problem(0)
            for _ in explore(problem, self._agent(name), budget, 0):
                pass
            _warm.add(name)


#: Agents that have run in this process.
_warm: set[str] = set()


def enough(task: Task) -> int:
    """A budget that every agent spends on more than its starting points."""
    return (len(starting_points(task)) + 1) * max(len(w) for w in starting_points(task))


def prepared(problem: Problem) -> Problem:
    """The problem, with its image normalised before any timing."""
    problem.check()
    return problem


def _plain(run: Run, points: list[Point]) -> dict[str, Any]:
    return {"runs": [run.to_dict()], "curve": [list(point) for point in points]}
