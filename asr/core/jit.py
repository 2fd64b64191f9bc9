"""The decorators of compiled code: `njit` for kernels, which Python calls, and `helper` for functions that they call.

With ``cache=True`` Numba keeps a compiled kernel beside its source, in the user's cache folder, or in the folder that
``NUMBA_CACHE_DIR`` names, and ends in an error where none of them can be written: in a container that runs as a user
without a home, say. Here such a kernel is kept in a folder below the temporary one that this user alone may enter (what
is kept there is run), or nowhere, and one warning says so.

Numba numbers the files of a kernel, one for each set of argument types, in an index that it reads, extends and writes
back. Two processes that compile the kernel for different types at the same time would give both files one number, and
later runs would call machine code that was made for other types. Here processes take turns.

Numba compiles a kept kernel again when its own file has been edited. Here it also does when a file has been edited
whose kernels or functions are imported there, so that kernels may call those of other files.
"""

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from inspect import unwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba.core.dispatcher import Dispatcher
from numba.extending import register_jitable

from asr.core.turns import turn

log = logging.getLogger(__name__)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function as `numba.njit` does with the same options, for Python and kernels.

    Nobody calls kernels from C, so the wrapper for such calls is not compiled: a tenth of the time.

    Examples
    --------
    >>> @njit(cache=True)
    ... def twice(x):
    ...     return 2 * x
    >>> twice(4)
    8
    """
    options = {"no_cfunc_wrapper": True} | options

    def decorate(function: Callable[..., Any]) -> Any:
        if not options.get("cache"):
            return numba.njit(**options)(function)
        if not _has_home():
            _move_cache()
        try:
            kernel = numba.njit(**options)(function)
        except RuntimeError:  # no folder can be written
            _move_cache()
            try:
                kernel = numba.njit(**options)(function)
            except RuntimeError:
                return numba.njit(**options | {"cache": False})(function)
        return _forgiving(_dated(kernel, function))

    return decorate


def helper(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator for a function that kernels of the same file call; called by Python it runs uncompiled.

    It takes the options of `numba.njit`. The function is compiled with a kernel that calls it, and kept in that
    kernel's file alone; neither a file of its own nor a conversion of Python's arguments is made, which would take a
    quarter of the time. It must neither make nor return an array, as references to arrays are not counted in it:
    counting those of a tuple of arrays would cost a beam search up to a third of its time.

    Examples
    --------
    >>> @helper()
    ... def _twice(x):
    ...     return 2 * x
    >>> @njit()
    ... def four_times(x):
    ...     return _twice(_twice(x))
    >>> four_times(4), _twice(4)
    (16, 8)
    """
    return register_jitable(**{"no_cfunc_wrapper": True, "_nrt": False} | options)


def _has_home() -> bool:
    """Tell whether the user has a home or names a folder: without one Numba makes a folder named ``~`` where it is."""
    named = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return bool(named) or os.path.isabs(os.path.expanduser("~"))


@cache
def _move_cache() -> None:
    """Let kernels, also those of processes that this one starts, be kept below the temporary folder if they can be."""
    folder = _private_folder()
    if folder is None:
        log.warning("kernels are compiled in each process anew: set NUMBA_CACHE_DIR to a folder that can be written")
        return
    log.warning("no home for compiled kernels: they are kept in %s; NUMBA_CACHE_DIR names another folder", folder)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    numba.config.reload_config()  # type: ignore[attr-defined]


def has_moved() -> bool:
    """Tell whether kernels are not kept where Numba would keep them, of which a warning has told."""
    return _move_cache.cache_info().currsize > 0


def _private_folder() -> Path | None:
    """Make a folder below the temporary one that this user owns and nobody else may enter; None where that fails."""
    if not hasattr(os, "getuid"):
        return None
    try:
        folder = Path(tempfile.gettempdir(), f"asr-kernels-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if is_private and os.access(folder, os.W_OK) else None


def _dated(kernel: Any, function: Callable[..., Any]) -> Any:
    """Add to a kernel's date, which its compiled form must have, those of files whose functions its file imports."""
    file = _file(kernel)
    if file is not None:
        dates = {repr(_date(each, function)) for each in function.__globals__.values()} - {"None"}
        file._source_stamp = (file._source_stamp, *sorted(dates)) if dates else file._source_stamp
    return kernel


def _date(imported: Any, function: Callable[..., Any]) -> Any:
    """Return the date of a kernel or function of another file than a given function's; None for all else."""
    if isinstance(imported, Dispatcher):
        kept = _file(imported)
        return None if kept is None or imported.py_func.__module__ == function.__module__ else kept._source_stamp
    inner = unwrap(imported) if callable(imported) else imported  # an intrinsic's function
    if not isinstance(inner, FunctionType) or inner.__module__ == function.__module__:
        return None
    path = Path(inner.__code__.co_filename)
    return (path.stat().st_mtime, path.stat().st_size) if path.is_file() else None


def _file(kernel: Any) -> Any:
    """Return the file that keeps a kernel's compiled forms; None where they are not kept."""
    return getattr(getattr(kernel, "_cache", None), "_cache_file", None)


def _forgiving(kernel: Any) -> Any:
    """Make a kernel share its compiled forms with other processes, and go on where they cannot be read or written."""
    kept = getattr(kernel, "_cache", None)  # None under NUMBA_DISABLE_JIT
    for name in () if kept is None else ("load_overload", "save_overload"):
        setattr(kept, name, _in_turn_or_without(kept, getattr(kept, name)))
    return kernel


def _in_turn_or_without(kept: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a cache that processes run in turn, and that switches the cache off where the disk fails."""

    @wraps(method)
    def run(*arguments: Any) -> Any:
        try:
            with turn(Path(kept._cache_file._index_path)):
                return method(*arguments)
        except OSError as error:
            kept.disable()
            _warn_of(error.strerror or "the disk fails")

    return run


@cache
def _warn_of(fault: str) -> None:
    log.warning("compiled kernels cannot be kept (%s): NUMBA_CACHE_DIR names another folder for them", fault)
