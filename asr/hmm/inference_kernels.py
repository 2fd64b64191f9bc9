"""Forward-backward and Viterbi over a graph of states, in Numba: Rabiner 1989, sections III.A–III.C.

Letters: T frames, N states, A arcs, P densities. `scores[t, p]` is ln p(x_t | density p); `graph` is an
`asr.hmm.graph.Graph`. Kernels trust their arguments: `asr.hmm.inference` checks them.
"""

import numpy as np

from asr.core.jit import helper, njit

SCALE = 2.0**256
LN_SCALE = 256 * np.log(2)
LEAST = 2.0**-128  # of a number other than 0; together with numbers below 1 / LEAST it leaves room for a product
LEAST_LOG = -1e12  # the logarithm of a likelihood or weight, below which it counts as 0
NEGLIGIBLE = 1e-30  # a state's posterior, below which β is not followed


@helper()
def _wide(log):
    """Return e to the power of `log` as a number in (1 / SCALE, 1] and an exponent of SCALE; 0 and −∞ for 0."""
    if log < LEAST_LOG:
        return 0.0, -np.inf
    exponent = np.ceil(log / LN_SCALE)
    return np.exp(log - exponent * LN_SCALE), exponent


@helper()
def _plus(a, i, b, j):
    """Return a · SCALE^i + b · SCALE^j in the same form; one that is beyond the digits of the other is dropped."""
    if i == j:
        return a + b, i
    if i > j:
        return (a + b / SCALE if i - j == 1.0 else a), i
    return (b + a / SCALE if j - i == 1.0 else b), j


@helper()
def _settle(a, i):
    """Return a · SCALE^i with the number in [LEAST, 1 / LEAST), unless it is 0."""
    if a < LEAST:
        return a * SCALE, i - 1.0
    if a >= 1 / LEAST:
        return a / SCALE, i + 1.0
    return a, i


@helper()
def _narrow(a, i):
    """Return a · SCALE^i as one number."""
    for _ in range(int(min(abs(i), 4.0))):
        a = a * SCALE if i > 0 else a / SCALE
    return a


@njit(cache=True, nogil=True)
def forward_backward(scores, graph, alpha, gamma, arcs):
    """Sum over all paths, eq. 19–21, 24–25, 27 and 37 (docs/theory/hmm.md).

    Writes the posterior of each state in each frame to gamma (T, N), and adds the expected number of times that each
    arc is taken to arcs (A,); alpha (T, N) is working memory. Returns ln p(x), −inf without a path.

    An utterance's probabilities span far more than float64 does. So α is alpha · SCALE^gamma, with an exponent for each
    state and frame. β of a state is divided by that power, so that alpha · beta is the posterior: where beta leaves the
    range of float64, the posterior is negligible.
    """
    pdfs, offsets, sources, weights, starts, finals = graph
    num_frames, count = alpha.shape
    moves, jumps, total = np.empty(len(weights)), np.empty(len(weights)), 0.0
    for a in range(len(weights)):
        moves[a], jumps[a] = _wide(weights[a])
    emitted, lifts = np.empty(scores.shape), np.empty(scores.shape)  # p(x_t | density), the largest of each frame 1
    for t in range(num_frames):
        peak = -np.inf
        for p in range(scores.shape[1]):
            peak = max(peak, scores[t, p])
        peak = peak if peak > -np.inf else 0.0
        for p in range(scores.shape[1]):
            emitted[t, p], lifts[t, p] = _wide(scores[t, p] - peak)
        total += peak
        for j in range(count):
            if emitted[t, pdfs[j]] == 0.0:
                alpha[t, j], gamma[t, j] = 0.0, -np.inf
                continue
            came, top = _wide(starts[j] if t == 0 else -np.inf)
            if t > 0:
                for a in range(offsets[j], offsets[j + 1]):
                    value, exponent = alpha[t - 1, sources[a]] * moves[a], gamma[t - 1, sources[a]] + jumps[a]
                    if value < LEAST:
                        value, exponent = value * SCALE, exponent - 1.0
                    came, top = _plus(came, top, value, exponent)
            came, top = came * emitted[t, pdfs[j]], top + lifts[t, pdfs[j]]
            alpha[t, j], gamma[t, j] = _settle(came, top)
    ending, top = 0.0, -np.inf
    for j in range(count):
        end, exponent = _wide(finals[j])
        value, exponent = _settle(alpha[num_frames - 1, j] * end, gamma[num_frames - 1, j] + exponent)
        ending, top = _plus(ending, top, value, exponent)
    if ending == 0.0:
        return -np.inf
    beta, before, posteriors = np.empty(count), np.empty(count), np.empty(count)
    for j in range(count):
        end, exponent = _wide(finals[j])
        beta[j] = _narrow(end / ending, gamma[num_frames - 1, j] + exponent - top)
    for t in range(num_frames - 1, -1, -1):
        mass = 0.0
        for j in range(count):
            posterior = alpha[t, j] * beta[j]
            posteriors[j] = posterior if posterior > NEGLIGIBLE else 0.0
            mass += posteriors[j]
        before[:] = 0.0
        for j in range(count if t > 0 else 0):
            if posteriors[j] > 0.0:
                ahead, exponent = beta[j] * emitted[t, pdfs[j]] / mass, lifts[t, pdfs[j]] - gamma[t, j]
                for a in range(offsets[j], offsets[j + 1]):
                    step = _narrow(ahead * moves[a], exponent + jumps[a] + gamma[t - 1, sources[a]])
                    before[sources[a]] += step
                    arcs[a] += alpha[t - 1, sources[a]] * step
        for j in range(count):
            gamma[t, j] = posteriors[j] / mass
        beta, before = before, beta
    return total + np.log(ending) + top * LN_SCALE


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
