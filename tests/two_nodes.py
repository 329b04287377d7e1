"""Programs of the tests on a Ray cluster of two nodes of this machine; each prints a JSON object.

They are processes of their own: a test's process may be in another cluster already.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scopegym.registry import read_plugins
from scopegym.workers import Parcel, WorkerDied, spread, start_ray


class Sleeper:
    def work(self, _: int) -> int:
        time.sleep(0.05)
        return os.getpid()


@contextmanager
def two_nodes(cpus: int) -> Iterator[tuple[Any, Any]]:
    """A joined cluster and the node that may be killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
    try:
        node = cluster.add_node(num_cpus=cpus)
        os.environ["RAY_ADDRESS"] = cluster.address
        start_ray()
        yield cluster, node
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


def disturbed(tasks: int, kills: int) -> dict[str, Any]:
    """A node, workers and a stop, while tasks are done: how often each task came back, and with
    what.

    All happens in the first two thirds: a task that loses two workers would be given up, and tasks
    are tried again after all others.
    """
    came: Counter[int] = Counter()
    died, killed, stopped = [], 0, False
    waiting = deque((number,) for number in range(tasks))
    with two_nodes(2) as (cluster, node):
        calls = spread(waiting, "work", 6, "ray", Sleeper, seconds=6, patience=20)
        for (number,), future in calls:
            came[number] += 1
            if isinstance(future.exception(), WorkerDied):
                died.append(number)
                continue
            done = sum(came.values())
            if done == tasks // 5:
                cluster.remove_node(node, allow_graceful=False)
            elif not stopped and done > tasks // 3:
                os.kill(future.result(), signal.SIGSTOP)
                stopped = True
            elif done % 3 == 0 and killed < kills:
                try:
                    os.kill(future.result(), signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:  # it was on the node
                    continue
    return {
        "tasks": len(came),
        "most": max(came.values()),
        "died": died,
        "killed": killed,
        "stopped": stopped,
    }


class Reader:
    """Reads what travelled; its plug-in is loaded."""

    def __init__(self, policy: Parcel) -> None:
        from scopegym.agents.policy import Policy
        from scopegym.operators.base import registry

        with policy.local() as folder:
            self.task = Policy.load(folder).task.name
        self.plugin = registry["brighten_twice"].function.__module__

    def read(self, image: Parcel) -> dict[str, Any]:
        from scopegym.datasets.readers import load

        with image.local() as path:
            micrograph = load(path)
            folder, name = path.parent, path.name
        return {
            "name": name,
            "pixel_size_nm": micrograph.pixel_size_nm,
            "mean": float(micrograph.data.mean()),
            "task": self.task,
            "plugin": self.plugin,
            "gone": not folder.exists(),
        }


def travelling(folder: str) -> dict[str, Any]:
    """A worker reads an image, a policy and a plug-in whose folder it cannot see."""
    here = Path(folder)
    plugins = read_plugins([here / "mine.py"])
    image, missing = Parcel(here / "image.tif").packed(), Parcel(here / "missing.tif")
    policy = Parcel(here / "policy", ("spec.json", "policy.safetensors")).packed()
    here.rename(here.with_name("elsewhere"))
    told = {}
    waiting = deque([(image,), (missing,)])
    with two_nodes(1):
        for (sent,), future in spread(waiting, "read", 1, "ray", Reader, policy, plugins=plugins):
            error = future.exception()
            told[sent.path.name] = future.result() if error is None else str(error)
    return told


if __name__ == "__main__":
    program = {"disturbed": disturbed, "travelling": travelling}[sys.argv[1]]
    sys.stdout.write(json.dumps(program(*map(json.loads, sys.argv[2:]))))
