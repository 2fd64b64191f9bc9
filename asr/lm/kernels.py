"""The beam search for words over a lexicon and an n-gram, in Numba.

As in asr/ctc/beam_kernels.py each prefix is a node of a history tree. Here it is a sequence of arcs of the lexicon's
graph, each with a phone and possibly the word that it ends, so that equal phones with different words are two prefixes.

Letters: K prefixes in the beam, T frames, B utterances, C classes, N nodes and A arcs of the lexicon.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import njit
from asr.lm.trie import FIRST, look_up


class LexiconGraph(NamedTuple):
    """The lexicon's tree, whose arcs may lead back to the root.

    Attributes
    ----------
    offsets : (N + 1,) int32
        The arcs of node n are offsets[n] … offsets[n + 1] − 1; words begin and end in node 0.
    tokens, nodes, words : (A,) int32
        The class of an arc, the node that it leads to, and the word that ends with it, or −1.
    weights : (A,)
        Log probability that an arc adds.
    ahead : (N,)
        Estimate of the most that the words still possible at a node will add (language model look-ahead): it is added
        before the word is known and removed when it is.
    """

    offsets: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    words: np.ndarray
    weights: np.ndarray
    ahead: np.ndarray


class Limits(NamedTuple):
    """What a search keeps, and the weights of words."""

    blank: int
    beam_size: int
    threshold: float  # nats below the best prefix
    least: float  # nats, for a class's log probability in a frame
    weight: float  # of the language model's log probabilities
    penalty: float  # nats that each word costs
    start: int  # the n-gram's state before a sentence
    alike: int  # prefixes kept of those with the same continuations: the number of sentences requested


# Rows of the beam (6, K): log probabilities of a prefix's paths that end in a blank, in its last label, in either; and
# of those that stay on it for another frame.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS = range(6)
HISTORY_FIELDS = 7  # int32: all of `History` but gains and taken


class History(NamedTuple):
    """The prefixes of an utterance as nodes of a tree, (1 + T K,) but for `taken`; node 0 is the empty prefix.

    Attributes
    ----------
    gains : float64
        What the last arc of each prefix added beside its frames.
    parents, arcs : int32
        The prefix without its last arc, and that arc.
    children, siblings : int32
        First child of each node, and the next child of its parent; −1 where there is none.
    places : int32
        Where the node is in the beam while a frame is taken in; −1 if it is not there.
    nodes, states : int32
        The lexicon's node and the n-gram's state after the prefix.
    taken : (K, ·) int32
        The last frame in which a prefix in the beam was not to be grown by an arc, as the longer one was there.
    """

    gains: np.ndarray
    parents: np.ndarray
    arcs: np.ndarray
    children: np.ndarray
    siblings: np.ndarray
    places: np.ndarray
    nodes: np.ndarray
    states: np.ndarray
    taken: np.ndarray


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 a thread needs: room for K nodes of the history tree a frame, and the root."""
    room = 1 + num_frames * beam_size
    return room + (room * HISTORY_FIELDS + 1) // 2


@njit(cache=True)
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:  # e^−45 is beyond the last bit of any sum but one next to 0
        return high
    return high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _best(scores, size, floor):
    """Return the indices of the best scores, at most `size`, best first, none below the floor."""
    order = np.argsort(-scores, kind="mergesort")[:size]
    count = 0
    while count < len(order) and scores[order[count]] >= floor:
        count += 1
    return order[:count]


@njit(cache=True)
def _stay(frame, stamp, network, limits, beam, held, history):
    """Score the prefixes of the beam that stay unchanged in a frame.

    A prefix whose parent is also in the beam can be reached by extending the parent. That path is added here, and
    `taken` gets the frame's stamp for the arc, so that `_grow` does not make the same extension again.
    """
    graph, _ = network
    gains, parents, arcs, _, _, places, nodes, _, taken = history
    for k in range(len(held)):
        places[held[k]] = k
    for k in range(len(held)):
        h = held[k]
        beam[STAYS_BLANK, k] = beam[ENDS, k] + frame[limits.blank]
        beam[STAYS_LABEL, k] = -np.inf
        if h > 0:
            token, parent = graph.tokens[arcs[h]], parents[h]
            beam[STAYS_LABEL, k] = beam[ENDS_LABEL, k] + frame[token]
            place = places[parent]
            if place >= 0 and frame[token] >= limits.least:
                taken[place, arcs[h] - graph.offsets[nodes[parent]]] = stamp
                repeated = parent > 0 and graph.tokens[arcs[parent]] == token  # a repeated token needs a blank between
                came = beam[ENDS_BLANK, place] if repeated else beam[ENDS, place]
                beam[STAYS_LABEL, k] = _logaddexp(beam[STAYS_LABEL, k], came + frame[token] + gains[h])
        beam[STAYS, k] = _logaddexp(beam[STAYS_BLANK, k], beam[STAYS_LABEL, k])
    for k in range(len(held)):
        places[held[k]] = -1


