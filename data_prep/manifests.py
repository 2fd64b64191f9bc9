"""Lhotse manifests from audio files and their labels: what the modules of the corpora have in common."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.terminal import track
from asr.speech.pronounce import PUNCTUATION, pronounce

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """An audio file with its words and phones, before its header is read.

    Attributes
    ----------
    id, words, speaker
        As the corpus has them; the words are separated by spaces.
    audio
        The file.
    phones
        The phones of each word.
    gender
        ``f``, ``m``, or None where it is not known.
    custom
        Further values for the supervision.
    """

    id: str
    audio: Path
    words: str
    phones: tuple[tuple[str, ...], ...]
    speaker: str
    gender: str | None = None
    custom: dict = field(default_factory=dict)


def bare_words(text: str) -> list[str]:
    """Split a text into words without the punctuation around them.

    >>> bare_words("Hello, world ...")
    ['Hello', 'world']
    """
    return [word for word in (each.strip(PUNCTUATION) for each in text.split()) if word]


def phones_of(words: Iterable[str], place: str) -> tuple[tuple[str, ...], ...]:
    """Return the ARPAbet phones of each word.

    Parameters
    ----------
    words
        Without punctuation around them.
    place
        Where the words are written, for errors.

    Raises
    ------
    CorpusError
        A word has no pronunciation.

    Examples
    --------
    >>> phones_of(["oh", "no"], "a.txt, line 1")
    (('OW',), ('N', 'OW'))
    """
    try:
        return tuple(tuple(pronounce(word)) for word in words)
    except CorpusError as error:
        raise CorpusError(f"{place}: {error}") from error


def hold_out(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Separate the utterances of a tenth of the speakers from the rest. The same speakers are chosen each time.

    Speakers are sorted by gender, by age where it is known, and by name. Those held out are at equal distances in this
    order, so that they have genders and ages in proportion.

    Parameters
    ----------
    utterances : list of Utterance
        Utterances of two speakers or more.

    Returns
    -------
    kept, held_out : list of Utterance

    Raises
    ------
    CorpusError
        There are fewer than two speakers.

    Examples
    --------
    >>> utterances = [Utterance(f"{i}-0", Path(f"{i}.flac"), "OH", (("OW",),), str(i), "fm"[i % 2]) for i in range(20)]
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

    An utterance without phones, or whose file is missing, empty or not audio, is named in a warning and left out. In a
    supervision, ``custom["phones"]`` has the phones, separated by spaces, and ``custom["word_lengths"]`` the number of
    phones of each word, because a speaker may pause between words.

    Parameters
    ----------
    splits : dict of str to list of Utterance
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``, each whole or not at all.

    Raises
    ------
    CorpusError
        A speaker is in two splits, or a split has no utterance left.
    """
    _check_speakers(splits)
    manifests = {split: _manifests(split, utterances) for split, utterances in splits.items()}
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, (recordings, supervisions) in manifests.items():
        write(recordings, output_dir, f"recordings_{split}")
        write(supervisions, output_dir, f"supervisions_{split}")


def write(manifest: RecordingSet | SupervisionSet, output_dir: Path, stem: str) -> None:
    """Write ``stem.jsonl.gz`` whole or not at all."""
    with files.replacing(output_dir / f"{stem}.jsonl.gz") as temporary:
        manifest.to_file(temporary)


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
            found = _recording(utterance)
        except (CorpusError, soundfile.LibsndfileError) as error:
            log.warning("%s left out: %s", utterance.id, error)
            continue
        recordings.append(found)
        supervisions.append(_supervision(utterance, found.duration))
    num_left_out = len(utterances) - len(recordings)
    if not recordings:
        raise CorpusError(f"{split} has no utterance with audio and phones ({num_left_out} left out): mend the corpus")
    if num_left_out:
        log.warning("%s: %d of %d utterances left out", split, num_left_out, len(utterances))
    return RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)


def _recording(utterance: Utterance) -> Recording:
    if not any(utterance.phones):
        raise CorpusError("it has no phones")
    if not utterance.audio.is_file():
        raise CorpusError(f"{utterance.audio} is missing")
    found = recording(utterance.id, utterance.audio)
    if found.num_samples == 0:
        raise CorpusError(f"{utterance.audio} has no samples")
    return found


def recording(recording_id: str, audio: Path) -> Recording:
    """Read the header of an audio file.

    Raises
    ------
    soundfile.LibsndfileError
        The file is not audio.
    """
    header = soundfile.info(str(audio))
    source = AudioSource(type="file", channels=list(range(header.channels)), source=str(audio))
    return Recording(recording_id, [source], header.samplerate, header.frames, header.frames / header.samplerate)


def _supervision(utterance: Utterance, duration: float) -> SupervisionSegment:
    phones = [phone for word in utterance.phones for phone in word]
    lengths = [len(word) for word in utterance.phones]
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
        custom={"phones": " ".join(phones), "word_lengths": lengths, **utterance.custom},
    )
