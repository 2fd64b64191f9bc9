"""The sum over all label sequences in Numba, each weighted by an automaton: CTC's forward-backward over its states.

In a state of the automaton (`asr.ctc.automaton`) a path of frames is in one of two places: on its label, or on the
blank after it. A row of 2S numbers has the blanks of all states first, then the labels. `asr.ctc.partition` says how
rows are kept. No number is ever subtracted from another, so sums keep their relative precision.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

# Vector code may reorder sums; NaN and infinity keep their meaning. Not so for sums over arcs: those are too short.
VECTORS = {"reassoc", "nsz", "contract"}

# A place that is lost to underflow is below 1e-300 (2.2e-308, the weights and how many ways lead to it) before its
# frame is rescaled. So it is less than 1e-300 × Σ β / Σ α β of the whole, the sums over a frame's places: below 1e-50
# within these bounds. The same holds for β. Outside them `asr.ctc.crf_log_kernels` computes the utterance.
LEAST_NORM = 1e-40
LEAST_MASS = 1e-240

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE, TWO = np.uintp(0), np.uintp(1), np.uintp(2)


@helper()
def _softmax(logits, b, probs):
    """Write the softmax of an utterance's logits (T, B, C) to probs (T, C)."""
    num_classes = logits.shape[2]
    for t in range(len(probs)):
        peak, total = -np.inf, 0.0
        for c in range(num_classes):
            peak = max(peak, logits[t, b, c])
        for c in range(num_classes):
            probs[t, c] = math.exp(logits[t, b, c] - peak)
            total += probs[t, c]
        for c in range(num_classes):
            probs[t, c] /= total


@helper()
def _weighted_sum(arcs, end, values):
    """Return the weighted sum of the values at the other ends of the arcs of one end, by two sums side by side."""
    even, odd = 0.0, 0.0
    a, stop = arcs.offsets[end], arcs.offsets[end + ONE]
    while a + ONE < stop:
        even += arcs.weights[a] * values[arcs.others[a]]
        odd += arcs.weights[a + ONE] * values[arcs.others[a + ONE]]
        a += TWO
    if a < stop:
        even += arcs.weights[a] * values[arcs.others[a]]
    return even + odd


@helper()
def _advance(frame, scale, automaton, before, after, nodes):
    """Write the row of α one frame later, times the scale; frame (C,) holds its classes' probabilities."""
    offsets, entering, links = automaton.offsets, automaton.entering, automaton.links
    num_states = np.uintp(len(automaton.finals))
    for s in range(ZERO, num_states):
        nodes[s] = before[s] + before[num_states + s]
        nodes[num_states + s] = before[s]
    for n in range(TWO * num_states, np.uintp(len(nodes))):
        nodes[n] = 0.0
    for i in range(ZERO, np.uintp(len(links.targets))):
        shared = nodes[links.targets[i]]
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            shared += links.weights[k] * nodes[links.sources[k]]
        nodes[links.targets[i]] = shared
    for c in range(ZERO, np.uintp(len(frame))):
        emitted = frame[c] * scale
        for s in range(offsets[c], offsets[c + ONE]):
            came = _weighted_sum(entering, s, nodes)
            after[num_states + s] = (before[num_states + s] + came) * emitted
    emitted = frame[automaton.blank] * scale
    for s in range(ZERO, num_states):
        after[s] = (before[s] + before[num_states + s]) * emitted


@helper()
def _retreat(frame, scale, automaton, betas, nodes, arrived):
    """Replace the row of β, times the scale, by that of the frame before; frame (C,) is the one between them."""
    offsets, leaving, links = automaton.offsets, automaton.leaving, automaton.links
    num_states = np.uintp(len(automaton.finals))
    for c in range(ZERO, np.uintp(len(frame))):
        emitted = frame[c] * scale
        for s in range(offsets[c], offsets[c + ONE]):
            arrived[s] = betas[num_states + s] * emitted
    for n in range(ZERO, np.uintp(len(nodes))):
        nodes[n] = _weighted_sum(leaving, n, arrived)
    for done in range(ZERO, np.uintp(len(links.targets))):
        i = np.uintp(len(links.targets)) - ONE - done
        shared = nodes[links.targets[i]]
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            nodes[links.sources[k]] += links.weights[k] * shared
    emitted = frame[automaton.blank] * scale
    for s in range(ZERO, num_states):
        onward = betas[s] * emitted + nodes[s]
        betas[s] = onward + nodes[num_states + s]
        betas[num_states + s] = onward + arrived[s]


@helper(fastmath=VECTORS)
def _sum(values):
    """Return the sum of a vector."""
    total = 0.0
    for i in range(ZERO, np.uintp(len(values))):
        total += values[i]
    return total


@helper(fastmath=VECTORS)
def _mass(alphas, betas, first, stop):
    """Return the sum of α β over the places from `first` up to `stop`."""
    total = 0.0
    for i in range(first, stop):
        total += alphas[i] * betas[i]
    return total


