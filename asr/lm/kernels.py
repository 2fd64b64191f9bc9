"""The n-gram's tree in arrays, and the beam search for words over it, in Numba.

Both are in one file because Numba's cache does not notice an edit of `look_up`, which the search calls, in another
file.

N-grams: node 0 is the empty context; the nodes of each order follow those of the previous one, sorted by parent and
token. The probability of an n-gram that is not in the tree is that of the shorter n-gram times the context's backoff
weight (Katz 1987): ln p(w | h) = ln backoff(h) + ln p(w | h without its first token).

Words: as in asr/ctc/beam_kernels.py each prefix is a node of a history tree. Here it is a sequence of arcs of the
lexicon's graph, each with a phone and possibly the word that it ends, so that equal phones with different words are two
prefixes. That tree, too, is cleared of what begins no prefix of the beam when it is full.

Letters: M n-grams, V tokens, K contexts or prefixes in the beam, L tokens, T frames, B utterances, C classes, N nodes
and A arcs of the lexicon.
"""

import math
from typing import NamedTuple

import numpy as np

from asr.core.jit import njit


class Trie(NamedTuple):
    """N-grams of all orders as a tree of M + 1 nodes, the root included.

    Attributes
    ----------
    tokens : (M + 1,) int32
        Last token of each n-gram; −1 of the root.
    parents : (M + 1,) int32
        The n-gram without its last token; −1 of the root.
    values : (M + 1, 2) float64
        Natural logs of the n-gram's probability and of its backoff weight as a context.
    links : (M + 1, 2) int32
        The context after the n-gram: itself or, if no longer n-gram has it as a context, its longest ending that is a
        context. And the longest proper ending of that which is a context; 0 for the root.
    table : (S, 4) int64
        A hash table of the n-grams of two tokens or more, at most half full: the key made of parent and token, −1 for
        an empty row, and copies of log probability and target, so that a lookup reads one cache line.
    table_values : (S, 4) float64
        The same memory as floating-point numbers, for the log probabilities.
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
    """Return the key of a node and its row in the table, or the empty row where it would be inserted."""
    parent, token = np.int64(parent), np.int64(token)
    key = (parent << 32) | token
    row = ((parent * 0x1E3779B1 + token * 0x165667B1) >> 13) & (len(table) - 1)  # factors below 2^29: nothing overflows
    while table[row, KEY] >= 0 and table[row, KEY] != key:
        row = (row + 1) & (len(table) - 1)
    return key, row


@njit(cache=True)
def hashed(tokens, parents, values, links, first):
    """Return the hash table of the nodes from `first` on, as integers and as floating-point numbers."""
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
    node = 1 + token  # the unigrams of all tokens, in order
    return spared + trie.values[node, LOG_PROB], trie.links[node, TARGET]


@njit(cache=True, nogil=True)
def score(trie, start, tokens, lengths, log_probs):
    """Write the log probability of each token, and of the end, of sentences whose tokens are concatenated."""
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
    """Write the log probability of every token after each state, and the state that it leads to, both (K, V)."""
    for k in range(len(states)):
        for token in range(log_probs.shape[1]):
            log_probs[k, token], after[k, token] = look_up(trie, states[k], token)


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
    start: int  # the n-gram's node before a sentence
    alike: int  # prefixes kept of those with the same continuations: the number of sentences requested


# Rows of the beam (6, K): log probabilities of a prefix's paths that end in a blank, in its last label, in either; and
# of those that stay on it for another frame.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS = range(6)
# Columns of the history's tree; −1 stands for no node.
PARENT, ARC = range(2)  # the prefix without its last arc, and that arc
CHILD, SIBLING = range(2, 4)  # the first child of a node, and the next child of its parent
BORN = 4  # the frame in which the prefix came into the beam
SEEN, PLACE = range(5, 7)  # the number of the frame before which it was last there, counted from 1; its place then
NODE, STATE = range(7, 9)  # the lexicon's node and the n-gram's node after the prefix
NODE_FIELDS = 9
ROOM = 2000  # frames whose new prefixes there is room for


class History(NamedTuple):
    """The prefixes of an utterance as nodes of a tree with room for M; node 0 is the empty prefix.

    Attributes
    ----------
    gains : (M,)
        What the last arc of each prefix added beside its frames.
    tree : (M, 9) int32
        The columns above.
    taken : (K, ·) int32
        The last frame in which a prefix in the beam was not to be grown by an arc, as the longer one was there.
    """

    gains: np.ndarray
    tree: np.ndarray
    taken: np.ndarray


def workspace_size(num_frames: int, beam_size: int) -> int:
    """Return how many float64 a thread needs: room for K nodes in each of so many frames, and the root."""
    room = 1 + min(num_frames, ROOM) * beam_size
    return room + (room * NODE_FIELDS + 1) // 2


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
    gains, tree, taken = history
    for k in range(len(held)):
        tree[held[k], PLACE], tree[held[k], SEEN] = k, stamp
    for k in range(len(held)):
        h = held[k]
        beam[STAYS_BLANK, k] = beam[ENDS, k] + frame[limits.blank]
        beam[STAYS_LABEL, k] = -np.inf
        if h > 0:
            arc, parent = tree[h, ARC], tree[h, PARENT]
            token, place = graph.tokens[arc], tree[parent, PLACE]
            beam[STAYS_LABEL, k] = beam[ENDS_LABEL, k] + frame[token]
            if tree[parent, SEEN] == stamp and frame[token] >= limits.least:
                taken[place, arc - graph.offsets[tree[parent, NODE]]] = stamp
                # a repeated token needs a blank between
                repeated = parent > 0 and graph.tokens[tree[parent, ARC]] == token
                came = beam[ENDS_BLANK, place] if repeated else beam[ENDS, place]
                beam[STAYS_LABEL, k] = _logaddexp(beam[STAYS_LABEL, k], came + frame[token] + gains[h])
        beam[STAYS, k] = _logaddexp(beam[STAYS_BLANK, k], beam[STAYS_LABEL, k])


@njit(cache=True)
def _grow(frame, stamp, network, limits, beam, held, history, offers):
    """Add the candidates of a frame to offers: prefixes that stay, then those that are extended by an arc.

    `offers` are scores, prefixes, arcs, gains and n-gram nodes. Returns them, in longer arrays if necessary, and their
    number.
    """
    graph, trie = network
    _, tree, taken = history
    scores, prefixes, taken_arcs, gained, after = offers
    num, best = len(held), -np.inf
    for k in range(len(held)):
        scores[k] = beam[STAYS, k]
        best = max(best, scores[k])
    for k in range(len(held)):
        h = held[k]
        node = tree[h, NODE]
        last = graph.tokens[tree[h, ARC]] if h > 0 else -1
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
            word, state = graph.words[arc], tree[h, STATE]
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
    tree = history.tree
    scores, _, taken_arcs, _, after = offers
    num_states = len(trie.tokens)
    keys, ends = np.empty(num, np.int64), np.full((2, num), -np.inf)
    for i in range(num):
        if i < len(held):
            h = held[i]
            token = graph.tokens[tree[h, ARC]] if h > 0 else 0
            node, state = tree[h, NODE], tree[h, STATE]
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
def _child(parent, arc, stamp, count, tree):
    """Return the node of a prefix extended by an arc: a new one, `count`, where the tree has none."""
    child = tree[parent, CHILD]
    while child >= 0 and tree[child, ARC] != arc:
        child = tree[child, SIBLING]
    if child < 0:
        child = count
        tree[child, PARENT], tree[child, ARC], tree[child, CHILD] = parent, arc, -1
        tree[child, SIBLING], tree[parent, CHILD] = tree[parent, CHILD], child
        tree[child, BORN], tree[child, SEEN] = stamp - 1, 0
    return child


@njit(cache=True)
def _make_room(held, count, beam_size, history):
    """Take the nodes that begin no prefix of the beam out of a full tree; double it if more than half of it remains.

    Return the number of nodes that it still has, and the history; `held` gets the nodes' new numbers.
    """
    gains, tree, taken = history
    number, kept = np.full(count, -1, np.int32), 1
    number[0] = 0
    for node in held:
        while number[node] < 0:
            number[node] = 0
            node = tree[node, PARENT]
    tree[0, CHILD] = -1
    for node in range(1, count):  # a parent comes before its children
        if number[node] < 0:
            continue
        gains[kept], number[node] = gains[node], kept
        for column in range(NODE_FIELDS):
            tree[kept, column] = tree[node, column]
        parent = number[tree[kept, PARENT]]
        tree[kept, PARENT], tree[kept, CHILD] = parent, -1
        tree[kept, SIBLING], tree[parent, CHILD] = tree[parent, CHILD], kept
        kept += 1
    for k in range(len(held)):
        held[k] = number[held[k]]
    if 2 * (kept + beam_size) > len(tree):
        more_gains, larger = np.empty(2 * len(tree)), np.empty((2 * len(tree), NODE_FIELDS), np.int32)
        for node in range(kept):
            more_gains[node] = gains[node]
            for column in range(NODE_FIELDS):
                larger[node, column] = tree[node, column]
        gains, tree = more_gains, larger
    return kept, History(gains, tree, taken)


@njit(cache=True, inline="always")
def _search(log_probs, b, num_frames, network, limits, work):
    """Search one utterance; return prefixes, best first, their scores, and the history's tree.

    If no prefix ends with a word, unfinished ones are returned, without the look-ahead in their scores.
    """
    graph, trie = network
    room, most = 2 * len(work) // (2 + NODE_FIELDS), 1
    for n in range(len(graph.offsets) - 1):
        most = max(most, graph.offsets[n + 1] - graph.offsets[n])
    tree = work[room:].view(np.int32)[: room * NODE_FIELDS].reshape(room, NODE_FIELDS)
    history = History(work[:room], tree, np.zeros((limits.beam_size, most), np.int32))
    tree[0, PARENT], tree[0, ARC], tree[0, CHILD], tree[0, SEEN] = -1, -1, -1, 0
    tree[0, NODE], tree[0, STATE] = 0, limits.start
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
        if count + limits.beam_size > len(history.tree):
            count, history = _make_room(held, count, limits.beam_size, history)
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
                node = _child(held[prefixes[choice]], arc, t + 1, count, history.tree)
                count = max(count, node + 1)
                kept[i], history.gains[node] = node, gained[choice]
                history.tree[node, NODE], history.tree[node, STATE] = graph.nodes[arc], after[choice]
                beam[ENDS_BLANK, i], beam[ENDS_LABEL, i], beam[ENDS, i] = -np.inf, scores[choice], scores[choice]
        held = kept
    totals, whole = np.empty(len(held)), False
    for k in range(len(held)):
        whole = whole or history.tree[held[k], NODE] == 0
    for k in range(len(held)):
        node, state = history.tree[held[k], NODE], history.tree[held[k], STATE]
        if node == 0:
            totals[k] = beam[ENDS, k] + limits.weight * look_up(trie, state, 0)[0]
        else:
            totals[k] = -np.inf if whole else beam[ENDS, k] - graph.ahead[node]
    chosen = _best(totals, len(totals), -1e300)
    return held[chosen], totals[chosen], history.tree


@njit(cache=True, nogil=True)
def search(utterances, log_probs, lengths, network, limits, found, work):
    """Search some utterances of log_probs (T, B, C).

    Write to `found` arcs (B, N, T), −1 after the last, the first and the last frame in which each can have begun
    (B, N, T, 2), and scores (B, N).
    """
    arcs, spans, scores = found
    for b in utterances:
        nodes, values, tree = _search(log_probs, b, lengths[b], network, limits, work)
        for n in range(min(len(nodes), scores.shape[1])):
            scores[b, n] = values[n]
            length, node = 0, nodes[n]
            while node > 0:
                length += 1
                node = tree[node, PARENT]
            node = nodes[n]
            for i in range(length - 1, -1, -1):
                arcs[b, n, i], spans[b, n, i, 0] = tree[node, ARC], tree[node, BORN]
                node = tree[node, PARENT]
                spans[b, n, i, 1] = tree[node, SEEN] - 1
