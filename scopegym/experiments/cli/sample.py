"""From the options that describe the sample to what is expected of the images."""

from __future__ import annotations

from typing import Any

from scopegym.errors import ScopegymError


def known_sample(
    crystal: str | None,
    zone: str,
    density: float | None,
    spacing: str | None,
    estimate: bool,
    pixel_size: str | None,
    contrast: str,
) -> Any:
    """What is said of many images together; the crystal is read here, once."""
    from scopegym.crystal import crystal as find
    from scopegym.experiments.collection import Known

    given = density is not None or spacing is not None
    if (crystal is not None) + given + estimate != 1:
        raise ScopegymError(
            "Say what to expect in exactly one way: a crystal, density and spacing, or estimate."
        )
    expected = {
        "sample": None if crystal is None else find(crystal),
        "zone": zone,
        "density_per_nm2": density,
        "spacing": spacing,
        "estimate": estimate,
        "contrast": contrast,
        "calibration": "report",
    }
    return Known(pixel_size, expected)


def problems_of(images: list[str], known: Any, task: Any) -> list[Any]:
    """The problems of a user's images, all of them in memory."""
    from scopegym.experiments.collection import files

    return [
        known.problem(micrograph, task, task.reward)[0]
        for path in files(images).values()
        for micrograph in known.images(path)
    ]
