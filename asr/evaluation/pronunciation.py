"""A scorer of pronunciation beside experts: correlations, errors, and mispronunciations that it finds and names.

The experts' file is ``resource/scores.json`` of speechocean762. For each utterance it has scores of the sentence and of
each word, and of a word its ``phones`` with ``phones-accuracy`` and, in some releases, ``mispronunciations``: what was
said in place of phones whose score is below 0.5.

Whether another word is noticed can be tried where none was said: in the text, one word that all experts find right is
written as another one (`plant`).

Letters: L phones, W words, K scores.
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.core.errors import CorpusError
from asr.models.base import BLANK
from asr.models.pronunciation import (
    BEST_PHONE,
    FEWEST_PHONES,
    SENTENCE_SCALES,
    WORD_SCALES,
    PronunciationScorer,
    Scores,
)
from asr.models.pronunciation_features import Evidence

MISPRONOUNCED = 0.5  # an expert score below it is a mispronunciation, as in the corpus
DELETED = "<DEL>"


@dataclass(frozen=True, eq=False)
class Experts:
    """What experts say of an utterance.

    Attributes
    ----------
    spellings
        The phones of each word, without stress.
    scores
        Their scores.
    said
        The phone that was said in place of a mispronounced one, by its number; `BLANK` where none was. Only those that
        the experts could name as one phone are here.
    """

    spellings: list[list[str]]
    scores: Scores
    said: dict[int, str] = field(default_factory=dict)

    @property
    def right_words(self) -> list[int]:
        """The numbers of the words of `FEWEST_PHONES` or more whose phones all experts find right."""
        ends = itertools.accumulate(map(len, self.spellings))
        return [
            i
            for i, (word, end) in enumerate(zip(self.spellings, ends, strict=True))
            if len(word) >= FEWEST_PHONES and (self.scores.phones[end - len(word) : end] == BEST_PHONE).all()
        ]


class Planted(NamedTuple):
    """The phones of an utterance's words, of which one is not what was said, and the number of that word."""

    spellings: list[list[str]]
    word: int


@dataclass(frozen=True, eq=False)
class Judged:
    """An utterance with what the network and the experts say of it."""

    speaker: str
    evidence: Evidence
    experts: Experts


def read_experts(path: Path) -> dict[str, Experts]:
    """Read the experts' scores of each utterance.

    Raises
    ------
    CorpusError
        The file is missing, or is not laid out as that of speechocean762.
    """
    try:
        utterances = json.loads(path.read_text(encoding="utf8"))
        return {name: _experts(utterance) for name, utterance in utterances.items()}
    except OSError as error:
        raise CorpusError(f"{path}: {error.strerror}: give the corpus's scores.json with --scores") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(f"{path} is not the scores.json of speechocean762 ({error!r}): copy it again") from error


def _experts(utterance: dict[str, Any]) -> Experts:
    spellings, said = list[list[str]](), dict[int, str]()
    for word in utterance["words"]:
        first = sum(map(len, spellings))
        phones = word["phones"].split() if isinstance(word["phones"], str) else word["phones"]
        spellings.append([re.sub(r"[0-2]$", "", phone) for phone in phones])
        for fault in word.get("mispronunciations", ()):
            heard = fault["pronounced-phone"]
            if re.fullmatch(r"[A-Z]+", heard) or heard == DELETED:
                said[first + fault["index"]] = BLANK if heard == DELETED else heard
    phones = np.array(
        list(itertools.chain.from_iterable(word["phones-accuracy"] for word in utterance["words"])), float
    )
    if len(phones) != sum(map(len, spellings)):
        raise ValueError(f"{utterance['text']!r} has {sum(map(len, spellings))} phones and {len(phones)} scores")
    words = np.array([[word[name] for name in WORD_SCALES] for word in utterance["words"]], float)
    return Experts(
        spellings, Scores(phones, words, np.array([utterance[name] for name in SENTENCE_SCALES], float)), said
    )


def plant(experts: Experts, vocabulary: Sequence[Sequence[str]], rng: np.random.Generator) -> Planted | None:
    """Write one word that all experts find right as another one, which has none of its phones and one more or less.

    Parameters
    ----------
    experts
        What they say of the utterance.
    vocabulary
        The phones of the words to choose from.
    rng
        Chooses both words.

    Returns
    -------
    Planted or None
        None where no word is right, or there is no other word for the one that was chosen.
    """
    if not experts.right_words:
        return None
    word = int(rng.choice(experts.right_words))
    said = experts.spellings[word]
    others = [
        each
        for each in vocabulary
        if len(each) >= FEWEST_PHONES and abs(len(each) - len(said)) <= 1 and not {*each} & {*said}
    ]
    if not others:
        return None
    other = [*others[rng.integers(len(others))]]
    return Planted([*experts.spellings[:word], other, *experts.spellings[word + 1 :]], word)


