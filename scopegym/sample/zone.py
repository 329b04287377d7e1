"""Zone axes: lattice directions parallel to the electron beam."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from scopegym.errors import ScopegymError

#: Along higher indices columns overlap: the projected cell shrinks, but not its number of atoms.
LARGEST_INDEX = 20
Zone = tuple[int, int, int]


def parse_zone(zone: str | Sequence[int]) -> Zone:
    """Read a zone axis [uvw] written as ``1,0,0``, ``[1 -1 0]``, ``[1-10]`` or three integers.

    A common divisor is removed. Raises ScopegymError unless there are three integers of at most 20,
    not all zero.
    """
    complaint = ScopegymError(
        f"The zone axis '{zone}' must be three integers from -{LARGEST_INDEX} to {LARGEST_INDEX}, "
        "not all zero, such as 1,0,0."
    )
    if isinstance(zone, str):
        text = zone.strip().strip("[]()")
        apart = re.search(r"[\s,]", text.strip())
        numbers = re.split(r"[\s,]+", text.strip()) if apart else re.findall(r"-?\d", text)
        if not apart and "".join(numbers) != text:
            raise complaint
    elif isinstance(zone, Iterable):
        numbers = [str(n) for n in zone]
    else:
        raise complaint
    try:
        values = [float(n) for n in numbers]
    except (TypeError, ValueError):
        raise complaint from None
    if len(values) != 3 or not any(values) or not all(v.is_integer() for v in values):
        raise complaint
    if max(map(abs, values)) > LARGEST_INDEX:
        raise complaint
    whole = [int(v) for v in values]
    divisor = math.gcd(*whole)
    return (whole[0] // divisor, whole[1] // divisor, whole[2] // divisor)


def direction_name(indices: Sequence[int]) -> str:
    """A lattice direction in print notation: ``[001]``, ``[1-10]``, ``[12 1 0]``."""
    wide = any(abs(i) > 9 for i in indices)
    return "[" + (" " if wide else "").join(str(int(i)) for i in indices) + "]"


def axis_name(direction: str) -> str:
    """A direction in words: ``c axis`` for ``[001]``, ``[1-10] direction`` for any other."""
    letter = dict(zip(("100", "010", "001"), "abc", strict=True)).get(re.sub(r"\D", "", direction))
    return f"{letter} axis" if letter else f"{direction} direction"


def projected_basis(
    cell: NDArray[np.float64], zone: Zone
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The two shortest vectors ``[2, 3]`` [nm] of the projected lattice in space, and the lattice
    directions ``[2, 3]`` along them."""
    beam = np.array(zone) @ cell
    length = float(np.linalg.norm(beam))
    flat = np.eye(3) - np.outer(beam, beam) / length**2
    first, second = _quotient_basis(zone)

    def size(r: NDArray[np.int64]) -> float:
        return float(np.linalg.norm(r @ cell @ flat))

    while True:  # Lagrange and Gauss
        if size(first) > size(second):
            first, second = second, first
        along = (first @ cell @ flat) @ (second @ cell @ flat) / size(first) ** 2
        if round(along - 1e-9) == 0:
            break
        second = second - round(along - 1e-9) * first
    near = [first, second, first + second, first - second]
    upright = [r - round(float(r @ cell @ beam) / length**2) * np.array(zone) for r in near]
    signed = [r if r[np.flatnonzero(r)[-1]] > 0 else -r for r in upright]
    # of equally short vectors, as in a hexagonal net, take the simplest indices
    signed.sort(key=lambda r: (round(size(r), 6), int(np.abs(r).sum()), (-r[::-1]).tolist()))
    pair = signed[:2]
    pair.sort(key=lambda r: np.abs(r[::-1]).tolist(), reverse=True)
    down, right = pair
    if np.linalg.det(np.array([down @ cell, right @ cell, beam])) > 0:
        right = -right
    names = np.array(
        [_in_plane(r, float(r @ cell @ beam) / length**2, zone) for r in (down, right)]
    )
    return np.array([down, right]) @ cell @ flat, names


def _quotient_basis(zone: Zone) -> NDArray[np.int64]:
    """Two lattice vectors ``[2, 3]`` that, with the zone axis, generate the whole lattice."""
    basis = np.eye(3, dtype=np.int64)
    rest = np.array(zone, dtype=np.int64)
    # Euclid's algorithm on the coefficients: rest @ basis stays the zone axis throughout
    while np.count_nonzero(rest) > 1:
        size = np.where(rest == 0, np.iinfo(np.int64).max, np.abs(rest))
        small = int(np.argmin(size))
        large = int(np.argmax(np.where(np.arange(3) == small, -1, np.abs(rest))))
        times = rest[large] // rest[small]
        rest[large] -= times * rest[small]
        basis[small] += times * basis[large]
    return basis[rest == 0]


def _in_plane(r: NDArray[np.int64], along: float, zone: Zone) -> NDArray[np.int64]:
    """The lattice direction in the image plane along the projection of ``r``; ``r`` itself if
    no direction of small indices lies in the plane."""
    exact = r - along * np.array(zone)
    for times in range(1, 13):
        whole = np.round(exact * times)
        if np.abs(exact * times - whole).max() < 1e-6:
            return (whole / math.gcd(*whole.astype(int).tolist())).astype(np.int64)
    return r


def viewing_frame(
    cell: NDArray[np.float64], zone: Zone, down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit vectors ``[2, 3]`` of the image's y (down) and x (right), looking along the zone."""
    beam = np.array(zone) @ cell
    y = down / np.linalg.norm(down)
    return np.array([y, np.cross(y, beam / np.linalg.norm(beam))])
