"""Goodness of pronunciation from CTC posteriors, without an alignment: how certain it is that each phone was said.

Letters: T frames, C classes, L labels. The states are those of `asr.ctc.loss_kernels`: label s = 1 … L and blank s
after it; blank 0 comes first.
"""

import math

import numpy as np

from asr.core.errors import InfeasibleError
from asr.core.jit import helper, njit
from asr.ctc.arguments import check_feasible, check_log_probs, check_targets, check_values


def goodness(log_probs: np.ndarray, targets: np.ndarray, blank: int = 0) -> np.ndarray:
    """Return the log posterior of each phone of a text among all phones, or none, in its place.

    With y the text's labels and y[s→k] the same with label s replaced by k,

        goodness(s) = ln p(y | x) − ln ( Σₖ p(y[s→k] | x) + p(y without s | x) ),

    where k runs over all labels, y's own included, and every p sums over all CTC paths, so that no phone is aligned.
    Source: X. Cao, Z. Fan, T. Svendsen and G. Salvi, "A framework for phoneme-level pronunciation assessment using
    CTC", Interspeech 2024, the alignment-free measure with substitutions and deletions. There the
    phone may also be replaced by several labels; here it is replaced by exactly one, or by none.

    Parameters
    ----------
    log_probs : (T, C)
        Natural logs.
    targets : (L,)
        Integers in 0..C − 1 other than the blank.
    blank
        Index of the blank.

    Returns
    -------
    (L,)
        Natural logs, at most 0; 0 where no other label is possible.

    Raises
    ------
    ValueError
        Shapes, labels or the blank do not fit, or log_probs hold NaN or above 0.
    InfeasibleError
        There are too few frames for the labels, or the labels have probability zero.

    Examples
    --------
    >>> log_probs = np.log([[0.1, 0.6, 0.3]])  # one frame, of which 0.1 says that the phone was left out
    >>> goodness(log_probs, np.array([2])).round(3).tolist(), round(math.log(0.3), 3)
    ([-1.204], -1.204)
    """
    targets = np.asarray(targets)
    return alternatives(log_probs, targets, blank)[np.arange(len(targets)), targets]


def alternatives(log_probs: np.ndarray, targets: np.ndarray, blank: int = 0) -> np.ndarray:
    """Return the log posterior of every label in place of each phone of a text; the blank's column is for no label.

    One forward and one backward pass over the text suffice: a label's substitute is combined with α of the labels
    before it and β of those after it, in O(T L C) steps.

    Parameters and errors are those of `goodness`.

    Returns
    -------
    (L, C)
        Natural logs; the exponentials of each row sum to 1.

    Examples
    --------
    >>> np.exp(alternatives(np.log([[0.1, 0.6, 0.3]]), np.array([2]))).round(3)
    array([[0.1, 0.6, 0.3]])
    """
    log_probs, frames = check_log_probs(np.asarray(log_probs)[:, None], None, blank)
    symbols, lengths = check_targets(np.asarray(targets)[None], None, 1, log_probs.shape[2], blank)
    check_values(log_probs, frames)
    check_feasible(symbols, frames, lengths)
    scores = np.empty((lengths[0], log_probs.shape[2]))
    if len(scores) > 0:
        _substitute(np.require(log_probs[:, 0], np.float64, ["C", "W"]), symbols[0].astype(np.int64), scores)
    if not (scores[np.arange(len(scores)), symbols[0, 1:]] > -np.inf).all():
        raise InfeasibleError("the labels have probability 0: no path of the log_probs spells them")
    peaks = scores.max(axis=1, keepdims=True)
    return scores - peaks - np.log(np.exp(scores - peaks).sum(axis=1, keepdims=True))


