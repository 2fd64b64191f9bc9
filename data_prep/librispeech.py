"""LibriSpeech and its small parts (OpenSLR 12 and 31, CC BY 4.0): read English, words without times.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "Librispeech: an ASR corpus based on public domain audio books",
ICASSP 2015. Layout: ``PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` beside the FLAC files of the chapter, and
``SPEAKERS.TXT`` beside the parts. Phones come from the words through `asr.speech.pronounce`.

The default parts are those of mini_librispeech: 5.3 h to train on and the whole of test-clean. Of librispeech all the
training parts that a folder has are taken.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from asr.core.errors import CorpusError
from asr.speech.pronounce import is_guessed, pronounce
from data_prep import download
from data_prep.manifests import Utterance, hold_out, write_manifests

_LOG = logging.getLogger(__name__)
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
    """Download and unpack parts of the corpus, unless they stand already.

    Parameters
    ----------
    target_dir : Path
        Receives ``PART/LibriSpeech/PART``; the archives are removed once unpacked.
    parts : sequence of str
        Names of parts.

    Returns
    -------
    Path
        `target_dir`, as `prepare` takes it.

    Raises
    ------
    CorpusError
        If a part has no known archive, or a transfer fails or its checksum is wrong.
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
        Names of parts; of several those that are there are taken.
    dev, test : str
        Names of parts. Without the part `dev`, a tenth of the speakers of `train` is held out for it: 3 of the 28 of
        train-clean-5, chosen by `hold_out`.

    Raises
    ------
    CorpusError
        If a part is missing or empty, a word has no pronunciation, or a speaker is in two splits.
    """
    corpus_dir = Path(corpus_dir).resolve()
    there = [part for part in train if _find(corpus_dir, part) is not None] or train[:1]  # whose lack is then reported
    splits = {"train": [u for part in there for u in _read(corpus_dir, part)], "test": _read(corpus_dir, test)}
    if _find(corpus_dir, dev) is not None:
        splits["dev"] = _read(corpus_dir, dev)
    else:
        splits["train"], splits["dev"] = hold_out(splits["train"])
        _LOG.info("no %s in %s: speakers of %s are held out for dev", dev, corpus_dir, ", ".join(there))
    write_manifests(splits, Path(output_dir))


def _find(corpus_dir: Path, part: str) -> Path | None:
    for depth in range(_DEEPEST + 1):
        for folder in sorted(corpus_dir.glob("*/" * depth + part)):
            if next(folder.glob("*/*/*.trans.txt"), None) is not None:
                return folder
    return None


def _read(corpus_dir: Path, part: str) -> list[Utterance]:
    folder = _find(corpus_dir, part)
    if folder is None:
        raise CorpusError(
            f"{corpus_dir} has no {part}/SPEAKER/CHAPTER/*.trans.txt: give the folder that holds LibriSpeech's parts, "
            "or none to download them (openslr.org/31 for train-clean-5 and dev-clean-2, openslr.org/12 for the rest)"
        )
    genders = _genders(folder.parent / "SPEAKERS.TXT")
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    utterances = [utterance for path in transcripts for utterance in _read_chapter(path, genders)]
    _report_guesses(part, utterances)
    return utterances


def _read_chapter(path: Path, genders: dict[str, str]) -> list[Utterance]:
    utterances = []
    speaker = path.parent.parent.name
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, words = line.partition(" ")
        try:
            phones = tuple(tuple(pronounce(word)) for word in words.split())
        except CorpusError as error:
            raise CorpusError(f"{path}: utterance {name}: {error}") from error
        audio = path.parent / f"{name}.flac"
        utterances.append(Utterance(name, audio, words.strip(), phones, speaker, genders.get(speaker)))
    return utterances


def _genders(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [[field.strip() for field in line.split("|")] for line in lines if line and not line.startswith(";")]
    return {row[0]: row[1].lower() for row in rows}


def _report_guesses(part: str, utterances: list[Utterance]) -> None:
    words = Counter(word for utterance in utterances for word in utterance.words.split())
    guessed = {word: count for word, count in words.items() if is_guessed(word)}
    _LOG.info(
        "%s: %d of %d words (%d of %d distinct) are not in CMUdict and are pronounced by rule",
        part, sum(guessed.values()), words.total(), len(guessed), len(words),
    )  # fmt: skip
