"""Loss and gradient of ours, and of torch's, which works in logarithms in float64."""

import torch

from asr.ctc import ctc_loss


def loss_and_gradient(logits, *args, loss=ctc_loss, **kwargs):
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    found = loss(leaf, *args, **kwargs)
    found.sum().backward()
    return found.detach(), leaf.grad


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


def torch_crf_losses(logits, targets, frames, lengths, token_model, blank=0):
    """Torch's CTC losses, plus ln Z over a dense table (states, last labels, classes), less the labels' log weights.

    Of short utterances, as it does not scale, each of which has all frames; autograd finds the gradient.
    """
    losses = torch.nn.functional.ctc_loss(logits.log_softmax(2), targets, frames, lengths, blank, reduction="none")
    scores, ways, finals = (torch.as_tensor(each) for each in token_model)
    num_states, num_classes = scores.shape
    weights = torch.nn.functional.one_hot(ways.long(), num_states) * scores.exp()[..., None]  # (Q, C, Q')
    weights[:, blank] = 0.0
    others = 1.0 - torch.eye(num_classes, dtype=torch.float64)
    blanks, labels = torch.zeros((2, len(targets), num_states, num_classes), dtype=torch.float64)
    blanks[:, 0, blank] = 1.0  # of each state and last label, the blank for none
    for frame in logits.softmax(2):
        leaving = blanks.sum(2, keepdim=True) + labels @ others  # by the label that comes
        came = torch.einsum("bqc,qcr->brc", leaving, weights)
        blanks, labels = (blanks + labels) * frame[:, None, [blank]], (labels + came) * frame[:, None]
    partitions = torch.einsum("bqc,q->b", blanks + labels, finals.exp()).log()
    walked = []
    for row, length in zip(targets.tolist(), lengths, strict=True):
        state, walk = 0, 0.0
        for label in row[:length]:
            walk, state = walk + scores[state, label], ways[state, label]
        walked.append(walk + finals[state])
    return losses + partitions - torch.stack(walked)
