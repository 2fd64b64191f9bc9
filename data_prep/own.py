"""A corpus of one's own, in any form of `data_prep.forms`: what its files do not say is found or made, and said.

========== ==========================================================================================================
lacking    what is done
========== ==========================================================================================================
speakers   are the folders that the recordings lie in, below those of splits; in one folder there is one speaker
splits     a tenth of the speakers is held out for test and a tenth for dev, at least one each, but not one who says
           most of it; of two speakers one for dev; of one speaker a tenth of the recordings, and with fewer than three
           recordings of the utterances
dev        a tenth of the training speakers
names      are the recordings' without suffix, or their paths where two would be called alike, with the times of a part
phones     are those of the words (`asr.speech.transcription`); an utterance with a word that has none is left out
durations  are read
========== ==========================================================================================================

Phones may be spelled in all ways that `asr.speech.label_spellings` knows; they become ARPAbet's 39, and silences go.
Where labels are one's own, phones stay as they are but for stress, and ``phones.tsv`` beside the manifests lists them.
"""

import logging
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from asr.core.errors import AsrError, CorpusError
from asr.speech import characters, phone_files, phones
from asr.speech.label_folder import LABELS
from asr.speech.label_spellings import ARPABET, Spelling, recognise
from asr.speech.lexicons import without_stress
from asr.speech.segments import Segment
from asr.speech.transcription import Transcription
from data_prep import forms
from data_prep.forms.record import Record, folders_of, is_split
from data_prep.manifests import COPIES, Utterance, hold_out, speaker_of, write_manifests

ENGLISH = Transcription()
SETS = (ARPABET, "timit61")  # that phones are looked for in
SILENCES = {"sil", "sp", "pau", "epi", "h#", "<eps>", "<sil>", "silence", "_"}
UNKNOWN = "spn"  # what aligners write for a word that they have no phones of
_DASHES = re.compile(r"(?<=\w)(?:--+|[—–…])(?=\w)")  # between two words
_BEGINNINGS = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}

log = logging.getLogger(__name__)


def prepare(place: Path, output_dir: Path, seed: int = 0, said: Transcription = ENGLISH) -> None:
    """Write the manifests of a corpus.

    Parameters
    ----------
    place : Path
        A file or folder in one of the forms.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` of train, dev and, if there is one,
        test.
    seed : int
        Of the choice of speakers for splits that the corpus lacks.
    said : Transcription
        How texts become labels.

    Raises
    ------
    CorpusError
        No form is recognised, a file is malformed, or nothing is left to train on.
    """
    unpacked = Path(output_dir).absolute() / COPIES / "unpacked"
    splits = read(Path(place).resolve(), unpacked, seed, said)
    write_manifests(splits, Path(output_dir))
    if said.in_arpabet:
        (Path(output_dir) / LABELS).unlink(missing_ok=True)
    else:
        used = (label for each in splits.values() for one in each for word in one.phones for label in word)
        phone_files.write(Path(output_dir) / LABELS, phone_files.of_labels(used))


def read(place: Path, unpacked: Path, seed: int = 0, said: Transcription = ENGLISH) -> dict[str, list[Utterance]]:
    """Return the utterances of each split. Those without phones are among them, and `write_manifests` leaves them out.

    Parameters
    ----------
    place
        A file or folder in one of the forms.
    unpacked
        Receives recordings that are in no file of their own.
    seed, said
        As for `prepare`.

    Raises
    ------
    CorpusError
        As `prepare`.
    """
    form, root = forms.form_of(place)
    records = list(_in_files(form.read(root), unpacked))
    if not records:
        raise CorpusError(f"{place}, {form.name}, has no utterances: check that the recordings are there")
    log.info("%s: %s, %s", place, form.name, count(len(records), "utterance"))
    records = [replace(each, text=" ".join(_DASHES.sub(" ", each.text).split())) for each in records]
    records = _with_speakers(records, root if root.is_dir() else root.parent)
    names = _names(records)
    _check(records, names)
    utterances = _utterances(records, names, said)
    if not any(record.split for record in records):
        return _made_splits(place, utterances, seed)
    splits: dict[str, list[Utterance]] = {}
    for record, utterance in zip(records, utterances, strict=True):
        splits.setdefault(record.split, []).append(utterance)
    if "train" not in splits:
        raise CorpusError(f"{place} has utterances for {' and '.join(splits)} only: no row is for training")
    if "dev" not in splits:
        splits["train"], splits["dev"] = _held_out(splits["train"], seed, _unit(splits["train"]))
        log.info("%s: no dev split: %s held out of train", place, _counted(splits["dev"]))
    return splits


