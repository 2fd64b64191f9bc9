"""Forward-backward and Viterbi over a graph of states, in Numba: Rabiner 1989, sections III.A–III.C.

Letters: T frames, N states, A arcs, P densities. `scores[t, p]` is ln p(x_t | density p); the rest is the fields of
`asr.hmm.graph.Graph`. Kernels trust their arguments: `asr.hmm.inference` checks them.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def forward_backward(scores, pdfs, offsets, sources, weights, starts, finals, alpha, gamma, arcs):
    """Recursions scaled in each frame, eq. 90–93: the fast path.

    Writes the posterior of each state in each frame to gamma (T, N), and adds the expected number of times that each
    arc is taken to arcs (A,); alpha (T, N) is room to work in. Returns ln p(x), or NaN where scaling lost all paths.
    """
    num_frames, count = alpha.shape
    total = 0.0
    for t in range(num_frames):  # eq. 19–20
        peak = -np.inf
        for j in range(count):
            peak = max(peak, scores[t, pdfs[j]])
        norm = 0.0
        for j in range(count):
            came = np.exp(starts[j]) if t == 0 else 0.0
            if t > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    came += alpha[t - 1, sources[a]] * np.exp(weights[a])
            alpha[t, j] = came * np.exp(scores[t, pdfs[j]] - peak) if came > 0 else 0.0
            norm += alpha[t, j]
        if not norm > 0:
            return np.nan
        for j in range(count):
            alpha[t, j] /= norm
        total += np.log(norm) + peak
    ending = 0.0
    for j in range(count):
        ending += alpha[num_frames - 1, j] * np.exp(finals[j])
    if not ending > 0:
        return np.nan
    beta, before = np.empty(count), np.empty(count)
    for j in range(count):
        beta[j] = np.exp(finals[j])
        gamma[num_frames - 1, j] = alpha[num_frames - 1, j] * beta[j] / ending
    for t in range(num_frames - 2, -1, -1):  # eq. 24–25, 37
        peak = -np.inf
        for j in range(count):
            peak = max(peak, scores[t + 1, pdfs[j]])
        before[:] = 0.0
        for j in range(count):
            ahead = beta[j] * np.exp(scores[t + 1, pdfs[j]] - peak)
            for a in range(offsets[j], offsets[j + 1]):
                before[sources[a]] += np.exp(weights[a]) * ahead
        mass, highest = 0.0, 0.0
        for i in range(count):
            mass += alpha[t, i] * before[i]
            highest = max(highest, before[i])
        if not mass > 0:
            return np.nan
        for j in range(count):
            ahead = beta[j] * np.exp(scores[t + 1, pdfs[j]] - peak) / mass
            for a in range(offsets[j], offsets[j + 1]):
                arcs[a] += alpha[t, sources[a]] * np.exp(weights[a]) * ahead
        for i in range(count):
            gamma[t, i] = alpha[t, i] * before[i] / mass
            beta[i] = before[i] / highest
    return total + np.log(ending)


@njit(cache=True, nogil=True)
def log_forward_backward(scores, pdfs, offsets, sources, weights, starts, finals, alpha, gamma, arcs):
    """Do the same in logarithms, which lose no path: slower, for what the fast path returns NaN for."""
    num_frames, count = alpha.shape
    for t in range(num_frames):
        for j in range(count):
            came = starts[j] if t == 0 else -np.inf
            if t > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    came = _log_add(came, alpha[t - 1, sources[a]] + weights[a])
            alpha[t, j] = came + scores[t, pdfs[j]]
    total = -np.inf
    for j in range(count):
        total = _log_add(total, alpha[num_frames - 1, j] + finals[j])
    if total == -np.inf:
        return total
    beta, before = finals.copy(), np.empty(count)
    for t in range(num_frames - 1, -1, -1):
        for j in range(count):
            gamma[t, j] = np.exp(alpha[t, j] + beta[j] - total)
        if t == 0:
            break
        before[:] = -np.inf
        for j in range(count):
            ahead = beta[j] + scores[t, pdfs[j]]
            for a in range(offsets[j], offsets[j + 1]):
                before[sources[a]] = _log_add(before[sources[a]], weights[a] + ahead)
                arcs[a] += np.exp(alpha[t - 1, sources[a]] + weights[a] + ahead - total)
        beta[:] = before
    return total


@njit(cache=True, inline="always")
def _log_add(x, y):
    if x < y:
        x, y = y, x
    return x if y == -np.inf else x + np.log1p(np.exp(y - x))


@njit(cache=True, nogil=True)
def viterbi(scores, pdfs, offsets, sources, weights, starts, finals, came_from, path):
    """Write the likeliest states to path (T,), eq. 32–35; came_from (T, N) int32 is room to work in.

    Returns ln p of the path and the frames together: −inf where there is no path.
    """
    num_frames, count = came_from.shape
    best, before = np.empty(count), np.empty(count)
    for j in range(count):
        best[j] = starts[j] + scores[0, pdfs[j]]
    for t in range(1, num_frames):
        before[:] = best
        for j in range(count):
            top, origin = -np.inf, -1
            for a in range(offsets[j], offsets[j + 1]):
                value = before[sources[a]] + weights[a]
                if value > top:
                    top, origin = value, sources[a]
            best[j] = top + scores[t, pdfs[j]]
            came_from[t, j] = origin
    top, state = -np.inf, -1
    for j in range(count):
        if best[j] + finals[j] > top:
            top, state = best[j] + finals[j], j
    if state < 0:
        return top
    for t in range(num_frames - 1, -1, -1):
        path[t] = state
        state = came_from[t, state]
    return top
