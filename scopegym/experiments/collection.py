"""Many images at once: the selection of files, and the problem of each image."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from scopegym.datasets.readers import SUFFIXES, load
from scopegym.envs.problem import Problem, Task
from scopegym.errors import ScopegymError
from scopegym.micrograph import Micrograph
from scopegym.rewards.base import Reward
from scopegym.sample import Expectation, Sample


def images_in(path: Path, sample: Sample) -> Sequence[Micrograph]:
    """The image in a file, or the frames of a stack, with the stated pixel size. Frames are read on
    demand."""
    return load(path, sample.pixel_size).images


def problem_of(
    micrograph: Micrograph, sample: Sample, task: Task, reward: Reward
) -> tuple[Problem, Expectation]:
    """The problem of one image, and the source of its prior."""
    micrograph = sample.calibrated(micrograph)
    expectation = sample.expect(micrograph, counted="count" in reward.needs)
    problem = Problem(micrograph, expectation.prior, task, reward)
    problem.check()
    return problem, expectation


def files(arguments: Iterable[str | Path]) -> dict[str, Path]:
    """The image files selected by files, folders (without subfolders) and patterns, by the name of
    their results.

    Raises ScopegymError when a file or folder does not exist, when a folder or pattern has no
    image, and when two files would have the same result name.
    """
    meant = (path for argument in arguments for path in _meant(argument))
    found = list({path.resolve(): path for path in meant}.values())
    if not found:
        raise ScopegymError("No image is given.")
    # Some file systems ignore case.
    shared = Counter(path.name.casefold() for path in found)
    named: dict[str, Path] = {}
    for path in found:
        alone = shared[path.name.casefold()] == 1
        name = path.name if alone else f"{path.absolute().parent.name}-{path.name}"
        if name in named:
            raise ScopegymError(
                f"'{path}' and '{named[name]}' have the same result name; use two runs."
            )
        named[name] = path
    return named


def _meant(given: str | Path) -> list[Path]:
    argument = Path(given)
    if not str(given) or "\0" in str(given):
        raise ScopegymError(f"{str(given)!r} is no name of a file or folder.")
    if argument.is_dir():
        images = [p for p in sorted(argument.iterdir()) if p.suffix.casefold() in SUFFIXES]
        images = [p for p in images if p.is_file() and not p.name.startswith(".")]
        if not images:
            raise ScopegymError(f"The folder '{argument}' holds no image ({', '.join(SUFFIXES)}).")
        return images
    if argument.exists():  # a file may be called like a pattern
        return [argument]
    if not glob.has_magic(str(argument)):
        raise ScopegymError(f"There is no file or folder '{argument}'.")
    matched = sorted(Path(p) for p in glob.glob(str(argument)))  # noqa: PTH207 - absolute ones too
    if not matched:
        raise ScopegymError(f"No file matches '{argument}'.")
    return [path for path in matched if path.is_file()]
