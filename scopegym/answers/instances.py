"""Objects as answers: each has a box, a class, a score and optionally a mask."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopegym.answers.base import (
    AMBER,
    COLOURS,
    SIDE,
    Finding,
    Kind,
    View,
    adversary,
    answer_kind,
    decades,
    seam,
)
from scopegym.artifacts import Array, Instances, State
from scopegym.frozen import FrozenDict
from scopegym.metrics import match_boxes
from scopegym.prior import Prior

if TYPE_CHECKING:
    from scopegym.envs.problem import Problem

#: Least overlap (intersection over union) of a correct object, as in the published counts of
#: dislocation loops.
IOU = 0.4


@answer_kind
class InstancesKind(Kind[Instances]):
    """Objects, drawn as boxes in the colour of their class."""

    artifact = Instances
    files = ("objects.csv", "objects.coco.json")
    statistic_names = ("count", "size", "certainty")

    def measure(self, truth: Instances) -> str:
        del truth
        return f"F1 at IoU {IOU:g}"

    def agreement(self, truth: Instances, found: Instances, prior: Prior) -> float:
        """F1 of boxes matched one to one, the largest overlap first; 1 if both are empty."""
        del prior
        count = len(truth) + len(found)
        return 2 * len(match_boxes(found.boxes, truth.boxes, IOU)) / count if count else 1.0

    def finding(self, answer: Instances, problem: Problem) -> Finding:
        count = len(answer)
        numbers: dict[str, Any] = {"objects": count}
        classes, counts = np.unique(answer.classes, return_counts=True)
        if len(classes) > 1:
            numbers["classes"] = dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True))
        noun = problem.task.nouns.counted
        return Finding(count, noun, expected=problem.prior.count, numbers=FrozenDict(numbers))

    def write(self, answer: Instances, state: State, size_nm: float | None, folder: Path) -> None:
        """``objects.csv`` with one row per object, and ``objects.coco.json`` for other programs."""
        import pandas as pd

        y0, x0, y1, x1 = answer.boxes.T
        columns = {"class": answer.classes, "score": answer.scores}
        columns |= {"y0_px": y0, "x0_px": x0, "y1_px": y1, "x1_px": x1, "area_px": _areas(answer)}
        if size_nm is not None:
            columns["area_nm2"] = columns["area_px"] * size_nm**2
        pd.DataFrame(columns).to_csv(folder / "objects.csv", index=False, float_format="%.6g")
        height, width = state.source.shape
        coco = {
            "images": [{"id": 1, "file_name": "", "height": height, "width": width}],
            "categories": [
                {"id": int(number) + 1, "name": f"class {number}"}
                for number in np.unique(answer.classes)
            ],
            "annotations": [_annotation(answer, row) for row in range(len(answer))],
        }
        text = json.dumps(coco, indent=1, allow_nan=False) + "\n"
        (folder / "objects.coco.json").write_text(text, encoding="utf-8")

    def draw(self, answer: Instances, axes: Any, prior: Prior, zoom: float) -> None:
        """The outline of every mask, or the box if there is no mask."""
        from matplotlib.collections import LineCollection

        del prior, zoom
        one_class = len(np.unique(answer.classes)) < 2
        colours = [AMBER if one_class else COLOURS[c % len(COLOURS)] for c in answer.classes]
        width = 1.5
        lines = LineCollection(list(_outlines(answer)), colors=colours, linewidths=width)
        lines.set_path_effects(seam(width))
        axes.add_collection(lines)

    def statistics(self, answer: Instances, prior: Prior) -> Array:
        area = np.prod(answer.boxes[:, 2:] - answer.boxes[:, :2], axis=1)
        size = np.sqrt(np.median(area)) / prior.scale_px if len(area) else 0.0
        certainty = answer.scores.mean() if len(area) else 0.0
        return np.array([decades(len(area) / 1000), size, certainty])

    def thumbnail(self, answer: Instances, view: View) -> Array:
        top, left, height, width = view
        zoom = np.array([SIDE / height, SIDE / width] * 2)
        picture = np.zeros((SIDE, SIDE), np.uint8)
        for y0, x0, y1, x1 in ((answer.boxes - (top, left, top, left)) * zoom).astype(int):
            low_y, low_x = max(y0, 0), max(x0, 0)
            part = picture[low_y : max(y1 + 1, low_y), low_x : max(x1 + 1, low_x)]
            part[...] = np.minimum(part.astype(int) + 96, 255)
        return picture


def _areas(answer: Instances) -> Array:
    """Area of every object [px^2]: of its mask, or of its box if there is no mask."""
    if answer.masks is not None:
        return answer.masks.sum(axis=(1, 2))
    return np.prod(answer.boxes[:, 2:] - answer.boxes[:, :2], axis=1)


def _annotation(answer: Instances, row: int) -> dict[str, Any]:
    """An object in the layout of COCO: x, y, width, height."""
    y0, x0, y1, x1 = answer.boxes[row].tolist()
    return {
        "id": row + 1,
        "image_id": 1,
        "category_id": int(answer.classes[row]) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(_areas(answer)[row]),
        "score": float(answer.scores[row]),
        "iscrowd": 0,
        "segmentation": [ring[:, :].ravel().tolist() for ring in _rings(answer, row)],
    }


def _outlines(answer: Instances) -> Iterator[Array]:
    """One closed line (x, y) ``[M, 2]`` [px] around every object; of a mask, the longest."""
    for row, (y0, x0, y1, x1) in enumerate(answer.boxes):
        rings = _rings(answer, row)
        box = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
        yield max(rings, key=len) if rings else box


def _rings(answer: Instances, row: int) -> list[Array]:
    """The outer outlines of an object's mask as closed lines (x, y) [px]; none without a mask."""
    import cv2

    if answer.masks is None:
        return []
    mask = np.ascontiguousarray(answer.masks[row], np.uint8)
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rings = (ring.reshape(-1, 2) for ring in found)
    return [np.concatenate([ring, ring[:1]]) for ring in rings if len(ring) > 2]


