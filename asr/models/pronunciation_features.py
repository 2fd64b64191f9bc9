"""What a scorer of pronunciation sees of an utterance, as rows of numbers for its phones, its words and itself.

The network's part are exact log ratios: how much likelier the sound is if one phone of the text is replaced, left out
or put in, over all CTC paths (`asr.ctc.goodness.edits`). No phone is aligned for them. Durations and pauses come from
the alignment; only what lies between the first phone and the last one counts, so that silence around changes little.

Letters: L phones, W words, C classes, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.ctc.goodness import edits
from asr.models.base import Placement

if TYPE_CHECKING:
    from asr.models.ctc import CTCModel

LEAST, MOST = -15.0, 30.0  # nats; a log ratio beyond these is as good as they are
RIVAL = 15.0  # nats at most for a single rival
NOBODY = 99.0  # in place of what a neighbour outside the utterance would say
SHORTEST = 0.01  # seconds of a phone
UNSURE = 1e-3  # confidences are rounded to three digits
AUDIBLE = 0.15  # seconds of a pause that a listener notices
OWN = ("goodness", "best", "same", "other", "deletion", "before", "after", "vowel_before", "vowel_after")
SHARED = ("goodness", "deletion", "best", "before")  # with the neighbours
NEIGHBOURS = (-2, -1, 1, 2)
WRONG, POOR = 1.2, 1.5  # phone scores


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the network says of an utterance whose text is known.

    Attributes
    ----------
    tokens : (L,)
        The phones of the text.
    word_lengths : (W,)
        The number of phones in each word.
    substitutions : (L, C), insertions : (L + 1, C)
        As `asr.ctc.goodness.edits` returns them.
    times : (L, 2)
        Start and end of each phone in seconds.
    confidences : (L,)
        Of the phones, 0..1.
    unspoken
        Seconds of speech that the text lacks.
    """

    tokens: np.ndarray
    word_lengths: np.ndarray
    substitutions: np.ndarray
    insertions: np.ndarray
    times: np.ndarray
    confidences: np.ndarray
    unspoken: float

    @classmethod
    def of(cls, model: "CTCModel", placed: Placement) -> "Evidence":
        """Return the evidence for words that `CTCModel.align` has placed."""
        index = {token: i for i, token in enumerate(model.tokens)}
        tokens = np.array([index[phone.label] for phone in placed.phones])
        return cls(
            tokens,
            np.array(placed.word_lengths),
            *edits(placed.emissions, tokens),
            np.array([(phone.start, phone.end) for phone in placed.phones]),
            np.array([phone.confidence or 0.0 for phone in placed.phones]),
            float((placed.unspoken[:, 1] - placed.unspoken[:, 0]).sum()),
        )

    @property
    def log_durations(self) -> np.ndarray:
        """Natural logs of the phones' durations in seconds (L,)."""
        return np.log(np.maximum(self.times[:, 1] - self.times[:, 0], SHORTEST))

    @property
    def pauses(self) -> np.ndarray:
        """Seconds before each phone and after the last one that belong to none (L + 1,); 0 at both ends."""
        return np.concatenate(([0.0], self.times[1:, 0] - self.times[:-1, 1], [0.0]))

    @property
    def goodness(self) -> np.ndarray:
        """The log probability of each phone (L,) among all that could stand in its place, not below `LEAST`."""
        return np.maximum(-_sum(self.substitutions), LEAST)

    @property
    def word_goodness(self) -> np.ndarray:
        """The mean goodness of the phones of each word (W,)."""
        return np.add.reduceat(self.goodness, self.starts) / self.word_lengths

    @property
    def heard(self) -> np.ndarray:
        """The likeliest class in the place of each phone (L,) other than the phone itself; 0 where it was left out."""
        rivals = self.substitutions.copy()
        rivals[np.arange(len(self.tokens)), self.tokens] = -np.inf
        return rivals.argmax(axis=1)

    @property
    def starts(self) -> np.ndarray:
        """The first phone of each word (W,)."""
        return np.cumsum(self.word_lengths) - self.word_lengths

    @property
    def words(self) -> np.ndarray:
        """The word of each phone (L,)."""
        return np.repeat(np.arange(len(self.word_lengths)), self.word_lengths)


def vowels(labels: Sequence[str]) -> np.ndarray:
    """Tell for each ARPAbet label (C,) whether it is a vowel.

    >>> vowels(["<blank>", "AY", "ER", "Y"]).tolist()
    [False, True, True, False]
    """
    return np.array([label[0] in "AEIOU" for label in labels])


