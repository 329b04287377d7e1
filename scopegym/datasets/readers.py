"""Image files: one function per format, chosen by the suffix of the file.

A reader returns the stored pixels and the calibration the file states. What all formats share
(checks, colour, the sidecar, hash and metadata) is in ``read``; a new format is one function.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from scopegym.artifacts import Points
from scopegym.errors import ScopegymError, unknown
from scopegym.micrograph import Micrograph
from scopegym.units import NANOMETRES, parse_length

#: Most pixels one file may hold, 8 GiB as float32: a header that claims more is not believed.
MAX_PIXELS = 2**31
#: Smallest side [px] of what counts as an image among the arrays of one file.
MIN_SIDE = 16
#: Largest pixel [nm] taken for a calibration where the file does not say that it is one.
PLAUSIBLE_NM = 1e4
#: How much the two sides of a pixel may differ and still count as square.
SQUARE = 0.02
#: Units of calibrations. Inches are what printers count in: 72 dpi says nothing of a microscope.
_LENGTHS = {unit: size for unit, size in NANOMETRES.items() if unit != "inch"}
#: Where Velox keeps its images [H, W, T].
_VELOX = re.compile(r"Data/Image/[^/]+/Data")
#: One image of the atomagined set at several noise levels, and its columns (one True for each).
ATOMAGINED_IMAGE = "haadf/stem00-clean"
ATOMAGINED_TRUTH = "haadf/peak_map_clean"


class _Calibration(NamedTuple):
    y_nm: float
    x_nm: float
    source: str


class _Content(NamedTuple):
    pixels: NDArray[Any]
    calibration: _Calibration | None = None
    metadata: Mapping[str, Any] = {}
    truth: Points | None = None


class _Format(NamedTuple):
    label: str
    read: Callable[..., _Content]
    named: bool


_FORMATS: dict[str, _Format] = {}


def _reader(label: str, *suffixes: str, named: bool = False) -> Callable[..., Any]:
    """Register a reader; one whose files hold ``named`` arrays also takes the name wanted."""

    def register(function: Callable[..., _Content]) -> Callable[..., _Content]:
        _FORMATS.update(dict.fromkeys(suffixes, _Format(label, function, named)))
        return function

    return register


def read(
    path: Path, *, dataset: str | None = None, pixel_size_nm: float | None = None
) -> Micrograph:
    """Read an image file as it is stored, with the calibration it states.

    ``dataset`` names one array of an HDF5 or MAT file, as does ``file.h5:group/name``;
    ``pixel_size_nm`` replaces what the file states. Raises ScopegymError for all bad input.
    """
    path, dataset = _address(Path(path), dataset)
    form, sha256 = _format(path), _sha256(path)
    if dataset and not form.named:
        raise ScopegymError(f"'{path.name}' is {form.label} and has no dataset '{dataset}' in it.")
    with _quiet():
        content = _content(path, form, dataset)
        pixels = _numbers(content.pixels, path).astype(np.float32)
    calibration = (
        _Calibration(pixel_size_nm, pixel_size_nm, "given")
        if pixel_size_nm is not None
        else content.calibration or _sidecar(path, pixels.shape)
    )
    metadata = {
        **content.metadata,
        "file_sha256": sha256,
        "reader": form.read.__name__.removeprefix("_read_"),
        "dtype": content.pixels.dtype.name,
    }
    if calibration:
        metadata["pixel_size_source"] = calibration.source
    return Micrograph(pixels, _square(calibration, path), path.name, metadata, content.truth)


def _address(path: Path, dataset: str | None) -> tuple[Path, str | None]:
    """Split ``file.h5:group/name``, unless a file of that very name exists."""
    suffixes = "|".join(re.escape(suffix) for suffix, form in _FORMATS.items() if form.named)
    match = re.fullmatch(rf"(.+(?:{suffixes})):(.+)", str(path), re.IGNORECASE)
    if match is None or path.exists():
        return path, dataset
    return Path(match[1]), dataset or match[2]


def _format(path: Path) -> _Format:
    if not path.exists():
        raise ScopegymError(f"There is no file '{path}'.")
    if not path.is_file():
        raise ScopegymError(f"'{path}' is a folder or a device; give one image file.")
    suffix = path.suffix.casefold()
    if suffix not in _FORMATS:
        near = get_close_matches(suffix, _FORMATS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ScopegymError(
            f"'{path.name}' has the unsupported suffix '{suffix}'{hint}; "
            f"supported are {', '.join(SUFFIXES)}."
        )
    return _FORMATS[suffix]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            if not stream.read(1):
                raise ScopegymError(f"'{path.name}' is empty (0 bytes).")
            stream.seek(0)
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ScopegymError(f"'{path}' cannot be opened ({error.strerror}).") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries: what goes wrong is said once, by the error."""
    loggers = [logging.getLogger(name) for name in ("tifffile", "imageio_ffmpeg")]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        for logger in loggers:
            logger.disabled = False


