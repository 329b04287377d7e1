"""The hyperparameters of a training."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scopegym.errors import ScopegymError


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training: see ``default.yaml``."""

    steps: int
    environments: int
    fragment: int
    batch: int
    epochs: int
    learning_rate: float
    entropy: float
    discount: float
    trace: float
    clip: float
    pool: int
    renewal: float
    validation: int
    evaluate_every: int

    @classmethod
    def of(cls, task: str, **overrides: Any) -> Settings:
        """The settings of a task from its YAML file. Arguments that are not None override them."""
        import yaml

        folder = Path(__file__).parent
        values: dict[str, Any] = {}
        for file in (folder / "default.yaml", folder / f"{task}.yaml"):
            if file.is_file():
                values |= yaml.safe_load(file.read_text(encoding="utf-8"))
        values |= {name: value for name, value in overrides.items() if value is not None}
        for entry in fields(cls):
            if not values[entry.name] >= 0:
                raise ScopegymError(f"{entry.name} must not be negative, not {values[entry.name]}.")
        return cls(**values)
