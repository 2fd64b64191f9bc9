"""Prefix beam search in Numba.

Each prefix is one node of a tree that grows over the utterance. The beam holds nodes, each with the log probability of
the paths that end in a blank and of those that end in its last label.

The tree has room for the new nodes of so many frames. When it is full, nodes that begin no prefix of the beam are taken
out: none of them can matter again. So a search may go on for hours.

Letters: T frames, B utterances, C classes, K prefixes in the beam, N hypotheses, Q states of a language model, M nodes.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import njit

# Rows of the beam (9, K): log probabilities of a prefix's paths that end in a blank, in its last label, in either; of
# those that stay on it for another frame; and of the prefixes that are kept after that frame.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS, KEPT_BLANK, KEPT_LABEL, KEPT = range(9)
NODE, STATE, LAST = range(3)  # rows of what is held (3, K): node of a prefix, the model's state, last token or −1
# Columns of the tree (M, 7) int32; node 0 is the empty prefix, and −1 stands for no node. CHILD is the first child,
# SIBLING the next child of the same parent, BORN the frame in which a prefix came into the beam, SEEN the number of the
# frame before which it was last there, counted from 1, and PLACE its place in the beam then.
PARENT, TOKEN, CHILD, SIBLING, PLACE, BORN, SEEN = range(7)
NODE_FIELDS = 7
ROOM = 2000  # frames whose new nodes the tree has room for


class Limits(NamedTuple):
    """What a search keeps.

    Attributes
    ----------
    blank
        Class of the blank.
    beam_size
        Number of prefixes, K.
    threshold
        Nats below the best prefix at which others are dropped.
    least
        Log probability of a token in a frame below which it does not extend a prefix.
    """

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
        The state that it leads to.
    finals : (Q,)
        What the end of the utterance adds.
    """

    scores: np.ndarray
    next_states: np.ndarray
    finals: np.ndarray


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 a thread needs: room for K nodes in each of so many frames, and the root."""
    return ((1 + min(num_frames, ROOM) * beam_size) * NODE_FIELDS + 1) // 2


@njit(cache=True)
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:  # e^−45 is beyond the last bit of any sum but one next to 0
        return high
    return high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _lm_score(model, state, token):
    """Return what a language model adds for a token in a state. The search asks it nowhere else."""
    return model.scores[state, token]


@njit(cache=True)
def _stay(frame, stamp, limits, model, beam, held, tree, taken):
    """Score the prefixes of the beam that stay unchanged in a frame.

    A prefix whose parent is also in the beam can be reached by extending the parent. That path is added here, and
    `taken` (K, C) gets the frame's stamp, so that `_choose` does not make the same extension again.
    """
    size = held.shape[1]
    for k in range(size):
        tree[held[NODE, k], PLACE], tree[held[NODE, k], SEEN] = k, stamp
    for k in range(size):
        beam[STAYS_BLANK, k] = beam[ENDS, k] + frame[limits.blank]
        beam[STAYS_LABEL, k] = -np.inf
        node, token = held[NODE, k], held[LAST, k]
        if node > 0:
            beam[STAYS_LABEL, k] = beam[ENDS_LABEL, k] + frame[token]
            parent = tree[tree[node, PARENT], PLACE]
            if tree[tree[node, PARENT], SEEN] == stamp and frame[token] >= limits.least:
                taken[parent, token] = stamp
                repeated = held[LAST, parent] == token  # a repeated token needs a blank between
                came = beam[ENDS_BLANK, parent] if repeated else beam[ENDS, parent]
                came += frame[token] + _lm_score(model, held[STATE, parent], token)
                beam[STAYS_LABEL, k] = _logaddexp(beam[STAYS_LABEL, k], came)
        beam[STAYS, k] = _logaddexp(beam[STAYS_BLANK, k], beam[STAYS_LABEL, k])


@njit(cache=True)
def _sift(scores, choices, size):
    """Restore the order of a min-heap whose first entry was replaced."""
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
    """Put a candidate into the min-heap of the best (K,), replacing the least where it is full; return its size."""
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
    """Sort a min-heap in descending order."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        choices[0], choices[last] = choices[last], choices[0]
        _sift(scores, choices, last)


