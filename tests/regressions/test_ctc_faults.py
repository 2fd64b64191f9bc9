"""Faults that the CTC loss and the beam search once had."""

import naive
import numpy as np
import pytest
import torch

from asr.ctc import beam_search, ctc_loss

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize(
    ("logits", "target"),
    [
        # Forward and backward totals agreed, on a path that was not the likeliest: loss off by 0.29, gradient by 0.25.
        ([[-1200, -600], [0, -1200], [-1200, -1200], [-1200, -600], [0, -1200], [-1200, -600]], [1]),
        # Subnormal probabilities: few digits are left of them, or none, and both totals had the same wrong ones.
        ([[0, -745]], [1]),
        ([[0, -745], [0, -744.5]], [1]),
    ],
)
def test_underflow_that_both_recursions_share(logits, target):
    logits = np.array(logits, np.float64)
    expected, gradient = naive.ctc(logits, target)
    leaf = torch.from_numpy(logits)[:, None].requires_grad_()
    loss = ctc_loss(leaf, torch.tensor([target]), [len(logits)], [len(target)], reduction="sum")
    loss.backward()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)
    np.testing.assert_allclose(leaf.grad[:, 0], gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [3, 30])
def test_equal_utterances_get_equal_bits(scale):
    """Where small arrays of the kernel lay close together, its loops took no vectors, and so summed in other order."""
    rng = np.random.default_rng(1)
    equal = np.arange(600) % 2 == 0
    for num_labels in (1, 2, 3, 5, 8, 12):
        logits, targets = scale * rng.standard_normal((40, 600, 7)), rng.integers(1, 7, (600, 20))
        logits[:, equal], targets[equal] = logits[:, :1], targets[:1]
        lengths = np.where(equal, num_labels, rng.integers(1, 20, 600))  # others between: memory of many sizes
        leaf = torch.from_numpy(logits).requires_grad_()
        losses = ctc_loss(leaf, torch.from_numpy(targets), [40] * 600, lengths, reduction="none")
        losses.sum().backward()
        assert (losses[equal] == losses[0]).all()
        assert (leaf.grad[:, equal] == leaf.grad[:, :1]).all(), f"{num_labels} labels"


def test_large_batches_repeat_bit_for_bit_without_nan():
    """Pytorch#17798: another gradient each time; #21244: now and then a NaN, at the blank; both in large batches."""
    rng = np.random.default_rng(2)
    logits = torch.from_numpy(rng.standard_normal((120, 64, 30)) * 5).float()
    targets = torch.from_numpy(rng.integers(1, 30, (64, 25)))
    args = targets, rng.integers(50, 121, 64), rng.integers(0, 26, 64)
    results = []
    for _ in range(5):
        leaf = logits.clone().requires_grad_()
        losses = ctc_loss(leaf, *args, reduction="none")
        losses.sum().backward()
        results.append((losses.detach(), leaf.grad))
    for losses, gradient in results:
        assert torch.isfinite(losses).all()
        assert torch.isfinite(gradient).all()
        assert torch.equal(losses, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize(
    "counts",
    [
        [[7, 2, 8], [7, 7, 6], [2, 3, 5], [4, 1, 8], [3, 3, 1], [7, 8, 6], [4, 3, 3]],
        [[5, 7, 3], [7, 9, 9], [7, 7, 2], [3, 9, 2], [1, 8, 6], [1, 4, 1], [6, 1, 1]],  # it has a younger sibling
    ],
)
def test_prefix_that_leaves_the_beam_and_comes_back(counts):
    """It came back as another node, and a longer prefix, in the beam all the time, was found twice."""
    probs = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
    hypotheses = beam_search(np.log(probs)[:, None], beam_size=3, nbest=3)[0]
    assert len({h.tokens for h in hypotheses}) == 3


def test_sure_and_right_outputs_of_many_labels():
    """The product of the norms of frames went beyond the largest number, and the loss was −inf."""
    path = np.tile([1, 0, 2], 200)
    logits = torch.from_numpy(30.0 * (np.arange(3) == path[:, None]))[:, None].requires_grad_()
    targets = torch.from_numpy(path[path > 0])[None]
    loss = ctc_loss(logits, targets, [600], [400], reduction="sum")
    expected, gradient = naive.ctc(logits[:, 0].detach().numpy(), targets[0].tolist())
    np.testing.assert_allclose(loss.item(), expected, rtol=0, atol=1e-9)
    loss.backward()
    np.testing.assert_allclose(logits.grad[:, 0], gradient, rtol=0, atol=1e-9)
