"""The reward of task symmetry: right answers are near 1 whatever the noise, wrong ones are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scopegym.artifacts import Array, Labels, State
from scopegym.datasets.patterns import lattice
from scopegym.datasets.simulate_patterns import (
    grains,
    halves,
    simulate_patterns,
    two_grains,
    two_phases,
)
from scopegym.envs import registry as tasks
from scopegym.envs.problem import Problem
from scopegym.metrics import label_accuracy
from scopegym.micrograph import Micrograph
from scopegym.operators import registry as operators
from scopegym.prior import Prior
from scopegym.rewards.pattern import pattern_consistency
from scopegym.rewards.separability import held_out, means, separability

SPACING = 8.0
PRIOR = Prior(SPACING)
UNDIVIDED = np.zeros((256, 256), int)
KINDS = {"two phases": two_phases, "two grains": two_grains}


def problem(micrograph: Micrograph) -> Problem:
    return Problem(micrograph, PRIOR, tasks["symmetry"])


def value(micrograph: Micrograph, labels: Array) -> float:
    """The reward of labels ``[H, W]``."""
    judged = problem(micrograph)
    return judged.judge(State.start(judged.source).with_artifact(Labels(labels))).value


def terms(micrograph: Micrograph, labels: Array) -> tuple[float, float]:
    source = micrograph.normalized()
    found = Labels(labels)
    return separability(source, found, PRIOR), pattern_consistency(source, found, PRIOR)


def truth(micrograph: Micrograph) -> Array:
    assert isinstance(micrograph.truth, Labels)
    return micrograph.truth.map


def one_pattern(noise: float, jitter_px: float = 0.2, side: int = 160, seed: int = 1) -> Micrograph:
    pattern = lattice(SPACING).rotated(13)
    regions = np.zeros((side, side), int)
    return simulate_patterns(regions, [pattern], noise=noise, seed=seed, jitter_px=jitter_px)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0, 2.5])
def test_the_true_map_is_near_one_whatever_the_noise(kind: str, noise: float):
    micrograph = KINDS[kind](spacing_px=SPACING, noise=noise, seed=3)
    explained, consistency = terms(micrograph, truth(micrograph))
    assert explained > 0.94
    assert consistency > (0.95 if noise <= 2 else 0.88)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 1.0, 2.5])
def test_the_true_map_beats_wrong_ones_by_far(kind: str, noise: float):
    micrograph = KINDS[kind](spacing_px=SPACING, noise=noise, seed=4)
    right = truth(micrograph)
    rows, columns = np.indices(right.shape)
    blocks = (rows // SPACING * 32 + columns // SPACING).astype(int)
    wrong = {
        "undivided": UNDIVIDED,
        "other boundary": right.T,
        "one per spacing": blocks,
        "chequerboard": (rows // 64 + columns // 64) % 2,
        "random": np.random.default_rng(0).integers(0, 2, blocks.max() + 1)[blocks],
        "both halves in two": 2 * right + right.T,
    }
    scores = {name: value(micrograph, labels) for name, labels in wrong.items()}
    assert max(scores.values()) < value(micrograph, right) - 0.4, scores


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_boundary_further_from_the_true_one_scores_less(noise: float):
    micrograph = two_grains(spacing_px=SPACING, noise=noise, seed=5)
    moved = [value(micrograph, halves((256, 256), offset_px=k * SPACING)) for k in (0, 1, 2, 4, 8)]
    assert (np.diff(moved) < 0).all(), moved


def test_values_follow_the_share_of_right_pixels():
    micrograph = two_grains(spacing_px=SPACING, noise=1.0, seed=6)
    right, rng = truth(micrograph), np.random.default_rng(0)
    rows, columns = (n // 48 for n in np.indices(right.shape))
    answers = [
        np.where(rng.random((6, 6))[rows, columns] < share, 1 - right, right)
        for share in (0.05, 0.15, 0.3, 0.45)
    ]
    judged = sorted(
        (label_accuracy(Labels(labels), micrograph.truth), value(micrograph, labels))
        for labels in (right, *answers)
    )
    assert (np.diff([score for _, score in judged]) > 0).all(), judged


def test_a_strip_along_the_boundary_is_no_pattern_of_its_own():
    micrograph = two_grains(spacing_px=SPACING, seed=7)
    away = np.abs(np.arange(256) - 127.5)
    strip = np.where(away < 2 * SPACING, 2, truth(micrograph))
    assert value(micrograph, strip) < 0.7 * value(micrograph, truth(micrograph))
    # What it leaves of the grains is right: 1 - 4 / 32, and less in what is judged.
    assert terms(micrograph, strip)[1] < 0.92


def test_of_two_labels_of_one_pattern_only_the_larger_is_right():
    micrograph = two_grains(spacing_px=SPACING, noise=1.0, seed=8)
    right, upper = truth(micrograph), np.arange(256)[:, None] < 100
    assert terms(micrograph, np.where((right == 1) & upper, 2, right))[1] == pytest.approx(
        0.8, abs=0.06
    )


@pytest.mark.parametrize("noise", [0.0, 2.5])
@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.transpose])
def test_turning_image_and_labels_changes_little(noise: float, turn: Callable[[Array], Array]):
    micrograph = two_phases(spacing_px=SPACING, noise=noise, seed=9)
    turned = Micrograph(np.ascontiguousarray(turn(micrograph.data)))
    expected = value(micrograph, truth(micrograph))
    assert value(turned, turn(truth(micrograph))) == pytest.approx(expected, abs=0.04)


def test_names_of_labels_and_grey_values_do_not_matter():
    micrograph = two_phases(spacing_px=SPACING, noise=1.0, seed=10)
    expected = terms(micrograph, truth(micrograph))
    assert terms(micrograph, 7 - 4 * truth(micrograph)) == pytest.approx(expected)
    other = Micrograph(1000 - 3 * micrograph.data)
    assert terms(other, truth(micrograph)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("side", [128, 256])
def test_splitting_one_pattern_does_not_pay(noise: float, side: int):
    """Not even by clusters of the very features that the reward looks at."""
    from sklearn.cluster import KMeans

    for seed in range(3):
        micrograph = one_pattern(noise, 0.4 * seed, side, seed)
        features = held_out(micrograph.normalized(), PRIOR)
        undivided = value(micrograph, np.zeros((side, side), int))
        assert undivided == pytest.approx(0.5**4.5)
        for clusters in (2, 4):
            labels = KMeans(clusters, n_init=1, random_state=0).fit_predict(features.values)
            image = operators["kmeans"](
                operators["translation_symmetry"](micrograph.data, window=14, patch=14, stride=4),
                clusters=clusters,
            )
            assert value(micrograph, image.map) <= undivided
            assert value(micrograph, _painted(labels, features.yx, side)) <= undivided


def _painted(labels: Array, yx: Array, side: int) -> Array:
    """A map ``[side, side]`` of the labels of the nearest centres."""
    from scipy.spatial import cKDTree

    nearest = cKDTree(yx).query(np.indices((side, side)).reshape(2, -1).T)[1]
    return labels[nearest].reshape(side, side)


def test_many_grains_are_better_than_fewer_and_than_more():
    regions = grains((384, 384), 5, seed=2)
    patterns = [lattice(SPACING).rotated(17 * k) for k in range(5)]
    micrograph = simulate_patterns(regions, patterns, noise=1.0, seed=1)
    right = value(micrograph, regions)
    assert right > 0.4
    for merged in range(1, 5):
        assert value(micrograph, np.where(regions == merged, 0, regions)) < right
    halved = 2 * regions + (np.arange(384) % 192 < 96)
    assert value(micrograph, halved) < right - 0.2


def test_a_field_of_hardly_more_than_a_patch_has_nothing_in_common_with_itself():
    micrograph = two_grains((56, 56), SPACING)
    assert terms(micrograph, truth(micrograph))[0] == 0.5
    smaller = two_grains((40, 40), SPACING)
    assert np.isnan(terms(smaller, truth(smaller))).all()


def test_means_are_those_of_the_labels():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    assert means(values, np.array([0, 1, 0])).tolist() == [[3.0, 1.0], [3.0, 4.0]]
