"""Alignment with a graph of labels: which of many label sequences was said, and where.

A graph says what `asr.ctc.forced_align` cannot: that one of several sequences was said, that a part may be missing, or
that something may come between. Blanks stand where CTC has them: before the first label, after each, and necessarily
between two equal ones.

Letters: T frames, C classes, S nodes with node 0, A arcs, G glides, V visits of the path to nodes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.core import workers
from asr.core.errors import InfeasibleError
from asr.ctc.arguments import check_log_probs, check_values
from asr.ctc.graph_kernels import NODE, START, STOP, best_path, layout

Arc = tuple[int, int, float]  # from a node to a node, and a natural-log weight


class LabelGraph(NamedTuple):
    """Label sequences, each a way from node 0, the start, to one of the ends. `LabelGraph.of` makes one.

    Arcs from a node to the next are kept by the latter's number, the others in the order of their targets. Each has two
    weights: by way of the blank after its source, and directly, which is −inf between equal labels.

    Attributes
    ----------
    tokens : (S,)
        The label of each node; that of node 0 is the blank.
    rests : (S,)
        Natural-log weight of each frame of blank after a node.
    steps, skips : (S,)
        Weights of the arc from node s − 1 to s, by way of the blank and directly; −inf where there is none.
    sources, targets, arc_steps, arc_skips : (A,)
        The other arcs.
    offsets : (S + 1,)
        The arcs into node s are those from offsets[s] to offsets[s + 1].
    ends : (E,)
        Nodes at which a sequence may end.
    glide_sources, glide_weights : (G,)
        Glides: from a node to a later one of the same label, within a frame that belongs to both. In the order of
        their targets.
    glide_offsets : (S + 1,)
        The glides to node s are those from glide_offsets[s] to glide_offsets[s + 1].
    glide_firsts : (S,)
        The least of the nodes from which glides lead to node s, one after the other; s itself where none do.
    """

    tokens: np.ndarray
    rests: np.ndarray
    steps: np.ndarray
    skips: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    arc_steps: np.ndarray
    arc_skips: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    glide_sources: np.ndarray
    glide_weights: np.ndarray
    glide_offsets: np.ndarray
    glide_firsts: np.ndarray

    @classmethod
    def of(
        cls,
        tokens: Sequence[int],
        arcs: Iterable[Arc],
        ends: Sequence[int],
        rests: Sequence[float] | None = None,
        blank: int = 0,
        glides: Iterable[Arc] = (),
    ) -> "LabelGraph":
        """Make a graph.

        Parameters
        ----------
        tokens : (S − 1,)
            The labels of nodes 1 to S − 1.
        arcs
            Source, target and weight of each arc. Several between two nodes are one, of the greatest weight.
        ends
            Nodes at which a sequence may end; 0 allows the empty one.
        rests : (S,), optional
            Weights of a frame of blank after each node, from node 0 on; 0 by default.
        blank
            Index of the blank.
        glides
            Source, target and weight of each glide. Several between two nodes are one, of the greatest weight.

        Raises
        ------
        ValueError
            A node of an arc, a glide or an end does not exist, a glide leads back or to another label, a weight is NaN
            or +inf, or a token is the blank or negative.

        Examples
        --------
        >>> graph = LabelGraph.of([5, 6], [(0, 1, 0.0), (1, 2, 0.0), (0, 2, -1.0)], [2])  # 5 may be missing
        >>> graph.steps.tolist(), graph.sources.tolist(), graph.targets.tolist(), graph.arc_steps.tolist()
        ([-inf, 0.0, 0.0], [0], [2], [-1.0])
        """
        labels = np.array([blank, *tokens], np.int64)
        num_nodes = len(labels)
        weights, gliding = _by_target(arcs), _by_target(glides)
        others = sorted(pair for pair in weights if pair[0] != pair[1] + 1)
        targets, sources = np.array(others, np.int64).reshape(-1, 2).T
        steps = np.array([weights.get((s, s - 1), -np.inf) for s in range(num_nodes)])
        arc_steps = np.array([weights[pair] for pair in others], np.float64)
        final = np.array(ends, np.int64)
        rest = np.zeros(num_nodes) if rests is None else np.array(rests, np.float64)
        nodes = np.array([*weights, *gliding, *((end, end) for end in final)], np.int64).reshape(-1, 2)
        if nodes.size and not (nodes.min() >= 0 and nodes.max() < num_nodes and (nodes[: len(weights), 0] > 0).all()):
            raise ValueError(f"an arc or an end has a node outside 0..{num_nodes - 1}, or an arc leads to node 0")
        stray = next((pair for pair in gliding if pair[0] <= pair[1] or labels[pair[0]] != labels[pair[1]]), None)
        if stray is not None:
            raise ValueError(f"a glide leads from node {stray[1]} to {stray[0]}, which is no later one of its label")
        if (labels[1:] == blank).any() or labels.min() < 0:
            raise ValueError(f"a token is the blank {blank} or negative: {labels[1:].tolist()}")
        glide_weights = np.array([gliding[pair] for pair in sorted(gliding)], np.float64)
        every = (steps, arc_steps, glide_weights, rest)
        if rest.shape != (num_nodes,) or not all((each < np.inf).all() for each in every):
            raise ValueError(
                f"weights must be below +inf, and there must be one for the blank after each of {num_nodes}"
            )
        glide_targets, glide_sources = np.array(sorted(gliding), np.int64).reshape(-1, 2).T
        firsts = np.arange(num_nodes)
        for target, source in zip(glide_targets.tolist(), glide_sources.tolist(), strict=True):
            firsts[target] = min(firsts[target], firsts[source])
        equal = np.concatenate(([False], labels[1:] == labels[:-1]))
        return cls(
            labels.astype(np.uintp),
            rest,
            steps,
            np.where(equal, -np.inf, steps),
            sources.astype(np.uintp),
            targets.astype(np.uintp),
            arc_steps,
            np.where(labels[sources] == labels[targets], -np.inf, arc_steps),
            np.searchsorted(targets, np.arange(num_nodes + 1)),
            final,
            glide_sources.astype(np.uintp),
            glide_weights,
            np.searchsorted(glide_targets, np.arange(num_nodes + 1)),
            firsts,
        )


def _by_target(arcs: Iterable[Arc]) -> dict[tuple[int, int], float]:
    """Return the greatest weight of the arcs into a node from another."""
    weights = dict[tuple[int, int], float]()
    for source, target, weight in arcs:
        weights[target, source] = max(weight, weights.get((target, source), -np.inf))
    return weights


@dataclass(frozen=True, eq=False)
class GraphAlignment:
    """The likeliest path through a graph: the nodes that it visits, in order, and the frames of each.

    Attributes
    ----------
    nodes : (V,)
        Numbers of nodes, none of them 0. Nodes joined by glides are one visit, to the last of them.
    starts, ends : (V,)
        First frame of each label, and the frame after its last one.
    score : float
        Natural log probability of the path, with the weights of arcs and blanks.
    """

    nodes: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    score: float


def workspace_size(num_frames: int, num_nodes: int) -> int:
    """Return how many float64 the alignment of so many frames with so many nodes needs."""
    return layout(num_frames, num_nodes)[2]


def graph_align(log_probs: np.ndarray, graph: LabelGraph, blank: int = 0) -> GraphAlignment:
    """Find the likeliest path through a graph of labels, exactly.

    Of equally likely paths the same one is found each time.

    Parameters
    ----------
    log_probs : (T, C)
        Natural logs.
    graph
        Its tokens are columns of `log_probs`.
    blank
        Index of the blank, as in `LabelGraph.of`.

    Raises
    ------
    ValueError
        The shape, a token or the blank does not fit, or a log probability is NaN or above 0.
    InfeasibleError
        There are too few frames for any sequence, or all have probability zero.

    Examples
    --------
    >>> probs = np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    >>> either = LabelGraph.of([1, 2, 2], [(0, 1, 0.0), (1, 2, 0.0), (0, 3, 0.0)], [2, 3])  # 1 2, or 2 alone
    >>> found = graph_align(np.log(probs), either)
    >>> found.nodes.tolist(), found.starts.tolist(), found.ends.tolist()
    ([1, 2], [0, 2], [1, 3])
    """
    values, lengths = check_log_probs(np.asarray(log_probs)[:, None], None, blank)
    check_values(values, lengths)
    num_frames, _, num_classes = values.shape
    if graph.tokens[0] != blank or graph.tokens.max() >= num_classes:
        raise ValueError(
            f"the graph has a blank {graph.tokens[0]} and tokens up to {graph.tokens.max()}, "
            f"the log_probs {num_classes} classes with blank {blank}"
        )
    visits, found = np.zeros((num_frames, 3), np.int64), np.array([0.0 if 0 in graph.ends else -np.inf, 0.0])
    if num_frames > 0:
        size = workspace_size(num_frames, len(graph.tokens))
        workers.run(best_path, 1, size, values[:, 0], graph, visits, found)
    if not found[0] > -np.inf:
        raise InfeasibleError(
            f"{num_frames} frames are too few for every sequence of the graph, or it has probability 0"
        )
    path = visits[: int(found[1])][::-1]
    return GraphAlignment(path[:, NODE].copy(), path[:, START].copy(), path[:, STOP].copy(), float(found[0]))
