"""Utterances of a batch side by side: the kernels release Python's lock, and each thread takes every n-th utterance.

Threads of Python's own, since a kernel that Numba makes parallel takes twice as long to compile, ends the process when
two threads call it at once on Numba's own scheduler, and cannot be called after a fork on OpenMP's.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from asr.core import compilation

compilation.announce()
_num_threads = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
_local = threading.local()


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


def run(kernel: Callable[..., Any], batch: int, workspace: int, *args: Any) -> None:
    """Call kernel(utterances, *args, workspace) in each thread with its share of the utterances 0 … batch − 1.

    The workspace is a float64 array of at least that size. A thread keeps its own from call to call, since memory fresh
    from the system costs more time than the work that is done in it.
    """
    shares = [np.arange(first, batch, _num_threads) for first in range(min(batch, _num_threads))]
    others = [_pool(os.getpid()).submit(_call, kernel, share, workspace, args) for share in shares[1:]]
    for share in shares[:1]:
        _call(kernel, share, workspace, args)
    for other in others:
        other.result()


def _call(kernel: Callable[..., Any], share: np.ndarray, workspace: int, args: tuple[Any, ...]) -> None:
    if len(getattr(_local, "workspace", ())) < workspace:
        _local.workspace = np.empty(workspace)
    kernel(share, *args, _local.workspace)


@lru_cache(1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return this process's threads; a forked child has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="asr.ctc")
