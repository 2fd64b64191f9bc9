"""Which recordings a command line means: files, folders, patterns, standard input."""

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr.core.errors import AsrError, CorpusError

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


def collect(recordings: Iterable[str | Path], text: str | None = None) -> tuple[dict[Path, str], list[str]]:
    """Pair recordings with their texts.

    The text of ``a.wav`` is ``a.txt`` or ``a.lab`` beside it, or a line of a LibriSpeech ``*.trans.txt`` in its folder.

    Parameters
    ----------
    recordings
        Audio files, and folders, which are searched to any depth.
    text
        Of the recording, where there is one only.

    Returns
    -------
    texts : dict
        Each recording's, in the order of `recordings`, folders in the order of names.
    faults : list of str
        A line for each recording without a text; in folders, too.

    Raises
    ------
    AsrError
        A text for several recordings, no audio in a folder, or a path that does not exist.
    """
    paths = find(recordings)
    if text is not None:
        if len(paths) != 1:
            raise AsrError(f"one text for {len(paths)} recordings: put each one's text in a .txt file beside it")
        return {paths[0]: text}, []
    texts, faults = {}, []
    lines: dict[Path, Mapping[str, str]] = {}
    for path in paths:
        try:
            said = _text_beside(path, lines)
        except CorpusError as error:
            faults.append(str(error))
        else:
            texts[path] = said
    return texts, faults


def _text_beside(path: Path, lines: dict[Path, Mapping[str, str]]) -> str:
    """Read a recording's text; `lines` keeps the LibriSpeech transcripts of each folder."""
    for suffix in TEXT_SUFFIXES:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            return _read(beside).strip()
    folder = path.parent
    if folder not in lines:
        rows = [
            line.split(maxsplit=1) for file in sorted(folder.glob("*.trans.txt")) for line in _read(file).splitlines()
        ]
        lines[folder] = {row[0]: row[1] for row in rows if len(row) == 2}
    if path.stem not in lines[folder]:
        raise CorpusError(f"{path}: no text beside it: write what is said to {path.with_suffix('.txt').name}")
    return lines[folder][path.stem]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text: convert it") from error


TEXT_SUFFIXES = (".txt", ".lab")
