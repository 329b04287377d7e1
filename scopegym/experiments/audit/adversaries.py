"""Wrong problems: an image of noise, and a wrong pixel size.

Wrong answers to the correct problem belong to the kind of answer, in ``scopegym.answers``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from scopegym.answers import described
from scopegym.answers.base import Adversary
from scopegym.artifacts import Artifact
from scopegym.envs.problem import Problem
from scopegym.operators.filters import smooth


def against(problem: Problem, answer: Artifact) -> list[Adversary]:
    """The adversaries for this kind of answer, and those of the task."""
    return [*described(answer).adversaries, *problem.task.adversaries]


def wrong_size(problem: Problem, error: float) -> Problem:
    """The same image with the prior of a pixel size that is too small by this share."""
    return replace(problem, prior=problem.prior.stretched(1 + error))


def noise_images(problem: Problem, rng: np.random.Generator) -> Iterator[Problem]:
    """The same problem on images of noise: white noise, and noise as smooth as columns."""
    micrograph = problem.micrograph
    white = rng.normal(size=micrograph.shape)
    for name, pixels in (
        ("white noise", white),
        ("smooth noise", smooth(white, 0.15 * problem.prior.scale_px)),
    ):
        image = replace(micrograph, data=pixels, name=name, truth=None)
        yield replace(problem, micrograph=image)
