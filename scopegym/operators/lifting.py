"""An operator written for one image, applied to every frame of a stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scopegym import cache
from scopegym.artifacts import Artifact, Frames, Image, Labels
from scopegym.errors import FrameError, ScopegymError
from scopegym.limits import LimitExceededError, MemoryExceededError

if TYPE_CHECKING:
    from scopegym.operators.base import Operator

#: Kinds as large as the image: their frames are computed on demand and never all in memory.
LARGE = (Image, Labels)


@dataclass(frozen=True, eq=False)
class LiftedParts:
    """The results of an operator for every frame, computed on demand.

    The current cache keeps them under the derivation of the single frame.
    """

    operator: Operator
    #: Inputs of the operator, in order: artifacts and a prior for all frames, or ``Frames``.
    inputs: tuple[Any, ...]
    pixels: dict[str, Any]

    def __len__(self) -> int:
        return len(stack_of(self.inputs))

    def key(self, index: int) -> str:
        """The key of the result for one frame."""
        parents = (
            read.frame_key(index) if isinstance(read, Frames) else read.key for read in self.inputs
        )
        return self.operator.derived_key(parents, self.pixels)

    def __getitem__(self, index: int) -> Artifact:
        key = self.key(index)

        def compute() -> Artifact:
            read = (each[index] if isinstance(each, Frames) else each for each in self.inputs)
            result: Artifact = self.operator.carried_out([*read], self.pixels)
            return result.derived(key)

        try:
            return cache.current().get(key, compute)
        except (FrameError, LimitExceededError, MemoryExceededError):
            raise
        except Exception as error:
            kind = "" if isinstance(error, ScopegymError) else f"{type(error).__name__}: "
            raise FrameError(f"Frame {index}: {kind}{error}") from error


def stack_of(inputs: tuple[Any, ...]) -> Frames[Any]:
    """The first stack among the inputs. Raises ScopegymError when their lengths differ."""
    stacks = [read for read in inputs if isinstance(read, Frames)]
    lengths = {len(stack) for stack in stacks}
    if len(lengths) > 1:
        raise ScopegymError(f"The stacks differ in length: {sorted(lengths)} frames.")
    return stacks[0]


def lifted(
    operator: Operator, inputs: tuple[Any, ...], pixels: dict[str, Any], derivation: str
) -> Frames[Any]:
    """The results for every frame, with their derivation as key.

    Results as large as an image are computed on demand, all others now.
    """
    parts: Any = LiftedParts(operator, inputs, pixels)
    if not issubclass(operator.output, LARGE):
        parts = tuple(parts[index] for index in range(len(parts)))
    shape = stack_of(inputs).shape
    kind: Callable[..., Frames[Any]] = Frames[operator.output]  # type: ignore[name-defined]
    return kind(parts, shape, derivation=derivation)
