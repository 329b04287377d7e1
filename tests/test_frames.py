"""Stacks are read frame by frame: memory does not grow with their length."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import scipy.io
import tifffile

from scopegym.artifacts import Frames, Image, Labels, Points, Source
from scopegym.datasets.readers import load
from scopegym.datasets.readers.frames import FileFrames
from scopegym.errors import ScopegymError
from scopegym.frames import FrameSource
from scopegym.limits import LimitExceededError
from scopegym.micrograph import Micrograph

RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 255, (5, 40, 48)).astype(np.uint8)


def write_tiff(path: Path, stack: Any, **options: Any) -> None:
    tifffile.imwrite(path, stack, photometric="minisblack", **options)


def write_hdf5(path: Path, stack: Any, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=stack, **options)


def write_matlab(path: Path, stack: Any) -> None:
    """As MATLAB writes [H, W, T] in version 7.3: the axes in reversed order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("movie", data=np.moveaxis(stack, 0, 2).T)


def write_mrc(path: Path, stack: Any) -> None:
    mrcfile.write(path, stack.astype(np.float32), overwrite=True)


def write_video(path: Path, stack: Any) -> None:
    frames = np.repeat(stack[..., None], 3, axis=-1)
    options = {"codec": "ffv1", "pixelformat": "bgr0"}
    iio.imwrite(path, frames, plugin="FFMPEG", fps=12, macro_block_size=1, **options)


WRITERS = {
    "a.tif": write_tiff,
    "pages.tif": lambda path, stack: write_tiff(path, stack, compression="zlib"),
    "imagej.tif": lambda path, stack: tifffile.imwrite(path, stack, imagej=True),
    "a.npy": np.save,
    "fortran.npy": lambda path, stack: np.save(path, np.asfortranarray(stack)),
    "a.h5": write_hdf5,
    "chunks.h5": lambda path, stack: write_hdf5(path, stack, chunks=(1, 20, 20)),
    "a.mat": write_matlab,
    "a.mrc": write_mrc,
    "a.avi": write_video,
}

every_format = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    WRITERS[name](tmp_path / name, STACK)
    return tmp_path / name


@every_format
def test_frames_in_any_order(file: Path):
    movie = load(file)
    assert isinstance(movie.data, FrameSource)
    assert movie.shape == (5, 40, 48) and movie.frames == 5
    for index in (3, 0, 4, 4, 1):
        frame = movie.frame(index)
        assert frame.name == f"{file.name}[{index}]"
        assert np.array_equal(frame.data, STACK[index]) and not frame.data.flags.writeable
    assert np.array_equal(np.asarray(movie.data), STACK)
    with pytest.raises(ScopegymError, match=r"has frames 0\.\.4; there is no frame 5"):
        movie.frame(5)
    with pytest.raises(ScopegymError, match="there is no frame -1"):
        movie.data[-1]


@every_format
def test_a_stack_travels_to_another_process_by_its_path(file: Path):
    movie = load(file)
    movie.frame(1)
    copy = pickle.loads(pickle.dumps(movie))
    assert copy.key == movie.key and np.array_equal(copy.frame(2).data, STACK[2])


@every_format
def test_a_file_that_changed_is_refused(file: Path):
    movie = load(file)
    movie.frame(0)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content + b"\0")
    with pytest.raises(ScopegymError, match=r"was changed after it was opened; load it again"):
        movie.frame(1)


@every_format
def test_an_interrupted_reading_begins_anew(file: Path, monkeypatch):
    """An alarm may end a reader between two frames: what it gave next would be another frame."""
    movie = load(file)
    movie.frame(1)
    _, _, reader = movie.data._opened

    def interrupted(index: int) -> Any:
        reader(index)
        raise LimitExceededError("reading took longer than 1 s")

    monkeypatch.setattr(movie.data, "_opened", (*movie.data._opened[:2], interrupted))
    with pytest.raises(LimitExceededError):
        movie.frame(2)
    assert np.array_equal(movie.frame(3).data, STACK[3])


def test_the_frame_is_the_image(tmp_path: Path):
    write_tiff(tmp_path / "a.tif", STACK)
    frame, image = load(tmp_path / "a.tif").frame(2), Micrograph(STACK[2])
    assert frame.key == image.key
    assert load(tmp_path / "a.tif").frame_key(2) == image.key
    assert Micrograph(STACK).frame_key(2) == image.key
    normalized = load(tmp_path / "a.tif").normalized_frames()
    assert normalized[2].key == image.normalized().key == normalized.frame_key(2)
    assert np.array_equal(normalized[2].pixels, image.normalized().pixels)


def test_no_frame_is_read_to_load_or_to_know_the_key(tmp_path: Path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("a frame was read")

    monkeypatch.setattr(FileFrames, "__getitem__", never)
    keys = set()
    for name, stack in (("a.tif", STACK), ("b.tif", STACK + np.uint8(1)), ("c.tif", STACK)):
        write_tiff(tmp_path / name, stack)
        movie = load(tmp_path / name)
        keys |= {movie.key, movie.normalized_frames().key}
    assert len(keys) == 4
    with pytest.raises(AssertionError):
        movie.frame(0)


def test_what_is_no_number_is_found_when_its_frame_is_read(tmp_path: Path):
    stack = STACK.astype(np.float32)
    stack[3, 5, 6:8] = np.nan
    np.save(tmp_path / "a.npy", stack)
    movie = load(tmp_path / "a.npy")
    assert np.array_equal(movie.frame(2).data, STACK[2])
    with pytest.raises(ScopegymError, match=r"Frame 3 of 'a\.npy' holds 2 pixels that are NaN"):
        movie.frame(3)


def test_frames_in_colour_are_grey_or_refused(tmp_path: Path):
    colours = np.repeat(STACK[..., None], 3, axis=-1)
    colours[4, 0, 0, 0] += 1
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression="zlib")
    movie = load(tmp_path / "a.tif")
    assert movie.shape == STACK.shape and np.array_equal(movie.frame(3).data, STACK[3])
    with pytest.raises(ScopegymError, match="is a colour photograph"):
        movie.frame(4)


