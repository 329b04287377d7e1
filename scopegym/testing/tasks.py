"""The contract of a task and its environment."""

from __future__ import annotations

import math

import numpy as np

from scopegym.envs import registry as tasks
from scopegym.envs.problem import Task
from scopegym.envs.workflow_env import WorkflowEnv
from scopegym.operators.base import registry as operators
from scopegym.testing.base import Check, carry_out, check_declared, require


def task_is_declared(task: Task) -> None:
    """The docstring begins with one sentence, and the expert's workflow fits the task."""
    check_declared("task", task, tasks)
    foreign = sorted({step.op for step in task.expert} - set(task.operators))
    require(not foreign, f"The expert of task {task.name} uses {foreign}, which no slot allows.")
    require(
        len(task.expert) <= task.horizon,
        f"The expert of task {task.name} takes {len(task.expert)} executions, more than the "
        f"horizon of {task.horizon}.",
    )
    fits = task.grammar.filled(task.expert) is not None
    require(fits, f"The expert of task {task.name} does not fill its slots in order.")
    for name in task.tuned:
        op, _, parameter = name.partition(".")
        known = op in task.operators and parameter in operators[op].parameters
        require(known, f"Task {task.name} tunes '{name}', which is no parameter of its operators.")


def task_samples_problems(task: Task) -> None:
    """Same seed, same problem; the expert's workflow runs on it and its score lies in 0..1."""
    one, same, other = (task.sample(np.random.default_rng(seed)) for seed in (5, 5, 6))
    keys = [(p.micrograph.key, p.prior.key) for p in (one, same, other)]
    require(keys[0] == keys[1], f"Task {task.name} draws another problem from the same seed.")
    require(keys[0] != keys[2], f"Task {task.name} draws the same problem from every seed.")
    one.check()
    for workflow in (task.expert, *(() if task.null is None else (task.null,))):
        trial = one.evaluate(workflow)
        require(trial.failure is None, f"On its own problem {task.name} fails: {trial.failure}.")
        require(0 <= trial.score.value <= 1, f"A score of task {task.name} is not in 0..1.")


def task_has_an_environment(task: Task) -> None:
    """Gymnasium and stable-baselines3 accept the environment."""
    import gymnasium
    from gymnasium.utils.env_checker import check_env
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    env = gymnasium.make(task.env_id, render_mode="rgb_array").unwrapped
    check_env(env)
    check_for_sb3(env)


def task_has_exact_masks(task: Task) -> None:
    """Unmasked actions are legal, masked ones change nothing, and stopping is allowed."""
    env = WorkflowEnv(task, images=[task.sample(np.random.default_rng(5))])
    rng = np.random.default_rng(0)
    env.reset(seed=1)
    ended = False
    while not ended:
        episode, mask = env.episode, env.action_masks()
        assert episode is not None
        require(mask[0], f"An episode of task {task.name} cannot be stopped.")
        for action in np.flatnonzero(~mask):
            after = episode.play(int(action))
            unchanged = (after.steps, after.draft) == (episode.steps, episode.draft)
            require(
                after.illegal and after.reward < 0 and unchanged,
                f"Action {action} is masked in task {task.name}, and yet it is carried out.",
            )
        legal = np.flatnonzero(mask)[1:]
        chosen = np.int64(rng.choice(legal) if len(legal) else 0)
        _, reward, stopped, cut_off, info = env.step(chosen)
        require(not info["illegal"], f"Task {task.name} refuses action {chosen}, not masked.")
        require(math.isfinite(float(reward)), f"Task {task.name} gives the reward {reward}.")
        ended = stopped or cut_off


TASK_CHECKS: tuple[Check, ...] = (
    task_is_declared,
    task_samples_problems,
    task_has_an_environment,
    task_has_exact_masks,
)


def check_task(task: Task) -> tuple[str, ...]:
    """Check a task's contract and return the names of the checks.

    Raises AssertionError for a broken contract.
    """
    return carry_out(TASK_CHECKS, task)
