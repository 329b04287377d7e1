"""The numeric arrays of MAT files of versions 4 and 5.

SciPy ends the process on some damaged files, so that no exception can be caught. Source: MathWorks,
"MAT-File Format", R2019b.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Largest number of elements of one file.
MAX_ELEMENTS = 100_000
#: Bytes that hold the flags, the shape and the name of an array.
_HEAD = 4096
#: Largest number of bytes from one compressed byte (deflate).
_UNFOLDS = 1032
_MATRIX, _COMPRESSED = 14, 15
#: How values are stored, by the type of their element; version 4 counts in its own order.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8"}
_STORED[13] = "u8"
_STORED_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
#: The classes of numeric arrays: double, single, and integers of 8 to 64 bits.
_NUMERIC = range(6, 16)
_COMPLEX = 0x08


@dataclass(frozen=True)
class Variable:
    """One array [rows, columns(, frames)] and where in the file its values are."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    complex: bool
    offset: int
    #: Where its compressed element begins and how long it is; ``offset`` counts from its content.
    compressed: tuple[int, int] | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of one value as it is stored."""
        return self.dtype.itemsize

    def read(self) -> NDArray[Any]:
        """The values as they are stored."""
        count = math.prod(self.shape)
        with self.path.open("rb") as stream:
            if self.compressed:
                end = self.offset + count * self.itemsize
                content = _unfolded(stream, *self.compressed, end)
                values = np.frombuffer(content, self.dtype, count, self.offset)
            else:
                stream.seek(self.offset)
                values = np.frombuffer(stream.read(count * self.itemsize), self.dtype, count)
        return values.reshape(self.shape, order="F")


class _Tag(NamedTuple):
    kind: int
    start: int
    size: int
    after: int


def variables(path: Path) -> dict[str, Variable]:
    """The arrays of 2 or 3 axes in a file, by name. Raises ValueError for a damaged file."""
    with path.open("rb") as stream:
        head = stream.read(128)
        order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
        found = _version_5(stream, path, order) if order else _version_4(stream, path)
        return {name: variable for name, variable in found if name}


def _version_5(stream: BinaryIO, path: Path, order: str) -> Iterator[tuple[str, Variable]]:
    size, at, elements = path.stat().st_size, 128, 0
    while at < size:
        stream.seek(at)
        kind, length = struct.unpack(f"{order}II", stream.read(8))
        start = at + 8
        if kind not in (_MATRIX, _COMPRESSED) or start + length > size or elements == MAX_ELEMENTS:
            raise ValueError("an element is no array, ends outside the file or is one too many")
        if kind == _COMPRESSED:
            head = _unfolded(stream, start, length, _HEAD, whole=False)
            inner = _tag(head, 0, order)
            if inner.kind != _MATRIX or inner.size > _UNFOLDS * length:
                raise ValueError("a compressed element holds no array")
            found = _array(head, 8, inner.after, order, path, 0, (start, length))
        else:
            head = stream.read(min(length, _HEAD))
            found = _array(head, 0, length, order, path, start, None)
        if found:
            yield found
        at, elements = start + length, elements + 1


def _array(
    head: bytes,
    at: int,
    end: int,
    order: str,
    path: Path,
    base: int,
    compressed: tuple[int, int] | None,
) -> tuple[str, Variable] | None:
    """The array whose elements begin at ``at`` of ``head`` and end at ``end``; None for others."""
    if end == at:
        return None  # an empty cell
    flags = _tag(head, at, order)
    if flags.kind != 6 or flags.size != 8:
        raise ValueError("an array does not begin with its flags")
    word = struct.unpack_from(f"{order}I", head, flags.start)[0]
    if word & 0xFF not in _NUMERIC:
        return None
    sides = _tag(head, flags.after, order)
    name = _tag(head, sides.after, order)
    values = _tag(head, name.after, order)
    if sides.kind != 5 or name.kind != 1 or name.after > len(head) or values.kind not in _STORED:
        raise ValueError("an array has no shape, name or values")
    shape = struct.unpack_from(f"{order}{sides.size // 4}i", head, sides.start)
    dtype = np.dtype(order + _STORED[values.kind])
    if min(shape, default=-1) < 0 or math.prod(shape) * dtype.itemsize != values.size:
        raise ValueError("the shape of an array and its values disagree")
    if values.start + values.size > end:
        raise ValueError("the values of an array end outside of it")
    if len(shape) not in (2, 3):
        return None
    is_complex = bool(word >> 8 & _COMPLEX)
    variable = Variable(path, shape, dtype, is_complex, base + values.start, compressed)
    text = head[name.start : name.start + name.size].decode("latin-1")
    return text, variable


def _tag(content: bytes, at: int, order: str) -> _Tag:
    """The tag of an element. The content follows it and is padded to 8 bytes."""
    kind, size = struct.unpack_from(f"{order}II", content, at)
    if kind >> 16:  # up to 4 bytes of content stand in the tag itself
        if kind >> 16 > 4:
            raise ValueError("a small element is too large")
        return _Tag(kind & 0xFFFF, at + 4, kind >> 16, at + 8)
    return _Tag(kind, at + 8, size, at + 8 + size + -size % 8)


def _unfolded(stream: BinaryIO, start: int, length: int, size: int, whole: bool = True) -> bytes:
    """The first bytes of a compressed element, as many as there are or exactly ``size``."""
    stream.seek(start)
    unfold = zlib.decompressobj()
    try:
        content = unfold.decompress(stream.read(length if whole else min(length, _HEAD)), size)
    except zlib.error as error:
        raise ValueError("a compressed element is damaged") from error
    if whole and len(content) < size:
        raise ValueError("a compressed element is cut short")
    return content


def _version_4(stream: BinaryIO, path: Path) -> Iterator[tuple[str, Variable]]:
    size, at = path.stat().st_size, 0
    while at < size:
        stream.seek(at)
        head = stream.read(20)
        order = "<" if struct.unpack("<i", head[:4])[0] in range(5000) else ">"
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", head)
        machine, rest = divmod(kind, 1000)
        reserved, rest = divmod(rest, 100)
        stored, layout = divmod(rest, 10)
        good = machine == (order == ">") and not reserved and stored < 6 and layout < 3
        if not good or min(rows, columns) < 0 or imaginary not in (0, 1) or not 0 < length < _HEAD:
            raise ValueError("an array has no valid header")
        name = stream.read(length).rstrip(b"\0").decode("latin-1")
        dtype = np.dtype(order + _STORED_4[stored])
        start = at + 20 + length
        at = start + rows * columns * dtype.itemsize * (1 + imaginary)
        if at > size:
            raise ValueError("an array ends outside the file")
        if layout == 0:
            yield name, Variable(path, (rows, columns), dtype, bool(imaginary), start)
