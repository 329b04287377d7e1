"""Simulated micrographs of a crystal with disordered regions of known shape, as after irradiation.

Inside a region columns are displaced, blurred and dimmed, the weak ones most: the bright ones stay
visible, as Barakati et al. 2024 (Physics-based reward driven image analysis in microscopy) describe
for irradiated YBa2Cu3O7.
"""

from __future__ import annotations

import math

import numpy as np

from scopegym.artifacts import Array
from scopegym.datasets.simulate import COLUMN_SIGMA_NM, REACH, draw_columns
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.operators.regions import regions
from scopegym.sample.projection import Projection

#: Ratio of the widths of a disordered and an ordered column.
BLUR = 1.3
#: Share of its height that the brightest disordered column keeps, and one of vanishing weight.
KEPT_BRIGHT, KEPT_WEAK = 0.8, 0.35
#: Width of the haze that lost intensity spreads over, in spacings: no lattice shows in it.
HAZE = 0.6
#: Bumps of a region's outline: amplitude over its radius, and orders of the waves around it.
BUMPS, ORDERS = 0.25, (2, 3, 4)


def simulate_disorder(
    projection: Projection,
    shape: tuple[int, int] = (256, 256),
    pixel_size_nm: float = 0.03,
    *,
    fraction: float = 0.15,
    count: int = 2,
    displacement: float = 0.2,
    noise: float = 0.1,
    rotation_deg: float = 0.0,
    column_sigma_nm: float = COLUMN_SIGMA_NM,
    background: float = 0.0,
    seed: int = 0,
) -> Micrograph:
    """Draw a crystal projection in which ``count`` regions, together ``fraction`` of the field, are
    disordered.

    Columns there are displaced in y and x by a normal distribution of standard deviation
    ``displacement`` [spacings]. The clean image is scaled to 0..1; then come a linear
    ``background`` of this amplitude and white Gaussian noise of standard deviation ``noise``.
    ``truth`` numbers the regions from 1 by area on a background of 0; sizes and outlines are
    random, regions may merge. Same seed, same image. Raises ScopegymError on impossible figures.
    """
    _check(shape, fraction, count, displacement, noise, background)
    rng = np.random.default_rng(seed)
    spacing = projection.spacing_nm / pixel_size_nm
    sigma = column_sigma_nm / pixel_size_nm
    origin = rng.uniform(0, 1, 2) @ np.array(projection.lattice_px(pixel_size_nm, rotation_deg))
    yx, kind = projection.positions(
        shape,
        pixel_size_nm=pixel_size_nm,
        origin_yx=(float(origin[0]), float(origin[1])),
        rotation_deg=rotation_deg,
        margin_px=REACH * BLUR * sigma,
    )
    weight = projection.weights[kind]
    mask = random_regions(shape, fraction, count, rng)
    nearest = np.clip(np.rint(yx).astype(int), 0, np.array(shape) - 1)
    inside = mask[tuple(nearest.T)]
    moved = yx[inside] + rng.normal(0, displacement * spacing, (int(inside.sum()), 2))
    kept = weight[inside] * (KEPT_WEAK + (KEPT_BRIGHT - KEPT_WEAK) * weight[inside] / weight.max())
    still = np.zeros(shape[0])
    clean = draw_columns(shape, yx[~inside], weight[~inside], sigma, still)
    clean += draw_columns(shape, moved, kept, BLUR * sigma, still)
    # What a column loses in its peak it does not lose in all: the same number of atoms scatters.
    lost = (weight[inside] - kept * BLUR**2) * (sigma / (HAZE * spacing)) ** 2
    clean += draw_columns(shape, yx[inside], lost, HAZE * spacing, still)
    image = (clean - clean.min()) / max(float(np.ptp(clean)), 1e-12)
    ramp = np.add.outer(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1])) / 2
    image += background * ramp + rng.normal(0, noise, shape)
    return Micrograph(
        image.astype(np.float32),
        pixel_size_nm,
        name=f"simulated {projection.name}, {100 * fraction:.0f} % disordered, #{seed}",
        metadata={
            "spacing_px": spacing,
            "fraction": fraction,
            "displacement": displacement,
            "noise": noise,
        },
        truth=regions(mask),
    )


def random_regions(
    shape: tuple[int, int], fraction: float, count: int, rng: np.random.Generator
) -> Array:
    """A mask ``[H, W]`` of disks with wavy outlines and different sizes, with exactly this share of
    the pixels."""
    y, x = np.indices(shape)
    depth = np.full(shape, -np.inf)
    for _ in range(count):
        cy, cx = (rng.uniform(0.1, 0.9) * n for n in shape)
        away, angle = np.hypot(y - cy, x - cx), np.arctan2(y - cy, x - cx)
        waves = (np.cos(order * angle + rng.uniform(0, 2 * np.pi)) for order in ORDERS)
        outline = 1 + BUMPS * sum(rng.normal(0, 0.5) * wave for wave in waves)
        depth = np.maximum(depth, 1 - away / (rng.uniform(0.5, 1.0) * outline))
    pixels = round(fraction * depth.size)
    mask = np.zeros(depth.size, bool)
    mask[np.argsort(-depth, axis=None, kind="stable")[:pixels]] = True
    return mask.reshape(shape)


def _check(
    shape: tuple[int, int],
    fraction: float,
    count: int,
    displacement: float,
    noise: float,
    background: float,
) -> None:
    if min(shape) < 1:
        raise ScopegymError(f"The shape must be at least 1 x 1 px, not {shape[0]} x {shape[1]}.")
    if not 0 <= fraction <= 1:
        raise ScopegymError(f"fraction is a share in 0..1, not {fraction:g}.")
    if count < 1:
        raise ScopegymError(f"count must be at least 1 region, not {count}.")
    figures = {"displacement": displacement, "noise": noise, "background": background}
    for name, value in figures.items():
        if not (math.isfinite(value) and value >= 0):
            raise ScopegymError(f"{name} must not be negative, and is {value:g}.")
