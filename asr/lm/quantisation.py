"""Code books for the values of n-grams: 256 numbers, or fewer, stand for all log probabilities of an order.

They are those with the least mean squared error (S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans.
Information Theory 28(2), 1982, method I), in which an n-gram counts as much as it is probable. If all n-grams counted
alike, the many rare ones would take nearly all numbers, and 8 bits would cost more perplexity than 6 do so.

Letters: M values of an order.
"""

import numpy as np

from asr.core.errors import ConfigError
from asr.lm.ngram import NGram
from asr.lm.packing import BOOK_BITS, CONTEXT, Links
from asr.lm.pruning import log_probs_of_contexts
from asr.lm.trie import BACKOFF, LOG_PROB

MOST_STEPS, SMALL_STEP = 300, 1e-4  # a step of all numbers, in nats
LEAST = 1e-3  # of the mean weight: improbable values count a little too


def quantise(lm: NGram, bits: int) -> NGram:
    """Round log probabilities and backoff weights to numbers from code books, one for each order and kind.

    Parameters
    ----------
    lm
        The model.
    bits
        Bits of a value, 2 to 16. Backoff weights of 1 stay as they are.

    Raises
    ------
    ConfigError
        There are too few or too many bits.
    """
    if bits not in BOOK_BITS:
        raise ConfigError(f"{bits} bits: a code book's numbers have {BOOK_BITS[0]} to {BOOK_BITS[-1]}")
    orders = list(lm.orders())
    links = Links.of(orders)
    contexts = log_probs_of_contexts(lm, orders, links)
    books = np.zeros((len(orders), 2, 2**bits), np.float32)
    for n, order in enumerate(orders):
        joint = order.log_probs if n == 0 else order.log_probs + contexts[n - 1][links.parents[n - 1]]
        books[n, LOG_PROB] = code_book(order.log_probs, np.exp(joint), 2**bits)
        backs_off = order.backoffs != 0
        weights = np.exp(joint + order.backoffs)[backs_off]
        books[n, BACKOFF, CONTEXT + 1 :] = code_book(order.backoffs[backs_off], weights, 2**bits - CONTEXT - 1)
    return NGram.build(lm.unit, lm.tokens, orders, books)


def code_book(values: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Return numbers that stand for values (M,) with little squared error, weighted by weights (M,): ascending (size,).

    >>> code_book(np.array([1.0, 2.0, 8.0, 9.0]), np.array([3.0, 1.0, 1.0, 1.0]), 2).round(2).tolist()
    [1.25, 8.5]
    """
    places = np.argsort(values)
    values, weights = values[places].astype(float), weights[places].astype(float)
    different = values[np.diff(values, prepend=-np.inf) > 0]
    if len(different) <= size:
        return np.pad(different, (0, size - len(different)), "edge" if len(different) else "constant")
    weights += LEAST * weights.mean()
    mass, moments = (np.concatenate([[0.0], np.cumsum(each)]) for each in (weights, weights * values))
    numbers = np.interp(np.linspace(0, mass[-1], 2 * size + 1)[1::2], mass[1:], values)  # as much mass in each cell
    for _ in range(MOST_STEPS):
        edges = np.concatenate([[0], np.searchsorted(values, (numbers[1:] + numbers[:-1]) / 2), [len(values)]])
        masses = np.diff(mass[edges])
        means = np.divide(np.diff(moments[edges]), masses, out=numbers.copy(), where=masses > 0)
        step, numbers = np.abs(means - numbers).max(), np.maximum.accumulate(means)
        if step < SMALL_STEP:
            break
    return numbers
