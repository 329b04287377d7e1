"""The command ``identify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from scopegym.experiments.cli.options import Frame, Json, PixelSize
from scopegym.experiments.console import show


def identify(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    crystals: Annotated[
        Path | None,
        typer.Option("--crystals", metavar="FOLDER", help="CIF files to try, not the built-in."),
    ] = None,
    zones: Annotated[
        int, typer.Option("--zones", min=1, max=3, help="Highest index of a zone axis.")
    ] = 1,
    pixel_size: PixelSize = None,
    frame: Frame = None,
    as_json: Json = False,
) -> None:
    """Say which crystal, zone axis and scale the lattice in an image fits, the likeliest first."""
    from scopegym.experiments.solving import opened
    from scopegym.sample.identify import identify

    micrograph = opened(image, pixel_size, frame)
    found = identify(micrograph, _crystals(crystals), zones)
    rows = [candidate.to_dict() for candidate in found]
    show({"image": micrograph.name, "candidates": rows}, _table(found, micrograph), as_json)


def _crystals(folder: Path | None) -> list[Any]:
    """The built-in crystals, or those of the CIF files in a folder."""
    from scopegym.errors import ScopegymError
    from scopegym.sample.crystal import CRYSTALS, Crystal

    if folder is None:
        return [*CRYSTALS.values()]
    if not folder.is_dir():
        raise ScopegymError(f"There is no folder '{folder}'.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.casefold() == ".cif")
    if not paths:
        raise ScopegymError(f"The folder '{folder}' holds no CIF file.")
    return [Crystal.from_cif(path) for path in paths]


def _table(found: list[Any], micrograph: Any) -> list[str]:
    """The candidates that fit, or else the nearest five."""
    fitting = [candidate for candidate in found if candidate.fits]
    if fitting:
        lines = [f"{micrograph.name}: the lattice fits {fitting[0].projection.name} best."]
        if len(fitting) > 1:
            margin = fitting[0].fit.confidence - fitting[1].fit.confidence
            lines.append(f"Its confidence is {margin:+.2f} relative to the next.")
    else:
        lines = [f"{micrograph.name}: none of the crystals fits the lattice in the image."]
    lines.append(f"{'crystal and zone':24s} fits  confidence  misfit  pixel size")
    for candidate in fitting or found[:5]:
        size = candidate.pixel_size_nm
        lines.append(
            f"{candidate.projection.name:24s} {'yes' if candidate.fits else 'no':4s}  "
            f"{candidate.fit.confidence:10.2f}  {candidate.misfit:6.2f}  "
            + ("" if size is None else f"{1000 * size:.4g} pm")
        )
    return lines