@njit(cache=True)
def _grow(frame, stamp, network, limits, beam, held, history, offers):
    """Add the candidates of a frame to offers: prefixes that stay, then those that are extended by an arc.

    `offers` are scores, prefixes, arcs, gains and n-gram states. Returns them, in longer arrays if necessary, and their
    number.
    """
    graph, trie = network
    _, _, arcs, _, _, _, nodes, states, taken = history
    scores, prefixes, taken_arcs, gained, after = offers
    num, best = len(held), -np.inf
    for k in range(len(held)):
        scores[k] = beam[STAYS, k]
        best = max(best, scores[k])
    for k in range(len(held)):
        h = held[k]
        node = nodes[h]
        last = graph.tokens[arcs[h]] if h > 0 else -1
        first, end = graph.offsets[node], graph.offsets[node + 1]
        if num + end - first > len(scores):
            more = num + end - first
            scores, prefixes = np.append(scores, np.empty(more)), np.append(prefixes, np.empty(more, np.int64))
            taken_arcs, gained = np.append(taken_arcs, np.empty(more, np.int64)), np.append(gained, np.empty(more))
            after = np.append(after, np.empty(more, np.int64))
        for arc in range(first, end):
            token = graph.tokens[arc]
            if frame[token] < limits.least or taken[k, arc - first] == stamp:
                continue
            gain = graph.weights[arc] - graph.ahead[node] + graph.ahead[graph.nodes[arc]]
            word, state = graph.words[arc], states[h]
            if word >= 0:
                gain -= limits.penalty
            came = (beam[ENDS_BLANK, k] if token == last else beam[ENDS, k]) + frame[token]
            if came == -np.inf or came + gain < best - limits.threshold:
                continue
            if word >= 0:
                log_prob, state = look_up(trie, state, word)
                gain += limits.weight * log_prob
            if came + gain > -np.inf:
                scores[num], prefixes[num], taken_arcs[num] = came + gain, k, arc
                gained[num], after[num] = gain, state
                best = max(best, came + gain)
                num += 1
    return (scores, prefixes, taken_arcs, gained, after), num


@njit(cache=True)
def _follows(network, num_tokens, held, beam, history, offers, num):
    """Return a key of each candidate's continuations (num,), and its log probabilities by last symbol (2, num)."""
    graph, trie = network
    _, _, arcs, _, _, _, nodes, states, _ = history
    scores, _, taken_arcs, _, after = offers
    num_states = trie.layout[-1, FIRST]
    keys, ends = np.empty(num, np.int64), np.full((2, num), -np.inf)
    for i in range(num):
        if i < len(held):
            h = held[i]
            token = graph.tokens[arcs[h]] if h > 0 else 0
            node, state = nodes[h], states[h]
            ends[0, i], ends[1, i] = beam[STAYS_BLANK, i], beam[STAYS_LABEL, i]
        else:
            arc = taken_arcs[i]
            token, node, state = graph.tokens[arc], graph.nodes[arc], after[i]
            ends[1, i] = scores[i]
        keys[i] = (np.int64(node) * num_states + state) * num_tokens + token
    return keys, ends


@njit(cache=True)
def _differ(chosen, limits, keys, ends, table):
    """Return the best choices, as many as the beam holds, without those that cannot be among the best at the end.

    keys (·,) identify a choice's continuations, and ends (2, ·) are its log probabilities of ending in a blank and in
    the label. A choice with a better one of the same key in both respects stays worse whatever follows (Viterbi's
    argument; longer prefixes in the beam lose what it would still have added to them). The rows of `table` (2, ·) are a
    choice and the number of choices with its key. The first row is −1 where empty, on entry and on return everywhere.
    """
    kept, slots = np.empty(limits.beam_size, np.int64), np.empty(limits.beam_size, np.int64)
    num, size = 0, table.shape[1]
    for choice in chosen:
        slot = keys[choice] % size
        while table[0, slot] >= 0 and keys[table[0, slot]] != keys[choice]:
            slot = (slot + 1) % size
        better = table[0, slot]
        if better < 0:
            table[0, slot], table[1, slot] = choice, 1
        elif table[1, slot] < limits.alike:
            table[1, slot] += 1
        elif ends[0, choice] <= ends[0, better] and ends[1, choice] <= ends[1, better]:
            continue
        kept[num], slots[num] = choice, slot
        num += 1
        if num == limits.beam_size:
            break
    for slot in slots[:num]:
        table[0, slot] = -1
    return kept[:num]


