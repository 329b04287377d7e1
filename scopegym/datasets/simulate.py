"""Simulated micrographs whose exact truth is known."""

from __future__ import annotations

import math

import numpy as np

from scopegym.artifacts import Array, Points
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.sample.projection import Projection

#: Width (standard deviation) of a column in an aberration-corrected HAADF image: source size and
#: thermal motion together give about 0.1 nm full width at half maximum [nm].
COLUMN_SIGMA_NM = 0.045
#: Radius of a drawn column [standard deviations]. Outside, less than 4e-6 of the peak is left.
REACH = 5.0


def simulate_crystal(
    projection: Projection,
    shape: tuple[int, int] = (256, 256),
    pixel_size_nm: float = 0.02,
    *,
    seed: int = 0,
    column_sigma_nm: float = COLUMN_SIGMA_NM,
    rotation_deg: float = 0.0,
    origin_yx: tuple[float, float] | None = None,
    vacancies: float = 0.0,
    drift: tuple[float, float] = (0.0, 0.0),
    jitter_px: float = 0.0,
    background: float = 0.0,
    dose: float | None = None,
    noise: float = 0.0,
    calibration_error: float = 0.0,
) -> Micrograph:
    """Draw a crystal projection as Gaussian columns and disturb it as a microscope would.

    ``origin_yx`` [px] places the lattice (default: at random). ``vacancies`` is the fraction of
    columns left out. ``drift`` is the sample's movement (y, x) [px] while the frame is scanned
    from top to bottom; ``jitter_px`` the standard deviation of each scan line's horizontal
    displacement. The clean image is scaled to 0..1; then come a smooth ``background`` of this
    amplitude, Poisson noise at ``dose`` electrons per pixel of intensity 1, and white Gaussian
    noise of standard deviation ``noise`` (0..1, as in Barakati et al. 2024, Physics-based reward
    driven image analysis in microscopy). The micrograph reports a pixel size that is wrong by
    ``calibration_error`` (0.05: five per cent too long).

    ``truth`` holds the columns inside the field, drift included and jitter not, with their
    relative brightness as ``strength``. Same seed, same image.
    """
    _check(vacancies, jitter_px, background, dose, noise, calibration_error)
    if min(shape) < 1:
        raise ScopegymError(f"The shape must be at least 1 x 1 px, not {shape[0]} x {shape[1]}.")
    if not (math.isfinite(column_sigma_nm) and column_sigma_nm > 0):
        raise ScopegymError(f"column_sigma_nm must be positive, not {column_sigma_nm:g}.")
    if not np.isfinite(drift).all():
        raise ScopegymError(f"drift must be finite, not {drift}.")
    rng = np.random.default_rng(seed)
    origin = rng.uniform(0, 1, 2) @ np.array(projection.lattice_px(pixel_size_nm, rotation_deg))
    sigma = column_sigma_nm / pixel_size_nm
    margin = REACH * sigma + abs(drift[0]) + abs(drift[1]) + 4 * jitter_px
    yx, kind = projection.positions(
        shape,
        pixel_size_nm=pixel_size_nm,
        origin_yx=tuple(origin) if origin_yx is None else origin_yx,
        rotation_deg=rotation_deg,
        margin_px=margin,
    )
    present = rng.random(len(yx)) >= vacancies
    yx, weight = yx[present], projection.weights[kind[present]]
    yx = yx + (yx[:, :1] / shape[0]) * np.array(drift)
    lines = rng.normal(0, jitter_px, shape[0]) if jitter_px > 0 else np.zeros(shape[0])

    clean = draw_columns(shape, yx, weight, sigma, lines)
    clean = (clean - clean.min()) / max(float(np.ptp(clean)), 1e-12)
    image = clean + background * _smooth_background(shape, rng)
    if dose is not None:
        image = rng.poisson(np.clip(image, 0, None) * dose) / dose
    image = image + rng.normal(0, noise, shape) if noise > 0 else image

    inside = ((yx >= -0.5) & (yx < np.array(shape) - 0.5)).all(axis=1)
    truth = Points(yx[inside], shape, np.full(int(inside.sum()), sigma), weight[inside])
    return Micrograph(
        image.astype(np.float32),
        pixel_size_nm * (1 + calibration_error),
        name=f"simulated {projection.name} #{seed}",
        metadata={
            "true_pixel_size_nm": pixel_size_nm,
            "rotation_deg": rotation_deg,
            "noise": noise,
            "dose": dose,
        },
        truth=truth,
    )


