"""Gaussian mixtures with diagonal covariances, one for each density: likelihoods, statistics, estimation, splitting.

Letters: T frames, D values a frame, P densities, K Gaussians of all densities, concatenated.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asr.core.jit import njit

FEWEST_FRAMES = 3.0  # a Gaussian that accounts for fewer frames is dropped, unless it is its density's last
VARIANCE_FLOOR = 0.01  # of the variance of all frames
LEAST_POSTERIOR = 1e-8  # a density with a smaller posterior in a frame is not counted there
BLOCK_FRAMES = 128  # number of frames whose Gaussians are computed together
NEGLIGIBLE = -20.0  # ln of a Gaussian's share of its density that float32 does not show
SPLIT_DISTANCE = 0.2  # standard deviations by which each half of a split Gaussian is moved


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Emission densities.

    Attributes
    ----------
    offsets : (P + 1,) int64
        Density p consists of the Gaussians from offsets[p] up to offsets[p + 1].
    weights_ : (K,)
        Probabilities that add up to 1 within each density.
    means_, covars_ : (K, D)
        Means and variances.
    """

    offsets: np.ndarray
    weights_: np.ndarray
    means_: np.ndarray
    covars_: np.ndarray

    @classmethod
    def flat(cls, num_pdfs: int, mean: np.ndarray, variance: np.ndarray) -> "Mixtures":
        """Return one Gaussian for each density, all equal: the flat start, which knows only the moments of all frames.

        >>> Mixtures.flat(3, np.zeros(2), np.ones(2)).means_.shape
        (3, 2)
        """
        tile = (num_pdfs, 1)
        return cls(np.arange(num_pdfs + 1), np.ones(num_pdfs), np.tile(mean, tile), np.tile(variance, tile))

    @property
    def num_pdfs(self) -> int:
        """Number of densities."""
        return len(self.offsets) - 1

    def gaussians(self, features: np.ndarray) -> np.ndarray:
        """Return ln (weight × Gaussian) of each frame and Gaussian (T, K), for features (T, D).

        The exponent is expanded, so that most of the work is one matrix product in the features' precision.

        >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
        >>> mixtures.gaussians(np.array([[0.0], [1.0]])).round(3).tolist()
        [[-0.919], [-1.419]]
        """
        weights, constants = self._expanded(features.dtype)
        found = _squares(features) @ weights
        found += constants
        return found

    def _expanded(self, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of features and their squares (2 D, K), and the constants (K,)."""
        precisions = 1 / self.covars_
        constants = np.log(self.weights_) - 0.5 * (
            np.log(2 * np.pi * self.covars_).sum(axis=1) + (self.means_**2 * precisions).sum(axis=1)
        )
        weights = np.concatenate((self.means_ * precisions, -0.5 * precisions), axis=1).T
        return np.asarray(weights, dtype, order="C"), constants.astype(dtype)

    def scores(self, gaussians: np.ndarray) -> np.ndarray:
        """Return ln p(frame | density) (T, P) from the result of `gaussians` (T, K).

        Raises
        ------
        ValueError
            Not K columns.
        """
        if gaussians.ndim != 2 or gaussians.shape[1] != self.offsets[-1]:
            raise ValueError(f"columns {gaussians.shape} do not fit {self.offsets[-1]} Gaussians")
        found = np.empty((len(gaussians), self.num_pdfs), gaussians.dtype)
        _sum_gaussians(gaussians, self.offsets, found)
        return found

    def log_likelihoods(self, features: np.ndarray) -> np.ndarray:
        """Return ln p(frame | density) (T, P) of features (T, D), computed in blocks of frames to save memory.

        >>> Mixtures.flat(3, np.zeros(1), np.ones(1)).log_likelihoods(np.zeros((2, 1))).shape
        (2, 3)
        """
        found = np.empty((len(features), self.num_pdfs), features.dtype)
        weights, constants = self._expanded(features.dtype)
        for start in range(0, len(features), BLOCK_FRAMES):
            block = slice(start, start + BLOCK_FRAMES)
            _sum_gaussians(_squares(features[block]) @ weights + constants, self.offsets, found[block])
        return found

    def log_likelihoods_within(self, features: np.ndarray, pdfs: np.ndarray, spans: np.ndarray) -> np.ndarray:
        """Return ln p(frame | density) (T, N) of densities (N,) in the frames of their spans alone, −inf in others.

        Parameters
        ----------
        features : (T, D)
            Computed with as float32.
        pdfs : (N,)
            Numbers of densities, which may recur.
        spans : (N, 2)
            First frame of each, and that after the last one, within 0..T.

        Examples
        --------
        >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
        >>> mixtures.log_likelihoods_within(np.zeros((2, 1)), np.array([0, 0]), np.array([[0, 2], [1, 2]])).round(3)
        array([[-0.919,   -inf],
               [-0.919, -0.919]])
        """
        found = np.full((len(features), len(pdfs)), -np.inf)
        columns = np.ascontiguousarray(features.T, np.float32)
        terms = np.empty((int(np.diff(self.offsets).max()), len(features)), np.float32)
        _score_spans(columns, pdfs, spans, self.offsets, self._centred, terms, found)
        return found

    @cached_property
    def _centred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means, halved precisions (K, D) and constants (K,), float32."""
        constants = np.log(self.weights_) - 0.5 * np.log(2 * np.pi * self.covars_).sum(axis=1)
        means, precisions, heights = (each.astype(np.float32) for each in (self.means_, 0.5 / self.covars_, constants))
        return means, precisions, heights

    def select(self, pdfs: np.ndarray) -> tuple["Mixtures", np.ndarray]:
        """Return some of the densities, and the indices of their Gaussians.

        >>> mixtures = Mixtures(np.array([0, 1, 3]), np.array([1, 0.5, 0.5]), np.zeros((3, 1)), np.ones((3, 1)))
        >>> mixtures.select(np.array([1]))[1].tolist()
        [1, 2]
        """
        sizes = np.diff(self.offsets)[pdfs]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        index = np.repeat(self.offsets[pdfs] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Mixtures(offsets, self.weights_[index], self.means_[index], self.covars_[index]), index


@dataclass(frozen=True, eq=False)
class Statistics:
    """What an E step collects for each Gaussian: its share of the frames, their sums and sums of squares."""

    occupancy: np.ndarray  # (K,)
    sums: np.ndarray  # (K, D)
    squares: np.ndarray  # (K, D)

    @classmethod
    def empty(cls, mixtures: Mixtures) -> "Statistics":
        """Return zeros.

        >>> Statistics.empty(Mixtures.flat(3, np.zeros(2), np.ones(2))).sums.shape
        (3, 2)
        """
        shape = mixtures.means_.shape
        return cls(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def add(
        self,
        features: np.ndarray,
        gaussians: np.ndarray,
        scores: np.ndarray,
        offsets: np.ndarray,
        index: np.ndarray,
        posteriors: np.ndarray,
        pdfs: np.ndarray,
    ) -> None:
        """Add an utterance, which may have only some of the densities and Gaussians of these statistics.

        Parameters
        ----------
        features : (T, D)
        gaussians : (T, K')
            From `Mixtures.gaussians`.
        scores : (T, P')
            From `Mixtures.scores`.
        offsets : (P' + 1,)
            Offsets of the mixtures that computed both.
        index : (K',)
            Number of each of their Gaussians in these statistics.
        posteriors : (T, N)
            Posterior of each state in each frame.
        pdfs : (N,)
            Density of each state, in 0..P' − 1.

        Raises
        ------
        ValueError
            The arrays do not fit each other or these statistics.
        """
        num_frames, (num_gaussians, num_values) = len(features), self.sums.shape
        fits = (
            features.shape == (num_frames, num_values)
            and gaussians.shape == (num_frames, len(index)) == (num_frames, offsets[-1])
            and scores.shape == (num_frames, len(offsets) - 1)
            and posteriors.shape == (num_frames, len(pdfs))
            and _lie_in(index, num_gaussians)
            and _lie_in(pdfs, len(offsets) - 1)
        )
        if not fits:
            shapes = ", ".join(str(each.shape) for each in (features, gaussians, scores, posteriors))
            raise ValueError(
                f"features, Gaussians, scores and posteriors {shapes} of {len(index)} Gaussians and {len(pdfs)} states "
                f"do not fit statistics {self.sums.shape}"
            )
        statistics = (self.occupancy, self.sums, self.squares)
        _accumulate(features, gaussians, scores, offsets, index, posteriors, pdfs, statistics)

    def __iadd__(self, other: "Statistics") -> "Statistics":
        for name in ("occupancy", "sums", "squares"):
            ours = getattr(self, name)
            ours += getattr(other, name)
        return self


def estimate(mixtures: Mixtures, statistics: Statistics, floor: np.ndarray) -> Mixtures:
    """M step: Rabiner 1989, eq. 52–54, with floored variances.

    A Gaussian that accounts for fewer than three frames is dropped, except for the largest of its density, which keeps
    its mean and variance if it accounts for no frames.

    Parameters
    ----------
    mixtures
        The present mixtures.
    statistics
        Result of the E step.
    floor : (D,)
        Lower bounds of the variances.

    Examples
    --------
    >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
    >>> statistics = Statistics.empty(mixtures)
    >>> frames = np.array([[1.0], [2.0], [3.0]])
    >>> gaussians = mixtures.gaussians(frames)
    >>> only = np.zeros(1, int)
    >>> scores = mixtures.scores(gaussians)
    >>> statistics.add(frames, gaussians, scores, mixtures.offsets, only, np.ones((3, 1)), only)
    >>> found = estimate(mixtures, statistics, np.full(1, 0.01))
    >>> found.means_.round(3).tolist(), found.covars_.round(3).tolist()
    ([[2.0]], [[0.667]])
    """
    keep, sizes = [], []
    for first, last in zip(mixtures.offsets[:-1], mixtures.offsets[1:], strict=True):
        occupancy = statistics.occupancy[first:last]
        enough = np.flatnonzero(occupancy >= FEWEST_FRAMES)
        kept = first + (enough if len(enough) else np.array([occupancy.argmax()]))
        keep.append(kept)
        sizes.append(len(kept))
    index, offsets = np.concatenate(keep), np.concatenate(([0], np.cumsum(sizes)))
    seen = np.maximum(statistics.occupancy[index], 1e-10)
    heard = (statistics.occupancy[index] > FEWEST_FRAMES * 1e-3)[:, None]
    means = np.where(heard, statistics.sums[index] / seen[:, None], mixtures.means_[index])
    variances = np.where(heard, statistics.squares[index] / seen[:, None] - means**2, mixtures.covars_[index])
    totals = np.add.reduceat(seen, offsets[:-1])
    weights = seen / np.repeat(totals, sizes)
    return Mixtures(offsets, weights, means, np.maximum(variances, floor))


def split(mixtures: Mixtures, statistics: Statistics, num_gaussians: int) -> Mixtures:
    """Split Gaussians until there are `num_gaussians`, always the one that accounts for most frames.

    Parameters
    ----------
    mixtures
        Mixtures estimated from the statistics' frames.
    statistics
        Their occupancies give the number of frames of each density.
    num_gaussians
        Maximum number of Gaussians of all densities together.

    Examples
    --------
    >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
    >>> statistics = Statistics(np.array([100.0]), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> split(mixtures, statistics, 2).means_.tolist()
    [[0.2], [-0.2]]
    """
    owner = np.repeat(np.arange(mixtures.num_pdfs), np.diff(mixtures.offsets)).tolist()
    frames = np.add.reduceat(statistics.occupancy, mixtures.offsets[:-1])
    weights, means = mixtures.weights_.tolist(), [mean.copy() for mean in mixtures.means_]
    variances = list(mixtures.covars_)
    while len(weights) < num_gaussians:
        load = np.array(weights) * frames[owner]
        largest = int(load.argmax())
        if load[largest] < 2 * FEWEST_FRAMES:
            break
        shift = SPLIT_DISTANCE * np.sqrt(variances[largest])
        weights[largest] /= 2
        weights.append(weights[largest])
        means.append(means[largest] - shift)
        means[largest] = means[largest] + shift
        variances.append(variances[largest])
        owner.append(owner[largest])
    order = np.argsort(owner, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=mixtures.num_pdfs))))
    return Mixtures(offsets, np.array(weights)[order], np.array(means)[order], np.array(variances)[order])