@njit(cache=True)
def _child(parent, arc, count, history):
    """Return the node of a prefix extended by an arc: a new one, `count`, where the tree has none."""
    _, parents, arcs, children, siblings, places, _, _, _ = history
    child = children[parent]
    while child >= 0 and arcs[child] != arc:
        child = siblings[child]
    if child < 0:
        child = count
        parents[child], arcs[child], children[child], places[child] = parent, arc, -1, -1
        siblings[child], children[parent] = children[parent], child
    return child


@njit(cache=True, inline="always")
def _search(log_probs, b, num_frames, network, limits, work):
    """Search one utterance; return prefixes, best first, their scores, and the history's parents and arcs.

    If no prefix ends with a word, unfinished ones are returned, without the look-ahead in their scores.
    """
    graph, trie = network
    room, most = 1 + num_frames * limits.beam_size, 1
    for n in range(len(graph.offsets) - 1):
        most = max(most, graph.offsets[n + 1] - graph.offsets[n])
    fields = work[room:].view(np.int32)
    history = History(
        work[:room],
        fields[:room],
        fields[room : 2 * room],
        fields[2 * room : 3 * room],
        fields[3 * room : 4 * room],
        fields[4 * room : 5 * room],
        fields[5 * room : 6 * room],
        fields[6 * room : 7 * room],
        np.zeros((limits.beam_size, most), np.int32),
    )
    gains, parents, arcs, children, _, places, nodes, states, _ = history
    parents[0], arcs[0], children[0], places[0], nodes[0], states[0] = -1, -1, -1, -1, 0, limits.start
    count, beam = 1, np.full((6, limits.beam_size), -np.inf)
    beam[ENDS_BLANK, 0], beam[ENDS, 0] = 0.0, 0.0
    held = np.zeros(1, np.int64)
    first = 2 * limits.beam_size
    offers = (
        np.empty(first),
        np.empty(first, np.int64),
        np.empty(first, np.int64),
        np.empty(first),
        np.empty(first, np.int64),
    )
    table = np.full((2, 4 * limits.beam_size + 1), -1)  # odd, as keys may be multiples of a power of 2
    for t in range(num_frames):
        frame = log_probs[t, b]
        _stay(frame, t + 1, network, limits, beam, held, history)
        offers, num = _grow(frame, t + 1, network, limits, beam, held, history, offers)
        scores, prefixes, taken_arcs, gained, after = offers
        top = -np.inf if num == 0 else scores[:num].max()
        chosen = _best(scores[:num], num, max(top - limits.threshold, -1e300))
        keys, ends = _follows(network, len(frame), held, beam, history, offers, num)
        chosen = _differ(chosen, limits, keys, ends, table)
        kept = np.empty(len(chosen), np.int64)
        for i in range(len(chosen)):
            choice = chosen[i]
            if choice < len(held):
                kept[i] = held[choice]
                for row in range(3):
                    beam[ENDS_BLANK + row, i] = beam[STAYS_BLANK + row, choice]
            else:
                arc = taken_arcs[choice]
                kept[i] = _child(held[prefixes[choice]], arc, count, history)
                count = max(count, kept[i] + 1)
                nodes[kept[i]], gains[kept[i]], states[kept[i]] = graph.nodes[arc], gained[choice], after[choice]
                beam[ENDS_BLANK, i], beam[ENDS_LABEL, i], beam[ENDS, i] = -np.inf, scores[choice], scores[choice]
        held = kept
    totals, whole = np.empty(len(held)), False
    for k in range(len(held)):
        whole = whole or nodes[held[k]] == 0
    for k in range(len(held)):
        node = nodes[held[k]]
        if node == 0:
            totals[k] = beam[ENDS, k] + limits.weight * look_up(trie, states[held[k]], 0)[0]
        else:
            totals[k] = -np.inf if whole else beam[ENDS, k] - graph.ahead[node]
    chosen = _best(totals, len(totals), -1e300)
    return held[chosen], totals[chosen], parents, arcs


@njit(cache=True, nogil=True)
def search(utterances, log_probs, lengths, network, limits, arcs, scores, work):
    """Search some utterances of log_probs (T, B, C); write arcs (B, N, T), −1 after the last, and scores (B, N)."""
    for b in utterances:
        nodes, values, parents, taken = _search(log_probs, b, lengths[b], network, limits, work)
        for n in range(min(len(nodes), scores.shape[1])):
            scores[b, n] = values[n]
            length, node = 0, nodes[n]
            while node > 0:
                length += 1
                node = parents[node]
            node = nodes[n]
            for i in range(length - 1, -1, -1):
                arcs[b, n, i] = taken[node]
                node = parents[node]
