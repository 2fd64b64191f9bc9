"""A batch on a cluster, by Ray Data: processors decode, and actors that have loaded the recogniser once hear.

    groups ─ _decode (tasks) ─▶ sounds, through the object store ─ Hearer (actors) ─▶ rows ─▶ the command

Ray Data streams: it holds some groups at a time, and starts no more than the object store has room for. What a dead
worker or machine was at is done again.
"""

import json
import logging
import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asr.core.errors import AsrError
from asr.core.places import EXTRA
from asr.core.workers import keep_to_one_thread
from asr.recognition.batch.items import Item
from asr.recognition.batch.plan import Group, Plan
from asr.recognition.batch.worker import Row, Worker, fault, sound_of

DECODE, HEAR = 0.1, 0.9  # processors of a task and of an actor: together one
BLOCK = 32 << 20  # bytes of sound in a block of the object store
BLOCKS = 10_000  # that the groups are divided into at most
CHECKED, GONE = 10.0, 60.0  # seconds between two looks at the head, and of silence after which it is given up
RETRIES = 3  # of what a dead worker was at
DIED = AsrError("the worker that heard it died each time: it is damaged, or too long for the memory")

log = logging.getLogger(__name__)


def rows(plan: Plan, worker: Worker, groups: Iterable[Group], address: str) -> Generator[tuple[Group, list[Row]]]:
    """Yield the rows of each group, in any order.

    What workers die of is heard again one recording at a time; a recording of which two more die has a fault.

    Parameters
    ----------
    plan, worker, groups
        The plan, what is to be done, and of which groups.
    address
        Of the cluster: ``host:port``, ``auto`` for one that runs on this machine, or ``local`` to start one here.

    Raises
    ------
    AsrError
        Ray is not installed, there is no cluster at the address, or its machines do not reach the plan or the model.
    """
    numbers = np.array([*groups], np.int64).reshape(-1, 2)
    if len(numbers) == 0:
        return
    is_over = threading.Event()
    ray = _connected(address)
    watch = threading.Thread(target=_watch, args=[ray.get_runtime_context().gcs_address, is_over], daemon=True)
    watch.start()
    is_done = np.zeros(len(numbers), bool)
    try:
        for batch in _pipeline(ray, plan, worker, numbers).iter_batches(batch_size=None, batch_format="pyarrow"):
            for values in batch.to_pylist():
                if not is_done[values["index"]]:
                    is_done[values["index"]] = True
                    yield Group(*numbers[values["index"]].tolist()), json.loads(values["rows"])
        alone = ray.remote(num_cpus=1, max_retries=1)(_alone)
        for shard, number in numbers[~is_done].tolist():
            log.warning("workers died while they heard some recordings: these are heard one by one")
            items = plan.items(Group(shard, number))
            yield Group(shard, number), [_last_try(ray, alone, worker, item) for item in items]
    except ray.exceptions.RayError as error:
        raise _one_line(error) from error
    finally:
        is_over.set()
        ray.shutdown()


def _connected(address: str) -> Any:
    """Connect to a cluster, and return the package ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it would print what it mends itself
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise AsrError(f"--ray needs the package ray[data]: {EXTRA}, or use this machine by --jobs") from error
    try:
        if re.fullmatch(r"[^/]+:\d+", address):
            _knock(address)  # Ray itself would try for minutes
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        mend = "start one with `ray start --head`, or give --ray local"
        raise AsrError(f"no Ray cluster at {address} ({str(error).splitlines()[0]}): {mend}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = BLOCK
    context.max_errored_blocks = -1  # what is lost is heard one by one
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at an address."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=CHECKED).close()


def _watch(address: str, is_over: threading.Event) -> None:
    """End the command when the head of its cluster has been gone for a while: Ray would let it wait for ever."""
    seen = time.monotonic()
    while time.monotonic() - seen < GONE:
        if is_over.wait(CHECKED):
            return
        with suppress(OSError):
            _knock(address)
            seen = time.monotonic()
    print(f"asr: the Ray cluster at {address} is gone: start it, and give the same command", file=sys.stderr)
    os._exit(2)  # what is written is whole


def _pipeline(ray: Any, plan: Plan, worker: Worker, numbers: np.ndarray) -> Any:
    """Return the dataset of the rows of groups (N, 2)."""
    import pyarrow

    columns = {"index": np.arange(len(numbers)), "shard": numbers[:, 0], "number": numbers[:, 1]}
    table, step = pyarrow.table(columns), -(-len(numbers) // BLOCKS)
    num_processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=num_processors, initial_size=num_processors)
    hearing = {"fn_constructor_args": (plan.folder, worker), "compute": pool, "num_cpus": HEAR}
    dataset = ray.data.from_arrow([table.slice(first, step) for first in range(0, len(numbers), step)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # up to Ray 2.63 this is the way to limit retries, and it says that it will go
        decoded = dataset.map(partial(_decode, plan.folder), num_cpus=DECODE, max_retries=RETRIES)
        return decoded.map(Hearer, **hearing, max_task_retries=RETRIES)


def _decode(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Add to a group its sounds as bytes, and the rows of recordings that have none; null for those that are long."""
    sounds = [sound_of(item) for item in Plan.open(folder).items(Group(row["shard"], row["number"]))]
    return row | {
        "sounds": [sound.tobytes() if isinstance(sound, np.ndarray) else b"" for sound in sounds],
        "others": json.dumps([None if isinstance(sound, np.ndarray) else sound for sound in sounds]),
    }


class Hearer:
    """An actor that has loaded the recogniser."""

    def __init__(self, folder: Path, worker: Worker):
        keep_to_one_thread()
        self._plan, self._worker = Plan.open(folder), worker
        _ = worker.recogniser

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the rows of a group in place of its sounds."""
        items = self._plan.items(Group(row["shard"], row["number"]))
        sounds = [
            np.frombuffer(sound, np.float32) if len(sound) else other
            for sound, other in zip(row["sounds"], json.loads(row["others"]), strict=True)
        ]
        return {"index": row["index"], "rows": json.dumps(self._worker.rows(items, sounds))}


def _alone(worker: Worker, item: Item) -> Row:
    keep_to_one_thread()
    return worker([item])[0]


def _last_try(ray: Any, alone: Any, worker: Worker, item: Item) -> Row:
    """Return the row of a recording, heard by a worker of its own."""
    try:
        return ray.get(alone.remote(worker, item))
    except ray.exceptions.RayTaskError:  # no fault of the recording
        raise
    except ray.exceptions.RayError:
        return fault(item, DIED)


def _one_line(error: Exception) -> AsrError:
    """Return what is wrong with the machines of a cluster."""
    cause = getattr(error, "cause", None) or error
    reason = next((line for line in reversed(str(cause).splitlines()) if line.strip()), type(cause).__name__)
    return AsrError(f"a machine of the cluster failed: {reason.strip()}")
