"""LibriSpeech and its small parts (OpenSLR 12 and 31, CC BY 4.0): read English, words without times.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "Librispeech: an ASR corpus based on public domain audio books",
ICASSP 2015. Layout: ``PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` beside the FLAC files of the chapter, and
``SPEAKERS.TXT`` beside the parts. `asr.speech.pronounce` turns the words into phones.

The default parts are those of mini_librispeech: 5.3 h to train on, and all of test-clean. The corpus librispeech takes
all training parts that its folder has.
"""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from asr.core.errors import CorpusError
from asr.speech.pronounce import parts_to_guess
from data_prep import download
from data_prep.manifests import Utterance, hold_out, phones_of, write_manifests
from data_prep.stored import Stored

log = logging.getLogger(__name__)

_DEEPEST = 3  # folders between the given one and a part
_ARCHIVES = {
    # published in https://www.openslr.org/resources/31/md5sum.txt and https://www.openslr.org/resources/12/md5sum.txt
    "train-clean-5": (31, "md5:5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (31, "md5:6d7ab67ac6a1d2c993d050e16d61080d"),
    "train-clean-100": (12, "md5:2a93770f6d5c6c964bc36631d331a522"),
    "dev-clean": (12, "md5:42e2234ba48799c1f50f24a7926300a1"),
    "test-clean": (12, "md5:32fa31d27d2e1cad72775fee3f4849a9"),
}


def obtain(target_dir: Path, parts: Sequence[str] = ("train-clean-5", "dev-clean-2", "test-clean")) -> Path:
    """Download and unpack parts of the corpus, unless they are there.

    Parameters
    ----------
    target_dir : Path
        Receives ``PART/LibriSpeech/PART``. Archives are removed after unpacking.
    parts : sequence of str
        Names of parts.

    Returns
    -------
    Path
        `target_dir`, which `prepare` takes.

    Raises
    ------
    CorpusError
        A part has no known archive, a download fails, or its checksum is wrong.
    """
    for part in parts:
        if part not in _ARCHIVES:
            raise CorpusError(f"no archive of LibriSpeech is known for {part!r}: choose from {', '.join(_ARCHIVES)}")
        resource, checksum = _ARCHIVES[part]
        download.fetch_and_unpack(f"{download.OPENSLR}/{resource}/{part}.tar.gz", Path(target_dir), checksum)
    return Path(target_dir)


def prepare(
    corpus_dir: Path,
    output_dir: Path,
    train: Sequence[str] = ("train-clean-5",),
    dev: str = "dev-clean-2",
    test: str = "test-clean",
) -> None:
    """Write the manifests of LibriSpeech.

    Parameters
    ----------
    corpus_dir : Path
        A folder that holds the parts, directly or up to three folders deeper.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` for train, dev and test.
    train : sequence of str
        Names of parts. Those that the folder has are taken; at least one must be there.
    dev, test : str
        Names of parts. If the folder does not have the part `dev`, `hold_out` chooses a tenth of the training speakers
        for the split: 3 of the 28 speakers of train-clean-5.

    Raises
    ------
    CorpusError
        A part is missing or empty, a word has no pronunciation, or a speaker is in two splits.
    """
    corpus_dir = Path(corpus_dir).resolve()
    there = [part for part in train if _find(corpus_dir, part) is not None]
    there = there or list(train[:1])  # reading it raises the error that says what is missing
    train_parts = itertools.chain.from_iterable(_read(corpus_dir, part) for part in there)
    splits = {"train": Stored(train_parts), "test": _read(corpus_dir, test)}
    if _find(corpus_dir, dev) is not None:
        splits["dev"] = _read(corpus_dir, dev)
    else:
        splits["train"], splits["dev"] = hold_out(splits["train"])
        log.info("no %s in %s: speakers of %s are held out for dev", dev, corpus_dir, ", ".join(there))
    write_manifests(splits, Path(output_dir))


def _find(corpus_dir: Path, part: str) -> Path | None:
    """Find the folder of a part that has transcripts, the least deep one."""
    for depth in range(_DEEPEST + 1):
        for folder in sorted(corpus_dir.glob("*/" * depth + part)):
            if next(folder.glob("*/*/*.trans.txt"), None) is not None:
                return folder
    return None


def _read(corpus_dir: Path, part: str) -> Stored[Utterance]:
    folder = _find(corpus_dir, part)
    if folder is None:
        raise CorpusError(
            f"{corpus_dir} has no {part}/SPEAKER/CHAPTER/*.trans.txt: give the folder that holds LibriSpeech's parts, "
            "or none to download them (openslr.org/31 for train-clean-5 and dev-clean-2, openslr.org/12 for the rest)"
        )
    genders = _genders(folder.parent / "SPEAKERS.TXT")
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    utterances = Stored(utterance for path in transcripts for utterance in _read_chapter(path, genders))
    _report_guesses(part, utterances)
    return utterances


def _read_chapter(path: Path, genders: dict[str, str]) -> list[Utterance]:
    utterances = []
    speaker = path.parent.parent.name
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, words = line.partition(" ")
        phones = phones_of(words.split(), f"{path}: utterance {name}")
        audio = path.parent / f"{name}.flac"
        utterances.append(Utterance(name, audio, words.strip(), phones, speaker, genders.get(speaker)))
    return utterances


def _genders(path: Path) -> dict[str, str]:
    """Read the gender of each speaker, ``f`` or ``m``, where the corpus has the list."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line and not line.startswith(";")]
    return {row[0]: row[1].lower() for row in rows}


def _report_guesses(part: str, utterances: Sequence[Utterance]) -> None:
    """Log how many words are in no dictionary."""
    words = Counter(word for utterance in utterances for word in utterance.words.split())
    guessed = {word: count for word, count in words.items() if parts_to_guess(word)}
    log.info(
        "%s: %d of %d words (%d of %d distinct) are not in CMUdict and are pronounced by rule",
        part, sum(guessed.values()), words.total(), len(guessed), len(words),
    )  # fmt: skip
