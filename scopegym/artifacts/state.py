"""The artifacts of a workflow between two steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from scopegym.artifacts.base import Artifact
from scopegym.artifacts.frames import Frames
from scopegym.artifacts.kinds import Image, Source
from scopegym.errors import ScopegymError

A = TypeVar("A", bound=Artifact)


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
