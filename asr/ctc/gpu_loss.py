"""The CTC loss of tensors on a GPU: what `asr.ctc.loss_kernels` does elsewhere, by `asr.ctc.gpu_loss_kernels`."""

import math

import numpy as np
import torch
import triton
from torch import Tensor

from asr.ctc import gpu_loss_kernels as kernels

BLOCK = 1024  # classes that a program reads at once, at most


def losses_and_gradient(
    logits: Tensor, symbols: np.ndarray, lengths: np.ndarray, log_weights: np.ndarray, scales: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return scales × losses (B,) in float64, and the gradient (T, B, C) of their sum.

    Parameters
    ----------
    logits : (T, B, C)
        On a GPU.
    symbols : (B, 1 + L)
        The blank, then the labels.
    lengths : (B, 2)
        Frames and labels.
    log_weights : (C,)
        Added to the log softmax.
    scales : (B,)

    Returns
    -------
    losses : (B,)
        +inf without a path, NaN where the logits of an utterance hold NaN or +inf.
    grads : (T, B, C)
        Float32, or float64 as the logits are.
    """
    with torch.cuda.device_of(logits):
        return _launch(logits, symbols, lengths, log_weights, scales)


def _launch(
    logits: Tensor, symbols: np.ndarray, lengths: np.ndarray, log_weights: np.ndarray, scales: np.ndarray
) -> tuple[Tensor, Tensor]:
    (num_frames, batch, num_classes), width = logits.shape, symbols.shape[1]
    kind, device = torch.float64 if logits.dtype == torch.float64 else torch.float32, logits.device
    grads = torch.empty_like(logits, dtype=kind)
    if logits.numel() == 0 or batch == 0:
        return torch.from_numpy(np.where(lengths[:, 1] > 0, np.inf, 0.0)).to(device), grads
    fixed, walked = _without_frames(symbols, lengths)
    tables = lengths[:, 0], walked, lengths[:, 1], symbols, *_classes(symbols, lengths)
    (scale, known, weights), integers = on_device(device, (scales, fixed, log_weights), tables)
    frames, walked_frames, labels, rows, classes, starts, positions, used = integers
    size = {"W": lanes(width), "BLOCK": min(BLOCK, lanes(num_classes))}
    mantissas, exponents = numbers((batch, num_frames, width), kind, device)
    norms, sums = torch.empty((2, batch, num_frames), dtype=torch.float64, device=device)
    grid = num_frames, batch
    kernels.emit[grid](
        logits, *logits.stride(), num_classes, num_frames, frames, labels, rows, width, weights, norms, sums,
        mantissas, exponents, width, **size, num_warps=4,
    )  # fmt: skip
    found, found_exponents = numbers((batch, num_frames, 2, width), kind, device)
    kept = numbers((batch, 2, 2, width), kind, device)
    units = torch.zeros(batch, dtype=torch.int64, device=device)
    wholes = torch.zeros(batch, dtype=torch.int32, device=device)
    for is_second in (False, True):
        kernels.walk[batch, 2](
            walked_frames, labels, rows, mantissas, exponents, num_frames, width, found, found_exponents, *kept,
            units, wholes, is_second, size["W"], num_warps=max(1, min(8, size["W"] // 64)),
        )  # fmt: skip
    losses = -log_totals(units, wholes, norms).where(sums.isfinite().all(1), torch.nan)
    losses = losses.where(known.isnan(), known)
    kernels.write_gradient[grid](
        logits, *logits.stride(), grads, *grads.stride(), num_classes, num_frames, frames, labels, rows, losses,
        scale, sums, found, width, classes, starts, positions, used, **size, num_warps=4,
    )  # fmt: skip
    return losses * scale, grads


def on_device(
    device: torch.device, doubles: tuple[np.ndarray, ...], integers: tuple[np.ndarray, ...]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return float64 and int32 arrays as flat tensors of a device, copied at once, which does not wait for it."""
    arrays: list[np.ndarray] = [np.asarray(each, np.float64) for each in doubles]
    arrays += [np.asarray(each, np.int32) for each in integers]
    flat = [array.reshape(-1).view(np.int32) for array in arrays]
    packed = torch.from_numpy(np.concatenate(flat)).to(device, non_blocking=True)
    parts = packed.split([len(each) for each in flat])
    return [part.view(torch.float64) for part in parts[: len(doubles)]], list(parts[len(doubles) :])


def lanes(count: int) -> int:
    """Return how many lanes a program has for so many numbers: few different ones, since each means a compilation."""
    return max(32, triton.next_power_of_2(count))


def numbers(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return room for mantissas and exponents."""
    return torch.empty(shape, dtype=kind, device=device), torch.empty(shape, dtype=torch.int32, device=device)


def log_totals(units: Tensor, wholes: Tensor, norms: Tensor) -> Tensor:
    """Return the logs of totals (B,), given in units of 2^-40, times 2^wholes, times the norms of all frames (B, T)."""
    return units.double().log() + (wholes - 40 + norms.sum(1)) * math.log(2)


def _without_frames(symbols: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses (B,) that frames alone decide, else NaN, and how many frames are to be walked through (B,)."""
    frames, labels = lengths.T
    repeats = (symbols[:, 2:] == symbols[:, 1:-1]) & (np.arange(2, symbols.shape[1]) <= labels[:, None])
    is_impossible = frames < labels + repeats.sum(1)
    return np.where(is_impossible, np.inf, np.where(frames == 0, 0.0, np.nan)), np.where(is_impossible, 0, frames)


def _classes(symbols: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the classes of each target's labels (B, 1 + L), and how many there are (B,).

    Between, where the labels of each class start in an order (B, 1 + L), and that order (B, 1 + L).
    """
    (batch, width), num_labels = symbols.shape, lengths[:, 1]
    inside = np.arange(1, width) <= num_labels[:, None]
    kind = np.int16 if symbols.max(initial=0) < np.iinfo(np.int16).max else np.int64  # numpy sorts short ones faster
    labels = np.where(inside, symbols[:, 1:].astype(kind), np.iinfo(kind).max)
    order = np.argsort(labels, axis=1, kind="stable")
    ordered = np.take_along_axis(labels, order, 1)
    is_first = (np.diff(ordered, axis=1, prepend=kind(-1)) != 0) & inside
    rows, places = np.nonzero(is_first)
    which = np.cumsum(is_first, axis=1)[rows, places] - 1
    classes, starts, positions = np.zeros((3, batch, width), np.int32)
    classes[rows, which], starts[rows, which], positions[:, : width - 1] = ordered[rows, places], places, order + 1
    used = is_first.sum(axis=1)
    starts[np.arange(batch), used] = num_labels
    return classes, starts, positions, used
