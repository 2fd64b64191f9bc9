"""LibriSpeech and its small parts (OpenSLR 12 and 31, CC BY 4.0): read English, words without times.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur, "Librispeech: an ASR corpus based on public domain audio books",
ICASSP 2015. Layout: ``PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` beside the FLAC files of the chapter, and
``SPEAKERS.TXT`` beside the parts. Phones come from the words through `data_prep.pronounce`.

The default parts are those of mini_librispeech: 5.3 h to train on and the whole of test-clean.
"""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.errors import CorpusError
from asr.progress import track
from data_prep import download
from data_prep.pronounce import is_guessed, pronounce

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


@dataclass(frozen=True)
class Utterance:
    """An audio file with its words and phones, before its header is read."""

    id: str
    audio: Path
    words: str
    phones: tuple[str, ...]
    speaker: str
    gender: str | None = None  # "f", "m" or unknown
    custom: dict = field(default_factory=dict)


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
    train: str = "train-clean-5",
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
    train, dev, test : str
        Names of the parts. Without the part `dev`, a tenth of the speakers of `train` is held out for it:
        3 of the 28 of train-clean-5, chosen by `hold_out`.

    Raises
    ------
    CorpusError
        If a part is missing or empty, a word has no pronunciation, or a speaker is in two splits.
    """
    corpus_dir = Path(corpus_dir).resolve()
    splits = {"train": _read(corpus_dir, train), "test": _read(corpus_dir, test)}
    if _find(corpus_dir, dev) is not None:
        splits["dev"] = _read(corpus_dir, dev)
    else:
        splits["train"], splits["dev"] = hold_out(splits["train"])
        _LOG.info("no %s in %s: speakers of %s are held out for dev", dev, corpus_dir, train)
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
            phones = [phone for word in words.split() for phone in pronounce(word)]
        except CorpusError as error:
            raise CorpusError(f"{path}: utterance {name}: {error}") from error
        audio = path.parent / f"{name}.flac"
        utterances.append(Utterance(name, audio, words.strip(), tuple(phones), speaker, genders.get(speaker)))
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


def hold_out(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Take the utterances of a tenth of the speakers away, always the same ones.

    The speakers are put in order by gender, age where it is known, and name; those taken lie at equal distances in that
    order, so that genders and ages are held out in proportion.

    Parameters
    ----------
    utterances : list of Utterance
        Of two speakers or more.

    Returns
    -------
    kept, held_out : list of Utterance

    Raises
    ------
    CorpusError
        If there are fewer than two speakers.

    Examples
    --------
    >>> utterances = [Utterance(f"{i}-0", Path(f"{i}.flac"), "OH", ("OW",), str(i), "fm"[i % 2]) for i in range(20)]
    >>> kept, held_out = hold_out(utterances)
    >>> len(kept), [(utterance.speaker, utterance.gender) for utterance in held_out]
    (18, [('10', 'f'), ('11', 'm')])
    """
    speakers = {u.speaker: (u.gender or "", u.custom.get("age", 0), len(u.speaker), u.speaker) for u in utterances}
    if len(speakers) < 2:
        raise CorpusError(f"{len(speakers)} training speakers: at least two are needed to hold one out for dev")
    ordered = sorted(speakers, key=lambda name: speakers[name])
    num_held = max(1, round(len(ordered) / 10))
    held = {ordered[(2 * i + 1) * len(ordered) // (2 * num_held)] for i in range(num_held)}
    return [u for u in utterances if u.speaker not in held], [u for u in utterances if u.speaker in held]


def write_manifests(splits: dict[str, list[Utterance]], output_dir: Path) -> None:
    """Read the header of each audio file, and write the Lhotse manifests of all splits.

    An utterance without phones, or whose file is missing, empty or not audio, is named in a warning and left out.

    Parameters
    ----------
    splits : dict of str to list of Utterance
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``, each whole or not at all.

    Raises
    ------
    CorpusError
        If a speaker is in two splits, or a split has no utterance left.
    """
    _check_speakers(splits)
    manifests = {split: _manifests(split, utterances) for split, utterances in splits.items()}
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, (recordings, supervisions) in manifests.items():
        for kind, manifest in (("recordings", recordings), ("supervisions", supervisions)):
            temporary = output_dir / f"tmp_{kind}_{split}.jsonl.gz"  # Lhotse takes the format from the ending
            manifest.to_file(temporary)
            os.replace(temporary, output_dir / f"{kind}_{split}.jsonl.gz")


def _check_speakers(splits: dict[str, list[Utterance]]) -> None:
    owner: dict[str, str] = {}
    for split, utterances in splits.items():
        for speaker in sorted({utterance.speaker for utterance in utterances}):
            if owner.setdefault(speaker, split) != split:
                raise CorpusError(f"speaker {speaker} is in {owner[speaker]} and in {split}: take it out of one")


def _manifests(split: str, utterances: list[Utterance]) -> tuple[RecordingSet, SupervisionSet]:
    recordings, supervisions = [], []
    for utterance in track(utterances, f"reading {split}"):
        try:
            recording = _recording(utterance)
        except (CorpusError, soundfile.LibsndfileError) as error:
            _LOG.warning("%s left out: %s", utterance.id, error)
            continue
        recordings.append(recording)
        supervisions.append(_supervision(utterance, recording.duration))
    num_left_out = len(utterances) - len(recordings)
    if not recordings:
        raise CorpusError(f"{split} has no utterance with audio and phones ({num_left_out} left out): mend the corpus")
    if num_left_out:
        _LOG.warning("%s: %d of %d utterances left out", split, num_left_out, len(utterances))
    return RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)


def _recording(utterance: Utterance) -> Recording:
    if not utterance.phones:
        raise CorpusError("it has no phones")
    if not utterance.audio.is_file():
        raise CorpusError(f"{utterance.audio} is missing")
    header = soundfile.info(utterance.audio)
    if header.frames == 0:
        raise CorpusError(f"{utterance.audio} has no samples")
    source = AudioSource(type="file", channels=list(range(header.channels)), source=str(utterance.audio))
    return Recording(utterance.id, [source], header.samplerate, header.frames, header.frames / header.samplerate)


def _supervision(utterance: Utterance, duration: float) -> SupervisionSegment:
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0,
        duration=duration,
        channel=0,
        text=utterance.words,
        language="English",
        speaker=utterance.speaker,
        gender=utterance.gender,
        custom={"phones": " ".join(utterance.phones), **utterance.custom},
    )
