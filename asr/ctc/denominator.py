"""Weights of all label sequences: the denominator of `asr.ctc.crf_loss`, made of the automaton of an n-gram.

A token model (`asr.ctc.TokenModel`) says in each of its states how probable each label is. Made of an n-gram, most of
that is redundant: where an n-gram was not seen, its probability is that of the shorter one times a factor, and leads to
the same state. So the row of a state is a factor times the row of another, its *backoff*, plus what a few labels have
more than that. Rows that are not of this kind, because a label has less than its backoff says or leads elsewhere, are
written out. Nothing is approximated: each label has one way from each state, and its weight is the model's to 1e-12.

Letters: B utterances, L labels, C classes, Q states of the token model, S states here, R rows, A arcs, K links.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from asr.core import workers
from asr.ctc.arguments import check_blank, check_log_probs, check_targets, check_values
from asr.ctc.beam import checked
from asr.ctc.beam_kernels import TokenModel
from asr.ctc.crf_kernels import Arcs, Automaton, Links, follow, partition, score_labels, workspace_size

ROUNDING = 1e-13  # relative; by how much a weight may differ from what its backoff says and still count as the same
LEAST, MOST = -230.0, 14.0  # scores: a lower one is as good as impossible, a higher one would narrow doubles' range
SMALLEST = 1e-16  # posterior; lower ones are lost to rounding


@dataclass(frozen=True, eq=False)
class Denominator:
    """Weights of all label sequences. `Denominator.of` makes one of a token model, `asr.lm.fusion` of an n-gram.

    Attributes
    ----------
    model
        The token model.
    automaton
        The same weights with few arcs.

    Examples
    --------
    >>> twice = TokenModel(np.log([[1.0, 0.4, 0.2], [1.0, 0.1, 0.2]]), np.array([[0, 1, 1], [0, 1, 1]]), np.zeros(2))
    >>> denominator = Denominator.of(twice)
    >>> denominator.num_states, denominator.num_arcs  # state 1 counts twice: it is reached by both labels
    (3, 6)
    """

    model: TokenModel
    automaton: Automaton

    @classmethod
    def of(
        cls, model: TokenModel, backoffs: ArrayLike | None = None, weights: ArrayLike | None = None, blank: int = 0
    ) -> "Denominator":
        """Make a denominator.

        Parameters
        ----------
        model
            Natural logs of the weights, at most 14; below −230 they count as impossible. The column of the blank is
            not used.
        backoffs : (Q,), optional
            The state that the arcs of each state resemble, itself where there is none. They make the loss fast and
            change nothing else. No state may be its own backoff's backoff.
        weights : (Q,), optional
            Natural logs of what an arc of that state is multiplied by; 0 by default.
        blank
            Index of the blank.

        Raises
        ------
        ValueError
            Shapes or the blank do not fit, a state does not exist, or a weight is NaN or too large.
        """
        num_states, num_classes = np.shape(model.scores) if np.ndim(model.scores) == 2 else (0, 0)
        model = checked(model, num_classes)
        check_blank(blank, num_classes)
        scores = np.where(model.scores < LEAST, -np.inf, model.scores)
        scores[:, blank] = -np.inf
        finals = np.where(model.finals < LEAST, -np.inf, model.finals)
        if max(scores.max(), finals.max()) > MOST:
            raise ValueError(f"the scores and finals of a denominator must not exceed {MOST}")
        others = np.arange(num_states) if backoffs is None else np.asarray(backoffs)
        factors = np.zeros(num_states) if weights is None else np.asarray(weights, np.float64)
        if others.shape != (num_states,) or factors.shape != (num_states,) or not (factors <= MOST).all():
            raise ValueError(f"backoffs and weights must be {num_states} states, and numbers up to {MOST}")
        if others.min() < 0 or others.max() >= num_states:
            raise ValueError(f"the backoffs must lie in 0..{num_states - 1}")
        model = TokenModel(scores, model.next_states, finals)
        return cls(model, _automaton(_rows(model, others, np.exp(factors), blank), blank))

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return self.model.scores.shape[1]

    @property
    def blank(self) -> int:
        """Class of the blank."""
        return int(self.automaton.blank)

    @property
    def num_states(self) -> int:
        """Number of states, S: one for each state of the token model and label that leads to it."""
        return len(self.automaton.finals)

    @property
    def num_arcs(self) -> int:
        """Number of arcs and links, with which the time of the loss grows."""
        return len(self.automaton.entering.weights) + len(self.automaton.links.weights)

    def log_probs(self, symbols: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the natural-log weight of each labelling (B,); symbols (B, 1 + L) hold the blank, then the labels."""
        return score_labels(self.model, symbols, lengths)

    def log_posteriors(self, log_probs: np.ndarray, input_lengths: ArrayLike | None = None) -> np.ndarray:
        """Return natural-log posteriors of the classes in each frame, over the paths of all label sequences.

        A path has the probability of its frames times the weight of its labels. Posteriors below 1e-16 count as 1e-16.

        Parameters
        ----------
        log_probs : (T, B, C)
            Natural logs.
        input_lengths : (B,), optional
            Number of frames of each utterance; T by default. Frames beyond it get 0.

        Returns
        -------
        (T, B, C)
            float32.

        Raises
        ------
        ValueError
            Shapes or lengths do not fit, or a log probability is NaN or above 0.

        Examples
        --------
        >>> model = TokenModel(np.log([[1.0, 0.5, 0.5]]), np.zeros((1, 3), int), np.zeros(1))
        >>> uniform = np.log(np.full((1, 1, 3), 1 / 3))  # a blank weighs 1, and a label a half
        >>> np.exp(Denominator.of(model).log_posteriors(uniform)).round(3).tolist()
        [[[0.5, 0.25, 0.25]]]
        """
        log_probs, lengths = check_log_probs(log_probs, input_lengths, self.blank)
        check_values(log_probs, lengths)
        num_frames, batch, num_classes = log_probs.shape
        if num_classes != self.num_classes:
            raise ValueError(f"the denominator is for {self.num_classes} classes, the log_probs have {num_classes}")
        inside = np.arange(num_frames)[:, None] < lengths
        values = np.where(inside[:, :, None], log_probs, 0.0)
        posteriors = np.exp(values) * inside[:, :, None]
        posteriors /= np.maximum(posteriors.sum(axis=2, keepdims=True), np.finfo(float).tiny)
        found = np.zeros(batch), np.zeros_like(values)
        size = workspace_size(lengths.max(initial=0), self.automaton, num_classes)
        workers.run(partition, batch, size, values, np.arange(batch), lengths, self.automaton, found)
        posteriors += found[1]  # posteriors less probabilities
        return np.where(inside[:, :, None], np.log(posteriors.clip(SMALLEST, 1.0)), 0.0).astype(np.float32)

    def begin(self) -> np.ndarray:
        """Return the place before the first frame, for `follow`."""
        row = np.zeros(2 * self.num_states)
        row[self.automaton.offsets[self.blank]] = 1.0
        return row

    def follow(self, log_probs: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Return posteriors (T, C) of the classes in the next frames, each given the frames up to it.

        Parameters
        ----------
        log_probs : (T, C)
            Natural logs.
        place : (2S,)
            From `begin`; it is moved behind the last frame.

        Examples
        --------
        >>> model = TokenModel(np.log([[1.0, 0.5, 0.5]]), np.zeros((1, 3), int), np.zeros(1))
        >>> denominator = Denominator.of(model)
        >>> denominator.follow(np.log(np.full((1, 3), 1 / 3)), denominator.begin()).round(3).tolist()
        [[0.5, 0.25, 0.25]]
        """
        nodes, posteriors = np.empty(len(self.automaton.leaving.offsets) - 1), np.empty(log_probs.shape)
        follow(np.exp(log_probs, dtype=np.float64), self.automaton, place, np.empty_like(place), nodes, posteriors)
        return posteriors

    def substitutions(self, labels: ArrayLike) -> np.ndarray:
        """Return how much more a labelling would weigh with another label in the place of each.

        Parameters
        ----------
        labels : (L,)
            Integers in 0..C − 1 other than the blank.

        Returns
        -------
        (L, C)
            Differences of natural logs, 0 for the label itself; the blank's column is for no label.

        Raises
        ------
        ValueError
            A label is not one, or the labelling has no weight.

        Examples
        --------
        >>> model = TokenModel(np.log([[1.0, 0.5, 0.25]]), np.zeros((1, 3), int), np.zeros(1))
        >>> np.exp(Denominator.of(model).substitutions([2])).round(3).tolist()
        [[4.0, 2.0, 1.0]]
        """
        symbols, _ = check_targets(np.asarray(labels)[None], None, 1, self.num_classes, self.blank)
        tokens, (scores, next_states, finals) = symbols[0, 1:].astype(np.int64), self.model
        states = np.zeros(len(tokens) + 1, np.int64)
        for s, token in enumerate(tokens):
            states[s + 1] = next_states[states[s], token]
        own = np.append(scores[states[:-1], tokens], finals[states[-1]])
        if not np.isfinite(own).all():
            raise ValueError("the denominator gives these labels no weight")
        others, gains = next_states[states[:-1]], scores[states[:-1]] - own[:-1, None]
        others[:, self.blank], gains[:, self.blank] = states[:-1], -own[:-1]
        rows, step = np.arange(len(tokens)), 1
        while len(rows):  # until all have come to the states of the labelling itself
            where = rows + step
            at, following = others[rows], tokens[np.minimum(where, len(tokens) - 1)][:, None]
            is_end = where[:, None] == len(tokens)
            gains[rows] += np.where(is_end, finals[at], scores[at, following]) - own[where, None]
            others[rows] = next_states[at, following]
            rows, step = rows[where < len(tokens)], step + 1
            rows = rows[(others[rows] != states[rows + step, None]).any(axis=1)]
        return gains


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

    reached = _closure(np.array([blank]), follow)
    reached = reached[np.argsort(reached % num_classes, kind="stable")]
    codes = np.concatenate([reached, np.setdiff1d(_closure(reached, back_off), reached)])
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


def _closure(codes: np.ndarray, follow: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what is reached from some codes, with these, sorted."""
    fresh = found = codes
    while len(fresh):
        fresh = np.setdiff1d(follow(fresh), found)
        found = np.union1d(found, fresh)
    return found


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
