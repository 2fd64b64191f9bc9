"""Lhotse manifests from audio files and their labels: what the modules of the corpora have in common."""

import functools
import logging
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asr.core import files
from asr.core.errors import AudioError, CorpusError
from asr.core.terminal import track
from asr.speech import audio
from asr.speech.pronounce import pronounce
from asr.speech.segments import Segment
from data_prep.stored import Stored

COPIES = "audio"  # folder beside the manifests, of sound that is not a file of the corpus
TOUCHING = 0.01  # seconds that an utterance may lack at both ends of its file and still be all of it
SLACK = 0.2  # seconds by which times may miss the end of a file, and a file the length that the corpus states

NO_PHONES = "it has no phones: mend its text"
IS_MISSING = "is missing: mend the path, or copy the file there"

T = TypeVar("T")
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
    start, end
        The utterance's place in the file, in seconds; an `end` of None is the file's.
    channel
        Of the file, counted from 0; None takes the mean of all.
    duration
        Length of the file in seconds, as the corpus states it; None where it does not.
    times
        The phones with their times in seconds from the utterance's start, where the corpus has them.
    language
        As Lhotse names it; None where it is not known.
    place
        The file, and where there is one the line, that describes it, for messages; empty where it is not known.
    """

    id: str
    audio: Path
    words: str
    phones: tuple[tuple[str, ...], ...]
    speaker: str
    gender: str | None = None
    custom: dict = field(default_factory=dict)
    start: float = 0.0
    end: float | None = None
    channel: int | None = None
    duration: float | None = None
    times: tuple[Segment, ...] = ()
    language: str | None = "English"
    place: str = ""

    @property
    def named(self) -> str:
        """What a message calls it: its name, and where it is described."""
        return f"{self.id} ({self.place})" if self.place else self.id

    def is_all_of(self, duration: float) -> bool:
        """Tell whether the utterance is all of its file, which lasts so many seconds, and not a part or a channel."""
        end = duration if self.end is None else self.end
        return self.channel is None and self.start <= TOUCHING and abs(end - duration) <= TOUCHING


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


def hold_out(utterances: Sequence[Utterance], seed: int = 0) -> tuple[Stored[Utterance], Stored[Utterance]]:
    """Separate the utterances of a tenth of the speakers from the rest. The same speakers are chosen each time.

    Speakers are sorted by gender, by age where it is known, and by name. Those held out are at equal distances in this
    order, so that they have genders and ages in proportion.

    Parameters
    ----------
    utterances : sequence of Utterance
        Utterances of two speakers or more.
    seed : int
        Another seed holds out the speakers that come so many places later in the order.

    Returns
    -------
    kept, held_out : Stored

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
    >>> [utterance.speaker for utterance in hold_out(utterances, seed=1)[1]]
    ['12', '13']
    """
    order = {u.speaker: (u.gender or "", u.custom.get("age", 0), len(u.speaker), u.speaker) for u in utterances}
    held = choose(order, seed)
    kept, out = (Stored(u for u in utterances if (u.speaker in held) is is_held) for is_held in (False, True))
    return kept, out


def choose(order: Mapping[T, tuple[Any, ...]], seed: int = 0) -> set[T]:
    """Return a tenth of the speakers, at equal distances in their order.

    Parameters
    ----------
    order
        What the speakers are sorted by.
    seed
        Another seed chooses those that come so many places later.

    Raises
    ------
    CorpusError
        There are fewer than two speakers.
    """
    if len(order) < 2:
        raise CorpusError(f"{len(order)} training speakers: at least two are needed to hold one out for dev")
    ordered = sorted(order, key=order.__getitem__)
    num_held = max(1, round(len(ordered) / 10))
    places = ((2 * i + 1) * len(ordered) // (2 * num_held) + seed for i in range(num_held))
    return {ordered[place % len(ordered)] for place in places}


def write_manifests(splits: Mapping[str, Sequence[Utterance]], output_dir: Path) -> None:
    """Read the header of each audio file, and write the Lhotse manifests of all splits.

    An utterance without phones, or whose file is missing, empty or not audio, is named in a warning and left out. In a
    supervision, ``custom["phones"]`` has the phones, separated by spaces, and ``custom["word_lengths"]`` the number of
    phones of each word, because a speaker may pause between words.

    The sound of an utterance that is a part of a file, or whose file libsndfile cannot decode, is written to the folder
    `COPIES`: mono, 16 kHz, FLAC.

    Parameters
    ----------
    splits : mapping of str to sequence of Utterance
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``, each whole or not at all.

    Raises
    ------
    CorpusError
        A speaker is in two splits, or a split has no utterance left.
    """
    _check_speakers(splits)
    copies, used = output_dir.absolute() / COPIES, array("q")
    with ExitStack() as unless_failed:  # line by line, and no file takes its place before all are whole
        for split, utterances in splits.items():
            stems = f"recordings_{split}", f"supervisions_{split}"
            paths = [unless_failed.enter_context(files.replacing(output_dir / f"{stem}.jsonl.gz")) for stem in stems]
            used.extend(_write_split(split, utterances, copies, *paths))
    sound_of.cache_clear()
    _delete_others(copies, np.sort(np.array(used, np.int64)))


def write(manifest: RecordingSet | SupervisionSet, output_dir: Path, stem: str) -> None:
    """Write ``stem.jsonl.gz`` whole or not at all."""
    with files.replacing(output_dir / f"{stem}.jsonl.gz") as temporary:
        manifest.to_file(temporary)


def _delete_others(copies: Path, used: np.ndarray) -> None:
    """Delete sound of a corpus that has changed since: all but the files whose paths have these hashes, in order."""
    for path in copies.rglob("*"):
        wanted = hash(str(path))
        if path.is_file() and wanted not in used[np.searchsorted(used, wanted) :][:1]:
            path.unlink()


def _check_speakers(splits: Mapping[str, Sequence[Utterance]]) -> None:
    owner: dict[str, str] = {}
    speakers = {split: {utterance.speaker for utterance in utterances} for split, utterances in splits.items()}
    if len(set().union(*speakers.values())) == 1:
        return  # one's own voice, for which the system is
    for split, its in speakers.items():
        for speaker in sorted(its):
            if owner.setdefault(speaker, split) != split:
                raise CorpusError(f"speaker {speaker} is in {owner[speaker]} and in {split}: take it out of one")


def _write_split(
    split: str, utterances: Sequence[Utterance], copies: Path, recordings: Path, supervisions: Path
) -> "array[int]":
    """Write the manifests of a split, and return hashes of the paths of copies of sound that it uses."""
    count, used = 0, array("q")
    with RecordingSet.open_writer(recordings) as first, SupervisionSet.open_writer(supervisions) as second:
        for utterance in track(utterances, f"reading {split}"):
            try:
                found = _recording(utterance, copies)
            except (AudioError, CorpusError) as error:
                log.warning("%s left out: %s", utterance.named, error)
                continue
            count += 1
            first.write(found)
            second.write(_supervision(utterance, found.duration))
            if copies in Path(found.sources[0].source).parents:
                used.append(hash(found.sources[0].source))
    num_left_out = len(utterances) - count
    if count == 0:
        raise CorpusError(f"{split} has no utterance with audio and phones ({num_left_out} left out): mend the corpus")
    if num_left_out:
        log.warning("%s: %d of %d utterances left out", split, num_left_out, len(utterances))
    return used


def lack(utterance: Utterance) -> str:
    """Return what an utterance lacks, phones or its file, and how to mend it; empty if nothing."""
    if not any(utterance.phones):
        return NO_PHONES
    return "" if utterance.audio.is_file() else f"{utterance.audio} {IS_MISSING}"


def _recording(utterance: Utterance, copies: Path) -> Recording:
    fault = lack(utterance)
    if fault:
        raise CorpusError(fault)
    with suppress(soundfile.LibsndfileError):
        found = recording(utterance.id, utterance.audio)
        if found.num_samples == 0:
            raise CorpusError(f"{utterance.audio} has no samples")
        check_duration(utterance, found.duration)
        if utterance.is_all_of(found.duration):
            return found
    return recording(utterance.id, _copy(utterance, copies))


def check_duration(utterance: Utterance, duration: float) -> None:
    """Raise CorpusError if the file of an utterance has another length than the corpus states, in seconds."""
    stated = utterance.duration
    if stated is not None and abs(stated - duration) > max(SLACK, duration / 100):
        fault = f"{utterance.audio} lasts {duration:.2f} s, and the corpus says {stated:.2f} s"
        raise CorpusError(f"{fault}: copy it again")


def _copy(utterance: Utterance, copies: Path) -> Path:
    """Write the sound of an utterance to a file of its own, which is as old as the corpus's."""
    waveform = waveform_of(utterance)
    path = copies / f"{quote(utterance.id, safe='')}.flac"
    with files.replacing(path) as temporary:
        soundfile.write(temporary, waveform, audio.SAMPLE_RATE, "PCM_16", format="FLAC")
        changed = utterance.audio.stat().st_mtime_ns
        os.utime(temporary, ns=(changed, changed))
    return path


