"""Linear transforms of features for Gaussians with diagonal covariances: LDA over neighbouring frames, then MLLT.

LDA finds the directions that separate the densities best: R. Haeb-Umbach and H. Ney, "Linear discriminant analysis for
improved large vocabulary continuous speech recognition", ICASSP 1992. MLLT then transforms these values so that
they are nearly uncorrelated within a Gaussian. It is the semi-tied covariance of M. J. F. Gales, "Semi-tied covariance
matrices for hidden Markov models", IEEE Transactions on Speech and Audio Processing 7(3), 1999, with one matrix for all
Gaussians, used as a transform of the features. Kaldi's system "tri2" has both.

Letters: T frames, F values of an input frame, W values of a spliced frame, D values of an output frame, P densities,
K Gaussians of all densities.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from asr.core.errors import CorpusError
from asr.core.jit import njit
from asr.hmm.mixtures import Mixtures

SINGULAR = 1e-10  # share of the largest variance below which a variance counts as 0


@dataclass(frozen=True, eq=False)
class Transform:
    """Transform of features: splicing, then an affine map.

    Attributes
    ----------
    context : int
        Frames spliced to each side.
    num_statics : int
        Number of columns of the features that are used, W / (2 · context + 1), from the first; the others, such as Δ,
        repeat what neighbouring frames say.
    matrix : (D, W)
    offset : (D,)

    Examples
    --------
    >>> differences = Transform(1, 1, np.array([[-0.5, 0.0, 0.5]]), np.zeros(1))
    >>> differences(np.array([[1.0, 9.0], [2.0, 9.0], [4.0, 9.0]])).tolist()
    [[0.5], [1.5], [1.0]]
    """

    context: int
    num_statics: int
    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the transformed features (T, D), float32, for features (T, F)."""
        spliced = splice(features[:, : self.num_statics].astype(np.float32, copy=False), self.context)
        return spliced @ self.matrix.T.astype(np.float32) + self.offset.astype(np.float32)

    def then(self, matrix: np.ndarray) -> "Transform":
        """Return this transform followed by a matrix (D, D), such as MLLT's.

        >>> Transform(0, 1, np.array([[2.0]]), np.ones(1)).then(np.array([[3.0]]))(np.array([[1.0]])).tolist()
        [[9.0]]
        """
        return Transform(self.context, self.num_statics, matrix @ self.matrix, matrix @ self.offset)


def splice(features: np.ndarray, context: int) -> np.ndarray:
    """Return frames t − context … t + context side by side, for each t.

    Parameters
    ----------
    features : (T, F)
    context : int
        Frames to each side. Beyond the ends the first and the last frame are repeated.

    Returns
    -------
    (T, (2 · context + 1) · F)
        The earliest frame first.

    Raises
    ------
    ValueError
        There are no frames, or `context` is negative.

    Examples
    --------
    >>> splice(np.array([[1, 10], [2, 20], [3, 30]]), 1).tolist()
    [[1, 10, 1, 10, 2, 20], [1, 10, 2, 20, 3, 30], [2, 20, 3, 30, 3, 30]]
    """
    if context < 0 or len(features) == 0:
        raise ValueError(f"{len(features)} frames cannot be spliced with {context} to each side")
    num_values = features.shape[1]
    flat = np.pad(features, ((context, context), (0, 0)), mode="edge").ravel()
    windows = np.lib.stride_tricks.sliding_window_view(flat, (2 * context + 1) * num_values)
    return windows[::num_values].copy()  # a copy, as NumPy multiplies overlapping rows without BLAS


@dataclass(frozen=True, eq=False)
class LdaStatistics:
    """Moments of spliced frames: count and sum for each class, and the sum of x xᵀ over all classes."""

    counts: np.ndarray  # (P,)
    sums: np.ndarray  # (P, W)
    squares: np.ndarray  # (W, W)

    @classmethod
    def empty(cls, num_classes: int, num_values: int) -> "LdaStatistics":
        """Return zeros.

        >>> LdaStatistics.empty(3, 2).sums.shape
        (3, 2)
        """
        return cls(np.zeros(num_classes), np.zeros((num_classes, num_values)), np.zeros((num_values, num_values)))

    def add(self, spliced: np.ndarray, pdfs: np.ndarray) -> None:
        """Add an utterance's frames, or some of them, as Kaldi leaves out silence.

        Parameters
        ----------
        spliced : (T, W)
            From `splice`.
        pdfs : (T,) int64
            Class of each frame: the density that it is aligned with.
        """
        if len(pdfs) == 0:
            return
        frames = spliced.astype(np.float64, copy=False)
        firsts = np.flatnonzero(np.diff(pdfs, prepend=-1))  # an alignment's frames come in runs of one class
        np.add.at(self.sums, pdfs[firsts], np.add.reduceat(frames, firsts, axis=0))
        np.add.at(self.counts, pdfs, 1)
        self.squares[:] += frames.T @ frames

    def __iadd__(self, other: "LdaStatistics") -> "LdaStatistics":
        for name in ("counts", "sums", "squares"):
            ours = getattr(self, name)
            ours += getattr(other, name)
        return self


