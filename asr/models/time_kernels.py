"""Levels of sound, and the boundaries that part it best, in Numba: the inner loops of `asr.models.times`.

Letters: N samples, T steps, M mel bins, K boundaries, P places for each.
"""

import numpy as np

from asr.core.jit import helper, njit

SPREAD = 2.5  # steps; standard deviation of the boundaries about where CTC puts them
EMPTY = 1e6  # cost of a segment without frames, which is used only where there are more segments than frames


@helper()
def _high_pass(waveform, period, filtered):
    """Subtract the moving average over a period (N,) → (N,); beyond its edges the waveform stays what it is there."""
    last, before, total = len(waveform) - 1, period // 2, 0.0
    for n in range(-before, period - before):
        total += waveform[min(max(n, 0), last)]
    for n in range(len(waveform)):
        filtered[n] = waveform[n] - total / period
        total += np.float64(waveform[min(n + period - before, last)]) - np.float64(waveform[max(n - before, 0)])


@njit(cache=True, nogil=True)
def mean_squares(waveform, period, first, hop):
    """Return the mean square of the two hops about the middle of each hop from sample `first` on, high-passed twice."""
    once, twice = np.empty(len(waveform)), np.empty(len(waveform))
    _high_pass(waveform, period, once)
    _high_pass(once, period, twice)
    found = np.empty((len(waveform) - first + hop - 1) // hop)
    for t in range(len(found)):
        start = first + t * hop
        low, high = max(start - hop // 2, 0), min(start + 3 * hop // 2, len(waveform))
        total = 0.0
        for n in range(low, high):
            total += twice[n] * twice[n]
        found[t] = total / (high - low)
    return found


@helper()
def _scatter(sums, squares, start, stop):
    """Return the sum of squared distances of the frames of a segment from their mean, a mel bin."""
    if stop <= start:
        return EMPTY
    total, num_bins = 0.0, sums.shape[1]
    for m in range(num_bins):
        difference = sums[stop, m] - sums[start, m]
        total += difference * difference
    return (squares[stop] - squares[start] - total / (stop - start)) / num_bins


@njit(cache=True, nogil=True)
def best_places(sums, squares, places, expected):
    """Return the best place (K,) of each boundary's (K, P), in steps, by Viterbi's algorithm.

    `sums` (T + 1, M) and `squares` (T + 1,) are the sums of the spectra and of their squares before each step, and
    `expected` (K,) is where boundaries are if the sound does not matter.
    """
    count, width = places.shape
    costs, after, choices = np.zeros(width), np.empty(width), np.zeros((count, width), np.int64)
    for i in range(count + 1):
        for k in range(width if i < count else 1):
            stop = places[i, k] if i < count else len(sums) - 1
            least, choice = np.inf, 0
            for j in range(width if i > 0 else 1):
                cost = costs[j] + _scatter(sums, squares, places[i - 1, j] if i > 0 else 0, stop) / 2
                if cost < least:
                    least, choice = cost, j
            if i == count:
                best = choice
                break
            choices[i, k] = choice
            distance = (stop - expected[i]) / SPREAD
            after[k] = least + distance * distance / 2
        costs, after = after, costs
    chosen = np.empty(count, np.int64)
    for i in range(count - 1, -1, -1):
        chosen[i] = places[i, best]
        best = choices[i, best]
    return chosen
