"""Replay a recipe on images, and compare with what it scored when it was made."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scopegym.artifacts import Points, State
from scopegym.envs.problem import Problem, Trial
from scopegym.envs.problem import registry as tasks
from scopegym.errors import ScopegymError
from scopegym.experiments.belief import Verdict, verdict
from scopegym.experiments.findings import Outcome
from scopegym.experiments.windows import judged, rerun
from scopegym.micrograph import Micrograph
from scopegym.plain import SHARE, read_bytes
from scopegym.prior import Prior
from scopegym.rewards.base import Reward
from scopegym.sample import Expectation
from scopegym.sample.sample import resolvable
from scopegym.workflow import Recipe

#: Largest difference of equal scores; library versions differ in the last digits.
SAME_SCORE = 1e-4
#: A table is no larger than this [bytes].
LARGEST_TABLE = 16 * 2**20
#: A table of recipes and the images they were made for, as ``benchmark`` writes it; the last
#: columns but one name files, seen from the table's folder.
TABLE_COLUMNS = (
    "image",
    "regime",
    "agent",
    "seed",
    "score",
    "truth",
    "image_file",
    "recipe_file",
    "workflow",
)


class Row(NamedTuple):
    """A line of a table of recipes: the files, and the score that the table states."""

    recipe: Path
    image: Path
    score: float


def read_table(path: Path) -> list[Row]:
    """The recipes of a table and their images.

    Raises ScopegymError when it cannot be read, lacks a column or has no line.
    """
    content = read_bytes(path, LARGEST_TABLE, "The table")
    try:
        rows = [*csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""))]
    except (ValueError, csv.Error):
        raise ScopegymError(f"The table '{path}' cannot be read: not a table.") from None
    if not rows:
        raise ScopegymError(f"The table '{path}' has no line.")
    found: dict[str, Row] = {}
    for number, row in enumerate(rows, 1):
        try:
            files = (row["recipe_file"], row["image_file"])
            recipe, image = (path.parent / name for name in files)
            score = SHARE.check(float(row["score"]), "The score")
        except (KeyError, TypeError, ValueError):
            raise ScopegymError(
                f"Line {number} of the table '{path}' needs a recipe_file, an image_file and a "
                "score from 0 to 1."
            ) from None
        for name in files:
            _inside(path, name)
        if recipe.stem in (".", ".."):
            raise ScopegymError(
                f"Line {number} of the table '{path}' has a recipe named '{recipe.name}'; results "
                f"would be stored under '{recipe.stem}', so give it another name."
            )
        if recipe.stem in found:
            raise ScopegymError(
                f"Line {number} of the table '{path}' has a second recipe named "
                f"'{recipe.stem}'; results are stored under these names."
            )
        found[recipe.stem] = Row(recipe, image, score)
    return list(found.values())


def _inside(table: Path, name: str) -> None:
    """Raise ScopegymError when a file that a table names lies outside of the table's folder."""
    folder = table.parent.resolve()
    if folder not in (folder / name).resolve().parents:
        raise ScopegymError(
            f"The table '{table}' names '{name}', which lies outside of the table's folder; a "
            "table may only name files inside of it."
        )


@dataclass(frozen=True, eq=False)
class Replay(Outcome):
    """A recipe's result on one image."""

    problem: Problem
    trial: Trial
    same_image: bool
    recorded: float | None
    #: The score that a table states beside the recipe, if it comes from one.
    stated: float | None = None
    #: What the recipe's windows give together, where it has windows in place of a workflow.
    merged: Points | None = None

    @property
    def state(self) -> State:
        """The state that the recipe's workflow leaves."""
        if self.merged is not None:
            return State.start(self.problem.source).with_artifact(self.merged)
        return self.problem.run(self.trial.workflow)

    @property
    def agrees(self) -> bool:
        """True when the recorded image gives the recorded score again, and also a table's score."""
        stated = self.recorded if self.stated is None else self.stated
        return (
            self.same_image
            and self.recorded is not None
            and stated is not None
            and abs(self.recorded - self.trial.score.value) <= SAME_SCORE
            and abs(stated - self.trial.score.value) <= SAME_SCORE
        )

    @property
    def verdict(self) -> Verdict:
        """Whether to believe the result. The recipe's prior is not held against the image."""
        return verdict(self.problem, self.trial.score, Expectation(self.problem.prior))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "image": self.problem.micrograph.name,
            "sha256": self.problem.micrograph.sha256,
            "same_image": self.same_image,
            "answer": dict(self.found.numbers),
            "prior": self.problem.prior.to_dict(),
            "score": {"value": self.trial.score.value, "terms": dict(self.trial.score.terms)},
            **self.verdict.to_dict(),
            "recorded": self.recorded,
            "agrees": self.agrees,
        }


def replay(recipe: Recipe, micrograph: Micrograph, stated: float | None = None) -> Replay:
    """Carry out a recipe on an image and score it with the recipe's reward and prior.

    ``stated`` is a further score to compare with. On another image the prior is adapted: lengths
    scale with the pixel size, the count with the area. Raises ScopegymError when the recipe lacks
    required entries, or when the workflow fails.
    """
    if recipe.prior is None or not isinstance(recipe.recorded.get("task"), str):
        raise ScopegymError("The recipe names no task or no prior, so it cannot be replayed.")
    task = tasks[recipe.recorded["task"]]
    image = recipe.recorded.get("image")
    image = image if isinstance(image, dict) else {}
    recorded_frame, frame = image.get("frame"), micrograph.metadata.get("frame")
    same = image.get("sha256") == micrograph.sha256 and recorded_frame == frame
    prior = recipe.prior if same else transferred(recipe.prior, image, micrograph)
    reward = Reward.from_dict(recipe.recorded.get("reward"))
    problem = Problem(micrograph, prior, task, reward)
    problem.check()
    resolvable(prior)
    windows = recipe.recorded.get("windows")
    merged = None if windows is None else rerun(problem, windows)
    trial = problem.evaluate(recipe.workflow) if merged is None else judged(problem, merged)
    if trial.failure is not None:
        raise ScopegymError(f"The recipe fails on '{micrograph.name}': {trial.failure}.")
    score = recipe.recorded.get("score")
    value = score.get("value") if isinstance(score, dict) else None
    recorded = float(value) if isinstance(value, int | float) else None
    return Replay(problem, trial, same, recorded, stated, merged)


def transferred(prior: Prior, image: dict[str, Any], micrograph: Micrograph) -> Prior:
    """The prior of the recorded image, for another one of the same material."""
    old_size, new_size = image.get("pixel_size_nm"), micrograph.pixel_size_nm
    if (old_size is None) != (new_size is None):
        raise ScopegymError(
            f"'{micrograph.name}' or the recipe's image has no pixel size, so lengths cannot be "
            "converted; give a pixel size."
        )
    zoom = 1.0 if old_size is None or new_size is None else float(old_size) / new_size
    try:
        height, width = image["shape"][-2:]
        old_shape = float(height), float(width)
    except (KeyError, TypeError, ValueError):
        raise ScopegymError("The recipe does not say how large its image was.") from None
    return prior.stretched(zoom).cropped(micrograph.shape[-2:], old_shape)
