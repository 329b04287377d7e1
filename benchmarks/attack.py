"""Hostile files and options: is each one read, or refused in one sentence?

Small valid files of every format are damaged byte by byte; recipes, tables, policy bundles,
sidecars and options get values that nobody should write; some files point at other files. Each
attack runs in a process of its own with 4 GB of addresses and 10 s. A folder of canaries lies
beside: whatever opens one of them has read outside the given paths.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["MPLBACKEND"] = "agg"

import argparse
import ctypes
import hashlib
import importlib
import json
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import scipy.io
import tifffile
import yaml

from scopegym.agents.policy import SHIPPED, SPEC, WEIGHTS
from scopegym.datasets.readers import load
from scopegym.errors import ScopegymError
from scopegym.experiments import cli
from scopegym.micrograph import Micrograph

SECONDS, NBYTES = 10.0, 4 * 2**30
#: Imported once here, and not in every child.
READERS = (
    "matplotlib.pyplot", "mrcfile", "ncempy.io.dm", "ncempy.io.ser", "pandas", "PIL.Image",
    "pyarrow.parquet", "scipy.io", "scipy.ndimage", "skimage.feature", "tifffile",
    "scopegym.experiments.apply", "scopegym.experiments.replay", "scopegym.experiments.report",
)  # fmt: skip
OUTCOMES = ("read", "refused", "traceback", "crash", "hang", "memory", "leak")
ALLOWED = ("read", "refused")
GREY = (np.arange(40 * 32, dtype=np.uint32) * 7 % 251).reshape(40, 32).astype(np.uint8)
STACK = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
#: What the canary files hold; pixels with these bytes came from there.
CANARY = np.random.default_rng(99).integers(1, 255, 64, np.uint8).tobytes()


class Attack(NamedTuple):
    """What is attacked, by which seed, and the action of the child that is attacked by it."""

    target: str
    index: int
    carry_out: Callable[[Path], str]


class Outcome(NamedTuple):
    """How an attack ended."""

    target: str
    index: int
    outcome: str
    seconds: float
    detail: str


# Valid files -------------------------------------------------------------------------------------


def digital_micrograph(version: int) -> bytes:
    """An image as Digital Micrograph 3 or 4 writes it."""
    word = ">I" if version == 3 else ">Q"

    def tag(value: Any) -> bytes:
        if isinstance(value, float):
            info, data = (6,), struct.pack("<f", value)
        elif isinstance(value, int):
            info, data = (5,), struct.pack("<I", value)
        elif isinstance(value, str):
            info, data = (20, 4, len(value)), value.encode("utf-16le")
        else:
            info, data = (20, 6, value.size), value.astype("<f4").tobytes()
        return b"%%%%" + b"".join(struct.pack(word, n) for n in (len(info), *info)) + data

    def group(tags: Any) -> bytes:
        entries = b""
        for name, value in tags.items() if isinstance(tags, dict) else [("", v) for v in tags]:
            nested = isinstance(value, dict | list)
            content = group(value) if nested else tag(value)
            entries += b"\x14" if nested else b"\x15"
            entries += struct.pack(">H", len(name)) + name.encode()
            entries += (struct.pack(">Q", len(content)) if version == 4 else b"") + content
        return b"\x01\x00" + struct.pack(word, len(tags)) + entries

    image = {
        "Calibrations": {"Dimension": [{"Scale": 0.5, "Units": "nm"}] * 2},
        "Data": GREY,
        "DataType": 2,
        "Dimensions": list(GREY.shape[::-1]),
    }
    body = group({"ImageList": [{"ImageData": image}]})
    return struct.pack(">I", version) + struct.pack(word, len(body)) + struct.pack(">I", 1) + body


def series() -> bytes:
    """An image as TIA writes it."""
    head, size = 30, 2 * 20 + 2 + 8 + 2 * GREY.size
    data = struct.pack(
        "<hhh4iii", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, 1, 1, head + size, 0
    ).ljust(head, b"\0")
    data += struct.pack("<ddi", 0, 5e-10, 0) * 2
    data += struct.pack("<hii", 2, GREY.shape[1], GREY.shape[0]) + GREY.astype("<u2").tobytes()
    return data + struct.pack("<2i", head, head)


def hdf5(path: Path, key: str = "scan/image", **settings: Any) -> None:
    with h5py.File(path, "w", userblock_size=settings.pop("userblock_size", 0)) as file:
        file.create_dataset(key, data=GREY, **settings)


def velox(path: Path) -> None:
    about = {"PixelSize": {"width": "5e-10", "height": "5e-10"}, "PixelUnitX": "m"}
    text = json.dumps({"BinaryResult": {**about, "PixelUnitY": "m"}}).encode().ljust(600, b"\0")
    with h5py.File(path, "w") as file:
        file["Data/Image/0a1b/Data"] = GREY[..., None]
        file["Data/Image/0a1b/Metadata"] = np.frombuffer(text, np.uint8)[:, None]


def berkeley(path: Path) -> None:
    with h5py.File(path, "w") as file:
        image = file.create_group("data/scan")
        image.attrs["emd_group_type"] = 1
        image["data"] = GREY
        for axis, size in enumerate(GREY.shape):
            image[f"dim{axis + 1}"] = 0.5 * np.arange(size)
            image[f"dim{axis + 1}"].attrs["units"] = b"[n_m]"


def mat73(path: Path) -> None:
    hdf5(path, "image", userblock_size=512)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


def mrc(path: Path) -> None:
    with mrcfile.new(path, GREY.astype(np.float32)) as file:
        file.voxel_size = 5.0


def video(path: Path, codec: str) -> None:
    frames = np.repeat(np.kron(STACK, np.ones((1, 2, 2), np.uint8))[..., None], 3, axis=-1)
    iio.imwrite(path, frames, plugin="FFMPEG", fps=12, codec=codec, macro_block_size=1)


FORMATS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "TIFF (ImageJ)": (".tif", lambda p: tifffile.imwrite(
        p, GREY, imagej=True, resolution=(2, 2), metadata={"unit": "nm"})),
    "TIFF (strips)": (".tif", lambda p: tifffile.imwrite(p, GREY, rowsperstrip=7)),
    "TIFF (tiles, deflate)": (".tif", lambda p: tifffile.imwrite(
        p, GREY, tile=(16, 16), compression="zlib", predictor=True)),
    "TIFF (OME stack)": (".ome.tif", lambda p: tifffile.imwrite(p, STACK, ome=True)),
    "TIFF (BigTIFF, 16 bit)": (".tif", lambda p: tifffile.imwrite(
        p, GREY.astype(">u2"), bigtiff=True, byteorder=">")),
    "PNG": (".png", lambda p: iio.imwrite(p, GREY)),
    "JPEG": (".jpg", lambda p: iio.imwrite(p, GREY)),
    "NPY": (".npy", lambda p: np.save(p, GREY)),
    "HDF5": (".h5", hdf5),
    "HDF5 (chunks, gzip)": (".h5", lambda p: hdf5(p, chunks=(8, 8), compression="gzip")),
    "EMD (Velox)": (".emd", velox),
    "EMD (Berkeley)": (".emd", berkeley),
    "SER": (".ser", lambda p: p.write_bytes(series())),
    "DM3": (".dm3", lambda p: p.write_bytes(digital_micrograph(3))),
    "DM4": (".dm4", lambda p: p.write_bytes(digital_micrograph(4))),
    "MRC": (".mrc", mrc),
    "MAT 5": (".mat", lambda p: scipy.io.savemat(p, {"image": GREY, "r": np.ones((3, 1))})),
    "MAT 5 (compressed)": (".mat", lambda p: scipy.io.savemat(
        p, {"image": GREY, "cell": {"a": [1, "x"]}}, do_compression=True)),
    "MAT 7.3": (".mat", mat73),
    "AVI": (".avi", lambda p: video(p, "ffv1")),
    "MP4": (".mp4", lambda p: video(p, "mpeg4")),
}  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with one to three mutations, half of them in the first 600 bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        end = max(1, min(len(data), 600) if rng.random() < 0.5 else len(data))
        at, kind = int(rng.integers(end)), int(rng.integers(7))
        if kind == 0:  # bits
            for place in rng.integers(at, min(at + 64, len(data)), 4) if len(data) > at else ():
                data[int(place)] ^= 1 << int(rng.integers(8))
        elif kind == 1:  # a byte
            data[at : at + 1] = bytes([int(rng.choice([0, 255]))])
        elif kind == 2:  # the end
            del data[max(at, 1) :]
        elif kind in (3, 4):  # a field
            size = int(rng.choice([2, 4, 8]))
            top = 1 << 8 * size
            extreme = (0, 1, 2, top - 1, top // 2 - 1, top // 2, top // 16, 10**9 % top)
            value = extreme[int(rng.integers(len(extreme)))]
            place = at // size * size
            data[place : place + size] = value.to_bytes(size, "big" if kind == 3 else "little")
        elif kind == 5:  # a block twice
            block = bytes(data[at : at + int(rng.integers(1, 200))])
            data[at:at] = block
        else:  # a block gone
            del data[at : at + int(rng.integers(1, 200))]
        data = data or bytearray(b"\0")
    return bytes(data)


def read_image(path: Path) -> str:
    """Read it as every command does; "leak" when its pixels are the canary's."""
    for image in load(path).images:
        if CANARY[:16] in image.data.astype(np.uint8, casting="unsafe").tobytes():
            return "leak"
        image.normalized()
    return "read"


