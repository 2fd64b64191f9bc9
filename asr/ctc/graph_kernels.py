"""Alignment with a graph of labels in Numba: the Viterbi algorithm over two states a node, its label and its blank.

`labels[r, s]` is the label of node s and `blanks[r, s]` the blank after it, in row r of a block of frames; row 0 is the
frame before the block. Most arcs of a graph lead from a node to the next, and these are followed in vector code; the
others, one by one. Memory is bounded as in `asr.ctc.align_kernels`: only the rows between blocks are stored, and each
block is computed again when the path is traced back.

Letters: T frames, C classes, S nodes with node 0, A arcs, V visits of the path to nodes.
"""

import math

import numpy as np

from asr.core.jit import njit

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)
NODE, START, STOP = 0, 1, 2
CELLS = 1 << 21  # states × frames that a block may have (32 MiB), unless √T frames are more


@njit(cache=True)
def layout(num_frames, num_nodes):
    """Return the frames of a block, the number of blocks, and how many float64 a graph of so many nodes takes."""
    block = max(1, min(num_frames, max(CELLS // num_nodes, 1 + int(math.sqrt(num_frames)))))
    num_blocks = (num_frames + block - 1) // block
    return block, num_blocks, 2 * (block + 1 + num_blocks) * num_nodes


@njit(cache=True)
def _viterbi(log_probs, first, graph, blanks, labels):
    """Write the log probability of the best path into each state to blanks and labels, both (1 + frames, S).

    Row 0 is given.
    """
    tokens, rests, steps, skips = graph.tokens, graph.rests, graph.steps, graph.skips
    num_nodes, blank = np.uintp(len(tokens)), tokens[0]
    for r in range(ONE, np.uintp(len(blanks))):
        before, t = r - ONE, first + r - ONE
        paused = np.float64(log_probs[t, blank])
        blanks[r, 0], labels[r, 0] = blanks[before, 0] + (paused + rests[0]), -np.inf
        for s in range(ONE, num_nodes):
            came = max(blanks[before, s - ONE] + steps[s], labels[before, s - ONE] + skips[s])
            labels[r, s] = max(labels[before, s], came) + log_probs[t, tokens[s]]
            blanks[r, s] = max(blanks[before, s], labels[before, s]) + (paused + rests[s])
        for a in range(ZERO, np.uintp(len(graph.sources))):
            source, target = graph.sources[a], graph.targets[a]
            came = max(blanks[before, source] + graph.arc_steps[a], labels[before, source] + graph.arc_skips[a])
            came += log_probs[t, tokens[target]]
            if came > labels[r, target]:
                labels[r, target] = came


@njit(cache=True)
def _copy_rows(blanks, labels, blanks_copy, labels_copy):  # a copy in each file of kernels
    """Copy two rows (S,): Numba needs 2 s more to compile an assignment of one array to part of another."""
    for s in range(len(blanks)):
        blanks_copy[s], labels_copy[s] = blanks[s], labels[s]


@njit(cache=True)
def _before(graph, blanks, labels, s):
    """Return the node from which the best path enters label s, and whether from its label; s itself if it stays."""
    best, node, on_label = labels[s], s, True
    value = blanks[s - 1] + graph.steps[s]
    if value > best:
        best, node, on_label = value, s - 1, False
    value = labels[s - 1] + graph.skips[s]
    if value > best:
        best, node, on_label = value, s - 1, True
    for a in range(graph.offsets[s], graph.offsets[s + 1]):
        source = np.int64(graph.sources[a])
        value = blanks[source] + graph.arc_steps[a]
        if value > best:
            best, node, on_label = value, source, False
        value = labels[source] + graph.arc_skips[a]
        if value > best:
            best, node, on_label = value, source, True
    return node, on_label


@njit(cache=True, nogil=True)
def best_path(_, log_probs, graph, visits, found, work):
    """Find the best path of log_probs (T, C), with T at least 1, through a graph of labels.

    Writes the path's visits to nodes other than 0 to `visits` (T, 3), the last one first: node, first frame, and the
    one after the last; and the path's score, −inf where there is no path, and the number of visits to `found` (2,).
    """
    num_frames, num_nodes = len(log_probs), len(graph.tokens)
    block, num_blocks, _ = layout(num_frames, num_nodes)
    size = (block + 1) * num_nodes
    blanks, labels = work[:size].reshape(block + 1, num_nodes), work[size : 2 * size].reshape(block + 1, num_nodes)
    kept = work[2 * size : 2 * size + 2 * num_blocks * num_nodes].reshape(num_blocks, 2, num_nodes)
    blanks[0], labels[0] = -np.inf, -np.inf
    blanks[0, 0] = 0.0
    rows = block
    for i in range(num_blocks):
        _copy_rows(blanks[0], labels[0], kept[i, 0], kept[i, 1])
        rows = min(block, num_frames - i * block)
        _viterbi(log_probs, np.uintp(i * block), graph, blanks[: rows + 1], labels[: rows + 1])
        if i + 1 < num_blocks:
            _copy_rows(blanks[rows], labels[rows], blanks[0], labels[0])
    s, on_label, score = 0, False, -np.inf
    for end in graph.ends:
        if max(blanks[rows, end], labels[rows, end]) > score:
            score, s, on_label = max(blanks[rows, end], labels[rows, end]), end, labels[rows, end] > blanks[rows, end]
    count, entered, t, r = 0, True, num_frames - 1, rows
    while score > -np.inf and t >= 0:
        if r == 0:
            i, r = t // block, block
            _copy_rows(kept[i, 0], kept[i, 1], blanks[0], labels[0])
            _viterbi(log_probs, np.uintp(i * block), graph, blanks, labels)
        if not on_label:
            on_label = labels[r - 1, s] > blanks[r - 1, s]
        else:
            if entered:
                visits[count, NODE], visits[count, STOP] = s, t + 1
                entered = False
            node, from_label = _before(graph, blanks[r - 1], labels[r - 1], s)
            if node != s or not from_label:  # an arc may lead from a node to itself
                visits[count, START] = t
                count += 1
                entered, s, on_label = True, node, from_label
        t, r = t - 1, r - 1
    found[0], found[1] = score, count
