"""Prefix beam search in Numba.

A prefix is a node of a tree; the beam holds nodes, each with the log probability of the paths that end in a blank and
of those that end in its last label. Letters: T frames, B utterances, C classes, K prefixes in the beam.
"""

import math

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _logaddexp(a, b):
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _score_frame(frame, blank, nodes, ends, parents, tokens, places, stay, extend):
    """Score all successors of the beam in one frame.

    `stay` (K, 2) takes the same prefixes, ending in a blank or in their label; `extend` (K, C) the prefixes longer by
    one label. A longer prefix that is in the beam already is not written twice: its probability joins that prefix's
    `stay`.
    """
    for k in range(len(nodes)):
        places[nodes[k]] = k
    for k in range(len(nodes)):
        node = nodes[k]
        total = _logaddexp(ends[k, 0], ends[k, 1])
        stay[k, 0] = total + frame[blank]
        stay[k, 1] = ends[k, 1] + frame[tokens[node]] if node > 0 else -np.inf
        for c in range(len(frame)):
            extend[k, c] = total + frame[c]
        extend[k, blank] = -np.inf
        if node > 0:  # the same label again needs a blank between
            extend[k, tokens[node]] = ends[k, 0] + frame[tokens[node]]
    for k in range(len(nodes)):
        node = nodes[k]
        if node > 0 and places[parents[node]] >= 0:
            parent = places[parents[node]]
            stay[k, 1] = _logaddexp(stay[k, 1], extend[parent, tokens[node]])
            extend[parent, tokens[node]] = -np.inf
    for k in range(len(nodes)):
        places[nodes[k]] = -1


@njit(cache=True)
def _survivors(stay, extend, beam_size):
    """Return the indices of the best candidates: k for a stay, K + k C + c for an extension."""
    beam, num_classes = extend.shape
    scores = np.empty(beam * (1 + num_classes))
    for k in range(beam):
        scores[k] = _logaddexp(stay[k, 0], stay[k, 1])
        for c in range(num_classes):
            scores[beam + k * num_classes + c] = extend[k, c]
    possible = np.flatnonzero(scores > -np.inf)
    if len(possible) <= beam_size:
        return possible
    threshold = -np.partition(-scores, beam_size - 1)[beam_size - 1]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)  # of equals, the first ones in the order of the beam
    return np.concatenate((above, level[: beam_size - len(above)]))


@njit(cache=True)
def _child(node, token, tokens, children, siblings):
    """Return the child of a node that adds a token, −1 where there is none."""
    child = children[node]
    while child >= 0 and tokens[child] != token:
        child = siblings[child]
    return child


@njit(cache=True)
def _search(log_probs, beam_size, blank):
    """Search one utterance (T, C); return the beam's nodes and scores, best first, and the tree's parents, tokens."""
    num_frames, num_classes = log_probs.shape
    parents = np.full(1 + num_frames * beam_size, -1)
    tokens = np.full(1 + num_frames * beam_size, -1)
    children = np.full(1 + num_frames * beam_size, -1)  # of a node, the youngest; then along the siblings
    siblings = np.full(1 + num_frames * beam_size, -1)
    places = np.full(1 + num_frames * beam_size, -1)  # of a node in the beam
    nodes, ends = np.zeros(1, np.int64), np.array([[0.0, -np.inf]])
    num_nodes = 1
    for t in range(num_frames):
        beam = len(nodes)
        stay, extend = np.empty((beam, 2)), np.empty((beam, num_classes))
        _score_frame(log_probs[t], blank, nodes, ends, parents, tokens, places, stay, extend)
        kept = _survivors(stay, extend, beam_size)
        new_nodes, new_ends = np.empty(len(kept), np.int64), np.empty((len(kept), 2))
        for i in range(len(kept)):
            if kept[i] < beam:
                new_nodes[i] = nodes[kept[i]]
                new_ends[i] = stay[kept[i]]
            else:
                k, c = divmod(kept[i] - beam, num_classes)
                # a prefix that left the beam and comes back is the node it was: its children may be in the beam still
                child = _child(nodes[k], c, tokens, children, siblings)
                if child < 0:
                    child = num_nodes
                    parents[child], tokens[child] = nodes[k], c
                    siblings[child], children[nodes[k]] = children[nodes[k]], child
                    num_nodes += 1
                new_nodes[i] = child
                new_ends[i, 0], new_ends[i, 1] = -np.inf, extend[k, c]
        nodes, ends = new_nodes, new_ends
    scores = np.empty(len(nodes))
    for k in range(len(nodes)):
        scores[k] = _logaddexp(ends[k, 0], ends[k, 1])
    order = np.argsort(-scores, kind="mergesort")
    return nodes[order], scores[order], parents, tokens


@njit(cache=True)
def _peaks(log_probs, labels, blank):
    """Return the frames (L,) in which labels peak on the best single path of a labelling (Viterbi, 2L + 1 states)."""
    num_frames, num_states = len(log_probs), 2 * len(labels) + 1
    best = np.full(num_states, -np.inf)
    came = np.zeros((num_frames, num_states), np.int8)  # states stepped up to get here
    for t in range(num_frames):
        for s in range(num_states - 1, -1, -1):
            token = labels[s // 2] if s % 2 else blank
            value, step = best[s], 0
            if t == 0:
                value = 0.0 if s < 2 else -np.inf
            else:
                if s > 0 and best[s - 1] > value:
                    value, step = best[s - 1], 1
                if s > 2 and s % 2 and token != labels[s // 2 - 1] and best[s - 2] > value:
                    value, step = best[s - 2], 2
            best[s] = value + log_probs[t, token]
            came[t, s] = step
    peaks = np.zeros(len(labels), np.int64)
    heights = np.full(len(labels), -np.inf)
    state = num_states - 1
    if num_states > 1 and best[state - 1] > best[state]:
        state -= 1
    for t in range(num_frames - 1, -1, -1):
        if state % 2 and log_probs[t, labels[state // 2]] >= heights[state // 2]:
            peaks[state // 2], heights[state // 2] = t, log_probs[t, labels[state // 2]]
        state -= came[t, state]
    return peaks


@njit(cache=True, parallel=True)
def search_batch(log_probs, lengths, beam_size, blank, tokens, timesteps, scores):
    """Search utterances (B, T, C); write tokens, −1 after the last, and timesteps (B, N, T), and scores (B, N)."""
    for b in prange(len(log_probs)):
        posteriors = log_probs[b, : lengths[b]]
        nodes, values, parents, labels = _search(posteriors, beam_size, blank)
        for n in range(min(len(nodes), scores.shape[1])):
            scores[b, n] = values[n]
            length, node = 0, nodes[n]
            while node > 0:
                tokens[b, n, length] = labels[node]
                node = parents[node]
                length += 1
            tokens[b, n, :length] = tokens[b, n, :length][::-1].copy()
            timesteps[b, n, :length] = _peaks(posteriors, tokens[b, n, :length].copy(), blank)
