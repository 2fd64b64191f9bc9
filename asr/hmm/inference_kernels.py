"""Forward-backward and Viterbi over a graph of states, in Numba: Rabiner 1989, sections III.A–III.C.

Letters: T frames, N states, A arcs, P densities. `scores[t, p]` is ln p(x_t | density p); `graph` is an
`asr.hmm.graph.Graph`. Kernels trust their arguments: `asr.hmm.inference` checks them.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

LEAST_SHARE = 1e-240  # of a frame's probability on paths to the end: below it, some paths have underflowed


@njit(cache=True, nogil=True)
def forward_backward(scores, graph, alpha, gamma, arcs):
    """Recursions scaled in each frame, eq. 91–92 and 103: the fast path.

    Writes the posterior of each state in each frame to gamma (T, N), and adds the expected number of times that each
    arc is taken to arcs (A,); alpha (T, N) is working memory. Returns ln p(x), or NaN if scaling lost all paths.
    """
    pdfs, offsets, sources, weights, starts, finals = graph
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


@helper()
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@njit(cache=True, nogil=True)
def log_forward_backward(scores, graph, alpha, gamma, arcs):
    """Compute the same in logarithms, where no path underflows: slower, for utterances that the fast path fails on."""
    pdfs, offsets, sources, weights, starts, finals = graph
    num_frames, count = alpha.shape
    for t in range(num_frames):
        for j in range(count):
            came = starts[j] if t == 0 else -np.inf
            if t > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    came = _logaddexp(came, alpha[t - 1, sources[a]] + weights[a])
            alpha[t, j] = came + scores[t, pdfs[j]]
    total = -np.inf
    for j in range(count):
        total = _logaddexp(total, alpha[num_frames - 1, j] + finals[j])
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
                before[sources[a]] = _logaddexp(before[sources[a]], weights[a] + ahead)
                arcs[a] += np.exp(alpha[t - 1, sources[a]] + weights[a] + ahead - total)
        beta, before = before, beta
    return total


@njit(cache=True, nogil=True)
def viterbi(scores, graph, came_from, path):
    """Write the most probable states to path (T,), eq. 32–35; came_from (T, N) int32 is working memory.

    Returns ln p of the path and the frames together, −inf if there is no path.
    """
    pdfs, offsets, sources, weights, starts, finals = graph
    num_frames, count = came_from.shape
    best, before = np.empty(count), np.empty(count)
    for j in range(count):
        best[j] = starts[j] + scores[0, pdfs[j]]
    for t in range(1, num_frames):
        best, before = before, best
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
