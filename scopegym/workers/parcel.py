"""Files that travel to workers which do not share this machine's disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scopegym.errors import ScopegymError
from scopegym.workers.cluster import joined


@dataclass(frozen=True)
class Parcel:
    """A file, or a folder of files, that workers read.

    On one machine only the path is sent; to a joined cluster also the content. The content is read
    when it is sent, so waiting parcels take no memory. A file is sent with its sidecar,
    ``stem.json``. Of a folder the files ``names`` are sent, by default all files directly in it.
    """

    path: Path
    names: tuple[str, ...] = ()
    _content: tuple[tuple[str, bytes], ...] | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """A path to read within the context: the file itself, or a private copy with the same
        name."""
        if self._content is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="scopegym-") as folder:
            for name, content in self._content:
                target = Path(folder) / name
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content)
            yield Path(folder) / self.path.name

    def packed(self) -> Parcel:
        """The parcel with its content. Raises ScopegymError when it cannot be read."""
        if self._content is not None:
            return self
        path = self.path.absolute()
        try:
            content = tuple((name, file.read_bytes()) for name, file in self._files(path))
        except OSError as error:
            raise ScopegymError(f"'{self.path}' cannot be read: {error.strerror}.") from None
        return Parcel(path, self.names, content)

    def _files(self, path: Path) -> list[tuple[str, Path]]:
        """The files to send, by their relative path."""
        if path.is_dir():
            names = self.names or sorted(file.name for file in path.iterdir() if file.is_file())
            return [(f"{path.name}/{name}", path / name) for name in names]
        beside = path.with_suffix(".json")
        sidecar = [beside] if beside != path and beside.is_file() else []
        return [(file.name, file) for file in (path, *sidecar)]

    def __reduce__(self) -> tuple[Any, ...]:
        sent = self.packed() if joined() else self
        return Parcel, (sent.path, sent.names, sent._content)
