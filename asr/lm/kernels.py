"""N-grams as a tree in arrays, and the beam search for words, walked without Python.

N-grams: node 0 is the empty context; the nodes of each order follow those of the one before, sorted by parent and
token. A probability that the tree lacks is that of a shorter context,
times what the longer ones set aside (Katz 1987): ln p(w | h) = ln backoff(h) + ln p(w | h without its first token).

Words: as in asr/ctc/beam_kernels.py a prefix is a node of a history tree, here a sequence of arcs of the lexicon's
graph, each with a phone and perhaps the word that it ends; so prefixes of equal phones and different words are two.

Letters: M n-grams, V tokens, K contexts or prefixes in the beam, L tokens, T frames, B utterances, C classes, N nodes
and A arcs of the lexicon.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import njit


class Trie(NamedTuple):
    """N-grams of all orders; node i + 1 … of the arrays of nodes, of which there are M + 1.

    Attributes
    ----------
    tokens : (M + 1,) int32
        Last token of each n-gram; −1 of the root.
    parents : (M + 1,) int32
        The n-gram without its last token; −1 of the root.
    values : (M + 1, 2) float64
        Natural logs: of its probability; of what its probability as a context leaves to shorter ones.
    links : (M + 1, 2) int32
        The context after the n-gram: itself or, where no longer n-gram has it as a context, its longest ending that is.
        And the longest proper ending that is a context; 0 of the root.
    table : (S, 4) int64
        A hash table of the n-grams of two tokens or more, at most half full: the key, of parent and token, −1 where
        there is none, and copies of log probability and target, so that to find is to touch one line of the cache.
    table_values : (S, 4) float64
        The same memory, for the log probabilities.
    """

    tokens: np.ndarray
    parents: np.ndarray
    values: np.ndarray
    links: np.ndarray
    table: np.ndarray
    table_values: np.ndarray


LOG_PROB, BACKOFF = range(2)  # of values
TARGET, SHORTER = range(2)  # of links
KEY, FOUND_LOG_PROB, FOUND_TARGET = range(3)  # of the table


@njit(cache=True)
def _find(table, parent, token):
    """Return the key of a node and its row in the table, or the empty row where it would be."""
    parent, token = np.int64(parent), np.int64(token)
    key = (parent << 32) | token
    row = ((parent * 0x1E3779B1 + token * 0x165667B1) >> 13) & (len(table) - 1)  # factors below 2^29: nothing overflows
    while table[row, KEY] >= 0 and table[row, KEY] != key:
        row = (row + 1) & (len(table) - 1)
    return key, row


@njit(cache=True)
def hashed(tokens, parents, values, links, first):
    """Return the table of the nodes from `first` on, as integers and as floating numbers."""
    size = 2
    while size < 2 * (len(parents) - first):
        size *= 2
    table = np.full((size, 4), -1, np.int64)
    table_values = table.view(np.float64)
    for node in range(first, len(parents)):
        key, row = _find(table, parents[node], tokens[node])
        table[row, KEY], table[row, FOUND_TARGET] = key, links[node, TARGET]
        table_values[row, FOUND_LOG_PROB] = values[node, LOG_PROB]
    return table, table_values


@njit(cache=True)
def look_up(trie, state, token):
    """Return ln p(token | state) and the state after it."""
    spared = 0.0
    while state > 0:
        key, row = _find(trie.table, state, token)
        if trie.table[row, KEY] == key:
            return spared + trie.table_values[row, FOUND_LOG_PROB], np.int32(trie.table[row, FOUND_TARGET])
        spared += trie.values[state, BACKOFF]
        state = trie.links[state, SHORTER]
    node = 1 + token  # every token is there, in order
    return spared + trie.values[node, LOG_PROB], trie.links[node, TARGET]


@njit(cache=True, nogil=True)
def score(trie, start, tokens, lengths, log_probs):
    """Write the log probability of each token, and of the end, of sentences whose tokens stand end to end."""
    i, j = 0, 0
    for length in lengths:
        state = start
        for _ in range(length):
            log_probs[j], state = look_up(trie, state, tokens[i])
            i, j = i + 1, j + 1
        log_probs[j], _ = look_up(trie, state, 0)
        j += 1


@njit(cache=True, nogil=True)
def advance(trie, states, tokens):
    """Return the log probability of one more token after each state (K,), and the states after it (K,)."""
    log_probs, after = np.empty(len(states)), np.empty(len(states), np.int32)
    for k in range(len(states)):
        log_probs[k], after[k] = look_up(trie, states[k], tokens[k])
    return log_probs, after


@njit(cache=True, nogil=True)
def rows(trie, states, log_probs, after):
    """Write the log probability of every token (K, V), and the state that it leads to (K, V)."""
    for k in range(len(states)):
        for token in range(log_probs.shape[1]):
            log_probs[k, token], after[k, token] = look_up(trie, states[k], token)


class Graph(NamedTuple):
    """The lexicon's tree.

    Attributes
    ----------
    offsets : (N + 1,) int32
        The arcs of node n are offsets[n] … offsets[n + 1] − 1; node 0 is where words begin and end.
    tokens, nodes, words : (A,) int32
        The class that an arc reads, the node that it leads to, and the word that ends with it, or −1.
    weights : (A,)
        What an arc adds to the log probability.
    ahead : (N,)
        What the words that can still be meant will add at most, near enough: put in before a word is known, and taken
        out again when it is.
    """

    offsets: np.ndarray
    tokens: np.ndarray
    nodes: np.ndarray
    words: np.ndarray
    weights: np.ndarray
    ahead: np.ndarray


class Limits(NamedTuple):
    """What a search keeps, and how it weighs words."""

    blank: int
    beam_size: int
    threshold: float  # nats below the best prefix
    least: float  # nats, for a class's log probability in a frame
    weight: float  # of the language model
    penalty: float  # nats a word
    start: int  # the n-gram's node before a sentence
    alike: int  # prefixes kept of those that the same can follow: as many as sentences are asked for


# Log probabilities of a prefix in the beam: of its paths that end in a blank, in its last label, in either.
ENDS_BLANK, ENDS_LABEL, ENDS = range(3)
HISTORY_FIELDS = 7  # int32: parent, arc, first child, next sibling, place in the beam, lexicon's node, n-gram's node


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 a thread needs: room for a node of the history tree a frame and prefix."""
    room = 1 + num_frames * beam_size
    return room + (room * HISTORY_FIELDS + 1) // 2


