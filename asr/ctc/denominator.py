"""Weights of all label sequences: the denominator of `asr.ctc.crf_loss`, made of the automaton of an n-gram.

Letters: B utterances, T frames, L labels, C classes, Q states of the token model, S states here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from asr.ctc.arguments import check_blank, check_log_probs, check_targets, check_values
from asr.ctc.automaton import Automaton, build
from asr.ctc.beam import checked
from asr.ctc.beam_kernels import TokenModel
from asr.ctc.crf_kernels import follow, score_labels
from asr.ctc.lanes import LANES
from asr.ctc.partition import partition

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
        return cls(model, build(model, others, np.exp(factors), blank))

    @classmethod
    def unweighted(cls, num_classes: int, blank: int = 0) -> "Denominator":
        """Return the weights of label sequences that are all 1.

        >>> Denominator.unweighted(4).log_probs(np.array([[0, 3, 2]]), np.array([2]))
        array([0.])
        """
        shape = 1, num_classes
        return cls.of(TokenModel(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(1)), blank=blank)

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

    def restricted(self, words: Sequence[Sequence[Sequence[int]]]) -> "Denominator":
        """Return the weights of the label sequences of a text alone: each word by one of its pronunciations.

        A label sequence that comes about in several ways counts once.

        Parameters
        ----------
        words
            The labels of each pronunciation of each word; none of them empty.

        Raises
        ------
        ValueError
            A word has no pronunciation, a pronunciation no label, or a label is none of 0..C − 1, or the blank.

        Examples
        --------
        >>> text = Denominator.unweighted(4).restricted([[[1, 2], [1, 3, 2]], [[3]]])  # 1 2 3 and 1 3 2 3
        >>> text.num_states, text.num_arcs  # from 2 on they are one
        (5, 5)
        """
        possible = {*range(self.num_classes)} - {self.blank}
        if not all(word and all(each and possible.issuperset(each) for each in word) for word in words):
            raise ValueError(f"each word needs pronunciations of labels below {self.num_classes} other than the blank")
        spelt = [[tuple(each) for each in word] for word in words]
        start: _Place = frozenset({(0, ())})
        numbers, waiting, arcs = {(start, 0): 0}, [(start, 0)], list[tuple[int, int, int]]()
        for place, state in waiting:  # which grows
            for token, after in _continuations(place, spelt).items():
                if self.model.scores[state, token] > -np.inf:
                    reached = after, int(self.model.next_states[state, token])
                    if reached not in numbers:
                        numbers[reached] = len(numbers)
                        waiting.append(reached)
                    arcs.append((numbers[place, state], token, numbers[reached]))
        of_model = np.array([state for _, state in waiting])
        sources, tokens, targets = np.array(arcs, np.int64).reshape(-1, 3).T
        scores = np.full((len(waiting), self.num_classes), -np.inf)
        scores[sources, tokens] = self.model.scores[of_model[sources], tokens]
        next_states = np.zeros(scores.shape, np.int64)
        next_states[sources, tokens] = targets
        is_end = [(len(spelt), ()) in place for place, _ in waiting]
        finals = np.where(is_end, self.model.finals[of_model], -np.inf)
        return Denominator.of(TokenModel(scores, next_states, finals), blank=self.blank)

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
        posteriors += partition(values, np.arange(batch), lengths, [self.automaton] * batch)[1]
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
        probs, row = (np.repeat(each[..., None], LANES, -1) for each in (np.exp(log_probs, dtype=np.float64), place))
        nodes, posteriors = np.empty((len(self.automaton.leaving.offsets) - 1, LANES)), np.empty(log_probs.shape)
        follow(probs, self.automaton, row, np.empty_like(row), nodes, posteriors)
        place[:] = row[:, 0]
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


# Where a text may be: before a word, or within one, by the number of the word and the labels that its pronunciation
# still has.
_Place = frozenset[tuple[int, tuple[int, ...]]]


def _continuations(place: _Place, words: Sequence[Sequence[tuple[int, ...]]]) -> dict[int, _Place]:
    """Return where a text may be after each label that can come next."""
    after = dict[int, set[tuple[int, tuple[int, ...]]]]()
    for word, rest in place:
        if word < len(words):
            for token, *others in [rest] if rest else words[word]:
                after.setdefault(token, set()).add((word, tuple(others)) if others else (word + 1, ()))
    return {token: frozenset(places) for token, places in sorted(after.items())}
