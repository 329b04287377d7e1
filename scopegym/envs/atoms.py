"""Task ``atoms``: find the columns of an atomically resolved image.

After Barakati et al. 2024, Physics-based reward driven image analysis in microscopy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Nouns, Problem, Slot, Task, registry
from scopegym.prior import Prior
from scopegym.rewards.base import Reward
from scopegym.sample.crystal import crystal
from scopegym.workflow import Step, Workflow

#: Projections of training images, all with separate columns.
TRAINING = (
    ("YBa2Cu3O7", (1, 0, 0)),
    ("YBa2Cu3O7", (0, 0, 1)),
    ("SrTiO3", (0, 0, 1)),
    ("SrTiO3", (1, 1, 0)),
    ("BaTiO3", (1, 0, 0)),
    ("Cu", (0, 0, 1)),
    ("Cu", (1, 1, 0)),
    ("Si", (0, 0, 1)),
    ("MoS2", (0, 0, 1)),
)

#: The positions must explain the image, and roughly agree with the prior. Wrong answers can
#: satisfy each claim alone: a blank, a square grid of the right count, random points, the lattice
#: shifted by half a cell. The claims of the prior weigh little, since the prior may be wrong: on
#: images that our simulator did not make, the F1 of the best-scored of random workflows is further
#: from the best at weights of 1 (benchmarks/ranking.py).
REWARD = Reward(
    "atoms-v2",
    {
        "left_out": 1,
        "invented": 1,
        "count_error": 0.25,
        "spacing_error": 0.25,
        "spacing_excess": 0.25,
        "image_evidence": 0.25,
    },
    "product",
)


def sample(rng: np.random.Generator) -> Problem:
    """A simulated problem: crystal, zone, magnification and imaging conditions at random."""
    name, zone = TRAINING[rng.integers(len(TRAINING))]
    projection = crystal(name).project(zone)
    spacing_px = float(np.exp(rng.uniform(np.log(6), np.log(40))))
    pixel_size_nm = projection.spacing_nm / spacing_px
    rotation = float(rng.uniform(-180, 180))
    # Poisson noise dominates in one image of three, white detector noise in the others.
    counted = rng.random() < 1 / 3
    micrograph = simulate_crystal(
        projection,
        (256, 256),
        pixel_size_nm,
        seed=int(rng.integers(2**31)),
        # The column width scales with the spacing: a fixed probe would merge close columns.
        column_sigma_nm=projection.spacing_nm * rng.uniform(0.13, 0.22),
        rotation_deg=rotation,
        vacancies=float(rng.choice([0, 0, rng.uniform(0, 0.1)])),
        background=float(rng.choice([0, rng.uniform(0, 0.5)])),
        jitter_px=float(rng.choice([0, rng.uniform(0, 0.05) * spacing_px])),
        dose=float(np.exp(rng.uniform(np.log(3), np.log(300)))) if counted else None,
        noise=float(rng.uniform(0, 0.1 if counted else 0.6)),
        calibration_error=float(rng.normal(0, 0.02)),
    )
    # The calibration check corrects the scale to about 0.5 %.
    measured = np.array(projection.lattice_px(pixel_size_nm, rotation)) * rng.normal(1, 0.005)
    prior = projection.prior((256, 256), lattice_px=measured)
    return Problem(micrograph, prior, registry["atoms"])


def with_another_prior(problem: Problem, rng: np.random.Generator) -> Problem:
    """What users know: in three images of five the crystal, in the others spacing and count, which
    are exact or as wrong as estimates."""
    prior, kind = problem.prior, rng.random()
    if kind < 0.6:
        return problem
    spread = 0.0 if kind < 0.8 else 1.0
    assert prior.count is not None
    scale_px = prior.scale_px * math.exp(spread * rng.normal(0, 0.05))
    known = Prior(
        scale_px=scale_px,
        count=prior.count * math.exp(spread * rng.normal(0, 0.1)),
        neighbour_sums_px=(4 * scale_px,),
        sources=dict.fromkeys(("scale_px", "count", "neighbour_sums_px"), "given"),
    )
    return replace(problem, prior=known)


atoms = registry.add(
    Task(
        name="atoms",
        env_id="scopegym/AtomFinding-v0",
        slots=(
            Slot("contrast", ("background_subtract", "clahe", "bandpass")),
            Slot("denoise", ("gaussian", "median", "denoise_tv", "denoise_nlm")),
            Slot(
                "detect",
                (
                    "laplacian_of_gaussian",
                    "difference_of_gaussian",
                    "local_maxima",
                    "template_match",
                ),
                optional=False,
            ),
            # Without drop_edge: the reward ignores the border and cannot judge it.
            Slot("clean", ("merge_close", "drop_weak")),
            # Mandatory: the reward cannot measure a gain of a fraction of a pixel.
            Slot("refine", ("refine_positions",), optional=False),
        ),
        reward=REWARD,
        horizon=8,
        expert=Workflow(
            (
                Step("gaussian", {"sigma": 0.15}),
                Step("laplacian_of_gaussian"),
                Step("refine_positions"),
            )
        ),
        tuned=(
            "laplacian_of_gaussian.threshold",
            "laplacian_of_gaussian.overlap",
            "laplacian_of_gaussian.min_sigma",
            "laplacian_of_gaussian.max_sigma",
            "laplacian_of_gaussian.num_sigma",
        ),
        sample=sample,
        vary=with_another_prior,
        nouns=Nouns("columns"),
        trusted=0.75,
        __doc__="Find the columns of an atomically resolved image.",
    )
)
