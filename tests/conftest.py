"""What the tests share: the real data beside the checkout, where it is."""

from __future__ import annotations

import os

# Before NumPy: the tests take both cores as two processes, not as threads of libraries.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from pathlib import Path

import pytest

from scopegym import registry

SHARED = Path(__file__).parents[2] / "shared" / "data"
#: Tests that end Ray's processes by their names, or count the processes of this machine, run one
#: after the other.
ONE_AFTER_THE_OTHER = {
    "test_apply",
    "test_cluster",
    "test_learning",
    "test_windows",
    "test_workers",
}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a file together, so that what they share is made once."""
    for item in items:
        group = "ray" if item.path.stem in ONE_AFTER_THE_OTHER else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    return (yield)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of published data, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the published data are not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _plugins_of_one_test(monkeypatch):
    """The plug-ins of a test are gone after it: a process for operators would load them too."""
    monkeypatch.setattr(registry, "loaded", dict(registry.loaded))


@pytest.fixture(scope="session")
def ray_here():
    """A small Ray cluster on this machine, for all tests that need one; its workers can import
    the tests."""
    import ray

    from scopegym.workers import start_ray

    folders = [str(folder) for folder in Path(__file__).parent.glob("**/") if folder.is_dir()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(folders))
        start_ray(cpus=2)
        yield
        ray.shutdown()
