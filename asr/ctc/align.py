"""Alignment of known labels with CTC posteriors: by the likeliest path, or by all paths together."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from asr.core import workers
from asr.core.errors import InfeasibleError
from asr.ctc.align_kernels import START, STOP, best_paths, workspace_size
from asr.ctc.arguments import check_feasible, check_log_priors, check_log_probs, check_targets, check_values
from asr.ctc.sum_kernels import memory_size, state_posteriors

HALF = 0.5 + 1e-9  # a sum of exactly one half may differ from 0.5 in its last bits


@dataclass(frozen=True, eq=False)
class TokenAlignment:
    """The labels of an utterance and the frames of each; blanks lie between them.

    Attributes
    ----------
    tokens : (L,)
        The labels.
    starts, ends : (L,)
        First frame of each label, and the frame after its last one.
    confidences : (L,)
        Geometric mean of each label's posterior over its frames, in 0..1; not calibrated.
    score : float
        Natural log probability, with the log priors subtracted: of the best path for `forced_align`, of all paths
        together for `soft_align`.
    """

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    confidences: np.ndarray
    score: float


def forced_align(
    log_probs: np.ndarray,
    targets: np.ndarray,
    input_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    blank: int = 0,
    log_priors: ArrayLike | None = None,
) -> list[TokenAlignment]:
    """Find the likeliest path that spells the targets (Viterbi over the 2L + 1 states of Graves et al. 2006, fig. 3).

    A CTC network emits each label in a few frames only. They show where it decided on the label, not how long the sound
    lasts. Label priors spread labels over more frames (Huang et al. 2024).

    Parameters
    ----------
    log_probs : (T, B, C)
        Natural logs.
    targets : (B, S) padded, or (sum of target_lengths,) concatenated
        Integers in 0..C − 1 other than the blank.
    input_lengths : (B,), optional
        Number of frames of each utterance; T by default.
    target_lengths : (B,), optional
        Number of labels of each utterance; S by default.
    blank
        Index of the blank.
    log_priors : (C,), optional
        Natural logs of the classes' priors, times a scale; they are subtracted from log_probs.

    Returns
    -------
    list of TokenAlignment

    Raises
    ------
    ValueError
        Shapes, lengths, labels or the blank do not fit, or a log probability of the blank or a label is NaN or above 0.
    InfeasibleError
        An utterance has too few frames for its labels, or a label has probability zero.

    Examples
    --------
    >>> probs = np.array([[[0.1, 0.9]], [[0.2, 0.8]], [[0.7, 0.3]], [[0.4, 0.6]]])
    >>> aligned = forced_align(np.log(probs), np.array([[1, 1]]))[0]
    >>> aligned.starts.tolist(), aligned.ends.tolist()
    ([0, 3], [2, 4])
    """
    batch = _Batch.of(log_probs, targets, input_lengths, target_lengths, blank, log_priors)
    count, most = len(batch.symbols), batch.symbols.shape[1] - 1
    shapes = np.array([np.arange(count), batch.input_lengths, batch.target_lengths])
    frames, confidences, scores = np.zeros((count, most, 3), np.int64), np.empty((count, most)), np.empty(count)
    size = workspace_size(batch.input_lengths, batch.target_lengths)
    found = frames, confidences, scores
    workers.run(best_paths, count, size, batch.log_probs, batch.symbols, shapes, batch.log_priors, found)
    alignments = []
    for b, (length, score) in enumerate(zip(batch.target_lengths.tolist(), scores.tolist(), strict=True)):
        if not score > -np.inf:
            batch.raise_infeasible(b)
        starts, ends = frames[b, :length, START], frames[b, :length, STOP]
        tokens = batch.symbols[b, 1 : length + 1].astype(np.int64)
        alignments.append(TokenAlignment(tokens, starts, ends, confidences[b, :length], score))
    return alignments


def soft_align(
    log_probs: np.ndarray,
    targets: np.ndarray,
    input_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    blank: int = 0,
    log_priors: ArrayLike | None = None,
) -> list[TokenAlignment]:
    """Place each label by the posteriors of all paths that spell the targets.

    A label starts in the first frame by which more than half of the probability has reached it, and ends in the first
    frame by which more than half has left it. These are medians, so the expected error of a boundary is least.

    Parameters, return value and errors are those of `forced_align`.

    Examples
    --------
    >>> probs = np.array([[[0.1, 0.9]], [[0.2, 0.8]], [[0.7, 0.3]], [[0.4, 0.6]]])
    >>> aligned = soft_align(np.log(probs), np.array([[1, 1]]))[0]
    >>> aligned.starts.tolist(), aligned.ends.tolist()
    ([0, 3], [2, 4])
    """
    batch = _Batch.of(log_probs, targets, input_lengths, target_lengths, blank, log_priors)
    alignments = []
    for b in range(len(batch.symbols)):
        score, blanks, labels = batch.state_posteriors(b)
        tokens = batch.symbols[b, 1 : labels.shape[1]].astype(np.int64)
        reached = np.cumsum((blanks + labels)[:, ::-1], axis=1)[:, ::-1]  # probability to be at label s or past it
        starts, ends = ((edge[:, 1:] <= HALF).sum(axis=0) for edge in (reached, reached - labels))
        means = [
            batch.log_probs[start:end, b, token].mean(dtype=np.float64)
            for token, start, end in zip(tokens, starts, ends, strict=True)
        ]
        alignments.append(TokenAlignment(tokens, starts, ends, np.exp(means), score))
    return alignments


def ctc_posteriors(
    log_probs: np.ndarray,
    targets: np.ndarray,
    input_lengths: ArrayLike | None = None,
    target_lengths: ArrayLike | None = None,
    blank: int = 0,
    log_priors: ArrayLike | None = None,
) -> np.ndarray:
    """Return the posterior of every symbol in every frame, given that the path spells the targets.

    That is −1 × the gradient of the loss with respect to log_probs (Graves et al. 2006, eq. 14–15).

    Parameters and errors are those of `forced_align`.

    Returns
    -------
    (T, B, C)
        float64; each frame of an utterance sums to 1, and frames after its end are 0.

    Examples
    --------
    >>> probs = np.array([[[0.4, 0.6]], [[0.5, 0.5]]])  # of 1-1, 1-blank and blank-1: 0.3, 0.3 and 0.2
    >>> ctc_posteriors(np.log(probs), np.array([[1]]))[:, 0].round(3).tolist()
    [[0.25, 0.75], [0.375, 0.625]]
    """
    batch = _Batch.of(log_probs, targets, input_lengths, target_lengths, blank, log_priors)
    posteriors = np.zeros(batch.log_probs.shape)
    for b, have in enumerate(batch.input_lengths):
        _, blanks, labels = batch.state_posteriors(b)
        symbols = batch.symbols[b, : labels.shape[1]]
        labels[:, 0] = blanks.sum(axis=1)
        for s, symbol in enumerate(symbols.tolist()):  # many times as fast as np.add.at
            posteriors[:have, b, symbol] += labels[:, s]
    return posteriors


class _Batch(NamedTuple):
    """Validated arguments; symbols (B, 1 + S) hold the blank, then the labels."""

    log_probs: np.ndarray
    symbols: np.ndarray
    input_lengths: np.ndarray
    target_lengths: np.ndarray
    log_priors: np.ndarray

    @classmethod
    def of(
        cls,
        log_probs: np.ndarray,
        targets: np.ndarray,
        input_lengths: ArrayLike | None,
        target_lengths: ArrayLike | None,
        blank: int,
        log_priors: ArrayLike | None,
    ) -> "_Batch":
        log_probs, frames = check_log_probs(log_probs, input_lengths, blank)
        check_values(log_probs, frames)
        _, batch, num_classes = log_probs.shape
        symbols, labels = check_targets(np.asarray(targets), target_lengths, batch, num_classes, blank)
        return cls(log_probs, symbols, frames, labels, check_log_priors(log_priors, num_classes))

    def state_posteriors(self, b: int) -> tuple[float, np.ndarray, np.ndarray]:
        """Return ln p of utterance b's labels, and the posteriors of its blanks and labels, both (T, 1 + L)."""
        have, end = self.input_lengths[b], self.target_lengths[b] + 1
        symbols = self.symbols[b, :end]
        log_probs = np.ascontiguousarray(self.log_probs[:have, b, symbols] - self.log_priors[symbols])
        score, states = 0.0 if have == 0 and end == 1 else -np.inf, np.empty((0, 2, end))
        if have > 0 and log_probs.max() < np.inf:  # false for NaN too
            score, states = state_posteriors(log_probs, symbols, np.empty(memory_size(have, end + 1)))
        if not score > -np.inf:
            self.raise_infeasible(b)
        return score, states[:, 0, :end], states[:, 1, :end]

    def raise_infeasible(self, b: int) -> None:
        """Raise the error that says why utterance b has no alignment."""
        check_values(self.log_probs, self.input_lengths)
        check_feasible(self.symbols, self.input_lengths, self.target_lengths)
        raise InfeasibleError(f"utterance {b} cannot have its labels: they have probability 0")
