"""The checkpoint of a training, to continue after an interruption."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from scopegym.errors import ScopegymError
from scopegym.plain import Number, Record, Text, Whole, checked, read_bytes

#: Entries of a checkpoint, and its largest size [bytes].
ENTRIES = Record(
    {
        "policy": Record({}),
        "optimizer": Record({}),
        "mean": Record({}),
        "steps": Whole(0, 10**12),
        "executions": Whole(0, 10**12),
        "seconds": Number(0, 1e12),
        "rows": Text(10**8),
        "task": Text(),
        "operators": Text(10**7),
        "slots": Text(10**7),
    }
)

LARGEST_CHECKPOINT = 2**28

CHECKPOINT, LOG = "checkpoint.pt", "training.csv"


def kept(out: Path) -> str:
    """The checkpoint of an interrupted training, and how to continue."""
    try:
        steps = read_checkpoint(out / CHECKPOINT)["steps"]
    except ScopegymError:
        return f"Stopped before the first update; there is no checkpoint in '{out}'."
    return (
        f"Stopped; the checkpoint in '{out}' has {steps:,} steps, and the same command with "
        "--resume continues from there."
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    import torch

    if not path.is_file():
        raise ScopegymError(f"There is no checkpoint '{path}'; start without --resume.")
    content = read_bytes(path, LARGEST_CHECKPOINT, "The checkpoint")
    try:
        checkpoint: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        checked(ENTRIES, checkpoint, "The content")
        for name in ("operators", "slots"):
            json.loads(checkpoint[name])
    except Exception as error:  # torch raises whatever a damaged archive happens to cause
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ScopegymError(f"'{path}' is no checkpoint of a training: {reason}.") from None
    return checkpoint
