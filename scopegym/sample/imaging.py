"""How the columns of a crystal appear in an image: their brightness by atomic number."""

from __future__ import annotations

from dataclasses import dataclass
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
#: much its lattice must fit better. Set after looking at these images: simulated images with light
#: columns fit the lattice of HAADF at a wrong scale only; simulated HAADF images fit that of iDPC
#: better by at most 0.05, and inverted ones that of ABF worse by at least 0.06; a published ABF
#: image fits it better by 0.05.
OTHER: dict[Polarity, tuple[ImagingName, float]] = {
    "bright": ("idpc", 0.1),
    "dark": ("abf", -0.03),
}


@dataclass(frozen=True)
class Reading:
    """A crystal in an image: its visible columns, the check of the pixel size against them, and
    what to tell the user."""

    projection: Projection
    calibration: Calibration
    messages: tuple[str, ...] = ()


def shown_by(imaging: ImagingName, crystal: Crystal, zone: Zone) -> Projection:
    """The columns that are visible in an image of this kind."""
    kind = IMAGING[imaging]
    return crystal.project(zone, exponent=kind.exponent, visible=kind.visible)


def recognised(
    haadf: Reading, polarity: Polarity, crystal: Crystal, zone: Zone, source: ArrayLike
) -> Reading:
    """The crystal in an image of unknown kind: as read for HAADF, or with the light columns that
    another kind shows, whichever lattice fits the image better."""
    name, lead = OTHER[polarity]
    projection = shown_by(name, crystal, zone)
    light = len(projection.columns) - len(haadf.projection.columns)
    if not light:
        return haadf
    other = check_calibration(source, projection, haadf.calibration.pixel_size_nm, anywhere=False)
    usual_fit, fit = _fit(haadf.calibration), _fit(other)
    if not fit or fit - usual_fit <= lead:
        return haadf
    told = (
        f"Light columns ({light} per cell) are expected too. The lattice of the columns in HAADF "
        f"fits the image to {usual_fit:.2f}, that of the columns in {name.upper()} to {fit:.2f}."
    )
    return Reading(projection, other, (told,))


def _fit(found: Calibration) -> float:
    """How well the lattice fits the image; 0 if it was not found, or at another scale only."""
    return found.fit.confidence if found.status in ("agrees", "measured") else 0.0
