"""The automaton whose paths `asr.ctc.crf_loss` sums: weights of label sequences with few arcs.

State s stands for the labels so far, of which it knows the last one, its class.

From a state the automaton goes on by arcs, each to a state whose label it emits. Arcs leave *nodes*: node s < S is
state s, on its label or on its blank; node S + s is its blank alone, after which the same label may begin again. Other
nodes are no states. A node may also leave by the arcs of another one, to which it backs off: a link says how much of
what is at the one is counted at the other too.

The automaton is made of a token model (`asr.ctc.TokenModel`), which says in each of its states how probable each label
is. Of an n-gram, most of that is redundant: where an n-gram was not seen, its probability is that of the shorter one
times a factor, and leads to the same state. So the row of a state is a factor times the row of another, its *backoff*,
plus what a few labels have more than that. Rows that are not of this kind, because a label has less than its backoff
says or leads elsewhere, are written out. Nothing is approximated: each label has one way from each state, and its
weight is the model's to 1e-12.

Letters: L labels, C classes, Q states of the token model, S states here, N nodes, R rows, A arcs, K links.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from asr.ctc.beam_kernels import TokenModel

ROUNDING = 1e-13  # relative; by how much a weight may differ from what its backoff says and still count as the same


class Arcs(NamedTuple):
    """Arcs in the order of one of their ends.

    Attributes
    ----------
    offsets : (1 + number of such ends,)
        Where those of each begin.
    others : (A,)
        The other end.
    weights : (A,)
        Probabilities.
    """

    offsets: np.ndarray
    others: np.ndarray
    weights: np.ndarray


class Links(NamedTuple):
    """Links from nodes to those that they back off to, in an order in which links into a node precede those out of it.

    Attributes
    ----------
    targets : (number of nodes that others back off to,)
    offsets : (1 + number of such nodes,)
        Where the links into each begin.
    sources : (K,)
        The other end.
    weights : (K,)
        How much of what is at a source is counted at the target too.
    """

    targets: np.ndarray
    offsets: np.ndarray
    sources: np.ndarray
    weights: np.ndarray


class Automaton(NamedTuple):
    """Weights of label sequences.

    Attributes
    ----------
    blank
        Class of the blank; its only state is the start.
    offsets : (C + 1,)
        States of class c are those from offsets[c] to offsets[c + 1].
    finals : (S,)
        Weight of the end.
    entering, leaving
        The same arcs by the states at which they end, from nodes, and by the nodes at which they start, to states.
    links
        Between nodes.
    """

    blank: np.uintp
    offsets: np.ndarray
    finals: np.ndarray
    entering: Arcs
    leaving: Arcs
    links: Links


def build(model: TokenModel, backoffs: np.ndarray, factors: np.ndarray, blank: int) -> Automaton:
    """Return the automaton of a checked token model; arguments are those of `Denominator.of`, factors no logarithms."""
    return _automaton(_rows(model, backoffs, factors, blank), blank)


class _Rows(NamedTuple):
    """The states of the automaton, then rows that belong to no state, but serve as backoff.

    Attributes
    ----------
    num_states
        S.
    labels : (R,)
        The label that leads to the state; the blank for the start.
    parents : (R,)
        Row of the backoff; −1 where there is none.
    factors : (R,)
        What the backoff's weights are multiplied by.
    targets : (R, C)
        State that each label leads to; −1 where there is none.
    weights : (R, C)
        0 where there is no target.
    finals : (S,)
    """

    num_states: int
    labels: np.ndarray
    parents: np.ndarray
    factors: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    finals: np.ndarray


def _rows(model: TokenModel, backoffs: np.ndarray, factors: np.ndarray, blank: int) -> _Rows:
    """Split the states of a token model by the label that led to them, and add the backoffs of what can be reached.

    A row's code is its state in the token model × C + its label.
    """
    num_classes = model.scores.shape[1]
    possible, after = model.scores > -np.inf, model.next_states * num_classes + np.arange(num_classes)

    def follow(codes: np.ndarray) -> np.ndarray:
        return after[codes // num_classes][possible[codes // num_classes]]

    def back_off(codes: np.ndarray) -> np.ndarray:  # the start stays: its backoff would have the start alone
        states, labels = np.divmod(codes, num_classes)
        return np.where(labels == blank, codes, backoffs[states] * num_classes + labels)

    reached = _closure(np.array([blank]), possible.size, follow)
    reached = reached[np.argsort(reached % num_classes, kind="stable")]
    codes = np.concatenate([reached, np.setdiff1d(_closure(reached, possible.size, back_off), reached)])
    states, labels = np.divmod(codes, num_classes)
    parents, targets = _places(codes, back_off(codes)), np.where(possible, _places(reached, after), -1)[states]
    return _Rows(
        len(reached),
        labels,
        np.where(parents == np.arange(len(codes)), -1, parents),
        factors[states],
        targets,
        np.where(targets >= 0, np.exp(model.scores[states]), 0.0),
        np.exp(model.finals[states[: len(reached)]]),
    )


def _closure(codes: np.ndarray, num_codes: int, follow: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what is reached from some codes, all below num_codes, with these, sorted."""
    fresh, found = codes, np.zeros(num_codes, bool)
    while len(fresh):
        found[fresh] = True
        reached = follow(fresh)
        fresh = np.unique(reached[~found[reached]])
    return np.flatnonzero(found)


