"""The recordings that a command line names: files, folders, patterns, pipes, and the texts beside them."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from asr.core.errors import AsrError, CorpusError
from asr.speech.media_files import SOUND_SUFFIXES
from asr.speech.texts_beside import TEXT_SUFFIXES

STDIN = Path("-")


@dataclass(frozen=True)
class Recording:
    """A recording of a command line.

    Attributes
    ----------
    path
        Where it is; `STDIN` for standard input.
    name
        Its place below --output-dir, without the suffix of the format. No other recording of the command has it.
    utterance
        What formats that name utterances call it: the file's name without its suffix, unless another recording has the
        same; then `name`.
    channel
        The channel that is meant, from 0; None for their mean.
    """

    path: Path
    name: str
    utterance: str
    channel: int | None = None

    def channels(self) -> "list[Recording]":
        """Return a recording for each channel that has a text: ``a.0.txt`` is that of the first channel of ``a.wav``.

        Raises
        ------
        CorpusError
            No channel has a text.
        """
        numbers = {
            int(found[1])
            for file in self.path.parent.glob(f"{glob.escape(self.path.stem)}.*")
            if (found := re.fullmatch(rf"{re.escape(self.path.stem)}\.(\d+)", file.stem))
            and file.suffix in TEXT_SUFFIXES
        }
        if not numbers:
            raise CorpusError(
                f"{self.path}: no channel has a text: write what the first says to {self.path.stem}.0.txt"
            )
        return [replace(self, name=f"{self.name}.{number}", channel=number) for number in sorted(numbers)]


def find(name: str | Path) -> dict[Path, Path]:
    """Return the recordings that a name on the command line means, each with the folder that it was searched in.

    Parameters
    ----------
    name
        A file; a folder, which is searched to any depth for files with sound; a pattern such as ``talks/*.wav`` that
        the shell has not expanded; or ``-`` for standard input. The folder of a file is the one that it is in.

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


def _within(paths: Iterable[Path]) -> dict[Path, Path]:
    """Return the files among paths, and the recordings in the folders among them, each with its folder."""
    paths, found = list(paths), dict[Path, Path]()
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SOUND_SUFFIXES and file.is_file())
            found |= dict.fromkeys(files, path)
        else:
            found[path] = path.parent
    if not found:
        raise AsrError(f"{paths[0]}: no audio files in this folder: give one with .wav, .flac, .mp3, .m4a or the like")
    return found


def named(found: Sequence[tuple[Path, Path]]) -> list[Recording]:
    """Give each recording a name of its own.

    Names are paths below the folder in which a recording was found, without suffix. If two recordings would get the
    same one, all names are paths below the folder that all have in common. Those that differ in their suffix alone
    keep it.

    Parameters
    ----------
    found
        Recordings and folders, from `find`.

    Examples
    --------
    >>> [each.name for each in named([(Path("talks/x/a.wav"), Path("talks")), (Path("b.wav"), Path("."))])]
    ['x/a', 'b']
    >>> [each.name for each in named([(Path("x/a.wav"), Path("x")), (Path("y/a.wav"), Path("y"))])]
    ['x/a', 'y/a']
    >>> [each.name for each in named([(Path("a.wav"), Path(".")), (Path("a.mp3"), Path("."))])]
    ['a.wav', 'a.mp3']
    """
    files = {path: Path(os.path.abspath(path)) for path, _ in found}
    names = {path: Path("stdin") if path == STDIN else path.relative_to(folder) for path, folder in found}
    if _clashing(files, {path: name.with_suffix("") for path, name in names.items()}):
        common = os.path.commonpath([file.parent for path, file in files.items() if path != STDIN])
        names |= {path: file.relative_to(common) for path, file in files.items() if path != STDIN}
    bare = {path: name.with_suffix("") for path, name in names.items()}
    bare |= {path: names[path] for path in _clashing(files, bare)}
    if _clashing(files, bare):  # such as of a.wav, a.mp3 and a.wav.mp3
        bare = names
    stems = {path: Path(name.name) for path, name in bare.items()}
    utterances = bare if _clashing(files, stems) else stems
    return [Recording(path, bare[path].as_posix(), utterances[path].as_posix()) for path, _ in found]


def _clashing(files: dict[Path, Path], names: dict[Path, Path]) -> set[Path]:
    """Return the recordings whose name another file has, too."""
    owners: dict[Path, set[Path]] = {}
    for path, name in names.items():
        owners.setdefault(name, set()).add(files[path])
    return {path for path, name in names.items() if len(owners[name]) > 1}


@contextmanager
def opened(path: Path) -> Iterator[Path | BinaryIO]:
    """Give what `asr.speech.audio.load` reads a recording from: the path of a file, or an open pipe."""
    if path == STDIN:
        if sys.stdin is None:
            raise AsrError("standard input is closed: give a file, or pipe a recording into it")
        yield sys.stdin.buffer
    elif path.is_fifo():
        with path.open("rb") as pipe:
            yield pipe
    else:
        yield path


def tiers_beside(path: Path) -> Path | None:
    """Return the TextGrid or the .eaf file beside a recording."""
    found = {file.suffix.lower(): file for file in path.parent.glob(f"{glob.escape(path.stem)}.*")}
    return next((found[suffix] for suffix in (".textgrid", ".eaf") if suffix in found), None)