def _content(path: Path, form: _Format, dataset: str | None) -> _Content:
    try:
        return form.read(path, dataset) if form.named else form.read(path)
    except ScopegymError:
        raise
    except Exception as error:  # a damaged file makes the libraries raise anything
        traceback.clear_frames(error.__traceback__)  # and lets go of what they left open
        raise ScopegymError(
            f"'{path.name}' cannot be read as {form.label}; it is damaged, cut short or of "
            "another format."
        ) from error


def _numbers(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array, grey and real; a last axis of 3 or 4 is taken for the colours of a picture."""
    if pixels.dtype.kind not in "biuf":
        held = "complex numbers" if pixels.dtype.kind == "c" else f"'{pixels.dtype}'"
        raise ScopegymError(f"'{path.name}' holds {held}; an image is of real numbers.")
    in_colour = pixels.ndim in (3, 4) and pixels.shape[-1] in (3, 4)
    return _grey(pixels, path) if in_colour and min(pixels.shape[-3:-1]) > 4 else pixels


def _grey(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Grey from ``[..., channels]``: all colours equal, the alpha of 2 or 4 channels opaque."""
    colours = pixels.shape[-1] - (pixels.shape[-1] in (2, 4))
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    if (pixels[..., colours:] != opaque).any():
        raise ScopegymError(f"'{path.name}' is partly transparent; remove its alpha channel.")
    if (pixels[..., :colours] != pixels[..., :1]).any():
        raise ScopegymError(f"'{path.name}' is a colour photograph; convert it to grey first.")
    return np.ascontiguousarray(pixels[..., 0])


def _bounded(path: Path, shape: Iterable[int]) -> None:
    sides = tuple(int(side) for side in shape)
    if math.prod(sides) > MAX_PIXELS:
        raise ScopegymError(
            f"'{path.name}' claims the shape {sides}, more than the {MAX_PIXELS} pixels allowed."
        )


# Calibration


def _calibration(source: str, y: tuple[Any, Any], x: tuple[Any, Any]) -> _Calibration | None:
    """The pixel size from (value, unit) of each axis; None unless both are lengths."""
    try:
        y_nm, x_nm = (float(v) * _LENGTHS[_text(unit).strip().casefold()] for v, unit in (y, x))
    except (KeyError, TypeError, ValueError):
        return None
    return _Calibration(y_nm, x_nm, source) if 0 < y_nm < math.inf > x_nm > 0 else None


def _first(finders: Iterable[Callable[..., _Calibration | None]], of: Any) -> _Calibration | None:
    """The first calibration found; whatever one raises that is absent or damaged."""
    for find in finders:
        with suppress(Exception):
            if found := find(of):
                return found
    return None


def _plausible(found: _Calibration | None) -> _Calibration | None:
    return found if found and max(found.y_nm, found.x_nm) < PLAUSIBLE_NM else None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _square(calibration: _Calibration | None, path: Path) -> float | None:
    if calibration is None:
        return None
    y, x, _ = calibration
    if abs(y - x) > SQUARE * max(y, x):
        raise ScopegymError(
            f"The pixels of '{path.name}' are not square: {y:g} nm high and {x:g} nm wide; "
            "resample the image or give its pixel size."
        )
    return (y + x) / 2


def _sidecar(path: Path, shape: tuple[int, ...]) -> _Calibration | None:
    """What ``image.json`` beside ``image.*`` states, at any depth."""
    beside = path.with_suffix(".json")
    if not beside.is_file() or len(shape) < 2 or 0 in shape:
        return None
    try:
        tables = list(_tables(json.loads(beside.read_text("utf-8"))))
    except (OSError, ValueError, RecursionError) as error:
        raise ScopegymError(f"The sidecar '{beside.name}' is not valid JSON.") from error
    found = (_stated(table, shape, beside, "JSON sidecar") for table in tables)
    return next(filter(None, found), None)


def _tables(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from _tables(child)


def _stated(
    table: Mapping[str, Any], shape: tuple[int, ...], path: Path, source: str
) -> _Calibration | None:
    """The pixel size, or the field of view over the number of pixels, among named values.

    Keys: ``pixel_size`` as text with its unit or beside ``pixel_size_unit``, ``pixel_size_nm``
    and other units, ``field_of_view_x``, ``_y`` and ``_units``, and ``angstrom_xy``, an attribute
    at the root of the atomagined files: the width of the (square) field [Å].
    """

    def lengths(key: str, unit: Any) -> list[float]:
        given = table.get(key)
        values = () if given is None else np.ravel(given)[-2:]
        what = f"{key} in '{path.name}',"
        return [parse_length(f"{_text(value)} {_text(unit)}".rstrip(), what) for value in values]

    keys = {f"pixel_size_{unit}": unit for unit in NANOMETRES}
    keys["pixel_size"] = table.get("pixel_size_unit", table.get("pixel_size_units", ""))
    for key, unit in keys.items():
        if sizes := lengths(key, unit):
            return _Calibration(sizes[0], sizes[-1], source)
    unit = table.get("field_of_view_units", "")
    x = lengths("field_of_view_x", unit) or lengths("angstrom_xy", "Å")
    y = lengths("field_of_view_y", unit) or [width * shape[-2] / shape[-1] for width in x]
    return _Calibration(y[0] / shape[-2], x[0] / shape[-1], source) if x else None


# TIFF, pictures, arrays and video


@_reader("a TIFF image", ".tif", ".tiff")
def _read_tiff(path: Path) -> _Content:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = max(file.series, key=lambda series: series.size)  # the others are thumbnails
        _bounded(path, series.shape)
        try:
            pixels, channels = series.asarray(), series.axes.find("S")
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            # For LZW and JPEG tifffile needs a further library; Pillow has them.
            pixels, channels = _imageio().imread(path, plugin="pillow", index=...), -1
            pixels = pixels[0] if len(pixels) == 1 else pixels
        if "S" in series.axes:
            pixels = _grey(np.moveaxis(pixels, channels, -1), path)
        return _Content(pixels, _first((_titan, _fei, _ome, _imagej, _centimetres), file))


def _titan(file: Any) -> _Calibration | None:
    root = ElementTree.fromstring(_text(file.pages.first.tags[34683].value).strip("\0 \r\n"))
    axes = {axis.tag: axis for axis in root.iterfind("BinaryResult/PixelSize/*")}
    y, x = ((axes[name].text, axes[name].get("unit")) for name in "YX")
    return _calibration("FEI_TITAN tag", y, x)


def _fei(file: Any) -> _Calibration | None:
    scan = file.fei_metadata["Scan"]
    name = "FEI_HELIOS tag" if 34682 in file.pages.first.tags else "FEI_SFEG tag"
    return _calibration(name, (scan["PixelHeight"], "m"), (scan["PixelWidth"], "m"))


def _ome(file: Any) -> _Calibration | None:
    pixels = next(ElementTree.fromstring(file.ome_metadata).iterfind(".//{*}Pixels")).attrib
    x = pixels["PhysicalSizeX"], pixels.get("PhysicalSizeXUnit", "µm")
    y = pixels.get("PhysicalSizeY", x[0]), pixels.get("PhysicalSizeYUnit", x[1])
    return _calibration("OME-XML", y, x)


def _imagej(file: Any) -> _Calibration | None:
    escaped = str(file.imagej_metadata["unit"])
    unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), escaped)
    y, x = _resolution(file)
    return _calibration("ImageJ tag", (y, unit), (x, unit))


