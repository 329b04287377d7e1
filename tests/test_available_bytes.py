"""The memory that is free: of the computer, of its control groups and of the addresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scopegym import limits
from scopegym.limits import available_bytes

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_some_memory_is_free() -> None:
    assert 2**20 < available_bytes() < 2**50


@LINUX
def test_the_limit_on_addresses_counts() -> None:
    code = (
        "import resource; from scopegym.limits import available_bytes;"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); print(available_bytes())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert 2**20 < int(said.stdout) < 2**31


def test_the_least_of_all_limits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_free_of_system", lambda: 700)
    monkeypatch.setattr(limits, "_free_of_groups", lambda: iter([600, 900]))
    monkeypatch.setattr(limits, "_free_of_addresses", lambda: iter([]))
    assert available_bytes() == 600
    monkeypatch.setattr(limits, "_free_of_addresses", lambda: iter([-5]))
    assert available_bytes() == 0


@pytest.mark.parametrize(
    ("own", "folder", "limit", "use", "cached"),
    [
        ("0::/jobs/mine\n", "jobs", "memory.max", "memory.current", "inactive_file"),
        (
            "1:cpu:/\n4:memory:/jobs/mine\n",
            "memory/jobs",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_the_control_groups_above_count(
    tmp_path: Path, own: str, folder: str, limit: str, use: str, cached: str
) -> None:
    for group, most, taken in (("", "1000", "400"), ("mine", "max", "100")):
        path = tmp_path / folder / group
        path.mkdir(parents=True, exist_ok=True)
        (path / limit).write_text(f"{most}\n")
        (path / use).write_text(f"{taken}\n")
        (path / "memory.stat").write_text(f"anon 30\n{cached} 50\n")
    assert list(limits._free_of_groups(tmp_path, own)) == [650]
