"""Workflows carry state from step to step; recipes carry workflows, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegym.agents.encoding import Encoding
from scopegym.artifacts import Points, Source
from scopegym.cache import Cache
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.operators.base import registry as operators
from scopegym.prior import Lattice, Prior
from scopegym.workflow import Recipe, Step, Workflow

PRIOR = Prior(scale_px=8.0, count=36.0, neighbour_sums_px=(32.0,), sources={"count": "given"})
SMOOTH = Step("gaussian", {"sigma": 0.1})
DETECT = Step("local_maxima", {"distance": 0.4, "threshold": 0.3})
REFINE = Step("refine_positions", {"method": "gaussian"})


@pytest.fixture(scope="module")
def micrograph() -> Micrograph:
    """Six by six columns, 8 px apart."""
    y, x = np.mgrid[:48, :48]
    distance = ((y + 4) % 8 - 4) ** 2 + ((x + 4) % 8 - 4) ** 2
    noise = np.random.default_rng(0).normal(0, 0.02, (48, 48))
    return Micrograph(np.exp(-distance / 4) * 50 + 7 + noise, 0.03)


# Running ------------------------------------------------------------------------------------


def test_run_starts_from_the_normalised_image(micrograph: Micrograph):
    state = Workflow().run(micrograph, PRIOR)
    assert isinstance(state.source, Source) and state.image is state.source
    assert np.array_equal(state.image.pixels, micrograph.normalized().pixels)
    assert state.get(Points) is None


def test_state_holds_the_latest_of_each_kind_and_keeps_the_source(micrograph: Micrograph):
    state = Workflow((SMOOTH, DETECT, Step("invert"))).run(micrograph, PRIOR)
    smooth = operators["gaussian"](micrograph.normalized().pixels, sigma=0.8)
    assert np.array_equal(state.image.pixels, 1 - smooth.pixels)
    assert np.array_equal(state.source.pixels, micrograph.normalized().pixels)
    expected = operators["local_maxima"](smooth, distance=3.2, threshold=0.3)
    assert np.array_equal(state.get(Points).yx, expected.yx)


def test_second_detector_replaces_the_points_of_the_first(micrograph: Micrograph):
    two = Workflow((DETECT, Step("template_match"))).run(micrograph, PRIOR)
    one = Workflow((Step("template_match"),)).run(micrograph, PRIOR)
    assert np.array_equal(two.need(Points).yx, one.need(Points).yx)


def test_lengths_scale_with_the_prior(micrograph: Micrograph):
    coarse = Prior(scale_px=16.0)
    found = Workflow((Step("gaussian", {"sigma": 0.05}),)).run(micrograph, coarse)
    same = Workflow((Step("gaussian", {"sigma": 0.1}),)).run(micrograph, PRIOR)
    assert np.array_equal(found.image.pixels, same.image.pixels)


def test_a_step_whose_artifact_is_missing_says_so(micrograph: Micrograph):
    with pytest.raises(ScopegymError, match="refine_positions needs Points, which no step made"):
        Workflow((SMOOTH, REFINE)).run(micrograph, PRIOR)


def test_a_step_cannot_be_changed():
    with pytest.raises(TypeError):
        SMOOTH.params["sigma"] = 0.2  # type: ignore[index]
    given = {"sigma": 0.1}
    step = Step("gaussian", given)
    given["sigma"] = 0.3
    assert step.params["sigma"] == 0.1


def test_a_constant_image_is_refused():
    with pytest.raises(ScopegymError, match="constant"):
        Workflow().run(Micrograph(np.ones((8, 8))), PRIOR)


# Cache --------------------------------------------------------------------------------------


def test_common_prefix_is_computed_once(micrograph: Micrograph):
    cache = Cache()
    Workflow((SMOOTH, DETECT, REFINE)).run(micrograph, PRIOR, cache=cache)
    assert (cache.misses, cache.hits) == (3, 0)
    other = Step("refine_positions", {"method": "centre_of_mass"})
    Workflow((SMOOTH, DETECT, other)).run(micrograph, PRIOR, cache=cache)
    assert (cache.misses, cache.hits) == (4, 2)
    Workflow((SMOOTH, DETECT, other)).run(micrograph, PRIOR, cache=cache)
    assert (cache.misses, cache.hits) == (4, 5)


def test_cached_result_equals_a_fresh_one(micrograph: Micrograph):
    cache, workflow = Cache(), Workflow((SMOOTH, DETECT, REFINE))
    runs = [workflow.run(micrograph, PRIOR, cache=c) for c in (cache, cache, Cache())]
    for state in runs[1:]:
        assert np.array_equal(state.need(Points).yx, runs[0].need(Points).yx)


@pytest.mark.parametrize("change", ["image", "parameter", "scale"])
def test_cache_does_not_confuse_what_differs(micrograph: Micrograph, change: str):
    cache = Cache()
    Workflow((SMOOTH,)).run(micrograph, PRIOR, cache=cache)
    other = Micrograph(micrograph.data + np.eye(48)) if change == "image" else micrograph
    step = Step("gaussian", {"sigma": 0.11}) if change == "parameter" else SMOOTH
    prior = Prior(scale_px=8.5) if change == "scale" else PRIOR
    Workflow((step,)).run(other, prior, cache=cache)
    assert (cache.misses, cache.hits) == (2, 0)


def test_different_detector_order_is_a_different_derivation(micrograph: Micrograph):
    cache = Cache()
    ab = Workflow((Step("gaussian"), Step("median"))).run(micrograph, PRIOR, cache=cache)
    ba = Workflow((Step("median"), Step("gaussian"))).run(micrograph, PRIOR, cache=cache)
    assert cache.misses == 4 and ab.image.key != ba.image.key


# Identity -----------------------------------------------------------------------------------


def test_key_does_not_depend_on_the_order_of_parameters():
    forth = Step("local_maxima", {"distance": 0.4, "threshold": 0.3})
    back = Step("local_maxima", {"threshold": 0.3, "distance": 0.4})
    assert Workflow((forth,)).key == Workflow((back,)).key
    assert Workflow((forth,)) == Workflow((back,))


def test_key_depends_on_parameters_and_on_order_of_steps():
    workflows = [
        Workflow(),
        Workflow((SMOOTH, DETECT)),
        Workflow((DETECT, SMOOTH)),
        Workflow((Step("gaussian", {"sigma": 0.2}), DETECT)),
        Workflow((DETECT,)),
    ]
    assert len({workflow.key for workflow in workflows}) == len(workflows)


def test_defaults_written_out_are_the_same_step():
    default = operators["gaussian"].parameters["sigma"].default
    assert Step("gaussian") == Step("gaussian", {"sigma": default})


# Recipes ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_workflow_of_the_task_survives_its_recipe(seed: int):
    workflow = Encoding(tasks["atoms"]).sample(np.random.default_rng(seed))
    back = Workflow.from_yaml(workflow.to_yaml())
    assert back == workflow and back.key == workflow.key
    assert [type(v) for s in back for v in s.params.values()] == [
        type(v) for s in workflow for v in s.params.values()
    ]


def test_recipe_round_trip_with_prior_and_record(tmp_path: Path):
    prior = Prior(
        26.927,
        162.4,
        (101.2, 99.0),
        (Lattice(((117.3, 0.125), (0.0, 39.1))),),
        "dark",
        {"scale_px": "crystal"},
    )
    path = tmp_path / "workflow.yaml"
    workflow = Workflow((SMOOTH, DETECT, REFINE))
    shared = [1, 2]
    text = workflow.to_yaml(path, prior=prior, task="atoms", name="Å µ", one=shared, two=shared)
    for source in (path, str(path), text):
        recipe = Recipe.read(source)
        assert recipe.workflow == workflow
        assert recipe.prior == prior and recipe.prior.sources == {"scale_px": "crystal"}
        assert recipe.recorded["task"] == "atoms" and recipe.recorded["name"] == "Å µ"
        assert recipe.recorded["one"] == recipe.recorded["two"] == [1, 2]
        assert {"scopegym", "python", "numpy"} <= set(recipe.recorded["made_with"])


def test_recipe_states_versions_and_units():
    (entry,) = yaml.safe_load(Workflow((SMOOTH,)).to_yaml())["workflow"]
    assert entry == {
        "operator": "gaussian",
        "version": operators["gaussian"].version,
        "parameters": {"sigma": {"value": 0.1, "unit": "spacing"}},
    }


def test_replayed_recipe_gives_the_same_points(micrograph: Micrograph):
    workflow = Workflow((SMOOTH, DETECT, REFINE))
    recipe = Recipe.read(workflow.to_yaml(prior=PRIOR))
    found = recipe.workflow.run(micrograph, recipe.prior, cache=Cache()).need(Points)
    expected = workflow.run(micrograph, PRIOR, cache=Cache()).need(Points)
    assert isinstance(found, Points) and np.array_equal(found.yx, expected.yx)


def read(workflow: str, head: str = "recipe: 1") -> Recipe:
    return Recipe.read(f"{head}\nworkflow:\n{workflow}\n")


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        ("- {operator: gausian}", r"Unknown operator 'gausian'; did you mean gaussian"),
        ("- {operator: gaussian, parameters: {sigma: 7}}", r"gaussian\.sigma must lie in 0\.02"),
        ("- {operator: gaussian, parameters: {sigma: .nan}}", r"gaussian\.sigma must lie"),
        ("- {operator: gaussian, parameters: {sigma: .inf}}", r"gaussian\.sigma must lie"),
        ("- {operator: gaussian, parameters: {sigma: true}}", r"gaussian\.sigma must be a number"),
        ("- {operator: gaussian, parameters: {sigma: '0.1'}}", r"gaussian\.sigma must be a number"),
        (
            "- {operator: gaussian, parameters: {sigma: 2020-01-01}}",
            r"gaussian\.sigma must be a nu",
        ),
        (
            "- {operator: gaussian, parameters: {sigma: {value: 0.1, unit: nm}}}",
            r"gaussian\.sigma is in 'nm', expected 'spacing'",
        ),
        (
            "- {operator: gaussian, parameters: {sigma: {unit: spacing}}}",
            r"gaussian\.sigma must be",
        ),
        ("- {operator: gaussian, parameters: {width: 1}}", r"gaussian has no parameter width"),
        ("- {operator: gaussian, parameters: {1: 1}}", r"gaussian has no parameter 1"),
        ("- {operator: gaussian, parameters: [1]}", r"parameters of step 1 \(gaussian\)"),
        (
            "- {operator: laplacian_of_gaussian, parameters: {num_sigma: 2.5}}",
            r"num_sigma must be a whole number",
        ),
        (
            "- {operator: refine_positions, parameters: {method: best}}",
            r"refine_positions\.method must be one of",
        ),
        ("- {operator: gaussian, version: 99}", r"Step 1.*gaussian version 99.*another result"),
        ("- {operator: invert}\n- {operation: invert}", r"Step 2 of the recipe names no operator"),
        ("- {operator: [invert]}", r"Step 1 of the recipe names no operator"),
        ("- invert", r"Step 1 of the recipe names no operator"),
        ("  invert: 1", r"A workflow is a list of steps"),
    ],
)
def test_a_wrong_step_is_named_with_the_rule(steps: str, rule: str):
    with pytest.raises(ScopegymError, match=rule):
        read(steps)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("- 1\n- 2\n", "not a mapping"),
        ("just\nwords\n", "not a mapping"),
        ("\n", "not a mapping"),
        ("{}\n", "layout None"),
        ("recipe: 2\nworkflow: []\n", "layout 2; this version reads 1"),
        ("recipe: 1\nworkflow: 3\n", "list of steps"),
        ("recipe: 1\n", "list of steps"),
        ("recipe: 1\nworkflow: [\n", "not plain YAML"),
        ("recipe: 1\n---\nrecipe: 1\n", "not plain YAML"),
        ("recipe: 1\nworkflow: []\nprior: {scale_px: -1}\n", "prior.*positive"),
        ("recipe: 1\nworkflow: []\nprior: {scale_px: eight}\n", "prior is malformed"),
        ("recipe: 1\nworkflow: []\nprior: {scale: 8}\n", "prior is malformed"),
        ("recipe: 1\nworkflow: []\nprior: [8]\n", "prior is malformed"),
        ("recipe: 1\nx: !!int ''\n", "not plain YAML"),
        ("recipe: 1\nx: !!bool maybe\n", "not plain YAML"),
        ("recipe: 1\nx: !!timestamp noon\n", "not plain YAML"),
        ("recipe: 1\nx: \0\n", "not plain YAML"),
    ],
)
def test_a_malformed_recipe_is_refused_in_one_sentence(text: str, rule: str):
    with pytest.raises(ScopegymError, match=rule) as caught:
        Recipe.read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        "!!python/object/apply:os.system ['touch {target}']",
        "!!python/object/new:os.system ['touch {target}']",
        "!!python/object/apply:os.mkdir ['{target}']",
        "!!python/object/apply:builtins.open ['{target}', 'w']",
        "!!python/object/apply:subprocess.check_output [['touch', '{target}']]",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
        "!!python/tuple [1, 2]",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch {target}']",
        "!custom {target}",
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        "recipe: 1\nworkflow: []\nnote: {code}\n",
        "recipe: 1\nworkflow: {code}\n",
        "recipe: 1\nworkflow: [{{operator: gaussian, parameters: {{sigma: {code}}}}}]\n",
        "recipe: 1\nworkflow: []\nprior: {code}\n",
    ],
)
def test_code_in_a_recipe_is_refused_and_not_run(code: str, place: str, tmp_path: Path):
    target = tmp_path / "pwned"
    text = place.format(code=code.format(target=target))
    with pytest.raises(ScopegymError, match="not plain YAML"):
        Recipe.read(text)
    assert not target.exists()


def test_the_smuggled_code_would_run_in_an_unsafe_reader(tmp_path: Path):
    # Without this the test above could pass because its code is wrong.
    target = tmp_path / "pwned"
    yaml.unsafe_load(f"note: !!python/object/apply:os.system ['touch {target}']\n")
    assert target.exists()


BOMB = "recipe: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB + "workflow: [{operator: gaussian, parameters: {sigma: *a9}}]\n",
        BOMB.replace("recipe: 1", "n: 1") + "recipe: *a9\n",
        "recipe: 1\na: &a [*a]\nworkflow: *a\n",
        "recipe: 1\nworkflow: " + "[" * 20_000 + "\n",
        "recipe: 1\nworkflow: " + "[" * 500 + "]" * 500 + "\n",
        "recipe: 1\nworkflow: " + "{a: " * 500 + "1" + "}" * 500 + "\n",
    ],
)
def test_bombs_are_refused_at_once(text: str):
    start = time.perf_counter()
    with pytest.raises(ScopegymError) as caught:
        Recipe.read(text)
    assert time.perf_counter() - start < 5
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x80PK\x03\x04", b"\x93NUMPY\x01\x00v\x00"])
def test_empty_and_binary_files_are_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ScopegymError):
        Recipe.read(path)


def test_a_missing_file_a_folder_and_an_impossible_path_are_refused(tmp_path: Path):
    with pytest.raises(ScopegymError, match=r"none\.yaml' cannot be read: No such file"):
        Recipe.read(tmp_path / "none.yaml")
    for source in (tmp_path, "", "x" * 5000, "nul\0.yaml"):
        with pytest.raises(ScopegymError, match="cannot be read"):
            Recipe.read(source)
