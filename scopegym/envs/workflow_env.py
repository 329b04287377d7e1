"""The environment: an agent writes a workflow micro-step by micro-step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from scopegym import device as devices
from scopegym.artifacts import Array
from scopegym.cache import Cache
from scopegym.datasets.readers import load
from scopegym.envs.actions import BINS
from scopegym.envs.episode import Episode, Rules, Stats
from scopegym.envs.observation import LIMIT, PICTURES, SIDE, Observer
from scopegym.envs.problem import Problem, Task, registry
from scopegym.errors import ScopegymError
from scopegym.limits import Limits
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import Reward
from scopegym.sample import Sample

#: Input of an episode: a problem, or an image, whose prior is then estimated.
Picture = Problem | Micrograph | str | Path
#: A sampler of training problems.
Sampler = Callable[[np.random.Generator], Problem]


class WorkflowEnv(gymnasium.Env[dict[str, Array], np.int64]):
    """Choose an operator, then each of its parameters bin by bin; action 0 stops.

    Observation: ``thumbnails`` uint8 ``[5, 48, 48]`` (input, input close, image close, result,
    result close) and ``features`` float32 (see ``unwrapped.observer.names``). Reward: the change of
    the score when an operator has run. ``info``: ``action_mask`` bool ``[actions]``, ``score``
    with its value and terms, ``failure`` and ``illegal`` of the last micro-step. Timings and cache
    hits are in ``unwrapped.stats``; they differ from run to run.

    ``images`` are problems, micrographs or files, or a function from a random generator to a
    problem; by default the task's simulated images. Spacing and count of micrographs and files are
    estimated. ``reset(options={"image": ...})`` takes any of these too, or an index into
    ``images``.
    """

    # Gymnasium declares it as an attribute of instances but reads it from the class.
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        task: str | Task = "atoms",
        *,
        images: Sequence[Picture] | Sampler | None = None,
        reward: Reward | None = None,
        operators: Sequence[str] | None = None,
        horizon: int | None = None,
        bins: int = BINS,
        device: str = "cpu",
        limits: Limits | None = None,
        cache: Cache | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.task = registry[task] if isinstance(task, str) else task
        self.reward = self.task.reward if reward is None else reward
        grammar = self.task.grammar if operators is None else self.task.grammar.only(operators)
        self.rules = Rules(grammar, self.task.horizon if horizon is None else horizon, bins, limits)
        self.observer = Observer(self.rules, self.reward)
        self.device = devices.check(device)
        self.cache = Cache() if cache is None else cache
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ScopegymError(f"render_mode is 'rgb_array' or None, not {render_mode!r}.")
        self.render_mode = render_mode
        if images is not None and not callable(images) and not len(images):
            raise ScopegymError("images is empty: give at least one, or None for simulated ones.")
        self.images = self.task.sample if images is None else images
        self.stats = Stats()
        self.episode: Episode | None = None
        self.action_space: spaces.Discrete[np.int64] = spaces.Discrete(self.rules.actions.size)
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {
                "thumbnails": spaces.Box(0, 255, (len(PICTURES), SIDE, SIDE), np.uint8),
                "features": spaces.Box(-LIMIT, LIMIT, (len(self.observer.names),), np.float32),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin an episode on the image in ``options["image"]``, or on a random one."""
        super().reset(seed=seed)
        self.stats.episodes += 1
        image = None if options is None else options.get("image")
        problem = self._draw() if image is None else self._problem(image)
        problem.check()
        self.episode = Episode.start(problem, self.rules)
        return self._observe(), self._info()

    def step(
        self, action: int | np.integer[Any]
    ) -> tuple[dict[str, Array], float, bool, bool, dict[str, Any]]:
        """Take one micro-step."""
        if self.episode is None or self.episode.ended:
            raise ScopegymError("The episode has ended or has not started: call reset() first.")
        start = time.perf_counter()
        with devices.using(self.device):
            self.episode = self.episode.play(int(action), self.stats)
        played = time.perf_counter()
        observation = self._observe()
        self.stats.seconds["observation"] += time.perf_counter() - played
        info = self._info()
        self.stats.seconds["total"] += time.perf_counter() - start
        ended = self.episode.ended
        return observation, self.episode.reward, ended == "stopped", ended == "cut off", info

    def action_masks(self) -> Array:
        """Which actions are legal now, bool ``[actions]``."""
        return self._running.mask.copy()

    def render(self) -> Array | None:
        """A picture of the current state of the episode, uint8 ``[H, W, 3]``."""
        if self.render_mode is None:
            return None
        from scopegym.envs.rendering import render

        return render(self._running)

    @property
    def _running(self) -> Episode:
        if self.episode is None:
            raise ScopegymError("There is no episode yet: call reset() first.")
        return self.episode

    def _draw(self) -> Problem:
        if callable(self.images):
            return self._problem(self.images(self.np_random))
        return self._problem(self.images[int(self.np_random.integers(len(self.images)))])

    def _problem(self, image: Picture | int) -> Problem:
        """The problem of an image, with this environment's task, reward and cache."""
        if isinstance(image, int | np.integer):
            if callable(self.images) or not 0 <= image < len(self.images):
                raise ScopegymError(f"There is no image number {image} in this environment.")
            image = self.images[int(image)]
        if isinstance(image, str | Path):
            image = load(image)
        if isinstance(image, Micrograph):
            image = Problem(image, Sample(estimate=True).expect(image).prior, self.task)
        if not isinstance(image, Problem):
            raise ScopegymError(f"An image is a problem, a micrograph or a file, not {image!r}.")
        return replace(image, task=self.task, reward=self.reward, cache=self.cache)

    def _observe(self) -> dict[str, Array]:
        return {
            "thumbnails": self.observer.thumbnails(self._running),
            "features": self.observer.features(self._running),
        }

    def _info(self) -> dict[str, Any]:
        episode = self._running
        return {
            "action_mask": episode.mask.copy(),
            "score": {"value": episode.score.value, "terms": dict(episode.score.terms)},
            "failure": episode.failure,
            "illegal": episode.illegal,
        }
