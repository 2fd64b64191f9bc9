"""What a corpus of one's own is like, before anything is trained on it: every recording is listened to.

`check` reads a corpus as `asr prepare` does, and measures the sound and the text of each utterance; `lines` says what
was found in words.

Letters: N samples, n samples and c channels as they are in a file.
"""

import hashlib
import itertools
import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.core.config import DataConfig, FeatureConfig
from asr.core.errors import AudioError, CorpusError
from asr.core.terminal import count, track
from asr.ctc import required_frames
from asr.speech import audio, sound_files
from asr.speech.features import FeatureExtractor, frame_levels, speech_frames
from asr.speech.pronounce import PUNCTUATION, UnspeakableError, by_rules, parts_to_guess
from asr.speech.transcription import Transcription
from data_prep import own
from data_prep.forms import form_of
from data_prep.manifests import IS_MISSING, NO_PHONES, Utterance, check_duration, part_of

SPLITS = ("train", "dev", "test")
STACK = 3  # feature frames in an output frame of the recipes' networks
FULL_SCALE = 0.999  # of samples, of which 1 is the most that a file can hold
CLIPPED = 1e-4  # share of samples at full scale, beside another such, from which a recording is called clipped
MOSTLY_SILENT = 0.7  # share of frames
INAUDIBLE = -60.0  # dB below full scale
SHOWN = 5  # examples in a line
ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz'’- ") | frozenset(PUNCTUATION)
_LEVELS = FeatureConfig(delta_order=0)


@dataclass(frozen=True)
class Checked:
    """An utterance that was looked at.

    Attributes
    ----------
    id, split, speaker
        As it will be prepared.
    num_phones
        0 if it has none.
    fault
        Why it will be left out; empty if it will not.
    place
        The file, and where there is one the line, that describes it.
    duration
        In seconds; 0 of what cannot be read, as are the next ones.
    sample_rate
        Of the file, in Hz.
    peak
        The loudest sample, in dB below full scale.
    clipped
        Share of the file's samples that are at full scale with a neighbour.
    silence
        Share of the 10 ms frames in which nobody speaks.
    spare_frames
        Output frames that a network of the recipes has for it beyond those that its phones need; below 0 the text is
        too long for the sound.
    sound
        A hash of the samples.
    """

    id: str
    split: str
    speaker: str
    num_phones: int
    fault: str = ""
    place: str = ""
    duration: float = 0.0
    sample_rate: float = 0.0
    peak: float = 0.0
    clipped: float = 0.0
    silence: float = 0.0
    spare_frames: int = 0
    sound: str = ""


@dataclass(frozen=True)
class Report:
    """A corpus that was looked at.

    Attributes
    ----------
    place, form
        Where it is, and the form that was recognised.
    utterances
        Those of train, then dev, then test.
    guessed, unspeakable
        Words that CMUdict lacks, with their counts: those that rules pronounce, and those without a pronunciation. Of
        labels of one's own only the latter are known.
    num_words, num_distinct
        All words, and the different ones.
    foreign
        Characters beyond the English alphabet, with their counts; none where labels are one's own.
    repeated
        Texts of dev or test that are read in train, too.
    """

    place: str
    form: str
    utterances: list[Checked]
    guessed: dict[str, int] | None
    unspeakable: dict[str, int]
    num_words: int
    num_distinct: int
    foreign: dict[str, int]
    repeated: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def check(place: Path, seed: int = 0, said: Transcription = own.ENGLISH) -> Report:
    """Read a corpus and listen to its recordings.

    Parameters
    ----------
    place
        A file or folder in one of the forms of `data_prep.forms`, such as a folder of prepared manifests.
    seed
        Of the splits, as for `asr prepare`.
    said
        How texts become labels.

    Raises
    ------
    CorpusError
        No form is recognised, or a file is malformed.
    """
    place = place.resolve()
    with tempfile.TemporaryDirectory() as folder:
        splits = own.read(place, Path(folder), seed, said)
        found = list(_listen(splits))
    words, characters = Counter[str](), Counter[str]()
    for utterance in itertools.chain.from_iterable(splits.values()):
        words.update(word.lower() for word in said.split(utterance.words))
        characters.update(utterance.words.lower())
    guessed, unspeakable = _unknown(words) if said.in_arpabet and not said.key else (None, _silent(words, said))
    alphabet = ALPHABET if said.in_arpabet else frozenset(characters)
    return Report(
        str(place),
        form_of(place)[0].name,
        found,
        guessed,
        unspeakable,
        words.total(),
        len(words),
        {c: number for c, number in characters.most_common() if c not in alphabet},
        sorted(_repeated_texts(splits)),
    )


