"""The question put wrongly: about noise, and with a pixel size that is off.

Wrong answers to the right question belong to the kind of answer, in ``scopegym.answers``.
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
    """The same image, with what a pixel size stated too small by this share makes one expect."""
    return replace(problem, prior=problem.prior.stretched(1 + error))


def noise_images(problem: Problem, rng: np.random.Generator) -> Iterator[Problem]:
    """The same question about an image of noise: white, and as smooth as columns are."""
    micrograph = problem.micrograph
    white = rng.normal(size=micrograph.shape)
    for name, pixels in (
        ("white noise", white),
        ("smooth noise", smooth(white, 0.15 * problem.prior.scale_px)),
    ):
        image = replace(micrograph, data=pixels, name=name, truth=None)
        yield replace(problem, micrograph=image)
