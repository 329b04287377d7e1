"""Images that the simulator of scopegym did not make, their columns, and what can be said of them.

Published images are read from the folder that is given; those that are absent there are left out.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from truth.register import MARKED, TARGET

import scopegym
from scopegym.artifacts import Points
from scopegym.metrics import match_points
from scopegym.sample.crystal import Crystal

CELLS = Path(__file__).with_name("cells.npz")
BUILT_IN = ("YBa2Cu3O7", "SrTiO3", "BaTiO3", "Cu", "Si", "MoS2")
ZONES = {"Si": (1, 1, 0), "MoS2": (0, 0, 1)}
#: Images of perovskites tell SrTiO3 from BaTiO3 by 2 % of the spacing only.
ALIKE = {"SrTiO3": {"BaTiO3"}, "BaTiO3": {"SrTiO3"}, "DyScO3": {"SrTiO3", "BaTiO3"}}
GRAPHENE = Crystal(
    "graphene", [0.246, 0.246, 0.67, 90, 90, 120], [6, 6], [(1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0)]
)
#: Structures beside the built-in ones, of the multislice images.
CERIA = Crystal(
    "CeO2", (0.5411,) * 3,
    [58] * 4 + [8] * 8,
    [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
    + [(x, y, z) for x in (0.25, 0.75) for y in (0.25, 0.75) for z in (0.25, 0.75)],
)  # fmt: skip
NITRIDE = Crystal(
    "GaN", [0.3189, 0.3189, 0.5185, 90, 90, 120], [31, 31, 7, 7],
    [(1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0.5), (1 / 3, 2 / 3, 0.377), (2 / 3, 1 / 3, 0.877)],
)  # fmt: skip


@dataclass(frozen=True)
class Premise:
    """Something a user may say of an image: options of ``solve``, and whether they are right."""

    name: str
    right: bool
    options: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """An image with its columns ``truth`` ``[N, 2]`` [px]. ``faint`` ones ``[M, 2]`` may be found
    or not. ``margin_px`` from the border they are not compared."""

    name: str
    kind: str
    micrograph: scopegym.Micrograph
    truth: np.ndarray
    premises: tuple[Premise, ...]
    margin_px: float = 0.0
    faint: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    spacing_px: float = field(init=False)

    def __post_init__(self) -> None:
        nearest = KDTree(self.truth).query(self.truth, k=2)[0][:, 1]
        object.__setattr__(self, "spacing_px", float(np.median(nearest)))

    def f1(self, found: np.ndarray) -> float:
        """F1 of the positions ``found`` ``[N, 2]``, within a quarter of the spacing."""
        shape = self.micrograph.shape
        radius, margin = self.spacing_px / 4, max(self.margin_px, self.spacing_px / 2)
        either = np.concatenate([self.truth, self.faint])
        match = match_points(Points(found, shape), Points(either, shape), radius)
        kept = np.ones(len(found), bool)
        kept[match.found[match.true >= len(self.truth)]] = False
        return match_points(
            Points(found[kept], shape), Points(self.truth, shape), radius, margin
        ).f1


def cases(data: Path) -> Iterator[Case]:
    """All cases, published images first."""
    for make in (_marked, _labelled, _prism, _bundled, _multislice):
        yield from make(data)


def _figures(case_truth: np.ndarray, micrograph: scopegym.Micrograph) -> list[Premise]:
    """What follows from the columns alone: estimated, or density and spacing given."""
    nearest = KDTree(case_truth).query(case_truth, k=2)[0][:, 1]
    size = micrograph.pixel_size_nm or 0.01
    density = len(case_truth) / np.prod(micrograph.shape) / size**2
    given = {"density": float(density), "spacing": f"{np.median(nearest):.4g} px"}
    if micrograph.pixel_size_nm is None:
        given["pixel_size"] = "0.01 nm"
    return [
        Premise("estimate", True, {"estimate": True}),
        Premise("density and spacing", True, given),
    ]


def _told(name: str | Crystal, zone: tuple[int, int, int], **more: Any) -> dict[str, Any]:
    return {"crystal": name, "zone": zone, **more}


def _wrong_crystals(right: str) -> list[Premise]:
    others = [name for name in BUILT_IN if name != right and name not in ALIKE.get(right, ())]
    return [
        Premise(f"wrong: {name}", False, _told(name, ZONES.get(name, (1, 0, 0)))) for name in others
    ]


def _wrong_sizes(options: dict[str, Any], size_nm: float) -> list[Premise]:
    return [
        Premise(f"wrong: pixel size x {factor}", False,
                {**options, "pixel_size": f"{factor * size_nm:.6g} nm"})
        for factor in (0.75, 1.3)
    ]  # fmt: skip


def _marked(data: Path) -> Iterator[Case]:
    with np.load(TARGET) as kept:
        positions = {name: kept[name] / 10 for name in kept.files}
    for name, marked in MARKED.items():
        if not (data / marked.path).exists():
            continue
        micrograph = scopegym.load(data / marked.path)
        size = getattr(marked, "pixel_size_nm", None)
        micrograph = replace(micrograph, pixel_size_nm=size)
        premises = _figures(positions[name], micrograph)
        if size is not None:
            told = _told(marked.name, marked.zone)
            premises.append(Premise("crystal", True, told))
            premises += _wrong_crystals("DyScO3" if name == "DyScO3" else marked.name)
            premises += _wrong_sizes(told, size)
            if marked.sign < 0:
                premises.append(Premise("wrong: bright", False, {**told, "contrast": "bright"}))
                premises.append(Premise("wrong: HAADF", False, {**told, "imaging": "haadf"}))
            else:
                premises.append(Premise("wrong: dark", False, {**told, "contrast": "dark"}))
        faint = positions.get(f"{name} faint", np.empty((0, 2)))
        yield Case(name, "published", micrograph, positions[name], tuple(premises), faint=faint)


def _labelled(data: Path) -> Iterator[Case]:
    folder = data / "atom_finding"
    carbon = folder / "aicrystallographer_graphene"
    for name in ("G-GrainBoundary-4nm", "G-Si-2nm"):
        if (carbon / f"{name}.npy").exists():
            micrograph = replace(scopegym.load(carbon / f"{name}.npy"), pixel_size_nm=0.0078)
            truth = _table(carbon / f"{name}-coord.csv", "y_px", "x_px")
            premises = [
                *_figures(truth, micrograph),
                Premise("crystal", True, _told(GRAPHENE, (0, 0, 1))),
                *_wrong_crystals("graphene"),
            ]
            yield Case(name, "published", micrograph, truth, tuple(premises))
    others = [
        (path, folder / "acstem_pt_single_atoms/label_coordinates" / f"{path.name[:3]}_Results.csv")
        for path in sorted((folder / "acstem_pt_single_atoms/tif_data").glob("*.tif"))
    ] + [
        (path, folder / "sjeon_re_pt_molecular_catalysts/data/label_coordinates"
         / f"{path.stem}.csv")
        for path in sorted((folder / "sjeon_re_pt_molecular_catalysts/data/tif_data").glob("*"))
    ]  # fmt: skip
    for path, labels in others:
        micrograph = scopegym.load(path)
        truth = _table(labels, "Y", "X")
        name = f"single atoms {path.stem[:9]}"
        yield Case(name, "published", micrograph, truth, tuple(_figures(truth, micrograph)))


def _table(path: Path, y: str, x: str) -> np.ndarray:
    with path.open(encoding="utf-8-sig") as file:
        return np.array([(float(row[y]), float(row[x])) for row in csv.DictReader(file)])


def _prism(data: Path) -> Iterator[Case]:
    import h5py

    for path in sorted((data / "atom_finding/atomagined_prism_sim").rglob("*.h5")):
        with h5py.File(path) as file:
            images = {k: v[()] for k, v in file["haadf"].items() if v.shape == (256, 256)}
        truth = np.argwhere(images.pop("peak_map_clean").astype(bool)).astype(float)
        for kind, image in images.items():
            if kind.startswith(("raw", "stem")):
                micrograph = scopegym.Micrograph(
                    image.astype(np.float32), pixel_size_nm=0.01016, name=f"{path.stem} {kind}"
                )
                premises = tuple(_figures(truth, micrograph))
                yield Case(f"{path.stem} {kind}", "prism", micrograph, truth, premises, 3.5)


def _bundled(data: Path) -> Iterator[Case]:
    from scopegym.datasets.bundled import bundled

    del data
    for name in ("ybco_100", "ybco_100_poisson"):
        micrograph = bundled(name)
        truth = micrograph.truth.yx
        told = _told("YBa2Cu3O7", (1, 0, 0))
        premises = (
            *_figures(truth, micrograph),
            Premise("crystal", True, told),
            *_wrong_crystals("YBa2Cu3O7"),
            *_wrong_sizes(told, micrograph.pixel_size_nm),
        )
        yield Case(name, "multislice", replace(micrograph, truth=None), truth, premises, 10.5)


#: Electrons per pixel of the multislice images, and their pixel size [nm] and rotation [deg].
DOSES = {"haadf": (30.0, 300.0), "abf": (30.0, 300.0)}
CRYSTALS = {"CeO2": CERIA, "GaN": NITRIDE}


def _multislice(data: Path) -> Iterator[Case]:
    del data
    with np.load(CELLS) as kept:
        cells = dict(kept)
    names = sorted({key.split("/")[0] for key in cells})
    for number, name in enumerate(names):
        crystal, zone = name.split()
        for kind, doses in DOSES.items():
            for level, dose in enumerate(doses):
                rng = np.random.default_rng([number, level, len(kind)])
                micrograph, truth, faint = field_of(cells, name, kind, dose, rng)
                told = _told(CRYSTALS.get(crystal, crystal), tuple(int(n) for n in zone))
                premises = (
                    *_figures(truth, micrograph),
                    Premise("crystal", True, told),
                    *_wrong_crystals(crystal)[:: 2 if level else 3],
                    *_wrong_sizes(told, micrograph.pixel_size_nm),
                )
                title = f"{name} {kind.upper()} {dose:g} e"
                yield Case(title, "multislice", micrograph, truth, premises, faint=faint)


def field_of(
    cells: dict[str, np.ndarray], name: str, kind: str, dose: float, rng: np.random.Generator
) -> tuple[scopegym.Micrograph, np.ndarray, np.ndarray]:
    """A field of view of 256 x 256 px of a simulated cell, rotated, distorted and noisy, the
    columns that it shows, and the others."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    cell, size_nm = cells[f"{name}/{kind}"], cells[f"{name}/size_nm"]
    # The size of the source blurs, here by 0.08 nm full width at half maximum.
    step = size_nm / cell.shape
    cell = gaussian_filter(cell.astype(float), 0.034 / step, mode="wrap")
    columns = cells[f"{name}/columns"]
    shown = _shown(cell, columns, size_nm, -1 if kind == "abf" else 1)
    hidden = columns[_apart(columns, shown, size_nm).min(axis=1) > 0.03]
    pixel_nm = float(rng.uniform(0.009, 0.016))
    angle, strain = np.radians(rng.uniform(-180, 180)), rng.normal(0, 0.012, (2, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lattice = np.diag(size_nm) / pixel_nm @ turn @ (np.eye(2) + strain)
    start = rng.uniform(0, 1, 2)
    yx = np.stack(np.indices((256, 256)), axis=-1).reshape(-1, 2)
    fractions = (yx @ np.linalg.inv(lattice) + start) % 1.0
    image = map_coordinates(cell, (fractions * cell.shape).T, order=3, mode="grid-wrap")
    counts = rng.poisson(dose * np.maximum(image, 0) / cell.mean()).reshape(256, 256)
    micrograph = scopegym.Micrograph(
        counts.astype(np.float32), pixel_size_nm=pixel_nm, name=f"{name} {kind} {dose:g}"
    )

    def inside(fractions: np.ndarray) -> np.ndarray:
        cells_near = np.stack(np.meshgrid(*[np.arange(-300, 301)] * 2), axis=-1).reshape(-1, 1, 2)
        yx = ((cells_near + fractions).reshape(-1, 2) - start) @ lattice
        return yx[((yx >= 0) & (yx <= 255)).all(axis=1)]

    return micrograph, inside(shown), inside(hidden)


def _apart(first: np.ndarray, second: np.ndarray, size_nm: np.ndarray) -> np.ndarray:
    """Distances ``[N, M]`` [nm] between positions in a periodic cell, given as fractions."""
    apart = first[:, None] - second[None]
    return np.linalg.norm((apart - np.round(apart)) * size_nm, axis=-1)


def _shown(cell: np.ndarray, columns: np.ndarray, size_nm: np.ndarray, sign: int) -> np.ndarray:
    """The distinct columns of a cell that its image shows: those within 0.04 nm of a maximum
    (minimum in ABF) that rises over its surroundings by a twentieth of the highest one's rise."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    step = size_nm / cell.shape
    response = gaussian_filter(cell, 0.03 / step, mode="wrap")
    response = sign * (response - gaussian_filter(cell, 0.09 / step, mode="wrap"))
    tops = (response == maximum_filter(response, 3, mode="wrap")) & (
        response > 0.05 * response.max()
    )
    found = np.argwhere(tops) / cell.shape
    near = _apart(found, columns, size_nm)
    return np.array([columns[row.argmin()] for row in near if row.min() < 0.04])
