"""Recordings of your own: a table ``utterances.tsv`` in a folder.

Tab-separated, with a first line of names: ``path`` (from the folder), ``speaker``, ``split`` (train, dev or test), and
``phones`` (ARPAbet, spaces between) or ``words``, whose phones then come from `asr.speech.pronounce`; ``gender`` may be
there too, f or m. A row whose words cannot be pronounced is named in a warning and left out. Where no row is dev, a
tenth of the training speakers is.
"""

import csv
import logging
from collections import Counter
from pathlib import Path

from asr.core.errors import AsrError, CorpusError
from asr.speech.phones import PhoneSet
from asr.speech.pronounce import PUNCTUATION, pronounce
from data_prep.manifests import Utterance, hold_out, write_manifests

NAME = "utterances.tsv"
_LOG = logging.getLogger(__name__)
_NEEDED = ("path", "speaker", "split")


def obtain(target_dir: Path) -> Path:
    """Nothing can be downloaded.

    Raises
    ------
    CorpusError
        Always.
    """
    raise CorpusError(f"a table of your own has no address: name the folder of {NAME} as data.corpora.table=FOLDER")


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of a table.

    Parameters
    ----------
    corpus_dir : Path
        Holds ``utterances.tsv``.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` for the splits that there are.

    Raises
    ------
    CorpusError
        The table is missing or malformed, or a speaker is in two splits.
    """
    path = Path(corpus_dir).resolve() / NAME
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {path}: {error}: write a table as data_prep/table.py says") from error
    splits: dict[str, list[Utterance]] = {}
    for number, row in enumerate(rows, 2):
        lacking = next((name for name in _NEEDED if not row.get(name)), None)
        if lacking or row["split"] not in ("train", "dev", "test"):
            what = f"has no {lacking}" if lacking else f"has the split {row['split']!r}, not train, dev or test"
            raise CorpusError(f"{path}, line {number} {what}")
        splits.setdefault(row["split"], []).append(_utterance(path, number, row))
    twice = [name for name, count in Counter(u.id for each in splits.values() for u in each).items() if count > 1]
    if twice or "train" not in splits:
        raise CorpusError(f"{path}: {f'two files are called {twice[0]}' if twice else 'no row is for training'}")
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"])
    write_manifests(splits, Path(output_dir))


def _utterance(path: Path, number: int, row: dict[str, str]) -> Utterance:
    audio, words = path.parent / row["path"], (row.get("words") or "").split()
    phones: tuple[tuple[str, ...], ...] = ()  # none: it will be left out
    try:
        if row.get("phones"):
            phones = (tuple(row["phones"].split()),)
            PhoneSet.load("arpabet39").check(phones[0])
        else:
            phones = tuple(tuple(pronounce(word)) for word in (each.strip(PUNCTUATION) for each in words) if word)
    except CorpusError as error:
        _LOG.warning("%s, line %d: %s", path, number, error)
    except AsrError as error:
        raise CorpusError(f"{path}, line {number}: {error}") from error
    return Utterance(audio.stem, audio, " ".join(words), phones, row["speaker"], row.get("gender") or None)
