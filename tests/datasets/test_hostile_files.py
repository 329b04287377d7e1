"""Files made to read other files, to take all memory, to hang or to crash: one sentence each."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image
from test_readers import (
    GREY,
    STACK,
    refused,
    write_berkeley,
    write_dm3,
    write_hdf5,
    write_mrc,
    write_ser,
    write_video,
)

from scopegym.datasets.readers import base, read
from scopegym.errors import ScopegymError

SECRET = "root:x:0:0:root:/root:/bin/bash\n" * 200


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """No file keeps a reader for more than 20 s."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe into which nobody writes: whoever opens it waits for ever."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that was not given."""
    path = tmp_path / "elsewhere" / "secret.txt"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


# Other files


def test_external_storage_is_not_read(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "scan.h5"
    external = [(str(secret), 0, 6400)]
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (80, 80), "u1", external=external)
    refused(path, "'/image'", "in another file", "secret.txt", "copy them")
    refused(path, "in another file", dataset="image")
    with h5py.File(path, "a") as file:
        file["inside"] = GREY
    refused(path, "in another file")
    np.testing.assert_array_equal(read(path, dataset="inside").data, GREY)


@pytest.mark.parametrize("shape", [(80, 80), None])
def test_virtual_datasets_are_not_opened(tmp_path: Path, fifo: Path, shape: Any) -> None:
    path = tmp_path / "scan.h5"
    maximal = (None, 80) if shape is None else shape
    layout = h5py.VirtualLayout((80, 80), "u1", maxshape=maximal)
    source = h5py.VirtualSource(str(fifo), "x", (80, 80), maxshape=maximal)
    if shape is None:
        layout[h5py.h5s.UNLIMITED :, :] = source[h5py.h5s.UNLIMITED :, :]
    else:
        layout[:] = source
    with h5py.File(path, "w", libver="latest") as file:
        file.create_virtual_dataset("image", layout)
    refused(path, "'/image'", "in another file", "pipe")


@pytest.mark.parametrize("soft", [False, True])
def test_links_out_of_the_file_are_not_followed(tmp_path: Path, fifo: Path, soft: bool) -> None:
    link = h5py.SoftLink("/out/x") if soft else h5py.ExternalLink(str(fifo), "x")
    path = tmp_path / "scan.emd"
    write_berkeley(path)
    with h5py.File(path, "a") as file:
        file["out"] = h5py.ExternalLink(str(fifo), "/")
        for name in ("dim1", "dim2"):
            del file["data/scan"][name]
            file["data/scan"][name] = link
        file["haadf/peak_map_clean"] = link
        file["data/scan/Metadata"] = link
        file["taken"] = link
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, GREY)
    assert micrograph.pixel_size_nm is None
    assert micrograph.truth is None
    refused(path, dataset="taken")
    refused(path, "in another file", "pipe", dataset="out/x")


def test_what_stands_beside_an_image_is_not_read_from_elsewhere(
    tmp_path: Path, secret: Path
) -> None:
    path = tmp_path / "scan.emd"
    write_berkeley(path)
    external = [(str(secret), 0, 320)]
    with h5py.File(path, "a") as file:
        del file["data/scan/dim1"]
        file["data/scan"].create_dataset("dim1", (40,), "f8", external=external)
    refused(path, "in another file")
    assert read(path, dataset="data/scan/data").pixel_size_nm is None


def test_pages_in_other_files_are_not_read(tmp_path: Path) -> None:
    first, second = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    tifffile.imwrite(second, GREY + 1)
    planes = "".join(
        f'<TiffData FirstT="{t}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{t}</UUID>'
        "</TiffData>"
        for t, name in enumerate((first.name, second.name))
    )
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint8" SizeX="32" SizeY="40" SizeZ="1" SizeC="1" SizeT="2">{planes}'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(first, GREY, description=text, metadata=None)
    refused(first, "declares 2 frames and holds 1")


def test_the_emi_file_of_a_series_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "scan_1.ser"
    write_ser(path)
    os.mkfifo(tmp_path / "scan.emi")
    np.testing.assert_array_equal(read(path).data, GREY)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov"])
def test_a_play_list_is_no_video(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / "other.mov")
    path = tmp_path / f"list{suffix}"
    path.write_text("ffconcat version 1.0\nfile other.mov\n")
    refused(path, "cannot be read as")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_other_formats_of_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "BMP")
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(stream.getvalue())
    refused(path, "cannot be read as")


@pytest.mark.parametrize("name", ["scan.tif", "scan.h5", "scan.mat", "scan.mov"])
def test_a_pipe_is_refused_unopened(fifo: Path, name: str) -> None:
    path = fifo.rename(fifo.with_name(name))
    refused(path, "folder or a device")


# Sidecars


def sidecar(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scan.npy"
    np.save(path, GREY)
    path.with_suffix(".json").write_text(text)
    return path


def test_a_sidecar_is_a_small_regular_file(tmp_path: Path, fifo: Path) -> None:
    path = sidecar(tmp_path, " " * 2_000_000 + "{}")
    with pytest.raises(ScopegymError, match="2000002 bytes"):
        read(path)
    fifo.replace(path.with_suffix(".json"))
    with pytest.raises(ScopegymError, match="no regular file"):
        read(path)


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "1e999",
        "-Infinity",
        "1" + "0" * 400,
        "1" * 9000,
        "[[1], [1, 2]]",
        '{"a": [1]}',
        "[" * 900 + "]" * 900,
        '"\\u001b[2J\\n9 nm"',
        '"' + "9" * 5000 + ' nm"',
        "true",
    ],
)
def test_values_that_are_no_lengths(tmp_path: Path, value: str) -> None:
    path = sidecar(tmp_path, f'{{"pixel_size_nm": {value}}}')
    with pytest.raises(ScopegymError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    assert "scan.json" in message


# Sizes


def patched(path: Path, tag: int, value: int) -> None:
    """Set the value of a tag of the first page of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == tag:
            content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, value)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "lzw", "jpeg"])
