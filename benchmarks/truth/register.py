"""Mark the columns of published images that came without positions.

    python benchmarks/truth/register.py DATA [--pictures FOLDER]

A known crystal is laid on the image and follows its distortions block by block; where all columns
are alike, they are maxima with settings chosen by hand. Every result was looked at (the pictures).
No operator of scopegym takes part. Writes ``positions.npz`` beside this script: positions (y, x) in
tenths of a pixel, by name; faint columns apart.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

import scopegym
from scopegym.sample.crystal import crystal
from scopegym.sample.imaging import shown_by
from scopegym.sample.lattice import measure_lattice

TARGET = Path(__file__).with_name("positions.npz")


@dataclass(frozen=True)
class Registered:
    """A crystal to lay on an image: pixel size [nm], brightness of the columns, and the rows at
    which a fault divides the image into crystals of their own. Columns weaker than ``faint`` of the
    strongest show in the mean cell only: to find them or not is right."""

    path: str
    name: str
    zone: tuple[int, int, int]
    pixel_size_nm: float
    imaging: str = "haadf"
    sign: int = 1
    faults: tuple[int, ...] = ()
    faint: float = 0.0

    def columns(self, data: Path) -> tuple[np.ndarray, np.ndarray]:
        """The columns ``[N, 2]``, and which of them are faint."""
        image = scopegym.load(data / self.path).normalized().pixels.astype(float)
        edges = (0, *self.faults, len(image))
        projection = shown_by(self.imaging, crystal(self.name), self.zone)
        parts, faint = [], []
        for start, stop in pairwise(edges):
            part = image[start:stop]
            fit = measure_lattice(part, projection, self.pixel_size_nm)
            assert fit.reliable, self.path
            yx, kind = laid(part, projection, np.array(fit.lattice_px), self.sign)
            parts.append(yx + np.array([start, 0]))
            faint.append(projection.weights[kind] < self.faint)
        return np.concatenate(parts), np.concatenate(faint)


@dataclass(frozen=True)
class Maxima:
    """Maxima of an image smoothed with ``sigma`` [px], at least ``apart`` [px] from each other."""

    path: str
    sigma: float
    apart: int
    threshold: float

    def columns(self, data: Path) -> tuple[np.ndarray, np.ndarray]:
        from skimage.feature import peak_local_max

        image = scopegym.load(data / self.path).normalized().pixels
        found = peak_local_max(
            gaussian_filter(image, self.sigma) - gaussian_filter(image, 4 * self.sigma),
            min_distance=self.apart,
            threshold_abs=self.threshold,
            exclude_border=False,
        )
        return found.astype(float), np.zeros(len(found), bool)


MARKED = {
    "YBa2Cu3O7": Registered(
        "atom_finding/scilink_ybco_haadf/YBCO_tem.tif", "YBa2Cu3O7", (1, 0, 0), 0.035246,
        faults=(250,),
    ),
    "BaTiO3": Registered(
        "atom_finding/baghizadeh_batio3/BTO_crystal_1.dm4", "BaTiO3", (1, 0, 0), 0.02966
    ),
    "MoS2": Registered(
        "atom_finding/scilink_mos2_haadf/MoS2_stem_Exp-000-2.npy", "MoS2", (0, 0, 1), 0.017578,
        faint=0.5,
    ),
    "SrTiO3 ABF": Registered(
        "atom_finding/hyperspy_demos_abf/stem_abf_data.hspy", "SrTiO3", (1, 1, 0), 0.009326,
        imaging="abf", sign=-1,
    ),
    # Its pseudo-cubic cell is near that of SrTiO3; 8 nm over 1024 px.
    "DyScO3": Registered(
        "atom_finding/atomsegnet_test_img/10_dso_8nm_none_none.png", "SrTiO3", (1, 0, 0), 0.00781
    ),
    "gold": Maxima("atom_finding/atomsegnet_test_img/Grain_boundry_gold_512px.png", 2.6, 6, 0.02),
    "iron": Maxima(
        "symmetry_segmentation/ai4stem/experimental_images/Fe_bcc_100.npy", 2.5, 7, 0.0
    ),
}  # fmt: skip


def laid(
    image: np.ndarray, projection, lattice: np.ndarray, sign: int
) -> tuple[np.ndarray, np.ndarray]:
    """The projected columns ``[N, 2]`` on the image and their kinds ``[N]``; each block of cells is
    shifted to fit best."""
    spacing = projection.prior(image.shape, lattice_px=lattice).scale_px
    field = sign * (gaussian_filter(image, 0.18 * spacing) - gaussian_filter(image, 0.54 * spacing))

    def fit(yx, kind):
        return (_at(field, yx) * projection.weights[kind]).sum()

    def best(yx, kind, shifts):
        return shifts[np.argmax([fit(yx + shift, kind) for shift in shifts])]

    longest = float(np.linalg.norm(lattice, axis=1).max())
    middle = np.array(image.shape) / 2
    yx, kind = projection.positions(image.shape, lattice_px=lattice)
    near = np.abs(yx - middle).max(axis=1) < 5 * longest
    origin = best(yx[near], kind[near], _grid(np.arange(0, 1, 1 / 24)) @ lattice)
    yx, kind = projection.positions(
        image.shape, lattice_px=lattice, origin_yx=origin, margin_px=2 * spacing
    )
    size = max(3 * longest, 5 * spacing)
    blocks = np.maximum(1, np.round(np.array(image.shape) / size).astype(int))
    centres = {
        block: (np.array(block) + 0.5) * image.shape / blocks for block in np.ndindex(*blocks)
    }
    shifts: dict[tuple[int, ...], np.ndarray] = {}
    steps = _grid(np.arange(-0.3, 0.301, 0.05) * spacing)
    # Outwards from the middle, each block from the shift of its neighbours.
    for block in sorted(centres, key=lambda b: np.linalg.norm(centres[b] - middle)):
        beside = [s for b, s in shifts.items() if max(np.abs(np.subtract(b, block))) == 1]
        shift = np.mean(beside, axis=0) if beside else np.zeros(2)
        near = np.abs(yx + shift - centres[block]).max(axis=1) < 0.75 * size
        for scale in (1, 0.2):
            shift = shift + best(yx[near] + shift, kind[near], scale * steps)
        shifts[block] = shift
    drift = np.array([shifts[block] for block in np.ndindex(*blocks)]).reshape(*blocks, 2)
    if min(blocks) > 2:
        drift = median_filter(drift, (3, 3, 1), mode="nearest")
    places = yx / np.array(image.shape) * blocks - 0.5
    moved = yx + np.stack([_at(drift[..., axis], places) for axis in (0, 1)], axis=-1)
    inside = ((moved >= 0) & (moved <= np.array(image.shape) - 1)).all(axis=1)
    return moved[inside], kind[inside]


def _grid(values: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(values, values, indexing="ij"), axis=-1).reshape(-1, 2)


def _at(field: np.ndarray, yx: np.ndarray) -> np.ndarray:
    return map_coordinates(field, yx.T, order=1, mode="nearest")


def picture(image: np.ndarray, yx: np.ndarray, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(16, 16 * image.shape[0] / image.shape[1]))
    axes.imshow(image, cmap="gray")
    axes.plot(yx[:, 1], yx[:, 0], "+", color="orange", markersize=5)
    axes.set_axis_off()
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the published images")
    parser.add_argument("--pictures", type=Path, help="where to draw the positions")
    options = parser.parse_args()
    found = {}
    for name, marked in MARKED.items():
        yx, faint = marked.columns(options.data)
        found[name] = np.round(10 * yx[~faint]).astype(np.int16)
        if faint.any():
            found[f"{name} faint"] = np.round(10 * yx[faint]).astype(np.int16)
        print(f"{name}: {len(yx)} columns, {faint.sum()} of them faint", flush=True)
        if options.pictures is not None:
            options.pictures.mkdir(parents=True, exist_ok=True)
            image = scopegym.load(options.data / marked.path).normalized().pixels
            picture(image, yx, options.pictures / f"{name.replace(' ', '-')}.png")
    np.savez_compressed(TARGET, **found)


if __name__ == "__main__":
    main()
