"""An operator for one image runs on every frame of a stack, and does nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from scopegym.artifacts import Frames, Image, Labels, Points, Source, State, Tracks
from scopegym.cache import Cache, using
from scopegym.datasets.simulate_patterns import two_phases
from scopegym.envs.problem import Problem
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.operators.base import operator
from scopegym.operators.base import registry as operators
from scopegym.prior import Prior
from scopegym.rewards.base import Reward, reward_term
from scopegym.rewards.base import registry as terms
from scopegym.workflow import Step, Workflow, starting

PRIOR = Prior(8.0, count=100.0)
FOUND = Workflow((Step("gaussian"), Step("local_maxima")))
IMAGES = [two_phases((64, 72), 8.0, noise=0.2, seed=seed) for seed in range(4)]
STACK = Micrograph(np.stack([image.data for image in IMAGES]), 0.02, "film")


@pytest.fixture
def own() -> Iterator[None]:
    """Operators of a test do not outlive it."""
    kept = dict(operators._entries)
    yield
    operators._entries.clear()
    operators._entries.update(kept)


def test_every_frame_gives_what_its_image_gives():
    found = FOUND.run(STACK, PRIOR).get(Frames[Points])
    assert found is not None and len(found) == 4 and found.shape == (4, 64, 72)
    for points, image in zip(found, IMAGES, strict=True):
        alone = FOUND.run(image, PRIOR).get(Points)
        assert alone is not None and len(points) and np.array_equal(points.yx, alone.yx)


def test_frames_are_no_single_artifact_and_the_other_way_round():
    state = FOUND.run(STACK, PRIOR)
    assert state.get(Points) is None and state.get(Image) is None and state.get(Source) is None
    assert isinstance(state.get(Frames[Source]), Frames)
    alone = FOUND.run(IMAGES[0], PRIOR)
    assert alone.get(Frames[Points]) is None and alone.get(Frames[Image]) is None
    points = alone.get(Points)
    assert points is not None and state.with_artifact(points).get(Frames[Points]) is None


def test_a_common_prefix_is_computed_once_per_frame():
    cache = Cache()
    FOUND.run(STACK, PRIOR, cache=cache)
    before = cache.misses
    FOUND.run(STACK, PRIOR, cache=cache)
    assert cache.misses == before
    refined = Workflow((*FOUND, Step("refine_positions")))
    refined.run(STACK, PRIOR, cache=cache)
    assert cache.misses == before + 1 + 4  # the frames together, and each
    refined.run(IMAGES[2], PRIOR, cache=cache)  # a frame as an image
    assert cache.misses == before + 1 + 4


@pytest.mark.usefixtures("own")
def test_known_frames_of_a_longer_video_are_not_computed_again():
    seen: list[tuple[int, int]] = []

    @operator
    def counted(image: Image) -> Points:
        """Count the calls."""
        seen.append(image.shape)
        return Points(np.array([[1.0, 2.0]]), image.shape)

    cache, workflow = Cache(), Workflow((Step("gaussian"), Step("counted")))
    workflow.run(STACK, PRIOR, cache=cache)
    assert len(seen) == 4
    longer = np.concatenate([STACK.data, STACK.data[:1] + IMAGES[1].data])
    workflow.run(Micrograph(longer, name="longer"), PRIOR, cache=cache)
    assert len(seen) == 5
    workflow.run(IMAGES[3], PRIOR, cache=cache)  # the frame as an image
    assert len(seen) == 5


@pytest.mark.usefixtures("own")
def test_pictures_of_frames_are_computed_when_asked_for():
    seen = []

    @operator
    def inverted(image: Image) -> Image:
        """Count the calls."""
        seen.append(image.key)
        return Image(1 - image.pixels)

    with using(Cache()):
        frames = Workflow((Step("inverted"),)).run(STACK, PRIOR).get(Frames[Image])
        assert frames is not None and not seen and frames.nbytes == 0 and not frames.empty
        assert np.array_equal(frames[3].pixels, 1 - STACK.frame(3).normalized().pixels)
        assert np.array_equal(frames[3].pixels, frames[3].pixels) and len(seen) == 1


@pytest.mark.usefixtures("own")
def test_frames_as_an_input_and_as_an_output():
    @operator
    def strung(frames: Frames[Points]) -> Tracks:
        """The first point of every frame is one track."""
        return Tracks(
            np.array([[0, t, *points.yx[0]] for t, points in enumerate(frames)]), frames.shape
        )

    @operator
    def cropped(frames: Frames[Image]) -> Frames[Image]:
        """Half of every frame."""
        return Frames[Image]([Image(image.pixels[:32]) for image in frames])

    assert strung.inputs == (Frames[Points],) and cropped.output is Frames[Image]
    start = starting(STACK, PRIOR)
    assert cropped.runs_on(start) and not strung.runs_on(start)
    assert not strung.runs_on(FOUND.run(IMAGES[0], PRIOR))
    with pytest.raises(ScopegymError, match=r"strung needs Frames\[Points\], which no step made"):
        strung.apply(start, {}, PRIOR)
    state = Workflow((Step("cropped"), *FOUND, Step("strung"))).run(STACK, PRIOR)
    tracks, points = state.get(Tracks), state.get(Frames[Points])
    assert tracks is not None and points is not None
    assert np.array_equal(tracks.rows[:, 1], range(4)) and points.shape == (4, 32, 72)
    assert np.array_equal(tracks.rows[:, 2:], [frame.yx[0] for frame in points])


@pytest.mark.usefixtures("own")
def test_a_single_artifact_serves_all_frames():
    @operator
    def mean_frame(frames: Frames[Image]) -> Labels:
        """Where the stack is bright."""
        return Labels(np.mean([f.pixels for f in frames], axis=0) > 0.5)

    @operator
    def within(points: Points, labels: Labels) -> Points:
        """Those in the bright region."""
        y, x = np.round(points.yx).astype(int).T
        return points[labels.map[y, x] == 1]

    state = Workflow((*FOUND, Step("mean_frame"), Step("within"))).run(STACK, PRIOR)
    kept, found = state.get(Frames[Points]), FOUND.run(STACK, PRIOR).get(Frames[Points])
    assert kept is not None and found is not None and len(kept) == 4
    assert 0 < len(kept[0]) < len(found[0])


@pytest.mark.usefixtures("own")
def test_a_failure_names_the_frame():
    @operator(tasks=("atoms",))
    def fussy(image: Image) -> Points:
        """Fail on one of the frames."""
        if image.key == STACK.frame(2).normalized().key:
            raise ZeroDivisionError("no intensity")
        return Points(np.empty((0, 2)), image.shape)

    task = replace(tasks["atoms"], takes="frames")
    trial = Problem(STACK, PRIOR, task).evaluate(Workflow((Step("fussy"),)))
    assert trial.failure == "Frame 2: ZeroDivisionError: no intensity"


@pytest.mark.usefixtures("own")
def test_a_reward_may_read_frames_and_a_frame_that_fails_is_recorded():
    @operator(tasks=("atoms",))
    def brittle(image: Image) -> Image:
        """Fail on one of the frames, which is computed when the reward asks for it."""
        if image.key == STACK.frame(2).normalized().key:
            raise ZeroDivisionError("no intensity")
        return image

    kept = dict(terms._entries)
    try:

        @reward_term(direction="maximize", bounds=(0.0, 1.0))
        def brightness(frames: Frames[Image], source: Frames[Source]) -> float:
            """The mean over all frames."""
            assert len(frames) == len(source)
            return float(np.mean([frame.pixels.mean() for frame in frames]))

        reward = Reward("bright", {"brightness": 1.0}, "linear")
        problem = Problem(STACK, PRIOR, replace(tasks["atoms"], takes="frames"), reward)
        mean = np.mean([image.normalized().pixels.mean() for image in IMAGES])
        assert problem.evaluate(Workflow()).score.value == pytest.approx(mean)
        trial = problem.evaluate(Workflow((Step("brittle"),)))
        assert trial.failure == "Frame 2: ZeroDivisionError: no intensity"
        assert trial.score == reward.worst
        alone = Problem(IMAGES[0], PRIOR, tasks["atoms"], reward)
        assert alone.evaluate(Workflow()).score == reward.worst
    finally:
        terms._entries.clear()
        terms._entries.update(kept)


def test_a_task_says_what_it_takes():
    with pytest.raises(ScopegymError, match="Task atoms takes one image; 'film' is a stack of 4"):
        Problem(STACK, PRIOR, tasks["atoms"])
    task = replace(tasks["atoms"], takes="frames")
    with pytest.raises(ScopegymError, match=r"takes the frames of a stack .* is one image"):
        Problem(IMAGES[0], PRIOR, task)
    problem = Problem(STACK, PRIOR, task)
    problem.check()
    assert isinstance(problem.source, Frames)
    with pytest.raises(ScopegymError, match="'film' is 64 x 72 px"):
        Problem(STACK, Prior(60.0, count=4.0), task).check()


def test_stacks_of_different_length_are_refused():
    points = FOUND.run(IMAGES[0], PRIOR).get(Points)
    assert points is not None
    state = starting(STACK, PRIOR).with_artifact(Frames[Points]([points] * 3))
    with pytest.raises(ScopegymError, match=r"differ in length: \[3, 4\] frames"):
        operators["refine_positions"].apply(state, {}, PRIOR)


def test_starting_with_an_image_is_as_before():
    assert isinstance(starting(IMAGES[0], PRIOR), State)
    assert starting(IMAGES[0], PRIOR).source.key == IMAGES[0].normalized().key
