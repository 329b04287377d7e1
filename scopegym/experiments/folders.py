"""Output folders: a command may replace the files it wrote; all other files stay.

Every folder has a manifest with the command, the run and the hash of each file. Files are made in a
scratch folder and moved together when all are complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scopegym.errors import ScopegymError
from scopegym.frozen import FrozenDict
from scopegym.plain import read_bytes, read_json
from scopegym.version import __version__

#: The manifest, which marks a folder of scopegym.
MANIFEST = "scopegym-manifest.json"
#: Scratch folders; the number of the process and the host follow, so that a later run can tell
#: which are left over.
SCRATCH = ".scopegym-"
#: Longest manifest that is read [bytes].
LONGEST = 16 * 2**20
#: Errors that say that a folder cannot be written to.
_REFUSED = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


#: Placeholder for a content that is too long to show.
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Manifest:
    """The origin of a folder: the ``command``, the settings of its ``run`` if runs must not mix,
    and the SHA-256 of every file. ``former`` holds the files that a write in progress replaces."""

    command: str
    run: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))
    files: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    former: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest of a folder, None without a valid one."""
        path = folder / MANIFEST
        try:
            if path.is_symlink():
                return None
            plain = read_json(read_bytes(path, LONGEST, "The manifest"))
            command, run, files = plain["command"], plain["run"], plain["files"]
            former = plain.get("former", {})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not isinstance(command, str) or not isinstance(run, dict):
            return None
        if not _are_hashes(files) or not _are_hashes(former):
            return None
        return cls(command, run, files, former)

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder; one rename replaces a former manifest."""
        plain: dict[str, Any] = {"scopegym": __version__, "command": self.command}
        plain |= {"run": dict(self.run), "files": dict(sorted(self.files.items()))}
        if self.former:
            plain["former"] = dict(self.former)
        scratch = folder / f"{_mark()}manifest"
        scratch.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        scratch.replace(folder / MANIFEST)

    def wrote(self, path: Path) -> bool:
        """Whether a file is one of these, and unchanged."""
        hashes = {self.files.get(path.name), self.former.get(path.name)} - {None}
        return bool(hashes) and not path.is_symlink() and path.is_file() and _hash(path) in hashes


@dataclass(frozen=True)
class Output:
    """A folder that ``command`` writes results into.

    ``run`` are the settings that determine results, as plain values, for a command that adds to
    existing results. A command without them replaces all its results.
    """

    folder: Path
    command: str
    run: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))

    #: New paths of files of the command that somebody had changed.
    kept: list[Path] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", json.loads(json.dumps(dict(self.run), sort_keys=True)))

    def claim(self, names: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        """Make sure, before any work, that files of these ``names`` and ``folders`` of results can
        be written.

        Nothing is left behind, but by a command that adds to what is there. Raises ScopegymError
        when the folder cannot be written to, belongs to another command or run, or holds something
        of such a name that the command did not write.
        """
        with _writable(self.folder):
            _remove_leftovers(self.folder)
            self._refuse(self._manifest(), {*names})
            for name in folders:
                refuse_foreign(self.folder / name, self)
            with _scratch(_nearest(self.folder)):
                pass  # what cannot be written to is refused here
        if self.run and Manifest.read(self.folder) is None:
            with self.writing():
                pass  # a killed run is known by its manifest

    def adopt(self, name: str) -> None:
        """Treat a file as one of this command's, because the user says so."""
        manifest, path = self._manifest(), self.folder / name
        if not manifest.wrote(path):
            Manifest(self.command, self.run, {**manifest.files, name: _hash(path)}).write(
                self.folder
            )

    @contextmanager
    def writing(self, more: bool = False) -> Iterator[Path]:
        """A scratch folder whose files move into the folder once the block has succeeded.

        They take the place of all that the command wrote there before, or with ``more`` are added
        to it. A file of the command that was changed since is kept as ``NAME~1``. When the block
        fails the folder stays as it is. Raises ScopegymError as ``claim``.
        """
        _make(self.folder)
        with _writable(self.folder), _scratch(self.folder) as scratch:
            yield scratch
            self._move_in(scratch, more)

    def _move_in(self, scratch: Path, more: bool) -> None:
        manifest = self._manifest()
        new = {path.name: _hash(path) for path in scratch.iterdir()}
        gone = {} if more else {n: h for n, h in manifest.files.items() if n not in new}
        self._refuse(manifest, new.keys())
        for path in (self.folder / name for name in (*new, *gone)):
            if os.path.lexists(path) and not manifest.wrote(path):
                self.kept.append(path.rename(_free(path)))
        kept = {n: h for n, h in manifest.files.items() if n not in gone}
        # A run that is killed between here and the end leaves files that it knows as its own.
        Manifest(self.command, self.run, {**kept, **new}, manifest.files).write(self.folder)
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        for name in new:
            (scratch / name).replace(self.folder / name)
        Manifest(self.command, self.run, {**kept, **new}).write(self.folder)

    def _manifest(self) -> Manifest:
        """The folder's manifest. Raises ScopegymError when it is that of another command or run."""
        former = Manifest.read(self.folder)
        if former is None:
            return Manifest(self.command, self.run)
        if former.command != self.command:
            raise ScopegymError(
                f"'{self.folder}' holds results of 'scopegym {former.command}'; give "
                f"'scopegym {self.command}' another folder."
            )
        if self.run and former.run != self.run:
            raise ScopegymError(
                f"'{self.folder}' holds results of another run ({_difference(former.run, self.run)}"
                "); give another folder."
            )
        return former

    def _refuse(self, manifest: Manifest, names: Set[str]) -> None:
        """Raise ScopegymError when something else than this command's file has the name."""
        if os.path.lexists(self.folder / MANIFEST) and Manifest.read(self.folder) is None:
            raise _foreign(self.folder / MANIFEST, "is not one of scopegym's")
        for name in sorted(names - manifest.files.keys() - manifest.former.keys()):
            if os.path.lexists(self.folder / name):
                raise _foreign(self.folder / name, "was not made by scopegym")


