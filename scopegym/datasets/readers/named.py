"""Files of several named arrays: HDF5 with its EMD layouts, and MAT."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from scopegym.artifacts import Points
from scopegym.datasets.readers import mat5
from scopegym.datasets.readers.base import (
    SHOWN,
    Calibration,
    Content,
    as_text,
    bounded,
    calibration,
    cut_short,
    first,
    reader,
    shown,
    stated,
)
from scopegym.datasets.readers.frames import Stored, is_stack
from scopegym.errors import ScopegymError, unknown

#: How the axes of a stack are stored: frames first; frames last, as Velox does; or as MATLAB does,
#: which stores columns before rows.
Order = Literal["first", "last", "matlab"]
#: Smallest side [px] of an image among the arrays of one file.
MIN_SIDE = 16
#: Largest number of names in a message.
LISTED = 5
#: Largest number of bytes of a text or an axis beside an image.
MAX_BESIDE = 2**26
#: First bytes of a heap of variable-length texts, version 1.
_HEAP = b"GCOL\x01\0\0\0"
#: Where Velox keeps its images [H, W, T].
_VELOX = re.compile(r"Data/Image/[^/]+/Data")
#: One image of the atomagined set at several noise levels, and its columns (one True for each).
ATOMAGINED_IMAGE = "haadf/stem00-clean"
ATOMAGINED_TRUTH = "haadf/peak_map_clean"


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]], wanted: str | None) -> str:
    """The name of the requested array, or of the largest image."""
    if wanted is not None:
        if wanted.strip("/") not in shapes:
            near = get_close_matches(wanted, shapes, LISTED, 0)
            raise unknown(f"dataset of '{path.name}'", shown(wanted), map(shown, near))
        return wanted.strip("/")
    images = {n: math.prod(s) for n, s in shapes.items() if sorted(s)[-2] >= MIN_SIDE}
    if not images:
        raise ScopegymError(f"'{path.name}' holds no image of at least {MIN_SIDE} px a side.")
    largest = sorted(name for name in images if images[name] == max(images.values()))
    if len(largest) > 1 and ATOMAGINED_IMAGE not in largest:
        names = ", ".join(map(shown, largest[:LISTED])) + ", ..." * (len(largest) > LISTED)
        raise ScopegymError(
            f"'{path.name}' holds {len(largest)} images of one size, {names}; choose "
            f"one as '{path.name}:{shown(largest[0])}'."
        )
    return ATOMAGINED_IMAGE if len(largest) > 1 else largest[0]


# HDF5


@reader("an HDF5 file", ".h5", ".hdf5", ".hdf", ".emd", ".hspy", named=True)
def _read_hdf5(path: Path, dataset: str | None, order: Order = "first") -> Content:
    import h5py

    found: dict[str, Any] = {}
    elsewhere: dict[str, ScopegymError] = {}

    def visit(name: str, node: Any) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        if error := _elsewhere(node, path):  # even its shape can be that of another file
            elsewhere[name] = error
        elif node.dtype.kind in "iufc" and node.ndim in (2, 3):
            found[name] = node

    _check_heaps(path)
    with h5py.File(path, "r") as file:
        file.visititems(visit)
        _check_here(file, path, elsewhere, dataset)
        velox = list(filter(_VELOX.fullmatch, found))
        berkeley = [name for name in found if "emd_group_type" in found[name].parent.attrs]
        names = found if dataset else velox or berkeley or found
        name = _choose(path, {name: found[name].shape for name in names}, dataset)
        if name in velox and found[name].ndim == 3:
            order = "last"
        pixels = _image_or_frames(found[name], path, order)
        attributes = {k: _plain(v) for k, v in file.attrs.items()}
        metadata = {"dataset": name, "attributes": attributes, **_scale_alone(found[name])}
        peaks, truth = found.get(ATOMAGINED_TRUTH) or _beside(file, ATOMAGINED_TRUTH), None
        if peaks is not None and peaks.shape == pixels.shape:
            truth = Points(np.argwhere(_stored(peaks, path)).astype(np.float64), peaks.shape)
        return Content(pixels, _hdf5_calibration(found[name], pixels.shape, path), metadata, truth)


def _check_heaps(path: Path) -> None:
    """Raise ValueError if a heap of texts is damaged: the library would search it without end.

    A heap holds objects of index, size and content one after the other; the last one, of index 0,
    is what is free (HDF5 File Format Specification, III.E "Global Heap").
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as file:
        start = file.find(_HEAP)
        while start >= 0:
            at, end = start + 16, start + int.from_bytes(file[start + 8 : start + 16], "little")
            while at + 16 <= min(end, len(file)):
                free = not int.from_bytes(file[at : at + 2], "little")
                size = int.from_bytes(file[at + 8 : at + 16], "little")
                if free and size < 16:
                    raise ValueError("a heap of the file has no end")
                at += size if free else 16 + -(-size // 8) * 8
            start = file.find(_HEAP, start + 1)


def _elsewhere(node: Any, path: Path) -> ScopegymError | None:
    """The error for a dataset with values in another file."""
    if node.is_virtual:
        layout = node.id.get_create_plist()
        other = layout.get_virtual_filename(0) if layout.get_virtual_count() else ""
    elif node.external:
        other = node.external[0][0]
    else:
        return None
    return _outside(node.name, path, other)


def _outside(name: str, path: Path, other: str) -> ScopegymError:
    return ScopegymError(
        f"The dataset '{shown(name)}' of '{path.name}' keeps its pixels in another file "
        f"('{other[-SHOWN:]}'); copy them into one file."
    )


def _link(group: Any, name: str) -> int | None:
    """The kind of a link, None if there is none. The link is not followed."""
    import h5py

    if not isinstance(group, h5py.Group) or not group.id.links.exists(name.encode()):
        return None
    return group.id.links.get_info(name.encode()).type


def _check_here(
    file: Any, path: Path, elsewhere: Mapping[str, ScopegymError], dataset: str | None
) -> None:
    """Refuse a file whose datasets, or whose requested array, are in another file."""
    import h5py

    wanted = (dataset or "").strip("/")
    for name, error in elsewhere.items():
        if not wanted or name in (wanted, ATOMAGINED_TRUTH):
            raise error
    group = file
    for part in filter(None, wanted.split("/")):
        kind = _link(group, part)
        if kind == h5py.h5l.TYPE_EXTERNAL:
            other = as_text(group.id.links.get_val(part.encode())[0])
            raise _outside(wanted, path, other)
        if kind != h5py.h5l.TYPE_HARD:
            return
        group = group[part]


def _beside(group: Any, name: str) -> Any:
    """The dataset of that name in the file itself, None if there is none.

    Links by name are not followed: they can lead into other files.
    """
    import h5py

    for part in name.split("/"):
        if _link(group, part) != h5py.h5l.TYPE_HARD:
            return None
        group = group[part]
    here = isinstance(group, h5py.Dataset) and not group.is_virtual and not group.external
    return group if here else None


def _image_or_frames(node: Any, path: Path, order: Order) -> NDArray[Any] | Stored:
    """The image in a dataset, or the frames of the stack."""
    shape = tuple(map(int, node.shape))
    if node.ndim == 3 and order != "first":
        a, b, c = shape
        shape = (c, a, b) if order == "last" else (a, c, b)
    one = order == "last" and shape[0] == 1
    colour = order == "matlab" and shape[0] in (3, 4)
    if node.ndim != 3 or one or colour or (order == "first" and not is_stack(shape)):
        pixels = _stored(node, path)
        pixels = pixels.T if order == "matlab" else pixels
        return pixels[..., 0] if one else pixels
    bounded(path, shape[1:], node.dtype.itemsize)
    _check_written(node, path)
    return Stored.of(shape, node.dtype, partial(_nodes, path, node.name, order))


@contextmanager
def _nodes(path: Path, name: str, order: Order) -> Iterator[Callable[[int], NDArray[Any]]]:
    import h5py

    with h5py.File(path, "r") as file:
        node = file[name]

        def read(index: int) -> NDArray[Any]:
            frame: NDArray[Any] = node[..., index] if order == "last" else node[index]
            return frame.T if order == "matlab" else frame

        yield read


def _stored(node: Any, path: Path) -> NDArray[Any]:
    """The values of a dataset. Raises an error if a part was never written."""
    bounded(path, node.shape, node.dtype.itemsize)
    _check_written(node, path)
    return node[...]


def _check_written(node: Any, path: Path) -> None:
    """Refuse a dataset with a part that was never written, and blocks larger than the memory."""
    itemsize = node.dtype.itemsize
    if node.chunks:
        bounded(path, node.chunks, itemsize)
        pairs = zip(node.shape, node.chunks, strict=True)
        declared = math.prod(-(-side // chunk) for side, chunk in pairs)
        if (held := node.id.get_num_chunks()) < declared:
            raise cut_short(path, declared, held, f"blocks of the dataset '{shown(node.name)}'")
    elif (held := node.id.get_storage_size()) < node.size * itemsize:
        what = f"bytes of the dataset '{shown(node.name)}'"
        raise cut_short(path, node.size * itemsize, held, what)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, int | float) else as_text(value)


def _hdf5_calibration(node: Any, shape: tuple[int, ...], path: Path) -> Calibration | None:
    """Of the EMD layouts or HyperSpy's, or by attributes from the dataset up to the root."""
    if found := first((_velox, _berkeley, _hyperspy), node):
        return found
    while not (found := stated(node.attrs, shape, path, "HDF5 attribute")) and node.name != "/":
        node = node.parent
    return found


def _velox(node: Any) -> Calibration | None:
    texts = _beside(node.parent, "Metadata")  # one column per frame
    column = _small(texts, texts.shape[0], np.s_[:, 0])
    about = json.loads(column.tobytes().rstrip(b"\0"))["BinaryResult"]
    size, y, x = about["PixelSize"], about.get("PixelUnitY", "m"), about.get("PixelUnitX", "m")
    return calibration("Velox metadata", (size["height"], y), (size["width"], x))


def _berkeley(node: Any) -> Calibration | None:
    group = node.parent
    if "emd_group_type" not in group.attrs:
        return None
    # The first axis is dim1, from version 1.0 on dim0.
    last = node.ndim - (_beside(group, "dim0") is not None)
    y, x = (_step(_beside(group, f"dim{axis}")) for axis in (last - 1, last))
    return calibration("EMD dimensions", y, x)


def _hyperspy(node: Any) -> Calibration | None:
    y, x = _axes(node)
    return calibration("HyperSpy axes", y, x)


def _axes(node: Any) -> list[tuple[float, str]]:
    """Scale and unit of the last two axes in HyperSpy's layout."""
    import h5py

    found = []
    for axis in (node.ndim - 2, node.ndim - 1):
        name = f"axis-{axis}"
        if _link(node.parent, name) != h5py.h5l.TYPE_HARD:
            raise ValueError("there are no axes")
        about = node.parent[name].attrs
        found.append((float(about["scale"]), as_text(about.get("units", ""))))
    return found


def _scale_alone(node: Any) -> dict[str, float]:
    """The scale of axes in HyperSpy's layout that have no unit; empty for all others."""
    try:
        (y, unit), (x, other) = _axes(node)
    except (KeyError, TypeError, ValueError):
        return {}
    named = {unit, other} - {"", "<undefined>"}
    return {"scale_without_unit": x} if not named and y == x != 1 and 0 < x < math.inf else {}


def _step(axis: Any) -> tuple[float, str]:
    """Step and unit of an axis given by its coordinates or by the first two of them."""
    values = np.ravel(_small(axis, axis.size))
    unit = as_text(np.ravel(axis.attrs.get("units", ""))[0]).strip("[]").replace("_", "")
    return (abs(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else math.nan), unit


def _small(node: Any, size: int, where: Any = ...) -> NDArray[Any]:
    """The ``size`` values there. Raises ValueError for more than a text or an axis has."""
    if max(size, math.prod(node.chunks or ())) * node.dtype.itemsize > MAX_BESIDE:
        raise ValueError(f"{node.name} is too large")
    return node[where]


# MAT


@reader("a MAT file", ".mat", named=True)
def _read_mat(path: Path, dataset: str | None) -> Content:
    import h5py

    if h5py.is_hdf5(path):  # version 7.3
        return _read_hdf5(path, dataset, "matlab")
    variables = mat5.variables(path)
    name = _choose(path, {name: variable.shape for name, variable in variables.items()}, dataset)
    if variables[name].complex:
        raise ScopegymError(f"'{path.name}' holds complex numbers; an image is of real numbers.")
    bounded(path, variables[name].shape, 2 * variables[name].itemsize)  # unfolded, then the array
    return Content(_frames_first(variables[name].read()), metadata={"dataset": name})


def _frames_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """MATLAB counts frames last, where the colours of a picture also are."""
    stack = pixels.ndim == 3 and pixels.shape[2] not in (3, 4)
    return np.moveaxis(pixels, 2, 0) if stack else pixels
