"""Forward-backward and Viterbi over a graph of states, in Numba: Rabiner 1989, sections III.A–III.C.

Letters: T frames, N states, A arcs, P densities. `scores[t, p]` is ln p(x_t | density p); the rest is the fields of
`asr.hmm.graph.Graph`. Kernels trust their arguments: `asr.hmm.inference` checks them.
"""

import numpy as np

from asr.core.jit import njit

LEAST_SHARE = 1e-240  # of all paths, that those to the end must have in a frame: below, some have underflowed


@njit(cache=True, nogil=True)
def forward_backward(scores, pdfs, offsets, sources, weights, starts, finals, alpha, gamma, arcs):
    """Recursions scaled in each frame, eq. 91–92 and 103: the fast path.

    Writes the posterior of each state in each frame to gamma (T, N), and adds the expected number of times that each
    arc is taken to arcs (A,); alpha (T, N) is room to work in. Returns ln p(x), or NaN where scaling lost all paths.
    """
    num_frames, count = alpha.shape
    moves, ends = np.exp(weights), np.exp(finals)
    emitted, total = np.empty(scores.shape), 0.0  # p(x_t | density), the largest of each frame 1
    for t in range(num_frames):
        peak = -np.inf
        for p in range(scores.shape[1]):
            peak = max(peak, scores[t, p])
        for p in range(scores.shape[1]):
            emitted[t, p] = np.exp(scores[t, p] - peak)
        total += peak
    for t in range(num_frames):  # eq. 19–20
        norm = 0.0
        for j in range(count):
            came = np.exp(starts[j]) if t == 0 else 0.0
            if t > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    came += alpha[t - 1, sources[a]] * moves[a]
            alpha[t, j] = came * emitted[t, pdfs[j]]
            norm += alpha[t, j]
        if not norm > 0:
            return np.nan
        for j in range(count):
            alpha[t, j] /= norm
        total += np.log(norm)
    ending = 0.0
    for j in range(count):
        ending += alpha[num_frames - 1, j] * ends[j]
    if not ending > LEAST_SHARE:
        return np.nan
    beta, before = ends.copy(), np.empty(count)
    for j in range(count):
        gamma[num_frames - 1, j] = alpha[num_frames - 1, j] * beta[j] / ending
    for t in range(num_frames - 2, -1, -1):  # eq. 24–25, 37
        before[:] = 0.0
        for j in range(count):
            beta[j] *= emitted[t + 1, pdfs[j]]
            for a in range(offsets[j], offsets[j + 1]):
                before[sources[a]] += moves[a] * beta[j]
        mass, highest = 0.0, 0.0
        for i in range(count):
            mass += alpha[t, i] * before[i]
            highest = max(highest, before[i])
        if not mass > LEAST_SHARE * highest:
            return np.nan
        for j in range(count):
            ahead = beta[j] / mass
            if ahead > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    arcs[a] += alpha[t, sources[a]] * moves[a] * ahead
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
