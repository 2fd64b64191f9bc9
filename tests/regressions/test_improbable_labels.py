"""Labels or frames that a model finds improbable: logarithms were added, which took up to forty times as long."""

import time

import numba
import pytest
import torch

from asr.ctc import ctc_loss, ctc_posteriors
from asr.hmm.graph import Graph
from asr.hmm.inference import forward_backward

pytestmark = [pytest.mark.kernels, pytest.mark.skipif(numba.config.DISABLE_JIT, reason="times of compiled code")]


def least_time(run):
    """Processor time of this thread, the least of five passes."""
    times = []
    for _ in range(6):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times[1:])


def test_the_loss_takes_as_long_whatever_the_labels(rng):
    normal, targets = rng.standard_normal((800, 2, 32)), torch.from_numpy(rng.integers(1, 32, (2, 100)))

    def pass_at(scale):
        logits = torch.from_numpy(scale * normal).requires_grad_()
        return least_time(lambda: ctc_loss(logits, targets, [800] * 2, [100] * 2).backward())

    usual = pass_at(1.0)
    for scale in (6.0, 10.0, 30.0):
        assert pass_at(scale) < 5 * usual


def test_posteriors_take_a_few_times_as_long_as_the_loss(rng):
    """They had been computed in logarithms at all times."""
    logits, targets = torch.from_numpy(rng.standard_normal((800, 1, 32))), rng.integers(1, 32, (1, 100))
    log_probs = logits.log_softmax(2).numpy()
    loss = least_time(lambda: ctc_loss(logits, torch.from_numpy(targets), [800], [100]))
    assert least_time(lambda: ctc_posteriors(log_probs, targets)) < 10 * loss


def test_an_hmm_takes_as_long_whatever_the_frames(rng):
    arcs = [(j, k, -0.7) for j in range(100) for k in (j, j + 1) if k < 100]
    graph = Graph.of(rng.integers(0, 40, 100).tolist(), arcs, {0: 0.0}, {99: 0.0})
    normal = rng.standard_normal((800, 40))
    usual = least_time(lambda: forward_backward(normal, graph))
    for scale in (10.0, 30.0, 100.0):
        assert least_time(lambda scale=scale: forward_backward(scale * normal, graph)) < 2.5 * usual
