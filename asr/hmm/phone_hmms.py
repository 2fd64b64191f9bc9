"""Hidden Markov models of phones, and the graph of states that they form for a transcript.

A phone has three states, visited from left to right (Rabiner 1989, section IV.A). A silence may also skip its middle
state and return to its first, so that it can have any length. Silences between words and at the utterance's ends are
optional: the graph has paths with and without them, and in models with context the neighbouring phones in both
contexts.

Letters: T frames, L phones, S states a phone, P densities; N states and A arcs of a transcript's graph.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from asr.core.errors import AsrError
from asr.hmm.graph import Graph
from asr.hmm.tying import NUM_STATES, Tying
from asr.speech import phones

SILENCE = "SIL"  # added to a phone set that has no silence of its own
LEAST_TRANSITION = 0.01  # lower bound of the probability of each transition that a state has

# The transitions of each state, to the states of its phone and, in the last column, out of it.
SPEECH = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool)
PAUSE = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [1, 0, 1, 1]], bool)


@dataclass(frozen=True, eq=False)
class PhoneHMMs:
    """The HMMs of all phones, without their emission densities.

    Attributes
    ----------
    labels : (L,)
        The phones.
    silences
        Numbers of the phones that are silences, which have no context.
    tying : Tying
        The density of each state in each context.
    log_transitions : (P, S + 1)
        Natural log probability of the transition from a state with that density to each state of its phone and out of
        it.
    """

    labels: tuple[str, ...]
    silences: tuple[int, ...]
    tying: Tying
    log_transitions: np.ndarray

    @classmethod
    def monophones(cls, labels: Sequence[str], silences: Collection[int] = ()) -> "PhoneHMMs":
        """Return HMMs without context; each state's transitions are equally likely.

        >>> PhoneHMMs.monophones(["a", "sil"], [1]).ways()[5].tolist()
        [True, False, True, True]
        """
        return cls.of(labels, silences, Tying.monophones(len(labels)))

    @classmethod
    def of(cls, labels: Sequence[str], silences: Collection[int], tying: Tying) -> "PhoneHMMs":
        """Return HMMs of tied states; each state's transitions are equally likely."""
        hmms = cls(tuple(labels), tuple(sorted(silences)), tying, np.empty((0, NUM_STATES + 1)))
        ways = hmms.ways()
        return cls(hmms.labels, hmms.silences, tying, _log(ways / ways.sum(axis=1, keepdims=True)))

    def ways(self) -> np.ndarray:
        """Return which transitions a state with each density has, (P, S + 1) bool."""
        owners = self.tying.owners()
        paused = np.isin(owners[:, 0], self.silences)
        return np.where(paused[:, None], PAUSE[owners[:, 1]], SPEECH[owners[:, 1]])

    def estimate(self, counts: np.ndarray) -> "PhoneHMMs":
        """Return HMMs with transitions estimated from expected counts (P, S + 1): Rabiner 1989, eq. 40b, with a floor.

        >>> hmms = PhoneHMMs.monophones(["a"])
        >>> np.exp(hmms.estimate(np.array([[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])).log_transitions).round(2)
        array([[0.75, 0.25, 0.  , 0.  ],
               [0.  , 0.5 , 0.5 , 0.  ],
               [0.  , 0.  , 0.5 , 0.5 ]])
        """
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.where(totals > 0, counts / np.maximum(totals, 1e-10), np.exp(self.log_transitions))
        shares = np.where(self.ways(), np.maximum(shares, LEAST_TRANSITION), 0)
        return PhoneHMMs(self.labels, self.silences, self.tying, _log(shares / shares.sum(axis=1, keepdims=True)))

    def transcript(self, labels: Sequence[str], word_lengths: Sequence[int] = ()) -> "Transcript":
        """Return the states of an utterance's phones.

        Parameters
        ----------
        labels
            The phones. If the phone set has silences of its own, they are included where they occur.
        word_lengths
            Number of phones of each word, if known. If the HMMs have an added silence, it may occur between words and
            at both ends.

        Raises
        ------
        AsrError
            There are no labels, or one has no HMM.
        ValueError
            The words' lengths do not add up to the number of labels.
        """
        if not labels:
            raise AsrError("an utterance without phones has no path: check its transcript")
        if word_lengths and sum(word_lengths) != len(labels):
            raise ValueError(f"words of {sum(word_lengths)} phones, but {len(labels)} phones")
        number = {label: i for i, label in enumerate(self.labels)}
        unknown = [label for label in labels if label not in number]
        if unknown:
            raise AsrError(f"label {unknown[0]!r} has no HMM: the labels are {' '.join(self.labels)}")
        pause = number[SILENCE] if SILENCE in number and SILENCE not in labels else None
        ends = {0, len(labels), *np.cumsum(word_lengths).tolist()} if pause is not None else set()
        return _Builder(self, [number[label] for label in labels], pause, ends).build()

    @cached_property
    def has_context(self) -> np.ndarray:
        """Whether the states of each phone depend on its neighbours, (L,) bool."""
        pdfs = self.tying.pdfs
        return (pdfs != pdfs[:, :, :1, :1]).any(axis=(1, 2, 3))


