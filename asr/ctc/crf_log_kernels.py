"""What `asr.ctc.crf_kernels` does, in logarithms: slow, and nothing is lost to underflow.

It is compiled only when an utterance needs it.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

ZERO, ONE = np.uintp(0), np.uintp(1)


@helper()
def _log_softmax(logits, b, log_probs):
    """Write the logarithm of the softmax of an utterance's logits (T, B, C) to log_probs (T, C)."""
    num_classes = logits.shape[2]
    for t in range(len(log_probs)):
        peak, total = -np.inf, 0.0
        for c in range(num_classes):
            peak = max(peak, logits[t, b, c])
        for c in range(num_classes):
            total += math.exp(logits[t, b, c] - peak)
        for c in range(num_classes):
            log_probs[t, c] = logits[t, b, c] - peak - math.log(total)


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
def _advance(frame, automaton, before, after, nodes):
    """Write the row of α one frame later; frame (C,) holds the log probabilities of its classes."""
    offsets, links, num_states = automaton.offsets, automaton.links, np.uintp(len(automaton.finals))
    for s in range(ZERO, num_states):
        nodes[s] = _logaddexp(before[s], before[num_states + s])
        nodes[num_states + s] = before[s]
        after[s] = nodes[s] + frame[automaton.blank]
    for n in range(2 * num_states, np.uintp(len(nodes))):
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
def _retreat(frame, automaton, betas, nodes, arrived):
    """Replace the row of β by that of the frame before; frame (C,) is the one between them."""
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


@helper()
def _write_gradient(grad, log_probs, automaton, alphas, betas, total):
    """Write posteriors less probabilities (C,) of a frame; `total` is that of the whole."""
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
def _forward(automaton, room):
    """Write the rows of α of the last block, and the row before each block; return the logarithm of the whole."""
    log_probs, rows, num_states = room.probs, room.rows, len(automaton.finals)
    block, r = len(rows) - 1, 0
    rows[0] = -np.inf
    rows[0, automaton.offsets[automaton.blank]] = 0.0
    for t in range(len(log_probs)):
        if t % block == 0:
            _copy(rows[r], rows[0])
            r = 0
            _copy(rows[0], room.kept[t // block])
        _advance(log_probs[t], automaton, rows[r], rows[r + 1], room.nodes)
        r += 1
    total = -np.inf
    for s in range(num_states):
        total = _logaddexp(total, _logaddexp(rows[r, s], rows[r, num_states + s]) + _log(automaton.finals[s]))
    return total


@njit(cache=True)
def _backward(automaton, total, grads, b, room):
    """Write the gradient of an utterance from α and a running β."""
    log_probs, rows, betas = room.probs, room.rows, room.betas
    num_states, num_frames, block = len(automaton.finals), len(room.probs), len(room.rows) - 1
    for s in range(num_states):
        betas[s] = betas[num_states + s] = _log(automaton.finals[s])
    for t in range(num_frames - 1, -1, -1):
        r = t % block + 1
        if r == block and t < num_frames - 1:
            first = t + 1 - block
            _copy(room.kept[t // block], rows[0])
            for i in range(block):
                _advance(log_probs[first + i], automaton, rows[i], rows[i + 1], room.nodes)
        if t < num_frames - 1:
            _retreat(log_probs[t + 1], automaton, betas, room.nodes, room.arrived)
        _write_gradient(grads[t, b], log_probs[t], automaton, rows[r], betas, total)


@njit(cache=True, nogil=True)
def one_pass(logits, b, automaton, grads, room):
    """Return ln Z of an utterance, and write its gradient to grads (T, B, C); −inf where nothing is possible."""
    _log_softmax(logits, b, room.probs)
    total = _forward(automaton, room)
    if total > -np.inf:
        _backward(automaton, total, grads, b, room)
    return total
