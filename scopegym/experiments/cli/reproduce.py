"""The command ``reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scopegym.experiments.cli.options import Json, Out
from scopegym.experiments.console import show


def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What to reproduce: symmetry, disorder or pareto.")
    ],
    out: Out = Path("reproduced"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated images.")] = 0,
    as_json: Json = False,
) -> None:
    """Show again what a paper shows: its demonstrations on simulated images, with figures."""
    from scopegym.experiments.reproduce.base import reproduce, summary

    done = reproduce(name, out, seed)
    show({**done, "out": str(out)}, [*summary(done), f"Results: {out}"], as_json)
