"""The scorer of pronunciation in a model folder: from what the network says of an utterance to experts' scores.

    Evidence ─ trees ─▶ score of each phone ─ linear ─▶ of each word ─ linear ─▶ of the utterance

A model folder keeps it as ``pronunciation.safetensors``, trained by `asr train-scorer` on experts' scores of learners'
speech, for the acoustic model beside it alone; ``pronunciation.json`` has its limits for words, and its figures. Scales
are those of speechocean762 (J. Zhang et al., Interspeech 2021).

Letters: L phones, W words, C classes, F features, K scores.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from asr.core.errors import ModelError
from asr.core.files import as_json, read_tensors, write_tensors, write_text
from asr.models.boosted_trees import BoostedTrees
from asr.models.pronunciation_features import Evidence, phone_features, sentence_features, vowels, word_features

FILE, FIGURES = "pronunciation.safetensors", "pronunciation.json"
BEST_PHONE = 2.0
FEWEST_PHONES = 2  # of a word for which something else may be found
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


class Limits(NamedTuple):
    """Something else was said for a word where both its numbers lie below these.

    Attributes
    ----------
    goodness
        The mean log probability of the word's phones (`Evidence.word_goodness`).
    accuracy
        The score of the word, 0 to 10.
    """

    goodness: float
    accuracy: float


NEVER = Limits(-np.inf, 0.0)


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
    limits
        For words for which something else was said, chosen on the dev speakers.
    """

    tokens: tuple[str, ...]
    trees: BoostedTrees
    curve: np.ndarray
    lengths: np.ndarray
    usual: np.ndarray
    words: Linear
    sentence: Linear
    wrong: float
    limits: Limits = NEVER

    @classmethod
    def load(cls, folder: Path, tokens: tuple[str, ...]) -> Self:
        """Read the scorer in a model folder.

        Raises
        ------
        ModelError
            There is none, it is damaged or lacks its limits, or it was trained for a model with other labels than
            `tokens`.
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
            found = cls(tokens, BoostedTrees.of(tensors), curve, lengths, usual, linear[0], linear[1], wrong)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"{path} is damaged ({error!r}): copy or train it again") from error
        path = folder / FIGURES
        try:
            kept = json.loads(path.read_text(encoding="utf8"))["limits"]
            limits = Limits(*(float(kept[name]) for name in Limits._fields))
            if not np.isfinite(limits).all():
                raise ValueError(f"{limits} are no numbers")
            return replace(found, limits=limits)
        except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError(
                f"{path} lacks the limits of the scorer beside it ({error!r}): train it again with asr train-scorer "
                f"{folder}"
            ) from error

    def save(self, folder: Path, notes: dict[str, str], figures: Mapping[str, Any]) -> None:
        """Write the scorer into a model folder.

        Parameters
        ----------
        folder
            The model folder.
        notes
            On how it came about.
        figures
            Of how good it is, which are written beside its limits.
        """
        tensors = self.trees.tensors() | {"curve": self.curve, "lengths": self.lengths, "usual": self.usual}
        for name, linear in (("words", self.words), ("sentence", self.sentence)):
            tensors |= {f"{name}.{part}": getattr(linear, part) for part in ("low", "high", "weights")}
        tensors["wrong"] = np.array([self.wrong])
        write_tensors(
            folder / FILE,
            {name: each.astype(np.float32) if each.dtype == np.float64 else each for name, each in tensors.items()},
            {"tokens": " ".join(self.tokens)} | notes,
        )
        write_text(folder / FIGURES, as_json({"limits": self.limits._asdict(), **figures}))

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

    def other_words(self, evidence: Evidence, accuracies: np.ndarray) -> list[int]:
        """Return the numbers of words for which something else was said, by the accuracies of all words (W,)."""
        is_other = (evidence.word_goodness < self.limits.goodness) & (accuracies < self.limits.accuracy)
        return np.flatnonzero(is_other & (evidence.word_lengths >= FEWEST_PHONES)).tolist()
