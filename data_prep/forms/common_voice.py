"""Mozilla's Common Voice: ``clips`` beside ``train.tsv``, ``dev.tsv`` and ``test.tsv``, or ``validated.tsv`` alone.

R. Ardila et al., "Common Voice: A Massively-Multilingual Speech Corpus", LREC 2020. https://commonvoice.mozilla.org
"""

from collections.abc import Iterator
from pathlib import Path

from asr.core.errors import CorpusError
from data_prep.forms import table
from data_prep.forms.record import Record

LOOKS_FOR = "clips beside train.tsv or validated.tsv"
_SPLITS = {"train.tsv": "train", "dev.tsv": "dev", "test.tsv": "test"}
_ALL = "validated.tsv"


def is_here(place: Path) -> bool:
    """Tell whether a folder is that of a language of Common Voice."""
    return (place / "clips").is_dir() and any((place / name).is_file() for name in ("train.tsv", _ALL))


def read(place: Path) -> Iterator[Record]:
    """Yield the clips of the published splits; without ``train.tsv``, all that were validated.

    Raises
    ------
    CorpusError
        A list is malformed; the message names the line.
    """
    lists = _SPLITS if (place / "train.tsv").is_file() else {_ALL: ""}
    for path, split in ((place / name, split) for name, split in lists.items()):
        for number, row in table.rows(path) if path.is_file() else ():
            lacking = next((name for name in ("path", "sentence") if not row.get(name)), None)
            if lacking is not None and lacking not in row:
                columns = f"its columns are {', '.join(row)}"
                raise CorpusError(f"{path}, line 1 names no {lacking}: {columns}: call one of them {lacking}")
            if lacking is not None:
                raise CorpusError(f"{path}, line {number} has no {lacking}: copy the list again, or take the line out")
            clip = {"path": f"clips/{row['path']}", "text": row["sentence"]}
            about = {"speaker": row.get("client_id", ""), "gender": row.get("gender", "")}
            yield table.record(path, number, {**clip, **about}, split)
