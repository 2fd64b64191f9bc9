"""What forced alignment finds in a recording (`asr.recognition.align`)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

from asr.recognition.annotation import Annotation
from asr.speech.segments import Segment


class Variant(NamedTuple):
    """What was chosen for a word.

    Attributes
    ----------
    spoken
        The words that were said for it; None where it is read as it is written and in no other way.
    pronunciation
        Its phones, with blanks between; None where only one pronunciation was tried.
    """

    spoken: str | None
    pronunciation: str | None


@dataclass(frozen=True, kw_only=True)
class Alignment(Annotation):
    """A recording with the times of what is said in it.

    Attributes
    ----------
    words
        As in `Annotation`; empty where only phones were given. The confidence of a word is the product of those of its
        phones (`asr.models.calibration.aligned_confidence`). A word that is not said has no phones and no length: it
        stands at the end of the word before it, with confidence 0.
    score
        Natural log probability per output frame of the likeliest path that spells the phones. It compares texts of one
        recording, or finds the recordings of a collection whose text is wrong.
    goodness
        Goodness of pronunciation of each phone; None unless it was asked for.
    states
        The states of an HMM, those of silences too, on the path that the phones are on; empty for other models.
    unspoken
        Starts and ends of speech that the text lacks; models that were not trained with CTC find none.
    misfit
        Where text and recording differ, in a line; None where the text fits.
    variants
        What was chosen for each word, in order, where there was a choice; empty where only phones were given.
    unsaid
        The numbers of the words that are not said, from 0; models that were not trained with CTC find none.
    sentences
        The sentences of the text (`asr.speech.sentences`), each from its first word that is said to its last one;
        empty where no text was given.
    syllables
        The syllables of words of ARPAbet phones (`asr.speech.syllables`), with blanks between their phones.
    guessed
        The words whose sound was guessed from their letters, each once.
    """

    score: float
    goodness: list[float] | None = None
    states: list[Segment] = field(default_factory=list)
    unspoken: list[tuple[float, float]] = field(default_factory=list)
    misfit: str | None = None
    variants: list["Variant"] = field(default_factory=list)
    unsaid: list[int] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    sentences: list[Segment] = field(default_factory=list)
    syllables: list[Segment] = field(default_factory=list)

    @property
    def ipa(self) -> Self:
        """The same alignment with phones, syllables and pronunciations in the International Phonetic Alphabet."""

        def spell(labels: str) -> str:
            return " ".join(map(self._in_ipa, labels.split()))

        syllables = [replace(each, label=spell(each.label)) for each in self.syllables]
        variants = [
            each._replace(pronunciation=each.pronunciation and spell(each.pronunciation)) for each in self.variants
        ]
        return replace(super().ipa, syllables=syllables, variants=variants)

    def tiers(self) -> dict[str, list[Segment]]:
        """Return words, phones and an HMM's states by their names, without empty ones."""
        return self.chosen_tiers(("words", "phones"))

    def chosen_tiers(self, names: Sequence[str]) -> dict[str, list[Segment]]:
        """Return some of sentences, words, syllables and phones by their names, and an HMM's states."""
        known = {"sentences": self.sentences, "syllables": self.syllables, "states": self.states, **super().tiers()}
        return {name: known[name] for name in (*names, "states") if known[name]}

    def to_json(self, path: str | None = None, with_unspoken: bool = False) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it.

        Speech that the text lacks is left out unless it is asked for.
        """
        rows = [asdict(phone) for phone in self.phones]
        if self.goodness is not None:
            rows = [row | {"goodness": value} for row, value in zip(rows, self.goodness, strict=True)]
        values: dict[str, Any] = {"duration": self.duration, "score": round(self.score, 4)}
        words = [asdict(word) for word in self.words or ()]
        for word, variant in zip(words, self.variants, strict=False):
            word |= {key: value for key, value in variant._asdict().items() if value is not None}
        for number in self.unsaid:
            words[number]["said"] = False
        values |= {"words": words, "phones": rows}
        values |= {
            name: [asdict(each) for each in several]
            for name, several in (("sentences", self.sentences), ("syllables", self.syllables))
            if several
        }
        if with_unspoken:
            values["unspoken"] = [{"start": start, "end": end} for start, end in self.unspoken]
        if self.states:
            values["states"] = [{"label": each.label, "start": each.start, "end": each.end} for each in self.states]
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)
