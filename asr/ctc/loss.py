"""The CTC loss as a function of torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.core import workers
from asr.ctc import gpu
from asr.ctc.arguments import check_blank, check_feasible, check_lengths, check_log_priors, check_targets
from asr.ctc.loss_kernels import forward_backward, workspace_size

Lengths = Tensor | Sequence[int] | np.ndarray


def ctc_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    infeasible: str = "inf",
    log_priors: Tensor | None = None,
) -> Tensor:
    """Connectionist temporal classification: −ln p(targets | logits), with its gradient (Graves et al. 2006).

    The signature and the meaning are those of `torch.nn.functional.ctc_loss`, except that the softmax is part of the
    loss: logits and log-probabilities give the same loss, each with its correct gradient.

    Parameters
    ----------
    logits : (T, B, C), or (T, C) for one utterance
        Floating point, on any device. On a CUDA device the loss is computed there, in the type of the logits (float32
        for half types), where Triton works, which comes with torch on Linux; elsewhere on the CPU, in float64.
    targets : (B, S) padded, or (sum of target_lengths,) concatenated
        Integers in 0..C − 1 other than the blank.
    input_lengths : (B,)
        Number of frames of each utterance, at most T.
    target_lengths : (B,)
        Number of labels of each utterance.
    blank
        Index of the blank.
    reduction
        ``none``, ``sum`` or ``mean``: each loss is divided by its number of labels (at least 1), then averaged over
        utterances.
    zero_infinity
        Give an utterance without a path a loss of 0 instead of infinity; its gradient is 0 either way.
    infeasible
        What happens to an utterance with fewer frames than labels and repeats: its loss is infinite (``inf``), or an
        error is raised (``raise``).
    log_priors : (C,), optional
        Natural logs that are subtracted from the log-probabilities before paths are summed. Those of the classes'
        priors, times a scale, make spikes wider and their times more accurate (Huang et al. 2024, "Less peaky and more
        accurate CTC forced alignment by label priors").

    Returns
    -------
    Tensor
        (B,) for ``none`` (a scalar for one utterance), else a scalar; in the dtype of the logits (float32 for half
        types), in nats. NaN or +inf among an utterance's logits make its loss and gradient NaN, as in torch, and those
        of no other utterance. A probability below e^(−10^10) in a frame counts as 0, such as that of a class whose
        logit is masked with −1e30; on a CUDA device one below e^(−10^8).

    Raises
    ------
    ValueError
        Shapes, lengths or labels do not fit; the message names the utterance's index.
    InfeasibleError
        An utterance has too few frames, and `infeasible` is ``raise``; the message names index and counts.
    RuntimeError
        A second derivative is requested, which is not implemented.

    Examples
    --------
    >>> logits = torch.zeros(2, 1, 3)  # 2 frames, 3 classes: "a", "aa", "a-", "-a" have 1/9 each, "aa" collapses to "a"
    >>> round(ctc_loss(logits, torch.tensor([[1]]), [2], [1]).exp().item(), 3)
    3.0
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be none, mean or sum, not {reduction!r}")
    if logits.ndim == 2:
        frames, labels = as_array(input_lengths).reshape(-1), as_array(target_lengths).reshape(-1)
        options = blank, reduction, zero_infinity, infeasible, log_priors
        row = torch.atleast_2d(torch.as_tensor(targets))
        return ctc_loss(logits[:, None], row, frames, labels, *options).reshape(())
    is_mean = reduction == "mean"
    args = targets, input_lengths, target_lengths, blank, is_mean, zero_infinity, infeasible, log_priors
    losses = ctc_losses(logits, *args).to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    return losses if reduction == "none" else losses.sum()


def ctc_losses(
    logits: Tensor,
    targets: Tensor | np.ndarray,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    is_mean: bool = False,
    zero_infinity: bool = False,
    infeasible: str = "inf",
    log_priors: Tensor | None = None,
) -> Tensor:
    """Return the loss of each utterance (B,) as `ctc_loss` does, or what it adds to their mean, in float64."""
    if infeasible not in ("inf", "raise"):
        raise ValueError(f"infeasible must be inf or raise, not {infeasible!r}")
    if logits.ndim != 3 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, of shape (T, B, C), not {logits.dtype} {tuple(logits.shape)}")
    num_frames, batch, num_classes = logits.shape
    check_blank(blank, num_classes)
    frames = check_lengths("input_lengths", as_array(input_lengths), batch, num_frames)
    symbols, labels = check_targets(as_array(targets), as_array(target_lengths), batch, num_classes, blank)
    if infeasible == "raise":
        check_feasible(symbols, frames, labels)
    priors = check_log_priors(None if log_priors is None else as_array(log_priors), num_classes)
    scales = np.ones(batch)
    if is_mean:
        scales /= np.maximum(labels, 1) * batch
    return _CTCLoss.apply(logits, symbols, np.stack([frames, labels], 1), scales, priors, zero_infinity)


def as_array(values: Any) -> np.ndarray:
    """Return a tensor's values, or those of a sequence, as an array."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has no bfloat16


class _CTCLoss(torch.autograd.Function):
    """Scaled losses (B,); the forward pass computes their gradient too, and keeps it for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        symbols: np.ndarray,
        lengths: np.ndarray,
        scales: np.ndarray,
        log_priors: np.ndarray,
        zero_infinity: bool,
    ) -> Tensor:
        if gpu.serves(logits):
            from asr.ctc import gpu_loss  # Triton is needed where there is a GPU

            on_gpu, gradient = gpu_loss.losses_and_gradient(logits.detach(), symbols, lengths, -log_priors, scales)
            ctx.save_for_backward(gradient)
            return on_gpu.masked_fill(on_gpu == torch.inf, 0.0) if zero_infinity else on_gpu
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        values = np.ascontiguousarray(logits.detach().to("cpu", dtype).numpy())
        # numpy's memory instead of torch's: numpy asks the system for huge pages, which are allocated many times faster
        losses, grads = np.empty(len(lengths)), np.empty_like(values)
        size = workspace_size(len(values), symbols.shape[1] - 1, values.shape[2])
        least = log_priors.min()
        log_weights = least - log_priors  # at most 0, so that the kernel's bounds hold
        found = losses, grads
        workers.run(forward_backward, len(lengths), size, values, symbols, lengths, log_weights, scales, found)
        losses = (losses + lengths[:, 0] * least) * scales
        if zero_infinity:
            losses[losses == np.inf] = 0.0
        ctx.save_for_backward(torch.from_numpy(grads).to(logits.device))
        return torch.from_numpy(losses).to(logits.device, dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: the gradient would silently count as a constant
            raise RuntimeError("ctc_loss has no second derivative: do without create_graph=True")
        (grads,) = ctx.saved_tensors
        (factors,) = grad_outputs
        # float32 for half types too; autograd rounds the product. A loss scaler's factor can exceed float16, and saves
        # gradients that are too small for it.
        if factors.is_cuda or not (factors == 1).all():  # to look would be to wait for the GPU
            grads = grads * factors[None, :, None].to(grads)
        return (grads, None, None, None, None, None)
