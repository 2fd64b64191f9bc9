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

from asr.core.jit import helper, njit

# Rows of `Beam.scores`: log probabilities of a prefix's paths that end in a blank, in its last label, in either; of
# those that stay on it for another frame; of the prefixes that are kept after that frame; and the heap of candidates.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS, KEPT_BLANK, KEPT_LABEL, KEPT, OFFERED = range(10)
# Rows of `Beam.held`: node of a prefix, the model's state, last token or −1; the same of the prefixes that are kept
# after the frame; and the heap's choices.
NODE, STATE, LAST, KEPT_NODE, KEPT_STATE, KEPT_LAST, CHOICE = range(7)
# Columns of `Beam.tree`; node 0 is the empty prefix, and −1 stands for no node. CHILD is the first child, SIBLING the
# next child of the same parent, BORN the frame in which a prefix came into the beam, SEEN the number of the frame
# before which it was last there, counted from 1, and PLACE its place in the beam then.
PARENT, TOKEN, CHILD, SIBLING, PLACE, BORN, SEEN = range(7)
NODE_FIELDS = 7
ROOM = 2000  # frames whose new nodes a tree has room for


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


class Beam(NamedTuple):
    """The prefixes of an utterance that a search holds, and the tree of those that it has held and may need again.

    Attributes
    ----------
    scores : (10, K)
        Log probabilities of the prefixes.
    held : (7, K) int64
        What else is known of them.
    tree : (M, 7) int32
        All prefixes.
    taken : (K, C) int32
        The last frame in which a prefix was not to be extended by a token, as the longer one was in the beam.
    heights, tops : (C,), (C,) int64
        The tokens of a frame, likeliest first, with their log probabilities.
    """

    scores: np.ndarray
    held: np.ndarray
    tree: np.ndarray
    taken: np.ndarray
    heights: np.ndarray
    tops: np.ndarray


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 the tree takes: room for K nodes in each of so many frames, and the root."""
    return ((1 + min(num_frames, ROOM) * beam_size) * NODE_FIELDS + 1) // 2


def begin(num_classes: int, beam_size: int, work: np.ndarray) -> Beam:
    """Return the beam of one utterance before its first frame: the empty prefix. The tree lies in the workspace.

    All arrays are made in Python, as Numba would need a second to compile the functions that make them.
    """
    room = 2 * len(work) // NODE_FIELDS
    tree = work.view(np.int32)[: NODE_FIELDS * room].reshape(room, NODE_FIELDS)
    tree[0, CHILD], tree[0, SEEN] = -1, 0
    scores = np.full((10, beam_size), -np.inf)
    scores[[ENDS_BLANK, ENDS], 0] = 0.0
    held = np.zeros((7, beam_size), np.int64)
    held[LAST, 0] = -1
    taken = np.zeros((beam_size, num_classes), np.int32)
    return Beam(scores, held, tree, taken, np.empty(num_classes), np.empty(num_classes, np.int64))


def make_room(held: np.ndarray, num_nodes: int, beam_size: int, tree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the nodes that begin no prefix of the beam out of a full tree; double it if more than half of it remains.

    Return the tree, and the former numbers of the nodes that it still has, in ascending order. The nodes `held` (K,)
    get their new numbers. Columns other than PARENT, CHILD and SIBLING are only moved.
    """
    ancestors, is_needed = tree[:num_nodes, PARENT].astype(np.int64), np.zeros(num_nodes, bool)
    ancestors[0], is_needed[0], is_needed[held] = 0, True, True
    while ancestors[held].any():  # 1, 2, 4, … generations back
        is_needed[ancestors[is_needed]] = True
        ancestors = ancestors[ancestors]
    former, numbers = np.flatnonzero(is_needed), np.cumsum(is_needed) - 1
    held[:] = numbers[held]
    count = len(former)
    is_small = 2 * (count + beam_size) > len(tree)
    room = np.empty((2 * len(tree), tree.shape[1]), np.int32) if is_small else tree
    room[:count] = tree[former]
    nodes = room[:count]
    nodes[1:, PARENT], nodes[:, CHILD] = numbers[nodes[1:, PARENT]], -1
    siblings = 1 + np.argsort(nodes[1:, PARENT], kind="stable")  # those of one parent side by side, the newest last
    of = nodes[siblings, PARENT]
    nodes[siblings, SIBLING] = np.where(np.diff(of, prepend=-1) == 0, np.roll(siblings, 1), -1)
    nodes[of, CHILD] = siblings
    return room, former


