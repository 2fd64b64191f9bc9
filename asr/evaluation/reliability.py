"""Reliability of confidences: the map from posteriors to probabilities of being right, and the error of calibration.

A network's posterior is not the probability that a phone is right, because it was fitted to the training speakers. The
map from one to the other is measured on dev speakers, whose phones are known, and kept with the model.

Letters: N recognised phones.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.evaluation.metrics import Pairs
from asr.speech import phones

NUM_POINTS = 30
LEAST_PHONES = 100  # fewer phones cannot tell a probability

log = logging.getLogger(__name__)


def fit(posteriors: np.ndarray, correct: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Fit the map from a recognised phone's posterior to its probability of being right, on held-out speakers.

    The phones are sorted into groups of equal size by their posterior, so that the map has few points and each point
    rests on many phones. Isotonic regression makes the share of right phones rise from group to group. The rule of
    succession bounds the probabilities: after n phones that were all right, the next is right with (n + 1) / (n + 2).
    Source: B. Zadrozny and C. Elkan, "Transforming classifier scores into accurate multiclass probability estimates",
    KDD 2002, section 3.

    Parameters
    ----------
    posteriors : (N,)
        In 0..1.
    correct : (N,)
        Booleans, or 0 and 1.

    Returns
    -------
    posteriors, probabilities : tuple of float
        Points for `Calibration`, at most 30. There are no points, and a warning, if fewer than 100 phones are given.

    Raises
    ------
    ValueError
        Shapes differ, or a posterior is not in 0..1.

    Examples
    --------
    >>> fit(np.repeat([0.5, 0.9], 100), np.arange(200) % 4 < 3)
    ((0.5, 0.9), (0.75, 0.75))
    """
    from sklearn.isotonic import IsotonicRegression  # slow to import, and for fitting only

    posteriors, correct = _check_samples(posteriors, correct)
    count = len(posteriors)
    if count < LEAST_PHONES:
        log.warning("confidences stay the network's own: %d labels are too few to calibrate them on", count)
        return (), ()
    order = np.argsort(posteriors, kind="stable")
    values, group = np.unique(posteriors[order], return_inverse=True)
    # Equal posteriors are in one group, that of the first of them.
    firsts = np.arange(count) * min(NUM_POINTS, count // 10) // count
    group = firsts[np.searchsorted(posteriors[order], values)][group]
    sizes = np.bincount(group)
    used = sizes > 0
    points = (np.bincount(group, posteriors[order])[used] / sizes[used]).round(6)
    shares = np.bincount(group, correct[order])[used] / sizes[used]
    rising = IsotonicRegression(y_min=1 / (count + 2), y_max=(count + 1) / (count + 2))
    shares = rising.fit_transform(points, shares, sample_weight=sizes[used])
    points, places = np.unique(points, return_index=True)
    return tuple(points.tolist()), tuple(shares[places].round(6).tolist())


def reliability_bins(confidences: np.ndarray, correct: np.ndarray, num_bins: int = 10) -> list[dict[str, Any]]:
    """Compare confidence and accuracy in bins of equal width: (0, 0.1], (0.1, 0.2] and so on. 0 is in the first bin.

    Parameters
    ----------
    confidences : (N,)
        In 0..1.
    correct : (N,)
        Booleans, or 0 and 1.

    Returns
    -------
    list of dict
        ``low`` and ``high``, the bin's edges; ``confidence`` and ``accuracy``, its means; ``count``. Empty bins are
        left out.

    Raises
    ------
    ValueError
        Shapes differ, or a confidence is not in 0..1.

    Examples
    --------
    >>> reliability_bins(np.array([0.75, 0.85]), np.array([True, False]), num_bins=2)
    [{'low': 0.5, 'high': 1.0, 'confidence': 0.8, 'accuracy': 0.5, 'count': 2}]
    """
    confidences, correct = _check_samples(confidences, correct)
    # These are the edges as they are printed, so that 0.3 is in the bin that ends with 0.3.
    edges = np.arange(num_bins + 1) / num_bins
    places = np.maximum(np.searchsorted(edges, confidences, side="left"), 1) - 1
    bins = []
    for i in np.unique(places):
        here = places == i
        bins.append(
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "confidence": float(confidences[here].mean()),
                "accuracy": float(correct[here].mean()),
                "count": int(here.sum()),
            }
        )
    return bins


def expected_calibration_error(confidences: np.ndarray, correct: np.ndarray, num_bins: int = 10) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal width, weighted by their counts.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017,
    equation 3. Parameters and errors are those of `reliability_bins`.

    Returns
    -------
    float
        0 is perfect; NaN without phones.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1, 1, 1, 0])), 3)
    0.15
    """
    bins = reliability_bins(confidences, correct, num_bins)
    count = sum(each["count"] for each in bins)
    error = sum(each["count"] * abs(each["accuracy"] - each["confidence"]) for each in bins)
    return error / count if count else float("nan")


def summary(raw: np.ndarray, calibrated: np.ndarray, correct: np.ndarray) -> dict[str, Any] | None:
    """Return calibration errors and reliability diagrams before and after calibration, as the report shows them.

    Parameters
    ----------
    raw, calibrated : (N,)
        The network's posteriors of recognised phones, and the confidences that `Calibration.confidence` returns for
        them.
    correct : (N,)
        Whether each phone is right.

    Returns
    -------
    dict or None
        ``ece``, ``ece_raw``, ``bins`` and ``bins_raw``; None where there are no phones.

    Examples
    --------
    >>> result = summary(np.array([0.9, 0.9]), np.array([0.5, 0.5]), np.array([1, 0]))
    >>> round(result["ece_raw"], 3), result["ece"], len(result["bins"])
    (0.4, 0.0, 1)
    """
    if len(correct) == 0:
        return None
    return {
        "ece": expected_calibration_error(calibrated, correct),
        "ece_raw": expected_calibration_error(raw, correct),
        "bins": reliability_bins(calibrated, correct),
        "bins_raw": reliability_bins(raw, correct),
    }


def correctness(pairs: Pairs) -> list[bool]:
    """Tell for each label of an aligned hypothesis whether it is paired with an equal label of the reference.

    >>> correctness([("k", "k"), ("ae", None), ("t", "d"), (None, "s")])
    [True, False, False]
    """
    return [reference == label for reference, label in pairs if label is not None]


def fold_confidences(
    labels: Sequence[str], confidences: Sequence[float], source: str, target: str
) -> tuple[list[str], list[float]]:
    """Fold labels as `asr.speech.phones.fold` does, and give the folded labels the confidences of the original ones.

    A label that is dropped takes its confidence with it. The labels that one label becomes all have its confidence.

    Raises
    ------
    AsrError
        A label is not in `source`, or no folding leads from it to `target`.

    Examples
    --------
    >>> fold_confidences(["q", "el", "k"], [0.2, 0.7, 0.9], "timit61", "arpabet39")
    (['AH', 'L', 'K'], [0.7, 0.7, 0.9])
    """
    folded_of = {label: phones.fold([label], source, target) for label in dict.fromkeys(labels)}
    both = [(new, value) for label, value in zip(labels, confidences, strict=True) for new in folded_of[label]]
    return [label for label, _ in both], [value for _, value in both]


def _check_samples(values: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N,)."""
    values, correct = np.asarray(values, np.float64), np.asarray(correct, np.float64)
    if values.ndim != 1 or values.shape != correct.shape:
        raise ValueError(f"as many confidences as answers are needed, in a row: not {values.shape} and {correct.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a confidence is not in 0..1")
    return values, correct
