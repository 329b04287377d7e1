"""Make the bundled images: multislice HAADF of YBa2Cu3O7 along [100], about two minutes.

    pip install "scopegym[simulate]"
    python scopegym/datasets/ybco_100/make.py FOLDER

200 kV, 24 mrad, detector 70 to 132.5 mrad, no aberrations, no phonons; a Gaussian source of
0.35 Å; then enlarged twice by Fourier interpolation. The noisy twin counts electrons at
20,000 per square Ångström. PRISM interpolation by 3 modulates neighbouring Cu columns by about a
tenth along b.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.ndimage import gaussian_filter

REPEAT = {"a": 13, "b": 8, "c": 3}
CELL = {"a": 3.8227, "b": 3.8872, "c": 11.6802}  # Å
#: Fractions (a, b, c) of the cell, space group Pmmm.
SITES = {
    "Y": [(0.5, 0.5, 0.5)],
    "Ba": [(0.5, 0.5, 0.1843), (0.5, 0.5, 0.8157)],
    "Cu": [(0.0, 0.0, 0.0), (0.0, 0.0, 0.3556), (0.0, 0.0, 0.6444)],
    "O": [(0.0, 0.5, 0.0)]
    + [(0.5, 0.0, z) for z in (0.3773, 0.6227)]
    + [(0.0, 0.5, z) for z in (0.3789, 0.6211)]
    + [(0.0, 0.0, z) for z in (0.1584, 0.8416)],
}
SCAN = (156, 176)  # positions along b and c
SOURCE = 0.35  # Å
DOSE = 2e4  # electrons per Å^2


def crystal() -> Atoms:
    """The slab: b along x, c along y, a along the beam."""
    symbols = [symbol for symbol, sites in SITES.items() for _ in sites]
    fractions = np.array([site for sites in SITES.values() for site in sites])[:, [1, 2, 0]]
    cell = [CELL["b"], CELL["c"], CELL["a"]]
    unit = Atoms(symbols, scaled_positions=fractions, cell=cell, pbc=True)
    return unit.repeat((REPEAT["b"], REPEAT["c"], REPEAT["a"]))


def scan(atoms: Atoms) -> np.ndarray:
    """Annular dark field ``[c, b]``, fraction of the beam."""
    import abtem

    potential = abtem.Potential(
        atoms,
        sampling=0.06,
        slice_thickness=CELL["a"] / 2,
        parametrization="lobato",
        projection="infinite",
    )
    probes = abtem.SMatrix(potential=potential, energy=200e3, semiangle_cutoff=24, interpolation=3)
    grid = abtem.GridScan(start=(0, 0), end=potential.extent, gpts=SCAN, endpoint=False)
    detector = abtem.AnnularDetector(inner=70, outer=132.5)
    measured = probes.scan(scan=grid, detectors=detector).compute()
    return np.asarray(measured.array, dtype=np.float32).T


def enlarge(image: np.ndarray) -> np.ndarray:
    """Twice the pixels by zero-padding the Fourier transform of a periodic image."""
    height, width = image.shape
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    pad = ((height // 2, height - height // 2), (width // 2, width - width // 2))
    return 4 * np.fft.ifft2(np.fft.ifftshift(np.pad(spectrum, pad))).real


def columns(pixel: list[float]) -> list[dict[str, str]]:
    """Every projected column of the field, once."""
    rows = []
    for symbol, sites in SITES.items():
        projected = sorted({(b, c) for _, b, c in sites})
        for i in range(REPEAT["b"]):
            for k in range(REPEAT["c"]):
                for b, c in projected:
                    x, y = (b + i) * CELL["b"], (c + k) * CELL["c"]
                    rows.append((symbol, x, y, x / pixel[1], y / pixel[0]))
    return [
        {
            "species": symbol,
            "x_angstrom": f"{x:.5f}",
            "y_angstrom": f"{y:.5f}",
            "col_px_up2": f"{column:.5f}",
            "row_px_up2": f"{row:.5f}",
        }
        for symbol, x, y, column, row in rows
    ]


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    raw = scan(crystal())
    sampling = [REPEAT["c"] * CELL["c"] / SCAN[1], REPEAT["b"] * CELL["b"] / SCAN[0]]
    blurred = gaussian_filter(raw, [SOURCE / s for s in sampling], mode="wrap")
    image = enlarge(blurred).astype(np.float32)
    pixel = [s / 2 for s in sampling]
    electrons = np.clip(image, 0, None) * DOSE * pixel[0] * pixel[1]
    counts = np.random.default_rng(0).poisson(electrons).astype(np.uint16)
    np.save(folder / "ybco_100_haadf_src035A_up2.npy", image)
    np.save(folder / "ybco_100_haadf_up2_poisson_dose2e4_seed0.npy", counts)
    (folder / "meta.json").write_text(json.dumps({"pixel_angstrom_up2": pixel}, indent=1) + "\n")
    rows = columns(pixel)
    with (folder / "columns.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
