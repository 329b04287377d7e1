"""The command ``train``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from scopegym.experiments.cli.inputs import load_plugins, start_ray
from scopegym.experiments.cli.options import (
    BackendName,
    Contrast,
    CrystalName,
    Density,
    Device,
    Estimate,
    Gpus,
    Imaging,
    Json,
    PixelSize,
    Plugins,
    RayAddress,
    Seed,
    Spacing,
    Workers,
    Zone,
    folder,
)
from scopegym.experiments.cli.progress import training
from scopegym.experiments.cli.sample import problems_of, sample_of
from scopegym.experiments.console import show
from scopegym.experiments.interrupt import on_interrupt


def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What to train for.")],
    out: Annotated[
        Path, typer.Option(parser=folder, metavar="POLICY", help="Folder for the policy.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER", help="Train on these images instead of simulated ones; repeatable."
        ),
    ] = None,
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "auto",
    imaging: Imaging = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Micro-steps to train for.")] = None,
    validation: Annotated[
        int | None, typer.Option(min=1, help="Simulated images to validate on.")
    ] = None,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    gpus: Gpus = 0.0,
    device: Device = "cpu",
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in POLICY.")
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Train a policy that proposes workflows, on simulated images or on your own."""
    from scopegym.device import check
    from scopegym.envs import registry as tasks
    from scopegym.experiments.train import train as carry_out
    from scopegym.experiments.training.checkpoint import kept
    from scopegym.experiments.training.settings import Settings

    load_plugins(plugin)
    chosen = tasks[task]
    settings = Settings.of(task, steps=steps, validation=validation)
    problems = None
    if images:
        sample = sample_of(crystal, zone, density, spacing, estimate, pixel_size, contrast, imaging)
        problems = problems_of(images, sample, chosen)
    if ray_address is None:  # on a cluster it is the workers that need it
        check(device)
    start_ray(backend, ray_address)
    start = time.perf_counter()
    with (
        on_interrupt(lambda: kept(out)),
        training(settings.steps, f"{task}, seed {seed}") as (on_update, on_validation),
    ):
        policy = carry_out(
            task,
            out,
            problems=problems,
            settings=settings,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            seed=seed,
            device=device,
            gpus=gpus,
            plugins=tuple(plugin or ()),
            resume=resume,
            on_update=on_update,
            on_validation=on_validation,
        )
    reached = policy.spec["validation"]
    truth = "" if reached["truth"] is None else f", agreement with the truth {reached['truth']:.3f}"
    lines = [
        f"Best of {settings.steps:,} steps: score {reached['score']:.3f}{truth}, "
        f"{reached['executions']:.1f} operator executions per image, on {reached['images']} "
        f"images; {time.perf_counter() - start:.0f} s.",
        f"Policy: {out}",
    ]
    show({"task": task, "validation": reached, "out": str(out)}, lines, as_json)
