"""The command ``audit``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scopegym.experiments.cli.options import BackendName, Json, Out, Plugins, Workers
from scopegym.experiments.cli.progress import progress
from scopegym.experiments.console import show
from scopegym.registry import load_plugins


def audit(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Whose reward (or for which task).")],
    out: Out,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.py:]NAME",
            help="A reward term, added to the task's reward; or a Reward, in its place.",
        ),
    ] = None,
    problems: Annotated[
        int, typer.Option(min=2, help="Simulated problems to examine; their truth is known.")
    ] = 60,
    workflows: Annotated[
        int, typer.Option(min=2, help="Random workflows to try on each problem.")
    ] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of problems and workflows.")] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Ask of a reward whether it goes with the truth, and whether it can be fooled.

    Exits 1 when the reward does not pass.
    """
    from scopegym.experiments.audit import audit as examine
    from scopegym.experiments.audit.run import summary

    load_plugins(plugin or ())
    judged, files = _audited(task, reward)
    with progress(problems, f"audit of {judged.name}", "problems") as advance:
        plain = examine(
            task,
            out,
            reward=judged,
            problems=problems,
            workflows=workflows,
            seed=seed,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            plugins=[*(plugin or ()), *files],
            on_problem=lambda one: advance(1, one.honest.value),
        )
    show({**plain, "out": str(out)}, [*summary(plain), f"Report: {out / 'report.html'}"], as_json)
    if not plain["passed"]:
        raise typer.Exit(1)


def _audited(task: str, entry: str | None) -> tuple[Any, list[Path]]:
    """The reward to audit, and the files that it comes from."""
    from scopegym.envs.problem import registry as tasks
    from scopegym.registry import load_plugin
    from scopegym.rewards.base import Reward

    reward = tasks[task].reward
    if entry is None:
        return reward, []
    path, _, name = entry.rpartition(":")
    module = load_plugin(path) if path else None
    named = getattr(module, name, None)
    return named if isinstance(named, Reward) else reward.plus(name), [Path(path)] if path else []