def lda(statistics: LdaStatistics, num_values: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the directions in which the classes' means vary most relative to the frames within the classes.

    The rows of the matrix solve B v = λ S v for the largest λ, where S is the covariance within the classes, pooled,
    and B that of their means (Haeb-Umbach and Ney). Transformed frames have mean 0 and, within the classes,
    covariance 1: λ is the variance of the classes' means in the direction.

    Parameters
    ----------
    statistics
        Moments of the frames; classes without frames do not count.
    num_values : int
        Number of directions to keep, D. Directions beyond the number of classes minus one do not separate classes.

    Returns
    -------
    matrix : (D, W)
        The best direction first.
    offset : (D,)
        To be added after the matrix.

    Raises
    ------
    CorpusError
        The frames within classes do not vary in some direction: there are too few, or a value is constant or a linear
        combination of others.
    ValueError
        More directions are requested than the frames have values.

    Examples
    --------
    >>> statistics = LdaStatistics.empty(2, 2)
    >>> frames = np.array([[0.0, 9.0], [0.0, -9.0], [2.0, 9.0], [2.0, -9.0], [-2.0, 3.0], [4.0, -3.0]])
    >>> statistics.add(frames, np.array([0, 0, 1, 1, 0, 1]))
    >>> matrix, offset = lda(statistics, 1)
    >>> (abs(matrix[0, 0]) > 5 * abs(matrix[0, 1])).item()  # the classes differ in the first value
    True
    """
    width = len(statistics.squares)
    if not 0 < num_values <= width:
        raise ValueError(f"{num_values} directions cannot be taken from {width} values")
    num_frames = max(statistics.counts.sum(), 1.0)
    counts = statistics.counts[:, None]
    mean = statistics.sums.sum(axis=0) / num_frames
    away = np.where(counts > 0, statistics.sums / np.maximum(counts, 1) - mean, 0)
    between = (counts * away).T @ away / num_frames
    within = statistics.squares / num_frames - np.outer(mean, mean) - between
    _check_regular(within, "LDA", int(statistics.counts.sum()))
    _, directions = scipy.linalg.eigh(between, within)
    matrix = directions[:, ::-1][:, :num_values].T
    return matrix, -matrix @ mean


def most_likely(mixtures: Mixtures, features: np.ndarray, pdfs: np.ndarray) -> np.ndarray:
    """Return the most probable Gaussian (T,) of each frame, in 0 … K − 1, among those of the frame's density.

    Parameters
    ----------
    mixtures
    features : (T, D)
    pdfs : (T,) int64
        Density that each frame is aligned with.

    Raises
    ------
    ValueError
        Features and alignment do not fit each other or the mixtures.

    Examples
    --------
    >>> means = np.array([[9.0], [0.0], [9.0]])
    >>> mixtures = Mixtures(np.array([0, 1, 3]), np.array([1.0, 0.5, 0.5]), means, np.ones((3, 1)))
    >>> most_likely(mixtures, np.array([[8.0], [8.0], [1.0]]), np.array([0, 1, 1])).tolist()
    [0, 2, 1]
    """
    low, high = pdfs.min(initial=0), pdfs.max(initial=0)
    if features.shape != (len(pdfs), mixtures.means_.shape[1]) or low < 0 or high >= mixtures.num_pdfs:
        raise ValueError(
            f"features {features.shape} and {len(pdfs)} densities in {low}..{high} do not fit {mixtures.num_pdfs} "
            f"densities of {mixtures.means_.shape[1]} values"
        )
    found = np.empty(len(features), np.int64)
    fields = (mixtures.offsets, mixtures.weights_, mixtures.means_, mixtures.covars_)
    _most_likely(features, pdfs, *fields, found)  # type: ignore[call-arg]
    return found


@dataclass(eq=False)
class MlltStatistics:
    """Statistics G_i = Σ_k W_k / σ²_ki, with W_k the scatter of Gaussian k's frames and σ²_ki its variance in value i.

    Attributes
    ----------
    num_frames : int
    scatters : (D, D, D)
        G_i of Gales is ``scatters[i]``.
    """

    num_frames: int
    scatters: np.ndarray

    @classmethod
    def empty(cls, num_values: int) -> "MlltStatistics":
        """Return zeros.

        >>> MlltStatistics.empty(2).scatters.shape
        (2, 2, 2)
        """
        return cls(0, np.zeros((num_values, num_values, num_values)))

    def add(self, features: np.ndarray, gaussians: np.ndarray, mixtures: Mixtures) -> None:
        """Add an utterance's frames; a part of them, such as every fourth frame, suffices.

        Parameters
        ----------
        features : (T, D)
        gaussians : (T,) int64
            Gaussian of each frame, from `most_likely`.
        mixtures
            The mixtures that these are numbered in.
        """
        away = features - mixtures.means_[gaussians]
        scales = np.sqrt(1 / mixtures.covars_[gaussians].T)
        for scatter, scale in zip(self.scatters, scales, strict=True):
            scaled = away * scale[:, None]
            scatter += scaled.T @ scaled
        self.num_frames += len(features)

    def __iadd__(self, other: "MlltStatistics") -> "MlltStatistics":
        self.num_frames += other.num_frames
        self.scatters += other.scatters
        return self


def mllt(statistics: MlltStatistics, num_iterations: int = 100) -> np.ndarray:
    """Find the matrix A that maximises the likelihood of the frames if features and means are multiplied by it.

    The Gaussians keep their variances. Each row of A is optimised in turn while the others are fixed: with c the row of
    cofactors, a_i = c G_i⁻¹ · √(num_frames / (c G_i⁻¹ cᵀ)) (Gales). So no step lowers `mllt_objective`.

    Parameters
    ----------
    statistics
    num_iterations : int
        Number of passes over all rows.

    Returns
    -------
    (D, D)

    Raises
    ------
    CorpusError
        The frames do not vary in some direction: there are too few, or a value is constant or a linear combination of
        others.

    Examples
    --------
    >>> mllt(MlltStatistics(8, np.array([[[2.0]]]))).tolist()  # the variance is 1/4 of the model's: double the values
    [[2.0]]
    """
    for scatter in statistics.scatters:
        _check_regular(scatter, "MLLT", statistics.num_frames)
    inverses = np.linalg.inv(statistics.scatters)
    matrix = np.eye(len(inverses))
    for _ in range(num_iterations):
        for i, inverse in enumerate(inverses):
            # Row i of cofactors divided by the determinant: its length cancels, and the determinant stays positive.
            cofactors = np.linalg.solve(matrix, np.eye(len(matrix))[i])
            row = inverse @ cofactors
            matrix[i] = row * np.sqrt(statistics.num_frames / (cofactors @ row))
    return matrix


def mllt_objective(matrix: np.ndarray, statistics: MlltStatistics) -> float:
    """Return num_frames · ln |det A| − ½ Σ a_i G_i a_iᵀ, the frames' log likelihood up to a constant.

    The first term comes from the Jacobian: without it, shrinking all features would look like a gain.

    >>> round(mllt_objective(np.array([[2.0]]), MlltStatistics(8, np.array([[[2.0]]]))), 3)  # 8 ln 2 − 4
    1.545
    """
    spread = np.einsum("ij,ijk,ik->", matrix, statistics.scatters, matrix)
    return float(statistics.num_frames * np.linalg.slogdet(matrix)[1] - 0.5 * spread)


def transform_means(mixtures: Mixtures, matrix: np.ndarray) -> Mixtures:
    """Return the mixtures for features that were multiplied by MLLT's matrix (D, D).

    Variances are kept, as in Kaldi. They are those that `mllt` assumed, so that the likelihood of the aligned frames
    under their Gaussians, plus ln |det A| for each frame, does not fall. Variances estimated from a part of the frames
    could lower the likelihood of the others; the next pass of training estimates them from all.

    >>> transform_means(Mixtures.flat(1, np.ones(2), np.ones(2)), np.diag([2.0, 3.0])).means_.tolist()
    [[2.0, 3.0]]
    """
    return Mixtures(mixtures.offsets, mixtures.weights_, mixtures.means_ @ matrix.T, mixtures.covars_)


def _check_regular(scatter: np.ndarray, stage: str, num_frames: int) -> None:
    variances = np.linalg.eigvalsh(scatter)
    rank = int((variances > SINGULAR * variances[-1]).sum())
    if rank < len(variances):
        raise CorpusError(
            f"{stage}: within their classes {num_frames} frames vary in {rank} of {len(variances)} directions only: "
            "train on more speech, or leave out features that are constant or follow from others"
        )


@njit(cache=True, nogil=True)
def _most_likely(features, pdfs, offsets, weights, means, covars, found):
    constants = np.full(len(weights), np.nan)  # computed on demand, as an utterance needs few of the Gaussians
    for t in range(len(features)):
        peak = -np.inf
        found[t] = offsets[pdfs[t]]
        for k in range(offsets[pdfs[t]], offsets[pdfs[t] + 1]):
            if np.isnan(constants[k]):
                constants[k] = np.log(weights[k]) - 0.5 * np.log(covars[k]).sum()
            distance = 0.0
            for d in range(features.shape[1]):
                away = features[t, d] - means[k, d]
                distance += away * away / covars[k, d]
            score = constants[k] - 0.5 * distance
            if score > peak:
                peak = score
                found[t] = k
