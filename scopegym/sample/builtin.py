"""The built-in crystals, with the published structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Entry(NamedTuple):
    """A published structure. ``cell_angstrom`` holds three lengths [Å] and optionally three angles
    [deg]; ``sites`` holds atomic numbers and fractions of the cell."""

    name: str
    cell_angstrom: Sequence[float]
    sites: Sequence[tuple[int, ArrayLike]]
    source: str


O, SI, S, TI, CU, SR, Y, MO, BA = 8, 14, 16, 22, 29, 38, 39, 42, 56  # noqa: E741
FCC = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))

#: The built-in crystals.
ENTRIES = (
    Entry(
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
    Entry(
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
    Entry(
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
    Entry(
        "Cu",
        (3.615, 3.615, 3.615),
        [(CU, place) for place in FCC],
        "Fm-3m; M. E. Straumanis and L. S. Yu, Acta Cryst. A 25, 676 (1969)",
    ),
    Entry(
        "Si",
        (5.43102, 5.43102, 5.43102),
        [(SI, np.add(place, shift)) for place in FCC for shift in (0.0, 0.25)],
        "Fd-3m; E. Tiesinga et al. (CODATA 2018), Rev. Mod. Phys. 93, 025010 (2021)",
    ),
    Entry(
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

#: Common short names.
ALIASES = {
    "ybco": "YBa2Cu3O7",
    "yba2cu3o7-x": "YBa2Cu3O7",
    "sto": "SrTiO3",
    "bto": "BaTiO3",
    "copper": "Cu",
    "silicon": "Si",
}
