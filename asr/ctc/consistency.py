"""Consistency of two views: a network should say the same of an utterance, whatever is masked in it."""

import torch
from torch import Tensor

from asr.ctc.arguments import check_lengths
from asr.ctc.loss import Lengths, as_array


def consistency_loss(logits: Tensor, others: Tensor, input_lengths: Lengths) -> Tensor:
    """Return how far two views of each utterance disagree: the mean of the Kullback-Leibler divergences both ways.

        loss(b) = ½ Σ over t of [ KL( ȳ′(t) ‖ y(t) ) + KL( ȳ(t) ‖ y′(t) ) ]      y, y′: softmax; ȳ: y without gradient

    Each view is drawn to the other as it stands. Added to CTC with a weight of 0.2, it keeps spikes from becoming too
    sure, and makes the network infer what a mask hides from what is beside it. Source: Z. Yao et al., "CR-CTC:
    Consistency regularization on CTC for improved speech recognition", ICLR 2025, equations 3 and 4.

    Parameters
    ----------
    logits, others : (T, B, C)
        Of the same utterances in two views. Frames beyond an utterance's length may hold anything.
    input_lengths : (B,)
        Number of frames of each utterance.

    Returns
    -------
    (B,)
        In nats, float32, or float64 where the logits are.

    Raises
    ------
    ValueError
        Shapes or lengths do not fit.

    Examples
    --------
    >>> logits = torch.tensor([[[0.0, 0.0]], [[0.0, 3.0]]])
    >>> consistency_loss(logits, logits, [2]).tolist(), consistency_loss(logits, -logits, [1]).tolist()
    ([0.0], [0.0])
    """
    if logits.ndim != 3 or logits.shape != others.shape:
        raise ValueError(f"two views have equal shapes (T, B, C), not {tuple(logits.shape)} and {tuple(others.shape)}")
    frames = check_lengths("input_lengths", as_array(input_lengths), logits.shape[1], logits.shape[0])
    lengths = torch.as_tensor(frames, device=logits.device)
    inside = torch.arange(len(logits), device=logits.device)[:, None] < lengths
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    one, other = (each.masked_fill(~inside[:, :, None], 0).log_softmax(dim=2, dtype=kind) for each in (logits, others))
    # Σ [ȳ′ (ln ȳ′ − ln y) + ȳ (ln ȳ − ln y′)]: without a gradient through the weights, nor through ln ȳ
    still, other_still = one.detach(), other.detach()
    divergence = other_still.exp() * (other_still - one) + still.exp() * (still - other)
    return divergence.sum(dim=2).sum(dim=0) / 2