@helper()
def _write_gradient(grad, probs, automaton, alphas, betas):
    """Write posteriors less probabilities (C,) of a frame; return whether nothing was lost."""
    offsets, num_states = automaton.offsets, np.uintp(len(automaton.finals))
    total = _mass(alphas, betas, ZERO, TWO * num_states)
    if not total > LEAST_MASS:
        return False
    for c in range(ZERO, np.uintp(len(grad))):
        posterior = _mass(alphas, betas, num_states + offsets[c], num_states + offsets[c + ONE])
        if c == automaton.blank:
            posterior += _mass(alphas, betas, ZERO, num_states)
        grad[c] = posterior / total - probs[c]
    return True


@helper()
def _copy(row, copy):
    """Copy a row: Numba needs longer to compile an assignment of one array to part of another."""
    for i in range(len(row)):
        copy[i] = row[i]


@njit(cache=True)
def _forward(automaton, room):
    """Write the rows of α of the last block, the row before each block, and what each frame is divided by.

    Return the logarithm of the whole, −inf where it is 0 or something was lost.
    """
    probs, rows, norms, num_states = room.probs, room.rows, room.norms, len(automaton.finals)
    block = len(rows) - 1
    rows[0] = 0.0
    rows[0, automaton.offsets[automaton.blank]] = 1.0
    total, norm, r = 0.0, 1.0, 0
    for t in range(len(probs)):
        if t % block == 0:
            _copy(rows[r], rows[0])
            r = 0
            _copy(rows[0], room.kept[t // block])
        norms[t] = norm
        total += math.log(norm)
        _advance(probs[t], 1 / norm, automaton, rows[r], rows[r + 1], room.nodes)
        norm = _sum(rows[r + 1])
        if not norm > LEAST_NORM:
            return -np.inf
        r += 1
    ends = 0.0
    for s in range(num_states):
        ends += (rows[r, s] + rows[r, num_states + s]) * automaton.finals[s]
    return total + math.log(ends) if ends > LEAST_MASS else -np.inf


@njit(cache=True)
def _backward(automaton, grads, b, room):
    """Write the gradient of an utterance from α and a running β; return whether nothing was lost."""
    probs, rows, norms, betas = room.probs, room.rows, room.norms, room.betas
    num_states, num_frames, block = len(automaton.finals), len(room.probs), len(room.rows) - 1
    for s in range(num_states):
        betas[s] = betas[num_states + s] = automaton.finals[s]
    for t in range(num_frames - 1, -1, -1):
        r = t % block + 1
        if r == block and t < num_frames - 1:
            first = t + 1 - block
            _copy(room.kept[t // block], rows[0])
            for i in range(block):
                _advance(probs[first + i], 1 / norms[first + i], automaton, rows[i], rows[i + 1], room.nodes)
        if t < num_frames - 1:
            _retreat(probs[t + 1], 1 / _sum(betas), automaton, betas, room.nodes, room.arrived)
        if not _write_gradient(grads[t, b], probs[t], automaton, rows[r], betas):
            return False
    return True


@njit(cache=True, nogil=True)
def one_pass(logits, b, automaton, grads, room):
    """Return ln Z of an utterance, and write its gradient; −inf and zeros where nothing is possible or was lost."""
    num_frames = len(room.probs)
    _softmax(logits, b, room.probs)
    total = _forward(automaton, room)
    if total > -np.inf and _backward(automaton, grads, b, room):
        return total
    for t in range(num_frames):
        for c in range(grads.shape[2]):
            grads[t, b, c] = 0.0
    return -np.inf


@njit(cache=True, nogil=True)
def follow(probs, automaton, row, after, nodes, posteriors):
    """Advance a row of α over frames (T, C), and write the posteriors (T, C) of each given what precedes it."""
    offsets, num_states = automaton.offsets, np.uintp(len(automaton.finals))
    for t in range(len(probs)):
        _advance(probs[t], 1.0, automaton, row, after, nodes)
        total = _sum(after)
        for c in range(ZERO, np.uintp(probs.shape[1])):
            mass = _sum(after[num_states + offsets[c] : num_states + offsets[c + ONE]])
            if c == automaton.blank:
                mass += _sum(after[:num_states])
            posteriors[t, c] = mass / total
        for i in range(len(row)):
            row[i] = after[i] / total


@njit(cache=True, nogil=True)
def score_labels(model, symbols, lengths):
    """Return the log weight of each labelling (B,) by a token model; symbols (B, 1 + L) hold the blank, then labels."""
    scores = np.empty(len(lengths))
    for b in range(len(lengths)):
        state, score = 0, 0.0
        for s in range(1, lengths[b] + 1):
            score += model.scores[state, symbols[b, s]]
            state = model.next_states[state, symbols[b, s]]
        scores[b] = score + model.finals[state]
    return scores
