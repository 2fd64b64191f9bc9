"""The splits of prepared corpora: their utterances as cuts of Lhotse, and the corpus's labels, words and times.

No other file of the library imports `data_prep`, which wheels do not have: training and scoring need a checkout.
"""

import gzip
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

import data_prep
from asr.core.errors import CorpusError
from asr.data.utterances import Rows, Utterances
from asr.speech import characters, phones
from asr.speech.label_folder import LABELS
from asr.speech.segments import Segment
from asr.speech.shar import TRAIN_SHARDS, Shar
from asr.speech.transcription import Transcription, bare_words
from data_prep import known

log = logging.getLogger(__name__)

SPLITS = TRAIN, *_ = ("train", "dev", "test")


def name_of(place: Path) -> str:
    """Return what a corpus of one's own is called after its place: its folder, or its file without the suffix.

    >>> name_of(Path("/speech/my corpus")), name_of(Path("/speech/anna.tsv"))
    ('my_corpus', 'anna')
    """
    place = place.resolve()
    return re.sub(r"[^\w.-]+", "_", place.name if place.is_dir() else place.name.partition(".")[0])


def prepare(
    corpora: Mapping[str, str | None],
    manifests: str | Path,
    may_obtain: bool = True,
    seed: int | None = None,
    said: Callable[[str], Transcription | None] = lambda corpus: None,
) -> dict[str, Path]:
    """Write the manifests of corpora that are not prepared yet, and return the folder of each one's.

    Parameters
    ----------
    corpora
        Names of corpora, each with the place of its files, or None.
    manifests
        Each goes to ``<manifests>/<name>``.
    may_obtain
        Whether a corpus without a folder and without manifests is downloaded or synthesised.
    seed
        Of the splits of corpora of one's own that have none; None takes that of manifests already there, or else 0.
    said
        Returns how the texts of a corpus of one's own become labels; None takes that of manifests already there.

    Raises
    ------
    ConfigError
        No corpus is called so, and none of one's own is there.
    CorpusError
        A corpus is missing or not laid out as documented.
    """
    return {
        name: data_prep.prepare(name, place, manifests, may_obtain, seed, said(name)) for name, place in corpora.items()
    }


def contents(manifests: str | Path, corpus: str, parts: Iterable[str] = SPLITS) -> str:
    """Return a hash of what splits of a prepared corpus hold, wherever its folder is.

    It depends on the utterances, and on the sizes and times of change of their recordings.

    Parameters
    ----------
    manifests, corpus
        As for `load_split`.
    parts
        The splits; those that the corpus does not have count as well.
    """
    found, folder = hashlib.sha256(), Path(manifests) / corpus
    for part in parts:
        if part == TRAIN and shards_of(manifests, corpus).is_file():
            shar = Shar.from_json(json.loads(shards_of(manifests, corpus).read_text(encoding="utf8")))
            found.update(f"{shar.contents} {shar.sizes}".encode())
        elif has_split(manifests, corpus, part):
            with gzip.open(folder / f"supervisions_{part}.jsonl.gz") as lines:
                while block := lines.read(1 << 20):
                    found.update(block)
            with gzip.open(folder / f"recordings_{part}.jsonl.gz") as lines:
                for line in lines:
                    found.update(_state(json.loads(line)["sources"][0]["source"]))
        found.update(b"\0")
    return found.hexdigest()[:16]


def _state(recording: str) -> bytes:
    """Return the size of a recording and the second of its last change, which archives and most copies keep."""
    try:
        status = os.stat(recording)
    except OSError:  # whoever reads it says why
        return b"lost"
    return f"{status.st_size} {int(status.st_mtime)} ".encode()


def phone_set(manifests: str | Path, corpus: str) -> str:
    """Return the phone set of a prepared corpus's labels: its name, or the file beside its manifests."""
    own, shards = Path(manifests) / corpus / LABELS, shards_of(manifests, corpus)
    if own.is_file():
        return str(own)
    return json.loads(shards.read_text(encoding="utf8"))["phone_set"] if shards.is_file() else known(corpus).phone_set


def load_split(manifests: str | Path, corpora: Sequence[str], split: str) -> Utterances:
    """Read the prepared utterances of one split over several corpora, which may share speakers.

    Where corpora share speakers, no speaker of one's test set is in the train or dev set of another, and none of its
    dev set in the train set of another. Of an utterance that is in two of them, as where one corpus is a part of
    another, the first stays; another utterance with the same id gets the name of its corpus before it.

    Parameters
    ----------
    manifests
        The folder that holds ``<corpus>/recordings_<split>.jsonl.gz`` and its supervisions.
    corpora
        Names of prepared corpora.
    split
        ``train``, ``dev``, ``test`` or another that the corpus has.

    Returns
    -------
    Utterances
        One cut an utterance, with ``cut.corpus`` and ``cut.phone_set`` added; its first supervision has the labels in
        ``phones``.

    Raises
    ------
    CorpusError
        The manifests are missing: the corpus was not prepared.
    """
    held = held_out(manifests, corpora, split)
    parts, numbers, start = list[Rows](), list[np.ndarray](), 0
    for corpus in corpora:
        if has_split(manifests, corpus, "train") and not has_split(manifests, corpus, split):
            continue  # the corpus is for training alone
        rows = rows_of(manifests, corpus, split)
        numbers.append(start + _allowed(Utterances([rows]), corpus, split, corpora, held[corpus]))
        parts.append(rows)
        start += len(rows.index)
    if not sum(map(len, numbers)):
        raise CorpusError(f"{', '.join(corpora)}: no {split} utterances: name a corpus that has some")
    return _without_repeated(Utterances(parts, np.concatenate(numbers)), split)


