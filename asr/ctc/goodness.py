"""Goodness of pronunciation from CTC posteriors, without an alignment: how certain it is that each phone was said.

Letters: T frames, C classes, L labels.
"""

import math

import numpy as np

from asr.core.errors import InfeasibleError
from asr.ctc.arguments import check_feasible, check_log_probs, check_targets, check_values
from asr.ctc.goodness_kernels import edit, scaled


def goodness(
    log_probs: np.ndarray, targets: np.ndarray, blank: int = 0, log_weights: np.ndarray | None = None
) -> np.ndarray:
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
    log_weights : (L, C), optional
        Natural logs by which each p is multiplied: y[s→k] by log_weights[s, k], y without s by log_weights[s, blank].
        For a network trained with CTC-CRF they are `asr.ctc.denominator.Denominator.substitutions`.

    Returns
    -------
    (L,)
        Natural logs, at most 0; 0 where no other label is possible.

    Raises
    ------
    ValueError
        Shapes, labels or the blank do not fit, or log_probs hold NaN or above 0, or log_weights NaN or +inf.
    InfeasibleError
        There are too few frames for the labels, or the labels have probability zero.

    Examples
    --------
    >>> log_probs = np.log([[0.1, 0.6, 0.3]])  # one frame, of which 0.1 says that the phone was left out
    >>> goodness(log_probs, np.array([2])).round(3).tolist(), round(math.log(0.3), 3)
    ([-1.204], -1.204)
    """
    targets = np.asarray(targets)
    return alternatives(log_probs, targets, blank, log_weights)[np.arange(len(targets)), targets]


def alternatives(
    log_probs: np.ndarray, targets: np.ndarray, blank: int = 0, log_weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the log posterior of every label in place of each phone of a text; the blank's column is for no label.

    A label's substitute is combined with α of the labels before it and β of those after it, which are those of the
    text. That takes O(T L) steps, and C times as many only in the frames where the label can be; memory grows with
    T ∛L.

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
    scores, _ = _edited(log_probs, targets, blank, with_insertions=False)
    weights = np.zeros(scores.shape) if log_weights is None else np.asarray(log_weights)
    if weights.shape != scores.shape or not (weights < np.inf).all():
        raise ValueError(f"log_weights must be {scores.shape}, without NaN and +inf, but they are {weights.shape}")
    if len(scores) == 0:
        return scores
    scores += weights
    peaks = scores.max(axis=1, keepdims=True)
    return scores - peaks - np.log(np.exp(scores - peaks).sum(axis=1, keepdims=True))


def edits(log_probs: np.ndarray, targets: np.ndarray, blank: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return how much likelier than a text each text is that differs from it in one label.

    With p(y | x) summed over all CTC paths, these are ln p(edited | x) − ln p(y | x) for every edited text: no label is
    aligned.

    Parameters and errors are those of `goodness`; no labels are an error, too.

    Returns
    -------
    substitutions : (L, C)
        For each class in the place of each label. The blank's column is for no label, and the label's own is 0.
    insertions : (L + 1, C)
        For each class before each label, and in the last row behind the last one. The blank's column is 0.

    Examples
    --------
    >>> substitutions, insertions = edits(np.log([[0.1, 0.6, 0.3]]), np.array([2]))
    >>> np.exp(substitutions).round(3)
    array([[0.333, 2.   , 1.   ]])
    >>> np.exp(insertions).round(3)  # one frame has no room for two labels
    array([[1., 0., 0.],
           [1., 0., 0.]])
    """
    targets = np.asarray(targets)
    if len(targets) == 0:
        raise ValueError("there are no labels to edit")
    substitutions, insertions = _edited(log_probs, targets, blank, with_insertions=True)
    return substitutions - substitutions[np.arange(len(targets)), targets, None], insertions - insertions[:, [blank]]


def _edited(
    log_probs: np.ndarray, targets: np.ndarray, blank: int, with_insertions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return ln p with each label replaced (L, C), and with one put in (L + 1, C) or (0, C), plus the same constant."""
    log_probs, frames = check_log_probs(np.asarray(log_probs)[:, None], None, blank)
    symbols, lengths = check_targets(np.asarray(targets)[None], None, 1, log_probs.shape[2], blank)
    check_values(log_probs, frames)
    check_feasible(symbols, frames, lengths)
    scores = np.empty((lengths[0], log_probs.shape[2]))
    insertions = np.empty((lengths[0] + 1 if with_insertions else 0, log_probs.shape[2]))
    if len(scores) == 0:
        return scores, insertions
    classes = log_probs[:, 0].T.astype(np.float64)  # (C, T)
    best = np.delete(classes, blank, axis=0).max(axis=0)
    size = max(1, round(math.cbrt(len(scores))))
    if not edit(scaled(classes), scaled(best), symbols[0].astype(np.int64), size, scores, insertions):
        raise InfeasibleError("the labels have probability 0: no path of the log_probs spells them")
    return scores, insertions
