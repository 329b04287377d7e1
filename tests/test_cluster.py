"""Work on a Ray cluster of two nodes: nothing is lost with a node, and no disk is shared."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from scopegym.agents.policy import SHIPPED
from scopegym.errors import ScopegymError
from scopegym.registry import PluginFile, load_plugins, read_plugins
from scopegym.workers import Parcel, start_ray
from scopegym.workers.cluster import SETTINGS_OF_RAY

TESTS = Path(__file__).parent


def on_two_nodes(program: str, *arguments: Any) -> dict[str, Any]:
    """What a program of ``two_nodes.py`` prints: one JSON object and nothing else."""
    done = subprocess.run(
        [sys.executable, TESTS / "two_nodes.py", program, *map(json.dumps, arguments)],
        # Ray reads its settings when it is imported, here before a cluster is joined.
        env={**os.environ, **SETTINGS_OF_RAY, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_run_survives_its_node_its_workers_and_a_stop():
    assert on_two_nodes("disturbed", 100, 20) == {
        "tasks": 100,
        "most": 1,
        "died": [],
        "killed": 20,
        "stopped": True,
    }


PLUGIN = """
from typing import Annotated
from scopegym import operator
from scopegym.artifacts import Image

@operator
def brighten_twice(image: Image) -> Image:
    return Image(2 * image.pixels)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with its sidecar, a policy and a plug-in."""
    made = tmp_path / "originals"
    made.mkdir()
    tifffile.imwrite(made / "image.tif", np.full((32, 32), 3.0, np.float32))
    (made / "image.json").write_text('{"pixel_size_nm": 0.25}')
    (made / "mine.py").write_text(PLUGIN)
    shutil.copytree(SHIPPED / "atoms", made / "policy")
    return made


@pytest.mark.slow
def test_images_policies_and_plugins_travel_as_bytes(folder):
    told = on_two_nodes("travelling", str(folder))
    assert told["image.tif"] == {
        "name": "image.tif",
        "pixel_size_nm": 0.25,
        "mean": 3.0,
        "task": "atoms",
        "plugin": PluginFile(str(folder / "mine.py"), b"").module,
        "gone": True,
    }
    assert "missing.tif' cannot be read: No such file or directory." in told["missing.tif"]


def test_a_parcel_on_one_machine_is_its_path(folder):
    with Parcel(folder / "image.tif").local() as path:
        assert path == folder / "image.tif"


def test_a_packed_parcel_holds_the_named_files_only(folder):
    packed = Parcel(folder / "policy", ("spec.json",)).packed()
    assert packed == Parcel(folder / "policy", ("spec.json",))
    shutil.rmtree(folder)
    with packed.local() as path:
        assert path.name == "policy" and [file.name for file in path.iterdir()] == ["spec.json"]
    assert not path.exists()


def test_a_plugin_is_loaded_where_its_file_is_not(folder, monkeypatch):
    from scopegym.operators.base import registry

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    plugins = read_plugins([folder / "mine.py"])
    assert read_plugins(plugins) == plugins
    shutil.rmtree(folder)
    load_plugins(plugins)
    assert registry["brighten_twice"].function.__module__ == plugins[0].module


def test_an_address_in_the_environment_is_honoured(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        pytest.skip("a cluster is joined already")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ScopegymError, match=f"No Ray cluster answers at '{address}'"):
        start_ray()


def test_another_program_at_the_address_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scopegym.workers.cluster.PATIENCE", 0.2)
            with pytest.raises(ScopegymError, match=f"No Ray cluster answers at '{address}'"):
                start_ray(address)
