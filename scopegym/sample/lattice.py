"""Measurement of the lattice in an image by its Fourier transform.

The Fourier transform of a lattice image has peaks at the reciprocal lattice. Candidates come from
these peaks and are refined on the pixels as a sum of waves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.prior import Vector
from scopegym.sample.projection import Projection
from scopegym.sample.reflections import Reflections, Search
from scopegym.sample.spectrum import Field, Float, Spectrum, centre, readable
from scopegym.sample.waves import Reading, turn_of

#: Largest share of peaks without a lattice, and of a lattice without peaks. Set after looking at
#: published images: right crystals have at most 0.19 and 0.14, wrong ones at least 0.26 of either.
UNEXPLAINED = 0.23
#: Sharp peaks that make a lattice; fewer may be chance.
FEW_PEAKS = 3
#: Scales that are tried: spacings from this one [px] in steps that the search of one scale bridges,
#: to this many across the field.
LEAST_PX, SCALE_STEP, FEWEST_ACROSS = 5.0, 1.7, 8
#: Sufficient number of pixels per characteristic spacing; finer images are binned.
ENOUGH_PX = 7


@dataclass(frozen=True)
class LatticeFit:
    """The lattice of a projection, measured in an image.

    ``lattice_px`` [px] and ``ratios`` have the order of ``Projection.lattice_nm``. A ratio of 1.07
    means that the vector measures 7 % longer than the crystal's. ``rotation_deg`` is the rotation
    from the expected to the measured lattice, counter-clockwise on the screen; among equivalent
    rotations it is the smallest. ``angle_error_deg`` is the measured minus the expected angle
    between the vectors. ``reflections`` counts the peaks on the lattice.

    ``confidence``, 0 to 1, is the product of two similarities. The first is the cosine between the
    predicted and the observed amplitudes, over all reflections and all peaks. The second is
    ``contrast``, the correlation of the mean unit cell with the projected columns; it is negative
    for dark columns. If ``reliable`` is False, the lattice is the nominal one.

    ``sharp`` counts the sharp peaks of the image's spectrum. ``unindexed`` is the share of their
    amplitude that is not on the lattice; ``absent`` the share of the predicted amplitude that the
    image lacks.
    """

    lattice_px: tuple[Vector, Vector]
    ratios: tuple[float, float] = (1.0, 1.0)
    rotation_deg: float = 0.0
    angle_error_deg: float = 0.0
    reflections: int = 0
    contrast: float = 0.0
    confidence: float = 0.0
    reliable: bool = False
    sharp: int = 0
    unindexed: float = 1.0
    absent: float = 1.0

    @property
    def explains(self) -> bool:
        """True if the lattice was found and explains the peaks, and the peaks the lattice."""
        return self.reliable and max(self.unindexed, self.absent) <= UNEXPLAINED


def measure_lattice(
    source: ArrayLike, projection: Projection, pixel_size_nm: float, search: float = 0.35
) -> LatticeFit:
    """Find the lattice of a projection in an image ``[H, W]``, at any rotation.

    ``search`` is how far the mean scale may lie from the nominal one, as a share of it. Raises
    ScopegymError for an image that cannot be read or a pixel size that is not positive.
    """
    image = readable(source)
    nominal = np.array(projection.lattice_px(pixel_size_nm))
    nothing = LatticeFit(projection.lattice_px(pixel_size_nm))
    image, binned = _binned(image, projection.spacing_nm / pixel_size_nm * (1 - search))
    if min(image.shape) < 16 or not np.ptp(image) > 0:
        return nothing
    field = Field.of(image)
    reflections = Reflections.of(projection)
    slowest = reflections.slowest(nominal / binned) / (1 + search)
    search_in = Search.of(Spectrum.of(field, slowest), reflections, nominal / binned, search)
    nothing = replace(nothing, sharp=int(search_in.spectrum.sharp.sum()))
    readings = search_in.readings()
    if not readings:
        return nothing
    # with few periods in the field the peaks overlap, and only the waves distinguish candidates
    best = max((Reading.of(search_in, field, r) for r in readings), key=lambda r: r.confidence)
    found = replace(
        nothing,
        reflections=best.found,
        contrast=best.contrast,
        confidence=best.confidence,
        reliable=best.reliable,
        unindexed=best.unindexed,
        absent=best.absent,
    )
    return _located(found, best.upright().lattice_px * binned, nominal) if best.reliable else found


def measure_scale(
    source: ArrayLike, projection: Projection, pixel_size_nm: float | None = None
) -> tuple[LatticeFit, float] | None:
    """Find the lattice of a projection at any scale: the fit and the pixel size [nm] at which the
    mean scale is the crystal's. None if no scale explains the image.

    The fit is relative to ``pixel_size_nm``, or else to the pixel size found. Raises ScopegymError
    for an image that cannot be read.
    """
    image = readable(source)
    spacing_px, found = LEAST_PX, []
    while spacing_px < min(image.shape) / FEWEST_ACROSS:
        size = projection.spacing_nm / spacing_px
        fit = measure_lattice(image, projection, size)
        if fit.explains and fit.sharp >= FEW_PEAKS:
            found.append((fit, size))
        spacing_px *= SCALE_STEP
    if not found:
        return None
    fit, size = max(found, key=lambda each: each[0].confidence)
    measured = size / math.sqrt(fit.ratios[0] * fit.ratios[1])
    nominal = projection.lattice_px(measured if pixel_size_nm is None else pixel_size_nm)
    return _located(fit, np.array(fit.lattice_px), np.array(nominal)), measured


def _located(fit: LatticeFit, lattice: Float, nominal: Float) -> LatticeFit:
    (ay, ax), (by, bx) = lattice.tolist()
    lengths = np.linalg.norm(lattice, axis=1) / np.linalg.norm(nominal, axis=1)
    return replace(
        fit,
        lattice_px=((ay, ax), (by, bx)),
        ratios=(float(lengths[0]), float(lengths[1])),
        rotation_deg=turn_of(np.linalg.inv(nominal) @ lattice)[0],
        angle_error_deg=_angle(lattice) - _angle(nominal),
    )


def _binned(image: NDArray[np.floating], spacing_px: float) -> tuple[Float, int]:
    """The centre of the image, with coarser pixels if its own are finer than needed."""
    times = max(1, int(spacing_px / ENOUGH_PX))
    times = max(1, min(times, min(image.shape) // 64))
    return centre(image, times), times


def _angle(lattice: Float) -> float:
    """Angle between two vectors [deg]."""
    cosine = lattice[0] @ lattice[1] / np.prod(np.linalg.norm(lattice, axis=1))
    return math.degrees(math.acos(float(np.clip(cosine, -1, 1))))
