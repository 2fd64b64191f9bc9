import naive
import numba
import numpy as np
import pytest

from asr.ctc import sum_kernels
from asr.ctc.sum_kernels import FALL, RISE, SEGMENT, SPREAD, memory_size, state_posteriors

pytestmark = pytest.mark.kernels


@numba.njit
def alpha(work, num_frames, width):
    """Compiled, as kernels have it: Python does not call kernels of kernels."""
    memory = sum_kernels.divide(work, num_frames, width)
    sum_kernels.forward(memory)
    return memory


def summed(logits, target):
    """ln p, the posteriors of the blanks and labels (T, 2, L + 1), and a memory that holds α; the blank is 0."""
    symbols, width = np.array([0, *target]), len(target) + 2
    work = np.full(memory_size(len(logits), width), np.nan)
    logs = np.ascontiguousarray(naive.log_softmax(np.asarray(logits, np.float64))[:, symbols])
    total, states = state_posteriors(logs, symbols, work)
    return total, states[:, :, :-1].copy(), alpha(work, len(logits), width)


def of_classes(states, target, num_classes):
    """Posteriors of classes (T, C) from those of states."""
    found = np.zeros((len(states), num_classes))
    found[:, 0] = states[:, 0].sum(axis=1)
    np.add.at(found.T, np.asarray(target, int), states[:, 1, 1:].T)
    return found


@pytest.mark.parametrize("scale", [0.1, 1, 6, 10, 30, 300, 1e4])
@pytest.mark.parametrize("num_labels", [0, 1, 9, 30])
def test_sums_are_exact(rng, scale, num_labels):
    logits, target = scale * rng.standard_normal((80, 7)), rng.integers(1, 7, num_labels)
    loss, gradient = naive.exact_ctc(logits, target)
    total, states, _ = summed(logits, target)
    np.testing.assert_allclose(-total, loss, rtol=1e-13)
    found = np.exp(naive.log_softmax(logits)) - of_classes(states, target, 7)
    np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-12 * max(1, scale / 10))  # logits have rounded logs


def test_only_a_few_paths(rng):
    """Of as many frames as are needed, one more and two more: what lies behind cannot come in front."""
    target = [1, 2, 2, 3, 1, 1, 1, 3, 2, 4, 4, 1, 2, 3]
    for spare in range(3):
        logits = 50 * rng.standard_normal((18 + spare, 5))
        loss, gradient = naive.exact_ctc(logits, target)
        total, states, _ = summed(logits, target)
        np.testing.assert_allclose(-total, loss, rtol=1e-13)
        found = np.exp(naive.log_softmax(logits)) - of_classes(states, target, 5)
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-11)
    assert summed(logits[:17], target)[0] == -np.inf


@pytest.mark.parametrize("scale", [1, 30, 500, 3000])
def test_emissions_of_zero_lie_between_others(rng, scale):
    """Also at the end, where the last label or the last blank may be the one that cannot be."""
    possible = 0
    for _ in range(30):
        logits, target = scale * rng.standard_normal((30, 4)), rng.integers(1, 4, rng.integers(1, 15))
        logits[rng.random(logits.shape) < rng.uniform(0, 0.3)] = -np.inf
        logits[(logits == -np.inf).all(axis=1), 0] = 0.0
        total, states, _ = summed(logits, target)
        if naive.ctc(logits, target)[0] == np.inf:
            assert total == -np.inf
            continue
        possible += 1
        loss, gradient = naive.exact_ctc(logits, target)
        np.testing.assert_allclose(-total, loss, rtol=1e-13, atol=1e-13)
        found = np.exp(naive.log_softmax(logits)) - of_classes(states, target, 4)
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-10)
    assert possible > 10


def test_a_path_that_was_far_behind_wins(rng):
    """By more than float64 spans: α likes to wait on the first label, and then each label costs 120 nats."""
    logits = np.zeros((400, 3))
    logits[:200, 1] = 60.0
    logits[200:, 0], logits[200:, 1:] = 60.0, -60.0
    for target in ([1, 2] * 40, [2, 1] * 40, [1] * 40):
        for turned in (logits, logits[::-1]):
            loss, gradient = naive.exact_ctc(turned, target)
            total, states, _ = summed(turned, target)
            np.testing.assert_allclose(-total, loss, rtol=1e-13)
            found = np.exp(naive.log_softmax(turned)) - of_classes(states, target, 3)
            np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scale", [1, 10, 100, 700])
def test_numbers_stay_in_range(rng, scale):
    """As docs/theory/ctc.md has it; states that paths have reached, and that can end in time, are not 0."""
    logits, target = scale * rng.standard_normal((500, 20)), rng.integers(1, 20, 60)
    _, _, (_, frames, _, alphas, _) = summed(logits, target)
    numbers = alphas[:, :, :-1][alphas[:, :, :-1] > 0]
    assert numbers.min() >= 2.0 ** -(FALL + 1)
    assert numbers.max() <= 2.0 ** (RISE + 4)
    s, t = np.arange(61), np.arange(500)[:, None]
    (reached,) = np.nonzero([0, *(np.diff(target) == 0)])  # a repeat takes a blank more
    first = s + np.array([(reached <= label - 1).sum() for label in s])
    must = (t > first) & (s >= 60 - 499 + t + 60)
    assert (alphas[:, :, 1:-1][np.broadcast_to(must[:, None, 1:], alphas[:, :, 1:-1].shape)] > 0).all()
    assert np.isfinite(frames[SPREAD]).all() == (scale < 100)


@pytest.mark.parametrize(("scale", "least"), [(0.1, 50), (1, 25), (3, 8), (6, 4), (10, 3)])
def test_segments_are_long(rng, scale, least):
    """Were each frame one, training would take several times as long, and nothing else would tell."""
    _, _, (_, frames, *_) = summed(scale * rng.standard_normal((800, 62)), rng.integers(1, 62, 80))
    assert 800 / (1 + frames[SEGMENT].max()) > least
    winners = np.repeat(np.arange(1, 41), 20)  # a trained model: spikes of 20 frames, and sure of them
    logits = 15.0 * (np.arange(41) == np.where(np.arange(800) % 20 < 3, winners, 0)[:, None])
    for target in (np.arange(1, 41), np.arange(2, 41), rng.integers(1, 41, 40)):
        _, _, (_, frames, *_) = summed(logits, target)
        assert 800 / (1 + frames[SEGMENT].max()) > 12


@pytest.mark.parametrize(
    ("mask", "is_possible"), [(-1e9, True), (-9e9, True), (-2e10, False), (-1e30, False), (-np.inf, False)]
)
def test_what_is_next_to_impossible_is_impossible(mask, is_possible):
    logs = np.array([[-1.0, mask], [mask, -1.0], [-1.0, mask]])
    total, states = state_posteriors(logs, np.array([0, 1]), np.empty(memory_size(3, 3)))
    assert total == -3.0
    np.testing.assert_array_equal(states[:, :, :2], [[[1, 0], [0, 0]], [[0, 0], [0, 1]], [[0, 1], [0, 0]]])
    logs = np.array([[-1.0, mask], [-1.0, mask]])  # the label has to be in one of the two frames
    total, states = state_posteriors(logs, np.array([0, 1]), np.empty(memory_size(2, 3)))
    assert total == (mask - 1.0 + np.log(2.0) if is_possible else -np.inf)
    if is_possible:
        np.testing.assert_array_equal(states[:, :, :2], [[[0.5, 0], [0, 0.5]], [[0, 0.5], [0, 0.5]]])