@dataclass(frozen=True, eq=False)
class Transcript:
    """The states and arcs of an utterance; `graph` adds the densities and weights of a model.

    Attributes
    ----------
    instances : (N,)
        Which of the utterance's phones each state belongs to, counted in the order of the transcript, optional silences
        included. All contexts of a phone have the same number.
    phones, states, lefts, rights : (N,)
        Phone, its state, and its neighbours; neighbours are 0 where there is no context.
    starts, finals : (N,)
        ln of the share of paths that start in a state, and that end after it; −inf where no path does.
    sources, targets, columns, shares : (A,)
        Source and target state, column of the transitions, and ln of the share of each arc, sorted by target.
    """

    instances: np.ndarray
    phones: np.ndarray
    states: np.ndarray
    lefts: np.ndarray
    rights: np.ndarray
    starts: np.ndarray
    finals: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    columns: np.ndarray
    shares: np.ndarray

    def graph(self, hmms: PhoneHMMs) -> Graph:
        """Return the graph with the weights of the HMMs."""
        pdfs = hmms.tying.pdfs[self.phones, self.states, self.lefts, self.rights]
        leave = hmms.log_transitions[pdfs, NUM_STATES]
        return Graph(
            pdfs,
            np.searchsorted(self.targets, np.arange(len(pdfs) + 1)),
            self.sources,
            hmms.log_transitions[pdfs[self.sources], self.columns] + self.shares,
            self.starts,
            self.finals + np.where(self.finals > -np.inf, leave, 0.0),
        )

    def said(self) -> np.ndarray:
        """Return the phones (M,) without optional silences, whose instances have the even numbers."""
        instances, firsts = np.unique(self.instances, return_index=True)
        return self.phones[firsts[instances % 2 == 1]]

    def segments(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return phones (M,) and first frames (M,) of a path of states (T,)."""
        changed = np.concatenate(([True], self.instances[path[1:]] != self.instances[path[:-1]]))
        firsts = changed.nonzero()[0]
        return self.phones[path[firsts]], firsts


class _Instance(NamedTuple):
    """A phone in one context: its first state, its number, and its neighbours, None where they do not matter."""

    first: int
    phone: int
    left: int | None
    right: int | None


class _Ways(NamedTuple):
    """Transitions: from which state to which within a phone, and from which states out of it."""

    inner: list[list[int]]
    out: list[int]

    @classmethod
    def of(cls, ways: np.ndarray) -> "_Ways":
        return cls(np.argwhere(ways[:, :NUM_STATES]).tolist(), np.flatnonzero(ways[:, NUM_STATES]).tolist())


OF_SPEECH, OF_PAUSE = _Ways.of(SPEECH), _Ways.of(PAUSE)


class _Builder:
    """Builds the states and arcs of one transcript."""

    def __init__(self, hmms: PhoneHMMs, said: Sequence[int], pause: int | None, pauses: Collection[int]):
        self.hmms, self.said, self.pause, self.pauses = hmms, said, pause, pauses
        self.edge = len(hmms.labels)
        self.states: list[tuple[int, int, int, int, int]] = []  # instance, phone, state, left, right
        self.arcs: list[tuple[int, int, int, float]] = []  # target, source, column, share
        self.starts: dict[int, float] = {}
        self.finals: dict[int, float] = {}

    def build(self) -> Transcript:
        """Join the phones before each gap to those after it; None stands for the utterance's edge."""
        before: list[_Instance | None] = [None]
        for i in range(len(self.said) + 1):
            after: list[_Instance | None] = self._instances(i) if i < len(self.said) else [None]
            share = float(np.log(0.5)) if i in self.pauses else 0.0  # with and without a silence are equally likely
            for source, target in itertools.product(before, after):
                self._join(source, target, share)
            if i in self.pauses and self.pause is not None:
                silence = self._add(2 * i, self.pause, None, None)
                for source in before:
                    self._join(source, silence, share)
                for target in after:
                    self._join(silence, target, 0.0)
            before = after
        return self._transcript()

    def _instances(self, i: int) -> list[_Instance | None]:
        """Add phone i of the utterance in each of its possible contexts."""
        phone = self.said[i]
        if not self.hmms.has_context[phone]:
            return [self._add(2 * i + 1, phone, None, None)]
        neighbours = [self.edge, *self.said, self.edge]
        lefts, rights = {neighbours[i]: None}, {neighbours[i + 2]: None}
        if self.pause is not None:
            lefts |= {self.pause: None} if i in self.pauses else {}
            rights |= {self.pause: None} if i + 1 in self.pauses else {}
        return [self._add(2 * i + 1, phone, left, right) for left in lefts for right in rights]

    def _add(self, number: int, phone: int, left: int | None, right: int | None) -> _Instance:
        first = len(self.states)
        self.states += [(number, phone, state, left or 0, right or 0) for state in range(NUM_STATES)]
        self.arcs += [(first + column, first + source, column, 0.0) for source, column in self._ways(phone).inner]
        return _Instance(first, phone, left, right)

    def _ways(self, phone: int) -> "_Ways":
        return OF_PAUSE if phone in self.hmms.silences else OF_SPEECH

    def _join(self, source: _Instance | None, target: _Instance | None, share: float) -> None:
        if source and source.right not in (None, target.phone if target else self.edge):
            return
        if target and target.left not in (None, source.phone if source else self.edge):
            return
        if source is None and target is not None:
            self.starts[target.first] = share
        elif source is not None:
            for state in self._ways(source.phone).out:
                if target is None:
                    self.finals[source.first + state] = share
                else:
                    self.arcs.append((target.first, source.first + state, NUM_STATES, share))

    def _transcript(self) -> Transcript:
        count = len(self.states)
        starts, finals = np.full(count, -np.inf), np.full(count, -np.inf)
        starts[list(self.starts)], finals[list(self.finals)] = list(self.starts.values()), list(self.finals.values())
        columns = np.array(self.states, np.int64).T.copy()
        targets, sources, ways, shares = zip(*sorted(self.arcs), strict=True)
        arcs = (np.array(sources), np.array(targets), np.array(ways), np.array(shares))
        return Transcript(*columns, starts, finals, *arcs)  # type: ignore[call-arg]


def silences_of(phone_set: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the labels of a phone set's HMMs, and the numbers of silences; a set without silences gets one.

    >>> labels, silences = silences_of("timit61")
    >>> len(labels), [labels[i] for i in silences]
    (61, ['epi', 'h#', 'pau'])
    >>> silences_of("arpabet39")[0][-1]
    'SIL'
    """
    labels = phones.PhoneSet.load(phone_set).labels
    silences = tuple(i for i, label in enumerate(labels) if phones.ipa(label, phone_set) in "‖|")
    return (labels, silences) if silences else ((*labels, SILENCE), (len(labels),))


def _log(shares: np.ndarray) -> np.ndarray:
    return np.log(shares, where=shares > 0, out=np.full(shares.shape, -np.inf))
