import math

import naive
import numba
import numpy as np
import pytest
import torch
from torch_ctc import loss_and_gradient, torch_loss_and_gradient, torch_loss_with_priors

from asr.ctc import loss_kernels

pytestmark = pytest.mark.kernels


@numba.njit
def softmax(*args):
    """Compiled, as kernels have it: Python calls the helpers of kernels uncompiled."""
    loss_kernels._softmax(*args)


@numba.njit
def forward(*args):
    return loss_kernels._forward(*args)


@numba.njit
def exp(x):
    return loss_kernels._exp(x)


def rescaled(logits, target, tilt=None, log_priors=None):
    """ln p(target | logits) by the rescaled recursions alone, blank 0, and −its gradient; −inf where they gave up."""
    logits = np.ascontiguousarray(logits, np.float64)[:, None]
    symbols = np.array([0, *target], np.uintp)
    num_frames, width = len(logits), len(symbols) + 1
    probs, blanks, labels = np.zeros((3, num_frames, width))
    grads, rows = np.empty_like(logits), np.zeros((loss_kernels.ROWS, width))
    rows[loss_kernels.WEIGHTS, :-1] = 1.0
    least = 0.0
    if log_priors is not None:
        least = min(log_priors)
        rows[loss_kernels.WEIGHTS, :-1] = np.exp(least - np.asarray(log_priors)[symbols])
    first = np.uintp(0)
    softmax(logits, first, symbols, 1.0, grads, probs, np.empty(loss_kernels.BLOCK))
    if tilt is None:
        tilt = loss_kernels._tilt(logits, first, num_frames, symbols) if len(target) else 1.0
    rows[loss_kernels.SKIPS, 2:-1] = tilt * (symbols[2:] != symbols[1:-1])
    total = forward(probs, tilt, rows, (blanks, labels)) - len(target) * np.log(tilt)
    whole = loss_kernels._backward(grads, first, 1.0, symbols, probs, tilt, rows, (blanks, labels))
    return (total - num_frames * least if whole else -np.inf), grads[:, 0]


def peaked(rng, run):
    """Sure posteriors (1500, 2, 32), one class for `run` frames each, and 200 labels that know nothing of them."""
    winners = rng.integers(0, 32, (1500 // run, 2)).repeat(run, axis=0)
    logits = 25.0 * (np.arange(32) == winners[..., None])
    return torch.from_numpy(logits), torch.from_numpy(rng.integers(1, 32, (2, 200)))


@pytest.mark.parametrize("num_labels", [0, 1, 7, 30])
def test_rescaling_equals_log_space_whatever_the_tilt(rng, num_labels):
    logits, target = rng.standard_normal((80, 12)) * 4, rng.integers(1, 12, num_labels)
    loss, gradient = naive.ctc(logits, target)
    for tilt in (None, 1.0, 0.02, 0.7, 40.0):
        total, found = rescaled(logits, target, tilt)
        np.testing.assert_allclose(-total, loss, rtol=1e-12)
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-11)


def test_exponential():
    values = -np.concatenate([np.linspace(0, 708, 7001), np.geomspace(1e-300, 1, 301)])
    exact = np.array([math.exp(value) for value in values])
    found = np.array([exp(value) for value in values])
    np.testing.assert_allclose(found, exact, rtol=4.5e-16, atol=0)
    for value in (np.nextafter(-708, -709), -745.0, -1e300, -np.inf):
        assert exp(value) == 0
    assert exp(0.0) == exp(-0.0) == 1
    assert np.isnan(exp(np.nan))


@pytest.mark.parametrize("run", [1, 12])
def test_log_space_serves_where_rescaling_fails(rng, run):
    logits, targets = peaked(rng, run)
    for b in range(2):
        assert rescaled(logits[:, b], targets[b])[0] == -np.inf, "rescaling holds here: this test tests nothing"
    loss, gradient = loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("blank", [-3.0, 0.0, 6.0])
def test_rescaling_serves_long_and_flat_utterances(rng, blank):
    """Without the tilt α dies half-way, where it has too few labels behind it or too many."""
    logits, targets = rng.standard_normal((3000, 1, 62)), rng.integers(1, 62, (1, 300))
    logits[..., 0] += blank
    total, gradient = rescaled(logits[:, 0], targets[0])
    loss, found = torch_loss_and_gradient(torch.from_numpy(logits), torch.from_numpy(targets), [3000], [300])
    np.testing.assert_allclose(-total, loss.item() * 300, rtol=1e-10)
    np.testing.assert_allclose(gradient, found[:, 0] * 300, rtol=0, atol=1e-7)


def test_rescaling_serves_ordinary_utterances(rng):
    """Were the fallback to serve them, training would be several times slower and nothing else would tell."""
    for scale in (0.1, 1.0, 3.0):
        assert rescaled(scale * rng.standard_normal((800, 62)), rng.integers(1, 62, 80))[0] > -np.inf
    winners = np.repeat(np.arange(1, 41), 20)  # a trained model: spikes of 20 frames, and sure of them
    logits = 15.0 * (np.arange(41) == np.where(np.arange(800) % 20 < 3, winners, 0)[:, None])
    assert rescaled(logits, np.arange(1, 41))[0] > -np.inf
    assert rescaled(logits, np.arange(2, 41))[0] > -np.inf  # and one label wrong


def test_log_priors_where_rescaling_fails(rng):
    logits, targets = peaked(rng, 12)
    log_priors = torch.from_numpy(rng.standard_normal(32) * 3)
    args = logits, targets, [1500] * 2, [200] * 2
    for b in range(2):
        assert rescaled(logits[:, b], targets[b], log_priors=log_priors.numpy())[0] == -np.inf
    losses, gradient = loss_and_gradient(*args, reduction="none", log_priors=log_priors)
    expected, expected_gradient = torch_loss_with_priors(logits, log_priors, *args[1:])
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)