def _lie_in(numbers: np.ndarray, count: int) -> bool:
    return numbers.min(initial=0) >= 0 and numbers.max(initial=-1) < count


def _squares(features: np.ndarray) -> np.ndarray:
    return np.concatenate((features, np.square(features)), axis=1)


def _sum_gaussians(gaussians: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> None:
    """Write ln of the sum of each density's Gaussians (T, K) to scores (T, P)."""
    below = np.empty_like(gaussians)
    _subtract_peaks(gaussians, offsets, below, scores)
    np.exp(below, out=below)  # NumPy's runs over vector lanes, Numba's does not
    _add_logs(below, offsets, scores)


@njit(cache=True, nogil=True)
def _subtract_peaks(gaussians, offsets, below, peaks):
    for t in range(len(gaussians)):
        for p in range(len(offsets) - 1):
            peak = gaussians[t, offsets[p]]
            for k in range(offsets[p] + 1, offsets[p + 1]):
                peak = max(peak, gaussians[t, k])
            for k in range(offsets[p], offsets[p + 1]):
                below[t, k] = gaussians[t, k] - peak
            peaks[t, p] = peak


@njit(cache=True, nogil=True)
def _add_logs(terms, offsets, scores):
    for t in range(len(terms)):
        for p in range(len(offsets) - 1):
            total = 0.0
            for k in range(offsets[p], offsets[p + 1]):
                total += terms[t, k]
            scores[t, p] += np.log(total)


@njit(cache=True, nogil=True)
def _score_spans(columns, pdfs, spans, offsets, centred, terms, scores):
    """Write ln p(frame | density) of features (D, T) to scores (T, N) in the span of each density."""
    means, precisions, constants = centred
    for n in range(len(pdfs)):
        first, stop = spans[n, 0], spans[n, 1]
        begin, end = offsets[pdfs[n]], offsets[pdfs[n] + 1]
        for k in range(begin, end):
            row = terms[k - begin, : stop - first]
            for t in range(len(row)):
                row[t] = constants[k]
            for d in range(len(columns)):
                values, mean, precision = columns[d, first:stop], means[k, d], precisions[k, d]
                for t in range(len(row)):  # side by side in vector lanes
                    distance = values[t] - mean
                    row[t] -= precision * distance * distance
        for t in range(stop - first):
            peak, total = terms[0, t], 0.0
            for g in range(1, end - begin):
                peak = max(peak, terms[g, t])
            for g in range(end - begin):
                if terms[g, t] - peak > NEGLIGIBLE:
                    total += math.exp(terms[g, t] - peak)
            scores[first + t, n] = peak + math.log(total)


@njit(cache=True, nogil=True)
def _accumulate(features, gaussians, scores, offsets, index, posteriors, pdfs, statistics):
    occupancy, sums, squares = statistics
    num_values = features.shape[1]
    shares = np.zeros(len(offsets) - 1)
    for t in range(len(features)):
        shares[:] = 0.0
        for j in range(len(pdfs)):
            shares[pdfs[j]] += posteriors[t, j]
        for p in range(len(shares)):
            if shares[p] < LEAST_POSTERIOR:
                continue
            for k in range(offsets[p], offsets[p + 1]):
                share = shares[p] * np.exp(gaussians[t, k] - scores[t, p])
                n = index[k]
                occupancy[n] += share
                for d in range(num_values):
                    value = share * features[t, d]
                    sums[n, d] += value
                    squares[n, d] += value * features[t, d]
