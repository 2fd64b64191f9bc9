"""The beam search for words over a lexicon and an n-gram, in Numba.

As in asr/ctc/beam_kernels.py each prefix is a node of a history tree. Here it is a sequence of arcs of the lexicon's
graph, each with a phone and possibly the word that it ends, so that equal phones with different words are two prefixes.
That tree, too, is cleared of what begins no prefix of the beam when it is full.

Letters: K prefixes in the beam, T frames, B utterances, C classes, N nodes and A arcs of the lexicon.
"""

import math

import numpy as np

from asr.core.jit import helper, njit
from asr.lm.trie import FIRST, look_up, ones

# Rows of the beam (6, K): log probabilities of a prefix's paths that end in a blank, in its last label, in either; and
# of those that stay on it for another frame.
ENDS_BLANK, ENDS_LABEL, ENDS, STAYS_BLANK, STAYS_LABEL, STAYS = range(6)
HELD, KEPT = range(2)  # rows of `Beam.nodes`
UNSEEN = -1  # in `Offers.states`
SPARE = 8  # an eighth more candidates than in the frame before, or at first than places, may be needed to fill a beam
MIXERS = 0x5851F42D, 0x4C957F2D  # odd numbers of 31 bits: multiples of numbers of 31 bits add up below 2⁶³
# Columns of the history's tree. The first are those of `asr.ctc.beam_kernels`, with an arc where that has a token; then
# come the lexicon's node and the n-gram's node after the prefix, and a number that tells its words from others.
PARENT, ARC, CHILD, SIBLING, PLACE, BORN, SEEN, NODE, STATE, WORDS = range(10)
NODE_FIELDS = 10


@helper()
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    if low == -np.inf or low - high < -45.0:  # e^−45 is beyond the last bit of any sum but one next to 0
        return high
    return high + math.log1p(math.exp(low - high))


@helper()
def _parted(scores, order, first, end):
    """Move the indices from `first` to `end` that are better than one of them before it; return the place of that one.

    Better is the higher score, and of equal ones the first. There are no branches that a processor could guess wrong.
    That one is not the middle one, which of scores that rise and then fall would be the best again and again.
    """
    middle = first + (5 * (end - first) >> 3)
    pivot, place = order[middle], first
    order[middle] = order[end - 1]
    score = scores[pivot]
    for i in range(first, end - 1):
        index = order[i]
        order[i], order[place] = order[place], index
        place += (scores[index] > score) | ((scores[index] == score) & (index < pivot))
    order[end - 1], order[place] = order[place], pivot
    return place


@helper()
def _fill(scores, num, floor, order):
    """Write the indices of the first `num` scores that are not below the floor; return how many there are."""
    count = np.int64(0)
    for i in range(num):
        order[count] = i
        count += scores[i] >= floor
    return count


@helper()
def _next(scores, order, i, ends, depth):
    """Move the best index from place i on to place i, where those before it are the best of all; return the new depth.

    Incremental sorting (Paredes and Navarro 2006): `ends` are places, `depth` of them, the first of which is the number
    of indices; whatever lies before one of the others is better than what lies behind it.
    """
    while ends[depth - 1] != i:
        ends[depth] = _parted(scores, order, i, ends[depth - 1])
        depth += 1
    return depth - 1


@helper()
def _stay(frame, stamp, network, limits, beam, size, history):
    """Score the prefixes of the beam that stay unchanged in a frame.

    A prefix whose parent is also in the beam can be reached by extending the parent. That path is added here, and
    `taken` gets the frame's stamp for the arc, so that `_grow` does not make the same extension again.
    """
    graph, scores, held = network[0], beam.scores, beam.nodes[HELD]
    gains, tree, taken = history
    for k in range(size):
        tree[held[k], PLACE], tree[held[k], SEEN] = k, stamp
    for k in range(size):
        h = held[k]
        scores[STAYS_BLANK, k] = scores[ENDS, k] + frame[limits.blank]
        scores[STAYS_LABEL, k] = -np.inf
        if h > 0:
            arc, parent = tree[h, ARC], tree[h, PARENT]
            token, place = graph.tokens[arc], tree[parent, PLACE]
            scores[STAYS_LABEL, k] = scores[ENDS_LABEL, k] + frame[token]
            if tree[parent, SEEN] == stamp and frame[token] >= limits.least:
                taken[place, arc - graph.offsets[tree[parent, NODE]]] = stamp
                # a repeated token needs a blank between
                repeated = parent > 0 and graph.tokens[tree[parent, ARC]] == token
                came = scores[ENDS_BLANK, place] if repeated else scores[ENDS, place]
                scores[STAYS_LABEL, k] = _logaddexp(scores[STAYS_LABEL, k], came + frame[token] + gains[h])
        scores[STAYS, k] = _logaddexp(scores[STAYS_BLANK, k], scores[STAYS_LABEL, k])


