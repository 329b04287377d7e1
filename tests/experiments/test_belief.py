"""The verdict: a wrong premise is named, a poor score is doubted, and the same holds for all."""

from __future__ import annotations

import numpy as np
import pytest

import scopegym
from scopegym.datasets.bundled import bundled
from scopegym.experiments.belief import HALF, Verdict, trusted, verdict
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import Reward
from scopegym.sample import Expectation


def solved(micrograph: Micrograph, **options: object) -> scopegym.Result:
    return scopegym.solve(micrograph, agent="expert", budget=3, **options)


def test_a_right_result_is_ok():
    found = solved(bundled("ybco_100"), crystal="YBa2Cu3O7", zone=(1, 0, 0))
    assert found.verdict == Verdict("ok")
    assert found.to_dict()["verdict"] == "ok"
    assert found.to_dict()["reasons"] == []


@pytest.mark.parametrize("name", ["SrTiO3", "BaTiO3", "Cu", "MoS2", "Si"])
def test_another_crystal_is_a_wrong_premise(name):
    zone = {"MoS2": (0, 0, 1), "Si": (1, 1, 0)}.get(name, (1, 0, 0))
    found = solved(bundled("ybco_100"), crystal=name, zone=zone, calibration="report")
    assert found.verdict.belief == "wrong-premise"
    assert "probably not this crystal, zone or scale" in " ".join(found.verdict.reasons)


def test_a_wrong_pixel_size_is_a_wrong_premise_and_the_right_one_is_named():
    image = bundled("ybco_100")
    options = {"crystal": "YBa2Cu3O7", "zone": (1, 0, 0), "pixel_size": "16 pm"}
    found = solved(image, calibration="report", **options)
    assert found.verdict.belief == "wrong-premise"
    right = 1000 * image.pixel_size_nm
    assert f"at {right:.3g} pm per pixel, but 16 pm is stated" in found.verdict.reasons[0]


def test_columns_of_the_other_contrast_are_a_wrong_premise():
    found = solved(bundled("ybco_100"), crystal="YBa2Cu3O7", zone=(1, 0, 0), contrast="dark")
    assert found.verdict.belief == "wrong-premise"
    assert "The columns in the image are bright" in found.verdict.reasons[0]


def test_noise_is_doubted_whatever_is_said_of_it():
    noise = np.random.default_rng(0).normal(size=(192, 192)).astype(np.float32)
    image = Micrograph(noise, pixel_size_nm=0.02)
    for options in (
        {"crystal": "SrTiO3", "zone": (0, 0, 1)},
        {"density": 12.0, "spacing": "10 px"},
        {"estimate": True},
    ):
        assert solved(image, **options).verdict.belief != "ok", options


def test_a_low_score_is_doubted_and_the_worst_term_named():
    problem = solved(bundled("ybco_100"), crystal="YBa2Cu3O7", zone=(1, 0, 0)).problem
    worst = problem.reward.worst
    doubted = verdict(problem, worst, Expectation(problem.prior))
    assert doubted.belief == "doubtful"
    assert f"below {trusted(problem):.2f}" in doubted.reasons[0]
    assert any(term in doubted.reasons[0] for term in worst.terms)


def test_another_reward_has_a_limit_of_its_own():
    result = solved(bundled("ybco_100"), crystal="YBa2Cu3O7", zone=(1, 0, 0))
    own = result.problem
    assert trusted(own) == own.task.trusted != HALF
    other = solved(
        bundled("ybco_100"), crystal="YBa2Cu3O7", reward=Reward("mine", {"count_error": 1.0})
    )
    assert trusted(other.problem) == HALF


def test_further_reasons_make_a_result_doubtful():
    result = solved(bundled("ybco_100"), crystal="YBa2Cu3O7", zone=(1, 0, 0))
    score = result.chosen.score
    found = verdict(result.problem, score, Expectation(result.problem.prior), ["Because."])
    assert found == Verdict("doubtful", ("Because.",))
