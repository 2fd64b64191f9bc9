"""Forced alignment: the times of words or phones that are known to be said in a recording.

The model places the phones (`AcousticModel.align`). A dictionary spells the words (`asr.speech.pronounce`), each by
its first pronunciation.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from asr.core.errors import AsrError
from asr.ctc.goodness import goodness
from asr.models.base import AcousticModel, StateAligner
from asr.models.ctc import CTCModel
from asr.recognition.annotation import Annotation
from asr.recognition.recogniser import Recogniser, group_phones
from asr.speech import audio
from asr.speech.pronounce import PUNCTUATION, is_guessed, pronounce
from asr.speech.segments import Segment


@dataclass(frozen=True, kw_only=True)
class Alignment(Annotation):
    """A recording with the times of what is said in it.

    Attributes
    ----------
    words
        As in `Annotation`; empty where only phones were given. The confidence of a word is the product of those of its
        phones (`asr.models.calibration.word_confidence`).
    score
        Natural log probability per output frame of the likeliest path that spells the phones. It compares texts of one
        recording, or finds the recordings of a collection whose text is wrong.
    goodness
        Goodness of pronunciation of each phone; None unless it was asked for.
    states
        The states of an HMM, those of silences too, on the path that the phones are on; empty for other models.
    """

    score: float
    goodness: list[float] | None = None
    states: list[Segment] = field(default_factory=list)

    def tiers(self) -> dict[str, list[Segment]]:
        """Return the rows of segments by name, the longest units first, without empty ones."""
        return {name: tier for name, tier in (super().tiers() | {"states": self.states}).items() if tier}

    def to_json(self, path: str | None = None) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it."""
        rows = [asdict(phone) for phone in self.phones]
        if self.goodness is not None:
            rows = [row | {"goodness": value} for row, value in zip(rows, self.goodness, strict=True)]
        values: dict[str, Any] = {"duration": self.duration, "score": round(self.score, 4)}
        values |= {"words": [asdict(word) for word in self.words or ()], "phones": rows}
        if self.states:
            values["states"] = [{"label": each.label, "start": each.start, "end": each.end} for each in self.states]
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)


def align(
    recogniser: Recogniser,
    recording: audio.Recording,
    words: str | Sequence[str] | None = None,
    phones: str | Sequence[str] | None = None,
    g2p: bool = False,
    with_goodness: bool = False,
    *,
    sample_rate: float | None = None,
    channel: int | None = None,
) -> Alignment:
    """Find the times of known words or phones.

    Parameters
    ----------
    recogniser
        Words need a model of ARPAbet phones (``arpabet39``). Phones may be of any phone set.
    recording
        A path, the bytes of a file, a file object or samples, as for `asr.Recogniser.transcribe`.
    words, phones
        What is said, as a list or separated by blanks. Give one of the two. Phones are labels of the model; those of a
        TIMIT model include silences and closures, which must be given where they occur (``h#`` at both ends).
    g2p
        Use letter-to-sound rules for words that the dictionary lacks.
    with_goodness
        Rate the pronunciation of each phone too (`asr.ctc.goodness.goodness`).
    sample_rate
        Of samples, in Hz: they need it. A file states its own.
    channel
        Which channel to use, counted from 0; None uses their mean.

    Raises
    ------
    AsrError
        Neither or both of words and phones are given, or they are empty; a phone is not one of the model's; words are
        given for a model without ARPAbet; a word is not in the dictionary; goodness is asked of a model without CTC.
    AudioError
        The recording is missing, damaged or too short; it has no such channel; or its rate is not known, or not the one
        given.
    InfeasibleError
        The recording has too few frames for the phones.

    Examples
    --------
    >>> from asr import Recogniser
    >>> recogniser = Recogniser.from_pretrained("en-us-phones")
    >>> aligned = align(recogniser, np.zeros(16000, np.float32), words="Hello, world!", sample_rate=16000)
    >>> [word.label for word in aligned.words], " ".join(phone.label for phone in aligned.phones)
    (['Hello', 'world'], 'HH AH L OW W ER L D')
    """
    if (words is None) == (phones is None):
        raise AsrError("give either the words or the phones that are said")
    model = recogniser.model
    if with_goodness and not isinstance(model, CTCModel):
        raise AsrError("pronunciation is rated from CTC posteriors: choose a model that was trained with CTC")
    spoken = split_words(words) if words is not None else []
    spelled = pronounce_words(model, spoken, g2p)
    labels = list(itertools.chain.from_iterable(spelled)) if words is not None else _split(phones or "")
    _check(model, labels)
    heard, lengths = recogniser.hear(recording, sample_rate, channel), [len(each) for each in spelled]
    found, score = model.align(labels, heard.emissions, heard.waveform, lengths, heard.name)
    states = []
    if isinstance(model, StateAligner):
        states = model.align_states(labels, heard.emissions, lengths, heard.name)
    rated = None
    if with_goodness:
        tokens = np.array([model.tokens.index(label) for label in labels])
        rated = goodness(heard.emissions, tokens).round(3).tolist()
    return Alignment(
        phones=found,
        duration=heard.duration,
        words=group_phones(found, spoken, lengths),
        score=score / len(heard.emissions),
        goodness=rated,
        states=states,
        phone_set=model.config.data.labels,
        sound=heard.sound,
    )


def split_words(text: str | Sequence[str]) -> list[str]:
    """Split a text into words, and strip the punctuation at their edges.

    >>> split_words("(Yes), said Tom O’Neil - ‘twas the well-known.")
    ['Yes', 'said', 'Tom', "O'Neil", "'twas", 'the', 'well-known']
    """
    plain = (part.replace("‘", "'").replace("’", "'").strip(PUNCTUATION) for part in _split(text))
    return [word for word in plain if any(character.isalnum() for character in word)]


def pronounce_words(model: AcousticModel, words: Iterable[str], g2p: bool = False) -> list[list[str]]:
    """Return the phones of each word: from the dictionary, or with `g2p` from rules where the dictionary lacks it.

    Raises
    ------
    AsrError
        The model's labels are not ARPAbet's, or a word is not in the dictionary.
    """
    words = list(words)
    if words and "AH" not in model.tokens:
        raise AsrError("words can be aligned by a model of ARPAbet phones only: choose one, or give the phones")
    unknown = [] if g2p else [word for word in dict.fromkeys(words) if is_guessed(word)]
    if unknown:
        listed = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise AsrError(f"not in the dictionary: {listed}: correct the spelling, or let rules pronounce it (--g2p)")
    return [pronounce(word) for word in words]


def _split(text: str | Sequence[str]) -> list[str]:
    return text.split() if isinstance(text, str) else list(text)


def _check(model: AcousticModel, labels: Sequence[str]) -> None:
    """Raise AsrError unless there are labels and all of them are the model's."""
    if not labels:
        raise AsrError("the text is empty: give the words or phones that are said")
    for place, label in enumerate(labels, start=1):
        if label not in model.tokens[1:]:
            raise AsrError(
                f"phone {label!r} at position {place} of {len(labels)} is not one of the model's: "
                f"it knows {' '.join(model.tokens[1:])}"
            )