@njit(cache=True)
def _logaddexp(a, b):
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:
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
def _stay(frame, network, limits, beam, stays, held, tree, taken, stamp):
    """Score the prefixes of the beam where they stay as they are for one frame; return the best of them.

    A prefix whose parent is in the beam too is also reached by growing out of it; `taken` (K, ·) gets the frame's stamp
    for that arc, so that the prefix is not made a second time.
    """
    graph, _ = network
    gains, parents, arcs, _, _, places, nodes, _ = tree
    for k in range(len(held)):
        places[held[k]] = k
    best = -np.inf
    for k in range(len(held)):
        h = held[k]
        stays[ENDS_BLANK, k] = beam[ENDS, k] + frame[limits.blank]
        stays[ENDS_LABEL, k] = -np.inf
        if h > 0:
            token, parent = graph.tokens[arcs[h]], parents[h]
            stays[ENDS_LABEL, k] = beam[ENDS_LABEL, k] + frame[token]
            place = places[parent]
            if place >= 0 and frame[token] >= limits.least:
                taken[place, arcs[h] - graph.offsets[nodes[parent]]] = stamp
                repeated = parent > 0 and graph.tokens[arcs[parent]] == token  # the same again needs a blank between
                came = beam[ENDS_BLANK, place] if repeated else beam[ENDS, place]
                stays[ENDS_LABEL, k] = _logaddexp(stays[ENDS_LABEL, k], came + frame[token] + gains[h])
        stays[ENDS, k] = _logaddexp(stays[ENDS_BLANK, k], stays[ENDS_LABEL, k])
        best = max(best, stays[ENDS, k])
    for k in range(len(held)):
        places[held[k]] = -1
    return best