def of_images(seed: int, count: int) -> Iterator[Attack]:
    """Byte mutations, the same number of every format."""
    whole = {}
    with tempfile.TemporaryDirectory() as folder:
        for target, (suffix, write) in FORMATS.items():
            path = Path(folder) / f"whole{suffix}"
            write(path)
            whole[target] = path.read_bytes()
    for index in range(count):
        number = index % len(FORMATS)
        target = [*FORMATS][number]

        def carry_out(
            folder: Path, target: str = target, number: int = number, i: int = index
        ) -> str:
            path = folder / f"image{FORMATS[target][0]}"
            rng = np.random.default_rng([seed, number, i])
            # The first of every format is the file itself.
            content = whole[target]
            path.write_bytes(content if i < len(FORMATS) else damaged(content, rng))
            return read_image(path)

        yield Attack(target, index, carry_out)


# Values that nobody should write -----------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1e-300, 1e300, -1e300, 10**9, 10**18, 10**400,
    float("nan"), float("inf"), float("-inf"), "", "x", "0", "1e999", "../../etc/passwd",
    "/etc/passwd", "x" * 100_000, "\x1b[2J", "\ud800".encode("utf-8", "replace").decode(), "²",
    [], [[]], [1, 2, 3], [0, 0], [None], ["x"] * 100, [1] * 100_000, {}, {"a": 1}, {"": {}},
    {"value": 1, "unit": "nm"}, "2020-01-01", "__import__('os').system('true')",
)  # fmt: skip
RECIPE: dict[str, Any] = {
    "recipe": 1,
    "task": "atoms",
    "reward": {"name": "r", "weights": {"count_error": 1.0}, "scalarisation": "product"},
    "image": {"name": "image.npy", "sha256": "x", "shape": [96, 96], "pixel_size_nm": 0.02},
    "score": {"value": 0.5, "terms": {"count_error": 0.5}},
    "workflow": [
        {"operator": "gaussian", "version": 1,
         "parameters": {"sigma": {"value": 0.1, "unit": "spacing"}}},
        {"operator": "local_maxima", "version": 1, "parameters": {}},
    ],
    "prior": {
        "scale_px": 9.0, "count": 100.0, "neighbour_sums_px": [36.0], "contrast": "bright",
        "lattice_px": [[9.0, 0.0], [0.0, 9.0]], "sources": {"scale_px": "crystal"},
    },
    "made_with": {"scopegym": "0.1.0"},
}  # fmt: skip
WINDOWED = {**RECIPE, "windows": {"size": 48, "stride": 24, "workflows": [RECIPE["workflow"]] * 9}}


