"""Phone error rate: edit distance, corpus totals, and how sure of them a test set of this size lets us be.

Labels are folded before they come here (`asr.phones.fold`): what is compared is what is counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np

from asr.errors import AsrError

_GAP = -1


@dataclass(frozen=True)
class ErrorCounts:
    """Edits that turn references into hypotheses, at the least total number of them.

    Examples
    --------
    >>> total = ErrorCounts(1, 0, 1, reference_length=4) + ErrorCounts(0, 1, 0, reference_length=6)
    >>> total.errors, total.rate
    (3, 0.3)
    """

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    reference_length: int = 0

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference label: 0 is perfect, and above 1 is possible.

        Raises
        ------
        AsrError
            If the reference is empty.
        """
        if self.reference_length == 0:
            raise AsrError("no error rate without reference labels: check the references' phones")
        return self.errors / self.reference_length

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.reference_length + other.reference_length,
        )


@dataclass(frozen=True)
class Score:
    """Error rate of a test set.

    Attributes
    ----------
    counts : ErrorCounts
        Summed over the utterances.
    interval : (float, float)
        95 % bootstrap interval of the rate.
    num_utterances : int
    """

    counts: ErrorCounts
    interval: tuple[float, float]
    num_utterances: int

    @property
    def rate(self) -> float:
        """Errors per reference label over the whole set: long utterances weigh more."""
        return self.counts.rate


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str | None, str | None]]:
    """Pair the labels of two sequences at the least edit distance.

    Returns
    -------
    list of (str or None, str or None)
        Reference and hypothesis labels in order; an insertion has None for the first, a deletion for the second.

    Examples
    --------
    >>> align(["k", "ae", "t"], ["k", "ah", "t", "s"])
    [('k', 'k'), ('ae', 'ah'), ('t', 't'), (None, 's')]
    """
    labels = [*dict.fromkeys([*reference, *hypothesis])]
    number = {label: i for i, label in enumerate(labels)}  # no label can be taken for the gap
    pairs = kaldialign.align([number[r] for r in reference], [number[h] for h in hypothesis], _GAP)
    return [(None if r == _GAP else labels[r], None if h == _GAP else labels[h]) for r, h in pairs]


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the edits between two sequences, each kind at a cost of one.

    Where several alignments reach the least total, which of them is taken decides how it is split into kinds.

    Examples
    --------
    >>> count_errors("a b c d".split(), "a x c d e".split())
    ErrorCounts(substitutions=1, insertions=1, deletions=0, reference_length=4)
    """
    edits = kaldialign.edit_distance(list(reference), list(hypothesis))
    return ErrorCounts(edits["sub"], edits["ins"], edits["del"], len(reference))


def corpus_errors(references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]]) -> ErrorCounts:
    """Sum the edits over utterances.

    Raises
    ------
    ValueError
        If there are not as many hypotheses as references.

    Examples
    --------
    >>> corpus_errors([["a"], ["b", "c"]], [["a"], ["b"]]).rate
    0.3333333333333333
    """
    pairs = zip(references, hypotheses, strict=True)
    return sum((count_errors(reference, hypothesis) for reference, hypothesis in pairs), ErrorCounts())


def bootstrap_interval(
    counts: Sequence[ErrorCounts], level: float = 0.95, num_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of a corpus error rate, by resampling its utterances.

    Test sets of as many utterances are drawn with replacement, and the interval lies between the quantiles of their
    rates. Utterances are taken as independent; those of one speaker are not quite, so that the truth is a little wider.
    Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP
    2004, section 3.

    Parameters
    ----------
    counts : sequence of ErrorCounts
        One an utterance.
    level : float
        Between 0 and 1.
    num_resamples : int
        Test sets drawn.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    low, high : float
        Rates.

    Raises
    ------
    AsrError
        If the references are empty.

    Examples
    --------
    >>> low, high = bootstrap_interval([ErrorCounts(substitutions=i % 3, reference_length=10) for i in range(300)])
    >>> print(f"{low:.3f} {high:.3f}")
    0.090 0.110
    """
    errors = np.array([count.errors for count in counts])
    lengths = np.array([count.reference_length for count in counts])
    if lengths.sum() == 0:
        raise AsrError("no error rate without reference labels: check the references' phones")
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(counts), size=len(counts)) for _ in range(num_resamples))
    totals = np.array([(errors[d].sum(), lengths[d].sum()) for d in drawn])
    totals = totals[totals[:, 1] > 0]  # a draw of empty references alone has no rate
    tail = (1 - level) / 2
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def score(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]]) -> Score:
    """Score the hypotheses of a test set, given by utterance id.

    Raises
    ------
    AsrError
        If an utterance has no hypothesis, or a hypothesis no reference, or there is nothing to score.

    Examples
    --------
    >>> result = score({"a": ["p", "iy"], "b": ["t"]}, {"a": ["p", "ih"], "b": ["t"]})
    >>> result.counts.substitutions, round(result.rate, 3), result.num_utterances
    (1, 0.333, 2)
    """
    _check_same_utterances(references, hypotheses)
    names = sorted(references)
    counts = [count_errors(references[name], hypotheses[name]) for name in names]
    return Score(sum(counts, ErrorCounts()), bootstrap_interval(counts), len(counts))


def _check_same_utterances(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]]) -> None:
    missing, extra = sorted(references.keys() - hypotheses.keys()), sorted(hypotheses.keys() - references.keys())
    if missing:
        raise AsrError(f"utterance {missing[0]!r} has no hypothesis ({len(missing)} lack one): decode the whole set")
    if extra:
        raise AsrError(f"hypothesis {extra[0]!r} has no reference ({len(extra)} lack one): score it on its own set")
