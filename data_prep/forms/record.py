"""The record that every form of data is read into, and what its readers have in common."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from asr.core.errors import CorpusError
from asr.core.files import is_elsewhere
from asr.speech.ipa import is_phone
from asr.speech.label_spellings import recognise
from asr.speech.segments import Segment

LIKE_PHONES = 0.9  # share of a corpus's labels from which they are phones and not words
_SPLITS = {
    "train": ("train", "training", "trn"),
    "dev": ("dev", "devel", "development", "valid", "validation", "val"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what Python reads for such bytes
_SPLIT_OF = {name: split for split, names in _SPLITS.items() for name in names}


@dataclass(frozen=True)
class Record:
    """An utterance as the files of a corpus describe it. What they do not say is empty or None.

    Attributes
    ----------
    place
        The file, and where there is one the line, that describes it; for messages.
    audio
        The recording: a file, or the bytes of one.
    text
        What is said, in words.
    phones
        What is said, in phones with spaces between them, in any spelling that `asr.speech.label_spellings` knows.
    speaker, gender
        As the corpus has them.
    split
        ``train``, ``dev`` or ``test``.
    start, end
        The utterance's place in the recording, in seconds; an `end` of None is the recording's.
    channel
        Of the recording, counted from 0; None takes the mean of all.
    id
        The utterance's name.
    duration
        Length of the recording in seconds, as the corpus states it.
    times
        The phones with their times, in seconds from the start of the recording.
    """

    place: str
    audio: Path | bytes
    text: str = ""
    phones: str = ""
    speaker: str = ""
    gender: str = ""
    split: str = ""
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    id: str = ""
    duration: float | None = None
    times: tuple[Segment, ...] = ()


def split_of(name: str, place: str) -> str:
    """Return the split that a name stands for.

    Raises
    ------
    CorpusError
        It stands for none.

    Examples
    --------
    >>> split_of("validation", "a.tsv, line 2")
    'dev'
    """
    if name.lower() not in _SPLIT_OF:
        raise CorpusError(f"{place} has the split {name!r}: write train, dev or test")
    return _SPLIT_OF[name.lower()]


def split_in(name: str) -> str:
    """Return the split whose name is a part of the name of a file or folder, or nothing.

    >>> split_in("librispeech_cuts_train-clean-100.jsonl.gz"), split_in("contest")
    ('train', '')
    """
    return next((_SPLIT_OF[part] for part in re.split(r"[\W_]+", name.lower()) if part in _SPLIT_OF), "")


def folder_split(audio: Path, root: Path) -> str:
    """Return the split whose name a folder has that a recording of a corpus lies in, or nothing.

    >>> folder_split(Path("mine/train/anna/1.wav"), Path("mine")), folder_split(Path("mine/1.wav"), Path("mine"))
    ('train', '')
    """
    return next((_SPLIT_OF[name.lower()] for name in folders_of(audio, root) if is_split(name)), "")


def is_split(name: str) -> bool:
    """Tell whether a folder is called like a split."""
    return name.lower() in _SPLIT_OF


def folders_of(audio: Path, root: Path) -> list[str]:
    """Return the names of the folders from a corpus's own down to a recording.

    >>> folders_of(Path("mine/train/anna/1.wav"), Path("mine")), folders_of(Path("mine/1.wav"), Path("mine"))
    (['train', 'anna'], [])
    """
    return [name for name in Path(os.path.relpath(audio.parent, root)).parts if name != ".."]


def text_of(path: Path) -> str:
    """Read a text file.

    Raises
    ------
    CorpusError
        The file is missing or not UTF-8; the message names the line.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise CorpusError(f"{path}, line {number} is not UTF-8: save the file as UTF-8") from error


def _unreadable(path: Path, error: OSError) -> CorpusError:
    return CorpusError(f"cannot read {path}: {error.strerror}: check the path and its permissions")


def raw_lines_of(path: Path) -> Iterator[str]:
    """Yield each line of a file with its end, as it is read; raises as `text_of`."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for number, line in enumerate(file, 1):
                if not line.isascii() and _NOT_UTF8.search(line):
                    raise CorpusError(f"{path}, line {number} is not UTF-8: save the file as UTF-8")
                yield line
    except OSError as error:
        raise _unreadable(path, error) from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, counted from 1, and the text of each line of a file that is not blank; raises as `text_of`."""
    yield from ((number, line.rstrip("\r\n")) for number, line in enumerate(raw_lines_of(path), 1) if line.strip())


def files_in(folder: Path, suffixes: Collection[str], roots: list[str] | None = None) -> Iterator[Path]:
    """Yield the files in a folder that have some suffixes, at any depth, sorted, but for hidden ones.

    Folders elsewhere that are linked count, too; `roots` has the folder and those that are linked in it.
    """
    roots = [os.path.realpath(folder)] if roots is None else roots
    entries = list[tuple[str, bool]]()
    with suppress(PermissionError), os.scandir(folder) as found:
        entries = sorted(
            (entry.name, entry.is_dir())
            for entry in found
            if not (entry.is_symlink() and entry.is_dir()) or is_elsewhere(entry.path, roots)
        )
    for name, is_folder in entries:
        path = folder / name
        if is_folder:
            yield from files_in(path, suffixes, roots)
        elif path.suffix.lower() in suffixes and not name.startswith(".") and path.is_file():
            yield path


def are_phones(texts: Iterable[str]) -> bool:
    """Tell whether the texts of a corpus are phones and not words.

    They are if most labels are phones of a phone set of the library, or have one or two letters of IPA each and are not
    all written in plain Latin letters.

    >>> are_phones(["HH AH0 L OW1", "W ER1 L D"]), are_phones(["hello world"]), are_phones(["ʃ øː n", "p͡f oː s t ə n"])
    (True, False, True)
    """
    counts = Counter(label for text in texts for label in text.split())
    found = recognise([counts.elements()])
    if found is not None and found.share >= LIKE_PHONES:
        return True
    like = sum(count for label, count in counts.items() if is_phone(label))
    return like >= LIKE_PHONES * counts.total() > 0 and not all(map(str.isascii, counts))


def seconds(text: str, name: str, place: str) -> float | None:
    """Return a time, or None for an empty text.

    Raises
    ------
    CorpusError
        The text is not a number of seconds.

    Examples
    --------
    >>> seconds("1.5", "start", "a.tsv, line 2"), seconds("", "end", "a.tsv, line 2")
    (1.5, None)
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise CorpusError(f"{place} has the {name} {text!r}: write seconds, such as 12.5")
    return value


def span(start: float | None, end: float | None, place: str) -> tuple[float, float | None]:
    """Return start and end of an utterance.

    Raises
    ------
    CorpusError
        The end is not after the start.
    """
    begin = start or 0.0
    if end is not None and end <= begin:
        raise CorpusError(f"{place} ends at {end:g} s, which is not after its start at {begin:g} s: mend the times")
    return begin, end
