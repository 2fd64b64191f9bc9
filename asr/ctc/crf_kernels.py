"""The sum over all label sequences in Numba, each weighted by an automaton: CTC's forward-backward over its states.

In a state of the automaton (`asr.ctc.automaton`) a path of frames is in one of two places: on its label, or on the
blank after it. A row of 2S places has the blanks of all states first, then the labels. `asr.ctc.partition` says how
rows are kept. No number is ever subtracted from another, so sums keep their relative precision.

Utterances that share an automaton are computed side by side, one in each lane (`asr.ctc.lanes`). After its end, an
utterance goes on in frames that are surely blank, which leave sums as they are, to the last bit.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

import math

import numpy as np

from asr.core.jit import helper, njit
from asr.ctc.lanes import LANES, load, spread, store

# A place that is lost to underflow is below 1e-300 (2.2e-308, the weights and how many ways lead to it) before its
# frame is rescaled. So it is less than 1e-300 × Σ β / Σ α β of the whole, the sums over a frame's places: below 1e-50
# within these bounds. The same holds for β. Outside them `asr.ctc.crf_log_kernels` computes the utterance.
LEAST_NORM = 1e-40
LEAST_MASS = 1e-240

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE, TWO = np.uintp(0), np.uintp(1), np.uintp(2)


@helper()
def _softmax(logits, members, lengths, blank, probs):
    """Write the softmax of utterances in logits (T, B, C) to probs (T, C, LANES), and sure blanks after their ends."""
    num_classes = logits.shape[2]
    for lane in range(LANES):
        b, length = members[lane], lengths[lane]
        for t in range(length):
            peak, total = -np.inf, 0.0
            for c in range(num_classes):
                peak = max(peak, logits[t, b, c])
            for c in range(num_classes):
                probs[t, c, lane] = math.exp(logits[t, b, c] - peak)
                total += probs[t, c, lane]
            for c in range(num_classes):
                probs[t, c, lane] /= total
        for t in range(length, len(probs)):
            for c in range(num_classes):
                probs[t, c, lane] = 1.0 if c == blank else 0.0


@helper()
def _weighted_sum(arcs, end, values):
    """Return the weighted sum of the values at the other ends of the arcs of one end, by two sums side by side."""
    even, odd = spread(0.0), spread(0.0)
    a, stop = arcs.offsets[end], arcs.offsets[end + ONE]
    while a + ONE < stop:
        even += arcs.weights[a] * load(values, arcs.others[a])
        odd += arcs.weights[a + ONE] * load(values, arcs.others[a + ONE])
        a += TWO
    if a < stop:
        even += arcs.weights[a] * load(values, arcs.others[a])
    return even + odd


@helper()
def _advance(frame, scale, automaton, before, after, nodes):
    """Write the row of α one frame later, times the scale; frame (C, LANES) holds its classes' probabilities.

    Return the sum of the row, where the scale is 1 / that of the row before.
    """
    offsets, entering, links = automaton.offsets, automaton.entering, automaton.links
    num_states = np.uintp(len(automaton.finals))
    blank = load(frame, automaton.blank) * scale
    for s in range(ZERO, num_states):
        on_blank = load(before, s)
        both = on_blank + load(before, num_states + s)
        store(nodes, s, both)
        store(nodes, num_states + s, on_blank)
        store(after, s, both * blank)
    for n in range(TWO * num_states, np.uintp(len(nodes))):
        store(nodes, n, spread(0.0))
    for i in range(ZERO, np.uintp(len(links.targets))):
        shared = load(nodes, links.targets[i])
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            shared += links.weights[k] * load(nodes, links.sources[k])
        store(nodes, links.targets[i], shared)
    total = load(frame, automaton.blank)  # the sum of the blanks: all that was before, times this and the scale
    for c in range(ZERO, np.uintp(len(frame))):
        emitted = load(frame, c) * scale
        for s in range(offsets[c], offsets[c + ONE]):
            on_label = (load(before, num_states + s) + _weighted_sum(entering, s, nodes)) * emitted
            store(after, num_states + s, on_label)
            total += on_label
    return total


@helper()
def _retreat(frame, scale, automaton, betas, nodes, arrived):
    """Replace the row of β, times the scale, by that of the frame before; frame (C, LANES) is the one between them.

    Return the sum of the row.
    """
    offsets, leaving, links = automaton.offsets, automaton.leaving, automaton.links
    num_states = np.uintp(len(automaton.finals))
    for c in range(ZERO, np.uintp(len(frame))):
        emitted = load(frame, c) * (spread(0.0) if c == automaton.blank else scale)  # no path is on the start's label
        for s in range(offsets[c], offsets[c + ONE]):
            store(arrived, s, load(betas, num_states + s) * emitted)
    for n in range(ZERO, np.uintp(len(nodes))):
        store(nodes, n, _weighted_sum(leaving, n, arrived))
    for done in range(ZERO, np.uintp(len(links.targets))):
        i = np.uintp(len(links.targets)) - ONE - done
        shared = load(nodes, links.targets[i])
        for k in range(links.offsets[i], links.offsets[i + ONE]):
            source = links.sources[k]
            store(nodes, source, load(nodes, source) + links.weights[k] * shared)
    emitted = load(frame, automaton.blank) * scale
    blanks, labels = spread(0.0), spread(0.0)
    for s in range(ZERO, num_states):
        onward = load(betas, s) * emitted + load(nodes, s)
        on_blank, on_label = onward + load(nodes, num_states + s), onward + load(arrived, s)
        store(betas, s, on_blank)
        store(betas, num_states + s, on_label)
        blanks += on_blank
        labels += on_label
    return blanks + labels


@helper()
def _mass(alphas, betas, first, stop):
    """Return the sum of α β over the places from `first` up to `stop`, by two sums side by side."""
    even, odd = spread(0.0), spread(0.0)
    i = first
    while i + ONE < stop:
        even += load(alphas, i) * load(betas, i)
        odd += load(alphas, i + ONE) * load(betas, i + ONE)
        i += TWO
    if i < stop:
        even += load(alphas, i) * load(betas, i)
    return even + odd


@helper()
def _posteriors(automaton, alphas, betas, masses):
    """Write the sum of α β over the places of each class (C, LANES); return that over all."""
    offsets, num_states, total = automaton.offsets, np.uintp(len(automaton.finals)), spread(0.0)
    for c in range(ZERO, np.uintp(len(masses))):
        mass = _mass(alphas, betas, num_states + offsets[c], num_states + offsets[c + ONE])
        if c == automaton.blank:
            mass += _mass(alphas, betas, ZERO, num_states)
        store(masses, c, mass)
        total += mass
    return total


@helper()
def _copy(row, copy):
    """Copy a row: Numba needs longer to compile an assignment of one array to part of another."""
    for i in range(np.uintp(len(row))):
        store(copy, i, load(row, i))


@njit(cache=True)
def _forward(lengths, automaton, room):
    """Write the rows of α of the last block, the row before each block, what each frame is divided by, and totals.

    The total is the logarithm of the whole, −inf where it is 0 or something was lost.
    """
    probs, rows, norms, totals, num_states = room.probs, room.rows, room.norms, room.totals, len(automaton.finals)
    block, r = len(rows) - 1, 0
    for i in range(np.uintp(2 * num_states)):
        store(rows[0], i, spread(0.0))
    store(rows[0], automaton.offsets[automaton.blank], spread(1.0))
    for lane in range(LANES):
        totals[lane] = 0.0
        norms[0, lane] = 1.0
    for t in range(len(probs)):
        if t % block == 0:
            _copy(rows[r], rows[0])
            r = 0
            _copy(rows[0], room.kept[t // block])
        norm = _advance(probs[t], 1.0 / load(norms, t), automaton, rows[r], rows[r + 1], room.nodes)
        store(norms, t + 1, norm)
        for lane in range(LANES):
            if t + 1 >= lengths[lane]:
                norms[t + 1, lane] = 1.0
            elif norms[t + 1, lane] > LEAST_NORM and totals[lane] > -np.inf:
                totals[lane] += math.log(norms[t + 1, lane])
            else:  # all that follows is 0
                totals[lane], norms[t + 1, lane] = -np.inf, np.inf
        r += 1
    for lane in range(LANES):
        ends = 0.0
        for s in range(num_states):
            ends += (rows[r, s, lane] + rows[r, num_states + s, lane]) * automaton.finals[s]
        totals[lane] = totals[lane] + math.log(ends) if totals[lane] > -np.inf and ends > LEAST_MASS else -np.inf


@njit(cache=True)
def _backward(members, lengths, automaton, grads, room):
    """Write the gradients of utterances from α and a running β; a total becomes −inf where something was lost."""
    probs, rows, norms, betas, sums, totals = room.probs, room.rows, room.norms, room.betas, room.sums, room.totals
    num_states, num_frames, block = len(automaton.finals), len(room.probs), len(room.rows) - 1
    ends = 0.0  # added up in the order of `_retreat`, of which frames after the end must not differ by a bit
    for s in range(num_states):
        store(betas, s, spread(automaton.finals[s]))
        store(betas, num_states + s, spread(automaton.finals[s]))
        ends += automaton.finals[s]
    total = spread(ends + ends)
    for t in range(num_frames - 1, -1, -1):
        r = t % block + 1
        if r == block and t < num_frames - 1:
            first = t + 1 - block
            _copy(room.kept[t // block], rows[0])
            for i in range(block):
                scale = 1.0 / load(norms, first + i)
                _advance(probs[first + i], scale, automaton, rows[i], rows[i + 1], room.nodes)
        if t < num_frames - 1:
            store(sums, 0, total)
            for lane in range(LANES):
                if t + 1 >= lengths[lane] or not sums[0, lane] > 0.0:
                    sums[0, lane] = 1.0
            total = _retreat(probs[t + 1], 1.0 / load(sums, 0), automaton, betas, room.nodes, room.arrived)
        store(sums, 0, _posteriors(automaton, rows[r], betas, room.masses))
        for lane in range(LANES):
            if t < lengths[lane] and not sums[0, lane] > LEAST_MASS:
                totals[lane] = -np.inf
            elif t < lengths[lane]:
                for c in range(grads.shape[2]):
                    grads[t, members[lane], c] = room.masses[c, lane] / sums[0, lane] - probs[t, c, lane]


@njit(cache=True, nogil=True)
def one_pass(logits, members, lengths, automaton, grads, room):
    """Write ln Z of utterances (LANES,) to the totals, −inf where nothing is possible or was lost, and gradients.

    Members are their places in the batch; in a lane without an utterance, the length is 0. Where the total is −inf, the
    gradient is no number that means anything.
    """
    _softmax(logits, members, lengths, automaton.blank, room.probs)
    _forward(lengths, automaton, room)
    for lane in range(LANES):
        if lengths[lane] > 0 and room.totals[lane] > -np.inf:
            _backward(members, lengths, automaton, grads, room)
            break


@njit(cache=True, nogil=True)
def follow(probs, automaton, row, after, nodes, posteriors):
    """Advance a row of α (2S, LANES) over frames (T, C, LANES), all lanes alike.

    Write the posteriors (T, C) of each frame given what precedes it.
    """
    offsets, num_states = automaton.offsets, np.uintp(len(automaton.finals))
    for t in range(len(probs)):
        _advance(probs[t], spread(1.0), automaton, row, after, nodes)
        total = 0.0
        for c in range(ZERO, np.uintp(probs.shape[1])):
            mass = 0.0
            for s in range(num_states + offsets[c], num_states + offsets[c + ONE]):
                mass += after[s, 0]
            for s in range(ZERO, num_states if c == automaton.blank else ZERO):
                mass += after[s, 0]
            posteriors[t, c] = mass
            total += mass
        for c in range(probs.shape[1]):
            posteriors[t, c] /= total
        for i in range(np.uintp(len(row))):
            store(row, i, load(after, i) / spread(total))


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