def _centimetres(file: Any) -> _Calibration | None:
    if file.pages.first.tags[296].value != 3:  # ResolutionUnit CENTIMETER
        return None
    y, x = _resolution(file)
    return _plausible(_calibration("TIFF resolution", (y, "cm"), (x, "cm")))


def _resolution(file: Any) -> tuple[float, float]:
    """Units per pixel along y and x."""
    (y, per_y), (x, per_x) = (file.pages.first.tags[code].value for code in (283, 282))
    return per_y / y, per_x / x


@_reader("a PNG or JPEG picture", ".png", ".jpg", ".jpeg")
def _read_picture(path: Path) -> _Content:
    iio = _imageio()
    with iio.imopen(path, "r", plugin="pillow") as file:
        mode = {"LA": "RGBA", "CMYK": "RGB"}.get(file.metadata()["mode"])
        pixels = file.read(index=0, mode=mode)
    with path.open("rb") as stream:
        header = stream.read(26)
    if header.startswith(b"\x89PNG") and header[24] == 16 and header[25]:  # 16 bits, in colour
        pixels = iio.imread(path, plugin="opencv", flags=-1)  # of which Pillow keeps 8
    return _Content(_grey(pixels, path) if pixels.ndim == 3 else pixels)


def _imageio() -> Any:
    """The library without its types, which lack some of the plug-ins."""
    import imageio.v3

    return imageio.v3