def _repeated_texts(splits: Mapping[str, Sequence[Utterance]]) -> set[str]:
    """Return the texts of dev and test, in small letters, that are in train, too."""
    train, *held_out = (splits.get(name, ()) for name in SPLITS)
    later = {utterance.words.lower() for each in held_out for utterance in each if utterance.words}
    return {text for text in (utterance.words.lower() for utterance in train) if text in later}


def _unknown(words: Counter[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the words that CMUdict lacks: those that can be guessed, and those that cannot."""
    guessed, unspeakable = {}, {}
    for word, number in words.most_common():
        try:
            if [by_rules(part) for part in parts_to_guess(word)]:
                guessed[word] = number
        except UnspeakableError:
            unspeakable[word] = number
    return guessed, unspeakable


def _silent(words: Counter[str], said: Transcription) -> dict[str, int]:
    """Return the words that have no labels."""
    found = said.pronounce(words.keys())
    return {word: number for word, number in words.most_common() if isinstance(found[word], str)}


def _listen(splits: Mapping[str, Sequence[Utterance]]) -> Iterator[Checked]:
    """Yield what is found of each utterance; a file is read once for all that are said in it in a row."""
    members = ((split, utterance) for split in SPLITS for utterance in splits.get(split, ()))
    tracked = track(members, "listening", sum(map(len, splits.values())))
    files = (list(group) for _, group in itertools.groupby(tracked, lambda each: (each[1].audio, each[1].channel)))
    with ThreadPoolExecutor() as pool:
        while block := list(itertools.islice(files, 64)):
            for found in pool.map(_of_file, block):
                yield from found


def _of_file(members: Sequence[tuple[str, Utterance]]) -> list[Checked]:
    """Return what is found of the utterances of one file."""
    try:
        samples, sample_rate = _samples(members[0][1])
    except AudioError as error:
        return [_checked(split, utterance, str(error)) for split, utterance in members]
    return [_of_part(split, utterance, samples, sample_rate) for split, utterance in members]


def _samples(utterance: Utterance) -> tuple[np.ndarray, float]:
    """Return the samples (n, c) of an utterance's file, of which 1 is full scale, and their rate."""
    if not utterance.audio.is_file():
        raise AudioError(f"{utterance.audio} {IS_MISSING}")
    with sound_files.opened(utterance.audio) as (file, path):
        try:
            blocks = list(sound_files.blocks(file, path))
        except AudioError as error:
            raise AudioError(f"{utterance.audio}: {error}") from error
    if not sum(len(block) for _, block in blocks):
        raise AudioError(f"{utterance.audio} has no samples")
    samples = np.concatenate([block for _, block in blocks])
    if samples.dtype.kind in "iu":
        samples = samples / np.float32(np.iinfo(samples.dtype).max)
    return samples, blocks[0][0]


def _of_part(split: str, utterance: Utterance, samples: np.ndarray, sample_rate: float) -> Checked:
    try:
        check_duration(utterance, len(samples) / sample_rate)
        part = part_of(utterance, samples, sample_rate)
        waveform = audio.from_array(part, sample_rate, utterance.channel)
        features = FeatureExtractor(_LEVELS)(waveform)
    except (AudioError, CorpusError) as error:
        return _checked(split, utterance, str(error))
    levels, silence = frame_levels(features, _LEVELS)
    at_limit = np.abs(part).max(axis=1) > FULL_SCALE
    return _checked(
        split,
        utterance,
        duration=len(part) / sample_rate,
        sample_rate=sample_rate,
        peak=20 * float(np.log10(max(np.abs(part).max(), 1e-6))),
        clipped=float(np.mean(at_limit[1:] & at_limit[:-1])),
        silence=float(1 - speech_frames(levels, silence).mean()),
        spare_frames=-(-len(features) // STACK) - required_frames(_labels(utterance)),
        sound=hashlib.sha256((32768 * waveform).round().astype(np.int32).tobytes()).hexdigest()[:16],
    )


def _labels(utterance: Utterance) -> list[str]:
    return [phone for word in utterance.phones for phone in word]


def _checked(split: str, utterance: Utterance, fault: str = "", **measured: Any) -> Checked:
    num_phones = len(_labels(utterance))
    fault = fault or ("" if num_phones else NO_PHONES)
    return Checked(utterance.id, split, utterance.speaker, num_phones, fault, utterance.place, **measured)


def lines(report: Report) -> Iterator[str]:
    """Yield what a report says, in lines of text."""
    heard = [each for each in report.utterances if each.duration]
    yield f"{report.place}: {report.form}"
    yield from _table(report.utterances)
    rates = Counter(f"{each.sample_rate:g} Hz" for each in heard)
    yield "sample rates: " + ", ".join(f"{rate} ({count(num, 'utterance')})" for rate, num in rates.most_common())
    share = sum(each.silence * each.duration for each in heard) / max(sum(each.duration for each in heard), 1e-9)
    yield f"silence: {share:.0%} of the time"
    longest = DataConfig.max_duration
    for what, names in {
        f"more than {MOSTLY_SILENT:.0%} silence": [each.id for each in heard if each.silence > MOSTLY_SILENT],
        f"silent, below {INAUDIBLE:g} dB": [each.id for each in heard if each.peak < INAUDIBLE],
        "clipped": [each.id for each in heard if each.clipped > CLIPPED],
        f"longer than data.max_duration, {longest:g} s": [each.id for each in heard if each.duration > longest],
        "text too long for its sound": [each.id for each in heard if each.spare_frames < 0],
    }.items():
        yield f"{what}: {_examples(names)}"
    yield f"words: {report.num_words:,}, of which {report.num_distinct:,} are different"
    if report.guessed is not None:
        yield f"words that CMUdict lacks, pronounced by rule: {_examples(report.guessed)}"
    yield f"words without a pronunciation: {_examples(report.unspeakable)}"
    foreign = ", ".join(f"{c!r} {count(number, 'time')}" for c, number in list(report.foreign.items())[: 2 * SHOWN])
    yield f"characters beyond the alphabet: {foreign or 'none'}"
    yield from _repeated(report, heard)
    faulty = [each for each in report.utterances if each.fault]
    yield f"left out: {count(len(faulty), 'utterance')}" + (":" if faulty else "")
    yield from (f"  {each.id} ({each.place}): {each.fault}" for each in faulty[: 4 * SHOWN])
    if len(faulty) > 4 * SHOWN:
        yield f"  and {len(faulty) - 4 * SHOWN:,} more, which are in check.json"


def _table(utterances: Sequence[Checked]) -> Iterator[str]:
    yield f"{'':6}{'utterances':>12}{'speakers':>10}{'hours':>8}{'seconds each':>14}{'phones a second':>17}"
    for split in SPLITS:
        each = [utterance for utterance in utterances if utterance.split == split]
        heard = [utterance for utterance in each if utterance.duration]
        total = sum(utterance.duration for utterance in heard)
        spoken = sum(utterance.duration for utterance in heard if utterance.num_phones)
        rate = sum(utterance.num_phones for utterance in heard) / spoken if spoken else 0.0
        if each:
            speakers, length = len({utterance.speaker for utterance in each}), total / max(len(heard), 1)
            yield f"{split:6}{len(each):12,}{speakers:10,}{total / 3600:8.2f}{length:14.1f}{rate:17.1f}"


def _examples(names: Collection[str]) -> str:
    """Return how many names there are, and the first of them."""
    shown = ", ".join(itertools.islice(names, SHOWN)) + (", …" if len(names) > SHOWN else "")
    return f"{len(names):,} ({shown})" if names else "none"


def _repeated(report: Report, heard: Sequence[Checked]) -> Iterator[str]:
    """Yield lines about sound and texts that are there twice."""
    same: dict[str, list[Checked]] = defaultdict(list)
    for each in heard:
        same[each.sound].append(each)
    twice = [group for group in same.values() if len(group) > 1]
    across = [group for group in twice if len({each.split for each in group}) > 1]
    for what, groups in (
        ("in two splits", across),
        ("twice in a split", [each for each in twice if each not in across]),
    ):
        pairs = ", ".join(" = ".join(f"{each.id} ({each.split})" for each in group) for group in groups[:SHOWN])
        yield f"the same sound {what}: {f'{len(groups):,}: {pairs}' if groups else 'none'}"
    texts = f"{len(report.repeated):,}, such as {report.repeated[0]!r}" if report.repeated else "none"
    yield f"texts of dev or test that are in train, too: {texts}"
