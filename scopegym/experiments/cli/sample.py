"""From the options that describe the sample to what is expected of the images."""

from __future__ import annotations

from typing import Any


def sample_of(
    crystal: str | None,
    zone: str,
    density: float | None,
    spacing: str | None,
    estimate: bool,
    pixel_size: str | None,
    contrast: Any,
    imaging: Any,
    calibration: Any = "report",
) -> Any:
    """The sample that the options describe."""
    from scopegym.sample import Sample

    return Sample(
        crystal=crystal,
        zone=zone,
        density_per_nm2=density,
        spacing=spacing,
        estimate=estimate,
        pixel_size=pixel_size,
        contrast=contrast,
        imaging=imaging,
        calibration=calibration,
    )


def problems_of(images: list[str], sample: Any, task: Any) -> list[Any]:
    """The problems of a user's images, all of them in memory."""
    from scopegym.experiments.collection import files, images_in, problem_of

    return [
        problem_of(micrograph, sample, task, task.reward)[0]
        for path in files(images).values()
        for micrograph in images_in(path, sample)
    ]
