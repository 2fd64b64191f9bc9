"""Texts of recordings, in files beside them."""

import functools
import re
from pathlib import Path

from asr.core.errors import CorpusError

TEXT_SUFFIXES = (".txt", ".lab")
_HTK = re.compile(r"\d+\s+\d+\s+\S+(\s+-?[\d.]+)?\s*$")


def find(path: Path, channel: int | None = None) -> str | None:
    """Return the text of a recording, or of a channel; None where there is none.

    The text of ``a.wav`` is ``a.txt`` or ``a.lab`` beside it, unless that has times as in HTK, or its line in a
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
            if not suffix.endswith(".lab") or not all(map(_HTK.match, text.splitlines())):
                return text
    return _librispeech(path.parent).get(path.stem)


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
