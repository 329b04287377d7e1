"""The commands ``demo`` and ``solve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scopegym.experiments.cli.inputs import kept_lines
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
    Imaging,
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
from scopegym.experiments.cli.sample import sample_of
from scopegym.experiments.console import show


def demo(
    out: Out = Path("scopegym-demo"),
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Solve the bundled YBa2Cu3O7 image: needs no argument and no network."""
    from scopegym.datasets.bundled import bundled
    from scopegym.experiments.solving import prepared
    from scopegym.sample import Sample

    sample = Sample(crystal="YBa2Cu3O7", zone=(1, 0, 0))
    micrograph = bundled("ybco_100_poisson")
    plan = prepared(micrograph, "atoms", sample, agent=agent, budget=budget, seed=seed)
    _solve(plan, out, as_json)


def solve(
    image: Image,
    task: Annotated[str, typer.Option(help="The task (scopegym list tasks).")] = "atoms",
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
    contrast: Contrast = "auto",
    imaging: Imaging = "auto",
    frame: Frame = None,
    agent: AgentName = "bayes",
    budget: Executions = 120,
    seed: Seed = 0,
    pick: PickName = "value",
    reward: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FILE.py:]TERM",
            help="An additional reward term, built-in or from your own file.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PX",
            help="Side of the windows: each is searched separately, then the points are merged.",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, metavar="PX", help="Distance between windows; default half a window."),
    ] = None,
    workers: Workers = None,
    backend: BackendName = "ray",
    plugin: Plugins = None,
    device: Device = "cpu",
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Search for the workflow whose result best fits the expected physics of IMAGE.

    With --window the budget applies to each window.
    """
    from scopegym.experiments.solving import opened, prepared

    known = sample_of(
        crystal, zone, density, spacing, estimate, pixel_size, contrast, imaging, calibration
    )
    plan = prepared(
        opened(image, pixel_size, frame),
        task,
        known,
        reward=reward,
        agent=agent,
        budget=budget,
        seed=seed,
        pick=pick,
        window=window,
        stride=stride,
        workers=workers,
        backend=backend,
        device=device,
        plugins=plugin or (),
    )
    _solve(plan, out, as_json)


def _solve(plan: Any, out: Path, as_json: bool) -> None:
    from scopegym.experiments.folders import Output
    from scopegym.experiments.outputs import result_files, write_result

    Output(out, "solve").claim(result_files())
    total, unit = plan.size
    with progress(total, plan.title, unit) as advance:

        def on_trial(trial: Any) -> None:
            advance(trial.executions, trial.score.value)

        def on_window(solved: Any) -> None:
            advance(1, 0.0 if solved.trial is None else solved.trial.score.value)

        result = plan.run(on_trial, on_window)
    kept = [str(path) for path in write_result(result, out)]
    lines = [*_summary(result, out), *kept_lines(kept)]
    show({**result.to_dict(), "kept": kept, "out": str(out)}, lines, as_json)


def _summary(result: Any, out: Path) -> list[str]:
    from scopegym.answers.base import counted

    found, score = result.found, result.chosen.score
    more = found.detail if found.expected is None else f"{found.expected:.0f} expected"
    terms = ", ".join(f"{name} {value:.3f}" for name, value in score.terms.items())
    timing = result.timing
    return [
        f"{found.text} found in {result.problem.micrograph.name}; {more}; spacing "
        f"{result.problem.prior.scale_px:.1f} px.",
        f"Score {score.value:.3f} ({terms}).",
        f"Verdict: {result.verdict.belief}."
        if not result.verdict.reasons
        else f"Verdict: {result.verdict.belief}. {' '.join(result.verdict.reasons)}",
        f"Workflow: {result.way}",
        f"{counted(result.evaluations, 'workflows')} in {result.seconds:.1f} s: operators "
        f"{timing['operators_s']:.1f} s, reward {timing['reward_s']:.1f} s, search "
        f"{timing['search_s']:.1f} s.",
        *(f"Note: {note}" for note in result.warnings if note not in result.verdict.reasons),
        f"Report: {out / 'report.html'}",
    ]
