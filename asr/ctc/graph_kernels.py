"""Alignment with a graph of labels in Numba: the Viterbi algorithm over two states a node, its label and its blank.

`labels[r, s]` is the label of node s and `blanks[r, s]` the blank after it, in row r of a block of frames; row 0 is the
frame before the block. Most arcs of a graph lead from a node to the next, and these are followed in vector code; the
others, one by one, and glides last, since they lead on within the frame. Memory is bounded as in
`asr.ctc.align_kernels`: only the rows between blocks are stored, and each block is computed again when the path is
traced back.

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
def _advance(frame, graph, first, stop, before, after):
    """Write the log probability of the best path into the states of nodes from `first` up to `stop`, a frame later.

    `before` and `after` are the blanks and labels of the two frames, (2, S) each. Of nodes outside the range the ones
    before it are read.
    """
    tokens, rests, steps, skips = graph.tokens, graph.rests, graph.steps, graph.skips
    blanks, labels, new_blanks, new_labels = before[0], before[1], after[0], after[1]
    paused = np.float64(frame[tokens[0]])
    if first == ZERO:
        new_blanks[0], new_labels[0] = blanks[0] + (paused + rests[0]), -np.inf
        first = ONE
    for s in range(first, stop):
        came = max(blanks[s - ONE] + steps[s], labels[s - ONE] + skips[s])
        new_labels[s] = max(labels[s], came) + frame[tokens[s]]
        new_blanks[s] = max(blanks[s], labels[s]) + (paused + rests[s])
    sources, targets, arc_steps, arc_skips = graph.sources, graph.targets, graph.arc_steps, graph.arc_skips
    for a in range(graph.offsets[first], graph.offsets[stop]):
        source, target = sources[a], targets[a]
        came = max(blanks[source] + arc_steps[a], labels[source] + arc_skips[a]) + frame[tokens[target]]
        new_labels[target] = max(new_labels[target], came)
    glide_sources, glide_weights = graph.glide_sources, graph.glide_weights
    if glide_sources.size > 0:
        for s in range(first, stop):
            for g in range(graph.glide_offsets[s], graph.glide_offsets[s + ONE]):
                new_labels[s] = max(new_labels[s], new_labels[glide_sources[g]] + glide_weights[g])


@njit(cache=True)
def _copy_rows(rows, copy):
    """Copy two rows (2, S): Numba needs 2 s more to compile an assignment of one array to part of another."""
    for s in range(rows.shape[1]):
        copy[0, s], copy[1, s] = rows[0, s], rows[1, s]


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


@njit(cache=True)
def _glided_from(graph, labels, s):
    """Return the node from which the best path glides to label s in the frame of `labels`; s itself if it does not."""
    g = graph.glide_offsets[s]
    while g < graph.glide_offsets[s + 1]:
        source = np.int64(graph.glide_sources[g])
        if labels[source] + graph.glide_weights[g] == labels[s]:
            s, g = source, graph.glide_offsets[source] - 1
        g += 1
    return s


@njit(cache=True)
def _reach(graph, s, num_frames):
    """Return the least and the greatest number of the nodes from which s may be reached in so many frames."""
    least, most = s, s
    first, last = s + 1, s  # the arcs into nodes from `first` to `last` have been looked at
    for _ in range(num_frames):
        below, above = (least, first), (last + 1, most + 1)
        first, last = least, most
        for start, stop in (below, above):
            for node in range(max(start, 1), stop):
                least = min(least, node - 1, graph.glide_firsts[node])
                if graph.offsets[node] < graph.offsets[node + 1]:
                    least = min(least, np.int64(graph.sources[graph.offsets[node]]))
                    most = max(most, np.int64(graph.sources[graph.offsets[node + 1] - 1]))
        if (first, last) == (least, most):
            break
    return least, most


@njit(cache=True, nogil=True)
def best_path(_, log_probs, graph, visits, found, work):
    """Find the best path of log_probs (T, C), with T at least 1, through a graph of labels.

    Writes the path's visits to nodes other than 0 to `visits` (T, 3), the last one first: node, first frame, and the
    one after the last; and the path's score, −inf where there is no path, and the number of visits to `found` (2,).
    """
    num_frames, num_nodes = len(log_probs), len(graph.tokens)
    block, num_blocks, size = layout(num_frames, num_nodes)
    work[:size] = -np.inf
    rows = work[: 2 * (block + 1) * num_nodes].reshape(block + 1, 2, num_nodes)
    kept = work[2 * (block + 1) * num_nodes : size].reshape(num_blocks, 2, num_nodes)
    rows[0, 0, 0] = 0.0
    for t in range(num_frames):
        if t % block == 0:
            _copy_rows(rows[t % 2], kept[t // block])
        _advance(log_probs[t], graph, ZERO, np.uintp(num_nodes), rows[t % 2], rows[1 - t % 2])
    blanks, labels = rows[num_frames % 2]
    s, on_label, score = 0, False, -np.inf
    for end in graph.ends:
        if max(blanks[end], labels[end]) > score:
            score, s, on_label = max(blanks[end], labels[end]), end, labels[end] > blanks[end]
    count, entered, r = 0, True, 0
    for t in range(num_frames - 1 if score > -np.inf else -1, -1, -1):
        if r == 0:
            i = t // block
            r = t - i * block + 1
            _copy_rows(kept[i], rows[0])
            least, most = _reach(graph, s, r)
            for k in range(r):  # states from which s is out of reach may be wrong: the path has none of them
                _advance(log_probs[i * block + k], graph, np.uintp(least), np.uintp(most + 1), rows[k], rows[k + 1])
        r -= 1
        blanks, labels = rows[r]
        if not on_label:
            on_label = labels[s] > blanks[s]
            continue
        if entered:
            visits[count, NODE], visits[count, STOP] = s, t + 1
            entered = False
        s = _glided_from(graph, rows[r + 1, 1], s)
        node, from_label = _before(graph, blanks, labels, s)
        if node != s or not from_label:  # an arc may lead from a node to itself
            visits[count, START] = t
            count += 1
            entered, s, on_label = True, node, from_label
    found[0], found[1] = score, count
