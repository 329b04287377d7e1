"""Memory that a large image takes, as the peak of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

#: Of the process's own memory: the peak that ``resource`` tells may be that of its parent.
STATUS = Path("/proc/self/status")
CHILD = """
import json, re, sys
from pathlib import Path
import numpy as np
from scopegym.envs.problem import Problem, registry
from scopegym.micrograph import Micrograph
from scopegym.prior import Lattice, Prior

name, spacing, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
pixels = np.load(path)
lattice = Lattice(((spacing, 0.0), (0.0, spacing)))
prior = Prior(spacing, count=pixels.size / spacing**2, parts=(lattice,))
task = registry[name]
trial = Problem(Micrograph(pixels), prior, task).evaluate(task.expert)
peak = 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps({"failure": trial.failure, "value": trial.score.value, "peak": peak}))
"""


def lattice(size: int, spacing: float) -> np.ndarray:
    """A square lattice, in one half turned by 30 degrees, with noise."""
    y, x = (axis * (2 * np.pi / spacing) for axis in np.ogrid[:size, :size])
    turned = np.cos(0.866 * y + 0.5 * x) + np.cos(0.866 * x - 0.5 * y)
    plain = np.cos(y) + np.cos(x)
    noise = np.random.default_rng(0).normal(0, 0.2, (size, size))
    return (np.where(np.arange(size) < size / 2, plain, turned) + noise).astype(np.float32)


@pytest.mark.skipif(not STATUS.exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize(
    ("task", "size", "spacing"),
    [
        ("symmetry", 1024, 4.0),  # a centre at every pixel
        ("disorder", 1024, 8.0),
        pytest.param("atoms", 2048, 8.0, marks=pytest.mark.slow),
        pytest.param("symmetry", 2048, 8.0, marks=pytest.mark.slow),
        pytest.param("disorder", 2048, 8.0, marks=pytest.mark.slow),
    ],
)
def test_the_expert_takes_twelve_images_and_half_a_gigabyte(tmp_path, task, size, spacing):
    np.save(tmp_path / "image.npy", lattice(size, spacing))
    command = [sys.executable, "-c", CHILD, task, str(spacing), str(tmp_path / "image.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["failure"] is None and told["value"] > 0
    assert told["peak"] < 12 * 4 * size**2 + 0.5e9
