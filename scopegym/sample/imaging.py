"""How the columns of a crystal appear in an image: their brightness by atomic number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from numpy.typing import ArrayLike

from scopegym.prior import Polarity
from scopegym.sample.calibration import Calibration, check_calibration
from scopegym.sample.crystal import ATOMIC_NUMBER_EXPONENT, VISIBLE, Crystal
from scopegym.sample.projection import Projection
from scopegym.sample.zone import Zone

ImagingName = Literal["haadf", "adf", "abf", "bf", "idpc", "hrtem"]


@dataclass(frozen=True)
class Imaging:
    """A column's signal grows as the sum of Z to the power ``exponent``. Columns weaker than
    ``visible`` times the strongest are not expected."""

    exponent: float
    visible: float = VISIBLE


#: By name. HAADF: Treacy, Microsc. Microanal. 17, 847 (2011) finds 1.6 to 1.8, the smaller values
#: at smaller angles (ADF). ABF: Findlay et al., Ultramicroscopy 110, 903 (2010) find about Z^(1/3).
#: iDPC: Lazic, Bosch and Lazar, Ultramicroscopy 160, 265 (2016), about Z. In bright field and HRTEM
#: the signal does not grow with Z, so all columns are expected.
IMAGING: dict[ImagingName, Imaging] = {
    "haadf": Imaging(ATOMIC_NUMBER_EXPONENT),
    "adf": Imaging(1.6),
    "abf": Imaging(1 / 3),
    "bf": Imaging(0.0),
    "idpc": Imaging(1.0),
    "hrtem": Imaging(0.0),
}

#: If the user does not say: the kind beside HAADF that an image may be of, by polarity, and by how
#: much its lattice must fit better. Simulated images with light columns fit the lattice of HAADF at
#: a wrong scale only. Simulated HAADF images fit that of iDPC better by at most 0.05, and inverted
#: ones that of ABF worse by at least 0.06. A published ABF image fits it better by 0.05.
OTHER: dict[Polarity, tuple[ImagingName, float]] = {
    "bright": ("idpc", 0.1),
    "dark": ("abf", -0.03),
}


@dataclass(frozen=True)
class Reading:
    """A crystal in an image: the kind of imaging, the projection that it shows, the check of the
    pixel size against it, and what to tell the user."""

    imaging: ImagingName
    projection: Projection
    calibration: Calibration
    messages: tuple[str, ...] = ()


def read_as(
    imaging: ImagingName, crystal: Crystal, zone: Zone, source: ArrayLike, pixel_size_nm: float
) -> Reading:
    """The crystal in an image of this kind."""
    kind = IMAGING[imaging]
    projection = crystal.project(zone, exponent=kind.exponent, visible=kind.visible)
    return Reading(imaging, projection, check_calibration(source, projection, pixel_size_nm))


def recognised(
    haadf: Reading, polarity: Polarity, crystal: Crystal, zone: Zone, source: ArrayLike
) -> Reading:
    """The crystal in an image of unknown kind: as read for HAADF, or with the light columns that
    another kind shows, whichever lattice fits the image better."""
    name, lead = OTHER[polarity]
    other = read_as(name, crystal, zone, source, haadf.calibration.pixel_size_nm)
    light = len(other.projection.columns) - len(haadf.projection.columns)
    if not light or not _fit(other) or _fit(other) - _fit(haadf) <= lead:
        return haadf
    return replace(
        other,
        messages=(
            f"Light columns ({light} per cell) are expected too: how well the image fits the "
            f"columns that {name.upper()} shows is {_fit(other):.2f}, and those of HAADF "
            f"{_fit(haadf):.2f}.",
        ),
    )


def _fit(reading: Reading) -> float:
    """How well the lattice fits the image; 0 if it was not found, or at another scale only."""
    found = reading.calibration
    return found.fit.confidence if found.status in ("agrees", "measured") else 0.0
