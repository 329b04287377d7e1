"""The windows of a recipe, carried out again."""

from __future__ import annotations

from typing import Any

from scopegym.artifacts import Points
from scopegym.envs.problem import Problem
from scopegym.errors import ScopegymError
from scopegym.experiments.windows.grid import merge, part, tiled
from scopegym.plain import Anything, Items, Record, Whole, checked
from scopegym.workflow import LONGEST, Workflow

#: What a recipe says of its windows; their workflows are read one by one.
RECORDED = Record(
    {
        "size": Whole(1, 10**6),
        "stride": Whole(1, 10**6),
        "workflows": Items(Anything(), 1, LONGEST),
    }
)


def rerun(problem: Problem, recorded: Any) -> Points:
    """The merged points that the windows of a recipe give on an image of the same shape.

    Raises ScopegymError when they are malformed, are those of another shape, or when one fails.
    """
    checked(RECORDED, recorded, "The recipe's entry 'windows'")
    grid = tiled(problem, recorded["size"], recorded["stride"])
    workflows = [w if w is None else Workflow.from_dict(w) for w in recorded["workflows"]]
    if len(workflows) != len(grid):
        raise ScopegymError(
            f"The recipe has {len(workflows)} windows, and '{problem.micrograph.name}' takes "
            f"{len(grid)} of that size; such a recipe fits images of one shape."
        )
    found = {}
    for window, workflow in zip(grid, workflows, strict=True):
        if workflow is None:
            continue
        smaller = part(problem, window)
        failure = smaller.evaluate(workflow).failure
        points = None if failure else smaller.run(workflow).get(Points)
        if points is None:
            raise ScopegymError(f"The recipe fails in window {window}: {failure or 'no points'}.")
        found[window] = points
    return merge(grid, found, problem.prior.scale_px)
