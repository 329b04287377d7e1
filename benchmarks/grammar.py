"""Slots that are filled in order, against a free order of steps, for policies and searchers.

The other two grammars are tasks with other slots: train on them with this file as plug-in,

    scopegym train atoms_free --plugin benchmarks/grammar.py --out free

and give the policies: python benchmarks/grammar.py --policies slots free twice
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from scopegym.agents import registry as agents
from scopegym.agents.policy import Policy
from scopegym.answers import agreement
from scopegym.cache import Cache
from scopegym.envs.grammar import Slot
from scopegym.envs.problem import Problem, Task, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.experiments.solve import explore

ATOMS = tasks["atoms"]
#: Random numbers of the images, of neither training nor validation.
IMAGES = 77
#: Filters in two slots each; and any operator at any place, up to the horizon, then refinement.
TWICE = tuple(
    replace(slot, name=f"{slot.name}{again}")
    for slot in ATOMS.slots
    for again in (("", " again") if slot.name in ("contrast", "denoise") else ("",))
)
FREE = (
    *(Slot(f"step {i + 1}", ATOMS.operators) for i in range(ATOMS.horizon - 1)),
    Slot("refine", ("refine_positions",), optional=False),
)
for name, slots in (("twice", TWICE), ("free", FREE)):
    ids = {"name": f"atoms_{name}", "env_id": f"scopegym/AtomFinding{name.title()}-v0"}
    tasks.add(replace(ATOMS, slots=slots, **ids))
GRAMMARS = {"slots": ATOMS, "twice": tasks["atoms_twice"], "free": tasks["atoms_free"]}


def problem(index: int, task: Task) -> Problem:
    """An image that no training has seen."""
    drawn = ATOMS.sample(np.random.default_rng([IMAGES, index]))
    return replace(drawn, task=task, cache=Cache())


def outcome(on: Problem, trial: Trial) -> tuple[float, float]:
    """Score and agreement with the truth."""
    answer = on.run(trial.workflow).get(on.task.answer)
    truth = agreement(on.micrograph.truth, answer, on.prior)
    return trial.score.value, truth


def shown(name: str, rows: list[tuple[float, float, int]]) -> str:
    """A line of the table: means and 5th percentiles."""
    score, truth, spent = np.array(rows).T
    error = score.std() / np.sqrt(len(score))
    low = [np.percentile(values, 5) for values in (truth, score)]
    return (
        f"| {name} | {truth.mean():.4f} | {low[0]:.3f} | {score.mean():.4f} ± {error:.4f} | "
        f"{low[1]:.3f} | {spent.mean():.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policies", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--agents", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--budget", type=int, default=60, help="executions of a search")
    asked = parser.parse_args()
    print("| | F1 | F1, 5th percentile | score | score, 5th percentile | executions |")
    print("|---|---|---|---|---|---|", flush=True)
    for folder in asked.policies:
        policy = Policy.load(folder)
        rows = []
        for index in range(asked.images):
            on = problem(index, policy.task)
            trial = policy.propose(on)
            rows.append((*outcome(on, trial), trial.executions))
        print(shown(f"policy {folder.name} ({policy.task.name})", rows), flush=True)
    for agent in asked.agents:
        for grammar, task in GRAMMARS.items():
            rows = []
            for index in range(asked.images):
                on = problem(index, task)
                trials = list(explore(on, agents[agent], asked.budget, index))
                best = max(
                    (trial for trial in trials if trial.failure is None),
                    key=lambda trial: trial.score.value,
                )
                rows.append((*outcome(on, best), sum(trial.executions for trial in trials)))
            print(shown(f"{agent}, {grammar}", rows), flush=True)


if __name__ == "__main__":
    main()
