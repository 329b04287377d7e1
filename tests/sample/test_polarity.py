"""Bright or dark columns: read off the image, settled once, and the same answer either way."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from scopegym.agents.policy import Policy
from scopegym.answers import agreement
from scopegym.artifacts import Points
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.micrograph import Micrograph
from scopegym.sample import Sample
from scopegym.sample.crystal import Crystal
from scopegym.sample.estimation import estimate_prior
from scopegym.sample.polarity import polarity_alone, polarity_at

ATOMS = tasks["atoms"]
CRYSTALS = [
    ("SrTiO3", (0, 0, 1)),
    ("YBa2Cu3O7", (1, 0, 0)),
    ("BaTiO3", (1, 0, 0)),
    ("Cu", (1, 1, 0)),
    ("MoS2", (0, 0, 1)),
    ("Si", (1, 1, 0)),
]
SPACING = 9.0


def image(name: str, zone: tuple[int, int, int], noise: float = 0.1, seed: int = 3) -> Micrograph:
    projection = Crystal.named(name).project(zone)
    size = projection.spacing_nm / SPACING
    return simulate_crystal(projection, (160, 160), size, seed=seed, noise=noise, background=0.3)


def estimates(source):
    """What is expected of bright and of dark columns."""
    return {polarity: estimate_prior(source, polarity) for polarity in ("bright", "dark")}


def inverted(micrograph: Micrograph) -> Micrograph:
    """The same image with dark columns."""
    return replace(micrograph, data=1 - micrograph.data)


@pytest.mark.parametrize(("name", "zone"), CRYSTALS)
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5])
def test_the_polarity_is_read_off_the_image(name, zone, noise):
    for seed in (3, 4):
        bright = image(name, zone, noise, seed)
        for micrograph, expected in ((bright, "bright"), (inverted(bright), "dark")):
            source = micrograph.normalized()
            assert polarity_at(source, SPACING) == expected
            assert polarity_alone(source, estimates(source)) == expected
            found = Sample(crystal=name, zone=zone).expect(micrograph)
            assert found.prior.contrast == expected
            assert any("dark" in text for text in found.warnings) == (expected == "dark")
            spaced = Sample(spacing=f"{SPACING} px", density_per_nm2=5.0).expect(micrograph)
            assert spaced.prior.contrast == expected
            assert Sample(estimate=True).expect(micrograph).prior.contrast == expected


def test_noise_shows_none():
    noise = np.random.default_rng(0).normal(size=(200, 200))
    assert polarity_at(noise, SPACING) is None and polarity_alone(noise, estimates(noise)) is None
    assert polarity_at(np.zeros((64, 64)), SPACING) is None


def test_a_user_who_says_otherwise_is_warned_and_obeyed():
    bright = image("SrTiO3", (0, 0, 1))
    for asked, micrograph in (("dark", bright), ("bright", inverted(bright))):
        found = Sample(crystal="SrTiO3", zone=(0, 0, 1), contrast=asked).expect(micrograph)
        assert found.prior.contrast == asked
        assert f"but {asked} ones are searched as you asked" in found.warnings[-1]
        same = Sample(crystal="SrTiO3", zone=(0, 0, 1), contrast=asked).expect(inverted(micrograph))
        assert len(same.warnings) == 1


def test_operators_rewards_and_policies_see_bright_columns():
    bright = image("YBa2Cu3O7", (1, 0, 0))
    policy = Policy.shipped("atoms")
    problems = []
    for micrograph in (bright, inverted(bright)):
        prior = Sample(crystal="YBa2Cu3O7", zone=(1, 0, 0)).expect(micrograph).prior
        problems.append(Problem(micrograph, prior, ATOMS))
    sources = [problem.source.pixels for problem in problems]
    assert np.allclose(*sources, atol=1e-5)
    for workflow in (ATOMS.expert, policy.propose(problems[0]).workflow):
        light, dark = (problem.evaluate(workflow) for problem in problems)
        assert light.score.value == pytest.approx(dark.score.value, abs=1e-3)
    assert not any(policy.out_of_domain_features(problem) for problem in problems)
    for problem in problems:
        points = problem.run(policy.propose(problem).workflow).need(Points)
        assert agreement(bright.truth, points, problem.prior) > 0.97


def test_the_inverted_picture_has_a_key_of_its_own():
    micrograph = image("Cu", (1, 1, 0))
    bright, dark = micrograph.normalized(), micrograph.normalized("dark")
    assert bright.key != dark.key and dark is micrograph.normalized("dark")
    assert np.allclose(bright.pixels + dark.pixels, 1, atol=1e-6)
    stack = Micrograph(np.stack([micrograph.data] * 2))
    frames = stack.normalized_frames("dark")
    assert frames.key != stack.normalized_frames().key
    assert np.allclose(frames[1].pixels, dark.pixels)


def test_a_spacing_beyond_the_image_shows_none_and_takes_no_time():
    micrograph = image("Cu", (1, 1, 0))
    start = time.perf_counter()
    assert polarity_at(micrograph.normalized(), 1e5) is None
    assert time.perf_counter() - start < 1


def test_a_stack_without_contrast_is_as_the_user_says():
    blank = Micrograph(np.zeros((2, 64, 64), np.float32))
    found = Sample(spacing="8 px", contrast="dark").expect(blank, counted=False)
    assert found.prior.contrast == "dark" and found.warnings == ()