@pytest.mark.parametrize("rows", [8_000_000, 2**31, 41])
def test_rows_that_are_not_there(tmp_path: Path, compression: str | None, rows: int) -> None:
    path = tmp_path / "tall.tif"
    if compression in ("lzw", "jpeg", "packbits"):
        name = "tiff_lzw" if compression == "lzw" else compression
        Image.fromarray(GREY).save(path, compression=name)
    else:
        tifffile.imwrite(path, GREY, compression=compression, rowsperstrip=8)
    patched(path, 257, rows)
    refused(path)


def test_a_strip_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, GREY, compression="zlib", rowsperstrip=8)
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.tags[279].valueoffset
    content = bytearray(path.read_bytes())
    content[at : at + 2] = b"\0\0"
    path.write_bytes(content)
    refused(path, "declares 5 strips or tiles and 4 are in the file")


def test_pages_that_lead_round_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        last, start = file.pages[-1].offset, file.pages[1].offset
    content = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * count, start)
    path.write_bytes(content)
    refused(path, "break off after 3")


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_picture_larger_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png(10_000, 10_000))
    refused(path, "cannot be read as")
    path.write_bytes(png(2**31 - 1, 2**31 - 1))
    refused(path, "claims")


def test_an_array_of_which_parts_were_never_written(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("image", (300, 300), "u1", chunks=(100, 100))
        image[:100] = 1
    refused(path, "declares 9 blocks of the dataset '/image' and holds 3")
    with h5py.File(path, "w") as file:
        file.create_dataset("image", (300, 300), "u1")
    refused(path, "declares 90000 bytes of the dataset '/image' and holds 0")


def test_the_memory_that_is_free_bounds_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("a.tif", "a.png", "a.npy", "a.h5", "a.mat")]
    paths += [tmp_path / name for name in ("a.ser", "a.dm3", "a.mrc", "a.mov")]
    tif, picture, npy, h5, mat, ser, dm3, mrc, mov = paths
    tifffile.imwrite(tif, GREY)
    iio.imwrite(picture, GREY)
    np.save(npy, GREY)
    write_hdf5(h5)
    scipy.io.savemat(mat, {"image": GREY})
    write_ser(ser)
    write_dm3(dm3)
    write_mrc(mrc)
    write_video(mov)
    monkeypatch.setattr(base, "available_bytes", lambda: 10_000)
    for path in paths:
        refused(path, "needs about", "GB are free", "crop it")


# Stacks cut short


def test_a_stack_of_pages_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    for options in ({"photometric": "minisblack"}, {"imagej": True}, {"ome": True}):
        tifffile.imwrite(path, np.concatenate([STACK] * 3), **options)
        content = path.read_bytes()
        for share in (0.5, 0.9):
            path.write_bytes(content[: int(share * len(content))])
            refused(path, "cut short")
    tifffile.imwrite(path, GREY, description="ImageJ=1.53\nimages=5\nframes=5\n", metadata=None)
    refused(path, "declares 5 frames and holds 1")


