"""Viterbi beam search over a loop of phones in all their contexts, in Numba, and posteriors of phones.

Token passing: S. Young, N. Russell and J. Thornton, "Token passing: a simple conceptual model for connected speech
recognition systems", CUED/F-INFENG/TR.38, 1989. Each state holds up to n tokens of different phone sequences. The cost
of a frame grows with the number of nodes that hold tokens.

Letters: T frames, L phones, S states a phone, P densities, N nodes, X exit slots, Y entry slots, n tokens a row.
Kernels trust their arguments: `asr.hmm.decoding` checks them.
"""

from typing import NamedTuple

import numpy as np

from asr.core.jit import helper, njit

ACTIVE, LEAVING, ENTERED, RECORDS, NODES = range(5)  # entries of `Search.sizes`
PARENT, PHONE, END = range(3)  # columns of a record: the record before, a phone, its last frame
LABEL, CHILD, SIBLING = range(3)  # columns of a node of the tree of label sequences


class Network(NamedTuple):
    """A loop of all phones in all their contexts, as nodes (states) with arcs; all weights are natural logarithms.

    Lists of different lengths are concatenated: list i lies from offsets[i] up to offsets[i + 1].

    Attributes
    ----------
    pdfs : (N,) int32
        Density of each node.
    arc_offsets, arc_targets, arc_weights : (N + 1,), (·,) int32, (·,)
        Arcs from each node to nodes of the same phone, including itself.
    exits, exit_weights : (N,) int32, (N,)
        Exit slot of each node, −1 for none. There is one slot for each phone and set of right neighbours.
    exit_phones : (X,) int32
        Phone of each exit slot.
    exit_ends : (X,) bool
        Whether the utterance may end there.
    exit_offsets, exit_targets : (X + 1,), (·,) int32
        Phones that may follow each exit slot.
    entries : (L + 1, L) int32
        Entry slot of each pair of phones, row L for the first phone of an utterance.
    entry_offsets, entry_nodes : (Y + 1,), (·,) int32
        First nodes of the phone at each entry slot.
    slot_offsets : (L + 1,) int32
        Entry slots of each phone.
    first_offsets, first_pdfs : (L + 1,), (·,) int32
        All densities of each phone's first state.
    weights : (L + 1, L + 1)
        What each pair of phones adds to a path; the last row is the utterance's start, the last column its end.
    most : (L,)
        The highest of each phone's weights.
    silent : (L,) bool
        Phones that do not count as labels.
    """

    pdfs: np.ndarray
    arc_offsets: np.ndarray
    arc_targets: np.ndarray
    arc_weights: np.ndarray
    exits: np.ndarray
    exit_weights: np.ndarray
    exit_phones: np.ndarray
    exit_ends: np.ndarray
    exit_offsets: np.ndarray
    exit_targets: np.ndarray
    entries: np.ndarray
    entry_offsets: np.ndarray
    entry_nodes: np.ndarray
    slot_offsets: np.ndarray
    first_offsets: np.ndarray
    first_pdfs: np.ndarray
    weights: np.ndarray
    most: np.ndarray
    silent: np.ndarray


class Tokens(NamedTuple):
    """Rows of at most n tokens with different labels, best first: score (−inf if there is no token), record, node."""

    score: np.ndarray
    record: np.ndarray
    node: np.ndarray


class Search(NamedTuple):
    """Working memory of a search besides the tokens of nodes: tokens of slots, lists of those that hold any, counts.

    `final` is one row, for the tokens at the end of the utterance.
    """

    exits: Tokens
    entries: Tokens
    final: Tokens
    active: np.ndarray
    leaving: np.ndarray
    entered: np.ndarray
    needed: np.ndarray
    sizes: np.ndarray


def _tokens(num_rows: int, n: int) -> Tokens:
    """Return rows without tokens."""
    shape = (num_rows, n)
    return Tokens(np.full(shape, -np.inf), np.full(shape, -1, np.int32), np.zeros(shape, np.int32))


@helper()
def _offer(score, records, nodes, row, value, record, node):
    """Put a token into a row, unless the row has a better one with the same labels, or n better ones."""
    n = score.shape[1]
    if not value > score[row, n - 1]:
        return
    place = n - 1
    if n > 1:
        for m in range(n):
            if score[row, m] == -np.inf or nodes[row, m] == node:
                place = m
                break
        if score[row, place] >= value:
            return
        while place > 0 and score[row, place - 1] < value:
            score[row, place], records[row, place] = score[row, place - 1], records[row, place - 1]
            nodes[row, place] = nodes[row, place - 1]
            place -= 1
    score[row, place], records[row, place], nodes[row, place] = value, record, node


