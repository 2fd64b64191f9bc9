import math

import naive
import numba
import numpy as np
import pytest
import torch
from torch_ctc import loss_and_gradient, torch_loss_and_gradient, torch_loss_with_priors

from asr import ctc
from asr.ctc import loss_kernels

pytestmark = pytest.mark.kernels


@numba.njit
def exp(x):
    return loss_kernels._exp(x)


def peaked(rng, run):
    """Sure posteriors (1500, 2, 32), one class for `run` frames each, and 200 labels that know nothing of them."""
    winners = rng.integers(0, 32, (1500 // run, 2)).repeat(run, axis=0)
    logits = 25.0 * (np.arange(32) == winners[..., None])
    return torch.from_numpy(logits), torch.from_numpy(rng.integers(1, 32, (2, 200)))


def test_exponential():
    values = -np.concatenate([np.linspace(0, 708, 7001), np.geomspace(1e-300, 1, 301)])
    exact = np.array([math.exp(value) for value in values])
    found = np.array([exp(value) for value in values])
    np.testing.assert_allclose(found, exact, rtol=4.5e-16, atol=0)
    for value in (np.nextafter(-708, -709), -745.0, -1e300, -np.inf):
        assert exp(value) == 0
    assert exp(0.0) == exp(-0.0) == 1
    assert np.isnan(exp(np.nan))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("scale", [6, 10, 30, 200])
def test_improbable_labels(rng, scale, dtype):
    """Of two utterances, one has repeats, and both end in frames that are not theirs."""
    logits = torch.from_numpy(scale * rng.standard_normal((100, 2, 9))).to(dtype)
    targets, frames, lengths = torch.from_numpy(rng.integers(1, 9, (2, 25))), [90, 75], [25, 20]
    targets[1, 3:7] = 4
    losses, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    for b in range(2):
        exact, expected = naive.exact_ctc(logits[: frames[b], b].double().numpy(), targets[b, : lengths[b]].tolist())
        np.testing.assert_allclose(losses[b].item(), exact, rtol=1e-12 if dtype == torch.float64 else 1e-7)
        atol = 1e-11 if dtype == torch.float64 else 6e-8
        np.testing.assert_allclose(gradient[: frames[b], b], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("scale", [6, 30, 300])
def test_batch_padding_and_threads_change_no_bit(rng, scale):
    logits, targets = torch.from_numpy(scale * rng.standard_normal((120, 5, 9))), rng.integers(1, 9, (5, 30))
    frames, lengths, targets = torch.tensor([120, 90, 61, 100, 77]), [30, 20, 7, 30, 25], torch.from_numpy(targets)
    expected, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    most = ctc.get_num_threads()
    try:
        for threads in (1, 3):
            ctc.set_num_threads(threads)
            again, again_gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
            assert torch.equal(again, expected)
            assert torch.equal(again_gradient, gradient)
    finally:
        ctc.set_num_threads(most)
    for b, have in enumerate(frames.tolist()):
        alone, found = loss_and_gradient(
            logits[:have, [b]], targets[[b], : lengths[b]], [have], lengths[b : b + 1], reduction="none"
        )
        assert torch.equal(alone[0], expected[b])
        assert torch.equal(found[:, 0], gradient[:have, b])


@pytest.mark.parametrize("scale", [1, 6, 10, 30])
@pytest.mark.parametrize("blank", [-3.0, 0.0, 6.0])
def test_long_utterances(rng, scale, blank):
    """By torch's float64, which works in logarithms and so is the less exact of both."""
    logits, targets = torch.from_numpy(scale * rng.standard_normal((1500, 2, 32))), rng.integers(1, 32, (2, 200))
    logits[..., 0] += blank
    args = torch.from_numpy(targets), [1500, 1400], [200, 150]
    loss, gradient = loss_and_gradient(logits, *args, reduction="none")
    expected, expected_gradient = torch_loss_and_gradient(logits, *args, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("run", [1, 12])
def test_sure_of_something_else(rng, run):
    """One scale for all states of a frame would lose the paths that win."""
    logits, targets = peaked(rng, run)
    loss, gradient = loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("spread", [3, 300])
def test_log_priors_of_improbable_labels(rng, spread):
    logits, targets = peaked(rng, 12)
    log_priors = torch.from_numpy(rng.standard_normal(32) * spread)
    args = logits, targets, [1500] * 2, [200] * 2
    losses, gradient = loss_and_gradient(*args, reduction="none", log_priors=log_priors)
    expected, expected_gradient = torch_loss_with_priors(logits, log_priors, *args[1:])
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)
