"""Decision trees that tie the states of phones in context, with automatically found questions.

S. J. Young, J. J. Odell and P. C. Woodland, "Tree-based state tying for high accuracy acoustic modelling", Proc. ARPA
Workshop on Human Language Technology, 1994: all contexts of a state start in one leaf. A leaf is split by the
question about the left or right neighbour that raises the likelihood most, with a single Gaussian fitted to each leaf.
Their questions are about phonetic classes; these are about classes of phones that sound alike,
as in R. Singh, B. Raj and R. M. Stern, "Automatic clustering and generation of contextual questions for tied states in
hidden Markov models", Proc. ICASSP 1999, but found by plain agglomerative clustering.

Letters: D values a frame, L phones, S states a phone, N contexts, Q questions; neighbour L is the utterance's edge.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.core.errors import ConfigError
from asr.hmm.tying import NUM_STATES, ContextStatistics, Tying, sum_by

LEAST_GAIN = 1e-6  # nats; a smaller gain is a rounding error


def log_likelihood(moments: np.ndarray, variance_floor: np.ndarray) -> np.ndarray:
    """Return the log likelihood of frames under their maximum likelihood Gaussian with diagonal covariance.

    Parameters
    ----------
    moments : (..., 1 + 2 D)
        Number of frames, their sum, and the sum of their squares.
    variance_floor : (D,)
        Least variances.

    Returns
    -------
    (...)
        Nats, of all frames together.

    Examples
    --------
    >>> log_likelihood(np.array([2, 0, 2.0]), np.full(1, 0.01)).round(4)  # -1 and 1 under mean 0, variance 1
    np.float64(-2.8379)
    """
    size = len(variance_floor)
    count, sums, squares = moments[..., :1], moments[..., 1 : 1 + size], moments[..., 1 + size :]
    frames = np.maximum(count, 1)
    spread = np.maximum(squares - sums**2 / frames, 0)
    variances = np.maximum(spread / frames, variance_floor)
    return -0.5 * (count * np.log(2 * np.pi * variances) + spread / variances).sum(axis=-1)


def phone_classes(
    statistics: ContextStatistics, num_labels: int, silences: Collection[int], variance_floor: np.ndarray
) -> tuple[frozenset[int], ...]:
    """Group phones that sound alike, by agglomerative clustering.

    Each step joins the two groups that lose the least likelihood if each of their states has one Gaussian instead of
    two. The utterance's edge is grouped with the silence that has most frames.

    Parameters
    ----------
    statistics
        Statistics of all frames; contexts do not matter here.
    num_labels
        Number of phones, L.
    silences
        Numbers of the phones that are silences.
    variance_floor : (D,)
        Least variances.

    Returns
    -------
    tuple of frozenset
        The groups in the order in which they were formed, then each of 0..L alone. A phone without frames is in no
        group.

    Examples
    --------
    >>> statistics = ContextStatistics(1)
    >>> phones = np.repeat([0, 1, 2], 3)
    >>> features = np.array([5, 6, 7, -5, -6, -7, 6, 7, 8.0])[:, None]
    >>> statistics.add(features, phones, 0 * phones, 0 * phones, 0 * phones)
    >>> [sorted(members) for members in phone_classes(statistics, 3, [], np.full(1, 0.01))]
    [[0, 2], [0, 1, 2], [0], [1], [2], [3]]
    """
    _check(statistics, num_labels, variance_floor)
    contexts, moments = statistics.table()
    states = np.zeros((num_labels, NUM_STATES, moments.shape[1]))
    keys, sums = sum_by(contexts[:, 0] * NUM_STATES + contexts[:, 1], moments)
    states.reshape(-1, moments.shape[1])[keys] = sums
    frames = states[:, :, 0].sum(axis=1)
    groups = [frozenset([phone]) for phone in range(num_labels)]
    joined = []
    if silences:
        commonest = max(sorted(silences), key=lambda phone: frames[phone])
        groups[commonest] |= {num_labels}
        joined.append(groups[commonest])
    seen = np.flatnonzero(frames)
    for one, other in _join(states[seen], variance_floor):
        groups[seen[one]] |= groups[seen[other]]
        joined.append(groups[seen[one]])
    return (*joined, *(frozenset([phone]) for phone in range(num_labels + 1)))


def _join(states: np.ndarray, variance_floor: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the pairs of groups that are joined, for moments (G, S, 1 + 2 D); the second is merged into the first."""
    states = states.copy()
    size = len(states)
    alone = log_likelihood(states, variance_floor).sum(axis=1)

    def losses(one: int) -> np.ndarray:
        together = log_likelihood(states[one] + states, variance_floor).sum(axis=1)
        return np.where(alive & (np.arange(size) != one), alone[one] + alone - together, np.inf)

    alive = np.ones(size, bool)
    loss = np.array([losses(one) for one in range(size)]).reshape(size, size)
    for _ in range(size - 1):
        one, other = sorted(divmod(int(loss.argmin()), size))
        yield one, other
        states[one] += states[other]
        alone[one] = log_likelihood(states[one], variance_floor).sum()
        alive[other] = False
        loss[other] = loss[:, other] = np.inf
        loss[one] = loss[:, one] = losses(one)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """Contexts that share a density: every pair of left neighbours (L + 1,) and right neighbours (L + 1,), both bool.

    `rows` are the numbers of the contexts that have frames.
    """

    rows: np.ndarray
    lefts: np.ndarray
    rights: np.ndarray


