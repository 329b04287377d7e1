"""The kinds of artifacts that operators read and write.

Axes are (y, x) with the origin at the centre of pixel (0, 0); lengths are in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from scopegym.artifacts.base import Array, Artifact, readonly
from scopegym.errors import ScopegymError


@dataclass(frozen=True, eq=False)
class Image(Artifact):
    """A picture: ``pixels`` float32 ``[H, W]``."""

    pixels: Array

    def __post_init__(self) -> None:
        pixels = readonly(self.pixels, np.float32)
        if pixels.ndim != 2 or pixels.size == 0:
            raise ScopegymError(f"An image has two axes (y, x); this one is {pixels.shape}.")
        object.__setattr__(self, "pixels", pixels)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) [px]."""
        return self.pixels.shape

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.pixels, dtype=dtype, copy=copy)


@dataclass(frozen=True, eq=False)
class Source(Image):
    """The picture before any operator. Rewards compare results with it."""


@dataclass(frozen=True, eq=False)
class Points(Artifact):
    """Positions found in a field of ``shape`` (H, W): ``yx`` ``[N, 2]``, ``sigma_px`` and
    ``strength`` ``[N]`` (NaN if the detector does not measure it).

    ``classes`` ``[N]`` start at 0 for the brightest kind; -1 marks an outlier. All are 0 until a
    step assigns classes. ``log_likelihood`` ``[N]`` [nats] is the log-likelihood of a point's
    features under the model that made the classes, NaN without a model.
    """

    yx: Array
    shape: tuple[int, int]
    sigma_px: Array = None  # type: ignore[assignment]  # filled below
    strength: Array = None  # type: ignore[assignment]
    classes: Array = None  # type: ignore[assignment]
    log_likelihood: Array = None  # type: ignore[assignment]

    #: Further columns, one value per point.
    COLUMNS: ClassVar = ("sigma_px", "strength", "classes", "log_likelihood")

    def __post_init__(self) -> None:
        yx = readonly(np.reshape(self.yx, (-1, 2)), np.float64)
        if not np.isfinite(yx).all():
            raise ScopegymError("Points have finite positions; some of these are NaN or infinite.")
        object.__setattr__(self, "yx", yx)
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))
        for name in self.COLUMNS:
            dtype, unknown = (np.int32, 0) if name == "classes" else (np.float64, np.nan)
            given = getattr(self, name)
            column = np.full(len(yx), unknown) if given is None else np.reshape(given, -1)
            if len(column) != len(yx):
                raise ScopegymError(f"Points has {len(yx)} positions but {len(column)} {name}.")
            object.__setattr__(self, name, readonly(column, dtype))

    def __len__(self) -> int:
        return len(self.yx)

    @property
    def empty(self) -> bool:
        return not len(self)

    def __getitem__(self, rows: Any) -> Points:
        """The points at these rows (an index array, a mask or a slice)."""
        columns = {name: getattr(self, name)[rows] for name in self.COLUMNS}
        return Points(self.yx[rows], self.shape, **columns)

    def inner(self, margin_px: float) -> Array:
        """Which points lie at least this far from the edges of the field, ``[N]``.

        Pixels have an extent: the field reaches from -0.5 to H - 0.5.
        """
        edge = np.minimum(self.yx + 0.5, np.array(self.shape) - 0.5 - self.yx)
        return np.all(edge >= margin_px, axis=1)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        """Rows of y, x, sigma [px], the form that scikit-image's blob detectors return."""
        return np.column_stack([self.yx, self.sigma_px]).astype(dtype or np.float64)


@dataclass(frozen=True, eq=False)
class Features(Artifact):
    """Descriptors ``values`` ``[N, D]``, float64 or float32, at positions ``centres_yx``
    ``[N, 2]`` [px] in a field of ``shape`` (H, W)."""

    values: Array
    centres_yx: Array
    shape: tuple[int, int]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        single = getattr(self.values, "dtype", None) == np.float32
        values = readonly(self.values, np.float32 if single else np.float64)
        centres = readonly(np.reshape(self.centres_yx, (-1, 2)), np.float64)
        if values.ndim != 2 or len(values) != len(centres):
            raise ScopegymError(
                f"Features are [N, D] at N centres; these are {values.shape} at {len(centres)}."
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "centres_yx", centres)
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def empty(self) -> bool:
        return self.values.size == 0


@dataclass(frozen=True, eq=False)
class Labels(Artifact):
    """A class or region number for every pixel: ``map`` int32 ``[H, W]``.

    ``background`` is the label of pixels outside all regions; None if every pixel has a region.
    """

    map: Array
    background: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "map", readonly(self.map, np.int32))

    @property
    def empty(self) -> bool:
        return self.map.size == 0


@dataclass(frozen=True, eq=False)
class Instances(Artifact):
    """Objects in a field of ``shape`` (H, W): ``boxes`` ``[N, 4]`` (y0, x0, y1, x1) [px],
    ``scores`` and ``classes`` ``[N]``, ``masks`` bool ``[N, H, W]`` or None."""

    boxes: Array
    shape: tuple[int, int]
    scores: Array = None  # type: ignore[assignment]  # filled below
    classes: Array = None  # type: ignore[assignment]
    masks: Array | None = None

    def __post_init__(self) -> None:
        boxes = readonly(np.reshape(self.boxes, (-1, 4)), np.float64)
        scores = np.ones(len(boxes)) if self.scores is None else self.scores
        classes = np.zeros(len(boxes), np.int64) if self.classes is None else self.classes
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))
        object.__setattr__(self, "scores", readonly(np.reshape(scores, -1), np.float64))
        object.__setattr__(self, "classes", readonly(np.reshape(classes, -1), np.int64))
        if self.masks is not None:
            object.__setattr__(self, "masks", readonly(self.masks, np.bool_))
        lengths = {len(a) for a in (self.scores, self.classes, self.masks) if a is not None}
        if not np.isfinite(boxes).all() or lengths != {len(boxes)}:
            raise ScopegymError(
                f"Instances have finite boxes and as many scores, classes and masks; these are "
                f"{len(boxes)} boxes with {sorted(lengths)}."
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def empty(self) -> bool:
        return not len(self)

    def __getitem__(self, rows: Any) -> Instances:
        """The objects at these rows (an index array, a mask or a slice)."""
        masks = None if self.masks is None else self.masks[rows]
        return Instances(self.boxes[rows], self.shape, self.scores[rows], self.classes[rows], masks)


@dataclass(frozen=True, eq=False)
class Tracks(Artifact):
    """Identities over time in a field of ``shape`` (H, W): ``rows`` ``[N, 4]`` of identity, frame,
    y [px], x [px]."""

    rows: Array
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        rows = readonly(np.reshape(self.rows, (-1, 4)), np.float64)
        if not np.isfinite(rows).all():
            raise ScopegymError("Tracks have finite rows; some of these are NaN or infinite.")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "shape", (int(self.shape[0]), int(self.shape[1])))

    @property
    def empty(self) -> bool:
        return not len(self.rows)


@dataclass(frozen=True, eq=False)
class Quantity(Artifact):
    """A measured number: ``value`` and ``standard_error`` in ``unit``. An unknown error is NaN."""

    value: float
    unit: str = ""
    standard_error: float = float("nan")

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "standard_error", float(self.standard_error))

    @property
    def empty(self) -> bool:
        return not math.isfinite(self.value)
