import os
import subprocess
import sys
from pathlib import Path

import naive
import numba
import numpy as np
import pytest
import torch

import asr
from asr.ctc import ctc_loss, loss_kernels, required_frames


@pytest.fixture
def batch(rng):
    """Logits (40, 5, 7), padded targets (5, 8), input and target lengths; repeats, empty targets, short inputs."""
    logits = torch.from_numpy(rng.standard_normal((40, 5, 7)) * 3)
    targets = torch.from_numpy(rng.integers(1, 7, (5, 8)))
    targets[1, :4] = 2
    return logits, targets, torch.tensor([40, 9, 25, 0, 33]), torch.tensor([8, 4, 0, 0, 5])


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


def rescaled(logits, target):
    """ln p(target | logits) by the rescaled recursions alone, blank 0: from α, and from β where α did not fail."""
    logits, target = np.ascontiguousarray(logits, np.float64), np.asarray(target)
    probs, log_sums = np.empty(logits.shape), np.empty(len(logits))
    loss_kernels._softmax(logits, probs, log_sums)
    blank_probs, label_probs = probs[:, 0].copy(), probs[:, target].copy()
    skips = np.array([s > 0 and target[s] != target[s - 1] for s in range(len(target))], bool)
    blanks, labels = np.empty((len(logits), len(target) + 1)), np.empty((len(logits), len(target)))
    from_alpha = loss_kernels._forward(blank_probs, label_probs, skips, blanks, labels)
    if from_alpha == -np.inf:
        return from_alpha, -np.inf
    return from_alpha, loss_kernels._backward(blank_probs, label_probs, skips, blanks, labels)


