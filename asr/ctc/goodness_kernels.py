"""Sums over the paths of a text with one label replaced, left out or put in, in Numba.

The recursions are those of Graves et al. 2006, eq. 6 to 11, but run label by label, over all frames of each. α of one
label is then all of α that is held. β runs from the last label to the first, before α. It is kept for every N²-th
label, N = ∛L. When α comes to one of these, β is computed anew up to the next and kept for every N-th label, and when α
comes to one of those, for every label. So memory grows with T ∛L.

An hour's probabilities span far more than float64 does. A number here is a pair (a, i) that stands for a · SCALE^i, and
(0, −∞) is zero: sums and products of such pairs are as exact as those of float64, and several times as fast as sums of
logarithms.

Letters: T frames, C classes, L labels. States are label s = 1 … L and blank s after it; blank 0 comes first.
"""

import math

import numpy as np

from asr.core.jit import njit

SCALE = 2.0**512
LN_SCALE = 512 * math.log(2)
LEAST = 2.0**-256  # of a number other than 0, so that no product of two underflows
NEGLIGIBLE = math.exp(-100.0)  # share of the text's probability below which a frame does not count


def scaled(logs: np.ndarray) -> np.ndarray:
    """Return numbers (…, 2) as this module's pairs from their natural logs (…)."""
    exponents = np.ceil(logs / LN_SCALE)
    rest = np.subtract(logs, exponents * LN_SCALE, out=np.full(logs.shape, -np.inf), where=logs > -np.inf)
    return np.stack([np.exp(rest), exponents], axis=-1)


@njit(cache=True)
def _plus(a, i, b, j):
    """Return the sum of two numbers."""
    if i == j:
        return a + b, i
    if i < j:
        a, i, b, j = b, j, a, i
    return (a + b / SCALE if i - j == 1.0 else a), i


@njit(cache=True)
def _times(a, i, b, j):
    """Return the product of two numbers."""
    product, exponent = a * b, i + j
    if product < LEAST:
        return product * SCALE, exponent - 1.0
    return product, exponent


@njit(cache=True)
def _at_least(a, i, b, j):
    """Tell whether the first of two numbers is not the smaller one."""
    if i == j:
        return a >= b
    if i > j:
        return i - j > 1.0 or a >= b / SCALE
    return j - i == 1.0 and a / SCALE >= b


@njit(cache=True)
def _log(a, i):
    """Return the natural log of a number, −inf for 0."""
    return math.log(a) + i * LN_SCALE if a > 0.0 else -np.inf


@njit(cache=True)
def _copy(numbers, copy):
    """Copy numbers (T, 2): Numba needs 2 s more to compile an assignment of one array to part of another."""
    for t in range(len(numbers)):
        copy[t, 0], copy[t, 1] = numbers[t, 0], numbers[t, 1]


@njit(cache=True)
def _forward(probs, symbols, s, blanks, labels):
    """Replace α of blank s − 1 and label s − 1, before each frame and at the end (T + 1, 2), by α of those of s."""
    pauses, sounds = probs[symbols[0]], probs[symbols[s]]
    skips = symbols[s] != symbols[s - 1]
    blank, i, label, j = 0.0, -np.inf, 0.0, -np.inf
    for t in range(len(pauses)):
        came, k = _plus(label, j, blanks[t, 0], blanks[t, 1])
        if skips:
            came, k = _plus(came, k, labels[t, 0], labels[t, 1])
        stayed, m = _plus(blank, i, label, j)
        blanks[t, 0], blanks[t, 1], labels[t, 0], labels[t, 1] = blank, i, label, j
        blank, i = _times(stayed, m, pauses[t, 0], pauses[t, 1])
        label, j = _times(came, k, sounds[t, 0], sounds[t, 1])
    blanks[-1, 0], blanks[-1, 1], labels[-1, 0], labels[-1, 1] = blank, i, label, j


