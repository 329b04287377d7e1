"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from scopegym.errors import ScopegymError


def folder(given: str | Path) -> Path:
    """The folder of an option. An empty name would mean the present folder: an unset variable of
    the shell."""
    if not str(given).strip():
        raise ScopegymError("'' is no name of a folder; give a name, or . for the present folder.")
    return Path(given)


Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The micrograph to analyse.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="A file with your own operators or rewards."),
]
PixelSize = Annotated[
    str | None,
    typer.Option(metavar="LENGTH", help="Pixel size with unit, such as '35.2 pm'."),
]
CrystalName = Annotated[
    str | None,
    typer.Option("--crystal", metavar="NAME|CIF", help="The crystal (scopegym list crystals)."),
]
Zone = Annotated[str, typer.Option(metavar="U,V,W", help="Its zone axis.")]
Density = Annotated[float | None, typer.Option(metavar="N", help="Columns per square nanometre.")]
Spacing = Annotated[
    str | None,
    typer.Option(metavar="LENGTH", help="Nearest-neighbour spacing, '0.28 nm' or '8 px'."),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Take spacing and count from the image itself.")
]
Contrast = Annotated[
    Literal["auto", "bright", "dark"],
    typer.Option(help="Columns are bright (HAADF) or dark (ABF); auto decides from the image."),
]
Imaging = Annotated[
    Literal["auto", "haadf", "adf", "abf", "bf", "idpc", "hrtem"],
    typer.Option(help="Which columns of a crystal are visible; auto decides from the image."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Number of processes; default one per core."),
]
BackendName = Annotated[
    Literal["ray", "processes", "serial"],
    typer.Option("--backend", help="Where to run: Ray actors, subprocesses, or this process only."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Join the Ray cluster there instead of starting one."),
]
Gpus = Annotated[float, typer.Option(min=0, max=64, help="GPUs per worker; may be a fraction.")]
Device = Annotated[str, typer.Option(help="Where heavy operators run: cpu, cuda or cuda:N.")]
Frame = Annotated[
    int | None, typer.Option(metavar="N", help="The frame to take from a stack, from 0.")
]
Out = Annotated[Path, typer.Option(parser=folder, metavar="DIR", help="Folder for the results.")]
AgentName = Annotated[str, typer.Option("--agent", help="Search strategy (scopegym list agents).")]
Executions = Annotated[
    int, typer.Option("--budget", min=1, max=1_000_000, help="Operator executions to spend.")
]
# scikit-learn takes no larger seeds.
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the search.")]
PickName = Annotated[
    Literal["value", "euclidean", "chebyshev"],
    typer.Option("--pick", help="How to choose from the front."),
]
