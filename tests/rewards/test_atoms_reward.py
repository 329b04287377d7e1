"""The reward of the atoms task holds physics: the truth scores best, and what fooled the published
reward (Barakati et al. 2024) loses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Points, State
from scopegym.datasets.bundled import bundled
from scopegym.datasets.simulate import simulate_crystal
from scopegym.envs.atoms import TRAINING
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.metrics import match_points
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.rewards.base import Score
from scopegym.rewards.count import count_error
from scopegym.sample.crystal import Crystal
from scopegym.sample.projection import Projection

ATOMS = tasks["atoms"]
#: Crystal and zone, and one period in which no column sits half-way: (of the first lattice
#: vector, of the second). Half of YBa2Cu3O7's whole cell would put Cu on Y and Ba almost on Cu.
LATTICES = {
    "YBCO": (Crystal.named("YBa2Cu3O7").project((1, 0, 0)), (0.0, 0.5)),
    "SrTiO3": (Crystal.named("SrTiO3").project((0, 0, 1)), (0.0, 0.5)),
    "Cu": (Crystal.named("Cu").project((1, 1, 0)), (0.0, 0.5)),
    "MoS2": (Crystal.named("MoS2").project((0, 0, 1)), (0.0, 0.5)),
}


def simulated(
    name: str, spacing_px: float, rotation: float, side: int, noise: float = 0.0, **kwargs: object
) -> Problem:
    projection, _ = LATTICES[name]
    size = projection.spacing_nm / spacing_px
    settings = {"seed": 3, "column_sigma_nm": 0.17 * projection.spacing_nm, **kwargs}
    micrograph = simulate_crystal(
        projection, (side, side), size, rotation_deg=rotation, noise=noise, **settings
    )
    lattice = projection.lattice_px(size, rotation)
    return Problem(micrograph, projection.prior((side, side), lattice_px=lattice), ATOMS)


def abtem(name: str) -> Problem:
    micrograph = bundled(name)
    projection, _ = LATTICES["YBCO"]
    prior = projection.prior(micrograph.shape, pixel_size_nm=micrograph.pixel_size_nm)
    return Problem(micrograph, prior, ATOMS)


def judge(problem: Problem, points: Points) -> Score:
    state = State.start(problem.micrograph.normalized()).with_artifact(points)
    return ATOMS.reward(state, problem.prior)


def truth(problem: Problem) -> Points:
    points = problem.micrograph.truth
    assert isinstance(points, Points)
    return points


def perfect(projection: Projection, prior: Prior, side: int, origin: np.ndarray) -> Points:
    lattice = np.array(prior.lattice_px)
    yx, _ = projection.positions(
        (side, side), lattice_px=lattice, origin_yx=tuple(origin @ lattice)
    )
    return Points(yx, (side, side))


# The truth is near the best -----------------------------------------------------------------


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize(
    ("spacing_px", "side"), [(6, 128), (10, 192), (16, 256), (30, 128), (30, 256)]
)
@pytest.mark.parametrize("rotation", [0, 17, 45, 90])
def test_true_positions_satisfy_every_claim(name, spacing_px, side, rotation):
    problem = simulated(name, spacing_px, rotation, side)
    score = judge(problem, truth(problem))
    assert score.terms["spacing_error"] == 0
    assert score.terms["spacing_excess"] == 0
    assert score.terms["image_evidence"] > 0.8
    # A field of less than three cells (YBCO at 30 px on 128 px: not even one) leaves the count of
    # a perfect lattice uncertain by a column or two.
    cell = max(np.hypot(*v) for v in problem.prior.lattice_px)
    assert score.terms["count_error"] < (0.02 if side > 3 * cell else 0.12)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
@pytest.mark.parametrize(("spacing_px", "side"), [(8, 128), (14, 192)])
def test_no_workflow_of_the_task_beats_the_truth_by_much(name, noise, spacing_px, side):
    problem = simulated(name, spacing_px, 17, side, noise)
    encoding, rng = Encoding(ATOMS), np.random.default_rng(0)
    tried = [ATOMS.expert, *(encoding.sample(rng) for _ in range(10))]
    best = max(problem.evaluate(workflow).score.value for workflow in tried)
    assert judge(problem, truth(problem)).value > best - 0.06


@pytest.mark.parametrize("name", ["ybco_100", "ybco_100_poisson"])
def test_truth_of_the_bundled_images_scores_as_well_as_the_expert(name):
    problem = abtem(name)
    true = judge(problem, truth(problem))
    assert true.value > 0.8
    assert true.value > problem.evaluate(ATOMS.expert).score.value - 0.01


# The count ----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(LATTICES)),
    spacing_px=st.floats(6, 16),
    side=st.integers(210, 256),
    rotation=st.floats(-180, 180),
    origin=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_count_of_a_perfect_lattice_is_right_wherever_it_lies(
    name, spacing_px, side, rotation, origin
):
    projection, _ = LATTICES[name]
    lattice = projection.lattice_px(projection.spacing_nm / spacing_px, rotation)
    prior = projection.prior((side, side), lattice_px=lattice)
    assert count_error(perfect(projection, prior, side, np.array(origin)), prior) < 0.02


@pytest.mark.parametrize("crystal_zone", TRAINING, ids=str)
def test_count_of_every_training_lattice_is_right(crystal_zone):
    name, zone = crystal_zone
    projection, rng = Crystal.named(name).project(zone), np.random.default_rng(0)
    for _ in range(40):
        spacing_px, rotation = rng.uniform(6, 12), rng.uniform(-180, 180)
        lattice = projection.lattice_px(projection.spacing_nm / spacing_px, rotation)
        prior = projection.prior((256, 256), lattice_px=lattice)
        points = perfect(projection, prior, 256, rng.uniform(0, 1, 2))
        assert count_error(points, prior) < 0.02


def test_ramp_counts_the_bundled_image_right_where_a_plain_count_is_an_eighth_off():
    problem = abtem("ybco_100")
    height, width = problem.micrograph.shape
    # The image is periodic: half of each column on its first row and line shows on the last, too.
    wrapped = np.array([(0, 0), (height, 0), (0, width), (height, width)])
    yx = (truth(problem).yx[:, None] + wrapped).reshape(-1, 2)
    seen = Points(yx[(yx < (height + 0.5, width + 0.5)).all(axis=1)], (height, width))
    expected = problem.prior.count
    assert abs(len(seen) - expected) / expected == pytest.approx(0.125, abs=0.002)
    assert count_error(seen, problem.prior) < 0.005


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_count_error_is_the_share_that_is_missing(share, seed):
    problem = simulated("SrTiO3", 6, 17, 192)
    points = truth(problem)
    kept = np.random.default_rng(seed).random(len(points)) < share
    expected = 1 - kept.mean()
    assert count_error(points[kept], problem.prior) == pytest.approx(expected, abs=0.06)


# Invariances --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["YBCO", "MoS2"])
def noisy(request: pytest.FixtureRequest) -> Problem:
    return simulated(request.param, 12, 17, 160, noise=0.3)


def remade(problem: Problem, data: np.ndarray) -> Problem:
    return Problem(Micrograph(data, problem.micrograph.pixel_size_nm), problem.prior, ATOMS)


@pytest.mark.parametrize(("gain", "offset"), [(1, 1000), (5000, 0), (1e-3, -7), (300, 12345)])
def test_score_does_not_depend_on_gain_and_offset(noisy, gain, offset):
    other = remade(noisy, noisy.micrograph.data * np.float32(gain) + np.float32(offset))
    expected = judge(noisy, truth(noisy)).value
    assert judge(other, truth(noisy)).value == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_score_does_not_depend_on_the_cameras_orientation(noisy, turns, flip):
    side = noisy.micrograph.shape[0]
    data, yx = noisy.micrograph.data, truth(noisy).yx
    if flip:
        data, yx = data[:, ::-1], np.column_stack([yx[:, 0], side - 1 - yx[:, 1]])
    for _ in range(turns):
        data, yx = np.rot90(data), np.column_stack([side - 1 - yx[:, 1], yx[:, 0]])
    turned = Points(yx, (side, side))
    expected = judge(noisy, truth(noisy)).value
    assert judge(remade(noisy, data), turned).value == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("name", LATTICES)
def test_score_does_not_depend_on_where_the_field_lies(name):
    big = simulated(name, 10, 17, 256, noise=0.2)
    values = []
    for top, left in [(0, 0), (7, 31), (64, 3), (90, 90)]:
        data = big.micrograph.data[top : top + 160, left : left + 160]
        problem = Problem(Micrograph(data), big.prior.cropped((160, 160), of=(256, 256)), ATOMS)
        yx = truth(big).yx - [top, left]
        inside = ((yx >= -0.5) & (yx < 159.5)).all(axis=1)
        values.append(judge(problem, Points(yx[inside], (160, 160))).value)
    assert np.ptp(values) < 0.03


# What must lose -----------------------------------------------------------------------------


def square_grid(problem: Problem, count: int) -> np.ndarray:
    height, width = problem.micrograph.shape
    step = np.sqrt(height * width / count)
    axes = (np.arange(step / 2, n, step) - 0.5 for n in (height, width))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def hacks(problem: Problem, name: str) -> Iterator[tuple[str, Points]]:
    """The answers that do not look, or do not look properly."""
    shape = problem.micrograph.shape
    count, yx, rng = round(problem.prior.count), truth(problem).yx, np.random.default_rng(0)
    shift = np.array(LATTICES[name][1]) @ np.array(problem.prior.lattice_px)
    middle = yx[np.argmin(np.linalg.norm(yx - np.array(shape) / 2, axis=1))]
    everywhere = np.stack(np.mgrid[0 : shape[0] : 2, 0 : shape[1] : 2], axis=-1)
    for label, positions in {
        "blank": np.empty((0, 2)),
        "square grid": square_grid(problem, count),
        "random": rng.uniform(-0.5, np.array(shape) - 0.5, (count, 2)),
        "half a cell off": (yx + shift + 0.5) % shape - 0.5,
        "everything": everywhere.reshape(-1, 2).astype(float),
        "one point repeated": np.tile(middle, (count, 1)),
    }.items():
        yield label, Points(positions, shape)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
@pytest.mark.parametrize(("spacing_px", "rotation", "side"), [(8, 17, 128), (14, 5, 192)])
def test_hacks_lose_on_simulated_images(name, noise, spacing_px, rotation, side):
    problem = simulated(name, spacing_px, rotation, side, noise)
    true, expert = judge(problem, truth(problem)), problem.evaluate(ATOMS.expert).score
    for label, points in hacks(problem, name):
        value = judge(problem, points).value
        assert value < true.value - 0.4, f"{label} against the truth"
        assert value < expert.value - 0.4, f"{label} against the expert"


@pytest.mark.parametrize("image", ["ybco_100", "ybco_100_poisson"])
@pytest.mark.parametrize("noise", [0.0, 0.2, 0.4])
def test_hacks_lose_on_the_bundled_images(image, noise):
    clean = abtem(image)
    data = clean.micrograph.normalized().pixels
    data = data + np.random.default_rng(0).normal(0, noise, data.shape)
    problem = Problem(Micrograph(data, truth=truth(clean)), clean.prior, ATOMS)
    true, expert = judge(problem, truth(problem)), problem.evaluate(ATOMS.expert).score
    for label, points in hacks(problem, "YBCO"):
        value = judge(problem, points).value
        assert value < true.value - 0.4, f"{label} against the truth"
        assert value < expert.value - 0.4, f"{label} against the expert"


def test_half_a_cell_off_is_wrong_in_the_sense_of_the_metric():
    for name in LATTICES:
        problem = simulated(name, 12, 17, 160)
        shifted = dict(hacks(problem, name))["half a cell off"]
        assert match_points(shifted, truth(problem), problem.prior.scale_px / 4).f1 < 0.2


# Worse answers score worse ------------------------------------------------------------------

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


def dropped(points: Points, share: float, rng: np.random.Generator) -> Points:
    return points[rng.permutation(len(points))[round(share * len(points)) :]]


def added(points: Points, share: float, rng: np.random.Generator) -> Points:
    extra = rng.uniform(-0.5, np.array(points.shape) - 0.5, (round(share * len(points)), 2))
    return Points(np.vstack([points.yx, extra]), points.shape)


def duplicated(points: Points, share: float, rng: np.random.Generator) -> Points:
    extra = points.yx[rng.permutation(len(points))[: round(share * len(points))]]
    return Points(np.vstack([points.yx, extra + rng.normal(0, 0.5, extra.shape)]), points.shape)


def displaced(points: Points, share: float, rng: np.random.Generator) -> Points:
    """By this share of the spacing of 14 px, in random directions."""
    angle = rng.uniform(0, 2 * np.pi, len(points))
    step = 14 * share * np.column_stack([np.sin(angle), np.cos(angle)])
    return Points(points.yx + step, points.shape)


@pytest.mark.parametrize("worsen", [dropped, added, duplicated, displaced])
@pytest.mark.parametrize("name", LATTICES)
def test_the_more_of_the_answer_is_spoilt_the_lower_the_score(name, worsen):
    problem = simulated(name, 14, 17, 192, noise=0.1)
    values = np.mean(
        [
            [
                judge(problem, worsen(truth(problem), share, np.random.default_rng(seed))).value
                for share in SHARES
            ]
            for seed in range(5)
        ],
        axis=0,
    )
    assert (np.diff(values) < 0.01).all()
    assert values[0] - values[2] > 0.02
    # Every column found twice: half of the positions are invented.
    assert values[-1] < 0.51 * values[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "noise"), [("YBCO", 0.0), ("YBCO", 0.4), ("SrTiO3", 0.2), ("Cu", 0.1), ("MoS2", 0.3)]
)
def test_score_ranks_workflows_as_f1_does(name, noise):
    problem = simulated(name, 14, 5, 160, noise)
    encoding, rng = Encoding(ATOMS), np.random.default_rng(1)
    radius, margin = problem.prior.scale_px / 4, problem.prior.scale_px / 2
    scores, f1 = [], []
    for _ in range(60):
        trial = problem.evaluate(workflow := encoding.sample(rng))
        if trial.failure is None:
            found = problem.run(workflow).need(Points)
            scores.append(trial.score.value)
            f1.append(match_points(found, truth(problem), radius, margin).f1)
    assert len(scores) > 50
    assert kendalltau(scores, f1).statistic >= 0.7
    assert f1[int(np.argmax(scores))] > max(f1) - 0.05
