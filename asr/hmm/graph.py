"""Graphs of HMM states: the transitions that an utterance's phones, or a whole phone loop, allow between frames.

Every path through a graph emits one frame in each state that it visits. `asr.hmm.phone_hmms` makes transcripts' graphs.

Letters: N states, A arcs, P emission densities ("pdfs").
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.core.errors import InfeasibleError


class Graph(NamedTuple):
    """States with weighted arcs; all weights are natural log probabilities.

    Attributes
    ----------
    pdfs : (N,) int64
        Emission density of each state.
    offsets : (N + 1,) int64
        Arcs into state j are those from offsets[j] up to offsets[j + 1].
    sources : (A,) int64
        Source state of each arc.
    weights : (A,)
        Weight of each arc.
    starts, finals : (N,)
        Weights of starting in a state, and of ending after it; −inf where a path cannot.
    """

    pdfs: np.ndarray
    offsets: np.ndarray
    sources: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    finals: np.ndarray

    @classmethod
    def of(
        cls,
        pdfs: Sequence[int],
        arcs: Sequence[tuple[int, int, float]],
        starts: dict[int, float],
        finals: dict[int, float],
    ) -> "Graph":
        """Build a graph from arcs (from, to, log probability).

        Raises
        ------
        ValueError
            An arc leads from or to a state that does not exist, or a weight is above 0 or NaN.

        Examples
        --------
        >>> graph = Graph.of([0, 1], [(0, 0, -0.7), (0, 1, -0.7), (1, 1, -0.7)], {0: 0.0}, {1: -0.7})
        >>> graph.sources.tolist(), graph.offsets.tolist()
        ([0, 0, 1], [0, 1, 3])
        """
        count = len(pdfs)
        states = [state for arc in arcs for state in arc[:2]] + [*starts, *finals]
        if not all(0 <= state < count for state in states):
            raise ValueError(f"a graph of {count} states has arcs among {min(states)}..{max(states)}")
        if not all(weight <= 0 for weight in [arc[2] for arc in arcs] + [*starts.values(), *finals.values()]):
            raise ValueError("the weights of a graph are logarithms of probabilities: at most 0")
        ordered = sorted(arcs, key=lambda arc: (arc[1], arc[0]))
        incoming = np.bincount([arc[1] for arc in ordered], minlength=count)
        begin, end = np.full(count, -np.inf), np.full(count, -np.inf)
        begin[list(starts)], end[list(finals)] = list(starts.values()), list(finals.values())
        return cls(
            np.array(pdfs, np.int64),
            np.concatenate(([0], np.cumsum(incoming))).astype(np.int64),
            np.array([arc[0] for arc in ordered], np.int64),
            np.array([arc[2] for arc in ordered], np.float64),
            begin,
            end,
        )


def required_frames(graph: Graph) -> int:
    """Return the number of frames of the shortest path.

    >>> required_frames(Graph.of([0, 1, 2], [(0, 1, -1), (0, 2, -1), (1, 2, -1)], {0: 0.0}, {2: 0.0}))
    2
    """
    steps = np.where(graph.starts > -np.inf, 1.0, np.inf)
    targets = np.repeat(np.arange(len(graph.pdfs)), np.diff(graph.offsets))
    for _ in range(len(graph.pdfs)):
        before = steps.copy()
        np.minimum.at(steps, targets, before[graph.sources] + 1)
        if (steps == before).all():
            break
    return int(steps[graph.finals > -np.inf].min())


def check_feasible(graph: Graph, num_frames: int, name: str) -> None:
    """Raise InfeasibleError, naming the utterance, when it has too few frames for every path."""
    if num_frames >= len(graph.pdfs):  # the shortest path visits no state twice
        return
    needed = required_frames(graph)
    if num_frames < needed:
        raise InfeasibleError(
            f"{name} has {num_frames} frames; the states of its phones need {needed}: check that the text is right"
        )
