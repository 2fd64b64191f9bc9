"""The threads of a process: kernels release Python's lock, so utterances of a batch are worked on side by side.

The threads are Python's own. A kernel that Numba makes parallel takes twice as long to compile, ends the process when
two threads call it at once on Numba's own scheduler, and cannot be called after a fork on OpenMP's.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, wait
from functools import lru_cache, partial
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import numba
import numpy as np

from asr.core import compilation
from asr.core.terminal import log_warnings

Item = TypeVar("Item")
Result = TypeVar("Result")

compilation.announce()


class _Local(threading.local):
    """What a thread keeps: its workspace, and whether it belongs to the pool."""

    workspace = np.empty(0)
    is_worker = False


_num_threads = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
_local = _Local()


def get_num_threads() -> int:
    """Return how many threads share a batch: `NUMBA_NUM_THREADS`, or the processors that this process may use."""
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Choose how many threads share a batch. No result depends on it.

    Raises
    ------
    ValueError
        Less than one.
    """
    global _num_threads
    if num_threads < 1:
        raise ValueError(f"at least one thread is needed, not {num_threads}")
    _num_threads = num_threads


def processes(count: int, prepare: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Return a pool of processes, each of which works in one thread and calls `prepare` first.

    They end with this process. Ctrl-C, which a terminal sends to all, ends them at once, without a word.
    """
    is_main = threading.current_thread() is threading.main_thread()  # the only one that may set handlers
    handler = signal.getsignal(signal.SIGINT)
    settings = (logging.getLogger("asr").level, handler == signal.SIG_IGN, prepare, arguments)
    pool = ProcessPoolExecutor(count, get_context("spawn"), _start, settings)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # for NumPy's BLAS, which reads it once; processes take over what is set here
    if is_main:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # so that they are quiet while they start
    try:
        for _ in range(count):
            pool.submit(int)  # starts a process
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    return pool


def _start(level: int, is_deaf: bool, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    keep_to_one_thread()
    end_with_parent()
    log_warnings(level)
    prepare(*arguments)
    if not is_deaf:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def keep_to_one_thread() -> None:
    """Let a process that is one of several work in one thread; called before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"
    set_num_threads(1)


def end_with_parent() -> None:
    """End this process of `multiprocessing` when the one that started it has ended, however that ended."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def shares(batch: int) -> list[np.ndarray]:
    """Return the utterances 0 … batch − 1 of each thread, which takes every n-th.

    >>> [share.tolist() for share in shares(1)]
    [[0]]
    """
    return [np.arange(first, batch, _num_threads) for first in range(min(batch, _num_threads))]


def run(kernel: Callable[..., Any], batch: int, workspace: int, *args: Any) -> None:
    """Call kernel(utterances, *args, workspace) in each thread with its share of the utterances 0 … batch − 1.

    The workspace is a float64 array of that size, neither cleared nor larger, so that bounds checks see its end. A
    thread keeps its memory from call to call, since memory fresh from the system costs more time than the work that is
    done in it.
    """
    side_by_side([partial(_call, kernel, share, workspace, args) for share in shares(batch)])


def side_by_side(calls: Sequence[Callable[[], Any]]) -> None:
    """Make calls at the same time, the first of them in this thread, and return when all are done.

    An exception that one of them raises is raised here. A call may itself use the functions of this module: its work is
    then done in its own thread, since threads that waited for each other might wait for ever.
    """
    if _local.is_worker:
        for call in calls:
            call()
        return
    others = [_pool(os.getpid(), _num_threads).submit(call) for call in calls[1:]]
    try:
        for call in calls[:1]:
            call()
    finally:
        wait(others)
    for other in others:
        other.result()


def in_background(call: Callable[[], Result]) -> Callable[[], Result]:
    """Make a call in a thread of its own; the function that is returned waits for its result.

    >>> in_background(lambda: 3)()
    3
    """
    thread = ThreadPoolExecutor(1, "asr")
    found = thread.submit(call)
    thread.shutdown(wait=False)
    return found.result


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield function(item) for each item in order; as many items at a time as there are threads."""
    if _local.is_worker:
        return map(function, items)
    return _pool(os.getpid(), _num_threads).map(function, items)


def _call(kernel: Callable[..., Any], share: np.ndarray, workspace: int, args: tuple[Any, ...]) -> None:
    if len(_local.workspace) < workspace:
        _local.workspace = np.empty(workspace)
    kernel(share, *args, _local.workspace[:workspace])


@lru_cache(1)
def _pool(process: int, num_threads: int) -> ThreadPoolExecutor:
    """Return this process's threads; a forked child has none of its parent's."""
    return ThreadPoolExecutor(num_threads, "asr", initializer=lambda: setattr(_local, "is_worker", True))
