"""The sample as the user describes it, and the expectations for one image of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.prior import Polarity, Prior
from scopegym.sample.calibration import Calibration, check_calibration
from scopegym.sample.crystal import Crystal
from scopegym.sample.crystal import crystal as find_crystal
from scopegym.sample.estimation import estimate_prior
from scopegym.sample.imaging import IMAGING, ImagingName, Reading, recognised, shown_by
from scopegym.sample.lattice import measure_scale
from scopegym.sample.polarity import polarity_alone, polarity_at, polarity_of_lattice
from scopegym.sample.zone import parse_zone
from scopegym.units import check_pixel_size, parse_pixel_size, parse_pixels

#: Result of a contradicted pixel size: an error, nothing, or only a message.
CalibrationPolicy = Literal["check", "trust", "report"]
#: ``auto`` is decided from the image.
Contrast = Literal["auto", "bright", "dark"]

#: Nyquist asks for two pixels per spacing; a column needs a third to be a maximum [px].
LEAST_SPACING_PX = 3


#: Entry of the metadata of an image whose pixel size is that of the crystal's lattice in it.
FROM_LATTICE = "pixel_size_from_lattice"


class Expectation(NamedTuple):
    """A prior, its calibration check if there was one, messages for the user, and those of them
    that say how the image contradicts the description."""

    prior: Prior
    calibration: Calibration | None = None
    warnings: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A description of the sample and its images.

    Give exactly one of: a ``crystal`` and its ``zone`` axis; a ``spacing`` and optionally a
    density; or ``estimate``.

    ``crystal`` is a built-in name, the path of a CIF file (read at once) or a ``Crystal``.
    ``spacing`` is a length such as ``0.28 nm`` or ``8 px``. ``density_per_nm2`` is needed to count
    columns. ``estimate`` takes both from the image. ``pixel_size``, such as ``35.2 pm``,
    overrides the value in the file. With a crystal the pixel size is checked against the lattice in
    the image. ``contrast`` says whether columns are ``bright`` or ``dark``. ``imaging`` (see
    ``IMAGING``) says which columns of a crystal are visible. ``auto`` decides from the image.
    ``calibration`` decides about a contradiction: ``check`` raises an error, ``report``
    gives a message, ``trust`` uses the stated pixel size in any case.
    Raises ScopegymError for invalid or contradictory values.
    """

    crystal: str | Path | Crystal | None = None
    zone: str | Sequence[int] = (1, 0, 0)
    density_per_nm2: float | None = None
    spacing: str | None = None
    estimate: bool = False
    pixel_size: str | None = None
    contrast: Contrast = "auto"
    imaging: ImagingName | Literal["auto"] = "auto"
    calibration: CalibrationPolicy = "check"

    def __post_init__(self) -> None:
        given = self.density_per_nm2 is not None or self.spacing is not None
        if (self.crystal is not None) + given + bool(self.estimate) != 1:
            raise ScopegymError(
                "Say what to expect in exactly one way: a crystal, a spacing (with a density where "
                "columns are counted), or estimate."
            )
        _check_choice("contrast", self.contrast, get_args(Contrast))
        _check_choice("kind of imaging", self.imaging, ("auto", *IMAGING))
        _check_choice("calibration", self.calibration, get_args(CalibrationPolicy))
        object.__setattr__(self, "estimate", bool(self.estimate))
        object.__setattr__(self, "density_per_nm2", _density(self.density_per_nm2))
        if given and self.spacing is None:
            raise ScopegymError("A density alone is not enough: give the spacing too.")
        if self.spacing is not None:
            parse_pixels(self.spacing, 1.0, "spacing")
        if self.pixel_size is not None:
            parse_pixel_size(self.pixel_size)
        object.__setattr__(self, "zone", parse_zone(self.zone))
        if self.crystal is not None:
            object.__setattr__(self, "crystal", find_crystal(self.crystal))

    def calibrated(self, micrograph: Micrograph) -> Micrograph:
        """The micrograph with the pixel size of this sample; if neither says one, with that of the
        crystal's lattice in the image."""
        size_nm = None if self.pixel_size is None else parse_pixel_size(self.pixel_size)
        if size_nm is None and micrograph.pixel_size_nm is None and self.crystal is not None:
            return self._calibrated_by_lattice(micrograph, find_crystal(self.crystal))
        if size_nm in (None, micrograph.pixel_size_nm):
            return micrograph
        return replace(micrograph, pixel_size_nm=size_nm)

    def _calibrated_by_lattice(self, micrograph: Micrograph, crystal: Crystal) -> Micrograph:
        """Unchanged if no scale of the crystal's lattice explains the image."""
        names: tuple[ImagingName, ...] = (
            ("haadf", "abf", "idpc") if self.imaging == "auto" else (self.imaging,)
        )
        source = micrograph.images[0].normalized()
        for name in names:
            found = measure_scale(source, shown_by(name, crystal, parse_zone(self.zone)))
            if found is not None:
                metadata = {**micrograph.metadata, FROM_LATTICE: True}
                return replace(micrograph, pixel_size_nm=found[1], metadata=metadata)
        return micrograph

    def expect(self, micrograph: Micrograph, counted: bool = True) -> Expectation:
        """The expectations for one image; ``counted`` is True if the number of columns is needed.

        If the lattice in the image is within 10 % of the crystal's, the measured scale is used.
        Raises ScopegymError when the pixel size is missing and the lattice does not give it, when
        the image contradicts it (``check``), when columns are too close, or when a needed density
        is missing.
        """
        micrograph = self.calibrated(micrograph)
        if self.crystal is not None:
            expectation = self._from_crystal(micrograph, find_crystal(self.crystal))
        elif self.estimate:
            expectation = _from_image(micrograph, self.contrast)
        else:
            prior = self._from_figures(micrograph, counted)
            contrast, said, against = _settled(self.contrast, _shown(micrograph, prior.scale_px))
            expectation = Expectation(replace(prior, contrast=contrast), None, said, against)
        resolvable(expectation.prior)
        return expectation

    def _from_crystal(self, micrograph: Micrograph, crystal: Crystal) -> Expectation:
        size, zone = _pixel_size(micrograph), parse_zone(self.zone)
        shape = (micrograph.shape[0], micrograph.shape[1])
        source = micrograph.normalized()
        usual = shown_by("haadf" if self.imaging == "auto" else self.imaging, crystal, zone)
        reading = Reading(usual, check_calibration(source, usual, size))
        shown = polarity_of_lattice(reading.calibration.fit)
        if shown is None:
            shown = polarity_at(source, reading.projection.spacing_nm / size)
        contrast, said, against = _settled(self.contrast, shown)
        if self.imaging == "auto":
            reading = recognised(reading, contrast, crystal, zone, source)
        projection, found = reading.projection, reading.calibration
        if found.status == "contradicted" and self.calibration == "check":
            raise ScopegymError(
                f"{found.message} Correct the pixel size or the crystal, or use the stated pixel "
                "size with --calibration trust."
            )
        if self.calibration == "trust":
            prior = projection.prior(shape, pixel_size_nm=size, contrast=contrast)
        else:
            prior = found.prior(projection, shape, contrast)
        message = found.message
        if FROM_LATTICE in micrograph.metadata:
            message = (
                f"The pixel size is not known; the lattice of {projection.name} makes it "
                f"{1000 * size:.3g} pm."
            )
        another = (found.message,) if found.premise == "fails" else ()
        return Expectation(prior, found, (message, *said, *reading.messages), (*another, *against))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for manifests: a crystal as its name and the hash of its content."""
        known = None if self.crystal is None else find_crystal(self.crystal)
        return {
            "crystal": None if known is None else f"{known.name} {known.key[:12]}",
            "pixel_size": self.pixel_size,
            "zone": ",".join(map(str, self.zone)),
            "density_per_nm2": self.density_per_nm2,
            "spacing": self.spacing,
            "estimate": self.estimate,
            "contrast": self.contrast,
            "imaging": self.imaging,
            "calibration": self.calibration,
        }

    def _from_figures(self, micrograph: Micrograph, counted: bool) -> Prior:
        assert self.spacing is not None
        if counted and self.density_per_nm2 is None:
            raise ScopegymError(
                "The number of columns does not follow from a spacing alone: give the density too."
            )
        spacing_px = parse_pixels(self.spacing, micrograph.pixel_size_nm, "spacing")
        side = max(micrograph.shape[-2:])
        if spacing_px > side:
            raise ScopegymError(
                f"The spacing '{self.spacing}' is {spacing_px:.3g} px, more than the image's "
                f"larger side of {side} px."
            )
        density = self.density_per_nm2
        count = None if density is None else _count(micrograph, density)
        known = ("scale_px", "neighbour_sums_px", *(() if count is None else ("count",)))
        return Prior(
            scale_px=spacing_px,
            count=count,
            neighbour_sums_px=(4 * spacing_px,),
            sources=dict.fromkeys(known, "given"),
        )


def _from_image(micrograph: Micrograph, contrast: Contrast) -> Expectation:
    source = micrograph.images[0].normalized()
    priors = {polarity: estimate_prior(source, polarity) for polarity in get_args(Polarity)}
    chosen, said, against = _settled(contrast, polarity_alone(source, priors))
    unchecked = "Spacing and count are estimated from the image, without an independent check."
    return Expectation(priors[chosen], None, (unchecked, *said), against)


def _shown(micrograph: Micrograph, spacing_px: float) -> Polarity | None:
    """The polarity of an image, or of the first frame of a stack; None if it shows none."""
    try:
        return polarity_at(micrograph.images[0].normalized(), spacing_px)
    except ScopegymError:  # without contrast
        return None


def _settled(
    asked: Contrast, shown: Polarity | None
) -> tuple[Polarity, tuple[str, ...], tuple[str, ...]]:
    """The polarity to use, what to tell the user, and what of it is a contradiction."""
    if asked == "auto":
        if shown == "dark":
            return "dark", ("The columns in the image are dark; it is analysed inverted.",), ()
        return "bright", (), ()
    if shown in (None, asked):
        return asked, (), ()
    against = (
        f"The columns in the image are {shown}, but {asked} ones are searched as you asked; "
        "leave out --contrast to decide from the image.",
    )
    return asked, against, against


def _check_choice(what: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ScopegymError(f"The {what} must be {' or '.join(allowed)}, not {value!r}.")


def _density(density_per_nm2: Any) -> float | None:
    if density_per_nm2 is None:
        return None
    if isinstance(density_per_nm2, bool) or not isinstance(density_per_nm2, Real):
        raise ScopegymError(f"The density must be a number per nm^2, not {density_per_nm2!r}.")
    density = float(density_per_nm2)
    if density == math.inf:
        raise ScopegymError("The density must be finite, not infinite.")
    if not density > 0:
        raise ScopegymError(f"The density must be positive, not {density:g} per nm^2.")
    return density


def _count(micrograph: Micrograph, density_per_nm2: float) -> float:
    height, width = micrograph.shape[-2:]
    count = density_per_nm2 * _pixel_size(micrograph) ** 2 * height * width
    if count > height * width:
        raise ScopegymError(
            f"A density of {density_per_nm2:g} per nm^2 means {count:.3g} columns in an image of "
            f"{height} x {width} px, more than one per pixel."
        )
    return count


def _pixel_size(micrograph: Micrograph) -> float:
    """The pixel size [nm]. Raises ScopegymError if it is unknown."""
    if micrograph.pixel_size_nm is None:
        scale = micrograph.metadata.get("scale_without_unit")
        raise ScopegymError(
            f"The pixel size of '{micrograph.name}' is unknown; give one, such as '35.2 pm'."
            if scale is None
            else f"The pixel size of '{micrograph.name}' is unknown, because the file gives "
            f"{scale:.6g} without a unit; if these are nm, type --pixel-size '{scale:.6g} nm'."
        )
    return check_pixel_size(micrograph.pixel_size_nm, f"The pixel size of '{micrograph.name}'")


def resolvable(prior: Prior) -> None:
    """Raise ScopegymError when columns are too close to be separated."""
    if prior.scale_px < LEAST_SPACING_PX:
        raise ScopegymError(
            f"Columns would be {prior.scale_px:.3g} px apart, but at least {LEAST_SPACING_PX} px "
            "are needed to separate them; check the pixel size."
        )
