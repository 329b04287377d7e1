"""What is benchmarked: the problems, and what every run of them has in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scopegym.agents.policy import SPEC, Policy
from scopegym.artifacts import Array, digest
from scopegym.cache import Cache
from scopegym.envs.problem import Problem, Task
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.collection import images_in, problem_of
from scopegym.registry import PluginFile
from scopegym.sample import Sample
from scopegym.workers import Parcel
from scopegym.workflow import versions

#: Streams of random numbers of the simulated problems, for testing and for tuning one workflow to
#: many images: neither a training nor its validation draws from them, nor ``benchmarks/policy.py``.
TEST, TUNING = 7411, 7412


class Frame(NamedTuple):
    """One image of the user, perhaps a frame of a stack: its name, its file, and which frame."""

    name: str
    file: Parcel
    number: int


@dataclass(frozen=True)
class UserImages:
    """Images of the user, and what is known of them."""

    sample: Sample
    frames: tuple[Frame, ...]
    #: Problems with their pixels; it travels empty.
    _asked: Cache = field(default_factory=Cache, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, images: Iterable[tuple[str, Path]], sample: Sample) -> UserImages:
        """The images in files, by name. Raises ScopegymError when one cannot be read."""
        frames = []
        for name, path in images:
            count = len(images_in(path, sample))
            names = [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]
            file = Parcel(path)
            frames += [Frame(each, file, i) for i, each in enumerate(names)]
        return cls(sample, tuple(frames))

    def problem(self, index: int, task: Task) -> Problem:
        """What is asked of one image, with an empty cache; each process reads and calibrates it
        once."""

        def ask() -> tuple[Problem, Array]:
            frame = self.frames[index]
            with frame.file.local() as path:
                micrograph = images_in(path, self.sample)[frame.number]
            named = replace(micrograph, name=frame.name)
            return problem_of(named, self.sample, task, task.reward)[0], micrograph.data

        problem, _ = self._asked.get((index, task.name), ask)
        return replace(problem, cache=Cache())


@dataclass(frozen=True)
class Setting:
    """What all runs share. It travels to the workers, and ``run`` tells two benchmarks apart.

    ``budget`` counts operator executions of a search, and evaluations where one workflow is tuned
    to many images. ``training`` is the number of those images; of the user's images at most half.
    """

    task_name: str
    budget: int
    #: How many problems to simulate where no images are given.
    simulated: int = 20
    seed: int = 0
    training: int = 10
    policy: Parcel | None = None
    given: UserImages | None = None
    plugins: tuple[PluginFile, ...] = ()

    @property
    def task(self) -> Task:
        """The task."""
        return tasks[self.task_name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        if self.given is None:
            return tuple(f"simulated-{index:03d}" for index in range(self.simulated))
        return tuple(frame.name for frame in self.given.frames)

    @property
    def held_out(self) -> range:
        """The images that nothing is tuned to."""
        return range(0 if self.given is None else self.tuning_images, len(self.names))

    @property
    def tuning_images(self) -> int:
        """How many images a workflow is tuned to: simulated ones of their own, or the user's first
        ones, but no more than half of them."""
        return self.training if self.given is None else min(self.training, len(self.names) // 2)

    @property
    def run(self) -> dict[str, Any]:
        """What a run's result depends on beside the agent, its policy, the image's number and the
        seed, as plain values."""
        given: dict[str, Any] = {}
        if self.given is not None:
            pixels = [self.problem(index).micrograph.key for index in range(len(self.names))]
            given = {**self.given.sample.to_dict(), "images": digest(*pixels)}
        return {
            "task": self.task_name,
            "reward": self.task.reward.to_dict(),
            "budget": self.budget,
            "seed": self.seed,
            "training_images": self.tuning_images,
            **given,
            "plugins": {plugin.module: digest(plugin.source) for plugin in self.plugins},
            "versions": versions(),
        }

    @property
    def policy_key(self) -> str | None:
        """The policy's identity, None where none takes part."""
        if self.policy is None:
            return None
        with self.policy.local() as folder:
            return digest((folder / SPEC).read_text("utf-8"))

    def problem(self, index: int) -> Problem:
        """A problem to be tested on, with an empty cache."""
        if self.given is not None:
            return self.given.problem(index, self.task)
        return self._named(TEST, index, self.names[index])

    def tuning_problem(self, index: int) -> Problem:
        """A problem to tune a workflow to, never one of those that are ``held_out``."""
        if self.given is not None:
            return self.given.problem(index, self.task)
        return self._named(TUNING, index, f"tuning-{index:03d}")

    def load_policy(self) -> Policy | None:
        """The policy, if one takes part. Raises ScopegymError when it does not fit the task."""
        if self.policy is None:
            return None
        with self.policy.local() as folder:
            policy = Policy.load(folder)
        where = self.policy.path
        if policy.task.name != self.task_name:
            raise ScopegymError(
                f"The policy '{where}' is for task {policy.task.name}, not {self.task_name}."
            )
        judged, trained = self.task.reward.weights, policy.reward.weights
        if {*judged} != {*trained}:
            raise ScopegymError(
                f"The policy '{where}' was trained on the terms {', '.join(trained)}; task "
                f"{self.task_name} is judged by {', '.join(judged)}. Train it again."
            )
        return policy

    def _named(self, stream: int, index: int, name: str) -> Problem:
        problem = self.task.sample(np.random.default_rng([stream, index]))
        return replace(problem, micrograph=replace(problem.micrograph, name=name))
