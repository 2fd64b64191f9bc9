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

Letters: V tokens, N positions of the text, M n-grams of an order.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.core.config import one_of
from asr.core.errors import ConfigError
from asr.lm import text
from asr.lm.language_model import EDGE, UNKNOWN
from asr.lm.ngram import NGram, Order

log = logging.getLogger(__name__)

SMOOTHINGS = ("kneser_ney", "witten_bell")
DISCOUNTS = (0.5, 1.0, 1.5)  # of n-grams with counts of 1, 2 and more, if the text is too small to estimate them


@dataclass(frozen=True)
class _Counts:
    """The n-grams of one order; nodes are numbered as in the tree.

    Attributes
    ----------
    first
        Node of the first n-gram.
    parents, tokens, counts : (M,)
    endings : (M,)
        Node of each n-gram without its first token.
    at_start : (M,)
        Whether the n-gram begins with the start of a sentence.
    """

    first: int
    parents: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray
    endings: np.ndarray
    at_start: np.ndarray


def estimate(
    sentences: Sequence[Sequence[str]],
    unit: str,
    order: int = 3,
    smoothing: str = "kneser_ney",
    tokens: Sequence[str] | None = None,
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
    one_of("smoothing", smoothing, SMOOTHINGS)
    if order < 1:
        raise ConfigError(f"an n-gram's order must be 1 or more, but it is {order}")
    if not sentences:
        raise ConfigError("no sentences to estimate an n-gram from: check the text")
    names = [EDGE, *(tokens if tokens is not None else text.vocabulary(sentences))]
    stream, places = _stream(sentences, names, unit)
    counted = _count(stream, places, len(names), order)
    lacking = counted[0].counts == 0
    alike = lacking if UNKNOWN in names and lacking.any() else np.ones(len(names))
    return NGram.build(unit, names, _smooth(counted, smoothing, alike / alike.sum()))


def _stream(sentences: Sequence[Sequence[str]], names: list[str], unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all sentences with an edge on either side (N,), and each token's position in its sentence (N,)."""
    index = {name: i for i, name in enumerate(names)}
    other = index.get(UNKNOWN, -1)
    lengths = np.array([len(sentence) + 2 for sentence in sentences])
    stream = np.zeros(lengths.sum(), np.int64)
    ends = np.cumsum(lengths)
    for sentence, end in zip(sentences, ends, strict=True):
        stream[end - len(sentence) - 1 : end - 1] = [index.get(token, other) for token in sentence]
    if (stream < 0).any():
        token = next(token for sentence in sentences for token in sentence if token not in index)
        raise ConfigError(
            f"{token!r} is not one of the {len(names) - 1} {unit} given: allow others (text.open_vocabulary)"
        )
    return stream, np.arange(len(stream)) - np.repeat(ends - lengths, lengths)


def _count(stream: np.ndarray, places: np.ndarray, num_tokens: int, order: int) -> list[_Counts]:
    """Count the n-grams of all orders, each identified by its parent's node and its last token."""
    nodes = 1 + stream  # of the longest n-gram that ends at each position
    tokens = np.arange(num_tokens)
    nought, never = np.zeros(num_tokens, np.int64), np.zeros(num_tokens, bool)
    single = np.bincount(stream[places > 0], minlength=num_tokens)
    counted, first = [_Counts(1, nought, tokens, single, nought, never)], 1 + num_tokens
    for length in range(2, order + 1):
        (ends,) = np.nonzero(places >= length - 1)
        keys, inverse, counts = np.unique(
            nodes[ends - 1] * num_tokens + stream[ends], return_inverse=True, return_counts=True
        )
        endings, at_start = np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        endings[inverse] = nodes[ends]
        at_start[inverse] = places[ends] == length - 1
        counted.append(_Counts(first, keys // num_tokens, keys % num_tokens, counts, endings, at_start))
        nodes = np.zeros_like(nodes)
        nodes[ends] = first + inverse
        first += len(keys)
    return counted


def _smooth(counted: list[_Counts], smoothing: str, base: np.ndarray) -> list[Order]:
    """Turn counts into probabilities and backoffs, from short to long n-grams; unigrams back off to base (V,)."""
    num_nodes = counted[-1].first + len(counted[-1].tokens)
    probs, spared = np.zeros(num_nodes), np.ones(num_nodes)  # of each node; 1 if nothing follows it
    for number, each in enumerate(counted, 1):
        longer = counted[number] if number < len(counted) else None
        counts = each.counts.astype(float)
        if smoothing == "kneser_ney":
            if longer is not None:
                different = np.bincount(longer.endings - each.first, minlength=len(counts))
                counts = np.where(each.at_start, counts, different)
            discounts = _discounts(counts, number)[np.minimum(counts, 3).astype(int)]
            freed = np.bincount(each.parents, discounts, num_nodes)
        else:
            discounts = np.zeros_like(counts)
            freed = np.bincount(each.parents, counts > 0, num_nodes)
        totals = np.bincount(each.parents, counts, num_nodes)
        if smoothing == "witten_bell":
            totals += freed
        contexts = np.unique(each.parents)
        spared[contexts] = freed[contexts] / totals[contexts]
        shorter = probs[each.endings] if number > 1 else base
        own = (counts - discounts) / totals[each.parents]
        probs[each.first : each.first + len(counts)] = own + spared[each.parents] * shorter
    nodes = (slice(each.first, each.first + len(each.tokens)) for each in counted)
    return [
        Order(each.parents, each.tokens, np.log(probs[rows]), np.log(spared[rows]))
        for each, rows in zip(counted, nodes, strict=True)
    ]


def _discounts(counts: np.ndarray, order: int) -> np.ndarray:
    """Return the discounts for counts of 0, 1, 2 and 3 or more (Chen and Goodman 1999, equations 26 and 27)."""
    seen = [int((counts == n).sum()) for n in range(1, 5)]
    if all(seen[:3]):
        share = seen[0] / (seen[0] + 2 * seen[1])
        found = [n - (n + 1) * share * seen[n] / seen[n - 1] for n in (1, 2, 3)]
        if all(0 < value < n for n, value in enumerate(found, 1)):
            return np.array([0.0, *found])
    log.info("n-grams of %d: too little text to tell discounts; they are %s, %s and %s", order, *DISCOUNTS)
    return np.array([0.0, *DISCOUNTS])
