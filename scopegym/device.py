"""Where the heavy operators compute: on the processor with NumPy, or on a GPU with PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from scopegym.errors import ScopegymError

_current: ContextVar[str] = ContextVar("scopegym_device", default="cpu")


def current() -> str:
    """The name of the device in force: that of the enclosing ``using``, or "cpu"."""
    return _current.get()


@contextmanager
def using(name: str | None) -> Iterator[str]:
    """Make a device the current one; None keeps the one in force. Raises as ``check`` does."""
    chosen = current() if name is None else check(name)
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def check(name: str) -> str:
    """The name of a device that this machine has: "cpu", "cuda" or "cuda:N".

    "torch" is a GPU's code run on the processor, for tests on machines without one.

    Raises ScopegymError for other names, and for a GPU that PyTorch cannot use.
    """
    if name in ("cpu", "torch"):
        return name
    match = re.fullmatch(r"cuda(?::(\d+))?", str(name), re.ASCII)
    if match is None:
        raise ScopegymError(f"The device must be cpu, cuda or cuda:N, not '{name}'.")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) >= count:
        raise ScopegymError(
            f"The device '{name}' needs a GPU that PyTorch can use, and it finds {count} here; "
            "take cpu."
        )
    return name
