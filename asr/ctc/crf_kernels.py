"""The sum over all label sequences in Numba, each weighted by an automaton: CTC's forward-backward over its states.

In a state of the automaton (`asr.ctc.automaton`) a path of frames is in one of two places: on its label, or on the
blank after it. A row of 2S numbers has the blanks of all states first, then the labels.

No number is ever subtracted from another, so sums keep their relative precision. Memory is bounded as in
`asr.ctc.align_kernels`: of a long utterance only the rows between blocks of frames are kept, and each block is computed
again on the way back.

Letters: T frames, B utterances, C classes, S states, N nodes, A arcs, K links.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import helper, njit
from asr.ctc.automaton import Automaton

# Vector code may reorder sums; NaN and infinity keep their meaning. Not so for sums over arcs: those are too short.
VECTORS = {"reassoc", "nsz", "contract"}

# A place that is lost to underflow is below 1e-300 (2.2e-308, the weights and how many ways lead to it) before its
# frame is rescaled. So it is less than 1e-300 × Σ β / Σ α β of the whole, the sums over a frame's places: below 1e-50
# within these bounds. The same holds for β. Outside them the utterance is computed in logarithms.
LEAST_NORM = 1e-40
LEAST_MASS = 1e-240

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE, TWO = np.uintp(0), np.uintp(1), np.uintp(2)
CELLS = 1 << 23  # numbers that the rows of a block may have (64 MiB), unless √T rows have more


class Room(NamedTuple):
    """Where an utterance is worked on.

    Attributes
    ----------
    rows : (frames of a block + 1, 2S)
        α; row 0 is that before the block.
    kept : (blocks, 2S)
        The row before each block.
    probs : (T, C)
        Softmax of the logits, or its logarithm.
    norms : (T,)
        The sum of the row before each frame, by which the frame's is divided.
    betas : (2S,)
    nodes : (N,)
        What is at the nodes.
    arrived : (S,)
        β of labels, times the probability of the next frame.
    """

    rows: np.ndarray
    kept: np.ndarray
    probs: np.ndarray
    norms: np.ndarray
    betas: np.ndarray
    nodes: np.ndarray
    arrived: np.ndarray


@njit(cache=True)
def layout(num_frames, num_states):
    """Return the frames of a block, and the number of blocks."""
    block = max(1, min(num_frames, max(CELLS // (2 * num_states), 1 + int(math.sqrt(num_frames)))))
    return block, (num_frames + block - 1) // block


def workspace_size(num_frames: int, automaton: Automaton, num_classes: int) -> int:
    """Return how many float64 an utterance of so many frames takes."""
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1
    block, num_blocks = layout(num_frames, num_states)
    return (block + num_blocks + 2) * 2 * num_states + num_states + num_nodes + num_frames * (num_classes + 1)


@njit(cache=True)
def room_for(num_frames, num_classes, automaton, work):
    """Lay out a workspace."""
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1
    block, num_blocks = layout(num_frames, num_states)
    width, work_of = 2 * num_states, work
    rows, work_of = work_of[: (block + 1) * width].reshape(block + 1, width), work_of[(block + 1) * width :]
    kept, work_of = work_of[: num_blocks * width].reshape(num_blocks, width), work_of[num_blocks * width :]
    size = num_frames * num_classes
    probs, work_of = work_of[:size].reshape(num_frames, num_classes), work_of[size:]
    norms, work_of = work_of[:num_frames], work_of[num_frames:]
    betas, work_of = work_of[:width], work_of[width:]
    return Room(rows, kept, probs, norms, betas, work_of[:num_nodes], work_of[num_nodes:][:num_states])


@helper()
def _softmax(logits, b, in_logs, probs):
    """Write the softmax of an utterance's logits (T, B, C), or its logarithm, to probs (T, C)."""
    num_classes = logits.shape[2]
    for t in range(len(probs)):
        peak, total = -np.inf, 0.0
        for c in range(num_classes):
            peak = max(peak, logits[t, b, c])
        for c in range(num_classes):
            probs[t, c] = math.exp(logits[t, b, c] - peak)
            total += probs[t, c]
        for c in range(num_classes):
            probs[t, c] = logits[t, b, c] - peak - math.log(total) if in_logs else probs[t, c] / total


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