def leaves(plain: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in nested mappings and lists."""
    places = [at] if at else []
    if isinstance(plain, dict | list):
        for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
            places += leaves(value, (*at, key))
    return places


def exchanged(plain: Any, rng: np.random.Generator) -> Any:
    """A deep copy with a value or two exchanged for one that nobody should write."""
    plain = json.loads(json.dumps(plain))
    for _ in range(int(rng.integers(1, 3))):
        places = leaves(plain)
        *way, last = places[int(rng.integers(len(places)))]
        inside = plain
        for key in way:
            inside = inside[key]
        if rng.random() < 0.15 and isinstance(inside, dict):
            del inside[last]
        else:
            inside[last] = VALUES[int(rng.integers(len(VALUES)))]
    return plain


def image_in(folder: Path) -> Path:
    path = folder / "image.npy"
    rows, columns = np.mgrid[:96, :96] * 2 * np.pi / 9
    noise = np.random.default_rng(0).normal(0, 0.05, (96, 96))
    np.save(path, (np.cos(rows) + np.cos(columns) + noise).astype(np.float32))
    return path


def command(*arguments: Any) -> str:
    """What the command line makes of these arguments: it exits, and a fault says so."""
    sys.argv = ["scopegym", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    if code in (0, 2):
        return "read" if code == 0 else "refused"
    return "traceback"


def attack_recipe(folder: Path, rng: np.random.Generator) -> str:
    path = folder / "recipe.yaml"
    text = yaml.safe_dump(exchanged(RECIPE if rng.random() < 0.7 else WINDOWED, rng))
    content = text.encode("utf-8", "backslashreplace")
    path.write_bytes(damaged(content, rng) if rng.random() < 0.3 else content)
    return command("run", path, image_in(folder), "--pixel-size", "20 pm", "--out", folder / "out")


def attack_table(folder: Path, rng: np.random.Generator) -> str:
    (folder / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    image_in(folder)
    row = ["r.yaml", "image.npy", "0.5"]
    value = VALUES[int(rng.integers(len(VALUES)))]
    row[int(rng.integers(3))] = str(value) if not isinstance(value, int) else hex(value)
    content = ("recipe_file,image_file,score\n" + ",".join(row) + "\n").encode("utf-8", "replace")
    (folder / "t.csv").write_bytes(damaged(content, rng) if rng.random() < 0.5 else content)
    return command("run", folder / "t.csv", "--pixel-size", "20 pm", "--out", folder / "out")


def attack_bundle(folder: Path, rng: np.random.Generator) -> str:
    bundle = Path(shutil.copytree(SHIPPED / "atoms", folder / "policy"))
    spec = json.loads((bundle / SPEC).read_text())
    if rng.random() < 0.3:
        content = damaged((bundle / WEIGHTS).read_bytes(), rng)
        (bundle / WEIGHTS).write_bytes(content)
        spec["sha256"] = hashlib.sha256(content).hexdigest()
    else:  # the entries that decide, rather than one of 300 features
        some = {k: spec[k] for k in spec if k not in ("features", "operators", "made_with")}
        spec = {**spec, **exchanged({**some, "operators": spec["operators"][:2]}, rng)}
        if rng.random() < 0.7 and len(spec.get("operators") or ()) == 2:
            spec["operators"] = json.loads((SHIPPED / "atoms" / SPEC).read_text())["operators"]
    (bundle / SPEC).write_text(json.dumps(spec))
    return command(
        "apply", bundle, image_in(folder), "--spacing", "9 px", "--density", "30", "--pixel-size",
        "20 pm", "--backend", "serial", "--workers", "1", "--out", folder / "out",
    )  # fmt: skip


def attack_sidecar(folder: Path, rng: np.random.Generator) -> str:
    path = image_in(folder)
    plain = {"field_of_view_x": "1.92 nm", "field_of_view_y": "1.92 nm", "pixel_size": "20 pm"}
    content = json.dumps(exchanged(plain, rng)).encode()
    path.with_suffix(".json").write_bytes(damaged(content, rng) if rng.random() < 0.4 else content)
    return read_image(path)


OPTION_VALUES = (
    "", " ", "0", "-1", "1e-30 nm", "1e300 nm", "1e999 nm", "nan", "inf", "-inf", "1e300", "nan nm",
    "1000,999,997", "0,0,0", "a,b,c", "1,0", "1,0,0,0", "1e-9 px", "1e9 nm", "10" * 40, "²³ pm",
    "１ nm", "x" * 10_000, "/dev/zero", "/etc/passwd", ".", "none.cif", "$(id)", "\x1b[2J", "9 px",
    "--json", "1" + ",1" * 1000,
)  # fmt: skip
OPTIONS = (
    "--pixel-size", "--zone", "--density", "--spacing", "--frame", "--budget", "--seed", "--window",
    "--stride", "--crystal", "--task", "--agent", "--pick", "--contrast", "--calibration",
    "--reward", "--device",
)  # fmt: skip


def attack_option(folder: Path, rng: np.random.Generator) -> str:
    option = OPTIONS[int(rng.integers(len(OPTIONS)))]
    value = OPTION_VALUES[int(rng.integers(len(OPTION_VALUES)))]
    known = ["--crystal", "Cu"] if rng.random() < 0.5 else ["--density", "30", "--spacing", "9 px"]
    return command(
        "solve", image_in(folder), "--agent", "expert", "--budget", "3", "--pixel-size", "20 pm",
        *known, "--out", folder / "out", "--backend", "serial", f"{option}={value}",
    )  # fmt: skip


def attack_crystal(folder: Path, rng: np.random.Generator) -> str:
    rows = "\n".join(f"Cu {x} {y} {z} 1" for x, y, z in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5)))
    cell = "".join(f"_cell_length_{c} 3.6\n_cell_angle_{a} 90\n"
                   for c, a in zip("abc", ("alpha", "beta", "gamma"), strict=True))  # fmt: skip
    names = ("type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    head = "".join(f"_atom_site_{name}\n" for name in names)
    text = f"data_x\n{cell}_symmetry_space_group_name_H-M 'P 1'\nloop_\n{head}{rows}\n"
    path = folder / "x.cif"
    path.write_bytes(damaged(text.encode(), rng))
    return command(
        "solve", image_in(folder), "--agent", "expert", "--budget", "3", "--pixel-size", "20 pm",
        "--crystal", path, "--calibration", "trust", "--out", folder / "out",
    )  # fmt: skip


def attack_outside(folder: Path, rng: np.random.Generator) -> str:
    """Files that point at the canaries, or at a pipe that nobody writes to."""
    canary = folder.parent / "canary"
    target = canary / ("pipe" if rng.random() < 0.3 else "canary")
    kind = int(rng.integers(8))
    path = folder / ("image.mat" if rng.random() < 0.3 else "image.h5")
    if kind == 0:
        with h5py.File(path, "w") as file:
            file.create_dataset("image", (40, 32), "u1", external=[(str(target), 0, 1280)])
    elif kind == 1:
        layout = h5py.VirtualLayout((40, 32), "u1")
        layout[:] = h5py.VirtualSource(str(canary / "canary.h5"), "image", (40, 32))
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("image", layout)
    elif kind == 2:
        with h5py.File(path, "w") as file:
            file["image"] = h5py.ExternalLink(str(canary / "canary.h5"), "image")
    elif kind == 3:
        path = folder / "image.ome.tif"
        tifffile.imwrite(path, STACK, ome=True)
        text = path.read_bytes().replace(b"</OME>", b"")
        about = f'<TiffData FirstT="1"><UUID FileName="{canary / "canary.tif"}">x</UUID></TiffData>'
        path.write_bytes(text.replace(b"<TiffData", about.encode()[:200] + b"<TiffData", 1))
    elif kind == 4:
        path = folder / f"image{rng.choice(['.avi', '.mp4', '.mov'])}"
        path.write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    elif kind == 5:
        path = folder / f"image{rng.choice(['.avi', '.mp4', '.mov'])}"
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        path.write_text(f"{head}file://{canary / 'canary.mp4'}\n#EXT-X-ENDLIST\n")
    elif kind == 6:
        (folder / "r.yaml").write_text(yaml.safe_dump(RECIPE))
        rows = f"r.yaml,{target},0.5\n../canary/canary,image.npy,0.5\n"
        (folder / "t.csv").write_text("recipe_file,image_file,score\n" + rows)
        return command("run", folder / "t.csv", "--out", folder / "out")
    else:
        path = folder / "image.npy"
        np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    return read_image(path)


OTHERS: dict[str, tuple[int, Callable[[Path, np.random.Generator], str]]] = {
    "recipes": (30, attack_recipe),
    "tables": (5, attack_table),
    "policy bundles": (25, attack_bundle),
    "sidecars": (10, attack_sidecar),
    "options": (20, attack_option),
    "crystals (CIF)": (5, attack_crystal),
    "files that point outside": (5, attack_outside),
}


def of_values(seed: int, count: int) -> Iterator[Attack]:
    """Hostile recipes, bundles, sidecars, options and links, in these shares."""
    for number, (target, (share, action)) in enumerate(OTHERS.items()):
        for index in range(max(1, count * share // 100)):

            def carry_out(
                folder: Path, action: Any = action, key: Any = (seed, 99, number, index)
            ) -> str:
                return action(folder, np.random.default_rng(key))

            yield Attack(target, index, carry_out)


# One process per attack --------------------------------------------------------------------------


class Watch:
    """Notices every opening of a file in a folder, whoever opens it (inotify of Linux)."""

    IN_OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in (folder, *folder.iterdir()):
            if path != folder:
                libc.inotify_add_watch(self.handle, os.fsencode(path), self.IN_OPEN)

    def opened(self) -> bool:
        """Whether one was opened since this was asked last."""
        try:
            return bool(os.read(self.handle, 65536))
        except BlockingIOError:
            return False


def canaries(folder: Path) -> Path:
    """Files that no attack may open, and a pipe that would be waited for."""
    folder.mkdir()
    pixels = np.frombuffer(CANARY * 20, np.uint8).reshape(40, 32)
    (folder / "canary").write_bytes(pixels.tobytes())
    tifffile.imwrite(folder / "canary.tif", pixels)
    with h5py.File(folder / "canary.h5", "w") as file:
        file["image"] = pixels
    video(folder / "canary.mp4", "mpeg4")
    os.mkfifo(folder / "pipe")
    return folder


def child(attack: Attack, folder: Path, report: int) -> None:
    """Carry out an attack and report; never returns."""
    os.setsid()
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    resource.setrlimit(resource.RLIMIT_AS, (NBYTES, NBYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    detail = ""
    try:
        outcome = attack.carry_out(folder)
        sys.stderr.flush()
        if outcome in ("refused", "traceback"):
            lines = (folder / "said").read_text(errors="replace").strip().splitlines()
            detail = lines[-1] if lines else ""
            if outcome == "refused" and len(lines) != 1:
                outcome = "traceback"
    except ScopegymError as error:
        outcome, detail = "refused", str(error)
        if "\n" in detail or len(detail) > 700:
            outcome = "traceback"
    except MemoryError as error:
        outcome, detail = "memory", repr(error)
    except BaseException as error:
        outcome, detail = "traceback", f"{type(error).__name__}: {error}"
    if outcome == "traceback" and "MemoryError" in detail:
        outcome = "memory"
    os.write(report, json.dumps([outcome, detail[:300]]).encode())
    os._exit(0)


def carried_out(attack: Attack, scratch: Path, watch: Watch) -> Outcome:
    """Fork, wait, and say how it ended."""
    folder = scratch / "attack"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ours, theirs = os.pipe()
    start = time.perf_counter()
    process = os.fork()
    if process == 0:
        child(attack, folder, theirs)
    os.close(theirs)
    ready, _, _ = select.select([ours], [], [], SECONDS)
    seconds = time.perf_counter() - start
    content = os.read(ours, 65536) if ready else b""
    os.close(ours)
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not ready:
        found = ["hang", ""]
    elif content:
        found = json.loads(content)
    else:
        found = ["crash", f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"]
    if watch.opened():
        found[0] = "leak"
    if attack.target in FORMATS and attack.index < len(FORMATS) and found[0] == "refused":
        found = ["traceback", f"the undamaged file is refused: {found[1]}"]
    return Outcome(attack.target, attack.index, found[0], seconds, found[1])


def all_of(attacks: Sequence[Attack], job: int) -> list[Outcome]:
    """Carry out a share of the attacks, one after the other."""
    with tempfile.TemporaryDirectory(prefix=f"attack-{job}-") as scratch:
        watch = Watch(canaries(Path(scratch) / "canary"))
        return [carried_out(attack, Path(scratch), watch) for attack in attacks]


def side_by_side(attacks: Sequence[Attack], jobs: int) -> list[Outcome]:
    """Carry out all attacks in this many processes."""
    if jobs == 1:
        return all_of(attacks, 0)
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for job in range(jobs):
            process = os.fork()
            if process == 0:
                done = all_of(attacks[job::jobs], job)
                (Path(folder) / f"{job}.json").write_text(json.dumps(done))
                os._exit(0)
            started.append(process)
        for process in started:
            os.waitpid(process, 0)
        files = sorted(Path(folder).glob("*.json"))
        if len(files) != jobs:
            raise SystemExit("A job of the attack itself has ended early.")
        return [Outcome(*row) for file in files for row in json.loads(file.read_text())]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The outcomes by target, as a table in Markdown."""
    lines = [f"| target | attacks | {' | '.join(OUTCOMES)} | slowest [s] |"]
    lines += ["|" + "---|" * (len(OUTCOMES) + 3)]
    targets = [*dict.fromkeys(target for target in [*FORMATS, *OTHERS])]
    rows: dict[str, list[Outcome]] = {target: [] for target in targets}
    for outcome in outcomes:
        rows[outcome.target].append(outcome)
    for target, found in [*rows.items(), ("all", [*outcomes])]:
        if found:
            counts: Mapping[str, int] = Counter(one.outcome for one in found)
            numbers = " | ".join(str(counts[name]) for name in OUTCOMES)
            slowest = max(one.seconds for one in found)
            lines.append(f"| {target} | {len(found)} | {numbers} | {slowest:.1f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="byte mutations of image files")
    parser.add_argument("--values", type=int, default=300, help="hostile recipes, options, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", metavar="TARGET", help="attack this alone")
    parser.add_argument("--index", type=int, help="carry out this attack alone")
    chosen = parser.parse_args()
    for name in READERS:
        importlib.import_module(name)
    Micrograph(GREY).normalized()
    attacks = [*of_images(chosen.seed, chosen.count), *of_values(chosen.seed, chosen.values)]
    if chosen.only is not None:
        attacks = [attack for attack in attacks if attack.target == chosen.only]
    if chosen.index is not None:
        attacks = [attack for attack in attacks if attack.index == chosen.index]
    start = time.perf_counter()
    outcomes = side_by_side(attacks, chosen.jobs)
    print("\n".join(table(outcomes)))
    print(f"\nSeed {chosen.seed}, {time.perf_counter() - start:.0f} s in {chosen.jobs} processes.")
    bad = [one for one in outcomes if one.outcome not in ALLOWED]
    for one in bad[:50] if chosen.index is None else outcomes:
        print(f"- {one.target}, index {one.index}: {one.outcome} {one.detail}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
