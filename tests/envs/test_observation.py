"""What an agent sees: bounded, complete, and free of the magnification."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.answers import described
from scopegym.artifacts import Features, Image, Instances, Labels, Points, Quantity, Tracks
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.episode import Episode, Rules
from scopegym.envs.observation import IMAGE_NAMES, LIMIT, SIDE, Observer, picture, statistics, whole
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.prior import Lattice, Prior
from scopegym.sample.crystal import Crystal
from scopegym.workflow import Step

ATOMS = tasks["atoms"]
RULES = Rules(ATOMS.grammar, ATOMS.horizon)
OBSERVER = Observer(RULES, ATOMS.reward)
PRIOR = Prior(8.0, 64.0, (32.0,), (Lattice(((8.0, 0.0), (0.0, 8.0))),))
SHAPE = (64, 64)
RNG = np.random.default_rng(0)
#: One of every kind of artifact, and an empty one where there is such a thing.
ARTIFACTS = [
    Image(RNG.random(SHAPE)),
    Image(np.zeros((1, 1))),
    Points(RNG.uniform(0, 63, (40, 2)), SHAPE, np.full(40, 2.0), RNG.random(40)),
    Points(np.zeros((1, 2)), SHAPE),
    Points(np.zeros((0, 2)), SHAPE),
    Labels(RNG.integers(0, 3, SHAPE)),
    Labels(np.zeros(SHAPE)),
    Features(RNG.random((9, 4)), RNG.uniform(0, 63, (9, 2)), SHAPE),
    Features(np.zeros((0, 4)), np.zeros((0, 2)), SHAPE),
    Instances(np.array([[1, 1, 9, 9]]), SHAPE, np.array([0.5]), np.array([0])),
    Instances(np.zeros((0, 4)), SHAPE),
    Tracks(np.array([[0, 0, 1, 1], [0, 1, 2, 2]]), SHAPE),
    Quantity(17.0, "disks", 0.5),
    Quantity(float("nan")),
    Tracks(np.zeros((0, 4)), SHAPE),
]


def problem(spacing_px: float, shape: tuple[int, int], noise: float = 0.0) -> Problem:
    projection = Crystal.named("SrTiO3").project((0, 0, 1))
    size = projection.spacing_nm / spacing_px
    micrograph = simulate_crystal(projection, shape, size, seed=1, noise=noise, origin_yx=(3, 3))
    return Problem(micrograph, projection.prior(shape, pixel_size_nm=size), ATOMS)


def play(episode: Episode, *steps: Step) -> Episode:
    for step in steps:
        for action in RULES.actions.encode(step):
            episode = episode.play(action)
    return episode


def names_of(artifact):
    return IMAGE_NAMES if isinstance(artifact, Image) else described(artifact).statistic_names


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda a: f"{type(a).__name__} {a.nbytes}")
def test_every_artifact_has_finite_figures_and_a_thumbnail(artifact):
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        figures = statistics(artifact, PRIOR)
    assert figures.shape == (len(names_of(artifact)),) and np.isfinite(figures).all()
    seen = picture(artifact, whole(SHAPE if not isinstance(artifact, Image) else artifact.shape))
    assert seen.shape == (SIDE, SIDE) and seen.dtype == np.uint8


def test_features_are_as_many_as_their_names_and_bounded():
    episode = Episode.start(problem(9, (96, 96), 0.3), RULES)
    rng = np.random.default_rng(3)
    for _ in range(60):
        features = OBSERVER.features(episode)
        assert features.shape == (len(OBSERVER.names),) and features.dtype == np.float32
        assert (abs(features) <= LIMIT).all()
        episode = episode.play(int(rng.choice(np.flatnonzero(episode.mask)[1:])))
        if episode.ended:
            break
    assert len(set(OBSERVER.names)) == len(OBSERVER.names)


def test_features_say_what_their_names_say():
    episode = Episode.start(problem(9, (96, 96)), RULES)
    episode = play(episode, Step("gaussian"), Step("local_maxima"))
    chosen = RULES.actions.operators.index("refine_positions")
    episode = episode.play(1 + chosen).play(RULES.actions.first_bin + 1)
    seen = dict(zip(OBSERVER.names, OBSERVER.features(episode).tolist(), strict=True))
    assert seen["score"] == pytest.approx(episode.score.value, abs=1e-6)
    for term, goodness in ATOMS.reward.goodnesses(episode.score.terms).items():
        assert seen[term] == pytest.approx(goodness, abs=1e-6)
    assert seen["left"] == pytest.approx(1 - 2 / ATOMS.horizon)
    assert seen["times gaussian"] == 0.5 and seen["times median"] == 0
    assert seen["last local_maxima"] == 1 and seen["last gaussian"] == 0
    # The second parameter of refine_positions is being chosen; its method is centre_of_mass.
    assert seen["choosing refine_positions.1"] == 1 and seen["choosing refine_positions.0"] == 0
    assert seen["chosen 0"] == pytest.approx(0.75)
    assert seen["points there"] == 1
    count = len(episode.state.get(Points)) / episode.problem.prior.count
    assert seen["points count"] == pytest.approx(np.log2(count), abs=1e-5)


@settings(deadline=None, max_examples=10)
@given(zoom=st.sampled_from([1.5, 2.0, 3.0]), noise=st.just(0.0))
def test_magnification_changes_nothing_but_the_scale(zoom: float, noise: float):
    """The same columns at another magnification look the same, where noise is none."""
    seen = []
    for factor in (1.0, zoom):
        shape = (round(96 * factor), round(96 * factor))
        small = problem(12 * factor, shape, noise)
        episode = play(Episode.start(small, RULES), Step("gaussian"), Step("local_maxima"))
        seen.append(OBSERVER.features(episode))
    names = np.array(OBSERVER.names)
    free = ~np.isin(names, ["prior log scale", "input pixel noise", "image pixel noise"])
    assert abs(seen[0] - seen[1])[free].max() < 0.25
    scale = names == "prior log scale"
    assert (seen[1] - seen[0])[scale][0] == pytest.approx(np.log2(zoom), abs=1e-5)


def test_noise_shows_in_the_features():
    quiet, loud = (
        OBSERVER.features(Episode.start(problem(9, (96, 96), noise), RULES)) for noise in (0, 0.5)
    )
    at = OBSERVER.names.index("input pixel noise")
    assert loud[at] > quiet[at] + 0.3


def test_peaks_of_the_image_tell_the_threshold_that_finds_them():
    """The profile is in the units of the blob detectors: the threshold at which the expected number
    of columns is found can be read off it."""
    seen = problem(12, (128, 128))
    profile = dict(zip(OBSERVER.names, OBSERVER.features(Episode.start(seen, RULES)), strict=True))
    at = 10 ** ((profile["input peaks 0.22 at 0.9"] - 1) * 1.5)
    for factor, complete in ((0.7, True), (1.5, False)):
        step = Step(
            "laplacian_of_gaussian",
            {"min_sigma": 0.22, "num_sigma": 1, "threshold": float(at * factor)},
        )
        points = play_exactly(seen, step)
        assert (len(points) >= 0.85 * seen.prior.count) == complete


def play_exactly(seen: Problem, step: Step) -> Points:
    from scopegym.workflow import Workflow

    return seen.run(Workflow((step,))).need(Points)


def test_a_prior_without_count_and_lattice_is_seen_as_such():
    seen = problem(9, (96, 96))
    bare = replace(seen, prior=Prior(9.0))
    features = dict(zip(OBSERVER.names, OBSERVER.features(Episode.start(bare, RULES)), strict=True))
    assert features["prior counted"] == features["prior lattice"] == features["prior density"] == 0
