"""`apply` on simulated images while workers are killed and stopped and a node of the cluster is
lost: how many results there are, how many twice, and how long it takes.

    python benchmarks/cluster.py [--images 100] [--kills 20] [--limit 20]

``--limit`` is the time limit of a call here [s]; the stopped worker costs this much.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
from apply import PIXEL_NM, write_images

#: Seconds after which a run counts as one that never ends.
PATIENCE = 900


@contextmanager
def two_nodes(cpus: int = 2) -> Any:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
    try:
        yield cluster, cluster.add_node(num_cpus=cpus)
    finally:
        cluster.shutdown()


class Run:
    """One `scopegym apply` that can be disturbed."""

    def __init__(self, images: Path, out: Path, limit: float, *options: str) -> None:
        known = ["--crystal", "YBa2Cu3O7", "--pixel-size", f"{PIXEL_NM} nm"]
        arguments = ["apply", "atoms", str(images), *known, "--out", str(out), *options]
        self.out, self.start = out, time.perf_counter()
        self.log = out.with_suffix(".log").open("w")
        self.driver = subprocess.Popen(
            [sys.executable, "-m", "scopegym.experiments.cli", *arguments, "--limit", str(limit)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def done(self) -> int:
        return len(list(self.out.glob("*/result.json")))

    @property
    def running(self) -> bool:
        return self.driver.poll() is None and time.perf_counter() - self.start < PATIENCE

    def at(self, count: int, action: Callable[[], bool]) -> bool:
        """Do something when so many images are done, as soon as it can be done."""
        while self.running:
            if self.done >= count and action():
                return True
            time.sleep(0.02)
        return False

    def signal(self, number: int) -> bool:
        """Send a signal to a worker that works, if there is one."""
        for pid in workers():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def finish(self) -> dict[str, Any]:
        while self.running:
            time.sleep(0.1)
        ended = self.driver.poll()
        self.driver.kill()
        self.log.close()
        table = self.out / "results.parquet"
        names = pd.read_parquet(table).image if table.is_file() else pd.Series([], dtype=str)
        return {
            "results": len(names),
            "twice": int(names.duplicated().sum()),
            "seconds": round(time.perf_counter() - self.start),
            "ended": "never" if ended is None else f"exit {ended}",
        }


def workers() -> list[int]:
    """The processes under this one that work at a call: the cluster's, and the driver's own."""
    lines = subprocess.run(
        ["ps", "-wweo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(None, 3) for line in lines[1:]]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def mine(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    working = ("ray::Holder.call", "spawn_main")
    return [
        int(pid)
        for pid, _, state, arguments in rows
        if any(mark in arguments for mark in working) and state[0] not in "TZ" and mine(int(pid))
    ]


def disturbed(run: Run, kills: int, images: int, lose: Callable[[], None] | None) -> dict[str, Any]:
    """All happens in the first two thirds: an image that loses two workers is given up, and one
    that lost one is tried again after all others."""
    step = max(1, images * 6 // 10 // max(1, kills))
    killed = stopped = 0
    for number in range(kills):
        if number == kills // 2:
            if lose is not None:
                lose()
            stopped += run.at(0, lambda: run.signal(signal.SIGSTOP))
        killed += run.at((number + 1) * step, lambda: run.signal(signal.SIGKILL))
    return {**run.finish(), "killed": killed, "stopped": stopped}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--limit", type=float, default=20.0)
    given = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = folder / "images"
        write_images(images, given.images, side=128)
        with two_nodes() as (cluster, node):
            options = ("--workers", "4", "--ray-address", cluster.address)
            run = Run(images, folder / "ray", given.limit, *options)
            rows["two Ray nodes, one lost"] = disturbed(
                run, given.kills, given.images, lambda: cluster.remove_node(node, False)
            )
        run = Run(images, folder / "processes", given.limit, "--backend", "processes")
        rows["processes"] = disturbed(run, given.kills, given.images, None)
        with two_nodes(1) as (cluster, _):
            options = ("--workers", "8", "--ray-address", cluster.address)
            run = Run(images, folder / "crowded", given.limit, *options)
            rows["8 workers, 2 processors"] = run.finish()
        if any(row["ended"] != "exit 0" for row in rows.values()):
            for log in folder.glob("*.log"):
                print(log.name, log.read_text()[-2000:], sep="\n")
    print(pd.DataFrame(rows).T.fillna(0).to_string())


if __name__ == "__main__":
    main()