@helper()
def _mark(frame, limits, active):
    """Set the bits of the classes that are likely enough in a frame."""
    active[:] = 0
    for token in range(len(frame)):
        if frame[token] >= limits.least:
            active[token >> 5] |= 1 << (token & 31)


@helper()
def _grow(frame, stamp, network, limits, beam, size, history, offers):
    """Write the candidates of a frame: prefixes that stay, then those that are extended by an arc; return their number.

    No candidate that is more than the threshold below the best one before it is written.
    """
    graph, held, ends_blank, ends = network[0], beam.nodes[HELD], beam.scores[ENDS_BLANK], beam.scores[ENDS]
    tree, taken, active, scores = history.tree, history.taken, offers.active, offers.scores
    num, best = np.int64(size), -np.inf
    _mark(frame, limits, active)
    for k in range(size):
        scores[k] = beam.scores[STAYS, k]
        best = max(best, scores[k])
    for k in range(size):
        h = held[k]
        node, state = tree[h, NODE], tree[h, STATE]
        last = graph.tokens[tree[h, ARC]] if h > 0 else -1
        first, group = graph.offsets[node], np.int64(graph.groups[node])
        for w in range(len(active)):
            present = np.int64(graph.classes[node, w])
            bits = present & active[w]
            while bits:
                lowest = bits & -bits
                bits ^= lowest
                mine = group + ones(present & (lowest - 1))
                token = graph.tokens[graph.starts[mine]]
                path = (ends_blank[k] if token == last else ends[k]) + frame[token]
                for arc in range(graph.starts[mine], graph.starts[mine + 1]):
                    if taken[k, arc - first] == stamp:
                        continue
                    gain = graph.weights[arc] - graph.ahead[node] + graph.ahead[graph.nodes[arc]]
                    is_end = graph.words[arc] >= 0
                    if is_end:
                        gain -= limits.penalty
                    if path + gain == -np.inf or path + gain < best - limits.threshold:
                        continue
                    offers.prefixes[num], offers.arcs[num], offers.paths[num], offers.gains[num] = k, arc, path, gain
                    if is_end:
                        scores[num], offers.states[num] = -np.inf, UNSEEN
                    else:
                        scores[num], offers.states[num] = path + gain, state
                        best = max(best, scores[num])
                    num += 1
            group += ones(present)
    return num


@helper()
def _look_up(num, least, network, limits, beam, size, history, offers):
    """Score the ends of words among `num` candidates that may reach a score."""
    (graph, trie, answers), paths, gains, states = network, offers.paths, offers.gains, offers.states
    for i in range(size, num):
        if states[i] == UNSEEN and paths[i] + gains[i] >= least:
            before = np.int64(history.tree[beam.nodes[HELD, offers.prefixes[i]], STATE])
            word = np.int64(graph.words[offers.arcs[i]])
            asked = (before << 32) + word
            slot = ((before * MIXERS[0] + word * MIXERS[1]) >> 18) & (len(answers.asked) - 1)
            if answers.asked[slot] != asked:
                answers.asked[slot] = asked
                answers.log_probs[slot], answers.states[slot] = look_up(trie, before, word)
            states[i] = answers.states[slot]
            gains[i] += limits.weight * answers.log_probs[slot]
            offers.scores[i] = paths[i] + gains[i]


@helper()
def _more_words(words, word):
    """Return the number of a prefix's words and one more: one of 2³¹."""
    return (words * 1_000_003 + word + 1) & 0x7FFFFFFF


