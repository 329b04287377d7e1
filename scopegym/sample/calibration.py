"""Check of the pixel size of an image against the lattice in the image."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from scopegym.prior import Polarity, Prior, Vector
from scopegym.sample.lattice import LatticeFit, measure_lattice
from scopegym.sample.projection import Projection
from scopegym.sample.zone import axis_name

#: Calibrations agree up to this deviation from 1. It covers scan distortion and the variation of
#: published lattice parameters with temperature and oxygen content.
AGREES = 0.02

Status = Literal["agrees", "measured", "contradicted", "unmeasurable"]


@dataclass(frozen=True)
class Calibration:
    """The verdict on a pixel size.

    ``agrees`` (both axes within 2 %), ``measured`` (within the tolerance: the measured lattice
    should be used), ``contradicted`` (beyond it) or ``unmeasurable`` (no lattice found). ``axes``
    are the crystal directions that ``ratios`` belong to.
    """

    status: Status
    message: str
    axes: tuple[str, str]
    ratios: tuple[float, float] | None
    pixel_size_nm: float
    tolerance: float
    fit: LatticeFit

    @property
    def lattice_px(self) -> tuple[Vector, Vector] | None:
        """The measured lattice vectors (y, x) [px], None if the pixel size is kept."""
        return self.fit.lattice_px if self.status in ("agrees", "measured") else None

    def prior(
        self,
        projection: Projection,
        shape: tuple[int, int],
        contrast: Polarity = "bright",
    ) -> Prior:
        """Expectations for the field ``shape`` (H, W): from the measured lattice if there is one,
        otherwise from the pixel size."""
        if self.lattice_px is None:
            return projection.prior(shape, pixel_size_nm=self.pixel_size_nm, contrast=contrast)
        return projection.prior(shape, lattice_px=self.lattice_px, contrast=contrast)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = asdict(self)
        plain["axes"] = list(self.axes)
        plain["ratios"] = None if self.ratios is None else list(self.ratios)
        plain["fit"]["ratios"] = list(self.fit.ratios)
        plain["fit"]["lattice_px"] = [list(vector) for vector in self.fit.lattice_px]
        return plain


def check_calibration(
    source: ArrayLike, projection: Projection, pixel_size_nm: float, tolerance: float = 0.10
) -> Calibration:
    """Compare the pixel size of an image ``[H, W]`` with the lattice of its crystal.

    Raises ScopegymError for an image that cannot be read or a pixel size that is not positive.
    """
    fit = measure_lattice(source, projection, pixel_size_nm)
    status, message = _verdict(fit, projection, tolerance)
    return Calibration(
        status=status,
        message=message,
        axes=projection.axes,
        ratios=fit.ratios if fit.reliable else None,
        pixel_size_nm=float(pixel_size_nm),
        tolerance=float(tolerance),
        fit=fit,
    )


def _verdict(fit: LatticeFit, projection: Projection, tolerance: float) -> tuple[Status, str]:
    if not fit.reliable:
        return "unmeasurable", (
            f"The lattice of {projection.name} was not found in the image, so the pixel size was "
            "not checked."
        )
    worst = max(abs(ratio - 1) for ratio in fit.ratios)
    parts = ", ".join(
        f"{axis_name(axis)}{_way(vector)} {_percent(ratio)}"
        for axis, vector, ratio in zip(projection.axes, fit.lattice_px, fit.ratios, strict=True)
    )
    reading = f"Measured against {projection.name}: {parts}"
    if worst <= AGREES:
        return "agrees", f"{reading}; its pixel size agrees with the crystal."
    if worst <= tolerance:
        return "measured", (
            f"{reading}; the expected count and spacing use the measured scale, lengths in nm the "
            "recorded pixel size."
        )
    return "contradicted", (
        f"{reading}, more than the {tolerance:.0%} allowed; check the pixel size and the crystal."
    )


def _way(vector: Vector) -> str:
    angle = math.degrees(math.atan2(abs(vector[1]), abs(vector[0])))
    return " (vertical)" if angle < 20 else " (horizontal)" if angle > 70 else ""


def _percent(ratio: float) -> str:
    percent = f"{abs(ratio - 1) * 100:.1f}"
    way = "longer" if ratio > 1 else "shorter"
    return "equal" if percent == "0.0" else f"{percent} % {way} than the crystal's"