def compare(scorer: PronunciationScorer, utterances: Sequence[Judged]) -> dict[str, Any]:
    """Return how well a scorer agrees with the experts.

    Returns
    -------
    dict
        For ``phone``, and for each score of words and sentences such as ``word accuracy``: ``pcc`` (Pearson's
        correlation), ``spearman``, ``mse``, and ``count``. ``detection`` of mispronounced phones: ``f1``,
        ``precision``, ``recall``, ``auc`` (area under the ROC curve), ``count``. ``diagnosis``: of mispronounced phones
        for which the experts name what was said, the share for which the scorer names the same, ``right``; of those
        that it detects, ``right_of_detected``; and ``count``. No diagnosis if the experts name none.
    """
    ours, theirs = [scorer.score(each.evidence) for each in utterances], [each.experts.scores for each in utterances]
    found, known = (np.concatenate([each.phones for each in several]) for several in (ours, theirs))
    result: dict[str, Any] = {"phone": agreement(found, known)}
    for unit, scales in (("word", WORD_SCALES), ("sentence", SENTENCE_SCALES)):
        columns = [
            np.concatenate([each.words if unit == "word" else each.sentence[None] for each in several])
            for several in (ours, theirs)
        ]
        for k, name in enumerate(scales):
            result[f"{unit} {name}"] = agreement(columns[0][:, k], columns[1][:, k])
    result["detection"] = detection(found, known < MISPRONOUNCED, scorer.wrong)
    named = [_named(scorer, each, own.phones) for each, own in zip(utterances, ours, strict=True)]
    right, detected = (np.concatenate([each[i] for each in named]) for i in range(2))
    if len(right):
        of_detected = float(right[detected].mean()) if detected.any() else None
        result["diagnosis"] = {"right": float(right.mean()), "right_of_detected": of_detected, "count": len(right)}
    return result


def agreement(found: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Return correlations and mean squared error of scores (N,) beside the experts'.

    >>> {name: round(value, 2) for name, value in agreement(np.array([1.0, 2, 4]), np.array([1.0, 2, 3])).items()}
    {'pcc': 0.98, 'spearman': 1.0, 'mse': 0.33, 'count': 3}
    """
    return {
        "pcc": float(np.corrcoef(found, known)[0, 1]),
        "spearman": float(np.corrcoef(ranks(found), ranks(known))[0, 1]),
        "mse": float(np.square(found - known).mean()),
        "count": len(found),
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values (N,) from 0; equal values share their mean rank.

    >>> ranks(np.array([7.0, 5.0, 7.0])).tolist()
    [1.5, 0.0, 1.5]
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which]


def detection(found: np.ndarray, is_wrong: np.ndarray, threshold: float) -> dict[str, float]:
    """Return how well scores (N,) below a threshold tell which phones are wrong (N,), and the area under the ROC curve.

    >>> detection(np.array([0.1, 0.6, 0.4, 0.9]), np.array([True, True, False, False]), 0.5)
    {'f1': 0.5, 'precision': 0.5, 'recall': 0.5, 'auc': 0.75, 'count': 2}
    """
    hits, alarms, count = (
        int((is_wrong & (found < threshold)).sum()),
        int((found < threshold).sum()),
        int(is_wrong.sum()),
    )
    others = len(found) - count
    area = 1 - (ranks(found)[is_wrong].sum() - count * (count - 1) / 2) / max(1, count * others)
    return {
        "f1": 2 * hits / max(1, alarms + count),
        "precision": hits / max(1, alarms),
        "recall": hits / max(1, count),
        "auc": float(area),
        "count": count,
    }


def _named(scorer: PronunciationScorer, utterance: Judged, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell for each phone of which experts say what was said whether the scorer says the same, and finds it wrong."""
    said, heard = utterance.experts.said, utterance.evidence.heard
    right = [scorer.tokens[heard[place]] == label for place, label in said.items()]
    return np.array(right, bool), scores[np.array([*said], int)] < scorer.wrong


def table(figures: dict[str, Any]) -> str:
    """Return the figures of `compare` as lines of text, and under ``other_words`` how often such words are found."""
    lines = [f"{'':22}  {'PCC':>5}  {'Spearman':>8}  {'MSE':>6}  {'count':>6}"]
    for name, row in figures.items():
        if "pcc" in row:
            numbers = f"{row['pcc']:5.3f}  {row['spearman']:8.3f}  {row['mse']:6.3f}  {row['count']:6,}"
            lines.append(f"{name:22}  {numbers}")
    row = figures["detection"]
    lines.append(
        f"mispronounced phones: F1 {row['f1']:.3f} (precision {row['precision']:.3f}, recall {row['recall']:.3f}), "
        f"ROC AUC {row['auc']:.3f}, {row['count']:,} of them"
    )
    if "diagnosis" in figures:
        row = figures["diagnosis"]
        among = "" if row["right_of_detected"] is None else f", {row['right_of_detected']:.1%} of those detected"
        lines.append(f"what was said instead: right for {row['right']:.1%} of {row['count']:,}{among}")
    if "other_words" in figures:
        row = figures["other_words"]
        lines.append(
            f"words that were not said: {row['found']} of {row['count']} found, and {row['mistaken']} of "
            f"{row['right']:,} right words mistaken for such"
        )
    return "\n".join(lines)
