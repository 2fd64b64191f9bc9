"""Texts of recordings, in files beside them."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

from asr.core.errors import CorpusError

TEXT_SUFFIXES = (".txt", ".lab")
MILLISECOND = 10_000  # in HTK's units of time
_NUMBER = r"[-+]?\d+(?:\.\d*)?"
_TIMES = re.compile(rf"({_NUMBER})\s+({_NUMBER})\s+\S+(?:\s+{_NUMBER}(?:\s+\S+)*)?\s*$")  # HTK's, and other tools'


def find(path: Path, channel: int | None = None) -> str | None:
    """Return the text of a recording, or of a channel; None where there is none.

    The text of ``a.wav`` is ``a.txt`` or ``a.lab`` beside it, unless that has times (`has_times`), or its line in a
    LibriSpeech ``*.trans.txt`` of its folder. For a channel, ``a.0.txt`` or ``a.0.lab``, and so on, come first.

    Raises
    ------
    CorpusError
        The text is not UTF-8.
    """
    own = [] if channel is None else [f".{channel}{suffix}" for suffix in TEXT_SUFFIXES]
    for suffix in (*own, *TEXT_SUFFIXES):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            text = _read(beside).strip()
            if not suffix.endswith(".lab") or not has_times([line for line in text.splitlines() if line.strip()]):
                return text
    return _librispeech(path.parent).get(path.stem)


def has_times(lines: Sequence[str]) -> bool:
    """Tell whether half of the lines of a .lab file, or more, have a start, an end and a label.

    One line alone may be a text: it has times if they begin at 0, have tabs between or, in HTK's units of 100 ns, end
    after a millisecond.

    >>> has_times(["0 1500000 HH", "1500000 3000000 AY"]), has_times(["1500000 3000000 AY"])
    (True, True)
    >>> has_times(["1.5 2.5 miles"]), has_times(["12 30 miles"])
    (False, False)
    >>> has_times(["0 3600000 sil -2107.5 SENT-START", "3600000 4200000 th -371.2 three -915.0"])
    True
    """
    found = [match for line in lines if (match := _TIMES.match(line))]
    if len(lines) == 1 and found:
        start, end = map(float, found[0].groups())
        return start == 0 or "\t" in lines[0] or end >= MILLISECOND
    return 2 * len(found) >= len(lines)


@functools.lru_cache(64)
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
