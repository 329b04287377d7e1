"""A task says what may be done and what counts; a problem is a task on one calibrated image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scopegym.artifacts import Artifact, Frames, Source, State
from scopegym.cache import Cache, using
from scopegym.errors import FrameError, ScopegymError
from scopegym.limits import LimitExceededError, Limits, MemoryExceededError, limited
from scopegym.micrograph import Micrograph
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.registry import Registry
from scopegym.rewards.base import Reward, Score
from scopegym.workflow import Step, Workflow, starting


@dataclass(frozen=True)
class Slot:
    """A place in the task's workflows, to be filled by one of a few operators, or left empty."""

    name: str
    operators: tuple[str, ...]
    optional: bool = True


@dataclass(frozen=True)
class Task:
    """Operators allowed, reward, horizon [operator executions per episode], the workflow that an
    expert would try first, and a sampler of training problems.

    ``slots`` give search its structure: one operator per slot, in this order. ``tuned`` names the
    parameters that matter most, as ``operator.parameter``, most important first. ``least_field``
    is the shorter side that an image must have [spacings]. ``null`` is the workflow that finds
    nothing, where that is an answer: what is chosen has to beat it. ``takes`` says whether a
    problem has one image or the frames of a stack.
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
    takes: Literal["image", "frames"] = "image"
    __doc__: str = field(default="", repr=False)

    @property
    def answer(self) -> type[Artifact]:
        """The kind of artifact that answers the task: what the expert's workflow ends in."""
        return self.expert.steps[-1].operator.output

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of all operators allowed, in order of first appearance."""
        return tuple(dict.fromkeys(name for slot in self.open_slots for name in slot.operators))

    def completed(self, workflow: Workflow) -> Workflow:
        """The workflow with the expert's step for every obligatory slot that it leaves empty.

        Such a slot is one whose use the reward cannot see, or without which there is no answer.
        """
        done = {step.op for step in workflow}
        missing = [
            slot for slot in self.slots if not slot.optional and not done & {*slot.operators}
        ]
        added = (step for slot in missing for step in self.expert if step.op in slot.operators)
        return Workflow((*workflow, *added))

    @property
    def open_slots(self) -> tuple[Slot, ...]:
        """The slots, with operators that asked for this task (plug-ins) each in the first slot
        whose operators read and give the same kinds."""
        waiting = [
            o
            for o in operators.values()
            if self.name in o.tasks and all(o.name not in slot.operators for slot in self.slots)
        ]
        opened = []
        for slot in self.slots:
            kinds = {(operators[name].inputs, operators[name].output) for name in slot.operators}
            joining = [o for o in waiting if (o.inputs, o.output) in kinds]
            waiting = [o for o in waiting if o not in joining]
            names = (*slot.operators, *(o.name for o in joining))
            opened.append(Slot(slot.name, names, slot.optional))
        return tuple(opened)


class _Tasks(Registry[Task]):
    """The tasks, each also an environment of Gymnasium under its id."""

    def add(self, entry: Task) -> Task:
        import gymnasium

        added = super().add(entry)
        gymnasium.registry.pop(entry.env_id, None)  # a plug-in loaded again replaces itself
        gymnasium.register(
            entry.env_id,
            entry_point="scopegym.envs.workflow_env:WorkflowEnv",
            kwargs={"task": entry.name},
        )
        return added


#: All tasks by short name.
registry: Registry[Task] = _Tasks("task")


@dataclass(frozen=True)
class Trial:
    """One workflow tried: its score, cost and failure if it failed."""

    workflow: Workflow
    score: Score
    #: Operator executions before cache hits.
    executions: int
    seconds_operators: float
    seconds_reward: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """One calibrated image, what physics expects of it, and the task.

    ``reward`` replaces the task's own where given. ``limits`` are what each step of a workflow that
    is tried, and each judgement, may take; by default they grow with the image.
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
                f"{self.micrograph.frames} frames."
            )
        if not stack and self.task.takes == "frames":
            raise ScopegymError(
                f"Task {self.task.name} takes the frames of a stack or video; '{name}' is one "
                "image."
            )

    @property
    def source(self) -> Source:
        """The normalised picture, or ``Frames[Source]`` for a task that takes frames."""
        return starting(self.micrograph).source

    def check(self) -> None:
        """Raise ScopegymError when nothing can be found: no contrast, or too small a field."""
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
        """Carry out a workflow on this image, with this problem's cache."""
        return workflow.run(self.micrograph, self.prior, cache=self.cache)

    def judge(self, state: State) -> Score:
        """The score of a state, taken from the cache where the same results were judged before."""
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

    def essential(self, workflow: Workflow) -> Workflow:
        """The steps that the answer and its score are made from, without those whose results were
        replaced before anything read them."""
        needed = {self.task.answer, *(kind for term in self.reward.terms for kind in term.inputs)}
        kept: list[Step] = []
        for step in reversed(workflow.steps):
            operator = step.operator
            if operator.output in needed:
                kept.append(step)
                needed -= {operator.output}
                needed |= {*operator.inputs}
        return Workflow(tuple(reversed(kept)))

    def evaluate(self, workflow: Workflow) -> Trial:
        """Carry out and judge a workflow, each step and the judgement within the limits. One that
        fails is recorded, with the worst score; so is a judgement that exceeds its limits."""
        start = time.perf_counter()
        score, failure = self.reward.worst, None
        state = State.start(self.source)
        step = None
        try:
            with using(self.cache):
                for step in workflow:
                    step.operator.prepare(self.limits.isolated)
                    with limited(self.limits):
                        state = step.operator.apply(state, step.params, self.prior)
        except Exception as error:
            failure = _reason(error, "" if step is None else step.op)
        ran = time.perf_counter()
        if failure is None:
            try:
                with limited(self.limits):
                    score = self.judge(state)
            except EXCEEDED as error:
                failure = _reason(error, f"The reward {self.reward.name}")
        done = time.perf_counter()
        return Trial(workflow, score, len(workflow), ran - start, done - ran, failure)


#: What judging a result raises when the result is at fault and not the reward: it takes too much,
#: or a frame of it, which is computed when it is asked for, fails.
EXCEEDED = (LimitExceededError, MemoryExceededError, FrameError)


def _reason(error: Exception, what: str) -> str:
    """Why something failed, in a line."""
    if isinstance(error, EXCEEDED) and not isinstance(error, FrameError):
        return f"{what} {error}"
    kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
    return f"{kind}{error}".rstrip(".")