def waveform_of(utterance: Utterance) -> np.ndarray:
    """Return the sound of an utterance (N,) at 16 kHz.

    Raises
    ------
    AudioError
        The file cannot be read.
    CorpusError
        The utterance is not within its file, or the file has another length than the corpus states.
    """
    waveform = sound_of(utterance.audio, utterance.channel)
    check_duration(utterance, len(waveform) / audio.SAMPLE_RATE)  # of a file whose header could not be read
    return part_of(utterance, waveform, audio.SAMPLE_RATE)


def part_of(utterance: Utterance, samples: np.ndarray, sample_rate: float) -> np.ndarray:
    """Return those samples (n, …) of an utterance's file that are the utterance's.

    Raises
    ------
    CorpusError
        The utterance is not within its file.
    """
    duration = len(samples) / sample_rate
    end = duration if utterance.end is None else utterance.end
    if end > duration + SLACK or utterance.start >= duration:
        fault = f"it is from {utterance.start:.2f} to {end:.2f} s, and {utterance.audio} lasts {duration:.2f} s"
        raise CorpusError(f"{fault}: mend the times, or copy the file again")
    first, last = (round(seconds * sample_rate) for seconds in (utterance.start, end))
    if first == last:
        raise CorpusError(f"it is from {utterance.start:g} to {end:g} s, which is no sample: mend the times")
    return samples[first:last]


@functools.lru_cache(maxsize=1)
def sound_of(path: Path, channel: int | None) -> np.ndarray:
    """Return the waveform (N,) of a file; that of the last file is kept, for the next utterance is often in it, too."""
    return audio.load(path, channel=channel)


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
        language=utterance.language,
        speaker=utterance.speaker,
        gender=utterance.gender,
        custom={"phones": " ".join(phones), "word_lengths": lengths, **utterance.custom},
        alignment={"phone": [_item(each) for each in utterance.times]} if utterance.times else None,
    )


def _item(segment: Segment) -> AlignmentItem:
    return AlignmentItem(segment.label, segment.start, round(segment.end - segment.start, 7))
