"""Recordings of your own, listed in a table ``utterances.tsv`` in their folder.

The table is tab-separated. Its first line names the columns: ``path`` (relative to the folder), ``speaker``, ``split``
(train, dev or test), and either ``phones`` (ARPAbet, separated by spaces) or ``words``, which `asr.speech.pronounce`
turns into phones. A column ``gender`` (f or m) is optional. A row with a word that has no pronunciation is named in a
warning and left out. If no row is for dev, a tenth of the training speakers is held out for it.
"""

import csv
import logging
from collections import Counter
from pathlib import Path

from asr.core.errors import AsrError, CorpusError
from asr.speech.phones import PhoneSet
from data_prep.manifests import Utterance, bare_words, hold_out, phones_of, write_manifests

log = logging.getLogger(__name__)

NAME = "utterances.tsv"
_NEEDED = ("path", "speaker", "split")


def obtain(target_dir: Path) -> Path:
    """Raise `CorpusError`: a table of one's own cannot be downloaded."""
    raise CorpusError(f"a table of your own has no address: name the folder of {NAME} as data.corpora.table=FOLDER")


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of a table.

    Parameters
    ----------
    corpus_dir : Path
        Holds ``utterances.tsv``.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` for each split in the table, and dev.

    Raises
    ------
    CorpusError
        The table is missing or malformed, or a speaker is in two splits.
    """
    path = Path(corpus_dir).resolve() / NAME
    splits = _read(path)
    ids = Counter(utterance.id for utterances in splits.values() for utterance in utterances)
    twice = [name for name, count in ids.items() if count > 1]
    if twice or "train" not in splits:
        raise CorpusError(f"{path}: {f'two files are called {twice[0]}' if twice else 'no row is for training'}")
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"])
    write_manifests(splits, Path(output_dir))


def _read(path: Path) -> dict[str, list[Utterance]]:
    """Read the utterances of each split that the table has."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {path}: {error}: write a table as data_prep/table.py says") from error
    splits: dict[str, list[Utterance]] = {}
    for number, row in enumerate(rows, 2):
        place = f"{path}, line {number}"
        lacking = next((name for name in _NEEDED if not row.get(name)), None)
        if lacking or row["split"] not in ("train", "dev", "test"):
            what = f"has no {lacking}" if lacking else f"has the split {row['split']!r}, not train, dev or test"
            raise CorpusError(f"{place} {what}")
        splits.setdefault(row["split"], []).append(_utterance(path.parent, row, place))
    return splits


def _utterance(folder: Path, row: dict[str, str], place: str) -> Utterance:
    """Return the utterance of a row; it has no phones, and is left out later, if a word has no pronunciation."""
    audio, words = folder / row["path"], " ".join((row.get("words") or "").split())
    phones: tuple[tuple[str, ...], ...] = ()
    if row.get("phones"):
        phones = (_given_phones(row["phones"], place),)
    else:
        try:
            phones = phones_of(bare_words(words), place)
        except CorpusError as error:
            log.warning("%s", error)
    return Utterance(audio.stem, audio, words, phones, row["speaker"], row.get("gender") or None)


def _given_phones(text: str, place: str) -> tuple[str, ...]:
    phones = tuple(text.split())
    try:
        PhoneSet.load("arpabet39").check(phones)
    except AsrError as error:
        raise CorpusError(f"{place}: {error}") from error
    return phones
