"""Error rates: edit distance, corpus totals, their confidence intervals, and tests of the difference of two systems.

Labels are folded before they come here (`asr.speech.phones.fold`): two labels are equal or are an error.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import kaldialign
import numpy as np

from asr.core.errors import AsrError

_GAP = -1

Pairs = Sequence[Sequence[str | None]]  # aligned labels, reference first; None where one of them is missing


@dataclass(frozen=True)
class ErrorCounts:
    """Counts of the edits that turn references into hypotheses, where the total number of edits is the least.

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
        """Errors per reference label: 0 is perfect; insertions can bring it above 1.

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
        The same by resampling speakers; None with fewer than two known speakers.
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


def aligned_errors(pairs: Pairs) -> ErrorCounts:
    """Count the errors in aligned labels, as `align` returns them.

    Examples
    --------
    >>> aligned_errors([("t", "d"), (None, "s"), ("iy", "iy")])
    ErrorCounts(substitutions=1, insertions=1, deletions=0, reference_length=2)
    """
    insertions = sum(reference is None for reference, _ in pairs)
    deletions = sum(hypothesis is None for _, hypothesis in pairs)
    different = sum(reference != hypothesis for reference, hypothesis in pairs)
    return ErrorCounts(different - insertions - deletions, insertions, deletions, len(pairs) - insertions)


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
    """Return a confidence interval of a corpus error rate, by resampling its utterances, or whole groups of them.

    Test sets of the same number of utterances are drawn with replacement; the interval lies between quantiles of their
    rates. Utterances are treated as independent, which utterances of one speaker are not quite. With speakers as
    groups, all utterances of a speaker are drawn together: the interval is wider, and holds for other speakers.
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
    # kaldialign.bootstrap_wer_ci gives another interval, the mean of the drawn rates ± 1.96 standard deviations. That
    # interval can begin below 0, and is infinite once a draw has no reference label. Nor does it resample groups, or
    # take counts in which silence is forgiven.
    values = np.array([(count.errors, count.reference_length) for count in counts]).reshape(-1, 2)
    if values[:, 1].sum() == 0:
        raise AsrError("no error rate without reference labels: check the references' phones")
    values = _sum_groups(values, groups)
    rng = np.random.default_rng(seed)
    # Counting how often each row is drawn and multiplying is several times faster than gathering the rows drawn.
    draws = (
        np.bincount(rng.integers(len(values), size=len(values)), minlength=len(values)) for _ in range(num_resamples)
    )
    totals = np.array([times_drawn @ values for times_drawn in draws])
    totals = totals[totals[:, 1] > 0]  # a draw of nothing but empty references has no rate
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
        Probability of a difference as large in either direction, were the systems equally good; never 0.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float


def matched_pairs(
    first: Sequence[ErrorCounts], second: Sequence[ErrorCounts], groups: Sequence[str] | None = None
) -> PairedDifference:
    """Test whether two systems differ, by the differences of their errors in each utterance.

    An utterance that is hard for both systems favours neither, so the test finds smaller differences than a comparison
    of the two intervals would. It is Student's t test, with one degree of freedom less than there are utterances. With
    groups, such as speakers, the errors of each group are summed first. Where all n differences are the same, t is
    infinite; the p-value then is that of their signs, 2 / 2ⁿ, the chance that n coins fall alike.
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
    >>> matched_pairs(better[:2], [ErrorCounts(reference_length=10)] * 2).p_value  # two utterances, and both better
    0.5
    """
    from scipy.special import stdtr, stdtrit  # Student's t; scipy.stats takes half a second to import

    if [count.reference_length for count in first] != [count.reference_length for count in second]:
        raise ValueError("the two systems were not scored on the same references")
    total = sum(count.reference_length for count in first)
    pairs = zip(first, second, strict=True)
    values = _sum_groups(np.array([one.errors - other.errors for one, other in pairs]).reshape(-1, 1), groups)[:, 0]
    if len(values) < 2 or total == 0:
        raise AsrError("systems can be compared on two utterances or speakers with phones, and on no fewer")
    freedom = len(values) - 1
    difference, spread = values.sum() / total, np.sqrt(len(values) * values.var(ddof=1)) / total
    half = stdtrit(freedom, 0.975) * spread
    by_signs = 2.0**-freedom if difference else 1.0
    p_value = 2 * stdtr(freedom, -abs(difference) / spread) if spread > 0 else by_signs
    p_value = max(p_value, np.finfo(float).tiny)  # of the floats, none but 0 may be as small as the p-value
    return PairedDifference(float(difference), (float(difference - half), float(difference + half)), float(p_value))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests: the probability of any false positive stays that of a single test.

    The k-th smallest of m p-values is multiplied by m - k + 1, and is never below a smaller one's corrected value.
    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6(2), 1979, section 3.

    Parameters
    ----------
    p_values
        Of all tests that are reported together.

    Returns
    -------
    list of float
        The corrected p-values in the same order, at most 1.

    Examples
    --------
    >>> holm([0.25, 0.0625, 0.125])
    [0.25, 0.1875, 0.25]
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected.tolist()


def seed_spread(rates: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation of the rates of one system trained with several seeds.

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
        The speaker of each utterance.
    count
        Counts the errors of one utterance, given reference and hypothesis.

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
