"""The CTC loss as a function of torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.ctc.lock import KERNEL_LOCK
from asr.ctc.loss_kernels import forward_backward

Lengths = Tensor | Sequence[int]


def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification: −ln p(targets | logits), with its gradient (Graves et al. 2006).

    The signature and the meaning are those of `torch.nn.functional.ctc_loss`, except that the softmax is part of the
    loss: logits and log-probabilities give the same loss, and each its right gradient.

    Parameters
    ----------
    logits : (T, B, C)
        Floating; computed in float64 on the CPU, wherever the tensor lies.
    targets : (B, S) padded, or (sum of target_lengths,) concatenated
        Integers in 0..C − 1 other than the blank.
    input_lengths : (B,)
        Frames of each utterance, at most T.
    target_lengths : (B,)
        Labels of each utterance.
    blank
        Index of the blank.
    reduction
        ``none``; ``sum``; or ``mean``: each loss by its number of labels (at least 1), then the mean over utterances.
    zero_infinity
        Count an utterance with too few frames as 0 and not as infinity; its gradient is 0 either way.

    Returns
    -------
    Tensor
        (B,) for ``none``, else a scalar; in the dtype of the logits (float32 for half types), in nats.

    Raises
    ------
    ValueError
        Shapes, lengths or labels do not fit; the message names the utterance's index.
    RuntimeError
        A second derivative is asked for: there is none.

    Examples
    --------
    >>> logits = torch.zeros(2, 1, 3)  # 2 frames, 3 classes: "a", "aa", "a-", "-a" have 1/9 each, "aa" collapses to "a"
    >>> round(ctc_loss(logits, torch.tensor([[1]]), [2], [1]).exp().item(), 3)
    3.0
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be none, mean or sum, not {reduction!r}")
    if logits.ndim != 3 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, of shape (T, B, C), not {logits.dtype} {tuple(logits.shape)}")
    num_frames, batch, num_classes = logits.shape
    if not 0 <= blank < num_classes:
        raise ValueError(f"blank {blank} is not one of the {num_classes} classes")
    frames = _lengths("input_lengths", input_lengths, batch, num_frames)
    if targets.ndim not in (1, 2) or targets.is_floating_point():
        raise ValueError(f"targets must be integers, (B, S) or in a row, not {targets.dtype} {tuple(targets.shape)}")
    widest = targets.shape[-1]
    labels = _lengths("target_lengths", target_lengths, batch, widest)
    padded = _padded(targets, labels)
    for b in range(batch):
        used = padded[b, : labels[b]]
        if ((used < 0) | (used >= num_classes) | (used == blank)).any():
            raise ValueError(
                f"target {b} has a label outside 0..{num_classes - 1}, or the blank {blank}: {used.tolist()}"
            )
    losses = _CTCLoss.apply(logits, padded, frames, labels, blank)
    if zero_infinity:
        losses = torch.where(torch.isinf(losses), torch.zeros_like(losses), losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    return (losses / torch.from_numpy(np.maximum(labels, 1)).to(losses)).mean()


def _lengths(name: str, lengths: Lengths, batch: int, most: int) -> np.ndarray:
    values = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
    if values.shape != (batch,) or values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {batch} integers, not {values.dtype} of shape {values.shape}")
    values = values.astype(np.int64)
    for b in np.flatnonzero((values < 0) | (values > most)):
        raise ValueError(f"{name}[{b}] is {values[b]}, which is not in 0..{most}")
    return values


def _padded(targets: Tensor, lengths: np.ndarray) -> np.ndarray:
    """Return targets as (B, S) int64, whichever of the two forms they come in."""
    values = targets.detach().cpu().numpy().astype(np.int64)
    if values.ndim == 2:
        if len(values) != len(lengths):
            raise ValueError(f"targets have {len(values)} rows for {len(lengths)} utterances")
        return np.ascontiguousarray(values)
    if len(values) != lengths.sum():
        raise ValueError(
            f"concatenated targets hold {len(values)} labels, but the target_lengths add up to {lengths.sum()}"
        )
    padded = np.zeros((len(lengths), max(lengths, default=0)), np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = values
    return padded


class _CTCLoss(torch.autograd.Function):
    """Losses (B,); the gradient falls out of the forward pass and is kept for the backward one."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: np.ndarray, frames: np.ndarray, labels: np.ndarray, blank: int
    ) -> Tensor:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        values = np.ascontiguousarray(logits.detach().to("cpu", dtype).numpy())
        losses, grads = np.empty(values.shape[1], values.dtype), np.zeros_like(values)
        with KERNEL_LOCK:
            forward_backward(values, targets, frames, labels, blank, losses, grads)
        ctx.save_for_backward(torch.from_numpy(grads).to(logits.device))
        return torch.from_numpy(losses).to(logits.device)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: the gradient is a constant here, and would pass for one silently
            raise RuntimeError("ctc_loss has no second derivative: do without create_graph=True")
        (grads,) = ctx.saved_tensors
        # float32 for half types too, and autograd rounds the product: a loss scaler's factor can be beyond float16,
        # and rescues gradients that are below it
        return (grads * grad_outputs[0][None, :, None].to(grads), None, None, None, None)
