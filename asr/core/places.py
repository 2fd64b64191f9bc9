"""Paths and URLs: the same few functions for both. URLs are read by fsspec, which the extra `scale` installs."""

import functools
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from asr.core.errors import AsrError, AudioError

CHANGED = ("ETag", "etag", "mtime", "LastModified", "created")  # what file systems call the time or mark of a change
BLOCK = 1 << 20  # bytes that are copied at a time
EXTRA = 'in a checkout, pip install -e ".[scale]"'


class Found(NamedTuple):
    """A file in a folder: its path or URL, and what tells it from itself before a change."""

    path: str
    size: int
    changed: str


def is_url(place: str) -> bool:
    """Tell a URL from a path.

    >>> is_url("s3://bucket/a.wav"), is_url("talks/a.wav")
    (True, False)
    """
    return "://" in place


def beside(file: str, name: str) -> str:
    """Return the place that a file names: a URL or an absolute path, or one from the file's folder on.

    >>> beside("s3://bucket/list.jsonl", "a.wav"), beside("lists/all.jsonl", "/talks/a.wav")
    ('s3://bucket/a.wav', '/talks/a.wav')
    """
    if is_url(name) or os.path.isabs(name):
        return name
    folder = file.rpartition("/")[0] if is_url(file) else os.path.dirname(file)
    return f"{folder}/{name}" if folder else name


@functools.lru_cache(64)
def filesystem(scheme: str) -> Any:
    """Return the file system of a scheme such as ``s3``.

    Raises
    ------
    AsrError
        fsspec or the package of the scheme is not installed, or there is no such scheme.
    """
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise AsrError(f"URLs need the package fsspec, which is not installed: {EXTRA}") from error
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:  # Install s3fs to access S3
        raise AsrError(f"{scheme}:// cannot be read here: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise AsrError(f"{scheme}:// is no scheme that fsspec knows: use s3, gs, https or a path") from error


def scheme_of(url: str) -> str:
    """Return what is before the colon of a URL."""
    return url.partition("://")[0]


def open_file(place: str) -> IO[bytes]:
    """Open a file to read.

    Raises
    ------
    AsrError
        Nothing is there, or it cannot be read.
    """
    try:
        return filesystem(scheme_of(place)).open(place, "rb") if is_url(place) else Path(place).open("rb")
    except AsrError:
        raise
    except Exception as error:  # fsspec's file systems raise errors of their own kinds
        raise AsrError(f"{place}: {_reason(error)}: {_mend(place, error)}") from _cause(error)


def read(place: str, start: int = 0, size: int = -1) -> bytes:
    """Return the bytes of a file or of a part of it.

    Raises
    ------
    AudioError
        It cannot be read.
    """
    try:
        with open_file(place) as file:
            file.seek(start)
            return file.read(size)
    except AsrError as error:
        raise AudioError(str(error)) from error.__cause__
    except Exception as error:
        raise AudioError(f"{place}: {_reason(error)}: check the network, and run it again") from error


def copy(place: str, file: IO[bytes]) -> None:
    """Copy a file into an open one.

    Raises
    ------
    AsrError
        It cannot be read or written.
    """
    try:
        with open_file(place) as source:
            shutil.copyfileobj(source, file, BLOCK)
        file.flush()
    except AsrError:
        raise
    except Exception as error:  # fsspec's file systems raise errors of their own kinds
        raise AsrError(f"{place}: {_reason(error)}: check the network and the disk, and run it again") from error


def _cause(error: BaseException) -> BaseException:
    """Return why a file is missing: fsspec raises FileNotFoundError also where a server does not answer."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _mend(place: str, error: Exception) -> str:
    is_elsewhere = is_url(place) and not isinstance(_cause(error), FileNotFoundError | PermissionError)
    return f"check {'the network, ' if is_elsewhere else ''}the path and the permissions"


def _reason(raised: Exception) -> str:
    error = _cause(raised)
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder.

    Raises
    ------
    AsrError
        Nothing is there.
    """
    try:
        if is_url(place):
            return filesystem(scheme_of(place)).info(place)["type"] == "directory"
        return stat.S_ISDIR(os.stat(place).st_mode)
    except AsrError:
        raise
    except Exception as error:
        raise AsrError(f"{place}: {_reason(error)}: check the path and the permissions") from error


def join(folder: str, name: str) -> str:
    """Return the place of a file or folder in a folder.

    >>> join("s3://bucket/mine/", "train"), join("mine", "train")
    ('s3://bucket/mine/train', 'mine/train')
    """
    return f"{folder.rstrip('/')}/{name}"


def names(folder: str) -> list[str]:
    """Return the names in a folder."""
    if is_url(folder):
        return [each.rpartition("/")[2] for each in filesystem(scheme_of(folder)).ls(folder, detail=False)]
    return os.listdir(folder)


def about(place: str) -> Found:
    """Return what is known of a file without reading it."""
    if is_url(place):
        return _found(place, filesystem(scheme_of(place)).info(place))
    status = os.stat(place)
    return Found(place, status.st_size, str(status.st_mtime_ns))


def walk(folder: str) -> Iterator[Found]:
    """Yield the files below a folder, in an order that does not change; the names of one folder are held at a time."""
    if is_url(folder):
        yield from _walk_url(filesystem(scheme_of(folder)), folder)
        return
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            yield about(path)
        elif os.path.isdir(path) and not os.path.islink(path):
            yield from walk(path)


def _walk_url(files: Any, folder: str) -> Iterator[Found]:
    for values in sorted(files.ls(folder, detail=True), key=lambda each: each["name"]):
        url = files.unstrip_protocol(values["name"])
        if values["type"] != "directory":
            yield _found(url, values)
        elif url.rstrip("/") != folder.rstrip("/"):  # S3 may list the folder itself
            yield from _walk_url(files, url)


def _found(url: str, values: Mapping[str, Any]) -> Found:
    return Found(url, values.get("size") or 0, str(next((values[key] for key in CHANGED if values.get(key)), "")))
