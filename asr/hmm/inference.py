"""Likelihood, posteriors and most probable path of an utterance, given a graph of states."""

from typing import NamedTuple

import numpy as np

from asr.core.errors import InfeasibleError
from asr.hmm import inference_kernels
from asr.hmm.graph import Graph, check_feasible


class Posteriors(NamedTuple):
    """Result of `forward_backward`.

    Attributes
    ----------
    log_likelihood : float
        ln p(x | graph).
    states : (T, N)
        Posterior of each state in each frame.
    arcs : (A,)
        Expected number of times that each arc is taken.
    """

    log_likelihood: float
    states: np.ndarray
    arcs: np.ndarray


def forward_backward(scores: np.ndarray, graph: Graph, name: str = "the utterance") -> Posteriors:
    """Sum over all paths: L. R. Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 77(2), 1989, section III.

    Parameters
    ----------
    scores : (T, P)
        Natural log likelihoods of the frames under each density.
    graph : Graph
        States and arcs of the utterance.
    name
        Name of the utterance, for error messages.

    Raises
    ------
    InfeasibleError
        There are too few frames for the graph, or no path has a probability above 0.
    ValueError
        Shapes do not fit, or a score is NaN or +inf.

    Examples
    --------
    >>> graph = Graph.of([0, 1], [(0, 0, np.log(0.5)), (0, 1, np.log(0.5)), (1, 1, np.log(0.5))], {0: 0}, {1: 0})
    >>> found = forward_backward(np.log([[0.5, 0.1], [0.5, 0.5], [0.1, 0.5]]), graph)
    >>> round(float(np.exp(found.log_likelihood)), 4), found.states[1].round(3).tolist()
    (0.0625, [0.5, 0.5])
    """
    scores = _check(scores, graph, name)
    shape = (len(scores), len(graph.pdfs))
    alpha, states, arcs = np.empty(shape), np.empty(shape), np.zeros(len(graph.sources))
    total = inference_kernels.forward_backward(scores, graph, alpha, states, arcs)
    if total == -np.inf:
        raise InfeasibleError(f"{name}: no path through its phones has a probability above 0")
    return Posteriors(float(total), states, arcs)


def viterbi(scores: np.ndarray, graph: Graph, name: str = "the utterance") -> tuple[float, np.ndarray]:
    """Find the most probable path: Rabiner 1989, section III.B.

    Parameters and errors are those of `forward_backward`.

    Returns
    -------
    log_probability : float
        ln p of the path and the frames together.
    states : (T,)
        The state in each frame.

    Examples
    --------
    >>> graph = Graph.of([0, 1], [(0, 0, -1), (0, 1, -1), (1, 1, -1)], {0: 0}, {1: 0})
    >>> viterbi(np.array([[0.0, -9], [-9, 0.0], [-9, 0.0]]), graph)[1].tolist()
    [0, 1, 1]
    """
    scores = _check(scores, graph, name)
    came_from, path = np.empty((len(scores), len(graph.pdfs)), np.int32), np.empty(len(scores), np.int64)
    best = inference_kernels.viterbi(scores, graph, came_from, path)
    if best == -np.inf:
        raise InfeasibleError(f"{name}: no path through its phones has a probability above 0")
    return float(best), path


def best_path(scores: np.ndarray, graph: Graph, name: str = "the utterance") -> Posteriors:
    """Return posteriors as `forward_backward` does, with all probability on the most probable path.

    >>> graph = Graph.of([0, 1], [(0, 0, -1), (0, 1, -1), (1, 1, -1)], {0: 0}, {1: 0})
    >>> found = best_path(np.array([[0.0, -9], [-9, 0.0], [-9, 0.0]]), graph)
    >>> found.states.tolist(), found.arcs.tolist()
    ([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0.0, 1.0, 1.0])
    """
    best, path = viterbi(scores, graph, name)
    count = len(graph.pdfs)
    states = np.zeros((len(path), count))
    states[np.arange(len(path)), path] = 1
    targets = np.repeat(np.arange(count), np.diff(graph.offsets))
    taken = np.searchsorted(targets * count + graph.sources, path[1:] * count + path[:-1])
    return Posteriors(best, states, np.bincount(taken, minlength=len(targets)).astype(float))


def _check(scores: np.ndarray, graph: Graph, name: str) -> np.ndarray:
    scores = np.ascontiguousarray(scores, np.float64)
    if scores.ndim != 2 or scores.shape[1] <= graph.pdfs.max():
        raise ValueError(f"{name}: scores {scores.shape} do not have a column for each density of the graph")
    check_feasible(graph, len(scores), name)
    if not (scores < np.inf).all():
        raise ValueError(f"{name}: NaN or +inf among the scores")
    return scores
