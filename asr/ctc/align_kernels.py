"""The likeliest path of a labelling in Numba: Viterbi over the states that the loss sums over, in the same two rows.

`blanks[t, s]` is the blank after label s, s = 0 … L, and `labels[t, s]` is label s, s = 1 … L. Letters: T frames, B
utterances, C classes, L labels, N alignments.
"""

import numpy as np
from numba import njit

ZERO, ONE = np.uintp(0), np.uintp(1)  # an unsigned index is never taken from the end, which costs vectors and time
START, STOP, PEAK = 0, 1, 2


def workspace_size(num_frames: int, num_labels: int) -> int:
    """Return how many float64 a thread needs for utterances of up to T frames and L labels."""
    return (2 * num_frames + 2) * (num_labels + 1)


@njit(cache=True, inline="always")
def _viterbi(log_probs, b, symbols, priors, blanks, labels, work):
    """Write the log probability of the likeliest path into each state to blanks and labels, both (T, L + 1).

    Return whether all log_probs met are below infinity.
    """
    num_frames, end, blank = np.uintp(len(blanks)), np.uintp(len(symbols)), symbols[0]
    bars, given = work[:end], work[end:]
    for s in range(ZERO, end):
        bars[s] = 0.0 if s > ONE and symbols[s] != symbols[s - ONE] else -np.inf  # of skipping the blank before label s
        given[s] = priors[symbols[s]]
        blanks[0, s], labels[0, s] = -np.inf, -np.inf
    blanks[0, 0] = log_probs[0, b, blank] - given[0]
    sound = blanks[0, 0] < np.inf
    if end > ONE:
        labels[0, 1] = log_probs[0, b, symbols[1]] - given[1]
        sound &= labels[0, 1] < np.inf
    for t in range(ONE, num_frames):
        before, paused = t - ONE, log_probs[t, b, blank] - given[0]
        blanks[t, 0], labels[t, 0] = blanks[before, 0] + paused, -np.inf
        sound &= paused < np.inf
        for s in range(ONE, end):
            emitted = log_probs[t, b, symbols[s]] - given[s]
            sound &= emitted < np.inf
            came = max(blanks[before, s - ONE], labels[before, s - ONE] + bars[s])
            labels[t, s] = max(labels[before, s], came) + emitted
            blanks[t, s] = max(blanks[before, s], labels[before, s]) + paused
    return sound


@njit(cache=True, nogil=True)
def best_paths(alignments, log_probs, symbols, shapes, priors, frames, confidences, scores, work):
    """Align some of N labellings with log_probs (T, B, C) less the log priors (C,).

    symbols (N, 1 + L) hold the blank, then the labels; shapes (3, N) their utterances, frames and lengths. Writes
    each label's first frame, the one after its last, and its likeliest (N, L, 3), the geometric mean of its
    probabilities (N, L), and the path's score (N,): −inf where there is no path, NaN where a label's log_probs hold NaN
    or +inf.
    """
    for n in alignments:
        b, num_frames, end = np.uintp(shapes[0, n]), shapes[1, n], shapes[2, n] + 1
        if num_frames == 0:
            scores[n] = 0.0 if end == 1 else -np.inf
            continue
        size = num_frames * end
        blanks, labels = work[:size].reshape(num_frames, end), work[size : 2 * size].reshape(num_frames, end)
        sound = _viterbi(log_probs, b, symbols[n, :end], priors, blanks, labels, work[2 * size :])
        s, t = end - 1, num_frames - 1
        on_label = labels[t, s] > blanks[t, s]
        scores[n] = max(labels[t, s], blanks[t, s]) if sound else np.nan
        peak, total = -np.inf, 0.0
        while scores[n] > -np.inf and t >= 0:
            if not on_label:
                on_label = t > 0 and labels[t - 1, s] > blanks[t - 1, s]
                t -= 1
                continue
            value = np.float64(log_probs[t, b, symbols[n, s]])
            if frames[n, s - 1, STOP] == 0:
                frames[n, s - 1, STOP] = t + 1
                peak, total = -np.inf, 0.0
            total += value
            if value >= peak:
                peak = value
                frames[n, s - 1, PEAK] = t
            stayed = labels[t - 1, s] if t > 0 else -np.inf
            came = blanks[t - 1, s - 1] if t > 0 else 0.0
            skipped = -np.inf
            if t > 0 and s > 1 and symbols[n, s] != symbols[n, s - 1]:
                skipped = labels[t - 1, s - 1]
            if max(came, skipped) > stayed:
                frames[n, s - 1, START] = t
                confidences[n, s - 1] = np.exp(total / (frames[n, s - 1, STOP] - t))
                on_label = skipped > came
                s -= 1
            t -= 1
