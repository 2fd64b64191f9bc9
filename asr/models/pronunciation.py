"""The scorer of pronunciation in a model folder: from what the network says of an utterance to experts' scores.

    Evidence ─ trees ─▶ score of each phone ─ linear ─▶ of each word ─ linear ─▶ of the utterance

A model folder keeps it as ``pronunciation.safetensors``, trained by `asr train-scorer` on experts' scores of learners'
speech, for the acoustic model beside it alone. Scales are those of speechocean762 (J. Zhang et al., Interspeech 2021).

Letters: L phones, W words, C classes, F features, K scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from asr.core.errors import ModelError
from asr.core.files import read_tensors, write_tensors
from asr.models.boosted_trees import BoostedTrees
from asr.models.pronunciation_features import Evidence, phone_features, sentence_features, vowels, word_features

FILE, FIGURES = "pronunciation.safetensors", "pronunciation.json"
BEST_PHONE = 2.0
WORD_SCALES = {"accuracy": (0.0, 10.0), "stress": (5.0, 10.0), "total": (0.0, 10.0)}
SENTENCE_SCALES = dict.fromkeys(("accuracy", "fluency", "completeness", "prosodic", "total"), (0.0, 10.0))


class Scores(NamedTuple):
    """Scores of an utterance.

    Attributes
    ----------
    phones : (L,)
        0 for wrong or missing, 1 for a heavy accent, `BEST_PHONE` for right.
    words : (W, K)
        In the order of `WORD_SCALES`, within these.
    sentence : (K,)
        In the order of `SENTENCE_SCALES`, within these.
    """

    phones: np.ndarray
    words: np.ndarray
    sentence: np.ndarray


@dataclass(frozen=True, eq=False)
class Linear:
    """Linear regressions on features that are kept within the range that they had in training.

    Attributes
    ----------
    low, high : (F,)
        The range.
    weights : (F + 1, K)
        The last row is added.
    """

    low: np.ndarray
    high: np.ndarray
    weights: np.ndarray

    def predict(self, rows: np.ndarray, scales: Mapping[str, tuple[float, float]]) -> np.ndarray:
        """Return (N, K) for rows (N, F), within the scales.

        >>> halves = Linear(np.array([0.0]), np.array([4.0]), np.array([[0.5], [1.0]]))
        >>> halves.predict(np.array([[2.0], [9.0]]), {"total": (0.0, 2.5)}).tolist()
        [[2.0], [2.5]]
        """
        low, high = np.array([*scales.values()]).T
        return (np.clip(rows, self.low, self.high) @ self.weights[:-1] + self.weights[-1]).clip(low, high)


def curved(sums: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Return scores (L,) in 0..2 from the trees' sums (L,): what they lack of 2, raised to a power, times a factor.

    >>> curved(np.array([2.1, 1.0, 0.0]), np.array([0.5, 2.0])).tolist()
    [2.0, 1.5, 0.0]
    """
    factor, power = curve
    return (BEST_PHONE - factor * np.maximum(BEST_PHONE - sums, 0) ** power).clip(0, BEST_PHONE)


@dataclass(frozen=True, eq=False)
class PronunciationScorer:
    """Turns evidence of an utterance into scores.

    Attributes
    ----------
    tokens : (C,)
        The labels of the acoustic model's classes.
    trees
        The score of a phone.
    curve : (2,)
        Factor and exponent of what the trees' sums lack of `BEST_PHONE` (`curved`). The network has heard the speakers
        on whom the trees were trained, and is surer of them than of others; the curve is fitted on others.
    lengths, usual : (C,)
        Mean log duration and mean score of each phone.
    words, sentence
        The scores of words and sentences.
    wrong
        The score below which a phone counts as mispronounced: there detection was best on the dev speakers.
    """

    tokens: tuple[str, ...]
    trees: BoostedTrees
    curve: np.ndarray
    lengths: np.ndarray
    usual: np.ndarray
    words: Linear
    sentence: Linear
    wrong: float

    @classmethod
    def load(cls, folder: Path, tokens: tuple[str, ...]) -> Self:
        """Read the scorer in a model folder.

        Raises
        ------
        ModelError
            There is none, it is damaged, or it was trained for a model with other labels than `tokens`.
        """
        path = folder / FILE
        if not path.is_file():
            raise ModelError(f"{folder} has no scorer of pronunciation: train one with asr train-scorer {folder}")
        tensors, notes = read_tensors(path)
        if notes.get("tokens", "").split() != [*tokens]:
            raise ModelError(f"{path} is of a model with other labels: train it again with asr train-scorer {folder}")
        try:
            linear = [
                Linear(*(tensors[f"{name}.{part}"] for part in ("low", "high", "weights")))
                for name in ("words", "sentence")
            ]
            curve, lengths, usual = (tensors[name] for name in ("curve", "lengths", "usual"))
            wrong = float(tensors["wrong"][0])
            return cls(tokens, BoostedTrees.of(tensors), curve, lengths, usual, linear[0], linear[1], wrong)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"{path} is damaged ({error!r}): copy or train it again") from error

    def save(self, folder: Path, notes: dict[str, str]) -> None:
        """Write the scorer into a model folder, with notes on how it came about."""
        tensors = self.trees.tensors() | {"curve": self.curve, "lengths": self.lengths, "usual": self.usual}
        for name, linear in (("words", self.words), ("sentence", self.sentence)):
            tensors |= {f"{name}.{part}": getattr(linear, part) for part in ("low", "high", "weights")}
        tensors["wrong"] = np.array([self.wrong])
        write_tensors(
            folder / FILE,
            {name: each.astype(np.float32) if each.dtype == np.float64 else each for name, each in tensors.items()},
            {"tokens": " ".join(self.tokens)} | notes,
        )

    @cached_property
    def is_vowel(self) -> np.ndarray:
        """Whether each class is a vowel (C,)."""
        return vowels(self.tokens)

    def score(self, evidence: Evidence) -> Scores:
        """Return the scores of an utterance."""
        rows = phone_features(evidence, self.is_vowel, self.lengths, self.usual)
        phones = curved(self.trees.predict(rows), self.curve)
        words = self.words.predict(word_features(evidence, self.is_vowel, self.usual, phones), WORD_SCALES)
        of_sentence = sentence_features(evidence, self.is_vowel, phones, words[:, 0])
        return Scores(phones, words, self.sentence.predict(of_sentence[None], SENTENCE_SCALES)[0])
