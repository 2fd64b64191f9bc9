"""From a record to an utterance with labels: those that the corpus has, respelt, or those of its words."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from asr.core.errors import AsrError, CorpusError
from asr.speech import characters, phones
from asr.speech.characters import BOUNDARY
from asr.speech.label_spellings import ARPABET, recognise
from asr.speech.lexicons import without_stress
from asr.speech.pronounce import is_known
from asr.speech.segments import Segment
from asr.speech.transcription import Transcription
from data_prep.forms.record import Record
from data_prep.manifests import Utterance

SETS = (ARPABET, "timit61")  # that phones are looked for in
SILENCES = {"sil", "sp", "pau", "epi", "h#", "<eps>", "<sil>", "silence", "_", "nsn", "<p:>"}
UNKNOWN = "spn"  # what aligners write for a word that they have no phones of
FEW = 10  # words that CMUdict may lack, without a word about it

log = logging.getLogger(__name__)


def labels_of(record: Record, said: Transcription) -> list[str]:
    """Return the labels that the corpus has of an utterance, without stress and silences; letters are none."""
    labels = record.phones.split()
    if said.of_characters or BOUNDARY in labels:
        return []
    found = (UNKNOWN if label.lower() in (UNKNOWN, "<unk>") else _bare(label) for label in labels)
    return [label for label in found if label and label.lower() not in SILENCES]


def _bare(label: str) -> str:
    return without_stress(unicodedata.normalize("NFC", label))


class Found(Protocol):
    """What is known of all records: their different words, and how often they have each label."""

    words: Collection[str]
    labels: Counter[str]


class Speller:
    """Turns records into utterances.

    Parameters
    ----------
    said
        How texts become labels.
    found
        The words, which are pronounced together, and the labels, by which their spelling is recognised.
    """

    def __init__(self, said: Transcription, found: Found):
        self._said = said
        self._known = said.pronounce(found.words)
        if said.in_arpabet and not said.key:
            lacking = [word for word in found.words if not is_known(word)]
            if len(lacking) >= FEW and 2 * len(lacking) > len(found.words):
                much = f"{len(lacking)} of {len(found.words)} words, such as {', '.join(lacking[:3])}"
                mend = "for another language name its phones in a recipe with data.lexicon or data.g2p"
                log.warning("CMUdict lacks %s, and they are pronounced as English: %s", much, mend)
        self._spelling = recognise([found.labels.elements()], SETS) if said.in_arpabet else None

    def utterance(self, record: Record, name: str, speaker: str) -> Utterance:
        """Return the utterance of a record with the phones of each word; phones of the corpus are as if of one word.

        A record without phones is named in a warning, and is an utterance without phones.

        Raises
        ------
        CorpusError
            Its labels are no phones.
        """
        assert isinstance(record.audio, Path)
        gender = record.gender[:1].lower()
        labels = labels_of(record, self._said)
        return Utterance(
            name,
            record.audio,
            record.text,
            self._given(record, labels) if labels else self._spelled(record),
            speaker,
            gender if gender in ("f", "m") else None,
            start=record.start,
            end=record.end,
            channel=record.channel,
            duration=record.duration,
            times=() if UNKNOWN in labels else self._times(record, labels),
            language="English" if self._said.in_arpabet else None,
            place=record.place,
        )

    def _spelled(self, record: Record) -> tuple[tuple[str, ...], ...]:
        """Return the phones of each word, or none if a word has none."""
        words = self._said.split(record.text)
        found = [self._known[word] for word in words]
        fault = next((reason for reason in found if isinstance(reason, str)), "")
        if fault:
            log.warning("%s: %s", record.place, fault)
            return ()
        return tuple(characters.spell(words) if self._said.of_characters else found)  # type: ignore[arg-type]

    def _given(self, record: Record, labels: list[str]) -> tuple[tuple[str, ...], ...]:
        """Return the phones that the corpus has, or none if it does not know some."""
        if UNKNOWN in labels:
            log.warning("%s has %s, a word of unknown phones", record.place, UNKNOWN)
            return ()
        if self._said.in_arpabet and self._spelling is None:
            strange = f"{labels[0]!r} and most other labels are no phones of {' or '.join(SETS)}"
            mend = "take data.labels=auto in a recipe, and --lexicon none in asr data check"
            raise CorpusError(f"{record.place}: {strange}: for phones of other languages {mend}")
        try:
            return (tuple(self._respelled(labels)),)
        except AsrError as error:
            raise CorpusError(f"{record.place}: {error}: mend it, or name your phones with data.labels") from error

    def _respelled(self, labels: list[str]) -> list[str]:
        spelling = self._spelling
        if spelling is None:  # one's own labels
            return labels
        spelt = [phone for label in labels for phone in spelling.respell(label)]
        return phones.fold(spelt, spelling.phone_set, ARPABET)

    def _times(self, record: Record, labels: list[str]) -> tuple[Segment, ...]:
        """Return the times of an utterance's phones; none where a label is not one phone, as TIMIT's closures."""
        said = [replace(each, label=_bare(each.label)) for each in record.times]
        said = [each for each in said if each.label and each.label.lower() not in SILENCES]
        if not said or [each.label for each in said] != labels:
            return ()
        respelled = [self._respelled([label]) for label in labels]
        if any(len(each) != 1 for each in respelled):
            return ()
        return tuple(
            Segment(phone, round(each.start - record.start, 7), round(each.end - record.start, 7))
            for each, (phone,) in zip(said, respelled, strict=True)
        )
