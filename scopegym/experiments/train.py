"""Train a workflow-building agent and keep the best policy it reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from scopegym.agents.policy import BUNDLE, SPEC, WEIGHTS, Policy, describe, outline
from scopegym.cache import Cache
from scopegym.envs.actions import BINS
from scopegym.envs.episode import Episode
from scopegym.envs.observation import Observer
from scopegym.envs.problem import Problem, Task
from scopegym.envs.problem import registry as tasks
from scopegym.envs.workflow_env import WorkflowEnv
from scopegym.errors import ScopegymError
from scopegym.experiments.folders import Output
from scopegym.experiments.interrupt import INTERRUPTIONS
from scopegym.experiments.training.checkpoint import CHECKPOINT, LOG, read_checkpoint
from scopegym.experiments.training.course import LAST, Course, Validation
from scopegym.experiments.training.settings import Settings
from scopegym.registry import PluginFile, read_plugins
from scopegym.workers import Backend

#: Seed of the validation images, the same for every training.
VALIDATION = 2026

#: Share of a user's images that is kept for validation.
HELD_OUT = 0.2


def train(
    task: str,
    out: str | Path,
    *,
    problems: Sequence[Problem] | None = None,
    settings: Settings | None = None,
    workers: int = 2,
    backend: Backend = "ray",
    seed: int = 0,
    device: str = "cpu",
    gpus: float = 0.0,
    plugins: Sequence[Path | PluginFile] = (),
    resume: bool = False,
    on_validation: Callable[[Validation], None] | None = None,
    on_update: Callable[[int, float], None] | None = None,
) -> Policy:
    """Train a policy with masked PPO and write its bundle, checkpoint and log into ``out``.

    Trains on simulated images of the task, or on ``problems``, of which a fifth is kept for
    validation. The bundle in ``out`` is always the best so far by validation score. ``resume`` goes
    on from the checkpoint in ``out``; an interrupted training leaves one. Raises ScopegymError on
    bad input.
    """
    import torch

    from scopegym.agents.learning.host import EnvSpec
    from scopegym.agents.learning.network import POLICY_ARGUMENTS
    from scopegym.agents.learning.ppo import FragmentPPO
    from scopegym.agents.learning.vec_env import RayVecEnv

    out = Path(out)
    output = Output(out, "train")
    checkpoint = read_checkpoint(out / CHECKPOINT) if resume else None
    if resume:
        output.adopt(CHECKPOINT)
    output.claim([SPEC, WEIGHTS, CHECKPOINT, LOG])
    settings = Settings.of(task) if settings is None else settings
    training, validation = _split(tasks[task], problems, settings, seed)
    arguments = {"images": training, "device": device}
    spec = EnvSpec(task, arguments, read_plugins(plugins), settings.pool, settings.renewal)
    env = RayVecEnv(spec, workers, settings.environments, seed=seed, backend=backend, num_gpus=gpus)
    try:
        # Two threads save a sixth of the time on an idle machine, but are slow on a busy one.
        torch.set_num_threads(1)
        # A training that is shorter than one round of fragments has shorter fragments.
        fragment = max(2, min(settings.fragment, settings.steps // env.num_envs))
        model = FragmentPPO(
            "MultiInputPolicy",
            env,
            n_steps=fragment,
            batch_size=_batch(fragment * env.num_envs, settings.batch),
            n_epochs=settings.epochs,
            learning_rate=_falling(settings.learning_rate),
            gamma=settings.discount,
            gae_lambda=settings.trace,
            clip_range=settings.clip,
            ent_coef=settings.entropy,
            policy_kwargs=POLICY_ARGUMENTS,
            tensorboard_log=str(out / "tensorboard"),
            device="cpu",
            seed=seed,
        )
        course = Course(
            output=output,
            settings=settings,
            validation=validation,
            spec=_spec(tasks[task], training, validation, settings, seed),
            on_validation=on_validation,
            on_update=on_update,
        )
        if checkpoint is not None:
            course.restore(model, checkpoint)
        try:
            model.learn(
                max(0, settings.steps - model.num_timesteps),
                callback=course.callback(),
                tb_log_name="ppo",
                reset_num_timesteps=checkpoint is None,
            )
        except INTERRUPTIONS:
            course.keep(model)
            raise
        course.close(model)
    finally:
        env.close()
    return Policy.load(out)


def _split(
    task: Task, problems: Sequence[Problem] | None, settings: Settings, seed: int
) -> tuple[list[Problem] | None, list[Problem]]:
    """Training problems (None: simulated ones) and those for validation, sharing one cache."""
    if problems is None:
        drawn = [
            task.practice(np.random.default_rng([VALIDATION, i]))
            for i in range(settings.validation)
        ]
        return None, _sharing(drawn)
    if not problems:
        raise ScopegymError("There is no image to train on.")
    order = np.random.default_rng(seed).permutation(len(problems))
    held_out = max(1, round(HELD_OUT * len(problems)))
    # A single image is used for both.
    training = order[held_out:] if len(problems) > 1 else order
    return [problems[i] for i in training], _sharing([problems[i] for i in order[:held_out]])


def _sharing(problems: list[Problem]) -> list[Problem]:
    cache = Cache()
    return [replace(problem, cache=cache) for problem in problems]


def _batch(rollout: int, wanted: int) -> int:
    """The size nearest to ``wanted`` by which a rollout can be divided."""
    sizes = [size for size in range(1, rollout + 1) if rollout % size == 0]
    return min(sizes, key=lambda size: abs(size - wanted))


def _falling(first: float) -> Callable[[float], float]:
    """A linear schedule for stable-baselines3, from ``first`` to its share ``LAST``."""
    return lambda left: first * max(left, LAST)


def _spec(
    task: Task,
    training: list[Problem] | None,
    validation: list[Problem],
    settings: Settings,
    seed: int,
) -> dict[str, Any]:
    """The spec of a bundle, without its validation."""
    from scopegym.workflow import versions

    rules = WorkflowEnv(task).rules
    observer = Observer(rules, task.reward)
    # Simulated images for validation and training have the same distribution.
    known = [Episode.start(problem, rules) for problem in training or validation]
    seen = np.array([observer.features(episode)[observer.of_problem] for episode in known])
    images = f"{len(training)} images of the user" if training else f"simulated by {task.name}"
    return {
        "policy": BUNDLE,
        "task": task.name,
        "operators": describe(rules),
        "slots": outline(rules),
        "bins": BINS,
        "horizon": rules.horizon,
        "features": list(observer.names),
        "reward": task.reward.to_dict(),
        "domain": {
            "low": [round(float(x), 4) for x in seen.min(axis=0)],
            "high": [round(float(x), 4) for x in seen.max(axis=0)],
        },
        "training": {
            "images": images,
            "seed": seed,
            "settings": asdict(settings),
        },
        "made_with": versions(),
    }
