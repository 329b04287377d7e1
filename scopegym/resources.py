"""Resources of operators: weights of networks, identified by the hash of their file."""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scopegym import device
from scopegym.errors import ScopegymError

#: The only supported format: it holds numbers and no code.
SUFFIX = ".safetensors"
#: Most objects that one process keeps; the least recently used is dropped first.
KEPT = 4

_chosen: ContextVar[Mapping[str, Path] | None] = ContextVar("scopegym_weights", default=None)
_hashes: dict[tuple[str, int, int], str] = {}
_lock = threading.Lock()
_objects: OrderedDict[tuple[str, str, Any], Any] = OrderedDict()


@contextmanager
def using(weights: Mapping[str, str | Path]) -> Iterator[None]:
    """Use these files, by name, in place of the operators' own."""
    token = _chosen.set({**(_chosen.get() or {}), **{n: Path(p) for n, p in weights.items()}})
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen() -> Mapping[str, Path]:
    """Absolute paths of the files that ``using`` substituted, by name."""
    return {name: path.absolute() for name, path in (_chosen.get() or {}).items()}


@dataclass(frozen=True)
class Resource:
    """The weights of a network: ``network: Annotated[Any, Resource(build, "name.safetensors")]``.

    ``build(tensors, metadata)`` makes the object from the tensors by name, on the current device,
    and from the file's metadata (texts by name). ``file`` must be beside the file that defines the
    operator. ``get`` is an instruction to get the file, such as "train it with scopegym detector
    train atoms".
    """

    build: Callable[[dict[str, Any], dict[str, str]], Any]
    file: str
    get: str = ""
    #: The folder of the file that defines the operator.
    folder: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.file.endswith(SUFFIX):
            raise ScopegymError(f"Weights are {SUFFIX} files, not '{self.file}'.")

    def beside(self, function: Callable[..., Any]) -> Resource:
        """The same resource, with its file in the folder of this function's file."""
        folder = Path(inspect.getfile(inspect.unwrap(function))).absolute().parent
        return Resource(self.build, self.file, self.get, folder)

    @property
    def path(self) -> Path:
        """Expected path: the file chosen with ``using``, or the operator's own."""
        chosen = (_chosen.get() or {}).get(self.file)
        return (self.folder or Path()) / self.file if chosen is None else chosen

    @property
    def sha256(self) -> str:
        """Hash of the current file. Raises ScopegymError when the file is missing."""
        path = self.path
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                raise OSError(errno.EINVAL, "it is no regular file")
            stamp = str(path.absolute()), status.st_size, status.st_mtime_ns
            if stamp not in _hashes:
                with path.open("rb") as stream:
                    _hashes[stamp] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise self._missing(error) from None
        return _hashes[stamp]

    def load(self) -> Any:
        """The object on the current device, made once in a process for each file and device.

        Raises ScopegymError when the file is missing, is not in safetensors format or does not fit
        the network.
        """
        name = self.sha256, device.current(), self.build
        with _lock:
            if name not in _objects:
                _objects[name] = self._built(name[0])
            _objects.move_to_end(name)
            while len(_objects) > KEPT:
                _objects.popitem(last=False)
            return _objects[name]

    def _built(self, sha256: str) -> Any:
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise self._missing(error) from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ScopegymError(f"The weights '{self.path}' are being changed; try again.")
        try:
            tensors = load(content)
            length = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        except (SafetensorError, ValueError):
            raise ScopegymError(
                f"The weights '{self.path}' are not a safetensors file, which is the only format "
                "that is read."
            ) from None
        there = "cpu" if device.current() == "torch" else device.current()
        try:
            return self.build({key: t.to(there) for key, t in tensors.items()}, metadata)
        except ScopegymError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
            raise ScopegymError(
                f"The weights '{self.path}' do not fit {self.build.__name__}: {reason}."
            ) from error

    def _missing(self, error: OSError) -> ScopegymError:
        how = f"; {self.get}" if self.get else ""
        return ScopegymError(
            f"The weights '{self.file}' cannot be read at '{self.path}' ({error.strerror}){how}."
        )