def _without_repeated(utterances: Utterances, split: str) -> Utterances:
    """Leave out utterances that are there twice, and give others new ids where theirs are those of others."""
    first, dropped, names = dict[str, Cut](), list[int](), dict[int, str]()
    renamed = Counter[str]()
    for number in utterances.repeated():
        cut, name = utterances[number], utterances[number].id
        if name in first and not _is_same(cut, first[name]):
            names[number] = name = f"{cut.corpus}-{name}"
            renamed[cut.corpus] += 1
            if name in utterances:
                first.setdefault(name, utterances[name])
        if name in first:
            dropped.append(number)
        first.setdefault(name, cut)
    for corpus, count in renamed.items():
        log.info(f"{corpus}: {count} {split} utterances have the ids of others: {corpus}- is put before their ids")
    return utterances.without(dropped, names) if dropped or names else utterances


def _is_same(one: Cut, other: Cut) -> bool:
    """Tell whether two cuts with one id are one utterance: as long, by the same speaker, with the same labels."""
    first, second = one.supervisions[0], other.supervisions[0]
    labels = [(each.custom or {}).get("phones") for each in (first, second)]
    return one.duration == other.duration and first.speaker == second.speaker and labels[0] == labels[1]


def held_out(manifests: str | Path, corpora: Sequence[str], split: str) -> dict[str, set[str]]:
    """Return the speakers that a split of each corpus must lack, because a later split of a related corpus has them."""
    later = SPLITS[SPLITS.index(split) + 1 :] if split in SPLITS and len(corpora) > 1 else ()
    speakers = {
        corpus: {
            cut.supervisions[0].speaker
            for other in later
            if has_split(manifests, corpus, other)
            for cut in Utterances([rows_of(manifests, corpus, other)])
        }
        for corpus in corpora
    }
    return {corpus: set().union(*(speakers[other] for other in _kin(corpus, corpora))) for corpus in corpora}


def _kin(corpus: str, corpora: Sequence[str]) -> list[str]:
    """Return the other corpora that may share speakers with one."""
    family = known(corpus).speakers
    return [other for other in corpora if family and other != corpus and known(other).speakers == family]


def _allowed(utterances: Utterances, corpus: str, split: str, corpora: Sequence[str], held: set[str]) -> np.ndarray:
    """Return the numbers of the utterances but for speakers whom another corpus that shares its speakers holds out."""
    if not held:
        return np.arange(len(utterances))
    kept = np.array([i for i, cut in enumerate(utterances) if cut.supervisions[0].speaker not in held], np.int64)
    if len(kept) < len(utterances):
        log.info(
            f"{corpus}: {len(utterances) - len(kept)} of {len(utterances)} {split} utterances are left out: their "
            f"speakers are held out in {', '.join(sorted(_kin(corpus, corpora)))}"
        )
    return kept


def rows_of(manifests: str | Path, corpus: str, split: str) -> Rows:
    """Open a split of a prepared corpus.

    Raises
    ------
    CorpusError
        Its manifests are missing or damaged, or it is in shards.
    """
    if split == TRAIN and shards_of(manifests, corpus).is_file():
        raise CorpusError(f"{corpus} is in shards, on which CTC and attention alone are trained: prepare its own files")
    return Rows(Path(manifests) / corpus, split, {"corpus": corpus, "phone_set": phone_set(manifests, corpus)})


def has_split(manifests: str | Path, corpus: str, split: str) -> bool:
    """Tell whether a prepared corpus has a split; some corpora are for training alone."""
    is_file = (Path(manifests) / corpus / f"recordings_{split}.jsonl.gz").is_file()
    return is_file or (split == TRAIN and shards_of(manifests, corpus).is_file())


def shards_of(manifests: str | Path, corpus: str) -> Path:
    """Return the file that says where the training speech of a prepared corpus is, if it is in shards."""
    return Path(manifests) / corpus / TRAIN_SHARDS


def reference(cut: Cut, label_set: str) -> list[str]:
    """Return an utterance's labels, folded from its corpus's phone set into another; of characters, those of its text.

    Raises
    ------
    AsrError
        The set lacks a label.
    """
    said = cut.supervisions[0]
    if phones.is_characters(label_set) and not phones.is_characters(cut.phone_set):
        return [label for word in characters.spell(characters.words(said.text or "")) for label in word]
    return phones.fold(said.custom["phones"].split(), cut.phone_set, label_set)


def words(cut: Cut) -> list[str]:
    """Return an utterance's words in lower case, without punctuation at their edges."""
    return [word.replace("’", "'") for word in bare_words((cut.supervisions[0].text or "").lower())]


def word_lengths(cut: Cut, label_set: str) -> list[int]:
    """Return the number of labels of each word, or nothing if the corpus lacks it or has other labels."""
    lengths = cut.supervisions[0].custom.get("word_lengths", [])
    if cut.phone_set == label_set:
        return lengths
    is_own = phones.is_own(cut.phone_set) and phones.is_own(label_set)
    return lengths if is_own and sum(lengths) == len(reference(cut, label_set)) else []


def true_times(cut: Cut) -> list[Segment]:
    """Return the times of the phones, in the corpus's phone set, or nothing if the corpus has no times."""
    items = (cut.supervisions[0].alignment or {}).get("phone", [])
    return [Segment(item.symbol, item.start, round(item.start + item.duration, 7)) for item in items]


def timed_phones(cut: Cut, label_set: str) -> list[Segment]:
    """Return the times of the phones where they are labels of a set, or nothing."""
    found = true_times(cut)
    is_own = phones.is_own(label_set) and reference(cut, label_set) == [each.label for each in found]
    return found if cut.phone_set == label_set or is_own else []