@njit(cache=True)
def _choose(frame, stamp, limits, scorer, beam, held, taken, heap):
    """Fill the heap with the best prefixes: choice k stays, choice K + k C + c is longer by token c; return its size.

    Prefixes and tokens are tried in descending order of probability, so that each row ends at the first token that
    cannot enter the heap. `scorer` bounds what the language model adds in a state.
    """
    (model, most), (scores, choices) = scorer, heap
    beam_size, num_classes = taken.shape
    # a literal 0 has a type of its own in Numba, for which the heap's functions would be compiled again
    size = np.int64(0)
    for k in range(held.shape[1]):
        if beam[STAYS, k] > -np.inf:
            size = _offer(beam[STAYS, k], k, scores, choices, size)
    floor = scores[0] if size == beam_size else -np.inf
    bonus = -np.inf
    for k in range(held.shape[1]):
        bonus = max(bonus, most[held[STATE, k]])
    heights, tops, num_tops = np.empty(num_classes), np.empty(num_classes, np.int64), np.int64(0)
    for c in range(num_classes):
        if c != limits.blank and frame[c] >= limits.least and beam[ENDS, 0] + frame[c] + bonus > floor:
            num_tops = _offer(frame[c], c, heights, tops, num_tops)
    _sort(heights, tops, num_tops)
    for k in range(held.shape[1]):
        state, last = held[STATE, k], held[LAST, k]
        for i in range(num_tops):
            c = tops[i]
            if size == beam_size:
                floor = scores[0]
            if beam[ENDS, k] + frame[c] + most[state] <= floor:
                break
            if taken[k, c] == stamp:
                continue
            score = (beam[ENDS_BLANK, k] if last == c else beam[ENDS, k]) + frame[c] + _lm_score(model, state, c)
            if score > floor:
                size = _offer(score, beam_size + k * num_classes + c, scores, choices, size)
    return size


@njit(cache=True)
def _child(node, token, stamp, num_nodes, tree):
    """Return the node of a prefix extended by a token: a new one, num_nodes, where the tree has none.

    A prefix that left the beam and returns gets the node it had, as its children may still be in the beam.
    """
    child = tree[node, CHILD]
    while child >= 0 and tree[child, TOKEN] != token:
        child = tree[child, SIBLING]
    if child < 0:
        child = num_nodes
        tree[child, PARENT], tree[child, TOKEN], tree[child, CHILD] = node, token, -1
        tree[child, SIBLING], tree[node, CHILD] = tree[node, CHILD], child
        tree[child, BORN], tree[child, SEEN] = stamp - 1, 0
    return child


@njit(cache=True)
def advance(frame, stamp, limits, scorer, beam, held, tree, taken):
    """Process a frame; return what is held after it, and the choices that led there, best first.

    Where choice < K, prefix i is the former prefix k = choice; otherwise it is prefix k extended by token c, where
    choice = K + k C + c. `held` is nodes, states and last tokens of the beam (3, K), and the number of nodes in the
    tree. `scorer` is a token model and the highest score of each of its states (Q,). A model without next states has
    one state for each node, whose row of scores is written before the next frame.
    """
    (prefixes, num_nodes), (model, _) = held, scorer
    beam_size, num_classes = taken.shape
    scores, choices = np.empty(beam_size), np.empty(beam_size, np.int64)
    _stay(frame, stamp, limits, model, beam, prefixes, tree, taken)
    size = _choose(frame, stamp, limits, scorer, beam, prefixes, taken, (scores, choices))
    _sort(scores, choices, size)
    while size > 0 and scores[size - 1] < scores[0] - limits.threshold:
        size -= 1
    kept = np.empty((3, size), np.int64)
    for i in range(size):
        if choices[i] < beam_size:
            k = choices[i]
            kept[NODE, i], kept[STATE, i], kept[LAST, i] = prefixes[NODE, k], prefixes[STATE, k], prefixes[LAST, k]
            beam[KEPT_BLANK, i], beam[KEPT_LABEL, i], beam[KEPT, i] = (
                beam[STAYS_BLANK, k],
                beam[STAYS_LABEL, k],
                beam[STAYS, k],
            )
        else:
            k, c = divmod(choices[i] - beam_size, num_classes)
            node = _child(prefixes[NODE, k], c, stamp, num_nodes, tree)
            num_nodes = max(num_nodes, node + 1)
            kept[NODE, i], kept[LAST, i] = node, c
            kept[STATE, i] = model.next_states[prefixes[STATE, k], c] if len(model.next_states) else node
            beam[KEPT_BLANK, i], beam[KEPT_LABEL, i], beam[KEPT, i] = -np.inf, scores[i], scores[i]
    for row in range(3):
        for i in range(size):
            beam[ENDS_BLANK + row, i] = beam[KEPT_BLANK + row, i]
    return (kept, num_nodes), choices[:size]


