"""Objects that live in other processes: Ray actors, subprocesses, or simply here.

All three answer calls with ``concurrent.futures.Future``, so that a caller who waits for the first
of many does not need to know where they run. ``base`` says what a worker is, ``processes`` and
``cluster`` make them, ``pool`` spreads calls over many, ``parcel`` sends files to them.
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
