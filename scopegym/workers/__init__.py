"""Workers: objects in Ray actors, in subprocesses, or in this process.

All three answer calls with ``concurrent.futures.Future``, so a caller can wait for the first of
many without knowing where they run. ``base`` defines a worker, ``processes`` and ``cluster`` start
them, ``pool`` distributes calls, ``parcel`` sends files.
"""

from scopegym.workers.base import Backend, Worker, WorkerDied, one_thread, stopping_on_sigterm
from scopegym.workers.cluster import start_ray
from scopegym.workers.parcel import Parcel
from scopegym.workers.pool import map_unordered, room, start_worker

__all__ = [
    "Backend",
    "Parcel",
    "Worker",
    "WorkerDied",
    "map_unordered",
    "one_thread",
    "room",
    "start_ray",
    "start_worker",
    "stopping_on_sigterm",
]