@helper()
def _advance(frame, network, search, now, then, beam):
    """Move all tokens along the arcs, from `now` to `then`, which is empty; return the best score.

    The arcs of the best node come first, as the scores that they reach allow pruning the rest. The list of active nodes
    becomes that of `then`.
    """
    offsets, targets, weights, pdfs = network.arc_offsets, network.arc_targets, network.arc_weights, network.pdfs
    num_active, n, active = search.sizes[ACTIVE], now.score.shape[1], search.active
    score, record, node = now.score, now.record, now.node
    new_score, new_record, new_node = then.score, then.record, then.node
    best, top, num_reached = 0, -np.inf, 0
    for i in range(num_active):
        if score[active[0, i], 0] > score[active[0, best], 0]:
            best = i
    for i in range(-1 if num_active else 0, num_active):
        j = active[0, best if i < 0 else i]
        for a in range(offsets[j], offsets[j + 1]):
            k = targets[a]
            added = weights[a] + frame[pdfs[k]]
            if i < 0:
                top = max(top, score[j, 0] + added)
                continue
            for m in range(n):
                value = score[j, m] + added
                if value < top - beam or value == -np.inf:
                    break
                if new_score[k, 0] == -np.inf:
                    active[1, num_reached] = k
                    num_reached += 1
                _offer(new_score, new_record, new_node, k, value, record[j, m], node[j, m])
                top = max(top, value)
        if i >= 0:
            for m in range(n):
                score[j, m] = -np.inf
    for i in range(num_reached):
        active[0, i] = active[1, i]
    search.sizes[ACTIVE] = num_reached
    return top


@helper()
def _look_ahead(frame, network, floor, needed):
    """Write the score that a token needs at each entry slot to reach the floor, given its phone's best first state.

    Returns the highest score of a first state of any phone.
    """
    highest = -np.inf
    for c in range(len(network.silent)):
        ahead = -np.inf
        for i in range(network.first_offsets[c], network.first_offsets[c + 1]):
            ahead = max(ahead, frame[network.first_pdfs[i]])
        need = floor - ahead if ahead > -np.inf else np.inf
        for y in range(network.slot_offsets[c], network.slot_offsets[c + 1]):
            needed[y] = need
        highest = max(highest, ahead)
    return highest


@helper()
def _follow(nodes, sizes, node, label):
    """Return the node of a label sequence extended by one label."""
    child = nodes[node, CHILD]
    while child >= 0 and nodes[child, LABEL] != label:
        child = nodes[child, SIBLING]
    if child < 0:
        child = sizes[NODES]
        nodes[child, LABEL], nodes[child, CHILD], nodes[child, SIBLING] = label, -1, nodes[node, CHILD]
        nodes[node, CHILD] = child
        sizes[NODES] += 1
    return child


@helper()
def _record(records, sizes, parent, phone, end):
    """Add a record of a phone that ends in a frame; return its number."""
    record = sizes[RECORDS]
    records[record, PARENT], records[record, PHONE], records[record, END] = parent, phone, end
    sizes[RECORDS] += 1
    return record


@helper()
def _leave(frame, network, search, floor, end, records, nodes):
    """Move tokens that leave their phones after frame `end` to the entry slots of the next phones.

    Tokens that cannot reach the floor, whatever the next phone's first state, are left out.
    """
    score, parent, labels = search.exits
    new_score, new_record, new_node = search.entries
    weights, most, phones, silent = network.weights, network.most, network.exit_phones, network.silent
    offsets, targets, entries, sizes = network.exit_offsets, network.exit_targets, network.entries, search.sizes
    leaving, entered, needed, n = search.leaving, search.entered, search.needed, score.shape[1]
    highest = _look_ahead(frame, network, floor, needed)
    for i in range(sizes[LEAVING]):
        x = leaving[i]
        c = phones[x]
        for m in range(n):
            reached, record, node = score[x, m], -1, labels[x, m]
            if reached == -np.inf or reached + most[c] + highest < floor:
                break
            for j in range(offsets[x], offsets[x + 1]):
                r = targets[j]
                value = reached + weights[c, r]
                slot = entries[c, r]
                if not value > needed[slot]:
                    continue
                if record < 0:
                    record = _record(records, sizes, parent[x, m], c, end)
                    if n > 1 and not silent[c]:
                        node = _follow(nodes, sizes, node, c)
                if new_score[slot, 0] == -np.inf:
                    entered[sizes[ENTERED]] = slot
                    sizes[ENTERED] += 1
                _offer(new_score, new_record, new_node, slot, value, record, node)
                needed[slot] = max(needed[slot], new_score[slot, n - 1])


@helper()
def _enter(frame, network, search, then, beam, top):
    """Move tokens from the entry slots to the first nodes of their phones; return the best score."""
    active, n, (score, record, node) = search.active, then.score.shape[1], search.entries
    new_score, new_record, new_node = then
    offsets, nodes, pdfs = network.entry_offsets, network.entry_nodes, network.pdfs
    for i in range(search.sizes[ENTERED]):
        y = search.entered[i]
        for a in range(offsets[y], offsets[y + 1]):
            k = nodes[a]
            added = frame[pdfs[k]]
            for m in range(n):
                value = score[y, m] + added
                if value < top - beam or value == -np.inf:
                    break
                if new_score[k, 0] == -np.inf:
                    active[0, search.sizes[ACTIVE]] = k
                    search.sizes[ACTIVE] += 1
                _offer(new_score, new_record, new_node, k, value, record[y, m], node[y, m])
                top = max(top, value)
        for m in range(n):
            score[y, m] = -np.inf
    search.sizes[ENTERED] = 0
    return top