# Wrong answers ------------------------------------------------------------------------------------


@adversary("blank")
def no_objects(problem: Problem, truth: Instances, rng: np.random.Generator) -> Iterator[Instances]:
    """Nothing at all."""
    del problem, rng
    yield truth[:0]


@adversary("everything")
def all_objects(
    problem: Problem, truth: Instances, rng: np.random.Generator
) -> Iterator[Instances]:
    """Boxes of the usual size side by side over the whole field."""
    del problem, rng
    size = np.array(_usual(truth))
    y, x = (np.arange(0, n, max(s, 1.0)) for n, s in zip(truth.shape, size, strict=True))
    corner = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    yield _like(truth, np.hstack([corner, corner + size]))


@adversary("random places")
def random_objects(
    problem: Problem, truth: Instances, rng: np.random.Generator
) -> Iterator[Instances]:
    """The true boxes at random other positions."""
    del problem
    size = truth.boxes[:, 2:] - truth.boxes[:, :2]
    corner = rng.uniform(0, 1, (len(truth), 2)) * np.maximum(np.array(truth.shape) - size, 0)
    yield _like(truth, np.hstack([corner, corner + size]))


@adversary("right objects, shifted")
def shifted_objects(
    problem: Problem, truth: Instances, rng: np.random.Generator
) -> Iterator[Instances]:
    """Every box displaced by its own height and width."""
    del problem, rng
    size = truth.boxes[:, 2:] - truth.boxes[:, :2]
    yield _like(truth, truth.boxes + np.hstack([size, size]))


@adversary("right places, wrong size")
def resized_objects(
    problem: Problem, truth: Instances, rng: np.random.Generator
) -> Iterator[Instances]:
    """Boxes of half and twice the height and width at the true centres."""
    del problem, rng
    middle = (truth.boxes[:, 2:] + truth.boxes[:, :2]) / 2
    half = (truth.boxes[:, 2:] - truth.boxes[:, :2]) / 2
    for factor in (0.5, 2.0):
        yield _like(truth, np.hstack([middle - factor * half, middle + factor * half]))


def _usual(truth: Instances) -> tuple[float, float]:
    """Median height and width of the objects [px]; an eighth of the field if there are none."""
    if truth.empty:
        return truth.shape[0] / 8, truth.shape[1] / 8
    height, width = np.median(truth.boxes[:, 2:] - truth.boxes[:, :2], axis=0)
    return max(float(height), 1.0), max(float(width), 1.0)


def _like(truth: Instances, boxes: Array) -> Instances:
    """Boxes of the most frequent class with default scores, and full masks if the truth has
    masks."""
    common = int(np.bincount(truth.classes).argmax()) if len(truth) else 0
    masks = None
    if truth.masks is not None:
        masks = np.zeros((len(boxes), *truth.shape), bool)
        for mask, (y0, x0, y1, x1) in zip(masks, boxes, strict=True):
            mask[max(math.floor(y0), 0) : math.ceil(y1), max(math.floor(x0), 0) : math.ceil(x1)] = 1
    return Instances(boxes, truth.shape, None, np.full(len(boxes), common), masks)  # type: ignore[arg-type]