@njit(cache=True)
def finish(prefixes, beam, model):
    """Add what the model says at the end to the beam's scores; return nodes and scores, best first."""
    count = prefixes.shape[1]
    scores, nodes, size = np.empty(count), np.empty(count, np.int64), np.int64(0)
    for k in range(count):
        total = beam[ENDS, k] + model.finals[prefixes[STATE, k]]
        if total > -np.inf:
            size = _offer(total, prefixes[NODE, k], scores, nodes, size)
    _sort(scores, nodes, size)
    return nodes[:size], scores[:size]


@njit(cache=True)
def begin(limits, num_classes, work):
    """Return the initial beam, held, tree and taken of `advance` for one utterance."""
    beam_size, room = limits.beam_size, 2 * len(work) // NODE_FIELDS
    tree = work.view(np.int32)[: NODE_FIELDS * room].reshape(room, NODE_FIELDS)
    tree[0, CHILD], tree[0, SEEN] = -1, 0
    beam = np.full((9, beam_size), -np.inf)
    beam[ENDS_BLANK, 0], beam[ENDS, 0] = 0.0, 0.0
    prefixes = np.zeros((3, 1), np.int64)
    prefixes[LAST, 0] = -1
    return beam, (prefixes, np.int64(1)), tree, np.zeros((beam_size, num_classes), np.int32)


@njit(cache=True)
def make_room(held, beam_size, tree):
    """Take the nodes that begin no prefix of the beam out of a full tree; double it if more than half of it remains.

    Return what is held, the tree, and the former numbers of the nodes that it still has, in ascending order.
    """
    prefixes, num_nodes = held
    former, number, count = np.empty(num_nodes, np.int64), np.full(num_nodes, -1, np.int32), 1
    former[0], number[0] = 0, 0
    for node in prefixes[NODE]:
        while number[node] < 0:
            number[node] = 0
            node = tree[node, PARENT]
    tree[0, CHILD] = -1
    for node in range(1, num_nodes):  # a parent comes before its children
        if number[node] < 0:
            continue
        for column in range(NODE_FIELDS):
            tree[count, column] = tree[node, column]
        parent = number[tree[node, PARENT]]
        tree[count, PARENT], tree[count, CHILD] = parent, -1
        tree[count, SIBLING], tree[parent, CHILD] = tree[parent, CHILD], count
        former[count], number[node] = node, count
        count += 1
    for k in range(prefixes.shape[1]):
        prefixes[NODE, k] = number[prefixes[NODE, k]]
    if 2 * (count + beam_size) > len(tree):
        larger = np.empty((2 * len(tree), NODE_FIELDS), np.int32)
        for node in range(count):
            for column in range(NODE_FIELDS):
                larger[node, column] = tree[node, column]
        tree = larger
    return (prefixes, np.int64(count)), tree, former[:count]


@njit(cache=True)
def spell(node, tree, tokens, spans):
    """Write the tokens of a prefix (T,), and the first and the last frame in which each can have begun (T, 2)."""
    length, last = 0, node
    while last > 0:
        length += 1
        last = tree[last, PARENT]
    for i in range(length - 1, -1, -1):
        tokens[i], spans[i, 0] = tree[node, TOKEN], tree[node, BORN]
        node = tree[node, PARENT]
        spans[i, 1] = tree[node, SEEN] - 1


@njit(cache=True, nogil=True)
def search(utterances, log_probs, lengths, limits, model, found, work):
    """Search some utterances of log_probs (T, B, C).

    Write to `found` tokens (B, N, T), −1 after the last, their spans (B, N, T, 2) as `spell` does, and scores (B, N).
    """
    tokens, spans, scores = found
    most = np.full(len(model.scores), -np.inf)
    for q in range(len(most)):
        for c in range(log_probs.shape[2]):
            most[q] = max(most[q], model.scores[q, c])
    for b in utterances:
        beam, held, tree, taken = begin(limits, log_probs.shape[2], work)
        start = 0
        while start < lengths[b]:
            if held[1] + limits.beam_size > len(tree):
                held, tree, _ = make_room(held, limits.beam_size, tree)
            stop = min(lengths[b], start + (len(tree) - held[1]) // limits.beam_size)  # until then the tree has room
            for t in range(start, stop):
                held, _ = advance(log_probs[t, b], t + 1, limits, (model, most), beam, held, tree, taken)
            start = stop
        nodes, values = finish(held[0], beam, model)
        for n in range(min(len(nodes), scores.shape[1])):
            scores[b, n] = values[n]
            spell(nodes[n], tree, tokens[b, n], spans[b, n])
