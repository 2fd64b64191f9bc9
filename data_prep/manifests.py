"""From audio files with their labels to Lhotse manifests: what the corpora without times have in common."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.terminal import track

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Utterance:
    """An audio file with its words and phones, before its header is read."""

    id: str
    audio: Path
    words: str
    phones: tuple[tuple[str, ...], ...]  # of each word
    speaker: str
    gender: str | None = None  # "f", "m" or unknown
    custom: dict = field(default_factory=dict)


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
    supervision ``custom["phones"]`` are the phones with spaces between, and ``custom["word_lengths"]`` says how many of
    them each word has: between words a speaker may pause.

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
    if not any(utterance.phones):
        raise CorpusError("it has no phones")
    if not utterance.audio.is_file():
        raise CorpusError(f"{utterance.audio} is missing")
    header = soundfile.info(utterance.audio)
    if header.frames == 0:
        raise CorpusError(f"{utterance.audio} has no samples")
    source = AudioSource(type="file", channels=list(range(header.channels)), source=str(utterance.audio))
    return Recording(utterance.id, [source], header.samplerate, header.frames, header.frames / header.samplerate)


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
