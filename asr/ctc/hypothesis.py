"""What a decoder returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hypothesis:
    """A decoded label sequence of length L.

    Attributes
    ----------
    tokens : tuple of int, length L
        Indices of the classes, without blanks.
    timesteps : tuple of int, length L
        The output frame in which each token peaks: rising, one for each.
    score : float
        Natural log probability: of the path for `best_path`, of the labelling over all its paths in the beam for
        `beam_search`.
    """

    tokens: tuple[int, ...]
    timesteps: tuple[int, ...]
    score: float


def check_log_probs(
    log_probs: np.ndarray, input_lengths: np.ndarray | None, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return log_probs (T, B, C) as contiguous float32 or float64, and lengths (B,) as int64; without them, T for all.

    Raises
    ------
    ValueError
        A wrong shape, a length outside 0..T, a blank outside 0..C − 1, or a NaN or +inf, naming utterance and frame.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 3 or log_probs.dtype.kind != "f":
        raise ValueError(f"log_probs must be floating, of shape (T, B, C), not {log_probs.dtype} {log_probs.shape}")
    log_probs = np.ascontiguousarray(log_probs, np.float64 if log_probs.dtype == np.float64 else np.float32)
    num_frames, batch, num_classes = log_probs.shape
    if not 0 <= blank < num_classes:
        raise ValueError(f"blank {blank} is not one of the {num_classes} classes")
    lengths = np.full(batch, num_frames) if input_lengths is None else np.asarray(input_lengths)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu" or ((lengths < 0) | (lengths > num_frames)).any():
        raise ValueError(f"input_lengths must be {batch} integers in 0..{num_frames}, not {lengths!r}")
    bad = ~(log_probs < np.inf).all(axis=2) & (np.arange(num_frames)[:, None] < lengths)
    if bad.any():
        frame, utterance = np.argwhere(bad)[0]
        value = "NaN" if np.isnan(log_probs[frame, utterance]).any() else "+inf"
        raise ValueError(f"log_probs of utterance {utterance} hold {value} in frame {frame}")
    return log_probs, lengths.astype(np.int64)
