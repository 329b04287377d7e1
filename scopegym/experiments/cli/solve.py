"""The commands ``demo`` and ``solve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scopegym.errors import ScopegymError
from scopegym.experiments.cli.inputs import load_image
from scopegym.experiments.cli.options import (
    AgentName,
    BackendName,
    Contrast,
    CrystalName,
    Density,
    Device,
    Estimate,
    Executions,
    Frame,
    Image,
    Json,
    Out,
    PickName,
    PixelSize,
    Plugins,
    Seed,
    Spacing,
    Workers,
    Zone,
)
from scopegym.experiments.cli.progress import progress
from scopegym.experiments.console import show
from scopegym.registry import load_plugins


def demo(
    out: Out = Path("scopegym-demo"),
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Solve the bundled YBa2Cu3O7 image: needs no argument and no network."""
    from scopegym.datasets.bundled import bundled
    from scopegym.envs import registry as tasks
    from scopegym.envs.problem import Problem
    from scopegym.experiments.expectations import expect

    micrograph = bundled("ybco_100_poisson")
    expectation = expect(micrograph, sample="YBa2Cu3O7", zone=(1, 0, 0))
    problem = Problem(micrograph, expectation.prior, tasks["atoms"])
    _solve(problem, expectation, agent, budget, seed, "value", out, as_json)


def solve(
    image: Image,
    task: Annotated[str, typer.Option(help="What to look for (scopegym list tasks).")] = "atoms",
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    calibration: Annotated[
        Literal["check", "trust"],
        typer.Option(help="Check the pixel size against the lattice, or trust it."),
    ] = "check",
    contrast: Contrast = "bright",
    frame: Frame = None,
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    pick: PickName = "value",
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE.py:]TERM", help="A further reward term, perhaps from a file of yours."
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Search every square of this side by itself; merge the points.",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PX", help="From window to window; half a window if not given."
        ),
    ] = None,
    workers: Workers = None,
    backend: BackendName = "ray",
    plugin: Plugins = None,
    device: Device = "cpu",
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Search the workflow whose result fits best what physics says of IMAGE.

    With windows the budget is that of each of them.
    """
    from scopegym.device import check, using
    from scopegym.envs import registry as tasks
    from scopegym.envs.problem import Problem
    from scopegym.experiments.expectations import expect

    load_plugins(plugin or ())
    judged_by = _reward(tasks[task].reward, reward)
    micrograph = load_image(image, pixel_size, frame)
    expectation = expect(
        micrograph,
        sample=crystal,
        zone=zone,
        density_per_nm2=density,
        spacing=spacing,
        estimate=estimate,
        calibration=calibration,
        contrast=contrast,
        counted="count" in judged_by.needs,
    )
    problem = Problem(micrograph, expectation.prior, tasks[task], judged_by)
    if window is None:
        if stride is not None:
            raise ScopegymError("A stride goes with windows: give --window too.")
        with using(check(device)):
            _solve(problem, expectation, agent, budget, seed, pick, out, as_json)
        return
    files = [Path(term.rpartition(":")[0]) for term in reward or () if ":" in term]
    settings = {
        "agent": agent,
        "budget": budget,
        "seed": seed,
        "pick": pick,
        "workers": workers or os.cpu_count() or 1,
        "backend": backend,
        "device": check(device),
        "plugins": (*(plugin or ()), *files),
    }
    _solve_windows(problem, expectation, window, stride, settings, out, as_json)


def _reward(reward: Any, added: list[str] | None) -> Any:
    """The reward with the terms that were asked for, each ``TERM`` or ``FILE.py:TERM``."""
    from scopegym.registry import load_plugin

    for entry in added or ():
        file, _, term = entry.rpartition(":")
        if file:
            load_plugin(file)
        reward = reward.plus(term)
    return reward


def _solve(
    problem: Any,
    expectation: Any,
    agent: str,
    budget: int,
    seed: int,
    pick: Any,
    out: Path,
    as_json: bool,
) -> None:
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, write_result
    from scopegym.experiments.solve import search

    problem.check()
    Output(out, "solve").claim(result_files())
    with progress(budget, f"{agent} on {problem.micrograph.name}", "executions") as advance:

        def on_trial(trial: Any) -> None:
            advance(trial.executions, trial.score.value)

        result = search(problem, expectation, agent, budget, seed, pick, on_trial)
    write_result(result, out)
    show({**result.to_dict(), "out": str(out)}, _summary(result, out), as_json)


def _solve_windows(
    problem: Any,
    expectation: Any,
    window: int,
    stride: int | None,
    settings: dict[str, Any],
    out: Path,
    as_json: bool,
) -> None:
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, write_result
    from scopegym.experiments.windows import solve_windows, tiled

    problem.check()
    count = len(tiled(problem, window, stride))
    Output(out, "solve").claim(result_files())
    title = f"{settings['agent']} on {problem.micrograph.name}"
    with progress(count, title, "windows") as advance:

        def on_window(solved: Any) -> None:
            advance(1, 0.0 if solved.trial is None else solved.trial.score.value)

        result = solve_windows(
            problem, expectation, window, stride, **settings, on_window=on_window
        )
    write_result(result, out)
    show({**result.to_dict(), "out": str(out)}, _summary(result, out), as_json)


def _summary(result: Any, out: Path) -> list[str]:
    found, score = result.found, result.chosen.score
    more = found.detail if found.expected is None else f"{found.expected:.0f} expected"
    terms = ", ".join(f"{name} {value:.3f}" for name, value in score.terms.items())
    timing = result.timing
    return [
        f"{found.text} found in {result.problem.micrograph.name}; {more}; spacing "
        f"{result.problem.prior.scale_px:.1f} px.",
        f"Score {score.value:.3f} ({terms}).",
        f"Workflow: {result.way}",
        f"{result.evaluations} workflows in {result.seconds:.1f} s: operators "
        f"{timing['operators_s']:.1f} s, reward {timing['reward_s']:.1f} s, search "
        f"{timing['search_s']:.1f} s.",
        *(f"Note: {warning}" for warning in result.warnings),
        f"Report: {out / 'report.html'}",
    ]
