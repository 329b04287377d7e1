"""One artifact per frame of a stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from scopegym.artifacts.base import Array, Artifact, digest
from scopegym.errors import ScopegymError

A = TypeVar("A", bound=Artifact)
A_co = TypeVar("A_co", bound=Artifact, covariant=True)


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
