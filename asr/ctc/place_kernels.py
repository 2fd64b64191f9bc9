"""Mean places of likely labels in Numba, over all paths that spell them: forward-backward in plain scaled numbers.

`asr.ctc.sum_kernels` serves any labels, and takes five times as long to compile. Labels that were recognised or aligned
are likely, so that no path which matters is far behind. Where it is, that is seen, and nothing is returned.

Letters: T frames, C classes, L labels.
"""

import math

import numpy as np

from asr.core.jit import njit

# Of the paths that end, of Σ α β in a frame, and of a label's posterior: what lies below may have lost some of itself.
LEAST = 1e-200


@njit(cache=True, nogil=True)
def place(log_probs, symbols, spans, places):
    """Write the mean centre and the mean length of each label, (L, 2), in frames; return whether nothing was lost.

    `symbols` (L + 1,) are the blank, then the labels, of which equal neighbours are told apart. A label is looked for
    in the frames of its span (L, 2) alone.
    """
    num_frames, num_labels = len(log_probs), len(symbols) - 1
    num_states = 2 * num_labels + 1
    alphas, probs = np.zeros((num_frames, num_states)), np.empty(num_labels + 1)
    row, betas, after = np.zeros(num_states), np.zeros(num_states), np.zeros(num_states)
    row[0] = 1.0  # as if paths came to frame 0 from a blank
    for t in range(num_frames):
        total = 0.0
        for s in range(num_states):
            came = row[s] + (row[s - 1] if s > 0 else 0.0)
            if s % 2 == 1 and s > 2:
                came += row[s - 2]
            came *= math.exp(np.float64(log_probs[t, symbols[(s + 1) // 2 if s % 2 == 1 else 0]]))
            alphas[t, s] = came
            total += came
        if not total > LEAST:
            return False
        for s in range(num_states):
            alphas[t, s] /= total
            row[s] = alphas[t, s]
    if not row[num_states - 1] + row[num_states - 2] > LEAST:
        return False
    betas[num_states - 1] = betas[num_states - 2] = 1.0
    places[:] = 0.0
    for t in range(num_frames - 1, -1, -1):
        whole, scale = 0.0, 0.0
        for s in range(num_states):
            whole += alphas[t, s] * betas[s]
        if not whole > LEAST:
            return False
        for i in range(num_labels):
            if spans[i, 0] <= t < spans[i, 1]:
                posterior = alphas[t, 2 * i + 1] * betas[2 * i + 1] / whole
                places[i, 0] += posterior * (t + 0.5)
                places[i, 1] += posterior
        for i in range(num_labels + 1):
            probs[i] = math.exp(np.float64(log_probs[t, symbols[i]]))
        for s in range(num_states):
            after[s] = betas[s] * (probs[(s + 1) // 2] if s % 2 == 1 else probs[0])
        for s in range(num_states):
            came = after[s] + (after[s + 1] if s + 1 < num_states else 0.0)
            if s % 2 == 1 and s + 2 < num_states:
                came += after[s + 2]
            betas[s] = came
            scale += came
        for s in range(num_states):
            betas[s] /= scale
    for i in range(num_labels):
        if not places[i, 1] > LEAST:
            return False
        places[i, 0] /= places[i, 1]
    return True