@_reader("a NumPy array", ".npy")
def _read_npy(path: Path) -> _Content:
    try:
        # Mapped, so that a header larger than its file allocates nothing.
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        raise ScopegymError(
            f"'{path.name}' holds Python objects, which are never unpickled; save numbers instead."
        ) from error
    return _Content(np.array(pixels))


@_reader("a video", ".mp4", ".avi", ".mov")
def _read_video(path: Path) -> _Content:
    frames: list[NDArray[Any]] = []
    with _imageio().imopen(path, "r", plugin="FFMPEG") as file:
        for frame in file.iter():
            frames.append(_grey(frame, path))
            _bounded(path, (len(frames), *frames[0].shape))
        return _Content(np.stack(frames), metadata={"frames_per_second": file.metadata()["fps"]})


# Files of named arrays


def _choose(path: Path, shapes: Mapping[str, tuple[int, ...]], wanted: str | None) -> str:
    """The name of the array that was asked for, or of the largest image."""
    if wanted is not None:
        if wanted.strip("/") not in shapes:
            raise unknown(f"dataset of '{path.name}'", wanted, shapes)
        return wanted.strip("/")
    images = {n: math.prod(s) for n, s in shapes.items() if sorted(s)[-2] >= MIN_SIDE}
    if not images:
        raise ScopegymError(f"'{path.name}' holds no image of at least {MIN_SIDE} px a side.")
    largest = sorted(name for name in images if images[name] == max(images.values()))
    if len(largest) > 1 and ATOMAGINED_IMAGE not in largest:
        raise ScopegymError(
            f"'{path.name}' holds {len(largest)} images of one size, {', '.join(largest)}; choose "
            f"one as '{path.name}:{largest[0]}'."
        )
    return ATOMAGINED_IMAGE if len(largest) > 1 else largest[0]


@_reader("an HDF5 file", ".h5", ".hdf5", ".hdf", ".emd", named=True)
def _read_hdf5(path: Path, dataset: str | None) -> _Content:
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "iufc" and node.ndim in (2, 3):
            found[name] = node

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        velox = list(filter(_VELOX.fullmatch, found))
        berkeley = [name for name in found if "emd_group_type" in found[name].parent.attrs]
        names = found if dataset else velox or berkeley or found
        name = _choose(path, {name: found[name].shape for name in names}, dataset)
        _bounded(path, found[name].shape)
        pixels = found[name][...]
        if name in velox and pixels.ndim == 3:
            pixels = pixels[..., 0] if pixels.shape[2] == 1 else np.moveaxis(pixels, 2, 0)
        metadata = {"dataset": name, "attributes": {k: _plain(v) for k, v in file.attrs.items()}}
        peaks, truth = file.get(ATOMAGINED_TRUTH), None
        if peaks is not None and peaks.shape == pixels.shape:
            truth = Points(np.argwhere(peaks[...]).astype(np.float64), peaks.shape)
        return _Content(pixels, _hdf5_calibration(found[name], pixels.shape, path), metadata, truth)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, int | float) else _text(value)


def _hdf5_calibration(node: Any, shape: tuple[int, ...], path: Path) -> _Calibration | None:
    """Of the two EMD layouts, or by attributes from the dataset up to the root."""
    if found := _first((_velox, _berkeley), node):
        return found
    while not (found := _stated(node.attrs, shape, path, "HDF5 attribute")) and node.name != "/":
        node = node.parent
    return found