def test_a_series_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "scan.ser"
    write_ser(path, STACK)
    content = bytearray(path.read_bytes())
    content[14:18] = struct.pack("<i", 7)  # planned
    path.write_bytes(content)
    refused(path, "declares 7 frames and holds 3")
    content[14:22] = struct.pack("<ii", 7, 7)
    path.write_bytes(content)
    refused(path, "declares 7 frames and holds")


def test_an_mrc_stack_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "scan.mrc"
    write_mrc(path, STACK.astype(np.float32))
    path.write_bytes(path.read_bytes()[: -GREY.size * 4 - 1])
    refused(path, "declares 3 frames and holds 1")


@pytest.mark.parametrize("suffix", [".mov", ".avi"])
def test_a_video_that_is_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path)
    path.write_bytes(path.read_bytes()[:-300])
    refused(path, "cut short")


# Names


def test_names_from_a_file_are_escaped_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        for name in ("\x1b[2J\nrm", "b" * 4000, *map(str, range(500))):
            file[name] = GREY
    for options in ({}, {"dataset": "\x1b[2Jx" * 300}):
        with pytest.raises(ScopegymError) as caught:
            read(path, **options)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 800


# MAT


def mat5(tmp_path: Path, **options: Any) -> Path:
    path = tmp_path / "scan.mat"
    cell = np.array([{}, "x", GREY], object)
    arrays = {"image": GREY.astype(float), "wave": GREY[:3, :3] * 1j, "note": "text"}
    table = {"a": 1, "b": {"c": GREY}}
    scipy.io.savemat(path, {**arrays, "table": table, "cell": cell}, **options)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "<i2", "u4", "i4", "i8", "u8", "f4", ">f8"])
def test_mat_files_are_read_as_scipy_reads_them(
    tmp_path: Path, dtype: str, compressed: bool
) -> None:
    path = tmp_path / "scan.mat"
    pixels = np.arange(20 * 30 * 5).reshape(20, 30, 5).astype(dtype)
    scipy.io.savemat(path, {"movie": pixels, "small": pixels[:2, :2, 0]}, do_compression=compressed)
    expected = scipy.io.loadmat(path)
    micrograph = read(path)
    np.testing.assert_array_equal(micrograph.data, np.moveaxis(expected["movie"], 2, 0))
    assert micrograph.metadata["dtype"] == expected["movie"].dtype.name
    np.testing.assert_array_equal(read(path, dataset="small").data, expected["small"])


def test_mat_files_of_version_4(tmp_path: Path) -> None:
    path = tmp_path / "scan.mat"
    scipy.io.savemat(path, {"a": np.ones((3, 3)), "image": GREY.astype(float)}, format="4")
    np.testing.assert_array_equal(read(path).data, GREY)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_mat_files_raise_nothing_but_the_one_error(
    tmp_path: Path, compressed: bool
) -> None:
    path = mat5(tmp_path, do_compression=compressed)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = whole.copy()
        places = rng.integers(120, len(whole) if compressed else 400, 3)
        damaged[places] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            read(path)
        except ScopegymError as error:
            assert str(error).isprintable()


def test_a_mat_file_that_unfolds_to_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    content = struct.pack("<II", 14, 2**31 - 8) + struct.pack("<IIII", 6, 8, 6, 0)
    content += struct.pack("<IIii", 5, 8, 16_000, 16_000) + struct.pack("<HH4s", 1, 1, b"x")
    content += struct.pack("<II", 9, 8 * 16_000**2) + bytes(10_000_000)
    packed = zlib.compress(content)
    header = b"MATLAB".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    refused(path, "cannot be read as")


def test_no_reader_lets_a_file_beside_the_given_one_speak(tmp_path: Path) -> None:
    """The sidecar is the one exception, and it only gives lengths."""
    path = sidecar(tmp_path, json.dumps({"pixel_size": "0.5 nm", "include": "/etc/passwd"}))
    assert dict(read(path).metadata).keys() == {
        "file_sha256",
        "reader",
        "dtype",
        "pixel_size_source",
    }


def test_a_heap_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "heap.h5"
    with h5py.File(path, "w") as file:
        image = file.create_dataset("image", data=np.eye(32, dtype=np.float32))
        image.attrs["pixel_size_unit"] = "nm"
        image.attrs["pixel_size"] = 0.02
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL\x01")
    at = heap + 16
    while index := int.from_bytes(content[at : at + 2], "little"):
        size = int.from_bytes(content[at + 8 : at + 16], "little")
        at += 16 + -(-size // 8) * 8
    assert index == 0
    content[at + 8 : at + 16] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(ScopegymError, match="damaged"):
        read(path)
