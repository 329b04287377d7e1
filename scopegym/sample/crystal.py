"""Crystals: a unit cell and its atoms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scopegym.artifacts import array_digest, digest, readonly
from scopegym.errors import ScopegymError, unknown
from scopegym.frozen import FrozenDict
from scopegym.sample.builtin import ALIASES, ENTRIES, Entry
from scopegym.sample.cif import read_cif
from scopegym.sample.projection import Projection, vectors
from scopegym.sample.zone import direction_name, parse_zone, projected_basis, viewing_frame

#: High-angle scattering grows as Z to this power (no unit). Pennycook and Jesson, Phys. Rev. Lett.
#: 64, 938 (1990) derive 2, the unscreened Rutherford limit; Treacy, Microsc. Microanal. 17, 847
#: (2011) finds 1.6 to 1.8 for the inner detector angles in common use.
ATOMIC_NUMBER_EXPONENT = 1.7
#: Nearer columns [nm] appear as one: about the resolution limit of an aberration-corrected
#: scanning microscope (Erni et al., Phys. Rev. Lett. 102, 096101 (2009): 47 pm).
MERGE_NM = 0.06
#: Columns weaker than this share of the strongest are not visible beside it (O beside Ba: 0.03).
VISIBLE = 0.15


@dataclass(frozen=True, eq=False)
class Crystal:
    """A unit cell and its atoms.

    ``cell_nm`` ``[3, 3]`` holds a, b, c as rows [nm]. Three lengths, or three lengths and the
    angles alpha, beta, gamma [deg], are accepted too. ``positions`` ``[N, 3]`` are fractions of the
    cell. ``occupancies`` ``[N]`` weight the atoms; a shared site has one entry per species.
    ``source`` is the publication or the file of the numbers. Raises ScopegymError when the cell has
    no volume or the lengths of the arrays differ.
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crystal) and (self.name, self.key) == (other.name, other.key)

    def __hash__(self) -> int:
        return hash((self.name, self.key))

    @cached_property
    def key(self) -> str:
        """Identity: a hash of cell and atoms, independent of the name."""
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
        return cls(Path(path).stem, *read_cif(path), source=str(path))

    def project(
        self,
        zone: Sequence[int] | str = (1, 0, 0),
        *,
        visible: float = VISIBLE,
        merge_nm: float = MERGE_NM,
        exponent: float = ATOMIC_NUMBER_EXPONENT,
    ) -> Projection:
        """Project along the lattice direction [uvw] of the given cell.

        A column's weight is the sum of Z^exponent over its atoms per length of beam path. Columns
        whose centres lie within ``merge_nm`` of a stronger one are merged with it at their
        weighted centroid; columns weaker than ``visible`` times the strongest are dropped.
        Raises ScopegymError for a zone axis that is not three integers or is all zero.
        """
        axis = parse_zone(zone)
        basis, directions = projected_basis(self.cell_nm, axis)
        frame = viewing_frame(self.cell_nm, axis, basis[0])
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
            lattice_nm=vectors(lattice),
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
    if not isinstance(name_or_path, str | Path):
        raise ScopegymError(
            "A crystal is a built-in name, the path of a CIF file or a Crystal, not "
            f"{name_or_path!r}."
        )
    if isinstance(name_or_path, Path) or name_or_path.casefold().endswith(".cif"):
        return Crystal.from_cif(name_or_path)
    return Crystal.named(name_or_path)


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


def _merge(
    fractions: NDArray[np.float64],
    weights: NDArray[np.float64],
    shares: Sequence[Mapping[int, float]],
    lattice: NDArray[np.float64],
    radius_nm: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[dict[int, float]]]:
    """Join each column to the nearest stronger one within the radius.

    Distances are to the strongest member alone, so a chain of near columns is not merged into one.
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


def _built_in(entry: Entry) -> Crystal:
    cell = np.array(entry.cell_angstrom, dtype=float)
    cell[:3] *= 0.1
    places = np.array([place for _, place in entry.sites], dtype=float)
    return Crystal(
        entry.name, cell, np.array([z for z, _ in entry.sites]), places, source=entry.source
    )


#: The built-in crystals by name.
CRYSTALS: Mapping[str, Crystal] = FrozenDict({entry.name: _built_in(entry) for entry in ENTRIES})