@helper()
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:  # e^−45 is beyond the last bit of any sum but one next to 0
        return high
    return high + math.log1p(math.exp(low - high))


@helper()
def _stay(frame, stamp, limits, model, beam, size):
    """Score the prefixes of the beam that stay unchanged in a frame.

    A prefix whose parent is also in the beam can be reached by extending the parent. That path is added here, and
    `taken` gets the frame's stamp, so that `_choose` does not make the same extension again.
    """
    scores, held, tree = beam.scores, beam.held, beam.tree
    for k in range(size):
        tree[held[NODE, k], PLACE], tree[held[NODE, k], SEEN] = k, stamp
    for k in range(size):
        scores[STAYS_BLANK, k] = scores[ENDS, k] + frame[limits.blank]
        scores[STAYS_LABEL, k] = -np.inf
        node, token = held[NODE, k], held[LAST, k]
        if node > 0:
            scores[STAYS_LABEL, k] = scores[ENDS_LABEL, k] + frame[token]
            parent = tree[tree[node, PARENT], PLACE]
            if tree[tree[node, PARENT], SEEN] == stamp and frame[token] >= limits.least:
                beam.taken[parent, token] = stamp
                repeated = held[LAST, parent] == token  # a repeated token needs a blank between
                came = scores[ENDS_BLANK, parent] if repeated else scores[ENDS, parent]
                came += frame[token] + model.scores[held[STATE, parent], token]
                scores[STAYS_LABEL, k] = _logaddexp(scores[STAYS_LABEL, k], came)
        scores[STAYS, k] = _logaddexp(scores[STAYS_BLANK, k], scores[STAYS_LABEL, k])


@helper()
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


@helper()
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