def test_a_damaged_frame_does_not_spoil_the_others(tmp_path: Path):
    path = tmp_path / "a.tif"
    write_tiff(path, STACK, compression="zlib")
    with tifffile.TiffFile(path) as file:
        at = file.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    movie = load(path)
    assert np.array_equal(movie.frame(3).data, STACK[3])
    with pytest.raises(ScopegymError, match=r"Frame 2 of 'a\.tif' cannot be read"):
        movie.frame(2)
    assert np.array_equal(movie.frame(1).data, STACK[1])


def test_a_video_is_decoded_once_when_read_in_order(tmp_path: Path, monkeypatch):
    import imageio_ffmpeg

    write_video(tmp_path / "a.avi", STACK)
    movie = load(tmp_path / "a.avi")
    started: list[Any] = []
    start = imageio_ffmpeg.read_frames
    monkeypatch.setattr(
        imageio_ffmpeg, "read_frames", lambda *a, **k: started.append(a) or start(*a, **k)
    )
    assert np.array_equal(np.asarray(movie.data), STACK) and len(started) == 1
    movie.frame(0)
    assert len(started) == 2


MEASURED = """
import resource, sys
from pathlib import Path
from scopegym import load
import tifffile, h5py, mrcfile, scopegym.datasets.readers

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB

before = peak()
movie = load(sys.argv[1])
loaded = peak()
sums = [float(movie.frame(index).data.sum()) for index in range(movie.frames)]
assert sums == [index * 65536.0 for index in range(1000)], sums[:5]
print(loaded - before, peak() - before)
"""


@pytest.mark.parametrize("name", ["a.tif", "pages.tif", "a.npy", "a.h5", "chunks.h5", "a.mrc"])
def test_memory_does_not_grow_with_the_length(name: str, tmp_path: Path):
    pytest.importorskip("resource")
    path = tmp_path / name
    stack = np.arange(1000, dtype=np.uint16)[:, None, None] * np.ones((256, 256), np.uint16)
    options = {"chunks": (1, 256, 256)} if name == "chunks.h5" else {}
    if path.suffix == ".h5":
        write_hdf5(path, stack, **options)
    else:
        WRITERS[name](path, stack)
    assert stack.nbytes > 130e6
    command = [sys.executable, "-c", MEASURED, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, read = map(float, ran.stdout.split())
    assert loaded < 20 and read < 20, (loaded, read)  # MiB; the frames take 250


# The artifact ------------------------------------------------------------------------------------


def points(count: int) -> Points:
    return Points(np.ones((count, 2)), (20, 30))


def test_frames_hold_one_kind():
    frames = Frames[Points]([points(2), points(0), points(3)])
    assert (len(frames), frames.shape, frames.kind) == (3, (3, 20, 30), Points)
    assert [len(each) for each in frames] == [2, 0, 3] and len(frames[2]) == 3
    assert not frames.empty and Frames[Points]([points(0)]).empty
    assert frames.nbytes == sum(each.nbytes for each in frames)
    with pytest.raises(ScopegymError, match=r"Frames\[Labels\] holds Labels, not a Points"):
        Frames[Labels]([points(1)])  # type: ignore[list-item]
    with pytest.raises(ScopegymError, match="at least one frame"):
        Frames[Points]([])
    with pytest.raises(IndexError):
        frames[3]


def test_the_kind_is_a_class():
    assert Frames[Points] is Frames[Points] and Frames[Points] is not Frames[Image]
    assert issubclass(Frames[Source], Frames[Image]) and not issubclass(
        Frames[Image], Frames[Source]
    )
    assert Frames[Points].__name__ == "Frames[Points]"
    assert isinstance(Frames[Points]([points(1)]), Frames)


def test_the_key_is_made_of_the_parts():
    one, two = points(1), points(2)
    frames = Frames[Points]([one, two])
    assert frames.key == Frames[Points]([points(1), points(2)]).key
    assert frames.key != Frames[Points]([two, one]).key
    assert frames.derived("name").key == "name"
    copy = pickle.loads(pickle.dumps(frames))
    assert type(copy) is Frames[Points] and copy.key == frames.key


def test_truth_of_every_frame():
    truth = Frames[Points]([points(1), points(2)])
    movie = Micrograph(STACK[:2], name="film", truth=truth)
    assert movie.frame(1).truth is truth[1]
    with pytest.raises(ScopegymError, match="'film' has 5 frames, but a truth for 2"):
        Micrograph(STACK, name="film", truth=truth)


def test_an_image_has_no_normalised_frames():
    with pytest.raises(ScopegymError, match="'one' is one image where a stack of frames"):
        Micrograph(STACK[0], name="one").normalized_frames()


def test_a_frame_without_contrast_is_refused_when_it_is_asked_for():
    movie = Micrograph(np.stack([STACK[0], np.zeros_like(STACK[0])]), name="film")
    frames = movie.normalized_frames()
    assert frames[0].shape == (40, 48)
    with pytest.raises(ScopegymError, match=r"'film\[1\]' is constant"):
        frames[1]


def test_a_matlab_5_stack_is_still_read_whole(tmp_path: Path):
    scipy.io.savemat(tmp_path / "a.mat", {"movie": np.moveaxis(STACK, 0, 2)})
    assert np.array_equal(load(tmp_path / "a.mat").data, STACK)