def simulate_gradient(
    projection: Projection,
    shape: tuple[int, int] = (256, 512),
    pixel_size_nm: float = 0.025,
    *,
    contrast: float = 10.0,
    blur: float = 1.6,
    noise: float = 0.0,
    column_sigma_nm: float = COLUMN_SIGMA_NM,
    seed: int = 0,
) -> Micrograph:
    """Draw a crystal projection that fades and blurs from left to right, as where the illumination
    falls off and the sample leaves the focus.

    At the right edge everything is ``contrast`` times fainter and columns are ``blur`` times wider
    than at the left edge; both change by the same factor in every pixel. ``noise`` is the standard
    deviation of white noise where the brightest column has height 1: it fades too. ``truth`` is
    that of ``simulate_crystal``. Same seed, same image.
    """
    if not all(1 <= factor < math.inf for factor in (contrast, blur)):
        raise ScopegymError(f"contrast and blur must be 1 or more, not {contrast:g} and {blur:g}.")
    _check(0.0, 0.0, 0.0, None, noise, 0.0)
    rng = np.random.default_rng(seed)
    sharp = column_sigma_nm / pixel_size_nm
    yx, kind = projection.positions(
        shape,
        pixel_size_nm=pixel_size_nm,
        origin_yx=tuple(rng.uniform(0, 1, 2) @ np.array(projection.lattice_px(pixel_size_nm))),
        margin_px=REACH * sharp * blur,
    )
    sigma = sharp * blur ** np.clip(yx[:, 1] / shape[1], 0, 1)
    image = draw_columns(shape, yx, projection.weights[kind], sigma, np.zeros(shape[0]))
    fade = contrast ** -np.linspace(0, 1, shape[1])
    inside = ((yx >= -0.5) & (yx < np.array(shape) - 0.5)).all(axis=1)
    return Micrograph(
        (fade * (image + rng.normal(0, noise, shape))).astype(np.float32),
        pixel_size_nm,
        name=f"simulated gradient of {projection.name} #{seed}",
        truth=Points(yx[inside], shape, sigma[inside], projection.weights[kind[inside]]),
    )


def draw_columns(
    shape: tuple[int, int],
    yx: Array,
    weight: Array,
    sigma: float | Array,
    line_shift: Array,
) -> Array:
    """Sum of round Gaussians ``[H, W]`` of height ``weight`` and width ``sigma`` [px] (one for all,
    or ``[N]``), each scan line shifted to the right by ``line_shift`` ``[H]`` [px]."""
    image = np.zeros(shape)
    most_shifted = float(np.abs(line_shift).max(initial=0))
    widths = np.broadcast_to(sigma, len(yx))
    for (y, x), height, width in zip(yx, weight, widths, strict=True):
        half = math.ceil(REACH * width + most_shifted)
        top, bottom = max(0, round(y) - half), min(shape[0], round(y) + half + 1)
        left, right = max(0, round(x) - half), min(shape[1], round(x) + half + 1)
        if top >= bottom or left >= right:
            continue
        rows = np.arange(top, bottom)[:, None]
        columns = np.arange(left, right)[None, :] - line_shift[top:bottom, None]
        square = (rows - y) ** 2 + (columns - x) ** 2
        image[top:bottom, left:right] += height * np.exp(-square / (2 * width**2))
    return image


def _smooth_background(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """A random sum of a few cosine waves across the field, scaled to 0..1."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    waves = rng.uniform(-1.5, 1.5, (4, 2))
    phases = rng.uniform(0, 2 * np.pi, 4)
    landscape = sum(
        np.cos(2 * np.pi * (ky * y + kx * x) + p) for (ky, kx), p in zip(waves, phases, strict=True)
    )
    return (landscape - landscape.min()) / max(float(np.ptp(landscape)), 1e-12)


def _check(
    vacancies: float,
    jitter_px: float,
    background: float,
    dose: float | None,
    noise: float,
    calibration_error: float,
) -> None:
    for name, value in {
        "jitter_px": jitter_px,
        "background": background,
        "noise": noise,
        "dose": 1.0 if dose is None else dose,
    }.items():
        if not (math.isfinite(value) and value >= 0):
            raise ScopegymError(f"{name} must not be negative, and is {value:g}.")
    if not 0 <= vacancies < 1:
        raise ScopegymError(f"vacancies is a fraction in 0..1, not {vacancies:g}.")
    if dose == 0:
        raise ScopegymError("A dose of zero electrons gives no image.")
    if not calibration_error > -1:
        raise ScopegymError(f"calibration_error must exceed -1, not {calibration_error:g}.")
