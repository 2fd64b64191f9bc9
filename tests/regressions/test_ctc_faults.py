"""Faults that the CTC loss and the beam search once had."""

import naive
import numpy as np
import pytest
import torch

from asr.ctc import beam_search, ctc_loss


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