def _foreign(path: Path, why: str) -> ScopegymError:
    return ScopegymError(f"'{path}' {why}; move it away or give another folder.")


def commit(target: Path, files: Mapping[str, bytes], output: Output) -> Path | None:
    """Make ``files`` the whole content of the folder ``target`` inside ``output``, by one rename.

    A former result of the same run is removed; one that holds anything else (a file of the user, a
    changed one) is kept beside, and its new path returned. Raises ScopegymError when the folder is
    none of this run's results or cannot be written to.
    """
    with _writable(target), _scratch(output.folder) as scratch:
        made = scratch / "result"
        made.mkdir()
        for name, content in files.items():
            (made / name).write_bytes(content)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        Manifest(output.command, output.run, hashes).write(made)
        target.parent.mkdir(exist_ok=True)
        kept = retire(target, output)
        made.rename(target)
    return kept


def retire(target: Path, output: Output) -> Path | None:
    """Take a former result of a run away: removed, or where it holds anything else kept beside
    under the path that is returned. Raises ScopegymError when it is no result of this run."""
    if not os.path.lexists(target):
        return None
    refuse_foreign(target, output)
    kept = _free(target)
    target.rename(kept)
    if _is_own(kept, output):
        _remove(kept)
        return None
    return kept


def refuse_foreign(target: Path, output: Output) -> None:
    """Raise ScopegymError when ``target`` exists and this run did not make it."""
    if os.path.lexists(target) and manifest_of(target, output) is None:
        raise _foreign(target, "exists and was not written by this run")


def manifest_of(folder: Path, output: Output) -> Manifest | None:
    """The manifest of a folder of this run, None for any other folder."""
    manifest = None if folder.is_symlink() else Manifest.read(folder)
    if manifest is None or (manifest.command, manifest.run) != (output.command, output.run):
        return None
    return manifest


def _is_own(folder: Path, output: Output) -> bool:
    """Whether a folder holds only unchanged files and folders of this run."""
    manifest = manifest_of(folder, output)
    return manifest is not None and all(
        path.name == MANIFEST or (_is_own(path, output) if path.is_dir() else manifest.wrote(path))
        for path in folder.iterdir()
    )


def _remove(folder: Path) -> None:
    """Remove a folder of this run. It stays if somebody adds a file meanwhile."""
    manifest = Manifest.read(folder)
    assert manifest is not None
    for name in manifest.files:
        (folder / name).unlink(missing_ok=True)
    for inner in [path for path in folder.iterdir() if path.is_dir()]:
        _remove(inner)
    (folder / MANIFEST).unlink()
    folder.rmdir()


def _free(target: Path) -> Path:
    """The first of ``NAME~1``, ``NAME~2`` ... that is not taken."""
    number = 1
    while os.path.lexists(free := target.with_name(f"{target.name}~{number}")):
        number += 1
    return free


def _difference(former: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which setting differs, in words."""
    name = next(name for name in {**now, **former} if former.get(name) != now.get(name))
    values = former.get(name), now.get(name)
    shown = name.replace("_", " ")
    if all(isinstance(value, dict) for value in values):
        return f"{shown}: {_difference(*values)}"  # type: ignore[arg-type]
    if any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in values):
        return f"{shown} differ"
    before, after = ("not given" if value is None else json.dumps(value) for value in values)
    return f"{shown} {before} there, {after} here"


def _are_hashes(plain: Any) -> bool:
    """Whether these are hashes of files in one folder; names outside of it are refused."""
    return isinstance(plain, dict) and all(
        name not in ("", "..") and name == Path(name).name and isinstance(value, str)
        for name, value in plain.items()
    )


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _nearest(folder: Path) -> Path:
    """The folder itself, or its nearest existing parent."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turn errors of writing to a folder into ScopegymError."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSED:
            raise _unwritable(folder, error) from None
        raise


def _unwritable(folder: Path, error: OSError) -> ScopegymError:
    return ScopegymError(f"Cannot write to the folder '{folder}': {error.strerror}.")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A scratch folder on the same disk."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=_mark(), dir=folder))
    except FileNotFoundError as error:  # a link to nowhere, or a file system that makes no folders
        raise _unwritable(folder, error) from None
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _mark() -> str:
    """How names of scratch files of this process begin."""
    return f"{_of_here()}{os.getpid()}-"


def _of_here() -> str:
    """How names of scratch files of this machine begin; no other machine's name holds a plus."""
    return f"{SCRATCH}{platform.node()}+"


def _remove_leftovers(folder: Path) -> None:
    """Remove the scratch files that killed runs on this machine have left."""
    here = _of_here()
    for path in folder.iterdir() if folder.is_dir() else ():
        process = path.name.removeprefix(here).partition("-")[0]
        if path.name.startswith(here) and process.isdigit() and not _alive(int(process)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
