"""The recordings that a command line names: files, folders, patterns, pipes, and the texts beside them."""

import functools
import glob
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile

from asr.core.errors import AsrError, CorpusError

STDIN = Path("-")
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aiff", ".aif", ".au")
TEXT_SUFFIXES = (".txt", ".lab")


def find(name: str | Path) -> list[Path]:
    """Return the recordings that a name on the command line means.

    Parameters
    ----------
    name
        A file; a folder, which is searched to any depth for files of `SUFFIXES`; a pattern such as ``talks/*.wav`` that
        the shell has not expanded; or ``-`` for standard input.

    Raises
    ------
    AsrError
        The path does not exist, nothing fits the pattern, or the folder has no recording.
    """
    path = Path(name)
    if path == STDIN or path.exists() or path.is_symlink():
        return _within([path])
    fitting = sorted(glob.glob(str(path), recursive=True))
    if not fitting:
        raise AsrError(f"{path}: no such file or folder: check the path")
    return _within(map(Path, fitting))


def _within(paths: Iterable[Path]) -> list[Path]:
    """Return the files among paths, and the recordings in the folders among them."""
    paths, found = list(paths), list[Path]()
    for path in paths:
        folder = path.is_dir()
        within = path.rglob("*") if folder else ()
        files = sorted(file for file in within if file.suffix.lower() in SUFFIXES and file.is_file())
        found += files if folder else [path]
    if not found:
        raise AsrError(f"{paths[0]}: no audio files in this folder: give one with {', '.join(SUFFIXES)}")
    return found


def stem(path: Path) -> str:
    """Return a recording's name without folder and suffix."""
    return "stdin" if path == STDIN else path.stem


def check_stems(paths: Iterable[Path]) -> None:
    """Raise AsrError if two recordings have the same name without folder and suffix."""
    stems: dict[str, Path] = {}
    for path in paths:
        if stems.setdefault(path.stem, path) is not path:
            raise AsrError(f"{path} and {stems[path.stem]} would both be called {path.stem}: give them apart")


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the path of a file to read a recording from: its own, or for a pipe that of a temporary copy.

    Most audio formats are read with seeks, which a pipe does not allow. Errors name the pipe and not the copy.
    """
    if path != STDIN and not path.is_fifo():
        yield path
        return
    with nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as source, NamedTemporaryFile() as file:
        shutil.copyfileobj(source, file)
        file.flush()
        try:
            yield Path(file.name)
        except AsrError as error:
            name = "standard input" if path == STDIN else str(path)
            raise type(error)(str(error).replace(file.name, name)) from error


def text_beside(path: Path) -> str:
    """Read the text of a recording.

    The text of ``a.wav`` is ``a.txt`` or ``a.lab`` beside it, or its line in a LibriSpeech ``*.trans.txt`` of its
    folder.

    Raises
    ------
    CorpusError
        There is no such text, or it is not UTF-8.
    """
    for suffix in TEXT_SUFFIXES:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return _read(beside).strip()
    lines = _librispeech(path.parent)
    if path.stem not in lines:
        raise CorpusError(f"{path}: no text beside it: write what is said to {path.with_suffix('.txt').name}")
    return lines[path.stem]


@functools.cache
def _librispeech(folder: Path) -> dict[str, str]:
    """Read a folder's ``*.trans.txt``: the text of each recording by its name."""
    files = sorted(folder.glob("*.trans.txt"))
    rows = [line.split(maxsplit=1) for file in files for line in _read(file).splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text: convert it") from error
