"""The command ``apply``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from scopegym.experiments.cli.inputs import kept_lines, load_plugins, policy_folder, start_ray
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
    Out,
    PixelSize,
    Plugins,
    RayAddress,
    Seed,
    Spacing,
    Workers,
    Zone,
)
from scopegym.experiments.cli.progress import progress, resumable
from scopegym.experiments.cli.sample import sample_of
from scopegym.experiments.console import show


def apply(
    policy: Annotated[
        str, typer.Argument(metavar="POLICY", help="A policy's folder, or a task's own policy.")
    ],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns, stacks.")
    ],
    crystal: CrystalName = None,
    zone: Zone = "1,0,0",
    density: Density = None,
    spacing: Spacing = None,
    estimate: Estimate = False,
    pixel_size: PixelSize = None,
    contrast: Contrast = "auto",
    imaging: Imaging = "auto",
    refine: Annotated[
        int, typer.Option(min=0, help="Further workflows to try around each proposal.")
    ] = 0,
    workers: Workers = None,
    backend: BackendName = "ray",
    ray_address: RayAddress = None,
    gpus: Gpus = 0.0,
    limit: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", help="A worker that takes longer for an image is replaced."
        ),
    ] = 600.0,
    device: Device = "cpu",
    seed: Seed = 0,
    plugin: Plugins = None,
    out: Out = Path("applied"),
    as_json: Json = False,
) -> None:
    """Analyse many images with a trained policy. Run it again to continue."""
    from scopegym.agents.policy import Policy
    from scopegym.answers.base import counted
    from scopegym.device import check
    from scopegym.experiments.apply import Job, summary
    from scopegym.experiments.apply import apply as carry_out
    from scopegym.experiments.collection import files
    from scopegym.registry import read_plugins

    load_plugins(plugin)
    sample = sample_of(crystal, zone, density, spacing, estimate, pixel_size, contrast, imaging)
    folder = policy_folder(policy)
    if ray_address is None:  # on a cluster it is the workers that need it
        check(device)
    job = Job(Policy.load(folder), sample, refine, seed, read_plugins(plugin or ()), device)
    meant = files(images)
    start_ray(backend, ray_address)
    title = f"{folder.name} on {len(meant)} images"
    with resumable("results", out), progress(len(meant), title, "images") as advance:
        ran = carry_out(
            job,
            meant,
            out,
            workers=workers or os.cpu_count() or 1,
            backend=backend,
            gpus=gpus,
            seconds=limit,
            on_result=lambda result, total: advance(1, result.score, total),
        )
    done = {**summary(out), "failed": dict(ran.failed), "kept": list(ran.kept)}
    lines = [
        f"{counted(done['images'], 'images')}: {done['ok']} ok, {done['doubtful']} doubtful, "
        f"{done['wrong-premise']} with a wrong premise, {len(ran.failed)} failed; mean score "
        f"{done['score']:.3f}.",
        *(f"Failed: {name}: {reason}" for name, reason in ran.failed.items()),
        *kept_lines(list(ran.kept)),
        f"Results: {out / 'results.parquet'}",
    ]
    show({**done, "out": str(out)}, lines, as_json)
    if ran.failed:
        raise typer.Exit(1)
