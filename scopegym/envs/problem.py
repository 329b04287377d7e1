"""Tasks (allowed operators and reward) and problems (a task on one calibrated image)."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scopegym.answers import Kind, described
from scopegym.answers.base import Adversary
from scopegym.artifacts import Artifact, Frames, Source, State
from scopegym.cache import Cache, using
from scopegym.envs.grammar import Grammar, Slot, joined
from scopegym.errors import FrameError, ScopegymError
from scopegym.limits import LimitExceededError, Limits, MemoryExceededError, limited
from scopegym.micrograph import Micrograph
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.registry import PluginFile, Registry
from scopegym.registry import load_plugins as load_files
from scopegym.rewards.base import Reward, Score
from scopegym.workflow import Workflow, starting


@dataclass(frozen=True)
class Nouns:
    """Plural nouns for a task's answers: the counted objects; for a map with background also the
    regions, and names for their ``inside`` and ``outside``."""

    counted: str = "points"
    region: str = "regions"
    inside: str = "inside"
    outside: str = "outside"


@dataclass(frozen=True)
class Task:
    """Allowed operators, reward, horizon [operator executions per episode], the expert's first
    workflow, and a sampler of training problems.

    ``slots`` are the structure of a workflow: one operator per slot, in this order. ``tuned`` names
    the most important parameters as ``operator.parameter``, in order of importance. ``least_field``
    is the least shorter side of an image [spacings]. ``null`` is the workflow of an empty answer,
    if that is a valid answer; the chosen workflow must score higher. Values that differ by at most
    ``tie`` are equal. A result that scores less than ``trusted`` is doubtful. Up to ``few``
    operator executions are a proposal, more are a search.
    ``adversaries`` make wrong answers for an audit, in addition to those of the kind of answer.
    ``takes`` is the input of a problem: one image or the frames of a stack. ``vary`` makes of a
    sampled problem one for training, such as with another prior.
    """

    name: str
    env_id: str
    slots: tuple[Slot, ...]
    reward: Reward
    horizon: int
    expert: Workflow
    tuned: tuple[str, ...]
    sample: Callable[[np.random.Generator], Problem]
    least_field: float = 2.0
    null: Workflow | None = None
    nouns: Nouns = Nouns()
    #: The uncertainty of a rank in ``image_evidence`` is 0.5 %.
    tie: float = 0.005
    few: int = 5
    trusted: float = 0.5
    adversaries: tuple[Adversary, ...] = ()
    takes: Literal["image", "frames"] = "image"
    vary: Callable[[Problem, np.random.Generator], Problem] | None = None
    __doc__: str = field(default="", repr=False)

    @property
    def kind(self) -> Kind[Any]:
        """The description of its kind of answer."""
        return described(self.answer)

    def practice(self, rng: np.random.Generator) -> Problem:
        """A problem to train on."""
        problem = self.sample(rng)
        return problem if self.vary is None else self.vary(problem, rng)

    @property
    def answer(self) -> type[Artifact]:
        """The kind of artifact that answers the task: the last output of the expert's workflow."""
        return self.expert.steps[-1].operator.output

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of all operators allowed, in order of first appearance."""
        return self.grammar.operators

    @property
    def grammar(self) -> Grammar:
        """How workflows are written: the slots, including operators of plug-ins that name this
        task. Each of these is in the first slot whose operators read and return the same kinds.

        Raises ScopegymError for an operator that fits no slot.
        """
        named = {name for slot in self.slots for name in slot.operators}
        others = (o for o in operators.values() if self.name in o.tasks and o.name not in named)
        return Grammar.of(joined(self.slots, others), self.expert)


class _Tasks(Registry[Task]):
    """The tasks. Each is also a Gymnasium environment under its id."""

    def __init__(self) -> None:
        super().__init__("task")
        self._homes: dict[str, str] = {}

    def add(self, entry: Task) -> Task:
        import gymnasium

        # The registering module: another module must not replace a task.
        home = sys._getframe(1).f_globals["__name__"]
        if entry.name in self and self._homes[entry.name] != home:
            raise ScopegymError(
                f"The task '{entry.name}' of {home} exists already in {self._homes[entry.name]}; "
                "give it another name."
            )
        for other in self.values():
            if other.env_id == entry.env_id and other.name != entry.name:
                raise ScopegymError(
                    f"The task '{entry.name}' has the environment id '{entry.env_id}' of task "
                    f"'{other.name}'; give it another one."
                )
        self._homes[entry.name] = home
        added = super().add(entry)
        gymnasium.registry.pop(entry.env_id, None)  # a plug-in loaded again replaces itself
        gymnasium.register(
            entry.env_id,
            entry_point="scopegym.envs.workflow_env:WorkflowEnv",
            kwargs={"task": entry.name},
        )
        return added


#: All tasks by short name.
registry: Registry[Task] = _Tasks()


def load_plugins(files: Iterable[str | Path | PluginFile]) -> None:
    """Run plug-ins.

    Raises ScopegymError when one fails, or when an operator names a task that does not exist or has
    no slot for it. The operators are then those of before.
    """
    load_files(())
    former = dict(operators)
    try:
        load_files(files)
        _check_operators()
    except ScopegymError:
        operators.restore(former)
        raise


def _check_operators() -> None:
    for operator in operators.values():
        for name in operator.tasks:
            registry[name].grammar  # noqa: B018 - what fits nowhere is refused here


#: Errors during scoring that the result causes, not the reward: it exceeds a limit, or the
#: computation of one of its frames fails.
AT_FAULT = (LimitExceededError, MemoryExceededError, FrameError)


@dataclass(frozen=True)
class Trial:
    """One tested workflow: score, cost, and the reason if it failed."""

    workflow: Workflow
    score: Score
    #: Operator executions before cache hits.
    executions: int
    seconds_operators: float
    seconds_reward: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """One calibrated image, its prior and the task.

    ``reward`` replaces the task's own if given. ``limits`` bound the time and memory of each step
    and of each scoring; by default they grow with the image.
    """

    micrograph: Micrograph
    prior: Prior
    task: Task
    reward: Reward = None  # type: ignore[assignment]
    cache: Cache = field(default_factory=Cache)
    limits: Limits = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.reward is None:
            object.__setattr__(self, "reward", self.task.reward)
        if self.limits is None:
            object.__setattr__(self, "limits", Limits.of(self.micrograph.shape))
        name, stack = self.micrograph.name, len(self.micrograph.shape) == 3
        if stack and self.task.takes == "image":
            raise ScopegymError(
                f"Task {self.task.name} takes one image; '{name}' is a stack of "
                f"{self.micrograph.frames} frames; choose a frame (--frame N)."
            )
        if not stack and self.task.takes == "frames":
            raise ScopegymError(
                f"Task {self.task.name} takes the frames of a stack or video; '{name}' is one "
                "image."
            )

    @property
    def source(self) -> Source:
        """The normalised picture with bright columns, or ``Frames[Source]`` for a task that takes
        frames."""
        return starting(self.micrograph, self.prior).source

    def check(self) -> None:
        """Raise ScopegymError for an image without contrast and for too small a field."""
        source: Source | Frames[Source] = self.source  # refuses an image without contrast
        if isinstance(source, Frames):
            source[0]
        least = math.ceil(self.task.least_field * self.prior.scale_px)
        height, width = self.micrograph.shape[-2:]
        if min(height, width) < least:
            raise ScopegymError(
                f"Task {self.task.name} needs a field of at least {least} x {least} px, "
                f"{self.task.least_field:g} spacings of {self.prior.scale_px:.1f} px; "
                f"'{self.micrograph.name}' is {height} x {width} px."
            )

    def run(self, workflow: Workflow) -> State:
        """Carry out a workflow on this image, with this problem's cache and limits."""
        return workflow.run(self.micrograph, self.prior, cache=self.cache, limits=self.limits)

    def judge(self, state: State) -> Score:
        """The score of a state, from the cache if the same results were scored before."""
        read = (
            state.get(kind)
            for term in self.reward.terms
            for kind in term.inputs
            if kind is not Prior
        )
        keys = tuple(None if artifact is None else artifact.key for artifact in read)
        with using(self.cache):
            return self.cache.get(
                ("score", self.reward, self.prior.key, keys),
                lambda: self.reward(state, self.prior),
            )

    def evaluate(self, workflow: Workflow) -> Trial:
        """Run and score a workflow; the limits hold for each step and for the scoring.

        A failed workflow is recorded with the worst score, and so is a scoring beyond its limits.
        """
        start = time.perf_counter()
        state, score, failure = None, self.reward.worst, None
        try:
            state = self.run(workflow)
        except Exception as error:
            kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
            failure = f"{kind}{error}".rstrip(".")
        ran = time.perf_counter()
        if state is not None:
            try:
                with limited(self.limits, f"The reward {self.reward.name}"):
                    score = self.judge(state)
            except AT_FAULT as error:
                failure = str(error).rstrip(".")
        done = time.perf_counter()
        return Trial(workflow, score, len(workflow), ran - start, done - ran, failure)
