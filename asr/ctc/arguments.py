"""Validation of the arguments of this package's functions, and their conversion to what the kernels take."""

import numpy as np
from numpy.typing import ArrayLike

from asr.core.errors import InfeasibleError

ROUNDING = 1e-3  # by how much a log softmax may be above 0, that of half precision too


def check_log_probs(
    log_probs: np.ndarray, input_lengths: ArrayLike | None, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return log_probs (T, B, C) as contiguous float32 or float64, and lengths (B,) as int64, by default T for all.

    Raises
    ------
    ValueError
        A wrong shape, a length outside 0..T, or a blank outside 0..C − 1.
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 3 or log_probs.dtype.kind != "f":
        raise ValueError(f"log_probs must be floating, of shape (T, B, C), not {log_probs.dtype} {log_probs.shape}")
    # writeable, because a read-only array is another type to Numba and compiles the kernel again
    dtype = np.float64 if log_probs.dtype.itemsize > 4 else np.float32
    log_probs = np.require(log_probs, dtype, ["C", "W"])
    num_frames, batch, _ = log_probs.shape
    check_blank(blank, log_probs.shape[2])
    return log_probs, check_lengths("input_lengths", input_lengths, batch, num_frames)


def check_values(log_probs: np.ndarray, lengths: np.ndarray) -> None:
    """Raise ValueError, naming utterance and frame, for what is no log probability in log_probs (T, B, C).

    That is NaN, and what is above 0 by more than a softmax rounds: +inf, probabilities, logits. Frames after the end
    of an utterance do not matter.
    """
    if log_probs.max(initial=-np.inf) <= ROUNDING:  # so it is not with NaN
        return
    bad = ~(log_probs <= ROUNDING).all(axis=2) & (np.arange(len(log_probs))[:, None] < lengths)
    for frame, utterance in np.argwhere(bad):
        row = log_probs[frame, utterance]
        value = "NaN" if np.isnan(row).any() else "+inf" if np.isposinf(row).any() else f"{row.max():.3g}"
        more = "" if value in ("NaN", "+inf") else ", which is no log probability: give the log of a softmax"
        raise ValueError(f"log_probs of utterance {utterance} hold {value} in frame {frame}{more}")


def check_blank(blank: int, num_classes: int) -> None:
    """Raise ValueError if the blank is not one of the classes."""
    if not 0 <= blank < num_classes:
        raise ValueError(f"blank {blank} is not one of the {num_classes} classes")


def check_lengths(name: str, lengths: ArrayLike | None, batch: int, most: int) -> np.ndarray:
    """Return lengths (B,) as int64, by default the maximum for all.

    Raises
    ------
    ValueError
        Not B integers in 0..most.
    """
    if lengths is None:
        return np.full(batch, most)
    values = np.asarray(lengths)
    if values.shape != (batch,) or (values.dtype.kind not in "iu" and batch > 0):
        raise ValueError(f"{name} must be {batch} integers, not {values.dtype} of shape {values.shape}")
    outside = (values < 0) | (values > most)
    if outside.any():
        b = outside.argmax()
        raise ValueError(f"{name}[{b}] is {values[b]}, which is not in 0..{most}")
    return values.astype(np.int64)


def check_targets(
    targets: np.ndarray, target_lengths: ArrayLike | None, batch: int, num_classes: int, blank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols (B, 1 + S), the blank before each target's labels, and lengths (B,), by default S for all.

    Targets are padded, (B, S), or concatenated.

    Raises
    ------
    ValueError
        Shapes or lengths do not fit, or a label is the blank or outside 0..C − 1; the message names the utterance.
    """
    if targets.ndim not in (1, 2) or targets.dtype.kind not in "iu":
        raise ValueError(f"targets must be integers, (B, S) or in a row, not {targets.dtype} {targets.shape}")
    if targets.ndim == 2 and len(targets) != batch:
        raise ValueError(f"targets have {len(targets)} rows for {batch} utterances")
    most = targets.shape[-1]
    lengths = check_lengths("target_lengths", target_lengths, batch, most)
    if targets.ndim == 1 and len(targets) != lengths.sum():
        raise ValueError(
            f"concatenated targets hold {len(targets)} labels, but the target_lengths add up to {lengths.sum()}"
        )
    used = np.arange(max(lengths.tolist(), default=0)) < lengths[:, None]
    symbols = np.full((batch, 1 + used.shape[1]), blank, np.uintp)
    labels = targets if targets.ndim == 1 else targets[:, : used.shape[1]][used]
    symbols[:, 1:][used] = labels
    if np.count_nonzero(symbols >= num_classes) or np.count_nonzero(labels == blank):  # unsigned, −1 is the largest
        b = np.nonzero(used)[0][((labels < 0) | (labels >= num_classes) | (labels == blank)).argmax()]
        row = np.split(labels, np.cumsum(lengths))[b].tolist()
        raise ValueError(f"target {b} has a label outside 0..{num_classes - 1}, or the blank {blank}: {row}")
    return symbols, lengths


def check_feasible(symbols: np.ndarray, input_lengths: np.ndarray, target_lengths: np.ndarray) -> None:
    """Raise InfeasibleError for the first utterance with too few frames for its labels, naming its index and counts."""
    repeats = (symbols[:, 2:] == symbols[:, 1:-1]) & (np.arange(1, symbols.shape[1] - 1) < target_lengths[:, None])
    needed = target_lengths + repeats.sum(axis=1)
    for b in np.flatnonzero(input_lengths < needed):
        raise InfeasibleError(
            f"utterance {b} has {input_lengths[b]} frames; its {target_lengths[b]} labels need {needed[b]}, "
            "a blank between two equal ones included"
        )


def check_log_priors(log_priors: ArrayLike | None, num_classes: int) -> np.ndarray:
    """Return log_priors (C,) as float64, by default zeros.

    Raises
    ------
    ValueError
        Not C finite numbers.
    """
    values = np.zeros(num_classes) if log_priors is None else np.array(log_priors, np.float64)
    if values.shape != (num_classes,) or not np.isfinite(values).all():
        raise ValueError(f"log_priors must be {num_classes} finite numbers, not {values.tolist()}")
    return values
