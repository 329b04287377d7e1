"""Artifacts: what operators read and write. All are frozen, and all arrays are read-only."""

from scopegym.artifacts.base import Array, Artifact, array_digest, digest, readonly
from scopegym.artifacts.frames import Frames, Parts
from scopegym.artifacts.kinds import (
    Features,
    Image,
    Instances,
    Labels,
    Points,
    Quantity,
    Source,
    Tracks,
)
from scopegym.artifacts.state import State, is_kind, kind_of

__all__ = [
    "Array",
    "Artifact",
    "Features",
    "Frames",
    "Image",
    "Instances",
    "Labels",
    "Parts",
    "Points",
    "Quantity",
    "Source",
    "State",
    "Tracks",
    "array_digest",
    "digest",
    "is_kind",
    "kind_of",
    "readonly",
]
