"""Make the pictures of the documentation: ``python docs/images/make.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import scopegym
from scopegym.datasets.bundled import bundled
from scopegym.experiments.pictures import write_overlay
from scopegym.experiments.reproduce.base import reproduce

HERE = Path(__file__).parent


def half_size(source: Path, target: Path, factor: int = 2) -> None:
    """Write the picture at half its size, in 64 colours: sharp enough, and small in the history."""
    from PIL import Image

    with Image.open(source) as picture:
        small = picture.convert("RGB").reduce(factor)
        small.quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)


def symmetry() -> None:
    """The pictures of docs/symmetry.md: those of ``scopegym reproduce symmetry``."""
    photographs = {"phases.png", "grains.png", "precipitate.png"}
    with tempfile.TemporaryDirectory() as folder:
        plain = reproduce("symmetry", folder)
        for picture in (claim["picture"] for claim in plain["claims"]):
            factor = 2 if picture in photographs else 1
            half_size(Path(folder) / picture, HERE / f"symmetry-{picture}", factor)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "overlay.png"
        result = scopegym.solve(bundled("ybco_100_poisson"), crystal="YBa2Cu3O7", budget=60)
        write_overlay(result, overlay)
        half_size(overlay, HERE / "demo.png")
    symmetry()


if __name__ == "__main__":
    main()
