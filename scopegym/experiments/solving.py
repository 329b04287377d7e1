"""Solve one image, with all options, for Python and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike

from scopegym import device as devices
from scopegym.agents.base import Pick
from scopegym.agents.base import registry as agents
from scopegym.datasets.readers import load
from scopegym.envs.problem import Problem, Trial, load_plugins
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.solve import DEFAULT_BUDGET, Result, search
from scopegym.experiments.windows import solve_windows, tiled
from scopegym.experiments.windows.solving import Solved
from scopegym.micrograph import Micrograph
from scopegym.prior import Prior
from scopegym.registry import load_plugin
from scopegym.rewards.base import Reward
from scopegym.sample import Expectation, Sample
from scopegym.sample.crystal import Crystal
from scopegym.sample.imaging import ImagingName
from scopegym.sample.sample import CalibrationPolicy, Contrast
from scopegym.units import parse_pixel_size
from scopegym.workers import Backend

#: The least and the largest value; scikit-learn takes no larger seeds.
WHOLE_NUMBERS = {
    "seed": (0, 2**32 - 1),
    "budget": (1, 1_000_000),
    "window": (1, 10**6),
    "stride": (1, 10**6),
    "workers": (1, 1024),
}
#: Those that need not be given.
OPTIONAL = ("window", "stride", "workers")

#: An image: a file, an array ``[H, W]`` or ``[T, H, W]``, or a micrograph.
ImageLike = str | Path | ArrayLike | Micrograph
#: A reward in place of the task's own, or terms to add to that: ``TERM`` or ``FILE.py:TERM``.
RewardLike = Reward | str | Sequence[str] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """A problem, and how to solve it.

    ``budget`` counts operator executions before cache hits; with a ``window`` [px] it holds for
    each window. ``stride``, ``workers`` and ``backend`` apply to windows only. Raises ScopegymError
    for options that do not fit the problem.
    """

    problem: Problem
    expectation: Expectation
    agent: str = "bayes"
    budget: int = DEFAULT_BUDGET
    seed: int = 0
    pick: Pick = "value"
    window: int | None = None
    stride: int | None = None
    workers: int | None = None
    backend: Backend = "ray"
    #: Where heavy operators run; None keeps the device in force.
    device: str | None = None
    plugins: Sequence[str | Path] = ()

    def __post_init__(self) -> None:
        agents[self.agent]
        if self.pick not in get_args(Pick):
            raise ScopegymError(f"Pick by value, euclidean or chebyshev, not '{self.pick}'.")
        if self.backend not in get_args(Backend):
            known = ", ".join(get_args(Backend))
            raise ScopegymError(f"Unknown backend '{self.backend}'; known: {known}.")
        for name, (low, high) in WHOLE_NUMBERS.items():
            value = getattr(self, name)
            whole = isinstance(value, Integral) and low <= int(value) <= high
            if not (whole or (value is None and name in OPTIONAL)):
                raise ScopegymError(
                    f"The {name} must be a whole number from {low} to {high}, not {value!r}."
                )
        if self.device is not None:
            devices.check(self.device)
        if self.window is None and self.stride is not None:
            raise ScopegymError("A stride goes with windows: give --window too.")
        self.problem.check()
        if self.window is not None:
            tiled(self.problem, self.window, self.stride)

    @property
    def title(self) -> str:
        """The agent and the image."""
        return f"{self.agent} on {self.problem.micrograph.name}"

    @property
    def size(self) -> tuple[int, str]:
        """How much there is to do, and in what unit."""
        if self.window is None:
            return self.budget, "executions"
        return len(tiled(self.problem, self.window, self.stride)), "windows"

    def run(
        self,
        on_trial: Callable[[Trial], None] | None = None,
        on_window: Callable[[Solved], None] | None = None,
    ) -> Result:
        """Run the search. ``on_trial`` is called after every tested workflow, ``on_window`` after
        every solved window. Raises ScopegymError when no workflow succeeded."""
        if self.window is None:
            with devices.using(self.device):
                return search(
                    self.problem, self.expectation, self.agent, self.budget, self.seed, self.pick,
                    on_trial,
                )  # fmt: skip
        return solve_windows(
            self.problem,
            self.expectation,
            self.window,
            self.stride,
            agent=self.agent,
            budget=self.budget,
            seed=self.seed,
            pick=self.pick,
            workers=self.workers or os.cpu_count() or 1,
            backend=self.backend,
            device=self.device or devices.current(),
            plugins=[Path(file) for file in self.plugins],
            on_window=on_window,
        )


def solve(
    image: ImageLike,
    task: str = "atoms",
    *,
    sample: Sample | None = None,
    prior: Prior | None = None,
    crystal: str | Path | Crystal | None = None,
    zone: str | Sequence[int] | None = None,
    density: float | None = None,
    spacing: str | None = None,
    estimate: bool = False,
    pixel_size: str | None = None,
    contrast: Contrast | None = None,
    imaging: ImagingName | None = None,
    calibration: CalibrationPolicy | None = None,
    frame: int | None = None,
    reward: RewardLike = None,
    agent: str = "bayes",
    budget: int = DEFAULT_BUDGET,
    seed: int = 0,
    pick: Pick = "value",
    window: int | None = None,
    stride: int | None = None,
    workers: int | None = None,
    backend: Backend = "ray",
    device: str | None = None,
    plugins: str | Path | Sequence[str | Path] = (),
    on_trial: Callable[[Trial], None] | None = None,
    on_window: Callable[[Solved], None] | None = None,
) -> Result:
    """Search the workflow with the highest score on an image: a path, an array or a micrograph.

    Give a ``sample``, or its fields (``crystal`` to ``calibration``, as in ``Sample``; ``density``
    per nm^2), or a ``prior``. Without any of these, spacing and count are estimated from the image,
    with a warning in the result. ``frame`` selects one image of a stack. ``reward`` adds terms to
    the task's reward or replaces it. ``pick`` chooses from the front: the highest value, or the
    smallest Euclidean or Chebyshev distance to the ideal. The other options are those of ``Plan``.
    Raises ScopegymError for bad input and when no workflow succeeded.
    """
    options = {
        "crystal": crystal,
        "zone": zone,
        "density_per_nm2": density,
        "spacing": spacing,
        "estimate": estimate or None,
        "pixel_size": pixel_size,
        "contrast": contrast,
        "imaging": imaging,
        "calibration": calibration,
    }
    stated = {name: value for name, value in options.items() if value is not None}
    known = _known(sample, prior, stated)
    plan = prepared(
        opened(image, known.pixel_size if isinstance(known, Sample) else pixel_size, frame),
        task,
        known,
        reward=reward,
        agent=agent,
        budget=budget,
        seed=seed,
        pick=pick,
        window=window,
        stride=stride,
        workers=workers,
        backend=backend,
        device=device,
        plugins=plugins,
    )
    return plan.run(on_trial, on_window)


def prepared(
    micrograph: Micrograph,
    task: str,
    known: Sample | Prior,
    *,
    reward: RewardLike = None,
    plugins: str | Path | Sequence[str | Path] = (),
    **how: Any,
) -> Plan:
    """The plan for one image; ``how`` holds the other fields of ``Plan``.

    Raises ScopegymError on bad input, before anything is searched.
    """
    plugins = [plugins] if isinstance(plugins, str | Path) else plugins
    load_plugins(plugins)
    judged_by, files = _reward(tasks[task].reward, reward)
    if isinstance(known, Prior):
        expectation = Expectation(known)
    else:
        micrograph = known.calibrated(micrograph)
        expectation = known.expect(micrograph, counted="count" in judged_by.needs)
    problem = Problem(micrograph, expectation.prior, tasks[task], judged_by)
    return Plan(problem=problem, expectation=expectation, plugins=(*plugins, *files), **how)


def opened(image: ImageLike, pixel_size: str | None = None, frame: int | None = None) -> Micrograph:
    """The image, or one frame of it, as a micrograph with the given pixel size, if any.

    Raises ScopegymError when it cannot be read as an image.
    """
    if isinstance(image, str | Path):
        micrograph = load(image, pixel_size)
    else:
        micrograph = image if isinstance(image, Micrograph) else _from_array(image)
        if pixel_size is not None:
            micrograph = replace(micrograph, pixel_size_nm=parse_pixel_size(pixel_size))
    if frame is None:
        return micrograph
    if not isinstance(frame, Integral):
        raise ScopegymError(f"A frame is a whole number from 0, not {frame!r}.")
    return micrograph.frame(int(frame))


def _from_array(image: ArrayLike) -> Micrograph:
    try:
        pixels = np.asarray(image)
    except ValueError:  # rows of unequal length
        pixels = np.empty(0, dtype=object)
    if pixels.dtype.kind not in "biuf":
        raise ScopegymError(
            "An image is a path, an array of real numbers [H, W] or a Micrograph, not "
            f"{type(image).__name__}."
        )
    return Micrograph(pixels, name="array")


def _known(sample: Sample | None, prior: Prior | None, stated: dict[str, Any]) -> Sample | Prior:
    """The sample or prior of the image. Raises ScopegymError when several are given."""
    if not isinstance(sample, Sample | None):
        raise ScopegymError(f"A sample must be a Sample, not {sample!r}.")
    if not isinstance(prior, Prior | None):
        raise ScopegymError(f"A prior must be a Prior, not {prior!r}.")
    if sample is None and prior is None:
        ways = ("crystal", "density_per_nm2", "spacing")
        return Sample(**{"estimate": not any(way in stated for way in ways), **stated})
    if prior is not None:
        stated.pop("pixel_size", None)
    if stated or (sample is not None and prior is not None):
        also = next(iter(stated), "prior")
        raise ScopegymError(
            f"Describe the sample only once: '{also}' is not allowed beside "
            f"{'a sample' if sample else 'a prior'}."
        )
    return sample or prior  # type: ignore[return-value]


def _reward(own: Reward, asked: RewardLike) -> tuple[Reward, list[Path]]:
    """The requested reward, and the plug-in files of its terms."""
    if isinstance(asked, Reward):
        return asked, []
    terms = [asked] if isinstance(asked, str) else asked or ()
    if not (isinstance(terms, Sequence) and all(isinstance(term, str) for term in terms)):
        raise ScopegymError(f"A reward is a Reward or names of terms to add, not {asked!r}.")
    files = []
    for entry in terms:
        file, _, term = entry.rpartition(":")
        if file:
            load_plugin(file)
            files.append(Path(file))
        own = own.plus(term)
    return own, files
