"""Counting and smoothing of n-grams in Numba, for `asr.lm.estimation`.

The text is one stream of token numbers with an edge, 0, before, between and after the sentences. An n-gram lies within
the stream. Its first and its last token may be edges, but none in between. If the positions of the stream are sorted by
the tokens that follow, equal n-grams of every length stand next to each other, in the order of the tree.

Letters: N tokens of the stream, P sorted positions, M n-grams of a length, K n-grams of the length before, V tokens.
"""

from typing import NamedTuple

import numpy as np

from asr.core.jit import njit


class Grams(NamedTuple):
    """The n-grams of one length, sorted by the n-gram without its last token, and by their last token.

    Attributes
    ----------
    parents : (M,) int32
        Number of the n-gram without its last token among those of its length.
    tokens : (M,) int32
        Last token.
    counts : (M,) int32
        How often the text has the n-gram.
    endings : (M,) int32
        Number of the n-gram without its first token among those of its length.
    """

    parents: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray
    endings: np.ndarray


class SortedText(NamedTuple):
    """The positions of a stream in the order of the n-grams that start at them.

    Attributes
    ----------
    positions : (P,) int32
        All but the last position of the stream.
    lengths : (P,) int8
        Length of the longest n-gram that starts at the position, at most the order.
    shared : (P,) int8
        How many tokens this n-gram shares with the position before.
    """

    positions: np.ndarray
    lengths: np.ndarray
    shared: np.ndarray


@njit(cache=True)
def sort_by(stream, offset, num_tokens, positions, out):
    """Write positions (P,) to out (P,), sorted by the token that is `offset` after each; equal ones keep their order.

    Positions that are sorted by the last token of their n-grams, then by the one before it, and so on to the first, are
    in the order of whole n-grams: this is a radix sort whose digits are tokens.
    """
    last = len(stream) - 1
    places = np.zeros(num_tokens + 1, np.int64)  # where the next position with each token goes
    for p in positions:
        places[stream[min(p + offset, last)] + 1] += 1
    for token in range(num_tokens):
        places[token + 1] += places[token]
    for p in positions:
        token = stream[min(p + offset, last)]
        out[places[token]] = p
        places[token] += 1


@njit(cache=True)
def compare(stream, order, text):
    """Fill in the lengths and shared of a SortedText."""
    before = 0
    for j in range(len(text.positions)):
        p, length, shared = text.positions[j], 2, 0
        while length < order and stream[p + length - 1] != 0:
            length += 1
        while j > 0 and shared < length and stream[before + shared] == stream[p + shared]:
            shared += 1
        text.lengths[j], text.shared[j], before = length, shared, p


@njit(cache=True)
def count(stream, text, n, before, after, grams, varieties):
    """Count the n-grams of a length n of 2 or more; return how many of them begin with an edge: the first ones.

    `before` (N,) has the number of the (n − 1)-gram that starts at each position, and `after` (N,) gets that of the
    n-gram, unless it is empty. To `varieties` (K,) the number of different tokens is added that come before each
    (n − 1)-gram.
    """
    gram, starts = -1, 0
    for j in range(len(text.positions)):
        if text.lengths[j] < n:
            continue
        p = text.positions[j]
        if text.shared[j] < n:
            gram += 1
            ending = before[p + 1]
            grams.parents[gram], grams.tokens[gram] = before[p], stream[p + n - 1]
            grams.counts[gram], grams.endings[gram] = 0, ending
            varieties[ending] += 1
            starts += stream[p] == 0
        grams.counts[gram] += 1
        if len(after) > 0:
            after[p] = gram
    return starts


@njit(cache=True)
def smooth(grams, is_kept, discounts, adds_types, shorter, probs, spared):
    """Write the probabilities of n-grams, probs (M,), and the weights γ of their contexts, spared (K,).

    The counts of `grams` are those called a(h w) in `asr.lm.estimation`; `discounts` (4,) are those of n-grams with
    counts of 0, 1, 2 and more; `adds_types` is true for Witten-Bell. An n-gram that is not kept gets the probability
    that is computed without it. `shorter` has the probabilities of the n-grams without their first tokens.
    """
    parents, _, counts, endings = grams
    start = 0
    while start < len(parents):
        end, total, freed, types = start, 0.0, 0.0, 0
        while end < len(parents) and parents[end] == parents[start]:
            total += counts[end]
            freed += discounts[min(counts[end], 3)] if is_kept[end] else counts[end]
            types += counts[end] > 0
            end += 1
        if adds_types:
            total += types
            freed += types
        weight = freed / total
        spared[parents[start]] = weight
        for i in range(start, end):
            own = (counts[i] - discounts[min(counts[i], 3)]) / total if is_kept[i] else 0.0
            probs[i] = own + weight * shorter[endings[i]]
        start = end


@njit(cache=True)
def keep(grams, is_kept, nodes, probs, begins, log_probs):
    """Move the n-grams that are kept to the front, with the nodes of their parents; return log likelihood and number.

    nodes (K,) has the node of each n-gram of the length before. The log probabilities of the n-grams kept are written
    to log_probs (M,). Of the log likelihood, this is the part of the first `begins` n-grams and their counts.
    """
    parents, tokens, counts, _ = grams
    log_likelihood, num_kept = 0.0, 0
    for i in range(len(parents)):
        log_prob = np.log(probs[i])
        if i < begins:
            log_likelihood += counts[i] * log_prob
        if is_kept[i]:
            parents[num_kept], tokens[num_kept] = nodes[parents[i]], tokens[i]
            log_probs[num_kept] = log_prob
            num_kept += 1
    return log_likelihood, num_kept
