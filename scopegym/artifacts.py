"""What operators read and write. All frozen, all arrays read-only.

Axes are (y, x) with the origin at the centre of pixel (0, 0); lengths are in pixels.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from scopegym.errors import ScopegymError

#: An array; the docstring of the class that holds it states axes and type.
Array = NDArray[Any]


def readonly(array: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """A contiguous, read-only view of the array."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def digest(*parts: bytes | memoryview | str) -> str:
    """Hash of the parts in order, 32 hexadecimal digits."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()[:32]


def array_digest(array: Array) -> str:
    """Hash of an array: its type, its shape and its bytes."""
    # A flat view of the bytes: an empty array has no memory to cast.
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""
    return digest(f"{array.dtype.str}{array.shape}", content)


@dataclass(frozen=True, eq=False)
class Artifact:
    """Base class of all values that pass from step to step."""

    #: Key of the derivation; None for an artifact made by hand.
    derivation: str | None = field(default=None, kw_only=True, repr=False)

    @cached_property
    def key(self) -> str:
        """Identity for caches: the derivation if known, otherwise the hash of the content."""
        if self.derivation is not None:
            return self.derivation
        others = [
            repr(value)
            for name, value in sorted(vars(self).items())
            if name != "derivation" and not isinstance(value, np.ndarray)
        ]
        return digest(type(self).__name__, *map(array_digest, self.arrays), *others)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays that make up the content."""
        return tuple(v for v in vars(self).values() if isinstance(v, np.ndarray))

    @property
    def nbytes(self) -> int:
        """Memory held by the arrays [bytes]."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def empty(self) -> bool:
        """True when the artifact has nothing to score, for example no rows."""
        return False

    def derived(self, derivation: str) -> Self:
        """The same content under the name of its derivation."""
        return replace(self, derivation=derivation)


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


A = TypeVar("A", bound=Artifact)
A_co = TypeVar("A_co", bound=Artifact, covariant=True)


def kind_of(artifact: type[Artifact]) -> type[Artifact]:
    """The kind under which a state holds artifacts of a class.

    This is the direct subclass of ``Artifact`` among the class and its bases. Frames replace a
    single artifact of their kind.
    """
    if issubclass(artifact, Frames):
        artifact = artifact.kind
    return next(base for base in artifact.__mro__ if Artifact in base.__bases__)


def is_kind(hint: Any) -> bool:
    """Whether a type hint is a kind of artifact that a state can hold, or frames of one."""
    if isinstance(hint, type) and issubclass(hint, Frames):
        return hint.kind is Source or is_kind(hint.kind)
    return isinstance(hint, type) and Artifact in hint.__bases__


@dataclass(frozen=True, eq=False)
class State:
    """The latest artifact of each kind, and the source all of them came from.

    Every subclass of ``Artifact`` is a kind, also one in a plug-in.
    """

    source: Source
    artifacts: tuple[Artifact, ...]

    @classmethod
    def start(cls, source: Source) -> State:
        """The state before the first step: the current image is the source itself, or its frames
        (``Frames[Source]``)."""
        return cls(source, (source,))

    @property
    def image(self) -> Image:
        """The current image."""
        image = self.get(Image)
        assert image is not None
        return image

    def get(self, kind: type[A]) -> A | None:
        """The artifact of this kind, None if no step has made one."""
        held = (self.source,) if kind in (Source, Frames[Source]) else self.artifacts
        return next((artifact for artifact in held if isinstance(artifact, kind)), None)

    def need(self, kind: type[A]) -> A:
        """The artifact of this kind. Raises ScopegymError when no step has made one."""
        artifact = self.get(kind)
        if artifact is None:
            raise ScopegymError(f"No step has made {kind.__name__}.")
        return artifact

    def with_artifact(self, artifact: Artifact) -> State:
        """A copy of this state in which the artifact replaces the one of its kind."""
        kind = kind_of(type(artifact))
        others = (former for former in self.artifacts if kind_of(type(former)) is not kind)
        return State(self.source, (*others, artifact))


# Frames -----------------------------------------------------------------------------------------


class Parts(Protocol[A_co]):
    """The artifacts of frames, computed on demand."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> A_co: ...

    def key(self, index: int) -> str:
        """The key of one of them, known without computing it."""


@dataclass(frozen=True, eq=False)
class Frames(Artifact, Generic[A]):
    """One artifact per frame of a stack: ``Frames[Points]`` holds points. ``shape`` (T, H, W) [px].

    ``parts`` are the artifacts, or compute them on demand to save memory. ``Frames[kind]`` is a
    separate class. ``Frames[Source]`` is a subclass of ``Frames[Image]``.
    """

    parts: Sequence[A] | Parts[A]
    shape: tuple[int, ...] = ()

    #: What the frames hold.
    kind: ClassVar[type[Artifact]] = Artifact

    def __post_init__(self) -> None:
        if not hasattr(self.parts, "key"):
            object.__setattr__(self, "parts", tuple(self.parts))
            wrong = [part for part in self.parts if not isinstance(part, self.kind)]
            if wrong:
                raise ScopegymError(
                    f"{type(self).__name__} holds {self.kind.__name__}, not a "
                    f"{type(wrong[0]).__name__}."
                )
        if len(self.parts) == 0:
            raise ScopegymError(f"{type(self).__name__} needs at least one frame.")
        first = () if self.shape or self.lazy else getattr(self.parts[0], "shape", ())
        object.__setattr__(self, "shape", tuple(self.shape or (len(self.parts), *first)))

    if not TYPE_CHECKING:

        @classmethod
        @cache
        def __class_getitem__(cls, kind):
            if not (isinstance(kind, type) and issubclass(kind, Artifact)):
                return super().__class_getitem__(kind)  # a type variable
            above = kind.__mro__[1]
            base = Frames if kind is Artifact or above is Artifact else Frames[above]
            name = f"Frames[{kind.__name__}]"
            return type(name, (base,), {"kind": kind, "__module__": __name__, "__doc__": None})

    def __reduce__(self) -> tuple[Any, ...]:
        return _frames, (self.kind, self.parts, self.shape, self.derivation)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> A:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self.parts[index]

    def __iter__(self) -> Iterator[A]:
        return (self[index] for index in range(len(self)))

    @property
    def lazy(self) -> bool:
        """Whether the frames are computed on demand."""
        return not isinstance(self.parts, tuple)

    def frame_key(self, index: int) -> str:
        """The key of one frame, without computing the frame."""
        if isinstance(self.parts, tuple):
            key: str = self.parts[index].key
            return key
        return self.parts.key(index)  # type: ignore[union-attr]

    @cached_property
    def key(self) -> str:
        """Identity for caches: the derivation if there is one, otherwise the keys of all frames."""
        if self.derivation is not None:
            return self.derivation
        return digest(type(self).__name__, *map(self.frame_key, range(len(self))))

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays held in memory."""
        return () if self.lazy else tuple(array for part in self for array in part.arrays)

    @property
    def empty(self) -> bool:
        """True when no frame holds anything."""
        return not self.lazy and all(part.empty for part in self)


def _frames(kind: type[Artifact], parts: Any, shape: Any, derivation: str | None) -> Frames[Any]:
    return Frames[kind](parts, shape, derivation=derivation)  # type: ignore[valid-type]