def _in_files(records: Iterable[Record], folder: Path) -> Iterator[Record]:
    """Write recordings that are bytes to files, each once for all that is said in it."""
    path, before = folder, b""
    for number, record in enumerate(records):
        if isinstance(record.audio, bytes):
            if record.audio is not before:
                path, before = folder / f"{number:07d}{_BEGINNINGS.get(record.audio[:4], '.audio')}", record.audio
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(record.audio)
                changed = zlib.crc32(record.audio) >> 1  # stands for the content, by which features are known again
                os.utime(path, (changed, changed))
            record = replace(record, audio=path)
        yield record


def _with_speakers(records: list[Record], root: Path) -> list[Record]:
    """Return the records with speakers: those of the corpus, or the folders of the recordings."""
    unknown = next((record for record in records if not record.speaker), None)
    if unknown is None:
        return records
    if any(record.speaker for record in records):
        raise CorpusError(f"{unknown.place} has no speaker, and others have one: name it, or none")
    folders = [[name for name in folders_of(_path(record), root) if not is_split(name)] for record in records]
    depth = 0
    while all(len(names) > depth for names in folders) and len({names[depth] for names in folders}) == 1:
        depth += 1  # a folder that all have in common is no speaker's
    found = [
        replace(each, speaker=(names[depth:] or [root.name])[0]) for each, names in zip(records, folders, strict=True)
    ]
    num_speakers = len({record.speaker for record in found})
    if num_speakers > 1:
        log.info("%s: no speakers are named: each of %d folders is taken for one", root, num_speakers)
    else:
        log.info("%s: no speakers are named, and all is in one folder: taken for one speaker", root)
    return found


def _path(record: Record) -> Path:
    assert isinstance(record.audio, Path)
    return record.audio


def _names(records: list[Record]) -> list[str]:
    """Return a name for each record that no other has, if the corpus names none twice."""
    paths = {_path(record) for record in records}
    stems = Counter(path.stem for path in paths)
    root = Path(*_common([path.parent.parts for path in paths]))
    found = []
    for record in records:
        path = _path(record)
        inside = path.relative_to(root).with_suffix("").as_posix().replace("/", "-")
        name = path.stem if stems[path.stem] == 1 else inside
        if record.start or record.end is not None:
            name += f"-{round(1000 * record.start):07d}" + (f"-{round(1000 * record.end):07d}" if record.end else "")
        if record.channel is not None:
            name += f"-{record.channel}"
        found.append(record.id or name)
    return found


def _common(folders: list[tuple[str, ...]]) -> list[str]:
    """Return the names that all paths begin with."""
    found = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        found.append(names[0])
    return found


def _check(records: list[Record], names: list[str]) -> None:
    """Raise CorpusError if two utterances have one name, one has no split, or a speaker of several is in two splits."""
    named: dict[str, str] = {}
    owner: dict[str, Record] = {}
    has_splits = any(record.split for record in records)
    one_voice = len({record.speaker for record in records}) == 1
    for record, name in zip(records, names, strict=True):
        if name in named:
            raise CorpusError(f"{record.place}: {name} is the utterance of {named[name]}, too: take one of them out")
        named[name] = record.place
        if has_splits and not record.split:
            raise CorpusError(f"{record.place} has no split, and others have one: write train, dev or test")
        first = owner.setdefault(record.speaker, record)
        if first.split != record.split and not one_voice:
            where = f"in {record.split}, and in {first.split} in {first.place}"
            raise CorpusError(f"{record.place}: speaker {record.speaker} is {where}: no speaker may be in two splits")


def _utterances(records: list[Record], names: list[str], said: Transcription) -> list[Utterance]:
    """Return the utterances with the phones of each word; the phones that the corpus has are as if of one word.

    A record without phones is named in a warning, and is an utterance without phones.
    """
    given = [_labels(record, said) for record in records]
    shared = dict[str, str]()  # a word is in memory once, however often it is said
    words = [
        () if labels else tuple(shared.setdefault(word, word) for word in said.split(record.text))
        for record, labels in zip(records, given, strict=True)
    ]
    known = said.pronounce({*shared})
    spelling = None
    if said.in_arpabet:
        spelling = recognise(([label for label in each if label != UNKNOWN] for each in given), SETS)
    found = []
    for record, name, labels, its in zip(records, names, given, words, strict=True):
        times: tuple[Segment, ...] = ()
        spelled: tuple[tuple[str, ...], ...] = ()
        fault = next((reason for reason in map(known.__getitem__, its) if isinstance(reason, str)), "")
        if UNKNOWN in labels:
            log.warning("%s has %s, a word of unknown phones", record.place, UNKNOWN)
        elif labels and said.in_arpabet and spelling is None:
            strange = f"{labels[0]!r} and most other labels are no phones of {' or '.join(SETS)}"
            raise CorpusError(f"{record.place}: {strange}: write IPA, or name your phones with data.labels")
        elif labels:
            spelled = (_given_phones(record, labels, spelling),)
            times = _times(record, labels, spelling)
        elif fault:
            log.warning("%s: %s", record.place, fault)
        else:
            spelled = tuple(characters.spell(its) if said.of_characters else map(known.__getitem__, its))  # type: ignore[arg-type]
        found.append(_utterance(record, name, spelled, times, "English" if said.in_arpabet else None))
    return found


