"""What all artifacts share: frozen values with read-only arrays and a key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

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
