"""The loop of all phones that an HMM recogniser searches, and its bigram.

The loop holds each phone in all its contexts. A path leads from one phone to another only if each has the other as its
neighbour. States with the same density and the same continuations are merged.

Letters: L phones, S states a phone, P densities.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.core.errors import AsrError
from asr.hmm import decoding_kernels as kernels
from asr.hmm.tying import Tying


def bigram(labels: Sequence[str], transcripts: Iterable[Sequence[str]]) -> np.ndarray:
    """Estimate a bigram of phones, smoothed with the unigram by Witten and Bell's method.

    Source: I. H. Witten and T. C. Bell, "The zero-frequency problem", IEEE Trans. Information Theory 37(4), 1991,
    method C: for n successors of a phone, t of them different, unseen successors have the share t / (n + t).

    Parameters
    ----------
    labels : (L,)
        The phones.
    transcripts
        Phones of the training utterances.

    Returns
    -------
    (L + 1, L + 1)
        Natural log probabilities. Rows are the preceding phone, the last row the utterance's start; columns are the
        next phone, the last column the utterance's end. No utterance is empty.

    Raises
    ------
    AsrError
        There are no transcripts.

    Examples
    --------
    >>> probabilities = np.exp(bigram(["a", "b"], [["a", "b"], ["a", "a", "b"]]))
    >>> probabilities.sum(axis=1).round(6).tolist(), probabilities[0, 1] > probabilities[0, 0]
    ([1.0, 1.0, 1.0], np.True_)
    """
    number = {label: i for i, label in enumerate(labels)}
    edge = len(labels)
    counts = np.zeros((edge + 1, edge + 1))
    for transcript in transcripts:
        for pair, count in Counter(pairwise([edge, *(number[label] for label in transcript), edge])).items():
            counts[pair] += count
    if not counts.any():
        raise AsrError("no transcripts to estimate a bigram from: check the corpus")
    single = counts.sum(axis=0) + 1
    single /= single.sum()
    total, different = counts.sum(axis=1, keepdims=True), (counts > 0).sum(axis=1, keepdims=True)
    unseen = total == 0
    smooth = np.where(unseen, single, (counts + different * single) / np.where(unseen, 1, total + different))
    smooth[edge, edge] = 0
    return np.log(smooth / smooth.sum(axis=1, keepdims=True), where=smooth > 0, out=np.full(smooth.shape, -np.inf))


@dataclass(frozen=True, eq=False)
class PhoneLoop:
    """All phones in all their contexts, joined end to start.

    Attributes
    ----------
    network : Network
        The loop as the kernels take it.
    num_pdfs : int
        P.
    """

    network: kernels.Network
    num_pdfs: int

    @classmethod
    def of(
        cls,
        tying: Tying,
        log_transitions: np.ndarray,
        log_bigram: np.ndarray,
        silences: Sequence[int] = (),
        lm_weight: float = 1.0,
        penalty: float = 0.0,
    ) -> "PhoneLoop":
        """Build the loop.

        Parameters
        ----------
        tying
            Density of each phone's states between each pair of neighbours.
        log_transitions : (P, S + 1)
            Natural logs of the transitions from a state with each density to each state of its phone; in the last
            column, out of it.
        log_bigram : (L + 1, L + 1)
            From `bigram`.
        silences
            Phones that are not labels: they have no penalty, and paths that differ only in them are one hypothesis.
        lm_weight
            Weight of the bigram relative to the acoustic scores, 0 or more.
        penalty
            Nats that each phone other than a silence costs; a negative value is a bonus.

        Raises
        ------
        ValueError
            Shapes do not fit, the weight is below 0, or a number is NaN or +inf.

        Examples
        --------
        >>> tying = Tying.monophones(2)
        >>> with np.errstate(divide="ignore"):
        ...     steps = np.log(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]] * 2) / 2)
        >>> loop = PhoneLoop.of(tying, steps, bigram("ab", ["ab"]))
        >>> loop.num_nodes
        6
        """
        count = tying.num_labels
        log_transitions, log_bigram = np.array(log_transitions, np.float64), np.array(log_bigram, np.float64)
        check_shapes(tying, log_transitions, log_bigram)
        if not (lm_weight >= 0 and np.isfinite([lm_weight, penalty]).all()):
            raise ValueError(f"a bigram's weight is a number from 0 on, and a penalty finite: {lm_weight}, {penalty}")
        silent = np.isin(np.arange(count), silences)
        seen = log_bigram > -np.inf
        weights = np.multiply(log_bigram, lm_weight, where=seen, out=np.full(seen.shape, -np.inf))
        weights[:, :count][:, ~silent] -= penalty
        firsts = [np.unique(tying.pdfs[c, 0]) for c in range(count)]
        first_offsets, first_pdfs = _end_to_end(firsts)
        network = kernels.Network(
            **_Builder(tying.pdfs, log_transitions).fields(),
            first_offsets=first_offsets,
            first_pdfs=first_pdfs,
            weights=weights,
            most=weights[:-1, :-1].max(axis=1),
            silent=silent,
        )
        return cls(network, len(log_transitions))

    @property
    def num_nodes(self) -> int:
        """Number of different states in context, N."""
        return len(self.network.pdfs)


def check_shapes(tying: Tying, log_transitions: np.ndarray, log_bigram: np.ndarray) -> None:
    """Raise ValueError if transitions (P, S + 1) or bigram (L + 1, L + 1) do not fit the tying."""
    count, num_states = tying.pdfs.shape[:2]
    if log_transitions.shape != (tying.num_pdfs, num_states + 1) or log_bigram.shape != (count + 1, count + 1):
        raise ValueError(
            f"transitions {log_transitions.shape} and bigram {log_bigram.shape} do not fit {count} phones of "
            f"{num_states} states with {tying.num_pdfs} densities"
        )
    if not ((log_transitions < np.inf).all() and (log_bigram < np.inf).all()):
        raise ValueError("NaN or +inf among the logarithms of transitions or of the bigram")


def _end_to_end(lists: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate lists; return their offsets and entries."""
    offsets = np.concatenate(([0], np.cumsum([len(each) for each in lists])))
    return offsets.astype(np.int32), np.concatenate([np.asarray(each, np.int32) for each in lists])