def _labels(record: Record, said: Transcription) -> list[str]:
    """Return the phones that the corpus has of an utterance."""
    if said.of_characters:
        return []
    return [label for label in map(_bare, record.phones.split()) if label and label.lower() not in SILENCES]


def _bare(label: str) -> str:
    return without_stress(unicodedata.normalize("NFC", label))


def _given_phones(record: Record, labels: list[str], spelling: Spelling | None) -> tuple[str, ...]:
    try:
        return tuple(_respelled(labels, spelling))
    except AsrError as error:
        raise CorpusError(f"{record.place}: {error}") from error


def _respelled(labels: list[str], spelling: Spelling | None) -> list[str]:
    if spelling is None:  # one's own labels
        return labels
    return phones.fold([phone for label in labels for phone in spelling.respell(label)], spelling.phone_set, ARPABET)


def _times(record: Record, labels: list[str], spelling: Spelling | None) -> tuple[Segment, ...]:
    """Return the times of an utterance's phones; none where a label is not one phone, as TIMIT's closures are not."""
    said = [replace(each, label=_bare(each.label)) for each in record.times]
    said = [each for each in said if each.label and each.label.lower() not in SILENCES]
    respelled = [_respelled([label], spelling) for label in labels]
    if [each.label for each in said] != labels or any(len(each) != 1 for each in respelled):
        return ()
    return tuple(
        Segment(phone, round(each.start - record.start, 7), round(each.end - record.start, 7))
        for each, (phone,) in zip(said, respelled, strict=True)
    )


def _utterance(
    record: Record, name: str, spelled: tuple[tuple[str, ...], ...], times: tuple[Segment, ...], language: str | None
) -> Utterance:
    gender = record.gender[:1].lower()
    return Utterance(
        name,
        _path(record),
        record.text,
        spelled,
        record.speaker,
        gender if gender in ("f", "m") else None,
        start=record.start,
        end=record.end,
        channel=record.channel,
        duration=record.duration,
        times=times,
        language=language,
    )


def _made_splits(place: Path, utterances: list[Utterance], seed: int) -> dict[str, list[Utterance]]:
    """Return splits of a corpus that names none; what cannot be used, and is left out later, is in train."""
    usable, rest = list[Utterance](), list[Utterance]()
    for each in utterances:
        (usable if any(each.phones) and each.audio.is_file() else rest).append(each)
    if len(usable) < 2:
        fault = f"{place} has {count(len(usable), 'utterance')} with sound and phones"
        raise CorpusError(f"{fault}: it needs some to train on, and others for dev")
    unit = _unit(usable)
    splits = {"train": usable}
    if len(set(map(unit, usable))) > 2:
        splits["train"], splits["test"] = _held_out(splits["train"], seed, unit)
    splits["train"], splits["dev"] = _held_out(splits["train"], seed, unit)
    by = (
        "speaker"
        if unit is speaker_of
        else "recording, for there is one speaker: error rates will be those of this voice"
    )
    parts = ", ".join(f"{split} {_counted(splits[split])}" for split in ("train", "dev", "test") if split in splits)
    log.info("%s: no splits are named: %s are made by %s", place, parts, by)
    return {**splits, "train": splits["train"] + rest}


def _held_out(
    utterances: list[Utterance], seed: int, unit: Callable[[Utterance], str]
) -> tuple[list[Utterance], list[Utterance]]:
    """Return what is kept and what is held out, but never more than is kept if one speaker has most of it."""
    kept, held = hold_out(utterances, seed, unit)
    return (kept, held) if len(held) <= len(kept) else hold_out(utterances, seed + 1, unit)


def _unit(utterances: list[Utterance]) -> Callable[[Utterance], str]:
    """Return what splits are made by: the speakers, of one speaker the files, of few files the utterances."""
    if len({utterance.speaker for utterance in utterances}) > 1:
        return speaker_of
    if len({utterance.audio for utterance in utterances}) > 2:
        return lambda utterance: str(utterance.audio)
    return lambda utterance: utterance.id


def _counted(utterances: list[Utterance]) -> str:
    num_speakers = len({utterance.speaker for utterance in utterances})
    return f"{count(len(utterances), 'utterance')} of {count(num_speakers, 'speaker')}"


def count(number: int, what: str) -> str:
    """Return a number of things.

    >>> count(1, "speaker"), count(2000, "speaker")
    ('1 speaker', '2,000 speakers')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"
