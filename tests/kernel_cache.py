"""Numba's files of compiled kernels, read and written by one process at a time.

Numba numbers the files of a kernel, one for each set of argument types, in an index that it reads, extends and writes
back. Two processes that compile the kernel for different types at the same time give both files the same number, and
one of the two later runs machine code that was made for the other's types. Here processes take turns.

Numba imports the classes that the variable NUMBA_CACHE_LOCATOR_CLASSES names before it looks for its first kernel.
tests/conftest.py names `TakeTurns` there, for the processes that run tests and for those that tests start.
"""

import fcntl
import functools
from pathlib import Path

from numba.core.caching import IndexDataCacheFile


def _in_turn(method):
    @functools.wraps(method)
    def locked(self, *arguments):
        with Path(self._cache_path, ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return method(self, *arguments)

    return locked


IndexDataCacheFile.save = _in_turn(IndexDataCacheFile.save)
IndexDataCacheFile.load = _in_turn(IndexDataCacheFile.load)


class TakeTurns:
    """Where no kernel is kept: Numba asks its own classes next."""

    @staticmethod
    def from_function(function, file):
        return None
