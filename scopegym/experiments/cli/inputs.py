"""From the arguments that several commands share to what they name."""

from __future__ import annotations

from pathlib import Path

from scopegym.errors import ScopegymError


def load_plugins(files: list[Path] | None) -> None:
    """Run the plug-ins that the user names, and those of installed packages."""
    from scopegym.envs.problem import load_plugins

    load_plugins(files or ())


def kept_lines(paths: list[str]) -> list[str]:
    """What to tell of former results that somebody had changed."""
    return [f"Kept: '{path}', which was changed after scopegym wrote it." for path in paths]


def listed(text: str | None) -> list[str] | None:
    """The names in a list with commas; None where nothing is named."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    return names or None


def policy_folder(policy: str) -> Path:
    """A folder, or the policy that comes with scopegym for the task of this name."""
    from scopegym.agents.policy import SHIPPED

    folder = SHIPPED / policy
    return folder if not Path(policy).exists() and folder.is_dir() else Path(policy)


def start_ray(backend: str, address: str | None) -> None:
    """Join the Ray cluster at an address, where one is given."""
    from scopegym import workers

    if address is not None:
        if backend != "ray":
            raise ScopegymError(f"A Ray address goes with the backend ray, not {backend}.")
        workers.start_ray(address)