class _Builder:
    """Builds the nodes of a network, merging states of a phone with the same density and continuations."""

    def __init__(self, pdfs: np.ndarray, log_transitions: np.ndarray) -> None:
        self.pdfs, self.log_transitions = pdfs, log_transitions
        self.count, self.num_states = pdfs.shape[:2]
        self.nodes: list[tuple[int, int]] = []  # density, exit
        self.arcs: list[list[tuple[int, float]]] = []  # target and weight, of each node
        self.followers: list[list[int]] = []  # right neighbours, of each exit
        self.exit_phones: list[int] = []
        self.entered: list[list[int]] = []  # first nodes, of each entry
        self.entries = np.empty((self.count + 1, self.count), np.int32)
        for phone in range(self.count):
            self.known: dict[tuple, tuple[int, ...]] = {}  # nodes made for this phone, by their key
            self._add(phone)

    def _add(self, phone: int) -> None:
        """Add a phone. Left neighbours that give the same densities for all right neighbours share an entry."""
        contexts = self.pdfs[phone].transpose(1, 0, 2).reshape(self.count + 1, -1)
        _, lefts, row_of = np.unique(contexts, axis=0, return_index=True, return_inverse=True)
        self.entries[:, phone] = len(self.entered) + row_of.ravel()
        onwards = all(self._goes_onwards(phone, state) for state in range(self.num_states))
        for left in lefts:
            table, rights = self.pdfs[phone, :, left], np.ones(self.count + 1, bool)
            self.entered.append(list(self._tree(phone, table, rights, 0) if onwards else self._chains(phone, table)))

    def _goes_onwards(self, phone: int, state: int) -> bool:
        """Whether a state leads only to itself and to the next state."""
        steps = self.log_transitions[np.unique(self.pdfs[phone, state])] > -np.inf
        return not np.delete(steps, [state, state + 1], axis=1).any()

    def _tree(self, phone: int, table: np.ndarray, rights: np.ndarray, state: int) -> tuple[int, ...]:
        """Return the nodes of a state and of all later states, for the right neighbours that are still possible.

        Equal nodes are made once, whatever the left neighbours and previous states.
        """
        found: list[int] = []
        for pdf in np.unique(table[state, rights]).tolist():
            those = rights & (table[state] == pdf)
            if state + 1 < self.num_states:
                after = self._tree(phone, table, those, state + 1)
                key: tuple = (pdf, after)
            else:
                after, key = (), (pdf, those.tobytes())
            if key not in self.known:
                weights = self.log_transitions[pdf]
                node = self._node(pdf, () if after else those, phone)
                self.arcs[node] = [(node, weights[state]), *((target, weights[state + 1]) for target in after)]
                self.known[key] = (node,)
            found += self.known[key]
        return tuple(found)

    def _chains(self, phone: int, table: np.ndarray) -> list[int]:
        """Return the first nodes of chains with arcs in all directions, one for each group of right neighbours."""
        found = []
        for pdfs in np.unique(table, axis=1).T:
            those = (table == pdfs[:, None]).all(axis=0)
            key = (*pdfs.tolist(), those.tobytes())
            if key not in self.known:
                chain = [self._node(pdf, those, phone) for pdf in pdfs.tolist()]
                for node, pdf in zip(chain, pdfs, strict=True):
                    self.arcs[node] = list(zip(chain, self.log_transitions[pdf], strict=False))
                self.known[key] = tuple(chain)
            found.append(self.known[key][0])
        return found

    def _node(self, pdf: int, rights: np.ndarray | tuple[()], phone: int) -> int:
        """Make a node from which the phone may be left towards some right neighbours, or none."""
        slot = -1
        if len(rights):
            key = ("exit", np.asarray(rights).tobytes())
            if key not in self.known:
                self.known[key] = (len(self.followers),)
                self.followers.append(np.flatnonzero(rights).tolist())
                self.exit_phones.append(phone)
            (slot,) = self.known[key]
        self.nodes.append((pdf, slot))
        self.arcs.append([])
        return len(self.nodes) - 1

    def fields(self) -> dict[str, np.ndarray]:
        """Return the fields of the network."""
        count = self.count
        nodes = np.array(self.nodes, np.int32)
        arcs = [[arc for arc in each if arc[1] > -np.inf] for each in self.arcs]
        arc_offsets, arc_targets = _end_to_end([[target for target, _ in each] for each in arcs])
        exit_offsets, exit_targets = _end_to_end([[r for r in rights if r < count] for rights in self.followers])
        entry_offsets, entry_nodes = _end_to_end(self.entered)
        return {
            "pdfs": nodes[:, 0].copy(),
            "arc_offsets": arc_offsets,
            "arc_targets": arc_targets,
            "arc_weights": np.array([weight for each in arcs for _, weight in each]),
            "exits": nodes[:, 1].copy(),
            "exit_weights": self.log_transitions[nodes[:, 0], -1],
            "exit_phones": np.array(self.exit_phones, np.int32),
            "exit_ends": np.array([rights[-1] == count for rights in self.followers]),
            "exit_offsets": exit_offsets,
            "exit_targets": exit_targets,
            "entries": self.entries,
            "entry_offsets": entry_offsets,
            "entry_nodes": entry_nodes,
            "slot_offsets": np.append(self.entries.min(axis=0), len(self.entered)).astype(np.int32),
        }
