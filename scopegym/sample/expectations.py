"""From what a user knows of the sample to the prior of one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.sample.calibration import Calibration, check_calibration
from scopegym.sample.crystal import Crystal, crystal
from scopegym.sample.estimation import estimate_prior
from scopegym.sample.projection import Projection
from scopegym.units import check_pixel_size, parse_pixels

#: What a contradicted pixel size means: an error, nothing, or no more than a message.
CalibrationPolicy = Literal["check", "trust", "report"]
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
    spacing: str | None = None,
    estimate: bool = False,
    calibration: CalibrationPolicy = "check",
    contrast: Contrast = "bright",
    counted: bool = True,
) -> Expectation:
    """The prior from a crystal, from density and spacing, or estimated from the image itself.

    ``spacing`` is a length such as ``0.28 nm`` or ``8 px``; it is enough where the reward does not
    need the number of columns (``counted``). With a crystal the pixel size is checked against the
    image's own lattice: where that is found within 10 % of expectation, the measured scale is used.
    Raises ScopegymError when nothing is known, when the pixel size is missing, and when the image
    contradicts it, if ``calibration`` is ``check``: with ``report`` the stated pixel size is then
    used as with ``trust``, and the check's verdict says so.
    """
    given = density_per_nm2 is not None or spacing is not None
    if (sample is not None) + given + estimate != 1:
        figures = "density and spacing" if counted else "a spacing"
        raise ScopegymError(
            f"Say what to expect in exactly one way: a crystal, {figures}, or estimate."
        )
    if sample is not None:
        projection = crystal(sample).project(zone)
        expectation = _from_crystal(micrograph, projection, calibration, contrast)
    elif estimate:
        expectation = _from_image(micrograph, contrast)
    else:
        prior = _from_figures(micrograph, density_per_nm2, spacing, contrast, counted)
        expectation = Expectation(prior, None, ())
    resolvable(expectation.prior)
    return expectation


def _from_image(micrograph: Micrograph, contrast: Contrast) -> Expectation:
    return Expectation(
        estimate_prior(micrograph.normalized(), contrast),
        None,
        ("Spacing and count are estimated from the image: nothing independent checks them.",),
    )


def _from_figures(
    micrograph: Micrograph,
    density_per_nm2: float | None,
    spacing: str | None,
    contrast: Contrast,
    counted: bool,
) -> Prior:
    if spacing is None:
        raise ScopegymError("A density alone is not enough: give the spacing too.")
    if counted and density_per_nm2 is None:
        raise ScopegymError(
            "A spacing alone does not say how many columns to expect: give the density too."
        )
    spacing_px = parse_pixels(spacing, micrograph.pixel_size_nm, "spacing")
    if spacing_px > max(micrograph.shape):
        raise ScopegymError(
            f"The spacing '{spacing}' is {spacing_px:.3g} px, more than the image's larger side of "
            f"{max(micrograph.shape)} px."
        )
    count = None if density_per_nm2 is None else _count(micrograph, density_per_nm2)
    known = ("scale_px", "neighbour_sums_px", *(() if count is None else ("count",)))
    return Prior(
        scale_px=spacing_px,
        count=count,
        neighbour_sums_px=(4 * spacing_px,),
        contrast=contrast,
        sources=dict.fromkeys(known, "given"),
    )


def _count(micrograph: Micrograph, density_per_nm2: float) -> float:
    if not density_per_nm2 > 0:
        raise ScopegymError(f"The density must be positive, not {density_per_nm2:g} per nm^2.")
    height, width = micrograph.shape
    count = density_per_nm2 * _pixel_size(micrograph) ** 2 * height * width
    if count > height * width:
        raise ScopegymError(
            f"A density of {density_per_nm2:g} per nm^2 means {count:.3g} columns in an image of "
            f"{height} x {width} px, more than one per pixel."
        )
    return count


def _pixel_size(micrograph: Micrograph) -> float:
    """The pixel size [nm]. Raises ScopegymError where it is unknown."""
    if micrograph.pixel_size_nm is None:
        raise ScopegymError(
            f"The pixel size of '{micrograph.name}' is unknown; give one, such as '35.2 pm'."
        )
    return check_pixel_size(micrograph.pixel_size_nm, f"The pixel size of '{micrograph.name}'")


def _from_crystal(
    micrograph: Micrograph, projection: Projection, policy: CalibrationPolicy, contrast: Contrast
) -> Expectation:
    size = _pixel_size(micrograph)
    shape = (micrograph.shape[0], micrograph.shape[1])
    found = check_calibration(micrograph.normalized(), projection, size)
    if found.status == "contradicted" and policy == "check":
        raise ScopegymError(
            f"{found.message} Correct the pixel size or the crystal, or insist with "
            "--calibration trust."
        )
    if policy != "trust":
        prior = found.prior(projection, shape, contrast)
    else:
        prior = projection.prior(shape, pixel_size_nm=size, contrast=contrast)
    return Expectation(prior, found, (found.message,))


def resolvable(prior: Prior) -> None:
    """Raise ScopegymError when columns are too close to be told apart."""
    if prior.scale_px < LEAST_SPACING_PX:
        raise ScopegymError(
            f"Columns would be {prior.scale_px:.3g} px apart, and at least {LEAST_SPACING_PX} px "
            "are needed to tell them apart; check the pixel size."
        )