@dataclass(frozen=True, eq=False)
class _Splitter:
    """Finds the best question about a leaf; fields as in `grow`, and `asks` (Q, L + 1) is 1 for a class's members."""

    contexts: np.ndarray
    moments: np.ndarray
    asks: np.ndarray
    min_frames: float
    variance_floor: np.ndarray

    def best(self, leaf: _Leaf) -> tuple[float, _Leaf, _Leaf] | None:
        """Return the gain of the best question in nats, and the leaf's parts for the answers yes and no."""
        if not len(leaf.rows):
            return None
        moments = self.moments[leaf.rows]
        before = log_likelihood(moments.sum(axis=0), self.variance_floor)
        sides = []
        for side in (2, 3):
            seen, sums = sum_by(self.contexts[leaf.rows, side], moments)
            yes, no = self.asks[:, seen] @ sums, (1 - self.asks[:, seen]) @ sums
            after = log_likelihood(yes, self.variance_floor) + log_likelihood(no, self.variance_floor)
            enough = np.minimum(yes[:, 0], no[:, 0]) >= self.min_frames
            sides.append(np.where(enough, after - before, -np.inf))
        gains = np.concatenate(sides)
        question = int(gains.argmax())
        if gains[question] < LEAST_GAIN:
            return None
        right, number = divmod(question, len(self.asks))
        inside = self.asks[number] > 0
        return float(gains[question]), self._part(leaf, right, inside), self._part(leaf, right, ~inside)

    def _part(self, leaf: _Leaf, right: int, inside: np.ndarray) -> _Leaf:
        rows = leaf.rows[inside[self.contexts[leaf.rows, 2 + right]]]
        if right:
            return _Leaf(rows, leaf.lefts, leaf.rights & inside)
        return _Leaf(rows, leaf.lefts & inside, leaf.rights)