@helper()
def _continuations(choice, place, network, num_tokens, beam, size, history, offers):
    """Write the key of a choice's continuations, its words, and its log probabilities by last symbol, to a place."""
    (graph, trie, _), tree = network, history.tree
    if choice < size:
        h = beam.nodes[HELD, choice]
        token = graph.tokens[tree[h, ARC]] if h > 0 else 0
        node, state = tree[h, NODE], np.int64(tree[h, STATE])
        beam.words[place] = tree[h, WORDS]
        beam.ends[0, place], beam.ends[1, place] = beam.scores[STAYS_BLANK, choice], beam.scores[STAYS_LABEL, choice]
    else:
        arc = offers.arcs[choice]
        token, node, state = graph.tokens[arc], graph.nodes[arc], offers.states[choice]
        words = np.int64(tree[beam.nodes[HELD, offers.prefixes[choice]], WORDS])
        beam.words[place] = _more_words(words, graph.readings[arc]) if graph.words[arc] >= 0 else words
        beam.ends[0, place], beam.ends[1, place] = -np.inf, offers.scores[choice]
    beam.keys[place] = (np.int64(node) * trie.layout[-1, FIRST] + state) * num_tokens + token


@helper()
def _joins(place, first, beam):
    """Add a choice to one of the places from `first` on, all of its key, that has its words, too; tell if there is one.

    The two are pronunciations of the same words: whatever follows them is the same.
    """
    while first >= 0 and beam.words[place] != beam.words[first]:
        first = beam.others[first]
    if first >= 0:
        for row in range(2):
            beam.ends[row, first] = _logaddexp(beam.ends[row, first], beam.ends[row, place])
    return first >= 0


@helper()
def _enough(num, rank, offers):
    """Return a score that as many candidates reach, without ends of words, as are probably needed: the rank.

    A beam may hold fewer of them, as some are no better than others: if too few reach a rank, all scores are of
    interest.
    """
    scores, order = offers.scores, offers.order
    first, end = np.int64(0), _fill(scores, num, -1e300, order)
    if end < rank:
        return -np.inf
    while True:
        place = _parted(scores, order, first, end)
        if place == rank - 1:
            return scores[order[place]]
        if place < rank:
            first = place + 1
        else:
            end = place


@helper()
def _choose(num, least, network, num_tokens, limits, beam, size, history, offers):
    """Choose the best of `num` candidates that reach a score, as many as the beam holds.

    Return how many there are, how many candidates they were chosen from, and whether they are the best of all.

    Choices of the same key and words become one, with the sum of their probabilities. A choice with a better one of the
    same key in both respects stays worse whatever follows (Viterbi's argument). Of one key, `alike` choices of other
    words are kept at most, for further sentences, and take no room from the others: the best sentence does not depend
    on how many are asked for, but that longer prefixes in the beam lose less of what a choice left out would have added
    to them. The first row of the table is −1 everywhere, on entry and on return.
    """
    scores, order, keys, ends, table, slots = offers.scores, offers.order, beam.keys, beam.ends, beam.table, beam.slots
    top = -np.inf
    for i in range(num):
        top = max(top, scores[i])
    _look_up(num, max(top - limits.threshold, least), network, limits, beam, size, history, offers)
    for i in range(num):
        top = max(top, scores[i])
    offers.ends[0] = _fill(scores, num, max(top - limits.threshold, least, -1e300), order)
    count, taken, tried, depth, num_slots = np.int64(0), np.int64(0), np.int64(0), np.int64(1), table.shape[1]
    while tried < offers.ends[0] and taken < limits.beam_size:
        depth = _next(scores, order, tried, offers.ends, depth)
        choice = order[tried]
        tried += 1
        _continuations(choice, count, network, num_tokens, beam, size, history, offers)
        slot = keys[count] % num_slots
        while table[0, slot] >= 0 and keys[table[0, slot]] != keys[count]:
            slot = (slot + 1) % num_slots
        better, beam.others[count] = table[0, slot], -1
        if _joins(count, better, beam):
            continue
        if better < 0:
            table[0, slot], table[1, slot] = count, 1
            taken += 1
        elif ends[0, count] > ends[0, better] or ends[1, count] > ends[1, better]:
            taken += 1
        elif table[1, slot] < limits.alike and count - taken < limits.extra:
            table[1, slot] += 1
        else:
            continue
        if better >= 0:
            beam.others[count], beam.others[better] = beam.others[better], count
        beam.choices[count], slots[count] = choice, slot
        count += 1
    for i in range(count):
        table[0, slots[i]] = -1
    return count, tried, taken == limits.beam_size or least <= top - limits.threshold


@helper()
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


