"""The reward of task disorder: terms by hand, and what must not win."""

from __future__ import annotations

import numpy as np
import pytest

from scopegym import rewards
from scopegym.artifacts import Labels, Source, State
from scopegym.datasets.simulate_disorder import simulate_disorder
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.prior import Disorder, Prior
from scopegym.rewards.disorder import across, departures
from scopegym.sample.crystal import crystal

YBCO = crystal("YBa2Cu3O7").project((1, 0, 0))
PRIOR = Prior(8.0)


def labels(mask: np.ndarray) -> Labels:
    return Labels(mask.astype(int), background=0)


def disk(size: int, radius: float) -> np.ndarray:
    y, x = np.indices((size, size)) - (size - 1) / 2
    return np.hypot(y, x) <= radius


def test_a_disk_is_compact_and_two_are_half_as_much():
    one = rewards.compactness(labels(disk(200, 60)), PRIOR)
    assert one == pytest.approx(1, abs=0.02)
    two = np.hstack([disk(200, 60), disk(200, 60)])
    assert rewards.compactness(labels(two), PRIOR) == pytest.approx(one / 2)


def test_outline_of_a_disk_is_in_sides_of_the_image():
    value = rewards.perimeter(labels(disk(200, 60)), PRIOR)
    assert value == pytest.approx(2 * np.pi * 60 / 200, rel=0.02)
    # The whole image has an outline too, and nothing has none.
    whole = rewards.perimeter(labels(np.ones((200, 200))), PRIOR)
    assert whole == pytest.approx(np.pi)
    assert rewards.perimeter(labels(np.zeros((200, 200))), PRIOR) == 0
    assert rewards.compactness(labels(np.zeros((200, 200))), PRIOR) == 1


def test_the_fraction_is_held_against_the_prior():
    mask = np.zeros((10, 10))
    mask[:3] = 1
    assert rewards.disordered_fraction(labels(mask), PRIOR) == 0
    given = Prior(8.0, parts=(Disorder(0.4, 0.6),))
    assert rewards.disordered_fraction(labels(mask), given) == pytest.approx(0.1)
    assert rewards.disordered_fraction(labels(1 - mask), given) == pytest.approx(0.1)
    assert rewards.disordered_fraction(labels(1 - mask), PRIOR) == pytest.approx(0.2)
    assert Prior.from_dict(given.to_dict()) == given
    with pytest.raises(ScopegymError, match=r"disordered is a range"):
        Disorder(0.5, 0.2)


def simulated(fraction: float, seed: int) -> Problem:
    micrograph = simulate_disorder(
        YBCO, (256, 256), 0.03, fraction=fraction, count=1, noise=0.1, seed=seed
    )
    prior = YBCO.prior((256, 256), pixel_size_nm=0.03)
    return Problem(micrograph, prior, tasks["disorder"])


@pytest.mark.parametrize("seed", range(3))
def test_truth_beats_nothing_everything_a_disk_and_another_place(seed: int):
    problem = simulated(0.12, seed)
    truth = problem.micrograph.truth.map > 0
    masks = {
        "nothing": np.zeros_like(truth),
        "everything": np.ones_like(truth),
        "disk": disk(256, 60),
        "elsewhere": np.roll(truth, (128, 128), (0, 1)),
        "speckle": np.random.default_rng(seed).random(truth.shape) < 0.12,
    }
    start = State.start(problem.source)
    value = {
        name: problem.judge(start.with_artifact(labels(mask))).value
        for name, mask in {"truth": truth, **masks}.items()
    }
    assert value["truth"] > 0.5
    assert max(value[name] for name in masks) < value["truth"] - 0.25, value


@pytest.mark.parametrize("seed", range(3))
def test_nothing_wins_where_nothing_is_disordered(seed: int):
    problem = simulated(0.0, seed)
    start = State.start(problem.source)
    nothing = problem.judge(start.with_artifact(labels(np.zeros((256, 256))))).value
    others = [disk(256, radius) for radius in (15, 40, 100)]
    assert nothing > 0.5
    assert (
        max(problem.judge(start.with_artifact(labels(mask))).value for mask in others)
        < nothing - 0.3
    )


def test_a_little_of_the_truth_beats_nothing():
    problem = simulated(0.2, 1)
    start = State.start(problem.source)
    little = problem.micrograph.truth.map > 0
    little[:, np.cumsum(little.sum(axis=0)) > 0.1 * little.sum()] = False
    nothing = np.zeros_like(little)
    one, two = (
        problem.judge(start.with_artifact(labels(mask))).value for mask in (little, nothing)
    )
    assert one > two and two < 0.05


def test_evidence_ignores_offset_and_contrast():
    problem = simulated(0.12, 5)
    truth = labels(problem.micrograph.truth.map > 0)
    pixels = problem.source.pixels.astype(float)
    prior = problem.prior
    one = rewards.disorder_evidence(Source(pixels), truth, prior)
    two = rewards.disorder_evidence(Source(3 * pixels - 7), truth, prior)
    assert one == pytest.approx(two, abs=1e-3)


def lattice(size: int = 240, spacing: float = 10.0, noise: float = 0.05) -> np.ndarray:
    y, x = np.indices((size, size)) * 2 * np.pi / spacing
    return (2 + np.cos(y) + np.cos(x)) / 4 + np.random.default_rng(0).normal(0, noise, (size, size))


def test_shifts_across_are_those_off_the_first_ones_direction():
    shifts = np.array([[0, 10], [0, 20], [10, 0], [1, 30], [8, -8]])
    np.testing.assert_array_equal(across(shifts), [[10, 0], [8, -8]])
    assert across(np.empty((0, 2), int)).shape == (0, 2)


def test_columns_that_fade_into_each_other_depart():
    image, faded = lattice(), np.zeros((240, 240), bool)
    faded[80:160, 80:160] = True
    image[faded] = 0.5 + 0.1 * (image[faded] - 0.5) + np.random.default_rng(1).normal(0, 0.05, 6400)
    found = departures(image, 10.0)
    # The noise is the same everywhere: what differs is the contrast that it is held against.
    assert np.median(found[110:130, 110:130]) > 1.5 * np.median(found[~faded])


def test_a_planar_fault_departs_though_it_repeats_itself_along_its_plane():
    # Twice as far from row to row as along them: the nearest repeats all lie along the rows.
    y, x = np.indices((240, 240)) * 2 * np.pi
    image = (2 + np.cos(y / 20) + np.cos(x / 10)) / 4
    image[115:125] = image[115:125].mean(axis=0)  # one row of columns runs together
    image += np.random.default_rng(2).normal(0, 0.03, image.shape)
    found = departures(image, 10.0)
    assert np.median(found[117:123]) > 2 * np.median(found[:90])


def test_a_flat_image_departs_from_nothing():
    np.testing.assert_array_equal(departures(np.ones((60, 60)), 8.0), 1.0)
