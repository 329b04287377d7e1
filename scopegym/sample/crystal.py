"""Crystals, and what an electron beam along a zone axis shows of them."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.artifacts import array_digest, digest, readonly
from scopegym.errors import ScopegymError, one_line, unknown
from scopegym.frozen import FrozenDict
from scopegym.limits import Limits, limited
from scopegym.plain import read_bytes
from scopegym.prior import Prior, Vector

#: High-angle scattering grows as Z to this power (no unit). Pennycook and Jesson, Phys. Rev. Lett.
#: 64, 938 (1990) derive 2, the unscreened Rutherford limit; Treacy, Microsc. Microanal. 17, 847
#: (2011) finds 1.6 to 1.8 for the inner detector angles in common use.
ATOMIC_NUMBER_EXPONENT = 1.7
#: Columns nearer than this [nm] show as one: about the resolution limit of an aberration-corrected
#: scanning microscope (Erni et al., Phys. Rev. Lett. 102, 096101 (2009): 47 pm).
MERGE_NM = 0.06
#: Columns weaker than this share of the strongest are lost beside it (O beside Ba: 0.03).
VISIBLE = 0.15
#: Neighbours that the density rule of the reward sums over.
NEIGHBOURS = 4
#: Along higher indices columns overlap, and the projected cell has as many atoms as ever.
LARGEST_INDEX = 20
#: A CIF file is no larger [bytes] and takes no longer to read [s]; a cell holds at most so many
#: atoms, with edges of so many Å.
LARGEST_CIF, CIF_SECONDS, MOST_ATOMS, EDGES_ANGSTROM = 16 * 2**20, 5.0, 2000, (0.5, 1000.0)
#: Positions one field may hold; more is a wrong pixel size, not an image.
MOST_POSITIONS = 5_000_000

Zone = tuple[int, int, int]


def parse_zone(zone: str | Sequence[int]) -> Zone:
    """Read a zone axis [uvw] written as ``1,0,0``, ``[1 -1 0]``, ``[1-10]`` or three integers.

    A common divisor is taken out. Raises ScopegymError unless it is three integers of at most 20,
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
    else:
        numbers = [str(n) for n in zone]
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
    """A lattice direction as it is written in print: ``[001]``, ``[1-10]``, ``[12 1 0]``."""
    wide = any(abs(i) > 9 for i in indices)
    return "[" + (" " if wide else "").join(str(int(i)) for i in indices) + "]"


def axis_name(direction: str) -> str:
    """A direction in words: ``c axis`` for ``[001]``, ``[1-10] direction`` for any other."""
    letter = dict(zip(("100", "010", "001"), "abc", strict=True)).get(re.sub(r"\D", "", direction))
    return f"{letter} axis" if letter else f"{direction} direction"