@njit(cache=True)
def _grow(frame, network, limits, beam, held, tree, taken, stamp, best, offers):
    """Offer the prefixes that are longer by an arc: scores, prefixes, arcs, gains and n-gram nodes, after the others.

    Returns the offers, in longer arrays where they needed more room, and their number.
    """
    graph, trie = network
    _, _, arcs, _, _, _, nodes, states = tree
    scores, prefixes, taken_arcs, gained, after = offers
    num = len(held)
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
def _follows(network, num_tokens, held, stays, tree, offers, num):
    """Return a key of what can follow each offer (num,), and the log probabilities of its two ends (2, num)."""
    graph, trie = network
    _, _, arcs, _, _, _, nodes, states = tree
    scores, _, taken_arcs, _, after = offers
    num_states = len(trie.tokens)
    keys, ends = np.empty(num, np.int64), np.full((2, num), -np.inf)
    for i in range(num):
        if i < len(held):
            h = held[i]
            token = graph.tokens[arcs[h]] if h > 0 else 0
            node, state = nodes[h], states[h]
            ends[0, i], ends[1, i] = stays[ENDS_BLANK, i], stays[ENDS_LABEL, i]
        else:
            arc = taken_arcs[i]
            token, node, state = graph.tokens[arc], graph.nodes[arc], after[i]
            ends[1, i] = scores[i]
        keys[i] = (np.int64(node) * num_states + state) * num_tokens + token
    return keys, ends


@njit(cache=True)
def _differ(chosen, limits, keys, ends, table):
    """Return the first choices, as many as the beam holds, without those that cannot be among the best at the end.

    keys (·,) tell what can follow, and ends (2, ·) are log probabilities of ending in a blank and in the label: a later
    choice that is behind another of its key in both stays behind it, whatever comes (Viterbi's argument; what such a
    prefix would still give to longer ones that are in the beam is lost to their sums). The rows of `table` (2, ·) are a
    choice and how many of its key there are; the first is empty (−1), and is left so.
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
def _child(parent, arc, count, tree):
    """Return the node for a prefix longer by an arc: a new one, `count`, where the tree has none."""
    _, parents, arcs, children, siblings, places, _, _ = tree
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
    """Search one utterance; return prefixes, best first, their scores, and the tree's parents and arcs.

    Where no prefix ends with a word, those that do not are returned, the language model's guess at their end taken out.
    """
    graph, trie = network
    room = 1 + num_frames * limits.beam_size
    fields = work[room:].view(np.int32)
    tree = (
        work[:room],
        fields[:room],
        fields[room : 2 * room],
        fields[2 * room : 3 * room],
        fields[3 * room : 4 * room],
        fields[4 * room : 5 * room],
        fields[5 * room : 6 * room],
        fields[6 * room : 7 * room],
    )
    gains, parents, arcs, children, _, places, nodes, states = tree
    parents[0], arcs[0], children[0], places[0], nodes[0], states[0] = -1, -1, -1, -1, 0, limits.start
    count, most = 1, 1
    for n in range(len(graph.offsets) - 1):
        most = max(most, graph.offsets[n + 1] - graph.offsets[n])
    taken = np.zeros((limits.beam_size, most), np.int32)
    beam, stays = np.full((3, limits.beam_size), -np.inf), np.full((3, limits.beam_size), -np.inf)
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
    table = np.full((2, 4 * limits.beam_size + 1), -1)  # odd, for remainders of keys that are multiples of a power of 2
    for t in range(num_frames):
        frame = log_probs[t, b]
        best = _stay(frame, network, limits, beam, stays, held, tree, taken, t + 1)
        offers[0][: len(held)] = stays[ENDS, : len(held)]
        offers, num = _grow(frame, network, limits, beam, held, tree, taken, t + 1, best, offers)
        scores, prefixes, taken_arcs, gained, after = offers
        top = -np.inf if num == 0 else scores[:num].max()
        chosen = _best(scores[:num], num, max(top - limits.threshold, -1e300))
        keys, ends = _follows(network, len(frame), held, stays, tree, offers, num)
        chosen = _differ(chosen, limits, keys, ends, table)
        kept = np.empty(len(chosen), np.int64)
        for i in range(len(chosen)):
            choice = chosen[i]
            if choice < len(held):
                kept[i] = held[choice]
                for row in range(3):
                    beam[row, i] = stays[row, choice]
            else:
                arc = taken_arcs[choice]
                kept[i] = _child(held[prefixes[choice]], arc, count, tree)
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
