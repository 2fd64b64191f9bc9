"""Phone error rate: edit distance, corpus totals, and how sure of them a test set of this size lets us be.

Labels are folded before they come here (`asr.speech.phones.fold`): what is compared is what is counted.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: scipy.stats takes half a second to import

from asr.core.errors import AsrError

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
        95 % bootstrap interval of the rate, by resampling utterances.
    interval_speakers : (float, float) or None
        The same by resampling speakers, where two or more are known.
    num_utterances : int
    """

    counts: ErrorCounts
    interval: tuple[float, float]
    interval_speakers: tuple[float, float] | None
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
    counts: Sequence[ErrorCounts],
    level: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """Confidence interval of a corpus error rate, by resampling its utterances, or whole groups of them.

    Test sets of as many utterances are drawn with replacement, and the interval lies between the quantiles of their
    rates. Utterances are taken as independent; those of one speaker are not quite. With the speakers as groups, all
    utterances of a speaker are drawn together: the interval is wider, and true of other speakers.
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
    groups : sequence of str, optional
        Each utterance's group.

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
    >>> counts = [ErrorCounts(substitutions=i % 3, reference_length=10) for i in range(300)]
    >>> low, high = bootstrap_interval(counts)
    >>> print(f"{low:.3f} {high:.3f}")
    0.090 0.110
    >>> low, high = bootstrap_interval(counts, groups=["ann", "bob", "cem"] * 100)
    >>> print(f"{low:.3f} {high:.3f}")
    0.000 0.200
    """
    values = np.array([(count.errors, count.reference_length) for count in counts]).reshape(-1, 2)
    if values[:, 1].sum() == 0:
        raise AsrError("no error rate without reference labels: check the references' phones")
    values = _sum_groups(values, groups)
    rng = np.random.default_rng(seed)
    # How often each row is drawn, times the rows: several times faster than to gather the rows drawn.
    draws = (
        np.bincount(rng.integers(len(values), size=len(values)), minlength=len(values)) for _ in range(num_resamples)
    )
    totals = np.array([times_drawn @ values for times_drawn in draws])
    totals = totals[totals[:, 1] > 0]  # a draw of empty references alone has no rate
    tail = (1 - level) / 2
    low, high = np.quantile(totals[:, 0] / totals[:, 1], [tail, 1 - tail])
    return float(low), float(high)


def _sum_groups(values: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """Sum the rows (N, K) of each group; without groups every row is one."""
    if groups is None:
        return values
    names, member = np.unique(list(groups), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]), values.dtype)
    np.add.at(sums, member, values)
    return sums


@dataclass(frozen=True)
class PairedDifference:
    """How the error rates of two systems differ on the same utterances.

    Attributes
    ----------
    difference : float
        The first's rate less the second's.
    interval : (float, float)
        Its 95 % confidence interval.
    p_value : float
        Probability of a difference as large in either direction, were the systems equally good.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float


def matched_pairs(
    first: Sequence[ErrorCounts], second: Sequence[ErrorCounts], groups: Sequence[str] | None = None
) -> PairedDifference:
    """Test whether two systems differ, by the differences of their errors in each utterance.

    What is hard for both is in neither's favour, so that smaller differences show than the two intervals would let
    one see. Student's t with as many degrees of freedom as there are utterances, less one; or with groups, such as
    speakers, whose utterances are summed first.
    Source: L. Gillick and S. J. Cox, "Some statistical issues in the comparison of speech recognition algorithms",
    ICASSP 1989, the matched-pairs test, with utterances for segments.

    Parameters
    ----------
    first, second : sequence of ErrorCounts
        Of the same utterances in the same order.
    groups : sequence of str, optional
        Each utterance's group.

    Returns
    -------
    PairedDifference

    Raises
    ------
    ValueError
        The references differ in length.
    AsrError
        Fewer than two utterances or groups, or no reference labels.

    Examples
    --------
    >>> worse = [ErrorCounts(substitutions=2 + i % 2, reference_length=10) for i in range(20)]
    >>> better = [ErrorCounts(substitutions=2, reference_length=10) for i in range(20)]
    >>> found = matched_pairs(worse, better)
    >>> round(found.difference, 3), found.p_value < 0.001
    (0.05, True)
    """
    if [count.reference_length for count in first] != [count.reference_length for count in second]:
        raise ValueError("the two systems were not scored on the same references")
    total = sum(count.reference_length for count in first)
    pairs = zip(first, second, strict=True)
    values = _sum_groups(np.array([one.errors - other.errors for one, other in pairs]).reshape(-1, 1), groups)[:, 0]
    if len(values) < 2 or total == 0:
        raise AsrError("systems can be compared on two utterances or speakers with phones, and on no fewer")
    difference, spread = values.sum() / total, np.sqrt(len(values) * values.var(ddof=1)) / total
    if spread == 0:
        return PairedDifference(float(difference), (float(difference),) * 2, float(difference == 0))
    freedom = len(values) - 1
    half = stdtrit(freedom, 0.975) * spread
    p_value = 2 * stdtr(freedom, -abs(difference) / spread)
    return PairedDifference(float(difference), (float(difference - half), float(difference + half)), float(p_value))


def seed_spread(rates: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation of one system's rates over seeds.

    >>> mean, deviation = seed_spread([2.0, 3.0])
    >>> round(mean, 2), round(deviation, 2)
    (2.5, 0.71)
    """
    return statistics.fmean(rates), statistics.stdev(rates)


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, Sequence[str]],
    speakers: Mapping[str, str] | None = None,
    count: Callable[[Sequence[str], Sequence[str]], ErrorCounts] = count_errors,
) -> Score:
    """Score the hypotheses of a test set, given by utterance id.

    Parameters
    ----------
    references, hypotheses
        Labels of each utterance.
    speakers
        Who said each utterance.
    count
        How the errors of one are counted.

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
    counts = [count(references[name], hypotheses[name]) for name in names]
    groups = [speakers[name] for name in names] if speakers else []
    by_speaker = bootstrap_interval(counts, groups=groups) if len(set(groups)) > 1 else None
    return Score(sum(counts, ErrorCounts()), bootstrap_interval(counts), by_speaker, len(counts))


def _check_same_utterances(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Sequence[str]]) -> None:
    missing, extra = sorted(references.keys() - hypotheses.keys()), sorted(hypotheses.keys() - references.keys())
    if missing:
        raise AsrError(f"utterance {missing[0]!r} has no hypothesis ({len(missing)} lack one): decode the whole set")
    if extra:
        raise AsrError(f"hypothesis {extra[0]!r} has no reference ({len(extra)} lack one): score it on its own set")
