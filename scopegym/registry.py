"""Named things that plug-ins can add to: operators, reward terms, tasks, agents."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

from scopegym.artifacts import digest
from scopegym.errors import ScopegymError, unknown


class Named(Protocol):
    """Anything with the name of its registration."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T], Generic[T]):
    """A mapping by name whose look-ups suggest near names."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, entry: T) -> T:
        """Register an entry. Raises ScopegymError when another one has its name."""
        former = self._entries.get(entry.name)
        if former is not None and _home(former) != _home(entry):
            raise ScopegymError(
                f"The {self.kind} '{entry.name}' of {_home(entry)} exists already in "
                f"{_home(former)}; give it another name."
            )
        self._entries[entry.name] = entry
        return entry

    def restore(self, entries: Mapping[str, T]) -> None:
        """Return to former entries."""
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except (KeyError, TypeError):  # what cannot be hashed names nothing
            raise UnknownNameError(self.kind, str(name), self._entries) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class UnknownNameError(ScopegymError, KeyError):
    """A failed look-up: an input error for users, a KeyError for ``Mapping.get`` and ``in``."""

    def __init__(self, kind: str, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(str(unknown(kind, name, known)))

    __str__ = ValueError.__str__


def expose(package: str, registry: Registry[Any]) -> None:
    """Import every module of a package, which registers its entries, and make the package a mapping
    from name to entry."""
    module = sys.modules[package]
    for found in pkgutil.iter_modules(module.__path__):
        importlib.import_module(f"{package}.{found.name}")

    class RegistryPackage(ModuleType):
        def __getitem__(self, name: str) -> Any:
            return registry[name]

        def __iter__(self) -> Iterator[str]:
            return iter(registry)

        def __len__(self) -> int:
            return len(registry)

        def keys(self) -> KeysView[str]:
            return registry.keys()

        def __getattr__(self, name: str) -> Any:
            if name in registry:
                return registry[name]
            raise AttributeError(f"module '{package}' has no attribute '{name}'")

    module.__class__ = RegistryPackage


def _home(entry: Any) -> str:
    """The source file of an entry, which may replace the entry when it is loaded again."""
    return str(getattr(getattr(entry, "function", entry), "__module__", ""))


@dataclass(frozen=True)
class PluginFile:
    """A user's file of operators, rewards or tasks, with its content for machines without the
    file."""

    path: str
    source: bytes = field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> PluginFile:
        """The file at a path. Raises ScopegymError when it is missing or not a Python file."""
        path = Path(path).resolve()
        if not path.is_file():
            raise ScopegymError(f"The plug-in '{path}' does not exist.")
        if path.suffix != ".py":
            raise ScopegymError(f"The plug-in '{path}' is not a Python file.")
        try:
            return cls(str(path), path.read_bytes())
        except OSError as error:
            raise ScopegymError(f"The plug-in '{path}' cannot be read: {error.strerror}.") from None

    @property
    def module(self) -> str:
        """The name of its module, the same in all processes, for pickled values."""
        return f"scopegym_plugin_{Path(self.path).stem}_{digest(self.path)[:8]}"

    def load(self) -> ModuleType:
        """Run the file. Raises ScopegymError when it fails."""
        module = ModuleType(self.module)
        module.__file__ = self.path
        sys.modules[self.module] = module
        try:
            exec(compile(self.source, self.path, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[self.module]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ScopegymError(f"The plug-in '{self.path}' fails: {reason}") from error
        loaded[self.module] = self
        return module


#: The files of plug-ins that this process has run, by the names of their modules.
loaded: dict[str, PluginFile] = {}


def read_plugins(files: Iterable[str | Path | PluginFile]) -> tuple[PluginFile, ...]:
    """The files of plug-ins with their content. Raises ScopegymError as ``PluginFile.read``."""
    return tuple(file if isinstance(file, PluginFile) else PluginFile.read(file) for file in files)


def load_plugin(file: str | Path | PluginFile) -> ModuleType:
    """Run a user's file of operators, rewards or tasks, so that they register themselves.

    Raises ScopegymError when the file is missing or fails.
    """
    [plugin] = read_plugins([file])
    return plugin.load()


def load_entry_points() -> None:
    """Import the operators, rewards and tasks of installed packages."""
    for group in ("scopegym.operators", "scopegym.rewards", "scopegym.tasks"):
        for point in entry_points(group=group):
            try:
                point.load()
            except Exception as error:
                raise ScopegymError(
                    f"The installed plug-in '{point.name}' ({point.value}) fails: {error}"
                ) from error


def load_plugins(files: Iterable[str | Path | PluginFile]) -> None:
    """Import what installed packages add, and run these files of the user."""
    load_entry_points()
    for file in files:
        load_plugin(file)
