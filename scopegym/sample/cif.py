"""Read unit cells from CIF files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scopegym.errors import ScopegymError, one_line
from scopegym.limits import Limits, limited
from scopegym.plain import read_bytes

#: Limits of a CIF file: size [bytes], time to read it [s], atoms per cell, and edges [Å].
LARGEST_CIF, CIF_SECONDS, MOST_ATOMS, EDGES_ANGSTROM = 16 * 2**20, 5.0, 2000, (0.5, 1000.0)


class UnitCell(NamedTuple):
    """Rows a, b, c [nm], atomic numbers, fractions of the cell and occupancies ``[N]``."""

    cell_nm: NDArray[np.float64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    occupancies: NDArray[np.float64]


def read_cif(path: str | Path) -> UnitCell:
    """The first structure in a CIF file, its space group applied.

    Raises ScopegymError when the file is missing or holds no structure that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ScopegymError(f"There is no CIF file '{path}'.")
    content = read_bytes(path, LARGEST_CIF, "The CIF file")
    try:
        with limited(Limits(CIF_SECONDS, 2**30)):
            atoms = _atoms(content)
        numbers, positions, occupancies = _sites(atoms)
    except Exception as error:  # the reader raises many types of error on broken lines
        reason = one_line(f"{type(error).__name__}: {error}", 160)
        raise ScopegymError(
            f"The CIF file '{path}' cannot be read as a crystal ({reason.rstrip(' .:')})."
        ) from None
    if len(atoms) == 0 or atoms.cell.rank != 3:
        raise ScopegymError(f"The CIF file '{path}' holds no unit cell with atoms in it.")
    _check_cell(path, atoms.cell.lengths(), occupancies)
    return UnitCell(np.array(atoms.cell) * 0.1, numbers, positions, occupancies)  # from Å


def _atoms(content: bytes) -> Any:
    import ase.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks on space-group settings, not on the structure
        return ase.io.read(io.BytesIO(content), format="cif", index=0)


def _check_cell(path: Path, edges: NDArray[Any], occupancies: NDArray[Any]) -> None:
    """Raise ScopegymError for an impossible cell, or for more atoms than can be merged into
    columns."""
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