def _places(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each wanted number is among different values, −1 where it is not."""
    order = np.argsort(values)
    places = order[np.searchsorted(values[order], wanted).clip(max=len(values) - 1)]
    return np.where(values[places] == wanted, places, -1)


def _automaton(rows: _Rows, blank: int) -> Automaton:
    """Return an automaton of few arcs; a label that repeats leaves from a node of its own."""
    num_rows, num_states = len(rows.labels), rows.num_states
    each = np.arange(num_rows)
    onward = rows.weights.copy()
    onward[each, rows.labels] = 0.0
    depths = _depths(rows.parents)
    more, linked = _differences(rows, onward)
    cost, rest = np.count_nonzero(onward, axis=1), 1 + np.count_nonzero(more, axis=1)
    linked &= rest < cost
    used = each < num_states
    for depth in range(depths.max(), 0, -1):  # a row that belongs to no state must save more arcs than it has
        here = used & linked & (depths == depth)
        saved = np.bincount(rows.parents[here], (cost - rest)[here], num_rows)
        used |= saved > np.where(linked, rest, cost)
        linked &= (depths != depth) | used[rows.parents]
    linked &= used
    nodes = np.where(each < num_states, each, num_states + np.cumsum(used) - 1)
    onward = np.where(linked[:, None], more, onward) * used[:, None]
    repeats = rows.weights[each, rows.labels][:num_states]
    starts, labels = np.nonzero(onward)
    (again,) = np.nonzero(repeats)
    starts, ends, weights = (
        np.concatenate(pair)
        for pair in (
            (nodes[starts], num_states + again),
            (rows.targets[starts, labels], rows.targets[again, rows.labels[again]]),
            (onward[starts, labels], repeats[again]),
        )
    )
    num_nodes = 2 * num_states + int(np.count_nonzero(used[num_states:]))
    return Automaton(
        np.uintp(blank),
        np.searchsorted(rows.labels[:num_states], np.arange(rows.weights.shape[1] + 1)).astype(np.uintp),
        rows.finals,
        _arcs(ends, starts, weights, num_states),
        _arcs(starts, ends, weights, num_nodes),
        _links(np.flatnonzero(linked), rows, depths, nodes),
    )


def _links(sources: np.ndarray, rows: _Rows, depths: np.ndarray, nodes: np.ndarray) -> Links:
    """Return the links of some rows to their backoffs, the longest chains of backoffs first."""
    targets = rows.parents[sources]
    order = np.lexsort((sources, targets, -depths[sources]))
    sources, targets = sources[order], targets[order]
    firsts = np.flatnonzero(np.diff(targets, prepend=-1))
    offsets = np.append(firsts, len(targets)).astype(np.uintp)
    return Links(
        nodes[targets[firsts]].astype(np.uintp), offsets, nodes[sources].astype(np.uintp), rows.factors[sources]
    )


def _depths(parents: np.ndarray) -> np.ndarray:
    """Return how many backoffs each row has, one after another (R,)."""
    depths, above = np.zeros(len(parents), np.int64), parents
    while (above >= 0).any():
        if depths.max() > len(parents):
            raise ValueError("a state must not be the backoff of its own backoff")
        depths += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return depths


def _differences(rows: _Rows, onward: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much more weight labels have than by their backoff (R, C), and whether a row is of this kind (R,)."""
    backed = np.where(rows.parents[:, None] >= 0, rows.factors[:, None] * onward[rows.parents], 0.0)
    alike = (rows.targets == rows.targets[rows.parents]) & (backed <= onward * (1 + ROUNDING))
    more = onward - backed
    more[more <= ROUNDING * onward] = 0.0
    return more, (alike | (backed == 0)).all(axis=1) & (rows.parents >= 0)


def _arcs(ends: np.ndarray, others: np.ndarray, weights: np.ndarray, num_ends: int) -> Arcs:
    """Return arcs in the order of their ends."""
    order = np.lexsort((others, ends))
    offsets = np.searchsorted(ends[order], np.arange(num_ends + 1)).astype(np.uintp)
    return Arcs(offsets, others[order].astype(np.uint32), weights[order])