def peaked(rng, run):
    """Sure posteriors (1500, 2, 32), one class for `run` frames each, and 200 labels that know nothing of them."""
    winners = rng.integers(0, 32, (1500 // run, 2)).repeat(run, axis=0)
    logits = 25.0 * (np.arange(32) == winners[..., None])
    return torch.from_numpy(logits), torch.from_numpy(rng.integers(1, 32, (2, 200)))


# Costs that other implementations publish: (T, C) activations, target, blank, cost.
UNIFORM = np.full((1, 5), 0.2)
COUNTING = np.arange(1.0, 16.0).reshape(3, 5)
GRAVES = np.log(
    [
        [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
        [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
        [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
        [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
        [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
    ]
)


@pytest.mark.parametrize(
    ("activations", "target", "blank", "cost"),
    [
        (UNIFORM, [1], 0, 1.6094379425049),  # warp-ctc's tutorial, three cases
        (COUNTING, [3, 3], 0, 7.355742931366),
        (COUNTING, [2, 3], 0, 4.938850402832),
        (GRAVES, [0, 1, 2, 1, 0], 5, 3.34211),  # TensorFlow's test of its loss
    ],
)
def test_published_costs(activations, target, blank, cost):
    logits = torch.from_numpy(activations)[:, None]
    loss = ctc_loss(logits, torch.tensor([target]), [len(logits)], [len(target)], blank, reduction="sum")
    np.testing.assert_allclose(loss.item(), cost, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("normalise", [False, True])
def test_gradient_equals_finite_differences(rng, reduction, normalise):
    """At logits as at log-probs; pytorch#52241: wrong at all but log-probs."""
    logits = torch.from_numpy(rng.standard_normal((4, 3, 3)))
    args = (torch.tensor([[1, 1], [2, 1], [0, 0]]), [4, 3, 2], [2, 2, 0])
    leaf = (logits.log_softmax(2) if normalise else logits).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, *args, reduction=reduction), leaf)


def test_logits_and_log_probs_have_one_loss_and_one_gradient(batch):
    logits, *args = batch
    loss, gradient = loss_and_gradient(logits, *args)
    shifted, shifted_gradient = loss_and_gradient(logits.log_softmax(2), *args)
    torch.testing.assert_close(loss, shifted, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, shifted_gradient, rtol=0, atol=1e-12)
    assert gradient.abs().max() > 0.01
    torch.testing.assert_close(gradient.sum(2), torch.zeros(40, 5).double(), rtol=0, atol=1e-12)


def test_forward_total_equals_backward_total(rng):
    for num_labels in (0, 1, 7, 30):
        logits, target = rng.standard_normal((80, 12)) * 4, rng.integers(1, 12, num_labels)
        from_alpha, from_beta = rescaled(logits, target)
        np.testing.assert_allclose(from_alpha, from_beta, rtol=1e-12)
        np.testing.assert_allclose(-from_alpha, naive.ctc(logits, target)[0], rtol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_reductions_are_torchs(batch, reduction):
    logits, targets, frames, lengths = batch
    loss, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction=reduction)
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, frames, lengths, reduction=reduction)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


def test_gradient_follows_the_gradient_from_above(batch):
    """As weights on the losses do, zeros too; pytorch#21961 and #26797 ignored them."""
    logits, targets, frames, lengths = batch
    _, plain = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    weights = torch.tensor([2.0, -0.5, 0.0, 3.0, 1e-3], dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    (ctc_loss(leaf, targets, frames, lengths, reduction="none") * weights).sum().backward()
    torch.testing.assert_close(leaf.grad, plain * weights[:, None], rtol=1e-12, atol=0)
    leaf.grad = None
    (1000 * ctc_loss(leaf, targets, frames, lengths)).backward()
    expected = plain * (200 / lengths.clamp(min=1))[:, None]
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("num_frames", [0, 1, 4, 5])
def test_infeasible_is_infinite_with_gradient_zero_and_leaves_others_alone(rng, num_frames):
    """Targets of five frames and six; pytorch#14401: NaN gradients."""
    targets = torch.tensor([[1, 2, 2, 3], [1, 2, 2, 2], [1, 2, 0, 0]])
    assert [required_frames(row.tolist()) for row in targets[:2]] == [5, 6]
    logits = torch.from_numpy(rng.standard_normal((6, 3, 4)))
    args = (targets, [num_frames, num_frames, 6], [4, 4, 2])
    loss, gradient = loss_and_gradient(logits, *args, reduction="none")
    feasible = [num_frames >= 5, False, True]
    assert torch.isfinite(loss).tolist() == feasible
    assert (loss[~torch.tensor(feasible)] == torch.inf).all()
    assert (gradient[:, 1] == 0).all()
    assert (gradient[:, 0] == 0).all() == (num_frames < 5)
    alone, alone_gradient = loss_and_gradient(logits[:, 2:], targets[2:], [6], [2], reduction="none")
    assert loss[2] == alone[0]
    assert torch.equal(gradient[:, 2:], alone_gradient)
    assert ctc_loss(logits, *args).item() == ctc_loss(logits, *args, reduction="sum").item() == torch.inf
    for reduction in ("none", "sum", "mean"):
        zeroed, zeroed_gradient = loss_and_gradient(logits, *args, reduction=reduction, zero_infinity=True)
        expected, expected_gradient = torch_loss_and_gradient(logits, *args, reduction=reduction, zero_infinity=True)
        assert torch.isfinite(expected).all()
        torch.testing.assert_close(zeroed, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(zeroed_gradient, expected_gradient, rtol=0, atol=1e-12)


def test_label_of_probability_zero_is_infinite_with_gradient_zero():
    logits = torch.zeros(5, 1, 3, dtype=torch.float64)
    logits[..., 2] = -torch.inf
    loss, gradient = loss_and_gradient(logits, torch.tensor([[1, 2]]), [5], [2])
    assert loss == torch.inf
    assert (gradient == 0).all()


@pytest.mark.parametrize("kind", ["signs", "normal"])
def test_extreme_logits(rng, kind):
    """±1e4; pytorch#21680 had NaN gradients beside a right loss."""
    logits = rng.choice([-1.0, 1.0], (60, 4, 6)) if kind == "signs" else rng.standard_normal((60, 4, 6))
    targets = rng.integers(1, 6, (4, 10))
    loss, gradient = loss_and_gradient(torch.from_numpy(logits * 1e4), torch.from_numpy(targets), [60] * 4, [10] * 4)
    assert torch.isfinite(loss)
    for b in range(4):
        one, expected = naive.ctc(logits[:, b] * 1e4, targets[b])
        both, found = loss_and_gradient(
            torch.from_numpy(logits[:, [b]] * 1e4), torch.from_numpy(targets[[b]]), [60], [10], reduction="sum"
        )
        np.testing.assert_allclose(both.item(), one, rtol=1e-12)
        np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-8)
        np.testing.assert_allclose(gradient[:, b] * 40, expected, rtol=0, atol=1e-7)


def test_ten_thousand_frames(rng):
    logits = torch.from_numpy(rng.standard_normal((10_000, 1, 5)))
    targets = torch.from_numpy(rng.integers(1, 5, (1, 100)))
    loss, gradient = loss_and_gradient(logits, targets, [10_000], [100])
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, [10_000], [100])
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-9)


@pytest.mark.parametrize("run", [1, 12])
def test_log_space_serves_where_rescaling_fails(rng, run):
    logits, targets = peaked(rng, run)
    for b in range(2):
        assert -np.inf in rescaled(logits[:, b], targets[b]), "rescaling holds here: this test tests nothing"
    loss, gradient = loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, [1500] * 2, [200] * 2, reduction="none")
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-7)


def test_rescaling_serves_ordinary_utterances(rng):
    """Were the fallback to serve them, training would be several times slower and nothing else would tell."""
    for scale in (0.1, 1.0, 3.0):
        logits, target = scale * rng.standard_normal((800, 62)), rng.integers(1, 62, 80)
        assert -np.inf not in rescaled(logits, target)
    winners = np.repeat(np.arange(1, 41), 20)  # a trained model: spikes of 20 frames, and sure of them
    logits = 15.0 * (np.arange(41) == np.where(np.arange(800) % 20 < 3, winners, 0)[:, None])
    assert -np.inf not in rescaled(logits, np.arange(1, 41))
    assert -np.inf not in rescaled(logits, np.arange(2, 41))  # and one label wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(batch, dtype):
    logits, *args = batch
    values = logits.to(dtype)
    loss, gradient = loss_and_gradient(values, *args, reduction="none")
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    exact, exact_gradient = loss_and_gradient(values.double(), *args, reduction="none")
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=rounding, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_gradient_is_rounded_after_the_gradient_from_above(batch, dtype):
    """A loss scaler's factor may itself be beyond float16, and saves gradients that are below it."""
    logits, *args = batch
    for values, factor in ((logits.to(dtype), 65536.0), ((logits * 5).round().to(dtype), 2.0**15)):
        exact = values.double().requires_grad_()
        ctc_loss(exact, *args, reduction="sum").mul(factor).backward()
        leaf = values.clone().requires_grad_()
        ctc_loss(leaf, *args, reduction="sum").mul(factor).backward()
        assert leaf.grad.dtype == dtype
        fits = exact.grad.abs() < torch.finfo(torch.float16).max
        assert fits.double().mean() > 0.9
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(leaf.grad[fits].double(), exact.grad[fits], rtol=eps, atol=factor * 1e-7)


def test_memory_layout_and_kinds_of_arguments_change_no_bit(batch):
    """Pytorch#22234 and #152421: other integers, another backend, another answer."""
    logits, targets, frames, lengths = batch
    expected, expected_gradient = loss_and_gradient(logits, targets, frames, lengths)
    row = torch.cat([targets[b, :n] for b, n in enumerate(lengths)])
    spread = torch.stack([logits, logits], 3)[..., 0]  # strides of 2
    batch_first = logits.transpose(0, 1).contiguous().transpose(0, 1)
    wide = torch.cat([targets, torch.full((5, 3), -1)], 1)
    assert not spread.is_contiguous()
    assert not batch_first.is_contiguous()
    for args in (
        (spread, targets, frames, lengths),
        (batch_first, targets.T.contiguous().T, frames, lengths),
        (logits, row, frames, lengths),
        (logits, row.int(), frames.int(), lengths.int()),
        (logits, wide, frames.tolist(), tuple(lengths.tolist())),
        (logits, targets.short(), frames.numpy(), lengths.short()),
    ):
        loss, gradient = loss_and_gradient(*args)
        assert torch.equal(loss, expected)
        assert torch.equal(gradient, expected_gradient)


def test_padding_batch_order_and_repetition_change_no_bit(batch):
    logits, targets, frames, lengths = batch
    expected, expected_gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    again, again_gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    assert torch.equal(again, expected)
    assert torch.equal(again_gradient, expected_gradient)
    order = torch.tensor([4, 2, 0, 1, 3])
    shuffled, gradient = loss_and_gradient(
        logits[:, order], targets[order], frames[order], lengths[order], reduction="none"
    )
    assert torch.equal(shuffled, expected[order])
    assert torch.equal(gradient, expected_gradient[:, order])
    padded = torch.cat([logits, torch.full((3, 5, 7), torch.nan)])
    for b, have in enumerate(frames):
        padded[have:, b] = torch.nan
        alone, gradient = loss_and_gradient(
            logits[:have, [b]], targets[[b], : lengths[b]], frames[[b]], lengths[[b]], reduction="none"
        )
        assert torch.equal(alone[0], expected[b])
        assert torch.equal(gradient[:, 0], expected_gradient[:have, b])
    loss, gradient = loss_and_gradient(padded, targets, frames, lengths, reduction="none")
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[:40], expected_gradient)
    assert (gradient[40:] == 0).all()


def test_number_of_threads_changes_no_bit(batch):
    most = numba.get_num_threads()
    results = []
    try:
        for threads in (1, most):
            numba.set_num_threads(threads)
            results.append(loss_and_gradient(*batch, reduction="none"))
    finally:
        numba.set_num_threads(most)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_nan_stays_with_its_utterance(batch):
    logits, targets, frames, lengths = batch
    expected, _ = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    logits[3, 1, 5] = torch.nan  # a class that the target does not even have
    loss, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    assert loss.isnan().tolist() == [False, True, False, False, False]
    assert torch.equal(loss[[0, 2, 3, 4]], expected[[0, 2, 3, 4]])
    assert not gradient[:, [0, 2, 3, 4]].isnan().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(6, 4)}, r"shape \(T, B, C\), not torch.float32 \(6, 4\)"),
        ({"logits": torch.zeros(6, 2, 4, dtype=torch.int64)}, r"must be floating.*torch.int64"),
        ({"targets": torch.tensor([[1, 2], [3, 4]])}, r"target 1 .* outside 0\.\.3, .* blank 0: \[3, 4\]"),
        ({"targets": torch.tensor([[1, -1], [3, 2]])}, r"target 0 has a label outside"),
        ({"targets": torch.tensor([[1, 2], [0, 2]])}, r"target 1 has a label .* or the blank 0"),
        ({"targets": torch.tensor([[1.0, 2.0], [3.0, 2.0]])}, r"integers, .* not torch.float32"),
        ({"targets": torch.tensor(1)}, r"integers, \(B, S\) or in a row, not torch.int64 \(\)"),
        ({"targets": torch.tensor([[1, 2]])}, r"1 rows for 2 utterances"),
        ({"targets": torch.tensor([1, 2, 3])}, r"hold 3 labels, .* add up to 4"),
        ({"input_lengths": [6, 7]}, r"input_lengths\[1\] is 7, which is not in 0\.\.6"),
        ({"input_lengths": [-1, 6]}, r"input_lengths\[0\] is -1"),
        ({"input_lengths": [6]}, r"input_lengths must be 2 integers"),
        ({"input_lengths": [6.0, 6.0]}, r"input_lengths must be 2 integers, not float64"),
        ({"target_lengths": [2, 3]}, r"target_lengths\[1\] is 3, which is not in 0\.\.2"),
        ({"target_lengths": torch.tensor([2.0, 2.0])}, r"target_lengths must be 2 integers, not float32"),
        ({"blank": 4}, r"blank 4 is not one of the 4 classes"),
        ({"reduction": "average"}, r"none, mean or sum, not 'average'"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {
        "logits": torch.zeros(6, 2, 4),
        "targets": torch.tensor([[1, 2], [3, 2]]),
        "input_lengths": [6, 6],
        "target_lengths": [2, 2],
    }
    assert torch.isfinite(ctc_loss(**arguments))
    with pytest.raises(ValueError, match=message) as caught:
        ctc_loss(**arguments | change)
    assert "\n" not in str(caught.value)


def test_second_derivative_is_refused(batch):
    logits, *args = batch
    leaf = logits.requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(ctc_loss(leaf, *args), leaf, create_graph=True)


def test_required_frames():
    targets = [], [1], [1, 2], [1, 1], "aabbb", ("T", "UW", "UW")
    assert [required_frames(target) for target in targets] == [0, 1, 2, 3, 8, 4]


def run(code, **environment):
    """Run Python in a process of its own, from which the package and the oracles can be imported."""
    folders = [Path(asr.__file__).parents[1], Path(naive.__file__).parent]
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_kernels_run_without_compilation():
    run(
        """
import naive, numpy as np, torch
from asr.ctc import ctc_loss
rng = np.random.default_rng(0)
for scale, blank in ((1, 0), (3000, 2)):
    logits = scale * rng.standard_normal((5, 2, 4))
    leaf = torch.from_numpy(logits).requires_grad_()
    losses = ctc_loss(leaf, torch.tensor([[1, 1], [3, 1]]), [5, 4], [2, 2], blank, reduction="none")
    losses.sum().backward()
    for b, (have, target) in enumerate([(5, [1, 1]), (4, [3, 1])]):
        loss, gradient = naive.ctc(logits[:have, b], target, blank)
        np.testing.assert_allclose(losses[b].item(), loss, rtol=1e-10)
        np.testing.assert_allclose(leaf.grad[:have, b], gradient, rtol=0, atol=1e-8)
""",
        NUMBA_DISABLE_JIT="1",
    )


def test_python_threads_may_call_at_once():
    """On Numba's own scheduler, which ends the process when two threads enter kernels together."""
    run(
        """
import numba, numpy as np, torch
from concurrent.futures import ThreadPoolExecutor
from asr.ctc import beam_search, ctc_loss
logits = torch.from_numpy(np.random.default_rng(0).standard_normal((150, 4, 20)))
targets = torch.ones(4, 1, dtype=torch.int64)
def both(_):
    beam_search(logits.log_softmax(2).numpy(), beam_size=4)
    return ctc_loss(logits, targets, [150] * 4, [1] * 4).item()
with ThreadPoolExecutor(4) as pool:
    assert len(set(pool.map(both, range(30)))) == 1
assert numba.threading_layer() == "workqueue"
""",
        NUMBA_THREADING_LAYER="workqueue",
        NUMBA_NUM_THREADS="2",
        OMP_NUM_THREADS="1",
    )