@helper()
def _log(weight):
    """Return the logarithm, −inf for 0, at which Python's own raises an error."""
    return math.log(weight) if weight > 0.0 else -np.inf


@helper()
def _logaddexp(a, b):
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@helper()
def _log_sum(arcs, end, values, more):
    """Return the logarithm of e^more + the weighted sum of e^values at the other ends of the arcs of one end."""
    peak = more
    for a in range(arcs.offsets[end], arcs.offsets[end + ONE]):
        peak = max(peak, values[arcs.others[a]])
    if peak == -np.inf:
        return peak
    total = math.exp(more - peak)
    for a in range(arcs.offsets[end], arcs.offsets[end + ONE]):
        total += arcs.weights[a] * math.exp(values[arcs.others[a]] - peak)
    return peak + _log(total)


@helper()
def _advance_logs(frame, automaton, before, after, nodes):
    """Do as `_advance` does, in logarithms."""
    offsets, links, num_states = automaton.offsets, automaton.links, np.uintp(len(automaton.finals))
    for s in range(ZERO, num_states):
        nodes[s] = _logaddexp(before[s], before[num_states + s])
        nodes[num_states + s] = before[s]
        after[s] = nodes[s] + frame[automaton.blank]
    for n in range(TWO * num_states, np.uintp(len(nodes))):
        nodes[n] = -np.inf
    for i in range(ZERO, np.uintp(len(links.targets))):
        shared = nodes[links.targets[i]]
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            shared = _logaddexp(shared, _log(links.weights[k]) + nodes[links.sources[k]])
        nodes[links.targets[i]] = shared
    for c in range(ZERO, np.uintp(len(frame))):
        for s in range(offsets[c], offsets[c + ONE]):
            after[num_states + s] = _log_sum(automaton.entering, s, nodes, before[num_states + s]) + frame[c]


@helper()
def _retreat_logs(frame, automaton, betas, nodes, arrived):
    """Do as `_retreat` does, in logarithms."""
    offsets, links, num_states = automaton.offsets, automaton.links, np.uintp(len(automaton.finals))
    for c in range(ZERO, np.uintp(len(frame))):
        for s in range(offsets[c], offsets[c + ONE]):
            arrived[s] = betas[num_states + s] + frame[c]
    for n in range(ZERO, np.uintp(len(nodes))):
        nodes[n] = _log_sum(automaton.leaving, n, arrived, -np.inf)
    for done in range(ZERO, np.uintp(len(links.targets))):
        i = np.uintp(len(links.targets)) - ONE - done
        shared = nodes[links.targets[i]]
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            source = links.sources[k]
            nodes[source] = _logaddexp(nodes[source], _log(links.weights[k]) + shared)
    for s in range(ZERO, num_states):
        onward = _logaddexp(betas[s] + frame[automaton.blank], nodes[s])
        betas[s] = _logaddexp(onward, nodes[num_states + s])
        betas[num_states + s] = _logaddexp(onward, arrived[s])


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
def _write_gradient_logs(grad, log_probs, automaton, alphas, betas, total):
    """Do as `_write_gradient` does, in logarithms; `total` is that of the whole."""
    offsets, num_states = automaton.offsets, np.uintp(len(automaton.finals))
    for c in range(ZERO, np.uintp(len(grad))):
        posterior = 0.0
        for i in range(num_states + offsets[c], num_states + offsets[c + ONE]):
            posterior += math.exp(alphas[i] + betas[i] - total)
        for i in range(ZERO, num_states if c == automaton.blank else ZERO):
            posterior += math.exp(alphas[i] + betas[i] - total)
        grad[c] = posterior - math.exp(log_probs[c])


@helper()
def _copy(row, copy):
    """Copy a row: Numba needs longer to compile an assignment of one array to part of another."""
    for i in range(len(row)):
        copy[i] = row[i]


