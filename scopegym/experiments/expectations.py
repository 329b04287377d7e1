"""From what a user knows of the sample to the prior of one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from scopegym.calibration import Calibration, check_calibration
from scopegym.crystal import Crystal, Projection, crystal
from scopegym.errors import ScopegymError
from scopegym.estimation import estimate_prior
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior

Policy = Literal["check", "trust"]
Contrast = Literal["bright", "dark"]


#: Nyquist asks for two pixels per spacing; a column needs a third to be a maximum [px].
LEAST_SPACING_PX = 3


class Expectation(NamedTuple):
    """A prior, the calibration check behind it if there was one, and what to tell the user."""

    prior: Prior
    calibration: Calibration | None
    warnings: tuple[str, ...]


def expect(
    micrograph: Micrograph,
    *,
    sample: str | Path | Crystal | None = None,
    zone: str | Sequence[int] = (1, 0, 0),
    density_per_nm2: float | None = None,
    spacing_nm: float | None = None,
    estimate: bool = False,
    calibration: Policy = "check",
    contrast: Contrast = "bright",
) -> Expectation:
    """The prior from a crystal, from density and spacing, or estimated from the image itself.

    With a crystal the pixel size is checked against the image's own lattice: where that is found
    within 10 % of expectation, the measured scale is used. Raises ScopegymError when nothing is
    known, when the pixel size is missing, and when the image contradicts it (unless
    ``calibration`` is ``trust``).
    """
    expectation = _expect(
        micrograph, sample, zone, density_per_nm2, spacing_nm, estimate, calibration, contrast
    )
    _resolvable(expectation.prior, micrograph)
    return expectation


def _expect(
    micrograph: Micrograph,
    sample: str | Path | Crystal | None,
    zone: str | Sequence[int],
    density_per_nm2: float | None,
    spacing_nm: float | None,
    estimate: bool,
    calibration: Policy,
    contrast: Contrast,
) -> Expectation:
    given = density_per_nm2 is not None or spacing_nm is not None
    if (sample is not None) + given + estimate != 1:
        raise ScopegymError(
            "Say what to expect in exactly one way: a crystal, density and spacing, or estimate."
        )
    if estimate:
        return Expectation(
            estimate_prior(micrograph.normalized(), contrast),
            None,
            ("Spacing and count are estimated from the image: nothing independent checks them.",),
        )
    if micrograph.pixel_size_nm is None:
        raise ScopegymError(
            f"The pixel size of '{micrograph.name}' is unknown; give one, such as '35.2 pm'."
        )
    if sample is not None:
        projection = crystal(sample).project(zone)
        return _from_crystal(micrograph, projection, calibration, contrast)
    if density_per_nm2 is None or spacing_nm is None:
        raise ScopegymError("Density and spacing are needed together.")
    prior = _from_figures(micrograph, density_per_nm2, spacing_nm, contrast)
    return Expectation(prior, None, ())


def _from_figures(
    micrograph: Micrograph, density_per_nm2: float, spacing_nm: float, contrast: Contrast
) -> Prior:
    if not (density_per_nm2 > 0 and spacing_nm > 0):
        raise ScopegymError(
            f"Density and spacing must be positive, not {density_per_nm2:g} and {spacing_nm:g}."
        )
    size = micrograph.pixel_size_nm or 0.0
    height, width = micrograph.shape
    return Prior(
        scale_px=spacing_nm / size,
        count=density_per_nm2 * size**2 * height * width,
        neighbour_sums_px=(4 * spacing_nm / size,),
        contrast=contrast,
        sources=dict.fromkeys(("scale_px", "count", "neighbour_sums_px"), "given"),
    )


def _from_crystal(
    micrograph: Micrograph, projection: Projection, policy: Policy, contrast: Contrast
) -> Expectation:
    size = micrograph.pixel_size_nm
    assert size is not None  # the caller has checked
    shape = (micrograph.shape[0], micrograph.shape[1])
    found = check_calibration(micrograph.normalized(), projection, size)
    if found.status == "contradicted" and policy == "check":
        raise ScopegymError(
            f"{found.message} Correct the pixel size or the crystal, or insist with "
            "--calibration trust."
        )
    if policy == "check":
        prior = found.prior(projection, shape, contrast)
    else:
        prior = projection.prior(shape, pixel_size_nm=size, contrast=contrast)
    return Expectation(prior, found, (found.message,))


def _resolvable(prior: Prior, micrograph: Micrograph) -> None:
    """Raise ScopegymError when columns are too close or too far apart for this field."""
    height, width = micrograph.shape
    if prior.scale_px < LEAST_SPACING_PX:
        raise ScopegymError(
            f"Columns would be {prior.scale_px:.1f} px apart, and at least {LEAST_SPACING_PX} px "
            "are needed to tell them apart; check the pixel size."
        )
    if 2 * prior.scale_px > min(height, width):
        raise ScopegymError(
            f"The field of {height} x {width} px is smaller than two spacings of "
            f"{prior.scale_px:.0f} px; check the pixel size."
        )
