"""The command ``benchmark``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from scopegym.experiments.cli.inputs import listed, load_plugins, policy_folder, start_ray
from scopegym.experiments.cli.options import (
    BackendName,
    Contrast,
    CrystalName,
    Density,
    Estimate,
    Executions,
    Imaging,
    Json,
    Out,
    PixelSize,
    Plugins,
    RayAddress,
    Spacing,
    Workers,
    Zone,
)
from scopegym.experiments.cli.progress import progress, resumable
from scopegym.experiments.cli.sample import sample_of
from scopegym.experiments.console import show


def benchmark(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task (scopegym list tasks).")],
    out: Out,
    agents: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Agents to compare (scopegym list agents)."),
    ] = None,
    regimes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="A: search each image; B: policy or one tuned workflow; "
            "C: search from a policy's proposal.",
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER", help="Take these images instead of simulated ones; repeatable."
        ),
    ] = None,
    problems: Annotated[int, typer.Option(min=1, help="How many images to simulate.")] = 20,
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "auto",
    imaging: Imaging = "auto",
    seeds: Annotated[int, typer.Option(min=1, help="Searches by each agent on an image.")] = 10,
    budget: Executions = 60,
    policy: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="The policy of ppo, if not the task's own."),
    ] = None,
    training_images: Annotated[
        int, typer.Option(min=1, help="Images that regime B tunes one workflow to.")
    ] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first search.")] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Compare agents on the same images. Run it again to continue."""
    from scopegym.experiments.benchmark import benchmark as carry_out
    from scopegym.experiments.benchmark.page import summary
    from scopegym.experiments.benchmark.setting import UserImages
    from scopegym.experiments.collection import files

    load_plugins(plugin)
    given = None
    if images:
        sample = sample_of(crystal, zone, density, spacing, estimate, pixel_size, contrast, imaging)
        given = UserImages.of(files(images).items(), sample)
    start_ray(backend, ray_address)
    with resumable("runs", out), progress(0, f"benchmark of {task}", "runs") as advance:
        done = carry_out(
            task,
            out,
            names=listed(agents),
            regimes=listed(regimes),
            given=given,
            problems=problems,
            seeds=seeds,
            budget=budget,
            policy=None if policy is None else policy_folder(policy),
            training=training_images,
            seed=seed,
            plugins=tuple(plugin or ()),
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            on_work=lambda _, total, score: advance(1, score, total),
        )
    show(done, [*summary(done), f"Report: {out / 'report.html'}"], as_json)