@helper()
def _prune(network, search, then, floor):
    """Drop tokens below the floor, and copy the others that may leave their phone to the exit slots."""
    active, sizes, n, (score, record, node) = search.active, search.sizes, then.score.shape[1], then
    exit_score, exit_record, exit_node = search.exits
    exits, weights = network.exits, network.exit_weights
    for i in range(sizes[LEAVING]):
        for m in range(n):
            exit_score[search.leaving[i], m] = -np.inf
    num_active, num_leaving = 0, 0
    for i in range(sizes[ACTIVE]):
        j = active[0, i]
        for m in range(n):
            if score[j, m] < floor:
                score[j, m] = -np.inf
        if score[j, 0] == -np.inf:
            continue
        active[0, num_active] = j
        num_active += 1
        x = exits[j]
        if x < 0:
            continue
        for m in range(n):
            value = score[j, m] + weights[j]
            if value < floor or value == -np.inf:
                break
            if exit_score[x, 0] == -np.inf:
                search.leaving[num_leaving] = x
                num_leaving += 1
            _offer(exit_score, exit_record, exit_node, x, value, record[j, m], node[j, m])
    sizes[ACTIVE], sizes[LEAVING] = num_active, num_leaving


@njit(cache=True, nogil=True)
def _grown(table, size):
    """Return the table itself, or a copy that has room for `size` rows."""
    if size <= len(table):
        return table
    larger = np.empty((max(size, 2 * len(table)), 3), np.int32)
    for i in range(len(table)):  # Numba would need 2 s more to compile the assignment of an array to a part of another
        for j in range(3):
            larger[i, j] = table[i, j]
    return larger


def search_paths(
    scores: np.ndarray, network: Network, beam: float, n: int, active: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the n best paths of different labels through a loop of phones.

    Writes the number of nodes that hold tokens after each frame to active (T,). Returns the scores of the paths (n,),
    −inf where there are fewer, the record of each path's last phone (n,), and the records (·, 3): parent, phone, last
    frame.
    """
    num_nodes, num_exits, num_entries = len(network.pdfs), len(network.exit_phones), len(network.entry_offsets) - 1
    search = Search(
        _tokens(num_exits, n),
        _tokens(num_entries, n),
        _tokens(1, n),
        np.empty((2, num_nodes), np.int32),
        np.empty(num_exits, np.int32),
        np.empty(num_entries, np.int32),
        np.empty(num_entries),
        np.zeros(5, np.int64),
    )
    tables = np.empty((1024, 3), np.int32), np.full((1024, 3), -1, np.int32)
    records = _search_paths(
        scores, network, search, (_tokens(num_nodes, n), _tokens(num_nodes, n)), tables, beam, active
    )
    return search.final.score[0], search.final.record[0], records


@njit(cache=True, nogil=True)
def _search_paths(scores, network, search, tokens, tables, beam, active):
    """Leave the best paths in `search.final`, and return the records. `tables` are initial records and label nodes."""
    (now, then), (records, nodes), final, n = tokens, tables, search.final, search.final.score.shape[1]
    edge, search.sizes[NODES] = len(network.silent), 1
    for c in range(edge):
        slot, value = network.entries[edge, c], network.weights[edge, c]
        if value > -np.inf:
            search.entered[search.sizes[ENTERED]] = slot
            search.sizes[ENTERED] += 1
            _offer(search.entries.score, search.entries.record, search.entries.node, slot, value, -1, 0)
    for t in range(len(scores)):
        top = _advance(scores[t], network, search, now, then, beam)
        if t > 0:
            _leave(scores[t], network, search, top - beam, t - 1, records, nodes)
        top = _enter(scores[t], network, search, then, beam, top)
        _prune(network, search, then, top - beam)
        now, then = then, now
        active[t] = search.sizes[ACTIVE]
        more = search.sizes[LEAVING] * n
        records = _grown(records, search.sizes[RECORDS] + more)
        if n > 1:
            nodes = _grown(nodes, search.sizes[NODES] + more)
    for i in range(search.sizes[LEAVING]):
        x = search.leaving[i]
        for m in range(n):
            value = search.exits.score[x, m] + network.weights[network.exit_phones[x], edge]
            if network.exit_ends[x] and value > -np.inf:
                c, node = network.exit_phones[x], search.exits.node[x, m]
                record = _record(records, search.sizes, search.exits.record[x, m], c, len(scores) - 1)
                if n > 1 and not network.silent[c]:
                    node = _follow(nodes, search.sizes, node, c)
                _offer(final.score, final.record, final.node, 0, value, record, node)
    return records
