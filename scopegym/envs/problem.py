"""A task says what may be done and what counts; a problem is a task on one calibrated image."""

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
from scopegym.errors import FrameError, ScopegymError
from scopegym.limits import LimitExceededError, Limits, MemoryExceededError, limited
from scopegym.micrograph import Micrograph
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.registry import PluginFile, Registry
from scopegym.registry import load_plugins as load_files
from scopegym.rewards.base import Reward, Score
from scopegym.workflow import Step, Workflow, starting


@dataclass(frozen=True)
class Slot:
    """A place in the task's workflows, to be filled by one of a few operators, or left empty."""

    name: str
    operators: tuple[str, ...]
    optional: bool = True


@dataclass(frozen=True)
class Nouns:
    """What a task's answers are called, in the plural: what the prior counts; and of a map on a
    background its regions, and what is ``inside`` and ``outside`` of them."""

    counted: str = "points"
    region: str = "regions"
    inside: str = "inside"
    outside: str = "outside"


@dataclass(frozen=True)
class Task:
    """Operators allowed, reward, horizon [operator executions per episode], the workflow that an
    expert would try first, and a sampler of training problems.

    ``slots`` give search its structure: one operator per slot, in this order. ``tuned`` names the
    parameters that matter most, as ``operator.parameter``, most important first. ``least_field``
    is the shorter side that an image must have [spacings]. ``null`` is the workflow that finds
    nothing, where that is an answer: what is chosen has to beat it. Values that differ by no more
    than ``tie`` are the same. ``few`` operator executions are a proposal; more is a search.
    ``adversaries`` make wrong answers for an audit, beside those of the kind of answer. ``takes``
    says whether a problem has one image or the frames of a stack.
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
    #: A rank in ``image_evidence`` is known to half a per cent.
    tie: float = 0.005
    few: int = 5
    adversaries: tuple[Adversary, ...] = ()
    takes: Literal["image", "frames"] = "image"
    __doc__: str = field(default="", repr=False)

    @property
    def kind(self) -> Kind[Any]:
        """What there is to say of its answers."""
        return described(self.answer)

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
        for operator in waiting:
            read = " and ".join(kind.__name__ for kind in operator.inputs)
            raise ScopegymError(
                f"The operator '{operator.name}' asks to be an action of task {self.name}, but no "
                f"slot of it reads {read} and gives {operator.output.__name__}."
            )
        return tuple(opened)


class _Tasks(Registry[Task]):
    """The tasks, each also an environment of Gymnasium under its id."""

    def __init__(self) -> None:
        super().__init__("task")
        self._homes: dict[str, str] = {}

    def add(self, entry: Task) -> Task:
        import gymnasium

        # The module that registers it: another one must not take a task's place.
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
    """Run plug-ins. Raises ScopegymError when one fails, or when one of their operators asks for a
    task that does not exist, or that has no slot for it."""
    load_files(files)
    for operator in operators.values():
        for name in operator.tasks:
            registry[name].open_slots  # noqa: B018 - what fits nowhere is refused here


#: What judging a result raises when the result is at fault and not the reward: it takes too much,
#: or a frame of it, which is computed when it is asked for, fails.
AT_FAULT = (LimitExceededError, MemoryExceededError, FrameError)


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

    ``reward`` replaces the task's own where given. ``limits`` are what each step of a workflow,
    and each judgement of a trial, may take; by default they grow with the image.
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
                f"{self.micrograph.frames} frames; choose a frame."
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
        """Carry out a workflow on this image, with this problem's cache and limits."""
        return workflow.run(self.micrograph, self.prior, cache=self.cache, limits=self.limits)

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

        def one(kind: type[Any]) -> type[Any]:
            """The kind itself; of frames, what they hold: an operator gives both."""
            return kind.kind if issubclass(kind, Frames) else kind

        read = (kind for term in self.reward.terms for kind in term.inputs)
        needed = {one(kind) for kind in (self.task.answer, *read)}
        kept: list[Step] = []
        for step in reversed(workflow.steps):
            operator = step.operator
            if one(operator.output) in needed:
                kept.append(step)
                needed -= {one(operator.output)}
                needed |= {one(kind) for kind in operator.inputs}
        return Workflow(tuple(reversed(kept)))

    def evaluate(self, workflow: Workflow) -> Trial:
        """Carry out and judge a workflow, each step and the judgement within the limits. One that
        fails is recorded, with the worst score; so is a judgement that exceeds its limits."""
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
