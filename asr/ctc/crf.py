"""The CTC-CRF loss as a function of torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.ctc import gpu
from asr.ctc.arguments import check_lengths, check_targets
from asr.ctc.denominator import Denominator
from asr.ctc.loss import Lengths, as_array, ctc_losses
from asr.ctc.partition import partition


def crf_loss(
    logits: Tensor,
    targets: Tensor,
    input_lengths: Lengths,
    target_lengths: Lengths,
    denominator: Denominator,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    infeasible: str = "inf",
    ctc_weight: float = 0.0,
) -> Tensor:
    """Conditional random field over the paths of CTC: −ln p(targets | logits), normalised over whole label sequences.

        loss = ln Z − ln Σ over the paths of the targets of p(targets) · Π y      Z: the same sum over all paths

    p is the denominator's weight of a label sequence, y the softmax of the logits. Whatever is added to all logits of a
    frame cancels out, so logits and log-probabilities give the same loss and the same gradient: posteriors of the
    classes among all paths less those among the paths of the targets (H. Xiang and Z. Ou, "CRF-based single-stage
    acoustic modeling with CTC topology", ICASSP 2019).

    Arguments, errors, and what is returned are those of `ctc_loss`, except for the following.

    Parameters
    ----------
    logits, targets, input_lengths, target_lengths, blank, reduction, zero_infinity, infeasible
        As for `ctc_loss`. The loss of targets that the denominator gives no weight is infinite too.
    denominator
        Weights of all label sequences, such as `asr.lm.fusion.denominator` makes of an n-gram. They need not sum to 1:
        e^−loss does, over all targets.
    ctc_weight
        So many times the loss of `ctc_loss` is added.

    Raises
    ------
    ValueError
        The denominator has other classes or another blank; else as for `ctc_loss`.

    Examples
    --------
    >>> from asr.ctc import TokenModel
    >>> model = TokenModel(np.log([[1.0, 0.5, 0.5]]), np.zeros((1, 3), int), np.zeros(1))
    >>> logits = torch.zeros(2, 1, 3)  # of 9 paths 1 spells nothing, 6 one label and 2 two: 1 + 6 / 2 + 2 / 4 = 4.5
    >>> round(crf_loss(logits, torch.tensor([[1]]), [2], [1], Denominator.of(model)).exp().item(), 3)  # 4.5 / (3 / 2)
    3.0
    """
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be none, mean or sum, not {reduction!r}")
    if not 0 <= ctc_weight < np.inf:
        raise ValueError(f"ctc_weight must be a number from 0, not {ctc_weight}")
    if logits.ndim == 2:
        both = as_array(input_lengths).reshape(-1), as_array(target_lengths).reshape(-1)
        row, utterance = torch.atleast_2d(torch.as_tensor(targets)), logits[:, None]
        return crf_loss(
            utterance, row, *both, denominator, blank, reduction, zero_infinity, infeasible, ctc_weight
        ).reshape(())
    # In float64 to the end, since loss and gradient are differences. `ctc_losses` checks all arguments.
    on_gpu = gpu.serves(logits) and len(denominator.automaton.leaving.offsets) <= gpu.MOST_NODES
    values = logits.to("cpu", torch.float64) if logits.is_floating_point() and not on_gpu else logits
    spelt, counts, lengths = (as_array(each) for each in (targets, input_lengths, target_lengths))
    numerators = ctc_losses(values, spelt, counts, lengths, blank, infeasible=infeasible)
    num_frames, batch, num_classes = logits.shape
    if (num_classes, blank) != (denominator.num_classes, denominator.blank):
        raise ValueError(
            f"the denominator is for {denominator.num_classes} classes with blank {denominator.blank}, "
            f"the logits have {num_classes} with blank {blank}"
        )
    frames = check_lengths("input_lengths", counts, batch, num_frames)
    symbols, labels = check_targets(spelt, lengths, batch, num_classes, blank)
    rows = np.stack([denominator.log_probs(symbols, labels), np.maximum(labels, 1) * batch])
    scores, divisors = torch.from_numpy(rows).to(values.device, non_blocking=True)
    possible = torch.isfinite(numerators) & torch.isfinite(scores)
    partitions = log_partitions(values, frames, possible, [denominator] * batch)
    losses = (1 + ctc_weight) * numerators + (partitions - scores)
    losses = losses.where(possible | numerators.isnan(), torch.inf)
    if zero_infinity:
        losses = losses.masked_fill(losses.isposinf(), 0.0)
    if reduction == "mean":
        losses = losses / divisors
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    losses = losses.to(logits.device, dtype)
    return losses if reduction == "none" else losses.sum()


def log_partitions(
    logits: Tensor, lengths: np.ndarray, possible: Tensor, denominators: Sequence[Denominator]
) -> Tensor:
    """Return ln Z (B,) in float64 of the utterances that are possible, and 0 of others.

    Parameters
    ----------
    logits : (T, B, C)
        In float64, unless a GPU serves them; of what is possible without NaN and +inf.
    lengths, possible : (B,)
        Number of frames, and truth values on the device of the logits.
    denominators : (B,)
        On a GPU all the same.
    """
    return _LogPartition.apply(logits, lengths, possible, denominators)


class _LogPartition(torch.autograd.Function):
    """ln Z (B,); the forward pass computes the gradient too."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, lengths: np.ndarray, possible: Tensor, denominators: Sequence[Denominator]
    ) -> Tensor:
        if not denominators:
            ctx.save_for_backward(torch.zeros_like(logits))
            return logits.new_zeros(0, dtype=torch.float64)
        if gpu.serves(logits):
            from asr.ctc import gpu_automaton  # Triton is needed where there is a GPU

            found, gradient = gpu_automaton.partition(logits.detach(), possible, lengths, denominators[0])
            ctx.save_for_backward(gradient)
            return found
        values = np.ascontiguousarray(logits.detach().numpy())
        automata = [each.automaton for each in denominators]
        totals, grads = partition(values, np.flatnonzero(possible.numpy()), lengths, automata)
        ctx.save_for_backward(torch.from_numpy(grads))
        return torch.from_numpy(totals)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph: the gradient would silently count as a constant
            raise RuntimeError("crf_loss has no second derivative: do without create_graph=True")
        (grads,) = ctx.saved_tensors
        (factors,) = grad_outputs
        return (grads * factors[:, None].to(grads), None, None, None)
