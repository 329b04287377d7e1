"""Check of the pixel size of an image against the lattice in the image."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from scopegym.prior import Polarity, Prior, Vector
from scopegym.sample.lattice import FEW_PEAKS, LatticeFit, measure_lattice, measure_scale
from scopegym.sample.projection import Projection
from scopegym.sample.zone import axis_name

#: Calibrations agree up to this deviation from 1. It covers scan distortion and the variation of
#: published lattice parameters with temperature and oxygen content.
AGREES = 0.02

Status = Literal["agrees", "measured", "contradicted", "unmeasurable"]
#: What it may mean when the image has a lattice that is not the expected one.
ANOTHER = "probably not this crystal, zone or scale, or not the only crystal in the field"
Premise = Literal["holds", "fails", "unknown"]


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
    def premise(self) -> Premise:
        """Whether this crystal is in the image, along this zone and at this scale. It ``fails``
        when the image has a lattice that is another one."""
        if self.fit.explains and self.status in ("agrees", "measured"):
            return "holds"
        another = self.status == "contradicted" or self.fit.sharp >= FEW_PEAKS
        return "fails" if another else "unknown"

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
    source: ArrayLike,
    projection: Projection,
    pixel_size_nm: float,
    tolerance: float = 0.10,
    anywhere: bool = True,
) -> Calibration:
    """Compare the pixel size of an image ``[H, W]`` with the lattice of its crystal.

    If the lattice is not near the stated scale, all others are searched, ``anywhere``. Raises
    ScopegymError for an image that cannot be read or a pixel size that is not positive.
    """
    fit = measure_lattice(source, projection, pixel_size_nm)
    if anywhere and not fit.explains:
        elsewhere = measure_scale(source, projection, pixel_size_nm)
        fit = fit if elsewhere is None else elsewhere[0]
    status, message = _verdict(fit, projection, pixel_size_nm, tolerance)
    return Calibration(
        status=status,
        message=message,
        axes=projection.axes,
        ratios=fit.ratios if fit.reliable else None,
        pixel_size_nm=float(pixel_size_nm),
        tolerance=float(tolerance),
        fit=fit,
    )


def _verdict(
    fit: LatticeFit, projection: Projection, pixel_size_nm: float, tolerance: float
) -> tuple[Status, str]:
    if not fit.reliable:
        return "unmeasurable", (
            f"The lattice of {projection.name} was not found in the image, so the pixel size was "
            "not checked"
            + (f"; the image has a lattice: {ANOTHER}." if fit.sharp >= FEW_PEAKS else ".")
        )
    worst = max(abs(ratio - 1) for ratio in fit.ratios)
    parts = ", ".join(
        f"{axis_name(axis)}{_way(vector)} {_percent(ratio)}"
        for axis, vector, ratio in zip(projection.axes, fit.lattice_px, fit.ratios, strict=True)
    )
    reading = f"Measured against {projection.name}: {parts}"
    if worst > tolerance:
        mean = math.sqrt(fit.ratios[0] * fit.ratios[1])
        return "contradicted", (
            f"{reading}, more than the {100 * tolerance:.0f} % allowed. The image would show this "
            f"crystal at {1000 * pixel_size_nm / mean:.3g} pm per pixel, but "
            f"{1000 * pixel_size_nm:.3g} pm is stated."
        )
    if not fit.explains:
        reading += f"; {100 * max(fit.unindexed, fit.absent):.0f} % of the sharp peaks of " + (
            "the image's spectrum do not belong to it"
            if fit.unindexed > fit.absent
            else "its spectrum are not in the image"
        )
        reading += f": {ANOTHER}"
    if worst <= AGREES:
        return "agrees", f"{reading}; its pixel size agrees with the crystal."
    return "measured", (
        f"{reading}; the expected count and spacing use the measured scale, lengths in nm the "
        "recorded pixel size."
    )


def _way(vector: Vector) -> str:
    angle = math.degrees(math.atan2(abs(vector[1]), abs(vector[0])))
    return " (vertical)" if angle < 20 else " (horizontal)" if angle > 70 else ""


def _percent(ratio: float) -> str:
    percent = f"{abs(ratio - 1) * 100:.1f}"
    way = "longer" if ratio > 1 else "shorter"
    return "equal" if percent == "0.0" else f"{percent} % {way} than the crystal's"
