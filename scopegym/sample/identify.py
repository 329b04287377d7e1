"""Which crystal an image shows, along which zone axis and at which scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.sample.calibration import Calibration, check_calibration
from scopegym.sample.crystal import Crystal
from scopegym.sample.imaging import ImagingName, shown_by
from scopegym.sample.lattice import LatticeFit, measure_scale
from scopegym.sample.projection import Projection
from scopegym.sample.zone import Zone

#: The kinds of imaging that are tried: without and with light columns.
KINDS: tuple[ImagingName, ...] = ("haadf", "idpc", "abf")
#: Confidences that differ by less do not tell crystals apart.
EQUAL = 0.05


@dataclass(frozen=True)
class Candidate:
    """A crystal along a zone axis, held against an image.

    ``pixel_size_nm`` is the one at which the image would show it, None if no scale fits. ``fits``
    is True if lattice and image explain each other at the stated scale, or at any if none is known.
    """

    projection: Projection
    imaging: ImagingName
    fit: LatticeFit
    pixel_size_nm: float | None
    fits: bool

    @property
    def misfit(self) -> float:
        """Share of the image's peaks without a lattice, or of the lattice without peaks."""
        return max(self.fit.unindexed, self.fit.absent)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "crystal": self.projection.crystal,
            "zone": list(self.projection.zone),
            "imaging": self.imaging,
            "fits": self.fits,
            "confidence": self.fit.confidence,
            "misfit": self.misfit,
            "pixel_size_nm": self.pixel_size_nm,
        }


def identify(
    micrograph: Micrograph, crystals: Iterable[Crystal], highest: int = 1
) -> list[Candidate]:
    """All crystals along the zone axes up to an index, the most likely first.

    The stated pixel size is used within 10 %, as ``Sample`` does. Without one, or where nothing
    fits near it, all scales are tried. Raises ScopegymError for an image without contrast or
    without crystals to try.
    """
    seen = [*_projections(crystals, highest)]
    if not seen:
        raise ScopegymError("There is no crystal to compare the image with.")
    source = np.asarray(micrograph.images[0].normalized())
    for anywhere in (False, True):
        found: dict[str, Candidate] = {}
        for projection, imaging in seen:
            candidate = _candidate(micrograph, source, projection, imaging, anywhere)
            former = found.get(projection.name)
            if former is None or _rank(candidate) < _rank(former):
                found[projection.name] = candidate
        if micrograph.pixel_size_nm is None or any(each.fits for each in found.values()):
            break
    return sorted(found.values(), key=_rank)


def _rank(candidate: Candidate) -> tuple[bool, float, float]:
    """Those that fit first, then by confidence; among equals the scale nearest to the stated."""
    scale = math.sqrt(math.prod(candidate.fit.ratios))
    return not candidate.fits, -round(candidate.fit.confidence / EQUAL), abs(math.log(scale))


def _candidate(
    micrograph: Micrograph,
    source: Any,
    projection: Projection,
    imaging: ImagingName,
    anywhere: bool,
) -> Candidate:
    stated = micrograph.pixel_size_nm
    if stated is None:
        found = measure_scale(source, projection)
        if found is None:
            nowhere = LatticeFit(projection.lattice_px(1.0))
            return Candidate(projection, imaging, nowhere, None, False)
        return Candidate(projection, imaging, *found, True)
    checked = check_calibration(source, projection, stated, anywhere=anywhere)
    return Candidate(projection, imaging, checked.fit, _scale(checked), checked.premise == "holds")


def _scale(checked: Calibration) -> float | None:
    if checked.ratios is None:
        return None
    return checked.pixel_size_nm / math.sqrt(math.prod(checked.ratios))


def _projections(
    crystals: Iterable[Crystal], highest: int
) -> Iterator[tuple[Projection, ImagingName]]:
    """The distinct projections of each crystal: equivalent zone axes look the same."""
    for crystal in crystals:
        known: set[tuple[Any, ...]] = set()
        for zone in _zones(highest):
            for imaging in KINDS:
                projection = shown_by(imaging, crystal, zone)
                look = _look(projection)
                if look not in known:
                    known.add(look)
                    yield projection, imaging


def _zones(highest: int) -> list[Zone]:
    """Zone axes [uvw] without a common divisor, one of each opposite pair, low indices first."""
    indices = range(-highest, highest + 1)
    zones = [
        (u, v, w)
        for u, v, w in product(indices, repeat=3)
        if (u, v, w) > (0, 0, 0) and math.gcd(u, v, w) == 1
    ]
    return sorted(zones, key=lambda zone: (sum(map(abs, zone)), [-n for n in zone]))


def _look(projection: Projection) -> tuple[Any, ...]:
    """What tells projections apart, whatever their orientation: cell and columns in numbers."""
    lattice = np.array(projection.lattice_nm)
    sides = np.sort(np.linalg.norm(lattice, axis=1))
    sums = np.sort(projection.neighbour_sums_nm)
    figures = (*sides, projection.cell_area_nm2, *np.sort(projection.weights), *sums)
    return tuple(np.round(figures, 4).tolist())