@njit(cache=True)
def _backward(probs, symbols, s, labels):
    """Replace β of label s + 1 from each frame on, its emission included, and at the end (T + 1, 2), by that of s."""
    pauses, sounds = probs[symbols[0]], probs[symbols[s]]
    end = s + 1 == len(symbols)
    skips = not end and symbols[s + 1] != symbols[s]
    blank, i, label, j = (1.0 if end else 0.0), (0.0 if end else -np.inf), 0.0, -np.inf
    for t in range(len(pauses) - 1, -1, -1):
        goes, k = _plus(label, j, blank, i)
        if skips:
            goes, k = _plus(goes, k, labels[t + 1, 0], labels[t + 1, 1])
        stays, m = _plus(blank, i, labels[t + 1, 0], labels[t + 1, 1])
        labels[t + 1, 0], labels[t + 1, 1] = label, j
        blank, i = _times(stays, m, pauses[t, 0], pauses[t, 1])
        label, j = _times(goes, k, sounds[t, 0], sounds[t, 1])
    labels[0, 0], labels[0, 1] = label, j


@njit(cache=True)
def _sweep(probs, symbols, first, step, after, betas, labels):
    """Write β of every step-th label from the first on to betas (N + 1, T + 1, 2), until these or the labels end.

    `after` is β of the label that follows, which is copied behind the others. `labels` (T + 1, 2) is used to work in.
    """
    stop = min(first + step * (len(betas) - 1), len(symbols))
    _copy(after, labels)
    _copy(after, betas[(stop - first + step - 1) // step])
    for s in range(stop - 1, first - 1, -1):
        _backward(probs, symbols, s, labels)
        if (s - first) % step == 0:
            _copy(labels, betas[(s - first) // step])


@njit(cache=True)
def _enter(blanks, labels, best, entries, reached):
    """Write the sums of paths that may go on with a substitute in each frame, and of those then on it, at the most.

    Rows of entries (2, T, 2) are for a label that differs from the one before, and for an equal one, which needs a
    blank between. reached (T, 2) is for a substitute with the probabilities `best`.
    """
    on, j = 0.0, -np.inf
    for t in range(len(best)):
        came, i = _plus(blanks[t, 0], blanks[t, 1], labels[t, 0], labels[t, 1])
        entries[0, t, 0], entries[0, t, 1] = came, i
        entries[1, t, 0], entries[1, t, 1] = blanks[t, 0], blanks[t, 1]
        on, j = _plus(on, j, came, i)
        on, j = _times(on, j, best[t, 0], best[t, 1])
        reached[t, 0], reached[t, 1] = on, j


@njit(cache=True)
def _leave(pauses, after, end, exits):
    """Write the sums of paths from a substitute's last frame on to exits (2, T, 2), whose rows are as those of entries.

    `after` is β of the next label; where there is none, `end` is true.
    """
    blank, i = (1.0 if end else 0.0), (0.0 if end else -np.inf)
    for t in range(len(pauses) - 1, -1, -1):
        goes, j = _plus(blank, i, after[t + 1, 0], after[t + 1, 1])
        exits[0, t, 0], exits[0, t, 1], exits[1, t, 0], exits[1, t, 1] = goes, j, blank, i
        blank, i = _times(goes, j, pauses[t, 0], pauses[t, 1])


@njit(cache=True)
def _span(reached, exits, best, least):
    """Return the first frame, and the one after the last, in which paths on any substitute may add up to `least`."""
    goes, i = 0.0, -np.inf
    first, stop = len(best), 0
    for t in range(len(best) - 1, -1, -1):
        goes, i = _plus(goes, i, exits[0, t, 0], exits[0, t, 1])
        through, j = _times(reached[t, 0], reached[t, 1], goes, i)
        if _at_least(through, j, least[0], least[1]):
            first, stop = t, max(stop, t + 1)
        goes, i = _times(goes, i, best[t, 0], best[t, 1])
    return first, stop


@njit(cache=True)
def _through(entries, probs, exits):
    """Return the sum of the paths that enter a label (T, 2), stay on it for some frames and leave it."""
    on, i, total, j = 0.0, -np.inf, 0.0, -np.inf
    for t in range(len(entries)):
        on, i = _plus(on, i, entries[t, 0], entries[t, 1])
        on, i = _times(on, i, probs[t, 0], probs[t, 1])
        left, k = _times(on, i, exits[t, 0], exits[t, 1])
        total, j = _plus(total, j, left, k)
    return total, j


@njit(cache=True)
def _between(probs, entries, exits, neighbours, span, exponent, scores):
    """Write ln p of the text with each label where entries and exits lead to scores (C,), the blank's left as it is.

    `neighbours` are the blank and the labels before and after, the blank where there is none.
    """
    blank, before, after = neighbours
    first, stop = span
    for k in range(len(probs)):
        if k != blank:
            arrivals, departures = entries[1 if k == before else 0], exits[1 if k == after else 0]
            total, i = _through(arrivals[first:stop], probs[k, first:stop], departures[first:stop])
            scores[k] = _log(total, i - exponent)


@njit(cache=True)
def _meet(before, after):
    """Return the sum of the paths that go from one state to another (T, 2) between any two frames."""
    total, i = 0.0, -np.inf
    for t in range(len(before)):
        path, j = _times(before[t, 0], before[t, 1], after[t, 0], after[t, 1])
        total, i = _plus(total, i, path, j)
    return total, i


@njit(cache=True, nogil=True)
def edit(probs, best, symbols, size, scores, insertions):
    """Write ln p of the text with label s replaced by each class, or left out for the blank, to scores (L, C).

    ln p with each class put in before label s, or after the last one, goes to insertions (L + 1, C), where the blank's
    column is the text's own; they are left out if the array has no rows. All have the same constant added. Paths are
    left out that in total have less than T · `NEGLIGIBLE` of the text's own probability.

    Parameters are the probabilities (C, T, 2), with T and L at least 1; the largest of a label in each frame (T, 2);
    the blank, then the labels (1 + L,); and N, at least 1. Return whether the text has a path: without one the scores
    are undefined.
    """
    num_frames = probs.shape[1]
    pauses, last = probs[symbols[0]], len(symbols) - 1
    blanks, labels = np.empty((num_frames + 1, 2)), np.empty((num_frames + 1, 2))
    nothing, scratch = np.empty((num_frames + 1, 2)), np.empty((num_frames + 1, 2))
    blanks[0, 0], blanks[0, 1] = 1.0, 0.0
    for t in range(num_frames + 1):
        labels[t, 0], labels[t, 1] = 0.0, -np.inf
        if t < num_frames:
            blanks[t + 1, 0], blanks[t + 1, 1] = _times(blanks[t, 0], blanks[t, 1], pauses[t, 0], pauses[t, 1])
    _copy(labels, nothing)
    far = np.empty(((last - 1) // size**2 + 2, num_frames + 1, 2))
    near, betas = np.empty((size + 1, num_frames + 1, 2)), np.empty((size + 1, num_frames + 1, 2))
    _sweep(probs, symbols, 1, size**2, nothing, far, scratch)
    text, exponent = _meet(blanks[:-1], far[0, :-1])
    if text == 0.0:
        return False
    least = (text * NEGLIGIBLE, exponent)
    entries, exits = np.empty((2, num_frames, 2)), np.empty((2, num_frames, 2))
    reached = np.empty((num_frames, 2))
    for s in range(1, last + 1):
        n = (s - 1) % size
        if (s - 1) % size**2 == 0:
            _sweep(probs, symbols, s, size, far[(s - 1) // size**2 + 1], near, scratch)
        if n == 0:
            _sweep(probs, symbols, s, 1, near[(s - 1) // size % size + 1], betas, scratch)
        before, after = symbols[s - 1], symbols[s + 1] if s < last else symbols[0]
        _enter(blanks, labels, best, entries, reached)
        if len(insertions) > 0:
            _leave(pauses, betas[n], False, exits)
            span = _span(reached, exits, best, least)
            _between(probs, entries, exits, (symbols[0], before, symbols[s]), span, exponent, insertions[s - 1])
            insertions[s - 1, symbols[0]] = _log(text, 0.0)
        _leave(pauses, betas[n + 1], s == last, exits)
        span = _span(reached, exits, best, least)
        _between(probs, entries, exits, (symbols[0], before, after), span, exponent, scores[s - 1])
        if s < last:
            total, i = _meet(entries[1 if after == before else 0], betas[n + 1, :-1])
        else:
            total, i = _plus(blanks[-1, 0], blanks[-1, 1], labels[-1, 0], labels[-1, 1])
        scores[s - 1, symbols[0]] = _log(total, i - exponent)
        _forward(probs, symbols, s, blanks, labels)
    if len(insertions) > 0:
        _enter(blanks, labels, best, entries, reached)
        _leave(pauses, nothing, True, exits)
        span = _span(reached, exits, best, least)
        _between(probs, entries, exits, (symbols[0], symbols[last], symbols[0]), span, exponent, insertions[last])
        insertions[last, symbols[0]] = _log(text, 0.0)
    return True
