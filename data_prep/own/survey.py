"""What must be known of all records of a corpus before one of them becomes an utterance, and of all utterances after.

N is the number of records.
"""

import logging
import unicodedata
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from asr.core.errors import CorpusError
from asr.speech.transcription import Transcription
from data_prep.forms.record import Record, folders_of, is_split
from data_prep.manifests import Utterance
from data_prep.own.labels import UNKNOWN, labels_of
from data_prep.stored import first_repeated

log = logging.getLogger(__name__)


def path_of(record: Record) -> Path:
    """Return the recording of a record that is in a file."""
    assert isinstance(record.audio, Path)
    return record.audio


class Survey:
    """What all records have in common, and which words and labels they have.

    Parameters
    ----------
    root
        The folder of the corpus.
    said
        How texts become labels.

    Attributes
    ----------
    words
        The different words of records without labels.
    labels
        How often the records have each label.
    """

    def __init__(self, root: Path, said: Transcription):
        self._root, self._said = root, said
        self._words, self.labels = dict[str, None](), Counter[str]()
        self.words: Collection[str] = self._words
        self._paths, self._stems = array("q"), array("q")
        self._above: Sequence[str] | None = None  # folders that all recordings lie in
        self._shared: Sequence[str] | None = None  # and those of the corpus
        self._without_speaker, self._has_speakers = "", False

    def noting(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records, which are looked at as they come.

        Raises
        ------
        CorpusError
            Some records have a speaker, and one has none.
        """
        for record in records:
            path = path_of(record)
            self._paths.append(hash(str(path)))
            self._stems.append(hash(path.stem))
            self._above = _common(self._above, path.parent.parts)
            self._note_speaker(record)
            labels = labels_of(record, self._said)
            self.labels.update(label for label in labels if label != UNKNOWN)
            if not labels:
                self._words.update(dict.fromkeys(self._said.split(record.text)))
            yield record
        if self._without_speaker and self._has_speakers:
            raise CorpusError(f"{self._without_speaker} has no speaker, and others have one: name it, or none")

    def _note_speaker(self, record: Record) -> None:
        if record.speaker:
            self._has_speakers = True
        elif not self._has_speakers:
            self._shared = _common(self._shared, self._folders(record))
        if not record.speaker and not self._without_speaker:
            self._without_speaker = record.place

    def _folders(self, record: Record) -> list[str]:
        return [name for name in folders_of(path_of(record), self._root) if not is_split(name)]

    def speaker(self, record: Record) -> str:
        """Return the speaker: that of the corpus, or the folder below those in which all recordings lie."""
        folder = (self._folders(record)[len(self._shared or ()) :] or [self._root.name])[0]
        return record.speaker or unicodedata.normalize("NFC", folder)

    def tell_speakers(self, number: int) -> None:
        """Say whom folders were taken for, if the corpus names no speakers."""
        if self._has_speakers:
            return
        if number > 1:
            log.info("%s: no speakers are named: each of %d folders is taken for one", self._root, number)
        else:
            log.info("%s: no speakers are named, and all is in one folder: taken for one speaker", self._root)

    def name(self, record: Record) -> str:
        """Return a name that no other record has, if the corpus names none twice."""
        if record.id:
            return record.id
        path = path_of(record)
        if self._is_alone(path.stem):
            name = path.stem
        else:
            name = path.relative_to(Path(*self._above or ())).with_suffix("").as_posix().replace("/", "-")
        if record.start or record.end is not None:
            name += f"-{round(1000 * record.start):07d}" + (f"-{round(1000 * record.end):07d}" if record.end else "")
        name = unicodedata.normalize("NFC", name)
        return name if record.channel is None else f"{name}-{record.channel}"

    def _is_alone(self, stem: str) -> bool:
        """Tell whether no two recordings have this name without their folders and suffixes."""
        place = np.searchsorted(self._repeated_stems, hash(stem))
        return not np.array_equal(self._repeated_stems[place : place + 1], [hash(stem)])

    @cached_property
    def _repeated_stems(self) -> np.ndarray:
        """Hashes, in ascending order, of the names that several recordings have in their folders."""
        _, first = np.unique(np.array(self._paths, np.int64), return_index=True)
        stems, counts = np.unique(np.array(self._stems, np.int64)[first], return_counts=True)
        return stems[counts > 1]


def _common(names: Sequence[str] | None, others: Sequence[str]) -> Sequence[str]:
    """Return what two paths begin with; None stands for no path yet."""
    if names is None or names == others:
        return others
    same = 0
    while same < min(len(names), len(others)) and names[same] == others[same]:
        same += 1
    return names[:same]


class Columns:
    """What is kept in memory of each utterance, in their order.

    Attributes
    ----------
    split_names
        The splits in the order in which they occur, and a number for each; without splits, nothing's is 0.
    splits : (N,) int8
        The number of each utterance's split.
    speakers : (N,) int32
        That of its speaker.
    files : (N,) int64
        A hash of its recording's path.
    is_usable : (N,) bool
        Whether it has phones and a recording, or a split.
    speaker_names, genders
        The speakers by their numbers.
    """

    def __init__(self) -> None:
        self.split_names, self.speaker_names = dict[str, int](), dict[str, int]()
        self.genders: list[str] = []
        self._names, self._files = array("q"), array("q")
        self._splits, self._speakers, self._usable = array("b"), array("i"), array("b")

    def noting(self, pairs: Iterable[tuple[Record, Utterance]]) -> Iterator[Utterance]:
        """Yield the utterances, which are looked at as they come."""
        for record, utterance in pairs:
            is_usable = bool(record.split) or (any(utterance.phones) and utterance.audio.is_file())
            speaker = self.speaker_names.setdefault(utterance.speaker, len(self.speaker_names))
            if speaker == len(self.genders):
                self.genders.append("")
            if is_usable:
                self.genders[speaker] = utterance.gender or ""
            self._names.append(hash(utterance.id))
            self._splits.append(self.split_names.setdefault(record.split, len(self.split_names)))
            self._speakers.append(speaker)
            self._files.append(hash(str(utterance.audio)))
            self._usable.append(is_usable)
            yield utterance
        self.splits, self.speakers = np.array(self._splits, np.int8), np.array(self._speakers, np.int32)
        self.files, self.is_usable = np.array(self._files, np.int64), np.array(self._usable, bool)

    @property
    def num_speakers(self) -> int:
        """How many speakers there are."""
        return len(self.speaker_names)

    def of_split(self, name: str) -> np.ndarray:
        """Return the numbers (n,) of the utterances of a split."""
        return np.flatnonzero(self.splits == self.split_names[name])

    def check(self, records: Sequence[Record], utterances: Sequence[Utterance]) -> None:
        """Raise CorpusError if two utterances have one name, one has no split, or a speaker of several is in two.

        The first fault counts.
        """
        found = [fault for fault in (self._twice(records, utterances), self._split(records)) if fault is not None]
        if self.num_speakers > 1:
            found += [fault for fault in (self._in_two_splits(records),) if fault is not None]
        if found:
            _, reason = min(found, key=lambda fault: fault[0])
            raise CorpusError(reason)

    def _twice(self, records: Sequence[Record], utterances: Sequence[Utterance]) -> tuple[int, str] | None:
        twice = first_repeated(np.array(self._names, np.int64), lambda number: utterances[number].id)
        if twice is None:
            return None
        first, second = twice
        also = f"{utterances[second].id} is the utterance of {records[first].place}, too"
        return second, f"{records[second].place}: {also}: take one of them out"

    def _split(self, records: Sequence[Record]) -> tuple[int, str] | None:
        if "" not in self.split_names or len(self.split_names) == 1:
            return None
        number = int(self.of_split("")[0])
        return number, f"{records[number].place} has no split, and others have one: write train, dev or test"

    def _in_two_splits(self, records: Sequence[Record]) -> tuple[int, str] | None:
        _, first = np.unique(self.speakers, return_index=True)
        others = np.flatnonzero(self.splits != self.splits[first[self.speakers]])
        if len(others) == 0:
            return None
        number = int(others[0])
        record, owner = records[number], records[int(first[self.speakers[number]])]
        speaker = [*self.speaker_names][self.speakers[number]]
        where = f"in {record.split}, and in {owner.split} in {owner.place}"
        return number, f"{record.place}: speaker {speaker} is {where}: no speaker may be in two splits"
