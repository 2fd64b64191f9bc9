"""Loss and gradient of ours, and of torch's, which works in logarithms in float64."""

import torch

from asr.ctc import ctc_loss


def loss_and_gradient(logits, *args, **kwargs):
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    loss = ctc_loss(leaf, *args, **kwargs)
    loss.sum().backward()
    return loss.detach(), leaf.grad


def torch_loss_and_gradient(logits, *args, **kwargs):
    leaf = logits.detach().double().clone().requires_grad_()
    loss = torch.nn.functional.ctc_loss(leaf.log_softmax(2), *args, **kwargs)
    loss.sum().backward()
    return loss.detach(), leaf.grad


def torch_loss_with_priors(logits, log_priors, targets, frames, lengths, blank=0):
    """Torch's losses of log-probabilities less log-priors, and their gradient.

    Torch's gradient is right only at normalised log-probabilities (pytorch#52241), so what normalises them is apart.
    """
    leaf = logits.detach().clone().requires_grad_()
    scores = leaf.log_softmax(2) - log_priors
    norms = scores.logsumexp(2) * (torch.arange(len(scores))[:, None] < torch.as_tensor(frames))
    losses = torch.nn.functional.ctc_loss(scores.log_softmax(2), targets, frames, lengths, blank, reduction="none")
    losses = losses - norms.sum(0)
    losses[torch.isfinite(losses)].sum().backward()
    return losses.detach(), leaf.grad
