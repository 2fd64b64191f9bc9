"""Prefix beam search in Numba.

A prefix is a node of a tree, one node a prefix for the whole utterance. The beam holds nodes, each with the log
probability of the paths that end in a blank and of those that end in its last label. Letters: T frames, B utterances, C
classes, K prefixes in the beam, N hypotheses, Q states of a language model.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import njit

# Log probabilities of a prefix in the beam: of its paths that end in a blank, in its last label, in either; and of
# those that stay on it for another frame.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS = range(6)
NODE_FIELDS = 5  # int32: parent, token, first child, next sibling, place in the beam


class Limits(NamedTuple):
    """What a search keeps: `threshold` in nats below the best prefix, `least` in nats for a token's log probability."""

    blank: int
    beam_size: int
    threshold: float
    least: float


class TokenModel(NamedTuple):
    """Log weights of tokens by the state of a deterministic automaton, which starts in state 0.

    Attributes
    ----------
    scores : (Q, C)
        What a token adds to a prefix's log probability.
    next_states : (Q, C)
        The state it leads to.
    finals : (Q,)
        What the end of the utterance adds.
    """

    scores: np.ndarray
    next_states: np.ndarray
    finals: np.ndarray


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 a thread needs: room for a node a frame and prefix."""
    return ((1 + num_frames * beam_size) * NODE_FIELDS + 1) // 2


@njit(cache=True)
def _logaddexp(a, b):
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:  # e^−45 is beyond the last bit of any sum but one next to 0
        return high
    return high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _lm_score(model, state, token):
    """Return what a language model adds for a token in a state: the one place where it is asked."""
    return model.scores[state, token]


@njit(cache=True)
def _stay(frame, limits, model, beam, nodes, states, places, tree, taken, stamp):
    """Score the prefixes of the beam where they stay as they are for one frame.

    A prefix whose parent is in the beam too is also reached by growing out of it; `taken` (K, C) gets the frame's stamp
    for that extension, so that it is not made a second time.
    """
    parents, tokens = tree
    size = len(nodes)
    for k in range(size):
        places[nodes[k]] = k
    for k in range(size):
        beam[STAYS_BLANK, k] = beam[ENDS, k] + frame[limits.blank]
        beam[STAYS_LABEL, k] = -np.inf
        if nodes[k] > 0:
            token = tokens[nodes[k]]
            beam[STAYS_LABEL, k] = beam[ENDS_LABEL, k] + frame[token]
            parent = places[parents[nodes[k]]]
            if parent >= 0 and frame[token] >= limits.least:
                taken[parent, token] = stamp
                repeated = nodes[parent] > 0 and tokens[nodes[parent]] == token  # the same again needs a blank between
                came = beam[ENDS_BLANK, parent] if repeated else beam[ENDS, parent]
                came += frame[token] + _lm_score(model, states[parent], token)
                beam[STAYS_LABEL, k] = _logaddexp(beam[STAYS_LABEL, k], came)
        beam[STAYS, k] = _logaddexp(beam[STAYS_BLANK, k], beam[STAYS_LABEL, k])
    for k in range(size):
        places[nodes[k]] = -1


@njit(cache=True)
def _sift(scores, choices, size):
    """Restore the order of a heap, least first, whose first entry is new."""
    i = 0
    while True:
        child = 2 * i + 1
        if child + 1 < size and scores[child + 1] < scores[child]:
            child += 1
        if child >= size or scores[i] <= scores[child]:
            return
        scores[i], scores[child] = scores[child], scores[i]
        choices[i], choices[child] = choices[child], choices[i]
        i = child


@njit(cache=True)
def _offer(score, choice, scores, choices, size):
    """Put a candidate into the heap of the best (K,), in place of the least where it is full; return its size."""
    if size == len(scores):
        if score > scores[0]:
            scores[0], choices[0] = score, choice
            _sift(scores, choices, size)
        return size
    i = size
    while i > 0 and scores[(i - 1) // 2] > score:
        scores[i], choices[i] = scores[(i - 1) // 2], choices[(i - 1) // 2]
        i = (i - 1) // 2
    scores[i], choices[i] = score, choice
    return size + 1


@njit(cache=True)
def _sort(scores, choices, size):
    """Sort a heap, best first."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        choices[0], choices[last] = choices[last], choices[0]
        _sift(scores, choices, last)


@njit(cache=True)
def _extend(frame, limits, model, most, beam, nodes, states, tokens, taken, stamp, scores, choices, size):
    """Offer the prefixes that are longer by one token to the heap, as choice K + k C + c; return its size.

    Prefixes and tokens go from the likeliest down, so that each row ends at the first token that cannot come in:
    `most` (Q,) bounds what the language model adds in a state.
    """
    beam_size, num_classes = taken.shape
    floor = scores[0] if size == beam_size else -np.inf
    bonus = -np.inf
    for k in range(len(nodes)):
        bonus = max(bonus, most[states[k]])
    heights, tops, num_tops = np.empty(num_classes), np.empty(num_classes, np.int64), np.int64(0)
    for c in range(num_classes):
        if c != limits.blank and frame[c] >= limits.least and beam[ENDS, 0] + frame[c] + bonus > floor:
            num_tops = _offer(frame[c], c, heights, tops, num_tops)
    _sort(heights, tops, num_tops)
    for k in range(len(nodes)):
        for i in range(num_tops):
            c = tops[i]
            if size == beam_size:
                floor = scores[0]
            if beam[ENDS, k] + frame[c] + most[states[k]] <= floor:
                break
            if taken[k, c] == stamp:
                continue
            repeated = nodes[k] > 0 and tokens[nodes[k]] == c
            score = (beam[ENDS_BLANK, k] if repeated else beam[ENDS, k]) + frame[c] + _lm_score(model, states[k], c)
            if score > floor:
                size = _offer(score, beam_size + k * num_classes + c, scores, choices, size)
    return size


