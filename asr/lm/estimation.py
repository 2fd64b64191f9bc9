"""Estimation of n-grams from text: interpolated modified Kneser-Ney, and Witten-Bell for little text.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech and
Language 13(4), 1999, section 3 and equations 26 to 29; I. H. Witten and T. C. Bell, "The zero-frequency problem", IEEE
Trans. Information Theory 37(4), 1991, method C. Both have the form

    p(w | h) = max(a(h w) − D, 0) / A(h) + γ(h) p(w | h without its first token),

with A(h) and γ(h) such that Σ_w p = 1. The recursion ends at the empty context, which is interpolated with a uniform
distribution. In an open vocabulary that distribution is over the tokens that do not occur in the text, so that the
probability set aside from unigrams goes to the unknown token, as in SRILM, and in KenLM with --interpolate_unigrams 0;
a share for all tokens would make an unknown word as rare as the rarest known one.

Kneser-Ney: a is the count for n-grams of the highest order and those at the start of a sentence, and for others the
number of different tokens before them; D depends on a and the order. Witten-Bell: a is the count, D = 0, and A(h) = Σ a
+ the number of different tokens after h.

Rare n-grams can be left out, as with KenLM's --prune: A(h) and D are those of all n-grams, and what was the share of
the n-grams left out is added to γ(h).

The positions of the text are sorted by the n-grams that start there (`asr.lm.counting_kernels`), which needs four bytes
a token for each array and no table of n-grams.

Letters: V tokens, N positions of the text, M n-grams of an order.
"""

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from asr.core.errors import ConfigError
from asr.core.settings import one_of
from asr.core.terminal import track
from asr.lm import counting_kernels, text
from asr.lm.counting_kernels import Grams, SortedText
from asr.lm.language_model import UNKNOWN
from asr.lm.ngram import NGram, Order
from asr.lm.text import Text

log = logging.getLogger(__name__)

SMOOTHINGS = ("kneser_ney", "witten_bell")
DISCOUNTS = (0.5, 1.0, 1.5)  # of n-grams with counts of 1, 2 and more, if the text is too small to estimate them
MOST_TOKENS = 2**31 - 1
LONG = 5_000_000  # tokens of a text whose counting shows its progress


def estimate(
    sentences: Sequence[Sequence[str]],
    unit: str,
    order: int = 3,
    smoothing: str = "kneser_ney",
    tokens: Sequence[str] | None = None,
    min_counts: Sequence[int] = (1,),
) -> NGram:
    """Estimate an n-gram from sentences.

    Parameters
    ----------
    sentences
        Lists of tokens.
    unit
        phones, characters or words.
    order
        Length of the longest n-grams.
    smoothing
        kneser_ney or witten_bell.
    tokens
        The vocabulary, by default all tokens of the sentences. If it includes UNKNOWN, any other token counts as
        UNKNOWN; if the text has no such token, UNKNOWN gets a share of the probability set aside.
    min_counts
        As in `estimate_from`.

    Raises
    ------
    ConfigError
        There are no sentences, or a token is not in a closed vocabulary.

    Examples
    --------
    >>> lm = estimate([["a", "b"], ["b"]], "words", order=2, smoothing="witten_bell", tokens=[UNKNOWN, "b"])
    >>> lm.tokens, round(float(np.exp(lm.log_probs(lm.start())).sum()), 6)
    (('</s>', '<unk>', 'b'), 1.0)
    """
    numbering = text.Numbering(unit)
    given = numbering.text([numbering.number(sentences)])
    known = given.over(text.vocabulary(given) if tokens is None else tokens)
    return estimate_from(known, order, smoothing, min_counts)[0]


def estimate_from(
    given: Text, order: int = 3, smoothing: str = "kneser_ney", min_counts: Sequence[int] = (1,)
) -> tuple[NGram, float]:
    """Estimate an n-gram from a numbered text.

    Parameters
    ----------
    given
        The text. The vocabulary is that of its tokens.
    order, smoothing
        As in `estimate`.
    min_counts
        For each length, n-grams with fewer occurrences are left out; the last one holds for longer n-grams too. The
        first one is 1, and none is less than the one before.

    Returns
    -------
    NGram
        The model.
    float
        Its perplexity on the text.

    Raises
    ------
    ConfigError
        There are no sentences, or too many tokens.

    Examples
    --------
    >>> numbering = text.Numbering("words")
    >>> given = numbering.text([numbering.number([["a", "b"], ["a", "c"], ["a", "b"]])])
    >>> lm, perplexity = estimate_from(given, order=2, min_counts=[1, 2])
    >>> [len(each.tokens) for each in lm.orders()]  # "a c" and "c </s>" are left out
    [4, 3]
    """
    one_of("smoothing", smoothing, SMOOTHINGS)
    if order < 1:
        raise ConfigError(f"an n-gram's order must be 1 or more, but it is {order}")
    if len(given.stream) < 2:
        raise ConfigError("no sentences to estimate an n-gram from: check the text")
    if len(given.stream) > MOST_TOKENS:
        raise ConfigError(f"the text has {len(given.stream):,} tokens and ends: {MOST_TOKENS:,} are possible")
    counted = _count(given, order)
    leasts = [*min_counts, *[min_counts[-1]] * order][:order]
    orders, log_likelihood = _smooth(counted, given.tokens, smoothing, leasts)
    return NGram.build(given.unit, given.tokens, orders), float(np.exp(-log_likelihood / (len(given.stream) - 1)))


