"""States of phones in context, and which of them share a density.

A phone sounds different between different neighbours, but most pairs of neighbours are too rare to estimate a density
from. So the states of each phone are tied: contexts that sound alike share one. Trees find them (`asr.hmm.trees`).

Letters: T frames, D values a frame, L phones, S states a phone, P densities, N contexts that have frames.
"""

from dataclasses import dataclass

import numpy as np

NUM_STATES = 3  # of each phone, S
BITS = 20  # bits of a neighbour's number in the key of a context


@dataclass(frozen=True, eq=False)
class Tying:
    """The density of each state of each phone between each two neighbours.

    Attributes
    ----------
    pdfs : (L, S, L + 1, L + 1) int64
        Density, in 0..P − 1, by phone, state, left and right neighbour; neighbour L is the utterance's edge.

    Raises
    ------
    ValueError
        The shape is wrong, a number is not used, or two states share a density.

    Examples
    --------
    >>> tying = Tying.monophones(2)
    >>> tying.pdfs[1, 2].tolist(), tying.num_pdfs, tying.has_context
    ([[5, 5, 5], [5, 5, 5], [5, 5, 5]], 6, False)
    """

    pdfs: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.pdfs)
        if self.pdfs.dtype != np.int64 or self.pdfs.shape != (count, NUM_STATES, count + 1, count + 1):
            raise ValueError(f"{self.pdfs.dtype} {self.pdfs.shape} is not the table of the densities of {count} phones")
        if (self.pdfs < 0).any() or not np.bincount(self.pdfs.ravel()).all():
            raise ValueError("the densities of a tying must be numbered from 0 on, without gaps")
        owners = self.owners()[self.pdfs]
        if (owners != np.indices(self.pdfs.shape[:2]).transpose(1, 2, 0)[:, :, None, None]).any():
            raise ValueError("a density of a tying must belong to one state of one phone")

    @classmethod
    def monophones(cls, num_labels: int) -> "Tying":
        """Return the tying that does not depend on neighbours: state s of phone c has density S c + s."""
        states = np.arange(num_labels * NUM_STATES).reshape(num_labels, NUM_STATES, 1, 1)
        return cls(np.tile(states, (1, 1, num_labels + 1, num_labels + 1)))

    @property
    def num_labels(self) -> int:
        """Number of phones, L."""
        return len(self.pdfs)

    @property
    def num_pdfs(self) -> int:
        """Number of densities, P."""
        return int(self.pdfs.max(initial=-1)) + 1

    @property
    def has_context(self) -> bool:
        """Whether any density depends on a neighbour."""
        return bool((self.pdfs != self.pdfs[:, :, :1, :1]).any())

    def owners(self) -> np.ndarray:
        """Return phone and state of each density, (P, 2) int64.

        >>> Tying.monophones(2).owners().tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
        """
        owners = np.empty((self.num_pdfs, 2), np.int64)
        owners[self.pdfs] = np.indices(self.pdfs.shape[:2]).transpose(1, 2, 0)[:, :, None, None]
        return owners


class ContextStatistics:
    """Moments of the frames of each state of each phone in each context that has frames.

    Parameters
    ----------
    num_values
        Number of values of a frame, D.

    Examples
    --------
    >>> statistics = ContextStatistics(1)
    >>> statistics.add(np.array([[1.0], [2], [3]]), *np.array([[0, 0, 1], [2, 2, 0], [2, 2, 0], [1, 1, 2]]))
    >>> contexts, moments = statistics.table()
    >>> contexts.tolist(), moments.tolist()
    ([[0, 2, 2, 1], [1, 0, 0, 2]], [[2.0, 3.0, 5.0], [1.0, 3.0, 9.0]])
    """

    def __init__(self, num_values: int) -> None:
        self.num_values = num_values
        self._rows: dict[int, int] = {}  # of the moments of each context's key
        self._moments = np.zeros((1024, 1 + 2 * num_values))

    def add(
        self, features: np.ndarray, phones: np.ndarray, states: np.ndarray, lefts: np.ndarray, rights: np.ndarray
    ) -> None:
        """Add the frames of an aligned utterance.

        Parameters
        ----------
        features : (T, D)
            The frames.
        phones, states, lefts, rights : (T,) int
            The phone and state that each frame is aligned with, and the previous and next phone, L at the utterance's
            edge.

        Raises
        ------
        ValueError
            Shapes do not fit, a number is out of range, or a feature is not finite.
        """
        features = np.asarray(features, np.float64)
        columns = [np.asarray(column, np.int64) for column in (phones, states, lefts, rights)]
        if features.shape[1:] != (self.num_values,) or any(column.shape != (len(features),) for column in columns):
            shapes = ", ".join(str(column.shape) for column in columns)
            raise ValueError(f"features {features.shape} of {self.num_values} values do not fit an alignment {shapes}")
        if not len(features):
            return
        low, high = min(column.min() for column in columns), max(column.max() for column in columns)
        if low < 0 or high >= 1 << BITS or columns[1].max() >= NUM_STATES:
            raise ValueError(f"the alignment has numbers from {low} to {high}, and states up to {columns[1].max()}")
        if not np.isfinite(features).all():
            raise ValueError("NaN or infinity among the features")
        keys = ((columns[0] * NUM_STATES + columns[1]) << 2 * BITS) | (columns[2] << BITS) | columns[3]
        self._add(*sum_by(keys, np.hstack([np.ones((len(features), 1)), features, features**2])))

    def _add(self, keys: np.ndarray, moments: np.ndarray) -> None:
        rows = [self._rows.setdefault(key, len(self._rows)) for key in keys.tolist()]
        while len(self._moments) < len(self._rows):
            self._moments = np.concatenate([self._moments, np.zeros_like(self._moments)])
        self._moments[rows] += moments  # the keys, so the rows too, are all different

    def __iadd__(self, other: "ContextStatistics") -> "ContextStatistics":
        self._add(np.array(list(other._rows), np.int64), other._moments[: len(other._rows)])
        return self

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the moments of all contexts, sorted by context.

        Returns
        -------
        contexts : (N, 4) int64
            Phone, state, left and right neighbour.
        moments : (N, 1 + 2 D)
            Number of frames, their sum, and the sum of their squares.
        """
        keys = np.array(list(self._rows), np.int64)
        order = np.argsort(keys)
        keys, mask = keys[order], (1 << BITS) - 1
        states = keys >> 2 * BITS
        contexts = np.stack([states // NUM_STATES, states % NUM_STATES, keys >> BITS & mask, keys & mask], axis=1)
        return contexts, self._moments[: len(keys)][order]


def sum_by(keys: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the rows (N, M) of each key (N,); return the distinct keys, sorted, and the sums.

    >>> sum_by(np.array([7, 3, 7]), np.array([[1], [2], [4]]))
    (array([3, 7]), array([[2],
           [5]]))
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    return ordered[starts], np.add.reduceat(rows[order], starts, axis=0)
