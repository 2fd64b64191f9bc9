"""Scores of learners' speech: how well a known text is pronounced, and which phones are wrong.

recording, text ─ align ─▶ phones and words with times ─ PronunciationScorer ─▶ scores ─▶ Pronunciation
"""

import bisect
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from asr.core.errors import AsrError
from asr.models.base import BLANK, Placement, Spellings
from asr.models.ctc import CTCModel
from asr.models.pronunciation import SENTENCE_SCALES, WORD_SCALES, PronunciationScorer, Scores
from asr.models.pronunciation_features import Evidence
from asr.recognition.align import UNHEARD, describe, is_another_text, known_text, read_lexicon, word_confidences
from asr.recognition.annotation import Annotation
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from asr.speech.features import FRAME_SHIFT, HOP_LENGTH
from asr.speech.pronounce import Own
from asr.speech.segments import Segment

GOOD_PHONE, GOOD_WORD, FAIR_WORD = 1.5, 8.0, 6.0  # scores
MARGIN = 0.1  # seconds around the speech
PUT_IN = 4.0  # nats by which a phone that the text lacks must make the sound likelier to be named


@dataclass(frozen=True)
class Mistake:
    """A phone that was not said as the text has it, or a word for which something else was said.

    Attributes
    ----------
    word
        The number of its word, from 0.
    phone
        The number of the phone in the utterance, from 0; of a phone put in, the one that it stands behind; of a word,
        its first one.
    expected
        The phone of the text, or all phones of the word, with blanks between; None for one that was put in.
    heard
        What was said in its place, of a word likewise; None where it was left out.
    start, end
        Seconds in which to listen for it.

    Examples
    --------
    >>> print(Mistake(0, 1, "TH", "S", 0.1, 0.2), Mistake(0, 1, "T", None, 0.1, 0.2), sep="; ")
    said S for TH; left out T
    """

    word: int
    phone: int
    expected: str | None
    heard: str | None
    start: float
    end: float

    def __str__(self) -> str:
        """Say in words what is wrong."""
        if self.expected is None:
            return f"put in {self.heard}"
        if self.heard is None:
            return f"left out {self.expected}"
        return f"said {self.heard} for {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Pronunciation(Annotation):
    """A recording with scores of how its text is pronounced.

    Attributes
    ----------
    words
        As in `Annotation`, always there.
    word_lengths
        The number of phones in each word.
    phone_scores
        Of each phone: 0 for wrong or missing, 1 for a heavy accent, 2 for right; None in words without scores.
    word_scores
        Of each word, by the names of `WORD_SCALES`, 0 to 10; the stress 5 for wrong to 10 for right. None for words
        that are not heard where the text does not fit the recording.
    scores
        Of the utterance, by the names of `SENTENCE_SCALES`, 0 to 10; None where words are heard so badly that
        another text may have been said.
    mistakes
        In the order of the text.
    misfit, guessed
        As in `asr.recognition.align.Alignment`.
    """

    word_lengths: list[int]
    phone_scores: list[float | None]
    word_scores: list[dict[str, float] | None]
    scores: dict[str, float] | None
    mistakes: list[Mistake] = field(default_factory=list)
    misfit: str | None = None
    guessed: list[str] = field(default_factory=list)

    @property
    def ipa(self) -> Self:
        """The same scores with phones, those of mistakes too, in the International Phonetic Alphabet."""

        def spell(labels: str | None) -> str | None:
            return labels and " ".join(map(self._in_ipa, labels.split()))

        mistakes = [replace(each, expected=spell(each.expected), heard=spell(each.heard)) for each in self.mistakes]
        return replace(super().ipa, mistakes=mistakes)

    def grade(self, phone: int) -> str:
        """Return how well a phone is said, by its number: good, fair or wrong."""
        score = self.phone_scores[phone]
        if score is None or any(
            each.expected and 0 <= phone - each.phone < len(each.expected.split()) for each in self.mistakes
        ):
            return "wrong"
        return "good" if score >= GOOD_PHONE else "fair"

    def word_grade(self, word: int) -> str:
        """Return how well a word is said, by its number: wrong where another one was, else by its accuracy."""
        phones, scores = self.word_lengths[word], self.word_scores[word]
        if scores is None or (
            phones > 1
            and any(each.word == word and len((each.expected or "").split()) == phones for each in self.mistakes)
        ):
            return "wrong"
        accuracy = scores["accuracy"]
        return "good" if accuracy >= GOOD_WORD else "fair" if accuracy >= FAIR_WORD else "wrong"

    def word_of(self, phone: int) -> int:
        """Return the number of a phone's word."""
        return bisect.bisect_right(list(itertools.accumulate(self.word_lengths)), phone)

    def to_json(self, path: str | None = None) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it."""
        phones = [
            _row(phone, {"score": score, "grade": self.grade(k)})
            for k, (phone, score) in enumerate(zip(self.phones, self.phone_scores, strict=True))
        ]
        words, rows = [], iter(phones)
        for i, (word, length, scores) in enumerate(
            zip(self.words or (), self.word_lengths, self.word_scores, strict=True)
        ):
            inside = [*itertools.islice(rows, length)]
            row = _row(word, scores or dict.fromkeys(WORD_SCALES))
            words.append(row | {"grade": self.word_grade(i), "phones": inside})
        mistakes = [vars(each) | {"text": str(each)} for each in self.mistakes]
        values: dict[str, Any] = {
            "duration": self.duration,
            "scores": self.scores,
            "misfit": self.misfit,
            "words": words,
            "mistakes": mistakes,
        }
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)


def _row(segment: Segment, scores: dict[str, Any]) -> dict[str, Any]:
    return {"label": segment.label, "start": segment.start, "end": segment.end} | scores


def pronounce(
    recogniser: Recogniser,
    recording: audio.Recording,
    text: str | Sequence[str],
    g2p: bool = True,
    *,
    lexicon: str | Path | Own | None = None,
    sample_rate: float | None = None,
    channel: int | None = None,
) -> Pronunciation:
    """Score how a text is pronounced in a recording.

    Parameters
    ----------
    recogniser
        From `Recogniser.from_pretrained`, of a model whose folder has a scorer of pronunciation.
    recording
        As for `asr.Recogniser.transcribe`.
    text
        What is said: a sentence or so, since fluency and the like are those of the whole recording.
    g2p, lexicon, sample_rate, channel
        As for `asr.align`. Of several pronunciations of a word the one that fits best is scored.

    Raises
    ------
    ModelError
        The model folder has no scorer of pronunciation.
    AsrError
        As for `asr.align`; or the model was not trained with CTC.

    Examples
    --------
    >>> recogniser = Recogniser.from_pretrained("en-us-phones")
    >>> found = pronounce(recogniser, np.zeros(16000, np.float32), "Hello, world!", sample_rate=16000)
    >>> [word.label for word in found.words], found.scores  # of silence
    (['Hello', 'world'], None)
    """
    scorer = recogniser.scorer
    if not isinstance(recogniser.model, CTCModel):
        raise AsrError("pronunciation is scored from CTC posteriors: choose a model that was trained with CTC")
    model, waveform = recogniser.model, audio.load(recording, sample_rate, channel)
    own = lexicon if isinstance(lexicon, Mapping) or lexicon is None else read_lexicon(lexicon, model)
    known, heard = known_text(model, text, None, g2p, own), recogniser.hear(waveform, audio.SAMPLE_RATE)
    placed = model.align(replace(known.spellings, all_said=True), heard.emissions, heard.waveform, heard.name)
    # What a network says depends a little on where its output frames begin: all beginnings are heard.
    phases = round(recogniser.model.frame_shift / FRAME_SHIFT)
    evidence = [hear_speech(recogniser, waveform, placed, phase) for phase in range(phases)]
    found = Scores(*(np.mean(each, axis=0) for each in zip(*map(scorer.score, evidence), strict=True)))
    sure = np.mean([each.confidences for each in evidence], axis=0).tolist()
    phones = [replace(phone, confidence=value) for phone, value in zip(placed.phones, sure, strict=True)]
    placed = replace(placed, phones=phones)
    aligned = describe(model, known, heard, placed)
    # Of another text: a scorer of learners, who say the words of the text, knows no such sound.
    confidences = word_confidences(placed)
    lost = {*np.flatnonzero(np.less(confidences, UNHEARD)).tolist()} if aligned.misfit else set[int]()
    others = lost | {*scorer.other_words(evidence[0], found.words[:, 0])}
    named = dict[int, Mistake]()
    if others:
        named = name_words(sorted(others), evidence[0], recogniser.transcript(heard).phones, scorer.tokens)
    lost &= named.keys()
    faults = [each for each in mistakes(evidence[0], found.phones, scorer) if each.word not in named]
    scored = zip(evidence[0].words.tolist(), found.phones.round(2).tolist(), strict=True)
    return Pronunciation(
        phones=aligned.phones,
        duration=aligned.duration,
        words=aligned.words,
        phone_set=aligned.phone_set,
        sound=aligned.sound,
        word_lengths=placed.word_lengths,
        phone_scores=[None if word in lost else score for word, score in scored],
        word_scores=[None if word in lost else _named(WORD_SCALES, row) for word, row in enumerate(found.words)],
        scores=None if is_another_text(confidences) else _named(SENTENCE_SCALES, found.sentence),
        mistakes=sorted([*faults, *named.values()], key=lambda each: each.phone),
        misfit=aligned.misfit,
        guessed=aligned.guessed,
    )


def hear_speech(recogniser: Recogniser, waveform: np.ndarray, placed: Placement, phase: int = 0) -> Evidence:
    """Hear phones that are placed again, without the silence around them, which would change what the network says.

    Parameters
    ----------
    recogniser
        Of a model that was trained with CTC.
    waveform : (N,)
        The recording at 16 kHz.
    placed
        From its model.
    phase
        How many feature frames later to begin.
    """
    phones, model = placed.phones, cast(CTCModel, recogniser.model)
    start = max(0, round((phones[0].start - MARGIN) * audio.SAMPLE_RATE)) + phase * HOP_LENGTH
    speech = waveform[start : round((phones[-1].end + MARGIN) * audio.SAMPLE_RATE)]
    labels = iter([phone.label for phone in phones])
    words = Spellings([[list(itertools.islice(labels, length))] for length in placed.word_lengths], all_said=True)
    evidence = Evidence.of(model, model.align(words, recogniser.emissions(speech), speech))
    return replace(evidence, times=evidence.times + start / audio.SAMPLE_RATE)


def mistakes(evidence: Evidence, scores: np.ndarray, scorer: PronunciationScorer) -> list[Mistake]:
    """Name the phones that score as wrong, with what is likeliest in their place, and phones that were put in.

    Parameters
    ----------
    evidence
        Of the utterance, L phones.
    scores : (L,)
        Of its phones.
    scorer
        Which gave them.
    """
    tokens, words, found = scorer.tokens, evidence.words, list[Mistake]()
    for i in np.flatnonzero(scores < scorer.wrong).tolist():
        heard, expected = tokens[evidence.heard[i]], tokens[evidence.tokens[i]]
        start, end = evidence.times[i].tolist()
        found.append(Mistake(int(words[i]), i, expected, None if heard == BLANK else heard, start, end))
    gains = evidence.insertions[1:]  # a phone put in before the first one is as often a breath
    for i in np.flatnonzero(gains.max(axis=1) > PUT_IN).tolist():
        start, end = evidence.times[i : i + 2].ravel()[[0, -1]].tolist()
        found.append(Mistake(int(words[i]), i, None, tokens[gains[i].argmax()], start, end))
    return sorted(found, key=lambda each: each.phone)


def name_words(
    words: Sequence[int], evidence: Evidence, said: Sequence[Segment], tokens: Sequence[str]
) -> dict[int, Mistake]:
    """Name what was said in place of words, each by its number, but for those that are heard as the text has them.

    Parameters
    ----------
    words
        Their numbers.
    evidence
        Of the utterance.
    said
        The phones that are heard without the text.
    tokens
        The labels of the model's classes.
    """
    named, times = dict[int, Mistake](), evidence.times
    for word in words:
        first = int(evidence.starts[word])
        last = first + int(evidence.word_lengths[word]) - 1
        low = times[first - 1, 1] if first > 0 else -np.inf
        high = times[last + 1, 0] if last + 1 < len(times) else np.inf
        heard = " ".join(phone.label for phone in said if low <= (phone.start + phone.end) / 2 < high)
        expected = " ".join(tokens[token] for token in evidence.tokens[first : last + 1])
        if heard != expected:
            named[word] = Mistake(word, first, expected, heard or None, float(times[first, 0]), float(times[last, 1]))
    return named


def _named(scales: dict[str, tuple[float, float]], values: np.ndarray) -> dict[str, float]:
    return dict(zip(scales, values.round(1).tolist(), strict=True))
