"""Shallow fusion: a language model over phones within CTC's beam search.

    ln p(phones | audio) + weight · ln p_lm(phones) − penalty · number of phones

An n-gram becomes an automaton in arrays, and the whole search runs in Numba. A recurrent model has no such arrays: the
search runs frame by frame, and the new prefixes of all utterances in a frame are one batch for the network. Each
prefix's state is kept as long as the prefix is in the beam. Source: C. Gulcehre et al., "On using monolingual corpora
in neural machine translation", 2015, section 4.1.

Letters: T frames, B utterances, C classes of the acoustic model, K prefixes in the beam, Q states, V tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.core.errors import ConfigError
from asr.ctc import beam_kernels as kernels
from asr.ctc.arguments import check_log_probs, check_values
from asr.ctc.beam import hypotheses
from asr.ctc.beam_kernels import Limits, TokenModel
from asr.ctc.hypothesis import Hypothesis
from asr.lm.language_model import UNKNOWN, LanguageModel
from asr.lm.ngram import NGram

if TYPE_CHECKING:
    from asr.ctc.denominator import Denominator


def classes(lm: LanguageModel, labels: Sequence[str]) -> np.ndarray:
    """Return the language model's token of each class (C,); that of the blank is the edge and never used.

    Raises
    ------
    ConfigError
        A label is not in the model's closed vocabulary, or the model is not over phones.
    """
    if lm.unit != "phones":
        raise ConfigError(f"a language model over {lm.unit} says nothing of phones: give one over phones")
    other = lm.index.get(UNKNOWN)
    found = [lm.index.get(label, other) for label in labels[1:]]
    if None in found:
        label = labels[1 + found.index(None)]
        raise ConfigError(f"the language model does not know {label}: train it on the same phone set")
    return np.array([0, *found], np.int64)


def automaton(lm: NGram, labels: Sequence[str], weight: float, penalty: float = 0.0) -> TokenModel:
    """Return an n-gram as a token model for `asr.ctc.beam_search`: every context that can be reached, with all classes.

    Parameters
    ----------
    lm
        N-gram over phones.
    labels : (C,)
        The acoustic model's; class 0 is the blank.
    weight
        Weight of its log probabilities.
    penalty
        Nats that each phone costs; a negative value is a bonus.

    Raises
    ------
    ConfigError
        A label is not in the model's closed vocabulary.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([["A", "B"]], "phones", order=2, smoothing="witten_bell")
    >>> automaton(lm, ["<blank>", "A", "B"], 1.0).scores.shape
    (3, 3)
    """
    columns = classes(lm, labels)
    return _token_model(columns, *tables(lm, columns[1:], with_shorter=False), weight, penalty)


def denominator(lm: NGram, labels: Sequence[str]) -> "Denominator":
    """Return an n-gram as the denominator of `asr.ctc.crf_loss`, with its start and its end.

    Parameters
    ----------
    lm, labels
        As for `automaton`.

    Raises
    ------
    ConfigError
        A label is not in the model's closed vocabulary.

    Examples
    --------
    >>> from asr.lm.estimation import estimate
    >>> lm = estimate([["A", "B"]], "phones", order=2, smoothing="witten_bell")
    >>> denominator(lm, ["<blank>", "A", "B"]).num_states
    3
    """
    from asr.ctc.denominator import Denominator  # searches do without its kernels

    columns = classes(lm, labels)
    contexts, log_probs, after = tables(lm, columns[1:])
    shorter, weights = lm.back_off(contexts)
    return Denominator.of(_token_model(columns, contexts, log_probs, after), places(contexts)[shorter], weights)


def tables(lm: NGram, columns: np.ndarray, with_shorter: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the states that can be reached by tokens (Q,), the start first, and their tables; see `NGram.tables`.

    With `with_shorter` those that they back off to are among them.
    """
    log_probs, after = lm.all_tables()
    known, found, fresh = np.zeros(lm.num_states, bool), [], lm.start()
    while len(fresh):  # until no new context is reached
        found.append(fresh)
        known[fresh] = True
        reached = np.zeros(lm.num_states, bool)
        reached[after[fresh][:, columns]] = True
        if with_shorter:
            reached[lm.back_off(fresh)[0]] = True
        fresh = np.flatnonzero(reached & ~known)
    contexts = np.concatenate(found)
    return contexts, log_probs[contexts], after[contexts]


def places(contexts: np.ndarray) -> np.ndarray:
    """Return the place among contexts of each state that is one of them."""
    places = np.zeros(contexts.max() + 1, np.int32)
    places[contexts] = np.arange(len(contexts))
    return places


def _token_model(
    columns: np.ndarray,
    contexts: np.ndarray,
    log_probs: np.ndarray,
    after: np.ndarray,
    weight: float = 1.0,
    penalty: float = 0.0,
) -> TokenModel:
    """Return a token model of contexts (Q,), the first of which is the start, and their tables."""
    after[:, 0] = contexts  # the blank's column is never used
    scores = weight * log_probs[:, columns] - penalty
    return TokenModel(scores, places(contexts)[after[:, columns]], weight * log_probs[:, 0])


