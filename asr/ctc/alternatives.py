"""The loss of a text whose words have several pronunciations: the paths of all of them, in place of one labelling's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.ctc.arguments import check_lengths
from asr.ctc.crf import log_partitions
from asr.ctc.denominator import Denominator
from asr.ctc.loss import Lengths, as_array


def alternatives_loss(
    logits: Tensor,
    alternatives: Sequence[Denominator],
    input_lengths: Lengths,
    denominator: Denominator | None = None,
) -> Tensor:
    """Negative log probability that one of several label sequences was said, with its gradient.

        loss = ln Z − ln Σ over the labellings of the text, and over the paths of each, of p(labels) · Π y

    y is the softmax of the logits, and p the weight of a label sequence. Without a denominator Z is 1, and the loss is
    CTC's (Graves et al. 2006, equation 14) summed over labellings; with one it is that of `crf_loss`. The gradient is
    the posteriors of the classes among all paths less those among the paths of the text, so that the network itself
    weighs the pronunciations: expectation and maximisation with every step.

    Parameters
    ----------
    logits : (T, B, C)
        Floating point, on any device; the loss is computed on the CPU in float64.
    alternatives : (B,)
        The label sequences of each utterance and their weights, as `Denominator.restricted` makes them: of the
        denominator, or, without one, of `Denominator.unweighted`.
    input_lengths : (B,)
        Number of frames of each utterance, at most T.
    denominator
        Weights of all label sequences; None for CTC.

    Returns
    -------
    Tensor
        (B,) in nats, float64 for logits of float64, else float32. Infinite, with a gradient of 0, where no labelling
        has a path; NaN where the logits of an utterance hold NaN or +inf.

    Raises
    ------
    ValueError
        Shapes, lengths or classes do not fit.

    Examples
    --------
    >>> either = Denominator.unweighted(3).restricted([[[1], [2]]])
    >>> logits = torch.zeros(2, 1, 3)  # 9 paths, three of which spell 1, and three 2
    >>> round(alternatives_loss(logits, [either], [2]).exp().item(), 3)
    1.5
    """
    if logits.ndim != 3 or not logits.is_floating_point():
        raise ValueError(f"logits must be floating, of shape (T, B, C), not {logits.dtype} {tuple(logits.shape)}")
    num_frames, batch, num_classes = logits.shape
    if len(alternatives) != batch:
        raise ValueError(f"there are alternatives of {len(alternatives)} utterances, and logits of {batch}")
    for each in (*alternatives, *([] if denominator is None else [denominator])):
        if each.num_classes != num_classes:
            raise ValueError(f"weights are for {each.num_classes} classes, the logits have {num_classes}")
    frames = check_lengths("input_lengths", as_array(input_lengths), batch, num_frames)
    values = logits.to("cpu", torch.float64)
    inside = torch.arange(num_frames)[:, None, None] < torch.from_numpy(frames)[:, None]
    is_number = ~((values.isnan() | values.isposinf()) & inside).any(dim=2).any(dim=0)
    spelt = log_partitions(values, frames, is_number, alternatives)
    possible = is_number & spelt.isfinite()
    totals = 0.0 if denominator is None else log_partitions(values, frames, possible, [denominator] * batch)
    losses = (totals - spelt).where(possible, torch.inf).where(is_number, torch.nan)
    return losses.to(logits.device, torch.float64 if logits.dtype == torch.float64 else torch.float32)