@njit(cache=True)
def _child(node, token, num_nodes, tree, children, siblings, places):
    """Return the node for a prefix longer by a token: a new one, num_nodes, where the tree has none.

    A prefix that left the beam and comes back is the node it was: its own children may be in the beam still.
    """
    parents, tokens = tree
    child = children[node]
    while child >= 0 and tokens[child] != token:
        child = siblings[child]
    if child < 0:
        child = num_nodes
        parents[child], tokens[child], children[child], places[child] = node, token, -1, -1
        siblings[child], children[node] = children[node], child
    return child


@njit(cache=True)
def advance(frame, stamp, limits, model, most, beam, grown, held, tree, links, taken, heap):
    """Go on by a frame: `grown` gets the scores of the prefixes kept, and heap their choices, best first.

    Prefix i of them is what prefix k = choice was, where choice < K, else prefix k grown by token c, where choice = K +
    k C + c. `held` is nodes and states of the beam, and the number of nodes in the tree; the same is returned. A model
    without next states has a state a node, whose row of scores is written before the next frame.
    """
    nodes, states, num_nodes = held
    children, siblings, places = links
    scores, choices = heap
    beam_size, num_classes = taken.shape
    _stay(frame, limits, model, beam, nodes, states, places, tree, taken, stamp)
    size = np.int64(0)  # a bare 0 is to Numba a type of its own, and compiles what it is given to twice
    for k in range(len(nodes)):
        if beam[STAYS, k] > -np.inf:
            size = _offer(beam[STAYS, k], k, scores, choices, size)
    size = _extend(frame, limits, model, most, beam, nodes, states, tree[1], taken, stamp, scores, choices, size)
    _sort(scores, choices, size)
    while size > 0 and scores[size - 1] < scores[0] - limits.threshold:
        size -= 1
    kept, moved = np.empty(size, np.int64), np.empty(size, np.int64)
    for i in range(size):
        if choices[i] < beam_size:
            k = choices[i]
            kept[i], moved[i] = nodes[k], states[k]
            grown[ENDS_BLANK, i], grown[ENDS_LABEL, i], grown[ENDS, i] = (
                beam[STAYS_BLANK, k],
                beam[STAYS_LABEL, k],
                beam[STAYS, k],
            )
        else:
            k, c = divmod(choices[i] - beam_size, num_classes)
            kept[i] = _child(nodes[k], c, num_nodes, tree, children, siblings, places)
            num_nodes = max(num_nodes, kept[i] + 1)
            moved[i] = model.next_states[states[k], c] if len(model.next_states) else kept[i]
            grown[ENDS_BLANK, i], grown[ENDS_LABEL, i], grown[ENDS, i] = -np.inf, scores[i], scores[i]
    return kept, moved, num_nodes


@njit(cache=True)
def finish(held, beam, model, heap):
    """Sort the beam by its scores with what the model adds at the end; return nodes and scores, best first."""
    nodes, states, _ = held
    scores, choices = heap
    size = np.int64(0)
    for k in range(len(nodes)):
        total = beam[ENDS, k] + model.finals[states[k]]
        if total > -np.inf:
            size = _offer(total, nodes[k], scores, choices, size)
    _sort(scores, choices, size)
    return choices[:size], scores[:size]


@njit(cache=True)
def begin(num_frames, limits, num_classes, work):
    """Return what a search of one utterance works in: beam, grown, held, tree, links, taken and heap of `advance`."""
    beam_size, room = limits.beam_size, 1 + num_frames * limits.beam_size
    fields = work.view(np.int32)
    tree = fields[:room], fields[room : 2 * room]
    links = fields[2 * room : 3 * room], fields[3 * room : 4 * room], fields[4 * room : 5 * room]
    links[0][0], links[2][0] = -1, -1
    beam, grown = np.full((6, beam_size), -np.inf), np.full((6, beam_size), -np.inf)
    beam[ENDS_BLANK, 0], beam[ENDS, 0] = 0.0, 0.0
    held = np.zeros(1, np.int64), np.zeros(1, np.int64), np.int64(1)
    taken = np.zeros((beam_size, num_classes), np.int32)
    return beam, grown, held, tree, links, taken, (np.empty(beam_size), np.empty(beam_size, np.int64))


@njit(cache=True)
def spell(node, tree, tokens):
    """Write the tokens of a prefix."""
    parents, labels = tree
    length, last = 0, node
    while last > 0:
        length += 1
        last = parents[last]
    for i in range(length - 1, -1, -1):
        tokens[i] = labels[node]
        node = parents[node]


@njit(cache=True, nogil=True)
def search(utterances, log_probs, lengths, limits, model, tokens, scores, work):
    """Search some utterances of log_probs (T, B, C); write tokens (B, N, T), −1 after the last, and scores (B, N)."""
    most = np.full(len(model.scores), -np.inf)
    for q in range(len(most)):
        for c in range(log_probs.shape[2]):
            most[q] = max(most[q], model.scores[q, c])
    for b in utterances:
        beam, grown, held, tree, links, taken, heap = begin(lengths[b], limits, log_probs.shape[2], work)
        for t in range(lengths[b]):
            held = advance(log_probs[t, b], t + 1, limits, model, most, beam, grown, held, tree, links, taken, heap)
            beam, grown = grown, beam
        nodes, values = finish(held, beam, model, heap)
        for n in range(min(len(nodes), scores.shape[1])):
            scores[b, n] = values[n]
            spell(nodes[n], tree, tokens[b, n])