def beam_search(
    log_probs: np.ndarray,
    lengths: Sequence[int] | np.ndarray | None,
    lm: LanguageModel,
    labels: Sequence[str],
    weight: float,
    penalty: float = 0.0,
    beam_size: int = 16,
    nbest: int = 1,
) -> list[list[Hypothesis]]:
    """Search as `asr.ctc.beam_search` does, but with any language model, one frame at a time.

    Parameters
    ----------
    log_probs : (T, B, C)
        Natural logs.
    lengths : (B,), optional
        Number of frames of each utterance; T by default.
    lm, labels, weight, penalty
        As for `automaton`.
    beam_size, nbest
        As for `asr.ctc.beam_search`.

    Raises
    ------
    ConfigError
        A label is not in the model's closed vocabulary.
    ValueError
        Shapes or lengths do not fit, or a log probability is NaN or above 0.
    """
    log_probs, frames = check_log_probs(log_probs, lengths, 0)
    check_values(log_probs, frames)
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"nbest must lie in 1..beam_size, but they are {nbest} and {beam_size}")
    scorer = _Scorer(lm, classes(lm, labels), weight, penalty)
    rows = log_probs.astype(np.float64)
    searches = [_Search(rows[:length, b], beam_size, scorer) for b, length in enumerate(frames.tolist())]
    states = lm.start(len(searches))
    for t in range(int(frames.max(initial=0))):
        states = _go_on(lm, states, searches, t)
    tokens = np.full((len(searches), nbest, len(log_probs)), -1, np.int64)
    spans, scores = np.zeros((*tokens.shape, 2), np.int32), np.full(tokens.shape[:2], -np.inf)
    for b, search in enumerate(searches):
        search.end(tokens[b], spans[b], scores[b])
    return hypotheses(log_probs, frames, 0, tokens, spans, scores)


def _go_on(lm: LanguageModel, states: Any, searches: "list[_Search]", t: int) -> Any:
    """Process a frame in each search that has one, and return the states of all prefixes in the beams."""
    origins, added, first = [], [], 0
    for search in searches:
        size = search.size
        prefixes, tokens = search.step(t) if t < len(search.log_probs) else (np.arange(size), np.full(size, -1))
        origins.append(first + prefixes)
        added.append(tokens)
        first += size
    origin, token = np.concatenate(origins), np.concatenate(added)
    (new,) = np.nonzero(token >= 0)
    if len(new) == 0:
        return lm.select(states, origin)
    grown = lm.advance(lm.select(states, origin[new]), token[new])
    log_probs, done = lm.log_probs(grown), 0
    for search, tokens in zip(searches, added, strict=True):
        (fresh,) = np.nonzero(tokens >= 0)
        search.give(fresh, log_probs[done : done + len(fresh)])
        done += len(fresh)
    origin[new] = first + np.arange(len(new))
    return lm.select(lm.concat([states, grown]), origin)


@dataclass(frozen=True)
class _Scorer:
    """Turns log probabilities (K, V) into the scores of classes (K, C) and of the end (K,)."""

    lm: LanguageModel
    columns: np.ndarray
    weight: float
    penalty: float

    def __call__(self, log_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.weight * log_probs[:, self.columns] - self.penalty, self.weight * log_probs[:, 0]


class _Search:
    """Search of one utterance; the row of scores of a prefix has the number of its node in the tree."""

    def __init__(self, log_probs: np.ndarray, beam_size: int, scorer: _Scorer):
        num_frames, num_classes = log_probs.shape
        self.log_probs, self.scorer = log_probs, scorer
        self.limits = Limits(0, beam_size, math.inf, -math.inf)
        work = np.empty(kernels.workspace_size(num_frames, beam_size))
        self.beam = kernels.begin(num_classes, beam_size, work)
        self.size, self.num_nodes, room = 1, 1, len(self.beam.tree)
        none = np.empty((0, num_classes), np.int64)
        self.model = TokenModel(np.zeros((room, num_classes)), none, np.zeros(room))
        self.most = np.full(room, -np.inf)
        self.give(np.zeros(1, np.int64), scorer.lm.log_probs(scorer.lm.start()))

    def step(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Process a frame; return each kept prefix's former place in the beam, and the token added to it, or −1."""
        if self.num_nodes + self.limits.beam_size > len(self.beam.tree):
            self._make_room()
        scorer = self.model, self.most
        self.size, self.num_nodes = kernels.advance_compiled(
            self.log_probs[t], t + 1, self.limits, scorer, self.beam, self.size, self.num_nodes
        )
        choices = self.beam.held[kernels.CHOICE, : self.size]
        grew = choices >= self.limits.beam_size
        prefixes, tokens = np.divmod(choices - self.limits.beam_size, self.log_probs.shape[1])
        return np.where(grew, prefixes, choices), np.where(grew, self.scorer.columns[tokens], -1)

    def _make_room(self) -> None:
        """Clear a full tree, and move each row of scores with its node."""
        nodes = self.beam.held[kernels.NODE, : self.size]
        tree, former = kernels.make_room(nodes, self.num_nodes, self.limits.beam_size, self.beam.tree)
        self.beam, self.num_nodes = self.beam._replace(tree=tree), len(former)
        self.beam.held[kernels.STATE, : self.size] = nodes
        rows = np.concatenate([former, np.zeros(len(tree) - len(former), np.int64)])
        self.model = self.model._replace(scores=self.model.scores[rows], finals=self.model.finals[rows])
        self.most = self.most[rows]

    def give(self, prefixes: np.ndarray, log_probs: np.ndarray) -> None:
        """Set the language model's scores after some of the prefixes in the beam."""
        nodes = self.beam.held[kernels.NODE, prefixes]
        self.model.scores[nodes], self.model.finals[nodes] = self.scorer(log_probs)
        self.most[nodes] = self.model.scores[nodes].max(axis=1, initial=-np.inf)

    def end(self, tokens: np.ndarray, spans: np.ndarray, scores: np.ndarray) -> None:
        """Write tokens (N, T), −1 after the last, spans (N, T, 2) and scores (N,) of the best hypotheses."""
        kernels.finish_compiled(self.model.finals, self.beam, self.size, (tokens, spans, scores))
