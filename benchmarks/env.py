"""How fast the environment is, and where a step's time goes: `atoms`, 256 x 256, one core."""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import cv2
import numpy as np

from scopegym.cache import Cache
from scopegym.envs.atoms import sample
from scopegym.envs.episode import Stats
from scopegym.envs.workflow_env import WorkflowEnv

IMAGES, EPISODES = 8, 12


def play(env: WorkflowEnv, seed: int) -> Stats:
    """Random legal actions on every image in turn; what was measured."""
    env.stats = Stats()
    rng = np.random.default_rng(seed)
    for episode in range(EPISODES):
        for image in range(IMAGES):
            _, info = env.reset(seed=episode, options={"image": image})
            ended = False
            while not ended:
                legal = np.flatnonzero(info["action_mask"])
                # Stopping now and then, as a policy does.
                action = 0 if rng.random() < 0.02 else rng.choice(legal[1:])
                _, _, stopped, cut_off, info = env.step(action)
                ended = stopped or cut_off
    return env.stats


def report(title: str, stats: Stats) -> None:
    total, count = stats.seconds["total"], stats.executions
    parts = {name: stats.seconds[name] for name in ("operators", "reward", "observation")}
    parts["the rest"] = total - sum(parts.values())
    shares = ", ".join(f"{name} {seconds / total:.1%}" for name, seconds in parts.items())
    speed = f"{count / total:.0f} operator steps/s, {stats.micro_steps / total:.0f} micro-steps/s"
    rest = f"{1e6 * parts['the rest'] / stats.micro_steps:.0f} us a micro-step is the rest"
    print(f"{title}: {speed}\n    {shares}; {rest}")


def main() -> None:
    cv2.setNumThreads(1)
    problems = [sample(np.random.default_rng([11, i])) for i in range(IMAGES)]
    env = WorkflowEnv("atoms", images=problems, cache=Cache(2**31))
    report("nothing cached", play(env, 0))
    report("the same again, everything cached", play(env, 0))
    report("other actions, the images' own statistics cached", play(env, 1))
    policy_like(problems)


def policy_like(problems: list) -> None:
    """The shipped policy's draws, first with nothing cached and then with what it computed."""
    from scopegym.agents.policy import Policy

    policy = Policy.shipped("atoms")
    env = WorkflowEnv("atoms", images=problems, cache=Cache(2**31))
    for title in ("the policy's draws, nothing cached", "the same draws again"):
        env.stats = Stats()
        rng = np.random.default_rng(0)
        for _ in range(EPISODES):
            for image in range(IMAGES):
                env.reset(options={"image": image})
                while not env.episode.ended:
                    chances = policy.probabilities(env.episode)
                    env.step(int(rng.choice(len(chances), p=chances / chances.sum())))
        report(title, env.stats)


if __name__ == "__main__":
    main()
