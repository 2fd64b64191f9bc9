"""What recognition and alignment have in common: labels of one recording with their times.

Recogniser.transcribe ─▶ Transcript ┐
                                    ├ Annotation ─ render ─▶ text, JSON, CTM, TextGrid, subtitles, tables
align ─▶ Alignment ─────────────────┘           └─ notebook ─▶ sound, spectrogram and labels as HTML
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from asr.core.errors import AudioError
from asr.recognition import notebook
from asr.speech import label_files, phones
from asr.speech.segments import Segment


@dataclass(frozen=True)
class Annotation(ABC):
    """The phones of a recording, and its words where they are known.

    Attributes
    ----------
    phones
        In order. They do not overlap, and only a pause separates two neighbours (see `asr.models.times`).
    duration
        Length of the recording in seconds.
    words
        The same phones grouped into words; None where no words are known.
    phone_set
        The phone set that the labels belong to, or "ipa".
    sound
        Returns the waveform (N,) at 16 kHz. A notebook plays and draws it. None for a recording that is longer than
        `asr.recognition.notebook.LONGEST`, and for an annotation that was made by hand.
    """

    phones: list[Segment]
    duration: float
    words: list[Segment] | None = None
    phone_set: str = field(default="arpabet39", kw_only=True)
    sound: Callable[[], np.ndarray] | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def ipa(self) -> Self:
        """The same annotation with its phones in the International Phonetic Alphabet, those of unknown words, too."""
        spelt = [replace(phone, label=self._in_ipa(phone.label)) for phone in self.phones]
        words = self.words and [replace(word, label=self._word_in_ipa(word.label)) for word in self.words]
        return replace(self, phones=spelt, words=words, phone_set="ipa")

    def _in_ipa(self, label: str) -> str:
        return label if self.phone_set == "ipa" else phones.ipa(label, self.phone_set)

    def _word_in_ipa(self, word: str) -> str:
        """Return a word as it is, or the phones in brackets that stand for an unknown word in IPA."""
        if self.phone_set == "ipa" or not (word.startswith("[") and word.endswith("]")):
            return word
        labels = word[1:-1].split()
        is_spelling = not {*labels} <= {*phones.PhoneSet.load(self.phone_set).labels}
        return word if is_spelling else f"[{' '.join(map(self._in_ipa, labels))}]"

    def tiers(self) -> dict[str, list[Segment]]:
        """Return the rows of segments by name, the longest units first."""
        return ({} if self.words is None else {"words": self.words}) | {"phones": self.phones}

    def to_textgrid(self) -> str:
        """Return a TextGrid, Praat's file format, with one interval tier for each of `tiers`."""
        return label_files.to_textgrid(self.tiers(), self.duration)

    @abstractmethod
    def to_json(self, path: str | None = None) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the sound to play, its spectrogram, and the labels below."""
        try:
            waveform = None if self.sound is None else self.sound()
        except AudioError:  # the file was moved, deleted or changed
            waveform = None
        return notebook.html(self.tiers(), self.duration, waveform)


def group_phones(
    phones: Sequence[Segment],
    words: Sequence[str],
    lengths: Sequence[int],
    confidence: Callable[[Sequence[float]], float],
) -> list[Segment]:
    """Return words as segments, each of which begins with its first phone and ends with its last one.

    A word without phones is not said: it has no length, stands at the end of the word before, and its confidence is 0.

    Parameters
    ----------
    phones
        Of all words, in order.
    words, lengths
        The label of each word and the number of its phones.
    confidence
        Returns the confidence of a word from those of its phones.

    Examples
    --------
    >>> phones = [Segment("HH", 0.1, 0.2, 0.5), Segment("AY", 0.2, 0.4, 0.5)]
    >>> group_phones(phones, ["hi"], [2], min)
    [Segment(label='hi', start=0.1, end=0.4, confidence=0.5)]
    """
    found, ends, at = list[Segment](), itertools.accumulate(lengths), 0.0
    for word, length, end in zip(words, lengths, ends, strict=True):
        if length == 0:
            found.append(Segment(word, at, at, 0.0))
            continue
        part = phones[end - length : end]
        at = part[-1].end
        sure = confidence([each.confidence or 0.0 for each in part])
        found.append(Segment(word, part[0].start, at, round(sure, 3)))
    return found