@helper()
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _forward(log_probs, symbols):
    """Return ln α of the blanks and of the labels, both (T, L + 1); there is no label 0."""
    num_frames, end = len(log_probs), len(symbols)
    blanks, labels = np.full((num_frames, end), -np.inf), np.full((num_frames, end), -np.inf)
    blanks[0, 0], labels[0, 1] = log_probs[0, symbols[0]], log_probs[0, symbols[1]]
    for t in range(1, num_frames):
        for s in range(end):
            blanks[t, s] = _logaddexp(blanks[t - 1, s], labels[t - 1, s]) + log_probs[t, symbols[0]]
        for s in range(1, end):
            came = _logaddexp(labels[t - 1, s], blanks[t - 1, s - 1])
            if symbols[s] != symbols[s - 1]:
                came = _logaddexp(came, labels[t - 1, s - 1])
            labels[t, s] = came + log_probs[t, symbols[s]]
    return blanks, labels


@njit(cache=True)
def _backward(log_probs, symbols):
    """Return ln β, including each frame's own emission, of the blanks (T, L + 1) and of the labels (T, L + 2).

    Labels 0 and L + 1 do not exist: their columns are −inf.
    """
    num_frames, end = len(log_probs), len(symbols)
    blanks, labels = np.full((num_frames, end), -np.inf), np.full((num_frames, end + 1), -np.inf)
    last = num_frames - 1
    blanks[last, end - 1], labels[last, end - 1] = log_probs[last, symbols[0]], log_probs[last, symbols[end - 1]]
    for t in range(last - 1, -1, -1):
        for s in range(end):
            blanks[t, s] = _logaddexp(blanks[t + 1, s], labels[t + 1, s + 1]) + log_probs[t, symbols[0]]
        for s in range(1, end):
            goes = _logaddexp(labels[t + 1, s], blanks[t + 1, s])
            if s + 1 < end and symbols[s + 1] != symbols[s]:
                goes = _logaddexp(goes, labels[t + 1, s + 1])
            labels[t, s] = goes + log_probs[t, symbols[s]]
    return blanks, labels


@helper()
def _connect(s, alphas, betas, entries, exits):
    """Write ln p of reaching a substitute of label s in each frame, and of leaving it, to entries and exits (2, T).

    Row 0 is for a label that differs from its neighbour, row 1 for an equal one, which needs a blank between.
    """
    blanks_before, labels_before = alphas
    blanks_after, labels_after = betas
    last, end = entries.shape[1] - 1, blanks_before.shape[1]
    entries[:, 0] = 0.0 if s == 1 else -np.inf
    exits[:, last] = 0.0 if s == end - 1 else -np.inf
    for t in range(last):
        entries[0, t + 1] = _logaddexp(blanks_before[t, s - 1], labels_before[t, s - 1])
        entries[1, t + 1] = blanks_before[t, s - 1]
        exits[0, t] = _logaddexp(blanks_after[t + 1, s], labels_after[t + 1, s + 1])
        exits[1, t] = blanks_after[t + 1, s]


@njit(cache=True, nogil=True)
def _substitute(log_probs, symbols, scores):
    """Write ln p of the text with label s replaced by each class, or deleted for the blank, to scores (L, C).

    log_probs are (T, C), with T and L at least 1; symbols (1 + L,) hold the blank, then the labels.
    """
    num_frames, num_classes = log_probs.shape
    end = len(symbols)
    alphas, betas = _forward(log_probs, symbols), _backward(log_probs, symbols)
    entries, exits = np.empty((2, num_frames)), np.empty((2, num_frames))
    for s in range(1, end):
        _connect(s, alphas, betas, entries, exits)
        for k in range(num_classes):
            if k == symbols[0]:
                continue
            entry = entries[1 if k == symbols[s - 1] else 0]
            out = exits[1 if s + 1 < end and k == symbols[s + 1] else 0]
            state, total = -np.inf, -np.inf
            for t in range(num_frames):
                state = _logaddexp(state, entry[t]) + log_probs[t, k]
                total = _logaddexp(total, state + out[t])
            scores[s - 1, k] = total
        total = -np.inf
        if s + 1 == end:
            total = _logaddexp(alphas[0][num_frames - 1, s - 1], alphas[1][num_frames - 1, s - 1])
        else:
            entry = entries[1 if symbols[s + 1] == symbols[s - 1] else 0]
            for t in range(num_frames):
                total = _logaddexp(total, entry[t] + betas[1][t, s + 1])
        scores[s - 1, symbols[0]] = total
