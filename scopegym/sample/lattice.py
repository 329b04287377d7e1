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
    """

    lattice_px: tuple[Vector, Vector]
    ratios: tuple[float, float] = (1.0, 1.0)
    rotation_deg: float = 0.0
    angle_error_deg: float = 0.0
    reflections: int = 0
    contrast: float = 0.0
    confidence: float = 0.0
    reliable: bool = False


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
    )
    return _located(found, best.upright().lattice_px * binned, nominal) if best.reliable else found


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
