"""Gaussian mixtures with diagonal covariances, one for each density: likelihoods, statistics, estimation, splitting.

Letters: T frames, D values a frame, P densities, K Gaussians of all densities in a row, G of one density.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

FEWEST_FRAMES = 3.0  # that a Gaussian must account for; with fewer it is dropped, unless it is its density's last
VARIANCE_FLOOR = 0.01  # of the variance of all frames
SPLIT_DISTANCE = 0.2  # standard deviations that the halves of a Gaussian are moved apart, to each side


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Emission densities.

    Attributes
    ----------
    offsets : (P + 1,) int64
        Density p has the Gaussians from offsets[p] up to offsets[p + 1].
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
        """Return one Gaussian a density, all alike: the flat start, where nothing is known but the frames' moments.

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

        The exponent is expanded, so that nearly all of it is one matrix product.

        >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
        >>> mixtures.gaussians(np.array([[0.0], [1.0]])).round(3).tolist()
        [[-0.919], [-1.419]]
        """
        precisions = 1 / self.covars_
        constants = np.log(self.weights_) - 0.5 * (
            np.log(2 * np.pi * self.covars_).sum(axis=1) + (self.means_**2 * precisions).sum(axis=1)
        )
        both = np.concatenate((features, features**2), axis=1)
        return both @ np.concatenate((self.means_ * precisions, -0.5 * precisions), axis=1).T + constants

    def scores(self, gaussians: np.ndarray) -> np.ndarray:
        """Return ln p(frame | density) (T, P) from what `gaussians` gives."""
        found = np.empty((len(gaussians), self.num_pdfs))
        _sum_gaussians(gaussians, self.offsets, found)
        return found


@dataclass(frozen=True, eq=False)
class Statistics:
    """What an E step collects: of each Gaussian the frames it accounts for, their sums and sums of squares."""

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
        mixtures: Mixtures,
        posteriors: np.ndarray,
    ) -> None:
        """Add an utterance.

        Parameters
        ----------
        features : (T, D)
        gaussians : (T, K)
            From `Mixtures.gaussians`.
        scores : (T, P)
            From `Mixtures.scores`.
        mixtures
            That made both.
        posteriors : (T, P)
            Of each density in each frame.
        """
        fields = (self.occupancy, self.sums, self.squares)
        _accumulate(features, gaussians, scores, mixtures.offsets, posteriors, *fields)  # type: ignore[call-arg]

    def __iadd__(self, other: "Statistics") -> "Statistics":
        for name in ("occupancy", "sums", "squares"):
            ours = getattr(self, name)
            ours += getattr(other, name)
        return self


def estimate(mixtures: Mixtures, statistics: Statistics, floor: np.ndarray) -> Mixtures:
    """M step: Rabiner 1989, eq. 52–54, with floored variances.

    A Gaussian that accounts for fewer than three frames is dropped, but for the largest of its density, which then
    keeps its mean and variance if it accounts for none.

    Parameters
    ----------
    mixtures
        As they were.
    statistics
        Of the E step.
    floor : (D,)
        Least variances.

    Examples
    --------
    >>> mixtures = Mixtures.flat(1, np.zeros(1), np.ones(1))
    >>> statistics = Statistics.empty(mixtures)
    >>> frames = np.array([[1.0], [2.0], [3.0]])
    >>> gaussians = mixtures.gaussians(frames)
    >>> statistics.add(frames, gaussians, mixtures.scores(gaussians), mixtures, np.ones((3, 1)))
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
    """Grow to at most so many Gaussians: again and again the one that accounts for most frames becomes two.

    Parameters
    ----------
    mixtures
        Estimated from the statistics' frames.
    statistics
        Whose occupancies say how many frames each density has.
    num_gaussians
        Of all densities together, K.

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


@njit(cache=True, nogil=True)
def _sum_gaussians(gaussians, offsets, scores):
    for t in range(len(gaussians)):
        for p in range(len(offsets) - 1):
            peak = -np.inf
            for k in range(offsets[p], offsets[p + 1]):
                peak = max(peak, gaussians[t, k])
            total = 0.0
            for k in range(offsets[p], offsets[p + 1]):
                total += np.exp(gaussians[t, k] - peak)
            scores[t, p] = peak + np.log(total)


@njit(cache=True, nogil=True)
def _accumulate(features, gaussians, scores, offsets, posteriors, occupancy, sums, squares):
    num_values = features.shape[1]
    for t in range(len(features)):
        for p in range(len(offsets) - 1):
            if posteriors[t, p] < 1e-8:
                continue
            for k in range(offsets[p], offsets[p + 1]):
                share = posteriors[t, p] * np.exp(gaussians[t, k] - scores[t, p])
                occupancy[k] += share
                for d in range(num_values):
                    value = share * features[t, d]
                    sums[k, d] += value
                    squares[k, d] += value * features[t, d]
