"""One episode on a problem, micro-step by micro-step, as plain values without hidden state.

The environment, tree search and policies all use it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from scopegym.artifacts import Array, State
from scopegym.cache import using
from scopegym.envs.actions import BINS, Actions, Draft
from scopegym.envs.grammar import Grammar
from scopegym.envs.problem import AT_FAULT, Problem, Trial
from scopegym.errors import ScopegymError
from scopegym.limits import Limits, limited
from scopegym.operators.base import registry as operators
from scopegym.rewards.base import Score
from scopegym.workflow import Step, Workflow

#: Penalty of an illegal action. Masks exclude such actions; an agent without masks learns to avoid
#: them. The best score outweighs twenty penalties.
ILLEGAL = 0.05
#: Penalty of an operator that fails or exceeds its limits.
FAILED = 0.05


@dataclass
class Stats:
    """Timings of steps [s] and counts. They differ from run to run."""

    seconds: dict[str, float] = field(
        default_factory=lambda: {"operators": 0.0, "reward": 0.0, "observation": 0.0, "total": 0.0}
    )
    micro_steps: int = 0
    executions: int = 0
    failures: int = 0
    illegal: int = 0
    episodes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0


@dataclass(frozen=True)
class Rules:
    """How workflows are written, the horizon [executions], the values of a numeric parameter, and
    the limits of an episode (default: those of the problem)."""

    grammar: Grammar
    horizon: int
    bins: int = BINS
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise ScopegymError(f"The horizon must be at least 1 execution, not {self.horizon}.")

    @cached_property
    def actions(self) -> Actions:
        """The micro-steps."""
        return Actions(self.grammar.operators, self.bins)

    def within(self, executions: int) -> Rules:
        """The same rules with at most this many executions."""
        return self if executions >= self.horizon else replace(self, horizon=executions)

    @property
    def micro_steps(self) -> int:
        """Micro-steps after which an episode is truncated; only illegal actions lead there."""
        return self.horizon * self.actions.longest + 1


@dataclass(frozen=True, eq=False)
class Episode:
    """The state of an episode: the steps so far, their result, its score, and the draft of the next
    step."""

    problem: Problem
    rules: Rules
    state: State
    score: Score
    steps: tuple[Step, ...] = ()
    draft: Draft | None = None
    #: Slots that are filled or passed over.
    position: int = 0
    #: Operator executions so far, failed ones included.
    executions: int = 0
    micro_steps: int = 0
    seconds_operators: float = 0.0
    seconds_reward: float = 0.0
    ended: Literal["", "stopped", "cut off"] = ""
    #: Reason of the last operator's failure, if it failed.
    failure: str = ""
    #: Reward of the last micro-step.
    reward: float = 0.0
    illegal: bool = False

    @classmethod
    def start(cls, problem: Problem, rules: Rules) -> Episode:
        """The state before the first micro-step, without a result."""
        state = State.start(problem.source)
        return cls(problem, rules, state, problem.judge(state))

    @property
    def workflow(self) -> Workflow:
        """The steps carried out so far."""
        return Workflow(self.steps)

    @property
    def trial(self) -> Trial:
        """The current episode as a trial of its workflow. It has failed while mandatory slots are
        open."""
        seconds, failure = (self.seconds_operators, self.seconds_reward), None
        for at in self.rules.grammar.missing(self.position)[:1]:
            failure = self.failure or f"the slot '{self.rules.grammar.slots[at].name}' is empty"
        return Trial(self.workflow, self.score, self.executions, *seconds, failure)

    @cached_property
    def allowed(self) -> dict[str, int]:
        """The operators that may be next, and the slot that each of them fills. Optional slots stay
        empty where the horizon leaves no more executions than there are mandatory ones."""
        slots, missing = self.rules.grammar.slots, self.rules.grammar.missing(self.position)
        spare = self.rules.horizon - self.executions > len(missing)
        return {
            name: at
            for name, at in self.rules.grammar.following(self.position).items()
            if (spare or not slots[at].optional) and operators[name].runs_on(self.state)
        }

    @cached_property
    def mask(self) -> Array:
        """Which actions are legal, bool ``[actions]``."""
        return self.rules.actions.mask(self.allowed, self.draft)

    def least(self, action: int) -> int:
        """Executions of the cheapest whole episode that goes on with a legal action."""
        if action == Actions.STOP:
            return self.executions + len(self.rules.grammar.missing(self.position))
        op = self.rules.actions.extend(self.draft, action).op
        return self.executions + 1 + len(self.rules.grammar.missing(self.allowed[op] + 1))

    def play(self, action: int, stats: Stats | None = None) -> Episode:
        """The episode after one micro-step.

        An illegal action changes nothing and costs ``ILLEGAL``. A failed operator leaves the state
        unchanged and costs ``FAILED``. Otherwise the reward is the change of the score. An episode
        ends with the action to stop, at the horizon, or when no operator is left. If there is an
        answer then, mandatory slots that are still open are filled, as far as the horizon allows.
        """
        stats = Stats() if stats is None else stats
        stats.micro_steps += 1
        actions = self.rules.actions
        here = replace(
            self, micro_steps=self.micro_steps + 1, reward=0.0, failure="", illegal=False
        )
        if not (0 <= action < actions.size and self.mask[action]):
            stats.illegal += 1
            here = replace(here, reward=-ILLEGAL, illegal=True)
            over = here.micro_steps >= here.rules.micro_steps
            return replace(here, ended="cut off") if over else here
        if action == actions.STOP:
            return here._finished(stats)
        draft = actions.extend(self.draft, action)
        if not actions.finished(draft):
            return replace(here, draft=draft)
        after = here._carried_out(actions.step(draft), self.allowed[draft.op], stats)
        over = after.executions >= after.rules.horizon or not after.allowed
        return after._finished(stats) if over else after

    def _finished(self, stats: Stats) -> Episode:
        """The end of the episode, with fallbacks in mandatory slots that are open.

        Without an answer they stay open: an agent that is given an answer does not learn to find
        one.
        """
        grammar, here = self.rules.grammar, replace(self, draft=None)
        answered = self.state.get(self.problem.task.answer) is not None
        for at in grammar.missing(self.position) if answered else ():
            if here.failure or here.executions >= here.rules.horizon:
                break
            after = here._carried_out(grammar.fallbacks[at], at, stats)
            here = replace(after, reward=here.reward + after.reward)
        return replace(here, ended="stopped")

    def _carried_out(self, step: Step, slot: int, stats: Stats) -> Episode:
        """The episode after a step in this slot."""
        problem, cache = self.problem, self.problem.cache
        stats.executions += 1
        executions = self.executions + 1
        hits, misses = cache.hits, cache.misses
        start = time.perf_counter()
        limits = self.rules.limits or problem.limits

        def failed(error: Exception) -> Episode:
            stats.failures += 1
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            return replace(
                self,
                draft=None,
                executions=executions,
                failure=f"{step.op}: {reason}",
                reward=-FAILED,
            )

        try:
            step.operator.prepare(limits.isolated)
            with using(cache), limited(limits):
                state = step.operator.apply(self.state, step.params, problem.prior)
        except Exception as error:  # whatever an operator raises, the search goes on
            return failed(error)
        finally:
            ran = time.perf_counter()
            stats.seconds["operators"] += ran - start
            stats.cache_hits += cache.hits - hits
            stats.cache_misses += cache.misses - misses
        try:
            with limited(limits, f"the reward {problem.reward.name}"):
                score = problem.judge(state)
        except AT_FAULT as error:
            return failed(error)
        finally:
            judged = time.perf_counter()
            stats.seconds["reward"] += judged - ran
        return replace(
            self,
            draft=None,
            position=slot + 1,
            executions=executions,
            state=state,
            score=score,
            steps=(*self.steps, step),
            reward=score.value - self.score.value,
            seconds_operators=self.seconds_operators + ran - start,
            seconds_reward=self.seconds_reward + judged - ran,
        )