def grow(
    statistics: ContextStatistics,
    classes: Sequence[Collection[int]],
    num_labels: int,
    silences: Collection[int],
    num_pdfs: int,
    min_frames: float = 100.0,
    *,
    variance_floor: np.ndarray,
) -> Tying:
    """Tie the states of phones in context by a tree for each state of each phone that is not a silence.

    Of all trees, the leaf with the greatest gain in likelihood is split first. A context without frames has the density
    of the leaf that it belongs to. Source: Young, Odell and Woodland 1994.

    Parameters
    ----------
    statistics
        Statistics of all frames.
    classes
        Classes of neighbours, such as those from `phone_classes`, that questions on either side may ask about.
    num_labels
        Number of phones, L.
    silences
        Phones that have one density for each state in all contexts; as neighbours they do matter.
    num_pdfs
        Maximum number of densities, including those of silences.
    min_frames
        Minimum number of frames in each leaf that a split makes.
    variance_floor : (D,)
        Least variances.

    Returns
    -------
    Tying
        Densities are numbered by phone, state and leaf.

    Raises
    ------
    ConfigError
        Fewer densities are requested than the phones have states.
    ValueError
        The statistics or classes have phone numbers above L, or the variance floor is not above 0.

    Examples
    --------
    The first state of phone 0 has other frames after phone 1 than after phone 0.

    >>> statistics = ContextStatistics(1)
    >>> phones, lefts = np.zeros(4, int), np.array([0, 0, 1, 1])
    >>> statistics.add(np.array([[1.0], [2], [8], [9]]), phones, phones, lefts, phones)
    >>> tying = grow(statistics, [{0}, {1}, {2}], 2, [], 99, min_frames=2, variance_floor=np.full(1, 0.01))
    >>> tying.pdfs[0, 0].tolist(), tying.num_pdfs
    ([[0, 0, 0], [1, 1, 1], [1, 1, 1]], 7)
    """
    _check(statistics, num_labels, variance_floor)
    if num_pdfs < NUM_STATES * num_labels:
        raise ConfigError(
            f"{num_pdfs} densities are too few for {num_labels} phones of {NUM_STATES} states: "
            f"allow at least {NUM_STATES * num_labels}"
        )
    asks = np.zeros((len(classes), num_labels + 1))
    for number, members in enumerate(classes):
        if not all(0 <= phone <= num_labels for phone in members):
            raise ValueError(f"the class {sorted(members)} has numbers that are not in 0..{num_labels}")
        asks[number, list(members)] = 1
    contexts, moments = statistics.table()
    splitter = _Splitter(contexts, moments, asks, max(min_frames, 1), variance_floor)
    return _number(_split_all(splitter, num_labels, silences, num_pdfs))


def _split_all(
    splitter: _Splitter, num_labels: int, silences: Collection[int], num_pdfs: int
) -> dict[tuple[int, int], list[_Leaf]]:
    """Return the leaves of each phone and state."""
    states = splitter.contexts[:, 0] * NUM_STATES + splitter.contexts[:, 1]
    bounds = np.searchsorted(states, np.arange(NUM_STATES * num_labels + 1))
    everything = np.ones(num_labels + 1, bool)
    leaves = {
        divmod(number, NUM_STATES): [_Leaf(np.arange(first, last), everything, everything)]
        for number, (first, last) in enumerate(pairwise(bounds))
    }
    queue: list[tuple[float, int, tuple[int, int], _Leaf, _Leaf, _Leaf]] = []
    pushed = 0

    def push(owner: tuple[int, int], leaf: _Leaf) -> None:
        nonlocal pushed
        pushed += 1  # breaks ties, so that leaves are never compared
        if (best := splitter.best(leaf)) is not None:
            heapq.heappush(queue, (-best[0], pushed, owner, leaf, *best[1:]))

    for owner, (root,) in leaves.items():
        if owner[0] not in silences:
            push(owner, root)
    for _ in range(num_pdfs - len(leaves)):
        if not queue:
            break
        _, _, owner, leaf, *parts = heapq.heappop(queue)
        place = leaves[owner].index(leaf)
        leaves[owner][place : place + 1] = parts
        for part in parts:
            push(owner, part)
    return leaves


def _number(leaves: dict[tuple[int, int], list[_Leaf]]) -> Tying:
    num_labels = len(leaves) // NUM_STATES
    pdfs = np.empty((num_labels, NUM_STATES, num_labels + 1, num_labels + 1), np.int64)
    ordered = [(owner, leaf) for owner, found in leaves.items() for leaf in found]
    for number, (owner, leaf) in enumerate(ordered):
        pdfs[owner][np.ix_(leaf.lefts, leaf.rights)] = number
    return Tying(pdfs)


def _check(statistics: ContextStatistics, num_labels: int, variance_floor: np.ndarray) -> None:
    contexts, _ = statistics.table()
    phones, neighbours = contexts[:, 0].max(initial=-1), contexts[:, 2:].max(initial=-1)
    if phones >= num_labels or neighbours > num_labels:
        raise ValueError(f"statistics of phones up to {max(phones, neighbours)} are not those of {num_labels} phones")
    if variance_floor.shape != (statistics.num_values,) or not (variance_floor > 0).all():
        raise ValueError(f"the variance floor must be {statistics.num_values} values above 0")
