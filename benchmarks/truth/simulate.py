"""Simulate one unit cell of crystals in HAADF and ABF with abTEM, not with our own simulator.

    python benchmarks/truth/simulate.py              (needs the extra `simulate`)

Multislice at 200 kV with a probe of 25 mrad, frozen phonons and independent atoms. The images of a
cell and its projected columns are written to ``cells.npz`` beside this script. Fields of view with
rotation, noise and distortion are made from them by ``benchmarks/real.py``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

#: Structure, beam direction (as rows of a supercell) and thickness [nm]. MoS2 is one layer.
HAADF_MRAD, ABF_MRAD = (70, 130), (12, 25)
STEP_NM = 0.02


def structures():
    """Name, atoms of a cell whose beam is along z, and thickness [nm]."""
    from ase import Atoms
    from ase.build import cut, mx2
    from ase.spacegroup import crystal

    sto = crystal(("Sr", "Ti", "O"), [(0, 0, 0), (0.5,) * 3, (0.5, 0.5, 0)], spacegroup=221,
                  cellpar=[3.905] * 3 + [90] * 3)  # fmt: skip
    bto = Atoms(
        "BaTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5224), (0.5, 0.5, 0.9756), (0.5, 0, 0.4895),
                          (0, 0.5, 0.4895)],
        cell=[3.991, 3.991, 4.035],
        pbc=True,
    )  # fmt: skip
    ybco = Atoms(
        "YBa2Cu3O7",
        scaled_positions=[
            (0.5, 0.5, 0.5), (0.5, 0.5, 0.1843), (0.5, 0.5, 0.8157), (0, 0, 0), (0, 0, 0.3556),
            (0, 0, 0.6444), (0, 0.5, 0), (0.5, 0, 0.3773), (0.5, 0, 0.6227), (0, 0.5, 0.3789),
            (0, 0.5, 0.6211), (0, 0, 0.1584), (0, 0, 0.8416),
        ],
        cell=[3.8227, 3.8872, 11.6802],
        pbc=True,
    )  # fmt: skip
    silicon = crystal("Si", [(0, 0, 0)], spacegroup=227, cellpar=[5.43102] * 3 + [90] * 3)
    ceria = crystal(
        ("Ce", "O"), [(0, 0, 0), (0.25,) * 3], spacegroup=225, cellpar=[5.411] * 3 + [90] * 3
    )
    copper = crystal("Cu", [(0, 0, 0)], spacegroup=225, cellpar=[3.615] * 3 + [90] * 3)
    nitride = crystal(
        ("Ga", "N"),
        [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.377)],
        spacegroup=186,
        cellpar=[3.189, 3.189, 5.185, 90, 90, 120],
    )
    disulfide = mx2("MoS2", a=3.16, thickness=3.17, size=(1, 1, 1), vacuum=2)
    across = dict(a=(0, 0, 1), b=(-1, 1, 0), c=(1, 1, 0))
    return {
        "SrTiO3 001": (sto, 8.0),
        "SrTiO3 110": (cut(sto, **across), 8.0),
        "BaTiO3 100": (cut(bto, a=(0, 0, 1), b=(0, 1, 0), c=(-1, 0, 0)), 8.0),
        "YBa2Cu3O7 100": (cut(ybco, a=(0, 0, 1), b=(0, 1, 0), c=(-1, 0, 0)), 8.0),
        "Si 110": (cut(silicon, **across), 8.0),
        "CeO2 110": (cut(ceria, **across), 8.0),
        "Cu 001": (copper, 8.0),
        "GaN 100": (cut(nitride, a=(0, 0, 1), b=(1, 2, 0), c=(-1, 0, 0)), 8.0),
        "MoS2 001": (disulfide, None),
    }


def upright(atoms):
    """The cell with its first axis along x, its second along y and the beam along z."""
    atoms = atoms.copy()
    lengths = atoms.cell.lengths()
    if not np.allclose(atoms.cell.angles(), 90, atol=1e-3):
        from abtem import orthogonalize_cell

        return orthogonalize_cell(atoms)
    scaled = atoms.get_scaled_positions()
    atoms.set_cell(np.diag(lengths))
    atoms.set_scaled_positions(scaled)
    atoms.wrap()
    return atoms


def images(atoms, thickness_nm, configurations):
    """HAADF and ABF images ``[H, W]`` of one cell, y along its first axis, and its columns."""
    import abtem

    cell = upright(atoms)
    size = cell.cell.lengths()[:2] / 10
    layers = 1 if thickness_nm is None else max(1, round(10 * thickness_nm / cell.cell[2, 2]))
    wide = np.maximum(1, np.ceil(1.6 / size)).astype(int)
    block = cell * (int(wide[0]), int(wide[1]), layers)
    phonons = abtem.FrozenPhonons(block, num_configs=configurations, sigmas=0.08, seed=0)
    potential = abtem.Potential(phonons, sampling=0.06, slice_thickness=2)
    probe = abtem.Probe(energy=200e3, semiangle_cutoff=25, defocus=0)
    probe.grid.match(potential)
    pixels = np.maximum(4, np.round(size / STEP_NM)).astype(int)
    scan = abtem.GridScan(start=(0, 0), end=tuple(10 * size), gpts=tuple(int(n) for n in pixels),
                          endpoint=False)  # fmt: skip
    detectors = [abtem.AnnularDetector(*HAADF_MRAD), abtem.AnnularDetector(*ABF_MRAD)]
    seen = probe.scan(potential, scan=scan, detectors=detectors).compute(progress_bar=False)
    columns = cell.get_scaled_positions()[:, :2] % 1.0
    return (
        [np.asarray(one.array, dtype=np.float32) for one in seen], columns, cell.numbers, size
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=1, help="of the frozen phonons")
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    target = Path(__file__).with_name("cells.npz")
    kept = dict(np.load(target)) if target.exists() and options.only else {}
    for name, (atoms, thickness_nm) in structures().items():
        if options.only and name not in options.only:
            continue
        (haadf, abf), columns, numbers, size = images(atoms, thickness_nm, options.configurations)
        kept |= {f"{name}/haadf": haadf, f"{name}/abf": abf, f"{name}/columns": columns,
                 f"{name}/numbers": numbers, f"{name}/size_nm": size}  # fmt: skip
        print(json.dumps({"cell": name, "pixels": haadf.shape, "haadf": float(np.ptp(haadf)),
                          "abf": float(np.ptp(abf))}), flush=True)  # fmt: skip
        np.savez_compressed(target, **kept)


if __name__ == "__main__":
    main()