@helper()
def _sort(scores, choices, size):
    """Sort a min-heap in descending order."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        choices[0], choices[last] = choices[last], choices[0]
        _sift(scores, choices, last)


@helper()
def _choose(frame, stamp, limits, scorer, beam, num_held):
    """Sort the best prefixes: choice k stays, choice K + k C + c is longer by token c; return how many there are.

    Prefixes and tokens are tried in descending order of probability, so that each row ends at the first token that
    cannot enter the heap. `scorer` bounds what the language model adds in a state.
    """
    (model, most), held, taken, heights, tops = scorer, beam.held, beam.taken, beam.heights, beam.tops
    ends_blank, ends, stays = beam.scores[ENDS_BLANK], beam.scores[ENDS], beam.scores[STAYS]
    scores, choices = beam.scores[OFFERED], held[CHOICE]
    beam_size, num_classes = taken.shape
    # a literal 0 has a type of its own in Numba, for which the heap's functions would be compiled again
    size, num_tops = np.int64(0), np.int64(0)
    for k in range(num_held):
        if stays[k] > -np.inf:
            size = _offer(stays[k], k, scores, choices, size)
    floor = scores[0] if size == beam_size else -np.inf
    bonus = -np.inf
    for k in range(num_held):
        bonus = max(bonus, most[held[STATE, k]])
    for c in range(num_classes):
        if c != limits.blank and frame[c] >= limits.least and ends[0] + frame[c] + bonus > floor:
            num_tops = _offer(frame[c], c, heights, tops, num_tops)
    _sort(heights, tops, num_tops)
    for k in range(num_held):
        state, last = held[STATE, k], held[LAST, k]
        for i in range(num_tops):
            c = tops[i]
            if size == beam_size:
                floor = scores[0]
            if ends[k] + frame[c] + most[state] <= floor:
                break
            if taken[k, c] == stamp:
                continue
            score = (ends_blank[k] if last == c else ends[k]) + frame[c] + model.scores[state, c]
            if score > floor:
                size = _offer(score, beam_size + k * num_classes + c, scores, choices, size)
    _sort(scores, choices, size)
    return size


@helper()
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


@helper()
def advance(frame, stamp, limits, scorer, beam, size, num_nodes):
    """Process a frame, before which the beam has `size` prefixes and the tree num_nodes; return the same after it.

    The row of choices tells what led there, best first: where choice < K, prefix i is the former prefix k = choice;
    otherwise it is prefix k extended by token c, where choice = K + k C + c. `scorer` is a token model and the highest
    score of each of its states (Q,). A model without next states has one state for each node, whose row of scores is
    written before the next frame.
    """
    (model, _), scores, held, offered, choices = scorer, beam.scores, beam.held, beam.scores[OFFERED], beam.held[CHOICE]
    beam_size, num_classes = beam.taken.shape
    _stay(frame, stamp, limits, model, beam, size)
    size = _choose(frame, stamp, limits, scorer, beam, size)
    while size > 0 and offered[size - 1] < offered[0] - limits.threshold:
        size -= 1
    for i in range(size):
        if choices[i] < beam_size:
            k = choices[i]
            for row in range(3):
                held[KEPT_NODE + row, i] = held[NODE + row, k]
                scores[KEPT_BLANK + row, i] = scores[STAYS_BLANK + row, k]
        else:
            k, c = divmod(choices[i] - beam_size, num_classes)
            node = _child(held[NODE, k], c, stamp, num_nodes, beam.tree)
            num_nodes = max(num_nodes, node + 1)
            held[KEPT_NODE, i], held[KEPT_LAST, i] = node, c
            held[KEPT_STATE, i] = model.next_states[held[STATE, k], c] if len(model.next_states) else node
            scores[KEPT_BLANK, i], scores[KEPT_LABEL, i], scores[KEPT, i] = -np.inf, offered[i], offered[i]
    for row in range(3):
        for i in range(size):
            held[NODE + row, i] = held[KEPT_NODE + row, i]
            scores[ENDS_BLANK + row, i] = scores[KEPT_BLANK + row, i]
    return size, num_nodes


@helper()
def finish(finals, beam, size, found):
    """Add the model's finals (Q,) to the beam's scores, and write the best hypotheses, best first, to `found`.

    These are tokens (N, T), the first and the last frame in which each can have begun (N, T, 2), and scores (N,).
    """
    (tokens, spans, scores), offered, nodes, tree = found, beam.scores[OFFERED], beam.held[CHOICE], beam.tree
    count = np.int64(0)
    for k in range(size):
        total = beam.scores[ENDS, k] + finals[beam.held[STATE, k]]
        if total > -np.inf:
            count = _offer(total, beam.held[NODE, k], offered, nodes, count)
    _sort(offered, nodes, count)
    for n in range(min(count, len(scores))):
        scores[n], length, last = offered[n], 0, nodes[n]
        while last > 0:
            length += 1
            last = tree[last, PARENT]
        last = nodes[n]
        for i in range(length - 1, -1, -1):
            tokens[n, i], spans[n, i, 0] = tree[last, TOKEN], tree[last, BORN]
            last = tree[last, PARENT]
            spans[n, i, 1] = tree[last, SEEN] - 1


@njit(cache=True, nogil=True)
def search(log_probs, reached, limits, scorer, beam, found):
    """Search one utterance's log_probs (T, C) until the tree is full; after the last frame, `finish`.

    `reached` is the number of frames processed, of prefixes in the beam and of nodes in the tree: (0, 1, 1) before the
    first frame. Return the same of where the search stopped: it goes on from there when the tree has room again.
    """
    t, size, num_nodes = reached
    while t < len(log_probs) and num_nodes + limits.beam_size <= len(beam.tree):
        size, num_nodes = advance(log_probs[t], t + 1, limits, scorer, beam, size, num_nodes)
        t += 1
    if t == len(log_probs):
        finish(scorer[0].finals, beam, size, found)
    return t, size, num_nodes


# The steps of a search that Python takes frame by frame, as `asr.lm.fusion` does.
advance_compiled, finish_compiled = njit(cache=True)(advance), njit(cache=True)(finish)
