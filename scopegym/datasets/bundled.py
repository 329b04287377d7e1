"""The images that come with the package: simulated, so that their truth is exact."""

from __future__ import annotations

import csv
import json
from importlib.resources import files

import numpy as np

from scopegym.artifacts import Points
from scopegym.errors import unknown
from scopegym.micrograph import Micrograph

#: Bundled images by name. ``ybco_100/make.py`` made them.
BUNDLED = {
    "ybco_100": (
        "ybco_100_haadf_src035A_up2.npy",
        "YBa2Cu3O7 along [100], multislice HAADF simulation, noise-free",
    ),
    "ybco_100_poisson": (
        "ybco_100_haadf_up2_poisson_dose2e4_seed0.npy",
        "the same at 20,000 electrons per square Angstrom: 1.4 counts per pixel",
    ),
}

#: Species with visible columns in the annular dark field. Oxygen columns are too faint.
VISIBLE = ("Ba", "Y", "Cu")


def bundled(name: str) -> Micrograph:
    """A bundled image with its exact columns as truth. Raises ScopegymError for other names."""
    if name not in BUNDLED:
        raise unknown("bundled image", name, BUNDLED)
    folder = files("scopegym.datasets") / "ybco_100"
    file, description = BUNDLED[name]
    with (folder / file).open("rb") as stream:
        data = np.load(stream, allow_pickle=False)
    sampling = json.loads((folder / "meta.json").read_text())["pixel_angstrom_up2"]
    with (folder / "columns.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["species"] in VISIBLE]
    yx = np.array([(float(row["row_px_up2"]), float(row["col_px_up2"])) for row in rows])
    return Micrograph(
        data,
        # Rows and columns differ by 0.13 %; the calibration check measures each axis anyway.
        pixel_size_nm=float(np.mean(sampling)) / 10,
        name=name,
        metadata={"description": description, "species": [row["species"] for row in rows]},
        truth=Points(yx, data.shape),
    )
