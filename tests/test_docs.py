"""The documentation, run as a user would: every command and every Python block."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from scopegym.datasets.simulate import simulate_crystal
from scopegym.sample.crystal import Crystal

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Installing and testing is what `.ci/run` does; a test cannot do it to itself.
BY_CI = ("pip install", "pytest")
#: What a page's command gets in addition: a training takes minutes, its first steps seconds.
SHORTER = {
    "scopegym train": " --steps 600 --validation 4",
    "scopegym benchmark": " --problems 2 --seeds 1 --budget 9 --training-images 2 --backend serial",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with an image and a folder of images as the pages call them."""
    projection = Crystal.named("YBa2Cu3O7").project((1, 0, 0))
    image = simulate_crystal(projection, (160, 160), 0.025, noise=0.1, seed=5)
    tifffile.imwrite(
        tmp_path / "my_image.tif",
        image.data,
        imagej=True,
        resolution=(40.0, 40.0),
        metadata={"unit": "nm"},
    )
    (tmp_path / "my_images").mkdir()
    for number in range(3):
        shutil.copy(tmp_path / "my_image.tif", tmp_path / "my_images" / f"{number}.tif")
    return tmp_path


def run(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_in_order(page, folder):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for language, text in blocks:
        if language == "python":
            named = re.match(r"# (\w+\.py)\n", text)
            file = folder / (named.group(1) if named else "block.py")
            file.write_text(text, encoding="utf-8")
            run([sys.executable, str(file)], folder)
        for line in text.splitlines() if language == "bash" else ():
            if not line.startswith(BY_CI):
                more = (text for start, text in SHORTER.items() if line.startswith(start))
                run(["bash", "-c", line + "".join(more)], folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target