def _velox(node: Any) -> _Calibration | None:
    text = node.parent["Metadata"][:, 0].tobytes().rstrip(b"\0")
    about = json.loads(text)["BinaryResult"]
    size, y, x = about["PixelSize"], about.get("PixelUnitY", "m"), about.get("PixelUnitX", "m")
    return _calibration("Velox metadata", (size["height"], y), (size["width"], x))


def _berkeley(node: Any) -> _Calibration | None:
    group = node.parent
    if "emd_group_type" not in group.attrs:
        return None
    last = node.ndim - ("dim0" in group)  # the first axis is dim1, from version 1.0 on dim0
    y, x = (_step(group[f"dim{axis}"]) for axis in (last - 1, last))
    return _calibration("EMD dimensions", y, x)


def _step(axis: Any) -> tuple[float, str]:
    """Step and unit of an axis given by its coordinates or by the first two of them."""
    values = np.ravel(axis[...])
    unit = _text(np.ravel(axis.attrs.get("units", ""))[0]).strip("[]").replace("_", "")
    return (abs(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else math.nan), unit


@_reader("a MAT file", ".mat", named=True)
def _read_mat(path: Path, dataset: str | None) -> _Content:
    import h5py
    from scipy.io import loadmat, whosmat

    if h5py.is_hdf5(path):  # version 7.3
        content = _read_hdf5(path, dataset)
        return content._replace(pixels=_frames_first(content.pixels.T))  # stored columns first
    shapes = {
        name: shape
        for name, shape, kind in whosmat(path)
        if len(shape) in (2, 3) and re.fullmatch(r"u?int\d+|single|double|logical", kind)
    }
    name = _choose(path, shapes, dataset)
    _bounded(path, shapes[name])
    pixels = loadmat(path, variable_names=[name])[name]
    return _Content(_frames_first(pixels), metadata={"dataset": name})


def _frames_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """MATLAB counts frames last, where the colours of a picture also are."""
    stack = pixels.ndim == 3 and pixels.shape[2] not in (3, 4)
    return np.moveaxis(pixels, 2, 0) if stack else pixels


# Microscope formats


@_reader("a TIA series", ".ser")
def _read_ser(path: Path) -> _Content:
    from ncempy.io import ser

    with ser.fileSER(path) as file:
        first, about = file.getDataset(0)
        count = int(file.head["ValidNumberElements"])
        _bounded(path, (count, *first.shape))
        rest = [file.getDataset(index)[0] for index in range(1, count)]
    x, y = (axis["CalibrationDelta"] for axis in about["Calibration"])
    # A diffraction pattern is stored alike, in 1/m.
    found = _plausible(_calibration("SER", (y, "m"), (x, "m")))
    return _Content(np.stack([first, *rest]) if rest else first, found)


@_reader("a Digital Micrograph file", ".dm3", ".dm4")
def _read_dm(path: Path) -> _Content:
    from ncempy.io import dm

    # Given a stream it does not map the file, which it could not close after an error.
    with path.open("rb") as stream, dm.fileDM(stream, on_memory=False) as file:
        # It skips the first of several images as a thumbnail, even when there is none.
        found = file.getDataset(0 if file.thumbnail or file.numObjects == 1 else -1)
    y, x = list(zip(found["pixelSize"], found["pixelUnit"], strict=True))[-2:]
    return _Content(found["data"], _calibration(path.suffix[1:].upper(), y, x))


@_reader("an MRC file", ".mrc", ".mrcs")
def _read_mrc(path: Path) -> _Content:
    import mrcfile

    with path.open("rb") as stream:
        extended = stream.read(1024)[92:96]  # its length, in either byte order
    length = min(int.from_bytes(extended, order) for order in ("little", "big"))
    if length > path.stat().st_size:  # mrcfile would allocate it before it looks
        raise ValueError("the extended header is longer than the file")
    with mrcfile.mmap(path, mode="r", permissive=True) as file:
        if file.data is None:
            raise ValueError("the header and the length of the file disagree")
        pixels = np.array(file.data)
        y, x = float(file.voxel_size.y), float(file.voxel_size.x)
    # 0 and exactly 1 Å are what programs write that do not know the size.
    found = None if y == x == 1 else _calibration("MRC header", (y, "Å"), (x, "Å"))
    return _Content(pixels, found, {"voxel_size_angstrom": [y, x]})


#: The suffixes that can be read.
SUFFIXES = tuple(sorted(_FORMATS))
