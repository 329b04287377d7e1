"""Shared parts of the contracts: the failure of a check, and test inputs."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from scopegym.artifacts import (
    Array,
    Features,
    Instances,
    Labels,
    Points,
    Quantity,
    Source,
    State,
    Tracks,
)
from scopegym.datasets.patterns import lattice
from scopegym.datasets.simulate import draw_columns
from scopegym.micrograph import Micrograph
from scopegym.prior import Lattice, Prior
from scopegym.registry import Registry

Check = Callable[[Any], None]


def require(fulfilled: Any, message: str) -> None:
    """Raise AssertionError with this message unless the condition is fulfilled."""
    if not fulfilled:
        raise AssertionError(message)


@cache
def crystal(spacing: float = 10.0, shape: tuple[int, int] = (170, 180)) -> Micrograph:
    """A square lattice of columns in slight noise; the truth is their positions."""
    yx, weights = lattice(spacing).positions((-0.5, -0.5), np.array(shape) - 0.5)
    weights = np.where(np.arange(len(yx)) % 2, 1.0, 0.6)
    image = draw_columns(shape, yx, weights, 0.18 * spacing, np.zeros(shape[0]))
    image += np.random.default_rng(1).normal(0, 0.05, shape)
    truth = Points(yx, shape, np.full(len(yx), 0.18 * spacing), weights)
    return Micrograph(image, name=f"lattice of {spacing:g} px", truth=truth)


def prior_of(spacing: float) -> Prior:
    """The prior of ``crystal``."""
    return Prior(
        scale_px=spacing,
        count=200.0,
        neighbour_sums_px=(4 * spacing,),
        parts=(Lattice(((spacing, 0.0), (0.0, spacing))),),
    )


def full_state(source: Source, points: Points) -> State:
    """A state that holds an artifact of every kind, made without any operator."""
    rng = np.random.default_rng(6)
    height, width = source.shape
    centres = np.stack(np.meshgrid(range(0, height, 7), range(0, width, 7), indexing="ij"), -1)
    centres = centres.reshape(-1, 2)
    side = centres[:, 1] > 0.4 * width
    labels = (np.arange(width) > width / 2) + (rng.random((height, width)) > 0.97)
    state = State.start(source)
    for artifact in (
        points,
        Features(rng.normal(size=(len(centres), 6)) + 4 * side[:, None], centres, source.shape),
        Labels(labels.astype(np.int32)),
        Instances(np.array(BOXES), source.shape, np.array([0.9, 0.5]), np.array([0, 1])),
        Tracks(np.array(ROWS), source.shape),
        Quantity(float(len(points)), "columns", 1.0),
    ):
        state = state.with_artifact(artifact)
    return state


def state_of(micrograph: Micrograph) -> State:
    """A full state of ``crystal``: positions a little off the truth, of two classes."""
    rng = np.random.default_rng(5)
    truth = micrograph.truth
    assert isinstance(truth, Points)
    yx = truth.yx + rng.normal(0, 0.2 * truth.sigma_px[0], truth.yx.shape)
    points = Points(
        yx,
        truth.shape,
        truth.sigma_px,
        0.2 + truth.strength * rng.random(len(yx)),
        np.where((yx < 0.4 * np.array(truth.shape)).all(axis=1), -1, truth.strength < 0.8),
        -np.abs(rng.normal(size=len(yx))),
    )
    return full_state(micrograph.normalized(), points[points.inner(0)])


#: Objects (y0, x0, y1, x1) [px], and rows of tracks: identity, frame, y [px], x [px].
BOXES = ((0.0, 0.0, 4.0, 4.0), (2.0, 2.0, 8.0, 9.0))

ROWS = ((0.0, 0.0, 1.0, 1.0), (0.0, 1.0, 1.5, 1.0))


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(height + 100 * width).random((height, width))


#: Possible but difficult images of a microscope.
HOSTILE_IMAGES: Mapping[str, Callable[[], Array]] = {
    "constant": lambda: np.full((20, 24), 0.5),
    "black": lambda: np.zeros((20, 24)),
    "1 x 1": lambda: noise(1, 1),
    "1 x 50": lambda: noise(1, 50),
    "50 x 1": lambda: noise(50, 1),
    "3 x 3": lambda: noise(3, 3),
    "offset": lambda: 1e6 + noise(40, 44),
    "range": lambda: 1e6 * noise(40, 44),
    "hot pixel": lambda: np.where(np.arange(40 * 44).reshape(40, 44) == 777, 1e6, noise(40, 44)),
    "negative": lambda: -noise(40, 44),
    "faint": lambda: 1e-30 * noise(40, 44),
    "step": lambda: np.repeat([[0.0, 1.0]], 40, axis=0).repeat(22, axis=1),
}

#: Positions (y, x) [px] in a field of 40 x 44 px.
HOSTILE_POINTS: Mapping[str, Sequence[Sequence[float]]] = {
    "none": [],
    "one": [[20.0, 21.0]],
    "identical": [[20.0, 21.0]] * 5,
    "corners": [[-0.5, -0.5], [-0.5, 43.5], [39.5, -0.5], [39.5, 43.5]],
    "edges": [[0.0, 20.0], [39.0, 20.0], [20.0, 0.0], [20.0, 43.0]],
    "in a row": [[20.0, 4.0 * i] for i in range(11)],
}


def hostile_states() -> Iterator[tuple[str, State]]:
    """Difficult states, each with its name."""
    for name, picture in HOSTILE_IMAGES.items():
        source = Source(picture())
        middle = (np.array(source.shape) - 1) / 2
        yield (
            f"the image '{name}'",
            full_state(source, Points(np.stack([middle, middle / 2]), source.shape)),
        )
    for name, rows in HOSTILE_POINTS.items():
        yx = np.reshape(rows, (-1, 2))
        for strength in (np.nan, 1.0, np.resize([np.nan, -1.0, 0.0, 2.0], len(yx))):
            points = Points(yx, (40, 44), strength=np.broadcast_to(strength, len(yx)))
            for source in (Source(noise(40, 44)), Source(np.zeros((40, 44)))):
                yield f"the points '{name}'", full_state(source, points)


def contents(state: State) -> dict[str, tuple[bytes, ...]]:
    held = {"source": state.source, **{type(a).__name__: a for a in state.artifacts}}
    return {
        name: tuple(array.tobytes() for array in artifact.arrays) for name, artifact in held.items()
    }


def check_declared(kind: str, entry: Any, registry: Registry[Any]) -> None:
    require(registry.get(entry.name) is entry, f"The {kind} '{entry.name}' is not registered.")
    first = entry.__doc__.split("\n\n")[0].replace("\n", " ").strip()
    require(
        re.fullmatch(r"((?!\. [A-Z]).)+\.", first),
        f"The docstring of {kind} {entry.name} has to begin with one sentence and an empty line.",
    )


def check_pickle(kind: str, entry: Any) -> None:
    try:
        there = pickle.loads(pickle.dumps(entry))
    except Exception as error:
        raise AssertionError(
            f"The {kind} {entry.name} cannot travel to a worker: {type(error).__name__}: {error}."
        ) from error
    require(there.name == entry.name, f"The {kind} {entry.name} is another one in a worker.")


def carry_out(checks: Sequence[Check], entry: Any) -> tuple[str, ...]:
    for check in checks:
        check(entry)
    return tuple((check.__doc__ or "").splitlines()[0] for check in checks)