def phone_features(evidence: Evidence, is_vowel: np.ndarray, lengths: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Return what is known of each phone (L, F).

    Parameters
    ----------
    evidence
        Of the utterance.
    is_vowel : (C,)
        Whether a class is a vowel.
    lengths : (C,)
        Mean log duration of each phone.
    usual : (C,)
        Mean score of each phone.
    """
    own, tokens, words = _own(evidence, is_vowel), evidence.tokens, evidence.words
    relative = evidence.log_durations - lengths[tokens]
    place = np.arange(len(tokens)) - evidence.starts[words]
    size, pauses = evidence.word_lengths[words], evidence.pauses
    rivals = np.clip(evidence.substitutions, LEAST, RIVAL)
    columns = [own[name] for name in OWN]
    columns += [np.log(np.maximum(evidence.confidences, UNSURE)), evidence.log_durations, relative]
    columns += [relative - np.median(relative), pauses[:-1], pauses[1:], place, size - 1 - place, size]
    columns += [_neighbour(own[name], step) for name in SHARED for step in NEIGHBOURS]
    means = evidence.word_goodness
    least = np.minimum.reduceat(own["goodness"], evidence.starts)
    columns += [each[words] for each in (means, least, _neighbour(means, -1), _neighbour(means, 1))]
    columns += [words, len(means) - 1 - words, usual[tokens], tokens]
    whole = np.tile(_utterance(evidence, own, is_vowel), (len(tokens), 1))
    return np.column_stack([*columns, whole, rivals])


def word_features(evidence: Evidence, is_vowel: np.ndarray, usual: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return what is known of each word (W, F), with the scores of the phones (L,); other parameters as before."""
    starts, lengths, words = evidence.starts, evidence.word_lengths, evidence.words
    ranked = scores[np.lexsort((scores, words))]  # the phones of each word, the worst first
    second = ranked[np.minimum(starts + 1, starts + lengths - 1)]
    mean = np.add.reduceat(scores, starts) / lengths
    syllables = np.add.reduceat(is_vowel[evidence.tokens].astype(float), starts)
    common = usual[evidence.tokens]
    columns = [mean, ranked[starts], second, np.maximum.reduceat(scores, starts), scores[starts]]
    columns += [scores[starts + lengths - 1], np.add.reduceat((scores < WRONG).astype(float), starts) / lengths]
    columns += [lengths, syllables, np.full(len(lengths), scores.mean()), evidence.pauses[starts]]
    columns += [np.add.reduceat(common, starts) / lengths, np.minimum.reduceat(common, starts)]
    return np.column_stack(columns)


def sentence_features(
    evidence: Evidence, is_vowel: np.ndarray, scores: np.ndarray, word_scores: np.ndarray
) -> np.ndarray:
    """Return what is known of an utterance (F,), with the scores of phones (L,) and words (W,)."""
    quantiles = np.percentile(scores, [5, 25, 50])
    of_phones = [scores.mean(), *quantiles, scores.min(), (scores < POOR).mean(), (scores < 1).mean()]
    of_words = [word_scores.mean(), word_scores.min(), np.median(word_scores), (word_scores < 7).mean()]
    return np.concatenate([of_phones, of_words, _utterance(evidence, _own(evidence, is_vowel), is_vowel)])


def _own(evidence: Evidence, is_vowel: np.ndarray) -> dict[str, np.ndarray]:
    """Return log ratios of each phone (L,) by name; those of rivals and insertions are sums over them."""
    tokens, rows = evidence.tokens, np.arange(len(evidence.tokens))
    rivals, insertions = evidence.substitutions.copy(), evidence.insertions.copy()
    rivals[rows, tokens], rivals[:, 0], insertions[:, 0] = -np.inf, -np.inf, -np.inf
    is_same = is_vowel == is_vowel[tokens, None]
    anything, vowel = _sum(insertions), _sum(np.where(is_vowel, insertions, -np.inf))
    return {
        "goodness": evidence.goodness,
        "best": np.clip(rivals.max(axis=1), LEAST, MOST),
        "same": _sum(np.where(is_same, rivals, -np.inf)),
        "other": _sum(np.where(is_same, -np.inf, rivals)),
        "deletion": np.clip(evidence.substitutions[:, 0], LEAST, MOST),
        "before": anything[:-1],
        "after": anything[1:],
        "vowel_before": vowel[:-1],
        "vowel_after": vowel[1:],
    }


def _sum(logs: np.ndarray) -> np.ndarray:
    """Return the logs of sums over the last axis, within `LEAST` and `MOST`."""
    return np.clip(np.logaddexp.reduce(logs, axis=-1), LEAST, MOST)


def _neighbour(values: np.ndarray, step: int) -> np.ndarray:
    """Return the value so many places further on; `NOBODY` where there is none."""
    padded = np.pad(values.astype(float), abs(step), constant_values=NOBODY)
    return padded[abs(step) + step : abs(step) + step + len(values)]


def _utterance(evidence: Evidence, own: dict[str, np.ndarray], is_vowel: np.ndarray) -> list[float]:
    """Return numbers of the whole utterance: how well it is heard, its rate, pauses and rhythm."""
    goodness, pauses, voiced = own["goodness"], evidence.pauses, is_vowel[evidence.tokens]
    span, num_words = max(evidence.times[-1, 1] - evidence.times[0, 0], SHORTEST), len(evidence.word_lengths)
    heard = [goodness.mean(), *np.percentile(goodness, [10, 25, 50]), (goodness < -1).mean(), (goodness < -3).mean()]
    heard += [own[name].mean() for name in ("best", "deletion", "before")]
    heard += [np.log(np.maximum(evidence.confidences, UNSURE)).mean(), max(own["before"].max(), own["after"].max())]
    heard += [goodness[part].mean() if part.any() else 0.0 for part in (voiced, ~voiced)]
    durations = np.exp(evidence.log_durations[voiced])
    rhythm = durations.std() / durations.mean() if len(durations) else 0.0
    pace = [len(goodness) / span, pauses.sum() / span, (pauses > AUDIBLE).sum() / num_words, pauses.max()]
    pace += [evidence.log_durations.std(), evidence.log_durations.mean(), rhythm]
    return [*heard, *pace, len(goodness), num_words, evidence.unspoken]