class _Counted:
    """The n-grams of each order: counts, how many begin with an edge, and how many different tokens come before."""

    def __init__(self, grams: Grams, starts: int):
        self.grams, self.starts = grams, starts
        self.varieties = np.zeros(len(grams.tokens), np.int32)


def _count(given: Text, order: int) -> list[_Counted]:
    """Count the n-grams of all orders; unigrams include all tokens of the vocabulary."""
    stream, num_tokens = given.stream, len(given.tokens)
    numbers = np.arange(num_tokens, dtype=np.int32)
    singles = np.bincount(stream[1:], minlength=num_tokens).astype(np.int32)
    counted = [_Counted(Grams(np.zeros_like(numbers), numbers, singles, numbers), 0)]
    if order == 1:
        return counted
    sorted_text = _sorted(stream, order, num_tokens)
    before = stream
    for n in _steps(range(2, order + 1), "counting n-grams", stream):
        num_grams = int(((sorted_text.lengths >= n) & (sorted_text.shared < n)).sum())
        grams = Grams(*(np.empty(num_grams, np.int32) for _ in Grams._fields))
        after = np.empty_like(stream if n < order else stream[:0])
        starts = counting_kernels.count(stream, sorted_text, n, before, after, grams, counted[-1].varieties)
        counted.append(_Counted(grams, starts))
        before = after
    return counted


def _sorted(stream: np.ndarray, order: int, num_tokens: int) -> SortedText:
    positions = np.arange(len(stream) - 1, dtype=np.int32)
    other = np.empty_like(positions)
    for offset in _steps(range(order - 1, -1, -1), "sorting n-grams", stream):
        counting_kernels.sort_by(stream, offset, num_tokens, positions, other)
        positions, other = other, positions
    del other
    found = SortedText(positions, np.empty(len(positions), np.int8), np.empty(len(positions), np.int8))
    counting_kernels.compare(stream, order, found)
    return found


def _steps(numbers: range, title: str, stream: np.ndarray) -> Iterable[int]:
    return track(numbers, title) if len(stream) >= LONG else numbers


def _smooth(
    counted: list[_Counted], names: Sequence[str], smoothing: str, leasts: Sequence[int]
) -> tuple[list[Order], float]:
    """Turn counts into probabilities and backoffs, from short to long n-grams; the list of counts is emptied.

    Returns
    -------
    orders : list of Order
    log_likelihood : float
        Of the text.
    """
    lacking = counted[0].grams.counts == 0
    alike = lacking if UNKNOWN in names and lacking.any() else np.ones(len(names))
    shorter, log_likelihood = alike / alike.sum(), 0.0
    orders: list[Order] = []
    was_kept, first = np.ones(1, bool), 0  # of the n-grams of the length before; their first node
    for n, least in enumerate(leasts, 1):
        each, is_longest = counted.pop(0), n == len(leasts)
        grams, smoothed = each.grams, each.grams
        is_kept = grams.counts >= least if n > 1 else np.ones(len(names), bool)
        discounts = np.zeros(4)
        if smoothing == "kneser_ney":
            if not is_longest:
                each.varieties[: each.starts] = grams.counts[: each.starts]
                smoothed = grams._replace(counts=each.varieties)
            discounts = _discounts(smoothed.counts, n)
        probs, spared = np.empty(len(is_kept)), np.ones(len(was_kept))
        counting_kernels.smooth(smoothed, is_kept, discounts, smoothing == "witten_bell", shorter, probs, spared)
        if orders:
            np.log(spared[was_kept], out=orders[-1].backoffs)
        nodes = np.cumsum(was_kept, dtype=np.int32)
        nodes += first - 1
        log_probs = probs if is_longest else np.empty(len(probs))
        predicting = len(probs) if is_longest else each.starts  # n-grams that the text's probability is made of
        found, num_kept = counting_kernels.keep(grams, is_kept, nodes, probs, predicting, log_probs)
        log_likelihood += found
        parents, tokens, log_probs = (  # without those left out, and their memory
            values if num_kept == len(probs) else values[:num_kept].copy()
            for values in (grams.parents, grams.tokens, log_probs)
        )
        orders.append(Order(parents, tokens, log_probs, np.zeros(num_kept)))
        first += int(np.count_nonzero(was_kept))
        shorter, was_kept = probs, is_kept
    return orders, log_likelihood


def _discounts(counts: np.ndarray, order: int) -> np.ndarray:
    """Return the discounts for counts of 0, 1, 2 and 3 or more (Chen and Goodman 1999, equations 26 and 27)."""
    seen = [int(np.count_nonzero(counts == n)) for n in range(1, 5)]
    if all(seen[:3]):
        share = seen[0] / (seen[0] + 2 * seen[1])
        found = [n - (n + 1) * share * seen[n] / seen[n - 1] for n in (1, 2, 3)]
        if all(0 < value < n for n, value in enumerate(found, 1)):
            return np.array([0.0, *found])
    log.info("n-grams of %d: too little text to tell discounts; they are %s, %s and %s", order, *DISCOUNTS)
    return np.array([0.0, *DISCOUNTS])
