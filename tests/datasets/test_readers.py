"""Every format from a file that another program wrote, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scopegym.artifacts import Points
from scopegym.datasets.readers import SUFFIXES, load, read
from scopegym.errors import ScopegymError

GREY = (np.arange(40 * 32, dtype=np.uint32) * 7 % 251).reshape(40, 32).astype(np.uint8)
STACK = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
REAL = GREY.astype(np.float32)
DEEP = GREY.astype(np.uint16) * 257


def tag(value: Any) -> bytes:
    """One value of a Digital Micrograph 3 file."""
    if isinstance(value, float):
        return b"%%%%" + struct.pack(">II", 1, 6) + struct.pack("<f", value)
    if isinstance(value, int):
        return b"%%%%" + struct.pack(">II", 1, 5) + struct.pack("<I", value)
    if isinstance(value, str):
        return b"%%%%" + struct.pack(">IIII", 3, 20, 4, len(value)) + value.encode("utf-16le")
    return b"%%%%" + struct.pack(">IIII", 3, 20, 6, value.size) + value.astype("<f4").tobytes()


def group(tags: dict[str, Any] | list[Any]) -> bytes:
    """A group of a Digital Micrograph 3 file, of named tags or of numbered ones."""
    items = tags.items() if isinstance(tags, dict) else [("", value) for value in tags]
    entries = b""
    for name, value in items:
        nested = isinstance(value, dict | list)
        entries += b"\x14" if nested else b"\x15"
        entries += struct.pack(">H", len(name)) + name.encode()
        entries += group(value) if nested else tag(value)
    return b"\x01\x00" + struct.pack(">I", len(tags)) + entries


def write_dm3(path: Path, pixels: Any = GREY, unit: str = "nm", y: float = 0.5, x: float = 0.5):
    axes = [{"Scale": x, "Units": unit}, {"Scale": y, "Units": unit}]
    axes += [{"Scale": 1.0, "Units": "s"}] * (pixels.ndim - 2)
    image = {
        "Calibrations": {"Dimension": axes},
        "Data": pixels,
        "DataType": 2,
        "Dimensions": list(pixels.shape[::-1]),
    }
    body = group({"ImageList": [{"ImageData": image}]})
    path.write_bytes(struct.pack(">III", 3, len(body), 1) + body)


def write_ser(path: Path, frames: Any = GREY[None], y: float = 5e-10, x: float = 5e-10):
    """A TIA series of 16-bit images; TIA stores the rows from the bottom up."""
    head = 26 + 4
    size = 2 * 20 + 2 + 8 + 2 * frames[0].size
    offsets = [head + index * size for index in range(len(frames))]
    end = head + len(frames) * size
    data = struct.pack(
        "<hhh4iii", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, *[len(frames)] * 2, end, 0
    )
    data = data.ljust(head, b"\0")
    for frame in frames:
        data += struct.pack("<ddi", 0, x, 0) + struct.pack("<ddi", 0, y, 0)
        data += struct.pack("<hii", 2, frame.shape[1], frame.shape[0])
        data += frame[::-1].astype("<u2").tobytes()
    path.write_bytes(data + struct.pack(f"<{2 * len(frames)}i", *offsets, *offsets))


def write_velox(path: Path, pixels: Any = GREY[..., None], unit: str = "m"):
    about = {"PixelSize": {"width": "5e-10", "height": "5e-10"}, "PixelUnitX": unit}
    text = json.dumps({"BinaryResult": {**about, "PixelUnitY": unit}}).encode()
    column = np.frombuffer(text.ljust(60_000, b"\0"), np.uint8)[:, None]
    with h5py.File(path, "w") as file:
        file["Data/Image/0a1b/Data"] = pixels
        file["Data/Image/0a1b/Metadata"] = np.repeat(column, pixels.shape[2], axis=1)


def write_berkeley(path: Path, pixels: Any = GREY, unit: str = "[n_m]", first: int = 1):
    with h5py.File(path, "w") as file:
        image = file.create_group("data/scan")
        image.attrs["emd_group_type"] = 1
        image["data"] = pixels
        for axis, size in enumerate(pixels.shape):
            image[f"dim{first + axis}"] = 3 + 0.5 * np.arange(2 if first == 0 else size)
            image[f"dim{first + axis}"].attrs["units"] = unit.encode()
        file["overview"] = np.zeros((100, 100))


def write_hdf5(path: Path, pixels: Any = GREY, **attributes: Any):
    with h5py.File(path, "w") as file:
        file.create_dataset("scan/image", data=pixels)
        file["scan/positions"] = np.zeros((5000, 2))
        file["scan"].attrs.update(attributes)


def write_mrc(path: Path, pixels: Any = REAL, angstrom: Any = 5.0):
    with mrcfile.new(path, pixels) as file:
        file.voxel_size = angstrom


def write_video(path: Path, pixels: Any = STACK):
    frames = pixels if pixels.ndim == 4 else np.repeat(pixels[..., None], 3, axis=-1)
    lossless = {"codec": "png", "pixelformat": "rgb24"}
    iio.imwrite(path, frames, plugin="FFMPEG", fps=12, macro_block_size=1, **lossless)


def write_imagej(path: Path, pixels: Any = GREY, unit: str = "nm", resolution: Any = (2, 2)):
    tifffile.imwrite(path, pixels, imagej=True, resolution=resolution, metadata={"unit": unit})


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".tif": write_imagej,
    ".png": lambda path: iio.imwrite(path, GREY),
    ".npy": lambda path: np.save(path, GREY),
    ".h5": lambda path: write_hdf5(path, pixel_size="5 Å"),
    ".emd": write_velox,
    ".ser": write_ser,
    ".dm3": write_dm3,
    ".mrc": write_mrc,
    ".mat": lambda path: scipy.io.savemat(path, {"image": GREY, "radii": np.ones((30, 1))}),
}
SOURCES = {
    ".tif": "ImageJ tag",
    ".h5": "HDF5 attribute",
    ".emd": "Velox metadata",
    ".ser": "SER",
    ".dm3": "DM3",
    ".mrc": "MRC header",
}


def refused(path: Path, *parts: str, **options: Any) -> None:
    """Reading raises one sentence that contains the parts."""
    with pytest.raises(ScopegymError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert message.endswith((".", "?"))
    assert "\n" not in message
    for part in (path.name, *parts):
        assert part in message


@pytest.mark.parametrize("suffix", WRITERS)
def test_pixels_calibration_and_metadata(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    WRITERS[suffix](path)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, GREY)
    assert micrograph.data.dtype == np.float32
    assert micrograph.name == path.name
    assert micrograph.metadata["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert micrograph.sha256 == micrograph.metadata["file_sha256"]
    assert micrograph.metadata.get("pixel_size_source") == SOURCES.get(suffix)
    assert micrograph.metadata["reader"].isalnum()
    stored = {".ser": "uint16", ".dm3": "float32", ".mrc": "float32"}
    assert micrograph.metadata["dtype"] == stored.get(suffix, "uint8")
    json.dumps(dict(micrograph.metadata), allow_nan=False)
    if suffix in SOURCES:
        assert micrograph.pixel_size_nm == pytest.approx(0.5, rel=1e-6)
    else:
        assert micrograph.pixel_size_nm is None


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_cut_short_is_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    WRITERS[suffix](whole)
    content = whole.read_bytes()
    for length in (1, 3, 30, len(content) // 3, len(content) // 2):
        cut.write_bytes(content[:length])
        refused(cut, "cut short")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage_is_refused_without_a_word_elsewhere(
    tmp_path: Path, suffix: str, capfd: Any, caplog: Any
) -> None:
    path = tmp_path / f"garbage{suffix}"
    noise = np.random.default_rng(0).bytes(3000)
    for content in (noise, b"<html>not found</html>" * 100, pickle.dumps([1, "two"])):
        path.write_bytes(content)
        refused(path, "cannot be read as")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("suffix", sorted({*WRITERS, ".mov"}))
def test_damaged_bytes_raise_nothing_but_the_one_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    WRITERS.get(suffix, write_video)(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    for _ in range(3 if suffix == ".mov" else 25):
        damaged = whole.copy()
        places = rng.integers(0, min(600, len(whole)), 3)
        damaged[places] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read(path)
        except ScopegymError as error:
            assert "\n" not in str(error)


# Bad input


def test_what_is_not_an_image_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.tif", "no file")
    refused(tmp_path, "folder")
    empty = tmp_path / "empty.png"
    empty.touch()
    refused(empty, "empty")
    for name, near in (("scan.tiv", ".tif"), ("scan.TIFFF", ".tiff"), ("scan", "''")):
        path = tmp_path / name
        path.write_bytes(b"x")
        refused(path, "unsupported suffix", near, *SUFFIXES)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([{}, None], dtype=object), "never unpickled"),
        (GREY * 1j, "complex numbers"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.zeros((3, 3), dtype=[("x", float)]), "real numbers"),
        (np.zeros(7), "(7,)"),
        (np.zeros((2, 3, 4, 5)), "(2, 3, 4, 5)"),
        (np.zeros((0, 4)), "(0, 4)"),
        (np.array([[1.0, np.nan]]), "NaN"),
        (np.array([[1e300, 1.0]]), "infinite"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path: Path, array: Any, said: str) -> None:
    path = tmp_path / "array.npy"
    np.save(path, array, allow_pickle=True)
    (tmp_path / "array.json").write_text('{"field_of_view_x": "9 nm"}')
    refused(path, said)


def test_a_header_that_claims_too_much_is_not_believed(tmp_path: Path) -> None:
    npy = tmp_path / "huge.npy"
    with npy.open("wb") as stream:
        header = {"descr": "<f8", "fortran_order": False, "shape": (2_000_000, 2_000_000)}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(bytes(64))
    refused(npy, "cannot be read")
    h5 = tmp_path / "huge.h5"
    with h5py.File(h5, "w") as file:
        file.create_dataset("image", (2_000_000, 2_000_000), "u1", chunks=(100, 100))
    refused(h5, "(2000000, 2000000)")
    ser = tmp_path / "huge.ser"
    write_ser(ser)
    content = bytearray(ser.read_bytes())
    content[18:22] = struct.pack("<i", 2**31 - 1)
    ser.write_bytes(content)
    refused(ser)


def test_load_reads_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, pixel_size="5 Å")
    assert load(path).pixel_size_nm == pytest.approx(0.5)
    assert load(str(path), pixel_size="35.2 pm").pixel_size_nm == pytest.approx(0.0352)
    assert load(f"{path}:scan/image").metadata["dataset"] == "scan/image"


# Colour


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".jpg"])
@pytest.mark.parametrize("channels", [3, 4])
def test_grey_stored_as_colour_is_grey(tmp_path: Path, suffix: str, channels: int) -> None:
    if suffix == ".jpg" and channels == 4:
        pytest.skip("JPEG has no alpha")
    smooth = np.tile(np.arange(48, dtype=np.uint8), (32, 1)) if suffix == ".jpg" else GREY
    colour = np.stack([smooth] * 3 + [np.full_like(smooth, 255)] * (channels - 3), axis=-1)
    path = tmp_path / f"rgb{suffix}"
    if suffix == ".npy":
        np.save(path, colour)
    elif suffix == ".tif":
        tifffile.imwrite(
            path, colour, photometric="rgb", extrasamples=["unassalpha"][: channels - 3]
        )
    else:
        iio.imwrite(path, colour)
    np.testing.assert_allclose(read(path).data, smooth, atol=3 if suffix == ".jpg" else 0)
    colour = colour.copy()
    colour[5, 5, 0] += 100
    np.save(tmp_path / "colour.npy", colour)
    refused(tmp_path / "colour.npy", "is a colour photograph")
    if channels == 4:
        colour[..., 3] = 7
        np.save(tmp_path / "clear.npy", colour)
        refused(tmp_path / "clear.npy", "transparent")


def test_a_planar_tiff_and_a_stack_of_colour_frames_are_grey(tmp_path: Path) -> None:
    planar, frames = tmp_path / "planar.tif", tmp_path / "frames.tif"
    rgb = {"photometric": "rgb"}
    tifffile.imwrite(planar, np.stack([GREY] * 3), planarconfig="separate", **rgb)
    tifffile.imwrite(frames, np.stack([STACK] * 3, axis=-1), **rgb)
    np.testing.assert_array_equal(read(planar).data, GREY)
    np.testing.assert_array_equal(read(frames).data, STACK)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_a_picture(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    two = np.where(GREY > 128, 255, 0).astype(np.uint8)
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    source = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(two).convert(mode)
    source.save(path, **({"quality": 100} if mode == "CMYK" else {}))
    expected = {"I;16": DEEP, "1": two > 0}.get(mode, two)
    np.testing.assert_allclose(read(path).data, expected, atol=40 if mode == "CMYK" else 0)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_a_png_are_kept(tmp_path: Path, kind: int, channels: int) -> None:
    grey = DEEP + 1
    opaque = np.full_like(grey, 65535)
    planes = [grey] * (1 if channels < 3 else 3) + [opaque] * (channels % 2 == 0)
    pixels = np.stack(planes, axis=-1).astype(">u2")

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 32, 40, 16, kind, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(read(path).data, grey)
    assert read(path).metadata["dtype"] == "uint16"


# Calibration


@pytest.mark.parametrize(
    ("unit", "pixel_nm"),
    [
        ("nm", 0.5),
        ("\\u00B5m", 500.0),
        ("\\u00C5", 0.05),
        ("micron", 500.0),
        ("um", 500.0),
        ("pixel", None),
        ("inch", None),
        ("1/nm", None),
    ],
)
def test_units_of_imagej(tmp_path: Path, unit: str, pixel_nm: float | None) -> None:
    path = tmp_path / "imagej.tif"
    write_imagej(path, STACK, unit)
    assert read(path).shape == STACK.shape
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


@pytest.mark.parametrize(
    ("keys", "pixel_nm"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, 250.0),
        ({"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "nm"}, 0.25),
        ({"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "pixel"}, None),
        ({}, None),
    ],
)
def test_units_of_ome(tmp_path: Path, keys: Any, pixel_nm: float | None) -> None:
    path = tmp_path / "scan.ome.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **keys})
    assert read(path).shape == STACK.shape
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


TITAN = """<?xml version="1.0" encoding="utf-8"?><Metadata><BinaryResult><PixelSize>
<X unit="m">3e-11</X><Y unit="m">3e-11</Y></PixelSize></BinaryResult></Metadata>"""
HELIOS = "[Beam]\r\nBeam=EBeam\r\n[Scan]\r\nPixelWidth=4e-11\r\nPixelHeight=4e-11\r\n"


@pytest.mark.parametrize(
    ("tags", "pixel_nm", "source"),
    [
        ({34683: TITAN, 34682: HELIOS}, 0.03, "FEI_TITAN tag"),
        ({34683: "<broken", 34682: HELIOS}, 0.04, "FEI_HELIOS tag"),
        ({34683: TITAN.replace('"m"', '"1/m"'), 34680: HELIOS}, 0.04, "FEI_SFEG tag"),
        ({34682: "[Scan]\r\nPixelWidth=wide\r\n"}, None, None),
    ],
)
def test_tags_of_fei(tmp_path: Path, tags: Any, pixel_nm: float | None, source: str) -> None:
    path = tmp_path / "fei.tif"
    tifffile.imwrite(
        path, GREY, extratags=[(code, 2, 0, text, True) for code, text in tags.items()]
    )
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))
    assert read(path).metadata.get("pixel_size_source") == source


@pytest.mark.parametrize(
    ("unit", "per_unit", "pixel_nm"),
    [
        ("CENTIMETER", 2e7, 0.5),
        ("CENTIMETER", 118.11, None),
        ("INCH", 72, None),
        ("INCH", 300, None),
        ("NONE", 1, None),
    ],
)
def test_a_print_resolution_is_no_calibration(
    tmp_path: Path, unit: str, per_unit: float, pixel_nm: float | None
) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, GREY, resolution=(per_unit, per_unit), resolutionunit=unit)
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_a_compressed_tiff(tmp_path: Path, compression: str) -> None:
    from PIL import Image

    path = tmp_path / "compressed.tif"
    pages = [Image.fromarray(page) for page in STACK]
    options = {"quality": 100} if compression == "jpeg" else {}
    more = {"save_all": True, "append_images": pages[1:]}
    pages[0].save(path, compression=compression, **more, **options)
    np.testing.assert_allclose(read(path).data, STACK, atol=2 if compression == "jpeg" else 0)
    colour = Image.merge("RGB", [pages[0]] * 3)
    colour.save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read(path).data, GREY)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "scan.dm3"
    write_dm3(path, y=0.5, x=0.505)
    assert read(path).pixel_size_nm == pytest.approx(0.5025)
    write_dm3(path, y=0.5, x=0.6)
    refused(path, "not square", "0.5 nm", "0.6 nm")
    assert read(path, pixel_size_nm=0.55).pixel_size_nm == 0.55
    assert read(path, pixel_size_nm=0.55).metadata["pixel_size_source"] == "given"


@pytest.mark.parametrize(
    ("sidecar", "pixel_nm"),
    [
        ({"a": [{"spatial": {"field_of_view_x": 16, "field_of_view_units": "nm"}}]}, 0.5),
        ({"field_of_view_x": 3.2, "field_of_view_y": 4, "field_of_view_units": "um"}, 100.0),
        ({"field_of_view_x": "16 nm"}, 0.5),
        ({"pixel_size": "35.2 pm"}, 0.0352),
        ({"scan": {"pixel_size": 0.2, "pixel_size_unit": "nm"}}, 0.2),
        ({"pixel_size_nm": 0.25}, 0.25),
        ({"pixel_size_nm": None, "note": ["x", 1]}, None),
        ([], None),
        (3, None),
    ],
)
def test_the_sidecar_counts_where_the_file_is_silent(
    tmp_path: Path, sidecar: Any, pixel_nm: float | None
) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, GREY)
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    micrograph = read(path)
    assert micrograph.pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))
    assert micrograph.metadata.get("pixel_size_source") == (pixel_nm and "JSON sidecar")
    write_imagej(path.with_suffix(".tif"))
    assert read(path.with_suffix(".tif")).pixel_size_nm == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"pixel_size": 0.1}', "no unit"),
        ('{"pixel_size": "wide"}', "not a length"),
        ('{"pixel_size_nm": -1}', "must be positive"),
        ('{"field_of_view_x": 9, "field_of_view_units": "yard"}', "unknown unit"),
    ],
)
def test_a_sidecar_that_makes_no_sense(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scan.npy"
    np.save(path, GREY)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ScopegymError, match=said) as caught:
        read(path)
    assert "scan.json" in str(caught.value)
    assert read(path, pixel_size_nm=1.0).pixel_size_nm == 1.0


# HDF5 and MAT


def test_velox_frames_and_reciprocal_units(tmp_path: Path) -> None:
    path = tmp_path / "velox.emd"
    write_velox(path, np.moveaxis(np.concatenate([STACK] * 7), 0, 2))
    np.testing.assert_array_equal(read(path).data, np.concatenate([STACK] * 7))
    assert read(path).pixel_size_nm == pytest.approx(0.5)
    write_velox(path, unit="1/m")
    assert read(path).pixel_size_nm is None


@pytest.mark.parametrize(
    ("unit", "pixel_nm", "alone"),
    [("nm", 0.02, None), ("\u00c5", 0.002, None), ("", None, 0.02), ("<undefined>", None, 0.02)],
)
def test_hyperspy_axes(tmp_path: Path, unit: str, pixel_nm: float | None, alone) -> None:
    with h5py.File(tmp_path / "image.hspy", "w") as file:
        file["Experiments/scan/data"] = GREY
        for axis in (0, 1):
            about = file.create_group(f"Experiments/scan/axis-{axis}").attrs
            about["scale"], about["size"] = 0.02, GREY.shape[axis]
            if unit:
                about["units"] = unit
    found = load(tmp_path / "image.hspy")
    np.testing.assert_array_equal(found.data, GREY)
    assert found.pixel_size_nm == (None if pixel_nm is None else pytest.approx(pixel_nm))
    assert found.metadata.get("scale_without_unit") == alone


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("unit", "pixel_nm"), [("[n_m]", 0.5), ("[u_m]", 500.0), ("A", 0.05), ("[1/n_m]", None)]
)
def test_berkeley_axes(tmp_path: Path, unit: str, pixel_nm: float | None, first: int) -> None:
    path = tmp_path / "berkeley.emd"
    write_berkeley(path, STACK, unit, first)
    np.testing.assert_array_equal(read(path).data, STACK)
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


def test_hdf5_attributes_and_choice(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_hdf5(path, STACK, pixel_size_nm=np.array([0.5, 0.5]))
    assert read(path).pixel_size_nm == 0.5
    assert read(path).metadata["dataset"] == "scan/image"
    with h5py.File(path, "a") as file:
        file["twin"] = STACK + 1
        file["small"] = GREY[:20, :20]
        file.attrs["operator"] = "A. Nother"
        file.attrs["count"] = np.int64(3)
        file["wave"] = GREY * 1j
    refused(path, "scan/image, twin", "scan.h5:scan/image")
    np.testing.assert_array_equal(read(path, dataset="/twin").data, STACK + 1)
    small = read(Path(f"{path}:small"))
    np.testing.assert_array_equal(small.data, GREY[:20, :20])
    assert small.name == "scan.h5"
    assert small.pixel_size_nm is None
    assert small.metadata["attributes"] == {"operator": "A. Nother", "count": 3}
    refused(path, "smal", "small", dataset="smal")
    refused(path, "complex", dataset="wave")
    np.save(tmp_path / "a.npy", GREY)
    refused(tmp_path / "a.npy", "no dataset 'x'", dataset="x")


def test_hdf5_without_an_image(tmp_path: Path) -> None:
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        file["table"] = np.zeros((500, 3))
        file["text"] = "hello"
    refused(path, "no image")


def test_truth_of_the_atomagined_layout(tmp_path: Path) -> None:
    path = tmp_path / "prism.h5"
    peaks = np.zeros((64, 64), bool)
    peaks[3, 5] = peaks[60, 7] = True
    with h5py.File(path, "w") as file:
        file.attrs["angstrom_xy"] = "26"
        for index, name in enumerate(("raw", "stem00-blbk1", "stem00-clean")):
            file[f"haadf/{name}"] = np.full((64, 64), index, np.float32)
        file["haadf/peak_map_clean"] = peaks
    micrograph = read(path)
    assert micrograph.metadata["dataset"] == "haadf/stem00-clean"
    assert micrograph.pixel_size_nm == pytest.approx(2.6 / 64)
    assert isinstance(micrograph.truth, Points)
    np.testing.assert_array_equal(micrograph.truth.yx, [[3, 5], [60, 7]])
    assert micrograph.truth.shape == (64, 64)
    np.testing.assert_array_equal(read(Path(f"{path}:haadf/raw")).data, 0)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat_files(tmp_path: Path, version: str) -> None:
    path = tmp_path / "scan.mat"

    def write(**arrays: Any) -> None:
        if version == "5":
            scipy.io.savemat(path, {**arrays, "note": "text", "cell": np.array([{}], object)})
            return
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, array in arrays.items():
                file[name] = array.T

    write(image=GREY.astype(float), radii=np.ones((30, 1)))
    np.testing.assert_array_equal(read(path).data, GREY)
    assert read(path).metadata["dataset"] == "image"
    assert read(path).metadata["reader"] == "mat"
    write(movie=np.moveaxis(np.concatenate([STACK] * 2), 0, 2), image=GREY)
    np.testing.assert_array_equal(read(path).data, np.concatenate([STACK] * 2))
    np.testing.assert_array_equal(read(path, dataset="image").data, GREY)
    np.testing.assert_array_equal(read(Path(f"{path}:image")).data, GREY)
    write(photograph=np.stack([GREY] * 3, axis=-1))
    np.testing.assert_array_equal(read(path).data, GREY)
    write(radii=np.ones((30, 1)))
    refused(path, "no image")
    write(a=GREY, b=GREY)
    refused(path, "a, b")
    write(wave=GREY * 1j)
    refused(path, "complex")


# Microscope formats and video


def test_ser_series_and_diffraction(tmp_path: Path) -> None:
    path = tmp_path / "scan_1.ser"
    write_ser(path, STACK, y=3e-11, x=3e-11)
    np.testing.assert_array_equal(read(path).data, STACK)
    assert read(path).pixel_size_nm == pytest.approx(0.03)
    write_ser(path, y=2e7, x=2e7)
    assert read(path).pixel_size_nm is None


@pytest.mark.parametrize(
    ("unit", "pixel_nm"), [("nm", 0.5), ("µm", 500.0), ("Å", 0.05), ("1/nm", None), ("", None)]
)
def test_units_of_digital_micrograph(tmp_path: Path, unit: str, pixel_nm: float | None) -> None:
    path = tmp_path / "scan.dm3"
    write_dm3(path, STACK, unit)
    np.testing.assert_array_equal(read(path).data, STACK)
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


@pytest.mark.parametrize(
    ("dtype", "angstrom", "pixel_nm"),
    [
        (np.int8, 0.0, None),
        (np.int16, 1.0, None),
        (np.uint16, 1.35, 0.135),
        (np.float16, (1.0, 1.01, 7.0), 0.1005),
        (np.float32, -2.0, None),
    ],
)
def test_mrc(tmp_path: Path, dtype: Any, angstrom: Any, pixel_nm: float | None) -> None:
    path = tmp_path / "scan.mrc"
    write_mrc(path, (STACK // 2).astype(dtype), angstrom)
    np.testing.assert_array_equal(read(path).data, STACK // 2)
    assert read(path).pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm))


def test_complex_mrc_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wave.mrc"
    write_mrc(path, (GREY * 1j).astype(np.complex64))
    refused(path, "complex")


@pytest.mark.parametrize("suffix", [".mov", ".avi", ".mp4"])
def test_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path)
    np.testing.assert_array_equal(read(path).data, STACK)
    assert read(path).metadata["frames_per_second"] == 12
    assert read(path).pixel_size_nm is None


def test_a_lossy_video_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    smooth = np.tile(np.arange(64, dtype=np.uint8) * 3, (5, 64, 1))
    iio.imwrite(path, np.repeat(smooth[..., None], 3, axis=-1), plugin="FFMPEG", fps=5)
    np.testing.assert_allclose(read(path).data, smooth, atol=12)


def test_video_in_colour_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    write_video(path, np.stack([STACK, STACK, 255 - STACK], axis=-1))
    refused(path, "is a colour photograph")


# Round trips

STORED = st.sampled_from(["u1", "i1", ">u2", "<i2", "u4", "i4", "f2", "<f4"])
ARRAYS = hnp.arrays(
    dtype=STORED,
    shape=hnp.array_shapes(min_dims=2, max_dims=3, max_side=12).filter(
        lambda s: s[-1] not in (3, 4)
    ),
    elements={"allow_nan": False, "allow_infinity": False},
).flatmap(lambda array: st.sampled_from([array, array.astype(">f8")]))
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FEW
@given(array=ARRAYS)
def test_npy_round_trip(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "array.npy", array)
    micrograph = read(tmp_path / "array.npy")
    np.testing.assert_array_equal(micrograph.data, array.astype(np.float32))
    assert micrograph.metadata["dtype"] == array.dtype.name


@FEW
@given(array=ARRAYS)
def test_tiff_round_trip(tmp_path: Path, array: Any) -> None:
    stream = BytesIO()
    tifffile.imwrite(stream, array, photometric="minisblack")
    (tmp_path / "array.tif").write_bytes(stream.getvalue())
    micrograph = read(tmp_path / "array.tif")
    np.testing.assert_array_equal(np.squeeze(micrograph.data), np.squeeze(array.astype("f4")))
    assert micrograph.metadata["dtype"] == array.dtype.name
    assert micrograph.pixel_size_nm is None


# Published data

ATOMS = "atom_finding"
PUBLISHED = [
    (f"{ATOMS}/scilink_ybco_haadf/YBCO_tem.tif", (512, 512), 0.035245793, "FEI_TITAN tag"),
    (
        f"{ATOMS}/acstem_pt_single_atoms/tif_data/021_HAADF_15nm_Sample_PtNC_21Oct20.tif",
        (512, 512),
        0.029296875,
        "ImageJ tag",
    ),
    (
        "symmetry_segmentation/motif_learn_2d_polytypes/data/deprecated/GB_2H3R_MoSe2.tif",
        (430, 430),
        None,
        None,
    ),
    (f"{ATOMS}/baghizadeh_batio3/BTO_crystal_1.dm4", (413, 469), 0.02965993, "DM4"),
    (f"{ATOMS}/scilink_mos2_haadf/MoS2_stem_Exp-000-2.npy", (512, 512), 9 / 512, "JSON sidecar"),
    ("symmetry_segmentation/ai4stem/experimental_images/Fe_bcc_100.npy", (512, 512), None, None),
    (f"{ATOMS}/atomsegnet_test_img/Grain_boundry_gold_512px.png", (512, 512), None, None),
    ("detection_particles/ardagen_catalyst_nps/images/Pd1.jpg", (640, 640), None, None),
    ("detection_vesicles/cryoem_vesicles_jensen/MicData_1.mat", (1024, 1024), None, None),
    ("xray_speckle/uw_ml4xray_beads/IntensityData/2/Beads_2.0.mat", (513, 513), None, None),
    ("video_tracking/ti_loop_motion/Videos/Figure-3-Loop-Motion.mp4", (14, 550, 420), None, None),
]


@pytest.mark.parametrize(("name", "shape", "pixel_nm", "source"), PUBLISHED)
def test_published_data(
    shared_data: Path, name: str, shape: Any, pixel_nm: float | None, source: str | None
) -> None:
    micrograph = read(shared_data / name)
    assert micrograph.shape == shape
    assert micrograph.pixel_size_nm == (pixel_nm and pytest.approx(pixel_nm, rel=1e-6))
    assert micrograph.metadata.get("pixel_size_source") == source


def test_published_truth_lies_on_the_columns(shared_data: Path) -> None:
    path = shared_data / ATOMS / "atomagined_prism_sim/general/h5/010438.010101.h5"
    micrograph = read(path)
    assert micrograph.pixel_size_nm == pytest.approx(2.6 / 256)
    assert micrograph.metadata["attributes"]["chemical_formula"] == "'Ir4 Sc11'"
    assert isinstance(micrograph.truth, Points)
    assert len(micrograph.truth) == 115
    y, x = micrograph.truth.yx.astype(int).T
    assert micrograph.data[y, x].mean() > 4 * micrograph.data.mean()


def test_published_grey_and_colour(shared_data: Path) -> None:
    frames = shared_data / "video_tracking/ti_loop_motion/Loop Movement Frames/Frames 1691-1698"
    assert read(frames / "Chip-4-Heat-1-Frame-1691-Cropped.png").shape == (550, 420)
    refused(
        shared_data / "video_tracking/trackpy_bulk_water/bulk_water/bulk_water_000.png", "colour"
    )
