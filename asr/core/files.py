"""Files that are written whole or not at all, and tensors as safetensors; nothing here is ever unpickled."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from asr.core.errors import ModelError, OutputError

MAPPED_TYPES = {"I8": np.int8, "U32": np.uint32, "F32": np.float32}


def digest(parts: Iterable[bytes]) -> str:
    """Return a hash of texts and files, told apart by their lengths.

    >>> digest([b"ab", b"c"]) == digest([b"a", b"bc"])
    False
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()[:32]


def hash_of(path: Path) -> bytes:
    """Return a hash of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def is_elsewhere(folder: str, roots: list[str]) -> bool:
    """Tell whether a linked folder lies in none of some folders; then it becomes one of them.

    Parameters
    ----------
    folder
        A link to a folder.
    roots
        Real paths. A folder that the first one lies in is not elsewhere.
    """
    target = os.path.realpath(folder)
    is_within = any(os.path.commonpath([target, root]) == root for root in roots)
    if is_within or os.path.commonpath([target, roots[0]]) == target:
        return False
    roots.append(target)
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it is renamed to `path` when the block ends, and deleted if the block fails.

    The temporary path is in the same folder, has the same suffix, and belongs to this call alone. So two processes may
    write the same file: the last one wins, and the file is always whole. It has the permissions of any new file.

    Raises
    ------
    OutputError
        The disk is full, or the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> path.read_text(), [each.name for each in path.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    temporary = path.with_name(f".{secrets.token_hex(4)}-{path.name[-40:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)  # safetensors and mkstemp leave files that their owner alone can read
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with suppress(NotADirectoryError):  # a file is in the place of the folder, as the error before says
            temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}: free some space, or name another folder")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder to fill; it takes the place of `path` when the block ends.

    What `path` held before is deleted, and if the block fails, the temporary folder is. A folder that is new appears
    whole; between an old one and a new one there is none for some microseconds.

    Raises
    ------
    OutputError
        The disk is full, or the folder beside it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model"
    >>> for name in ("old", "new"):
    ...     with replacing_folder(path) as temporary:
    ...         _ = (temporary / name).write_text("whole")
    >>> [each.name for each in path.parent.rglob("*")]
    ['model', 'new']
    """
    temporary, old = (path.with_name(f".{secrets.token_hex(4)}-{path.name[-40:]}") for _ in range(2))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        for each in (temporary, old):
            shutil.rmtree(each, ignore_errors=True)


@contextmanager
def as_os_error(kind: type[Exception]) -> Iterator[None]:
    """Raise OSError in place of the exception that a library raises when it cannot write a file."""
    try:
        yield
    except kind as error:
        raise OSError(str(error)) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf8", errors="surrogateescape")  # names of files need not be UTF-8


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `as_json`, as `replacing` does."""
    write_text(path, as_json(values))


def as_json(values: dict[str, Any]) -> str:
    """Return indented JSON."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], notes: dict[str, str] | None = None) -> None:
    """Write tensors and texts as safetensors, as `replacing` does."""
    with replacing(path) as temporary, as_os_error(SafetensorError):
        save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, temporary, notes)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors and texts of a file that `write_tensors` wrote.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}): copy or make it again") from error


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file that `write_tensors` wrote, mapped into memory: only what is used is read.

    Processes share the memory. An array may be written to; that changes neither the file nor another process's array.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    try:
        with safe_open(path, "np"):  # checks that the header and the file's size fit each other
            data = np.memmap(path, np.uint8, "c").view(np.ndarray)
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        return {
            name: data[slice(*(start + each for each in about["data_offsets"]))]
            .view(MAPPED_TYPES[about["dtype"]])
            .reshape(about["shape"])
            for name, about in header.items()
        }
    except (SafetensorError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy or make it again") from error
