"""Make the pictures of the documentation: ``python docs/images/make.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

import scopegym
from scopegym.datasets.bundled import bundled
from scopegym.experiments.report import write_overlay

HERE = Path(__file__).parent


def half_size(source: Path, target: Path) -> None:
    """Write the picture at half its size, in 64 colours: sharp enough, and small in the history."""
    from PIL import Image

    with Image.open(source) as picture:
        small = picture.convert("RGB").reduce(2)
        small.quantize(64, dither=Image.Dither.NONE).save(target, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "overlay.png"
        result = scopegym.solve(bundled("ybco_100_poisson"), crystal="YBa2Cu3O7", budget=60)
        write_overlay(result, overlay)
        half_size(overlay, HERE / "demo.png")


if __name__ == "__main__":
    main()
