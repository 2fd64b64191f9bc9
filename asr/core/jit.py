"""The decorator of every kernel: Numba's `njit`, which goes on where compiled kernels cannot be kept on disk.

With ``cache=True`` Numba keeps a compiled kernel beside its source, in the user's cache folder, or in the folder that
``NUMBA_CACHE_DIR`` names, and ends in an error where none of them can be written: in a container that runs as a user
without a home, say. Here such a kernel is kept in a folder below the temporary one that this user alone may enter (what
is kept there is run), or nowhere, and one warning says so.

Numba compiles a kept kernel again when its own file has been edited. Here it also does when a file has been edited
whose kernels are imported there, so that kernels may call those of other files.
"""

import logging
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numba
from numba.core.dispatcher import Dispatcher

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
    """Add to a kernel's date, which its compiled form must have, those of the kernels that its file imports."""
    file = _file(kernel)
    if file is not None:
        imported = (each for each in function.__globals__.values() if isinstance(each, Dispatcher))
        others = (_file(each) for each in imported if each.py_func.__module__ != function.__module__)
        dates = {repr(each._source_stamp) for each in others if each is not None}
        file._source_stamp = (file._source_stamp, *sorted(dates)) if dates else file._source_stamp
    return kernel


def _file(kernel: Any) -> Any:
    """Return the file that keeps a kernel's compiled forms; None where they are not kept."""
    return getattr(getattr(kernel, "_cache", None), "_cache_file", None)


def _forgiving(kernel: Any) -> Any:
    """Make a kernel go on where its compiled form cannot be read or written, such as on a full disk."""
    kept = getattr(kernel, "_cache", None)  # None under NUMBA_DISABLE_JIT
    for name in () if kept is None else ("load_overload", "save_overload"):
        setattr(kept, name, _or_without(kept, getattr(kept, name)))
    return kernel


def _or_without(kept: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a cache that switches the cache off where the disk fails."""

    @wraps(method)
    def run(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except OSError as error:
            kept.disable()
            _warn_of(error.strerror or "the disk fails")

    return run


@cache
def _warn_of(fault: str) -> None:
    log.warning("compiled kernels cannot be kept (%s): NUMBA_CACHE_DIR names another folder for them", fault)
