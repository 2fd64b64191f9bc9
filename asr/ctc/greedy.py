"""Best-path decoding (Graves et al. 2006, section 3.2): the most probable class of each frame, collapsed."""

from itertools import pairwise
from typing import Any, overload

import numpy as np

from asr.ctc.arguments import check_log_probs, check_values
from asr.ctc.hypothesis import Hypothesis


@overload  # Any: the types of (T, C) and (T, B, C) are one
def best_path(log_probs: np.ndarray, input_lengths: None = None, blank: int = 0) -> Any: ...
@overload
def best_path(log_probs: np.ndarray, input_lengths: np.ndarray, blank: int = 0) -> list[Hypothesis]: ...


def best_path(
    log_probs: np.ndarray, input_lengths: np.ndarray | None = None, blank: int = 0
) -> Hypothesis | list[Hypothesis]:
    """Take the most probable class of each frame, merge repeats and drop blanks.

    Parameters
    ----------
    log_probs : (T, B, C), or (T, C) for one utterance
        Natural logs.
    input_lengths : (B,), optional
        Number of frames of each utterance; T by default.
    blank
        Index of the blank.

    Returns
    -------
    list of Hypothesis, or one Hypothesis for (T, C)
        `score` is the log probability of that one path. A token's timestep is the frame of its run where its
        probability is highest.

    Raises
    ------
    ValueError
        Shapes, lengths or the blank do not fit, or a log probability is NaN or above 0.

    Examples
    --------
    >>> probs = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    >>> best_path(np.log(probs)).tokens, best_path(np.log(probs)).timesteps
    ((1, 1), (0, 3))
    """
    if np.ndim(log_probs) == 2:
        return best_path(np.asarray(log_probs)[:, None], input_lengths, blank)[0]
    values, lengths = check_log_probs(log_probs, input_lengths, blank)
    check_values(values, lengths)
    return [_collapse(values[:length, b], blank) for b, length in enumerate(lengths)]


def _collapse(log_probs: np.ndarray, blank: int) -> Hypothesis:
    path = log_probs.argmax(axis=1)
    peaks = log_probs[np.arange(len(path)), path]
    edges = np.flatnonzero(np.diff(path, prepend=-1, append=-1))  # where runs start, and the end
    tokens: list[int] = []
    timesteps: list[int] = []
    for start, stop in pairwise(edges):
        if path[start] != blank:
            tokens.append(int(path[start]))
            timesteps.append(int(start + peaks[start:stop].argmax()))
    confidences = np.exp(peaks[timesteps], dtype=np.float64)
    return Hypothesis(tuple(tokens), tuple(timesteps), float(peaks.sum(dtype=np.float64)), tuple(confidences.tolist()))
