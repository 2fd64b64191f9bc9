"""Which recordings a command line means: files, folders, patterns, standard input."""

import glob
from collections.abc import Iterable
from pathlib import Path

from asr.errors import AsrError

STDIN = "-"
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aiff", ".aif", ".au")


def find(names: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that names mean, in their order.

    Parameters
    ----------
    names
        Files; folders, which are searched to any depth for files of `SUFFIXES`; patterns such as ``talks/*.wav``, where
        the shell has left them as they are; ``-`` for standard input.

    Raises
    ------
    AsrError
        A path does not exist, a pattern fits nothing, or a folder has no recording.
    """
    found = []
    for name in names:
        path = Path(name)
        if str(path) == STDIN or path.exists() or path.is_symlink():
            found += _within(path)
            continue
        fitting = sorted(glob.glob(str(path), recursive=True))
        if not fitting:
            raise AsrError(f"{path}: no such file or folder: check the path")
        found += _within(*map(Path, fitting))
    return found


def _within(*paths: Path) -> list[Path]:
    """Return the files among paths, and the recordings of the folders."""
    found = []
    for path in paths:
        folder = path.is_dir()
        within = path.rglob("*") if folder else ()
        files = sorted(file for file in within if file.suffix.lower() in SUFFIXES and file.is_file())
        found += files if folder else [path]
    if not found:
        raise AsrError(f"{paths[0]}: no audio files in this folder: give one with {', '.join(SUFFIXES)}")
    return found


def check_stems(paths: Iterable[Path]) -> None:
    """Raise AsrError if two recordings would have one name without folder and suffix."""
    stems: dict[str, Path] = {}
    for path in paths:
        if stems.setdefault(path.stem, path) is not path:
            raise AsrError(f"{path} and {stems[path.stem]} would both be called {path.stem}: give them apart")