class Positions(NamedTuple):
    """Columns in a field: ``yx`` ``[N, 2]`` [px], and ``kind`` ``[N]``, their row in
    ``Projection.columns``."""

    yx: NDArray[np.float64]
    kind: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Projection:
    """A crystal seen along a zone axis: the columns that show, in the projected unit cell.

    ``lattice_nm`` are two lattice vectors (y, x) [nm]. The viewer looks along [uvw], y runs down
    and x to the right, as rows and columns of an image do. The first vector points straight down:
    of the two shortest lattice vectors it is the one with the larger share of c (then of b); the
    second points to the right. So along [100] c is vertical and b horizontal. ``axes`` names the
    crystal direction of each vector.

    ``columns`` ``[N, 2]`` are fractions of the two vectors in [0, 1), ``weights`` ``[N]`` the
    brightness per length of beam path relative to the strongest, ``labels`` the species in order
    of their share.
    """

    lattice_nm: tuple[Vector, Vector]
    columns: NDArray[np.float64]
    weights: NDArray[np.float64]
    labels: tuple[str, ...]
    axes: tuple[str, str] = ("first", "second")
    crystal: str = ""
    zone: Zone = (0, 0, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", readonly(np.reshape(self.columns, (-1, 2)), float))
        object.__setattr__(self, "weights", readonly(self.weights, float))
        if not len(self.columns) == len(self.weights) == len(self.labels) > 0:
            raise ScopegymError(
                f"A projection has as many columns as weights and labels and at least one, not "
                f"{len(self.columns)}, {len(self.weights)} and {len(self.labels)}."
            )

    @property
    def name(self) -> str:
        """Crystal and zone axis: ``YBa2Cu3O7 [100]``."""
        return f"{self.crystal} {direction_name(self.zone)}".strip()

    @cached_property
    def cell_area_nm2(self) -> float:
        """Area of the projected cell [nm^2]."""
        return _area(np.array(self.lattice_nm))

    @property
    def columns_per_nm2(self) -> float:
        """Visible columns per area [nm^-2]."""
        return len(self.columns) / self.cell_area_nm2

    @cached_property
    def neighbour_sums_nm(self) -> tuple[float, ...]:
        """Sum of the distances to the four nearest visible columns [nm], one per column."""
        return _neighbour_sums(self._distances(np.array(self.lattice_nm)))

    @cached_property
    def spacing_nm(self) -> float:
        """Characteristic spacing [nm]: the median over the columns of the distance to the nearest
        visible neighbour."""
        return _spacing(self._distances(np.array(self.lattice_nm)))

    def _distances(self, lattice: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances ``[N, 4]`` to the nearest visible columns, in the unit of ``lattice``."""
        from scipy.spatial import cKDTree

        # four cells to each side: a lone column in a slim cell has its four nearest along one line
        cells = np.array(list(product(range(-4, 5), repeat=2)), dtype=float)
        images = (cells[:, None] + self.columns[None]).reshape(-1, 2) @ lattice
        found, _ = cKDTree(images).query(self.columns @ lattice, k=NEIGHBOURS + 1)
        return np.asarray(found)[:, 1:]

    def lattice_px(self, pixel_size_nm: float, rotation_deg: float = 0.0) -> tuple[Vector, Vector]:
        """The lattice vectors (y, x) [px] at a pixel size; a positive rotation is
        counter-clockwise on the screen. Raises ScopegymError unless the pixel size is positive.
        """
        if not (math.isfinite(pixel_size_nm) and pixel_size_nm > 0):
            raise ScopegymError(f"The pixel size must be positive, not {pixel_size_nm} nm.")
        return _vectors(np.array(self.lattice_nm) / pixel_size_nm @ _turn(rotation_deg).T)

    def _lattice_in_px(
        self,
        pixel_size_nm: float | None,
        lattice_px: ArrayLike | None,
        rotation_deg: float = 0.0,
    ) -> NDArray[np.float64]:
        if (pixel_size_nm is None) == (lattice_px is None):
            raise ScopegymError("Give either pixel_size_nm or lattice_px, not both or neither.")
        if pixel_size_nm is not None:
            return np.array(self.lattice_px(pixel_size_nm, rotation_deg))
        lattice = np.asarray(lattice_px, dtype=float)
        if lattice.shape != (2, 2) or not np.isfinite(lattice).all() or _area(lattice) <= 0:
            raise ScopegymError("lattice_px must be two vectors (y, x) [px] that span an area.")
        return lattice @ _turn(rotation_deg).T

    def positions(
        self,
        shape: tuple[int, int],
        lattice_px: ArrayLike | None = None,
        pixel_size_nm: float | None = None,
        origin_yx: tuple[float, float] = (0.0, 0.0),
        rotation_deg: float = 0.0,
        margin_px: float = 0.0,
    ) -> Positions:
        """Every column in a field of ``shape`` (H, W), widened by ``margin_px`` on each side.

        ``origin_yx`` [px] is where a corner of the cell lies. The lattice comes from the pixel
        size or from measured vectors ``[2, 2]`` [px], and is turned by ``rotation_deg``
        (counter-clockwise on the screen). Raises ScopegymError when the field would hold more
        than five million columns.
        """
        lattice = self._lattice_in_px(pixel_size_nm, lattice_px, rotation_deg)
        # pixel (0, 0) reaches from -0.5 to 0.5, so the field is exactly H x W in area
        low = np.array([-0.5, -0.5]) - margin_px
        high = np.array(shape, dtype=float) - 0.5 + margin_px
        if np.prod(high - low) * len(self.columns) / _area(lattice) > MOST_POSITIONS:
            raise ScopegymError(
                f"A field of {shape[0]} x {shape[1]} px holds more than {MOST_POSITIONS:,} columns "
                f"of {self.name}; check the pixel size."
            )
        corners = np.array(list(product(*zip(low, high, strict=True)))) - np.array(origin_yx)
        reach = corners @ np.linalg.inv(lattice)
        ranges = [
            np.arange(math.floor(a) - 1, math.ceil(b) + 1)
            for a, b in zip(reach.min(axis=0), reach.max(axis=0), strict=True)
        ]
        cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 2)
        yx = (cells[:, None] + self.columns[None]).reshape(-1, 2) @ lattice + np.array(origin_yx)
        kind = np.tile(np.arange(len(self.columns)), len(cells))
        inside = ((yx >= low) & (yx < high)).all(axis=1)
        return Positions(yx[inside], kind[inside])

    def prior(
        self,
        shape: tuple[int, int],
        *,
        pixel_size_nm: float | None = None,
        lattice_px: ArrayLike | None = None,
        contrast: Literal["bright", "dark"] = "bright",
    ) -> Prior:
        """What to expect in a field of ``shape`` (H, W), from the pixel size [nm] or from lattice
        vectors ``[2, 2]`` [px] measured in the image."""
        lattice = self._lattice_in_px(pixel_size_nm, lattice_px)
        distances = self._distances(lattice)
        return Prior(
            scale_px=_spacing(distances),
            count=len(self.columns) / _area(lattice) * shape[0] * shape[1],
            neighbour_sums_px=_neighbour_sums(distances),
            lattice_px=_vectors(lattice),
            contrast=contrast,
            sources=dict.fromkeys(
                ("scale_px", "count", "neighbour_sums_px", "lattice_px"), "crystal"
            ),
        )


@dataclass(frozen=True, eq=False)
class Crystal:
    """A unit cell and its atoms.

    ``cell_nm`` ``[3, 3]`` holds a, b, c as rows [nm]; three lengths, or three lengths and the
    angles alpha, beta, gamma [deg], are taken too. ``positions`` ``[N, 3]`` are fractions of the
    cell. ``occupancies`` ``[N]`` weight the atoms: a site shared by several species is entered
    once for each. ``source`` is the publication the numbers are from, or the file.
    Raises ScopegymError when the cell has no volume or the arrays do not fit together.
    """

    name: str
    cell_nm: NDArray[np.float64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    occupancies: NDArray[np.float64] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        cell = _cell_vectors(self.cell_nm, self.name)
        numbers = readonly(np.reshape(self.numbers, -1), np.int64)
        positions = np.reshape(np.asarray(self.positions, dtype=float), (-1, 3))
        given = np.ones(len(numbers)) if self.occupancies is None else self.occupancies
        occupancies = readonly(np.reshape(given, -1), float)
        if not len(numbers) == len(positions) == len(occupancies) > 0:
            raise ScopegymError(
                f"The crystal '{self.name}' needs as many atomic numbers as positions and at "
                f"least one, not {len(numbers)} and {len(positions)}."
            )
        if numbers.min() < 1 or numbers.max() > 118 or not np.isfinite(positions).all():
            raise ScopegymError(
                f"The crystal '{self.name}' needs atomic numbers 1 to 118 and finite positions."
            )
        object.__setattr__(self, "cell_nm", readonly(cell))
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "positions", readonly(positions % 1.0))
        object.__setattr__(self, "occupancies", occupancies)

    @property
    def key(self) -> str:
        """Identity: what it is made of, whatever its name."""
        made_of = (self.cell_nm, self.numbers, self.positions, self.occupancies)
        return digest(*(array_digest(np.asarray(part)) for part in made_of))

    @classmethod
    def named(cls, name: str) -> Crystal:
        """A built-in crystal. Raises ScopegymError with the nearest names for an unknown one."""
        folded = {known.casefold(): known for known in CRYSTALS}
        wanted = ALIASES.get(name.casefold(), name)
        try:
            return CRYSTALS[folded[wanted.casefold()]]
        except KeyError:
            raise unknown("crystal", name, CRYSTALS) from None

    @classmethod
    def from_cif(cls, path: str | Path) -> Crystal:
        """Read the first structure of a CIF file, its space group applied.

        Shared and partly filled sites are kept with their occupancies, which weight the columns.
        Raises ScopegymError when the file is missing or holds no structure that can be read.
        """
        path = Path(path)
        if not path.is_file():
            raise ScopegymError(f"There is no CIF file '{path}'.")
        content = read_bytes(path, LARGEST_CIF, "The CIF file")
        try:
            with limited(Limits(CIF_SECONDS, 2**30)):
                atoms = _read_cif(content)
            numbers, positions, occupancies = _sites(atoms)
        except Exception as error:  # the reader raises whatever the broken line happens to cause
            reason = one_line(f"{type(error).__name__}: {error}", 160)
            raise ScopegymError(
                f"The CIF file '{path}' cannot be read as a crystal ({reason.rstrip(' .:')})."
            ) from None
        if len(atoms) == 0 or atoms.cell.rank != 3:
            raise ScopegymError(f"The CIF file '{path}' holds no unit cell with atoms in it.")
        _check_cell(path, atoms.cell.lengths(), occupancies)
        cell_nm = np.array(atoms.cell) * 0.1  # Å
        return cls(path.stem, cell_nm, numbers, positions, occupancies, str(path))

    def project(
        self,
        zone: Sequence[int] | str = (1, 0, 0),
        *,
        visible: float = VISIBLE,
        merge_nm: float = MERGE_NM,
        exponent: float = ATOMIC_NUMBER_EXPONENT,
    ) -> Projection:
        """Project along the lattice direction [uvw] of the cell as it is given.

        A column's weight is the sum of Z^exponent over its atoms per length of beam path. Columns
        whose centres lie within ``merge_nm`` of a stronger one are merged with it at their
        weighted centroid; columns weaker than ``visible`` times the strongest are dropped.
        Raises ScopegymError for a zone axis that is not three integers or is all zero.
        """
        axis = parse_zone(zone)
        basis, directions = _projected_basis(self.cell_nm, axis)
        frame = _viewing_frame(self.cell_nm, axis, basis[0])
        lattice = np.round(basis @ frame.T, 12) + 0.0  # no -0.0
        fractions = self.positions @ self.cell_nm @ frame.T @ np.linalg.inv(lattice)
        assert self.occupancies is not None
        weights = self.numbers.astype(float) ** exponent * self.occupancies
        shares = [{int(z): float(w)} for z, w in zip(self.numbers, weights, strict=True)]
        # atoms exactly above each other first: merging then starts from whole columns
        for radius in (min(0.005, merge_nm), merge_nm):
            fractions, weights, shares = _merge(fractions, weights, shares, lattice, radius)
        kept = weights >= visible * weights.max()
        order = np.lexsort((np.round(fractions[:, 1], 6), np.round(fractions[:, 0], 6)))
        order = order[kept[order]]
        return Projection(
            lattice_nm=_vectors(lattice),
            columns=fractions[order],
            weights=weights[order] / weights.max(),
            labels=tuple(_label(shares[i]) for i in order),
            axes=(direction_name(directions[0]), direction_name(directions[1])),
            crystal=self.name,
            zone=axis,
        )


def crystal(name_or_path: str | Path | Crystal) -> Crystal:
    """The crystal a user means: a built-in name, the path of a CIF file, or a crystal itself."""
    if isinstance(name_or_path, Crystal):
        return name_or_path
    if isinstance(name_or_path, Path) or name_or_path.casefold().endswith(".cif"):
        return Crystal.from_cif(name_or_path)
    return Crystal.named(name_or_path)


def _area(lattice: NDArray[np.float64]) -> float:
    return abs(float(np.linalg.det(lattice)))


def _vectors(lattice: NDArray[np.float64]) -> tuple[Vector, Vector]:
    (ay, ax), (by, bx) = lattice.tolist()
    return (ay, ax), (by, bx)


def _turn(rotation_deg: float) -> NDArray[np.float64]:
    """Rotation of (y, x), counter-clockwise on a screen whose y axis points down."""
    angle = math.radians(rotation_deg)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _neighbour_sums(distances: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(distances.sum(axis=1).tolist())


def _spacing(distances: NDArray[np.float64]) -> float:
    return float(np.median(distances[:, 0]))


def _cell_vectors(cell: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows a, b, c [nm] from three lengths, from lengths and angles, or from the rows."""
    values = np.asarray(cell, dtype=float)
    if values.shape == (3,):
        values = np.diag(values)
    elif values.shape == (6,):
        alpha, beta, gamma = np.radians(values[3:])
        along = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
        up = math.sqrt(max(0.0, 1 - np.cos(beta) ** 2 - along**2))
        directions = [
            [1.0, 0.0, 0.0],
            [np.cos(gamma), np.sin(gamma), 0.0],
            [np.cos(beta), along, up],
        ]
        values = values[:3, None] * np.array(directions)
    if values.shape != (3, 3) or not np.isfinite(values).all():
        raise ScopegymError(f"The cell of '{name}' must be 3 lengths, 3 lengths + 3 angles or 3x3.")
    lengths = np.linalg.norm(values, axis=1)
    if lengths.min() <= 0 or abs(np.linalg.det(values)) < 1e-6 * lengths.prod():
        raise ScopegymError(f"The cell of '{name}' has no volume.")
    return values


def _quotient_basis(zone: Zone) -> NDArray[np.int64]:
    """Two lattice vectors ``[2, 3]`` that generate, with the zone axis, the whole lattice."""
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


def _projected_basis(
    cell: NDArray[np.float64], zone: Zone
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The two shortest vectors of the projected lattice, as they lie in space ``[2, 3]`` [nm],
    and the lattice directions ``[2, 3]`` along them."""
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
    # where several vectors are equally short, as in a hexagonal net, the simplest indices win
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


def _in_plane(r: NDArray[np.int64], along: float, zone: Zone) -> NDArray[np.int64]:
    """The lattice direction in the image plane that ``r`` projects onto, or ``r`` itself where
    no direction of small indices lies in the plane."""
    exact = r - along * np.array(zone)
    for times in range(1, 13):
        whole = np.round(exact * times)
        if np.abs(exact * times - whole).max() < 1e-6:
            return (whole / math.gcd(*whole.astype(int).tolist())).astype(np.int64)
    return r


def _viewing_frame(
    cell: NDArray[np.float64], zone: Zone, down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit vectors ``[2, 3]`` of the image's y (down) and x (right), looking along the zone."""
    beam = np.array(zone) @ cell
    y = down / np.linalg.norm(down)
    return np.array([y, np.cross(y, beam / np.linalg.norm(beam))])


def _merge(
    fractions: NDArray[np.float64],
    weights: NDArray[np.float64],
    shares: Sequence[Mapping[int, float]],
    lattice: NDArray[np.float64],
    radius_nm: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[dict[int, float]]]:
    """Join each column to the nearest stronger one within the radius.

    Distances are to the strongest member alone, so a chain of near columns is not swallowed.
    """
    fractions = np.round(fractions, 9) % 1.0
    order = np.argsort(-np.round(weights, 6), kind="stable")
    shifts = np.array(list(product((-1, 0, 1), repeat=2)), dtype=float)
    seeds: list[int] = []
    members: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    for i in order.tolist():
        if seeds:
            apart = fractions[i] - fractions[seeds]
            apart = (apart - np.round(apart))[:, None] + shifts  # oblique cells need the images
            distance = np.linalg.norm(apart @ lattice, axis=-1)
            which, image = np.unravel_index(np.argmin(distance), distance.shape)
            if distance[which, image] <= radius_nm:
                members[seeds[which]].append((i, apart[which, image]))
                continue
        seeds.append(i)
        members[i] = [(i, np.zeros(2))]
    centres, sums, merged = [], [], []
    for seed in seeds:
        rows = [i for i, _ in members[seed]]
        total = weights[rows].sum()
        apart = np.array([offset for _, offset in members[seed]])
        centres.append(fractions[seed] + weights[rows] @ apart / total)
        sums.append(total)
        joint: dict[int, float] = {}
        for i in rows:
            for z, share in shares[i].items():
                joint[z] = joint.get(z, 0.0) + share
        merged.append(joint)
    return np.round(centres, 9) % 1.0, np.array(sums), merged


def _label(share: Mapping[int, float]) -> str:
    from ase.data import chemical_symbols

    order = sorted(share, key=lambda z: (-share[z], -z))
    return "+".join(chemical_symbols[z] for z in order)


def _read_cif(content: bytes) -> Any:
    import ase.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on space-group settings, not on the structure
        return ase.io.read(io.BytesIO(content), format="cif", index=0)


def _check_cell(path: Path, edges: NDArray[Any], occupancies: NDArray[Any]) -> None:
    """Raise ScopegymError for a cell that no crystal has, or with more atoms than can be merged
    into columns."""
    low, high = EDGES_ANGSTROM
    if len(occupancies) > MOST_ATOMS:
        raise ScopegymError(
            f"The CIF file '{path}' has {len(occupancies):,} atoms in its cell, more than "
            f"{MOST_ATOMS:,}."
        )
    if not (edges.min() >= low and edges.max() <= high):
        raise ScopegymError(
            f"The CIF file '{path}' has a cell of {' x '.join(f'{e:g}' for e in edges)} Å; edges "
            f"must be from {low:g} to {high:g} Å."
        )
    # A little above 1: refined occupancies are rounded.
    if not (occupancies.min() >= 0 and 0 < occupancies.max() <= 1.05):
        raise ScopegymError(
            f"The CIF file '{path}' has occupancies outside 0 to 1, or only empty sites."
        )


def _sites(atoms: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Atomic numbers, positions and occupancies, shared sites entered once per species."""
    from ase.data import atomic_numbers

    shared = atoms.info.get("occupancy", {})
    kinds = atoms.arrays.get("spacegroup_kinds", np.arange(len(atoms)))
    numbers, positions, occupancies = [], [], []
    for symbol, kind, place in zip(
        atoms.get_chemical_symbols(), kinds, atoms.get_scaled_positions(), strict=True
    ):
        for species, share in shared.get(str(kind), {symbol: 1.0}).items():
            numbers.append(atomic_numbers[species])
            positions.append(place)
            occupancies.append(float(share))
    return np.array(numbers), np.array(positions), np.array(occupancies)


def _built_in(
    name: str, cell_angstrom: ArrayLike, sites: Sequence[tuple[int, ArrayLike]], source: str
) -> Crystal:
    cell = np.array(cell_angstrom, dtype=float)
    cell[:3] *= 0.1
    places = np.array([place for _, place in sites], dtype=float)
    return Crystal(name, cell, np.array([z for z, _ in sites]), places, source=source)


O, SI, S, TI, CU, SR, Y, MO, BA = 8, 14, 16, 22, 29, 38, 39, 42, 56  # noqa: E741
FCC = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))

_ENTRIES = (
    _built_in(
        "YBa2Cu3O7",
        (3.8227, 3.8872, 11.6802),
        [
            (Y, (0.5, 0.5, 0.5)),
            (BA, (0.5, 0.5, 0.1843)),
            (BA, (0.5, 0.5, 0.8157)),
            (CU, (0, 0, 0)),
            (CU, (0, 0, 0.3556)),
            (CU, (0, 0, 0.6444)),
            (O, (0, 0.5, 0)),
            (O, (0.5, 0, 0.3773)),
            (O, (0.5, 0, 0.6227)),
            (O, (0, 0.5, 0.3789)),
            (O, (0, 0.5, 0.6211)),
            (O, (0, 0, 0.1584)),
            (O, (0, 0, 0.8416)),
        ],
        "Pmmm; J. D. Jorgensen et al., Phys. Rev. B 41, 1863 (1990)",
    ),
    _built_in(
        "SrTiO3",
        (3.905, 3.905, 3.905),
        [
            (SR, (0, 0, 0)),
            (TI, (0.5, 0.5, 0.5)),
            (O, (0, 0.5, 0.5)),
            (O, (0.5, 0, 0.5)),
            (O, (0.5, 0.5, 0)),
        ],
        "Pm-3m, room temperature; A. Okazaki and M. Kawaminami, Mater. Res. Bull. 8, 545 (1973)",
    ),
    _built_in(
        "BaTiO3",
        (3.991, 3.991, 4.035),
        [
            (BA, (0, 0, 0)),
            (TI, (0.5, 0.5, 0.5224)),
            (O, (0.5, 0.5, -0.0244)),
            (O, (0.5, 0, 0.4895)),
            (O, (0, 0.5, 0.4895)),
        ],
        "P4mm, room temperature; G. H. Kwei et al., J. Phys. Chem. 97, 2368 (1993)",
    ),
    _built_in(
        "Cu",
        (3.615, 3.615, 3.615),
        [(CU, place) for place in FCC],
        "Fm-3m; M. E. Straumanis and L. S. Yu, Acta Cryst. A 25, 676 (1969)",
    ),
    _built_in(
        "Si",
        (5.43102, 5.43102, 5.43102),
        [(SI, np.add(place, shift)) for place in FCC for shift in (0.0, 0.25)],
        "Fd-3m; E. Tiesinga et al. (CODATA 2018), Rev. Mod. Phys. 93, 025010 (2021)",
    ),
    _built_in(
        "MoS2",
        # one layer of the 2H stacking; c is half the stacking period, so that weights are those
        # of a single layer. S lies 1.586 Å above and below Mo.
        (3.160, 3.160, 6.147, 90, 90, 120),
        [
            (MO, (1 / 3, 2 / 3, 0.5)),
            (S, (2 / 3, 1 / 3, 0.5 + 1.586 / 6.147)),
            (S, (2 / 3, 1 / 3, 0.5 - 1.586 / 6.147)),
        ],
        "2H monolayer; B. Schönfeld, J. J. Huang and S. C. Moss, Acta Cryst. B 39, 404 (1983)",
    ),
)

#: The built-in crystals by name.
CRYSTALS: Mapping[str, Crystal] = FrozenDict({entry.name: entry for entry in _ENTRIES})
#: What microscopists call them.
ALIASES = {
    "ybco": "YBa2Cu3O7",
    "yba2cu3o7-x": "YBa2Cu3O7",
    "sto": "SrTiO3",
    "bto": "BaTiO3",
    "copper": "Cu",
    "silicon": "Si",
}