@njit(cache=True)
def _forward(automaton, in_logs, room):
    """Write the rows of α of the last block, the row before each block, and what each frame is divided by.

    Return the logarithm of the whole, −inf where it is 0 or something was lost.
    """
    probs, rows, norms, num_states = room.probs, room.rows, room.norms, len(automaton.finals)
    block = len(rows) - 1
    rows[0] = -np.inf if in_logs else 0.0
    rows[0, automaton.offsets[automaton.blank]] = 0.0 if in_logs else 1.0
    total, norm, r = 0.0, 1.0, 0
    for t in range(len(probs)):
        if t % block == 0:
            _copy(rows[r], rows[0])
            r = 0
            _copy(rows[0], room.kept[t // block])
        norms[t] = norm
        if in_logs:
            _advance_logs(probs[t], automaton, rows[r], rows[r + 1], room.nodes)
        else:
            total += math.log(norm)
            _advance(probs[t], 1 / norm, automaton, rows[r], rows[r + 1], room.nodes)
            norm = _sum(rows[r + 1])
            if not norm > LEAST_NORM:
                return -np.inf
        r += 1
    ends = -np.inf if in_logs else 0.0
    for s in range(num_states):
        if in_logs:
            here = _logaddexp(rows[r, s], rows[r, num_states + s])
            ends = _logaddexp(ends, here + _log(automaton.finals[s]))
        else:
            ends += (rows[r, s] + rows[r, num_states + s]) * automaton.finals[s]
    if in_logs:
        return ends
    return total + math.log(ends) if ends > LEAST_MASS else -np.inf


@njit(cache=True)
def _backward(automaton, in_logs, total, grads, room):
    """Write the gradient (T, C) from α and a running β; return whether nothing was lost."""
    probs, rows, norms, betas = room.probs, room.rows, room.norms, room.betas
    num_states, num_frames, block = len(automaton.finals), len(room.probs), len(room.rows) - 1
    for s in range(num_states):
        betas[s] = betas[num_states + s] = _log(automaton.finals[s]) if in_logs else automaton.finals[s]
    for t in range(num_frames - 1, -1, -1):
        r = t % block + 1
        if r == block and t < num_frames - 1:
            first = t + 1 - block
            _copy(room.kept[t // block], rows[0])
            for i in range(block):
                if in_logs:
                    _advance_logs(probs[first + i], automaton, rows[i], rows[i + 1], room.nodes)
                else:
                    _advance(probs[first + i], 1 / norms[first + i], automaton, rows[i], rows[i + 1], room.nodes)
        if in_logs:
            if t < num_frames - 1:
                _retreat_logs(probs[t + 1], automaton, betas, room.nodes, room.arrived)
            _write_gradient_logs(grads[t], probs[t], automaton, rows[r], betas, total)
        else:
            if t < num_frames - 1:
                _retreat(probs[t + 1], 1 / _sum(betas), automaton, betas, room.nodes, room.arrived)
            if not _write_gradient(grads[t], probs[t], automaton, rows[r], betas):
                return False
    return True


@njit(cache=True)
def one_pass(logits, b, automaton, in_logs, grads, room):
    """Return ln Z of an utterance, and write its gradient; −inf and zeros where nothing is possible or was lost."""
    num_frames = len(room.probs)
    _softmax(logits, b, in_logs, room.probs)
    total = _forward(automaton, in_logs, room)
    if total > -np.inf and _backward(automaton, in_logs, total, grads[:num_frames, b], room):
        return total
    for t in range(num_frames):
        for c in range(grads.shape[2]):
            grads[t, b, c] = 0.0
    return -np.inf


@njit(cache=True, nogil=True)
def partition(chosen, logits, utterances, lengths, automaton, found, work):
    """Find ln Z (B,) of some utterances among logits (T, B, C), and its gradient at the logits (T, B, C).

    `chosen` are places in `utterances`, which have neither NaN nor +inf; lengths (B,) are their frames. `found` gets
    ln Z, −inf where no path is possible, and the gradient, which is 0 before.
    """
    totals, grads = found
    for i in chosen:
        b = utterances[i]
        num_frames = lengths[b]
        if num_frames == 0:
            totals[b] = _log(automaton.finals[automaton.offsets[automaton.blank]])
            continue
        room = room_for(num_frames, logits.shape[2], automaton, work)
        totals[b] = one_pass(logits, b, automaton, False, grads, room)
        if totals[b] == -np.inf:
            totals[b] = one_pass(logits, b, automaton, True, grads, room)


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