@helper()
def _keep(num_kept, stamp, graph, beam, size, history, offers, count):
    """Make the choices the beam, and add new prefixes to the history, which has `count` nodes; return its new size."""
    scores, nodes, words, tree = beam.scores, beam.nodes, beam.words, history.tree
    for i in range(num_kept):
        choice = beam.choices[i]
        if choice < size:
            nodes[KEPT, i] = nodes[HELD, choice]
        else:
            arc = offers.arcs[choice]
            node = np.int64(_child(nodes[HELD, offers.prefixes[choice]], arc, stamp, count, tree))
            count = max(count, node + 1)
            tree[node, NODE], tree[node, STATE], tree[node, WORDS] = graph.nodes[arc], offers.states[choice], words[i]
            history.gains[node], nodes[KEPT, i] = offers.gains[choice], node
    for i in range(num_kept):
        nodes[HELD, i] = nodes[KEPT, i]
        scores[ENDS_BLANK, i], scores[ENDS_LABEL, i] = beam.ends[0, i], beam.ends[1, i]
        scores[ENDS, i] = _logaddexp(beam.ends[0, i], beam.ends[1, i])
    return count


@helper()
def _finish(network, limits, beam, size, history, offers):
    """Order the prefixes that are left by their total scores; return how many there are.

    Those of the same words become one. If no prefix ends with a word, unfinished ones are taken, without the look-ahead
    in their scores.
    """
    (graph, trie, _), held, tree, whole = network, beam.nodes[HELD], history.tree, False
    for k in range(size):
        whole = whole or tree[held[k], NODE] == 0
    for k in range(size):
        node = tree[held[k], NODE]
        if node == 0:
            log_prob, _ = look_up(trie, tree[held[k], STATE], 0)
            offers.scores[k] = beam.scores[ENDS, k] + limits.weight * log_prob
            for other in range(k):
                if tree[held[other], WORDS] == tree[held[k], WORDS] and tree[held[other], NODE] == 0:
                    low, high = (k, other) if offers.scores[k] <= offers.scores[other] else (other, k)
                    offers.scores[high] = _logaddexp(offers.scores[high], offers.scores[low])
                    offers.scores[low] = -np.inf
        else:
            offers.scores[k] = -np.inf if whole else beam.scores[ENDS, k] - graph.ahead[node]
    offers.ends[0] = _fill(offers.scores, size, -1e300, offers.order)
    return offers.ends[0]


@helper()
def _spell(node, tree, arcs, spans):
    """Write the arcs of a prefix (T,), and the first and the last frame in which each can have begun (T, 2)."""
    length, last = 0, node
    while last > 0:
        length += 1
        last = tree[last, PARENT]
    for i in range(length - 1, -1, -1):
        arcs[i], spans[i, 0] = tree[node, ARC], tree[node, BORN]
        node = tree[node, PARENT]
        spans[i, 1] = tree[node, SEEN] - 1


@njit(cache=True, nogil=True)
def search(log_probs, reached, network, limits, memory, found):
    """Search one utterance's log_probs (T, C) until the history's tree is full.

    `reached` is the number of frames processed, of prefixes in the beam and of nodes in the tree: (0, 1, 1) before the
    first frame. Return the same of where the search stopped: it goes on from there when the tree has room again. After
    the last frame, write to `found` arcs (N, T), their spans (N, T, 2) as `_spell` does, and scores (N,), best first.
    """
    (history, beam, offers), (arcs, spans, scores), num_tokens = memory, found, log_probs.shape[1]
    t, size, count = reached
    rank = limits.beam_size + limits.beam_size // SPARE
    while t < len(log_probs) and count + limits.beam_size + limits.extra <= len(history.tree):
        frame = log_probs[t]
        _stay(frame, t + 1, network, limits, beam, size, history)
        num = _grow(frame, t + 1, network, limits, beam, size, history, offers)
        least = _enough(num, rank, offers)
        kept, tried, is_done = _choose(num, least, network, num_tokens, limits, beam, size, history, offers)
        if not is_done:
            kept, tried, _ = _choose(num, -np.inf, network, num_tokens, limits, beam, size, history, offers)
        count = _keep(kept, t + 1, network[0], beam, size, history, offers, count)
        size, rank = kept, tried + tried // SPARE + 1
        t += 1
    if t == len(log_probs):
        left, depth = _finish(network, limits, beam, size, history, offers), np.int64(1)
        for n in range(min(left, len(scores))):
            depth = _next(offers.scores, offers.order, n, offers.ends, depth)
            best = offers.order[n]
            scores[n] = offers.scores[best]
            _spell(beam.nodes[HELD, best], history.tree, arcs[n], spans[n])
    return t, size, count
