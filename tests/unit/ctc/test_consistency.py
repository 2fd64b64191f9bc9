"""The consistency of two views against its definition, and its gradient against what that comes to."""

import naive
import numpy as np
import pytest
import torch

from asr.ctc import consistency_loss


@pytest.fixture
def views(rng):
    return [torch.tensor(3 * rng.normal(size=(7, 3, 5)), requires_grad=True) for _ in range(2)]


LENGTHS = [7, 4, 0]


def test_it_is_the_mean_of_both_divergences(views):
    one, other = (naive.log_softmax(each.detach().numpy()) for each in views)
    expected = [
        sum(
            np.exp(first[t, b]) @ (first[t, b] - second[t, b]) / 2
            for first, second in ((one, other), (other, one))
            for t in range(length)
        )
        for b, length in enumerate(LENGTHS)
    ]
    found = consistency_loss(*views, LENGTHS)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(consistency_loss(*views[::-1], LENGTHS).detach(), expected, rtol=1e-12)


def test_each_view_is_drawn_to_the_other_as_it_stands(views):
    """The gradient is half the difference of the posteriors, and 0 beyond an utterance."""
    consistency_loss(*views, LENGTHS).sum().backward()
    one, other = (torch.softmax(each.detach(), 2) for each in views)
    inside = torch.arange(7)[:, None] < torch.tensor(LENGTHS)
    torch.testing.assert_close(views[0].grad, (one - other) / 2 * inside[:, :, None])
    torch.testing.assert_close(views[1].grad, (other - one) / 2 * inside[:, :, None])


def test_what_lies_beyond_an_utterance_counts_for_nothing(views):
    with torch.no_grad():
        expected = consistency_loss(*views, LENGTHS)
        for each in views:
            each[4:, 1], each[:, 2] = torch.nan, torch.inf
    found = consistency_loss(*views, LENGTHS)
    assert found.equal(expected)
    found.sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in views)


def test_half_precision_is_summed_in_single(views):
    halves = [each.detach().bfloat16() for each in views]
    found = consistency_loss(*halves, torch.tensor(LENGTHS))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, consistency_loss(*(each.float() for each in halves), LENGTHS))


def test_wrong_arguments(views):
    with pytest.raises(ValueError, match="equal shapes"):
        consistency_loss(views[0], views[1][:6], LENGTHS)
    with pytest.raises(ValueError, match="input_lengths"):
        consistency_loss(*views, [7, 4])
