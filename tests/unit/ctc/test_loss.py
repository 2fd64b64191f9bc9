import math

import naive
import numpy as np
import pytest
import torch
from torch_ctc import loss_and_gradient, torch_loss_and_gradient, torch_loss_with_priors

from asr import ctc
from asr.core.errors import InfeasibleError
from asr.ctc import ctc_loss, required_frames

pytestmark = pytest.mark.kernels


@pytest.fixture
def batch(rng):
    """Logits (40, 5, 7), padded targets (5, 8), input and target lengths; repeats, empty targets, short inputs."""
    logits = torch.from_numpy(rng.standard_normal((40, 5, 7)) * 3)
    targets = torch.from_numpy(rng.integers(1, 7, (5, 8)))
    targets[1, :4] = 2
    return logits, targets, torch.tensor([40, 9, 25, 0, 33]), torch.tensor([8, 4, 0, 0, 5])


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


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_reductions_are_torchs(batch, reduction):
    logits, targets, frames, lengths = batch
    loss, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction=reduction)
    expected, expected_gradient = torch_loss_and_gradient(logits, targets, frames, lengths, reduction=reduction)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("target", [[3, 1, 1], []])
def test_one_utterance_without_a_batch_is_torchs(rng, reduction, target):
    logits, targets = torch.from_numpy(rng.standard_normal((9, 4))), torch.tensor(target, dtype=torch.int64)
    leaf = logits.clone().requires_grad_()
    lengths = torch.tensor(7), torch.tensor(len(target))
    expected = torch.nn.functional.ctc_loss(leaf.log_softmax(1), targets, *lengths, reduction=reduction)
    expected.backward()
    for args in (lengths, (7, len(target)), ([7], [len(target)]), (np.int32(7), torch.tensor([len(target)]))):
        loss, gradient = loss_and_gradient(logits, targets, *args, reduction=reduction)
        assert loss.shape == expected.shape == ()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=1e-12)
    short = ctc_loss(logits, torch.tensor([1, 1]), 2, 2, reduction=reduction)
    assert (short.shape, short.item()) == ((), torch.inf)
    assert ctc_loss(logits, torch.tensor([1, 1]), 2, 2, reduction=reduction, zero_infinity=True).item() == 0
    with pytest.raises(InfeasibleError, match="utterance 0 has 2 frames; its 2 labels need 3"):
        ctc_loss(logits, torch.tensor([1, 1]), 2, 2, reduction=reduction, infeasible="raise")


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


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradient_twice_from_one_graph(batch, reduction):
    """The gradient is kept in the graph, and handed out: what its receiver does to it must not spoil the next one."""
    logits, *args = batch
    leaf = logits.clone().requires_grad_()
    loss = ctc_loss(leaf, *args, reduction=reduction, zero_infinity=True)
    above = torch.ones_like(loss)
    loss.backward(above, retain_graph=True)
    first = leaf.grad.clone()
    assert first.abs().max() > 1e-3
    leaf.grad.zero_()
    loss.backward(above * 3, retain_graph=True)
    torch.testing.assert_close(leaf.grad, first * 3, rtol=1e-15, atol=0)
    loss.backward(above, retain_graph=True)
    torch.testing.assert_close(leaf.grad, first * 4, rtol=1e-15, atol=0)
    (given,) = torch.autograd.grad(loss, leaf, above, retain_graph=True)
    given.mul_(7)
    try:
        (again,) = torch.autograd.grad(loss, leaf, above)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017
    else:
        assert torch.equal(again, first)


def test_arguments_are_left_alone_and_may_change_later(batch):
    logits, targets, frames, lengths = batch
    log_priors = torch.linspace(-3, 0, 7, dtype=torch.float64)
    _, expected = loss_and_gradient(logits, targets, frames, lengths, log_priors=log_priors)
    leaf = logits.clone().requires_grad_()
    values = leaf * 1
    args = values, targets, frames, lengths, log_priors
    before = [arg.detach().clone() for arg in args]
    loss = ctc_loss(*args[:4], log_priors=log_priors)
    assert all(torch.equal(arg, old) for arg, old in zip(args, before, strict=True))
    for arg in args:
        arg.detach().zero_()  # changes it in place, and tells autograd
    loss.backward()
    assert torch.equal(leaf.grad, expected)


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


def test_infeasible_may_be_an_error(batch):
    """It names utterance, frames and need; pytorch#16199, wenet#2299: an infinity without a word, or hidden as 0."""
    logits, targets, frames, lengths = batch
    expected = loss_and_gradient(logits, targets, frames, lengths)
    found = loss_and_gradient(logits, targets, frames, lengths, infeasible="raise")
    assert torch.isfinite(expected[0])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    targets[1, :4] = 2
    row = torch.cat([targets[b, :n] for b, n in enumerate(lengths)])
    frames = torch.tensor([40, 6, 25, 0, 4])
    for labels in (targets, row):
        with pytest.raises(InfeasibleError, match=r"utterance 1 has 6 frames; its 4 labels need 7\b") as caught:
            ctc_loss(logits, labels, frames, lengths, zero_infinity=True, infeasible="raise")
        assert "\n" not in str(caught.value)
    frames[1] = 7
    with pytest.raises(InfeasibleError, match=r"utterance 4 has 4 frames; its 5 labels need [5-9]\b"):
        ctc_loss(logits, targets, frames, lengths, infeasible="raise")


def test_label_of_probability_zero_is_infinite_with_gradient_zero():
    logits = torch.zeros(5, 1, 3, dtype=torch.float64)
    logits[..., 2] = -torch.inf
    for infeasible in ("inf", "raise"):  # it has the frames that it needs
        loss, gradient = loss_and_gradient(logits, torch.tensor([[1, 2]]), [5], [2], infeasible=infeasible)
        assert loss == torch.inf
        assert (gradient == 0).all()


@pytest.mark.parametrize("num_frames", [0, 4])
@pytest.mark.parametrize("batch", [0, 2])
def test_no_frames_and_no_utterances(num_frames, batch):
    logits = torch.zeros(num_frames, batch, 3, requires_grad=True)
    losses = ctc_loss(logits, torch.ones(batch, 1, dtype=torch.int64), [0] * batch, [0, 1][:batch], reduction="none")
    assert losses.tolist() == [0.0, torch.inf][:batch]
    losses.sum().backward()
    assert logits.grad.shape == logits.shape
    assert (logits.grad == 0).all()
    for reduction in ("sum", "mean"):
        row = torch.ones(batch // 2, dtype=torch.int64)
        loss = ctc_loss(logits, row, [0] * batch, [0, 1][:batch], reduction=reduction, zero_infinity=True)
        assert loss.item() == 0


def test_logits_of_minus_infinity(rng):
    """Classes that cannot be: torch's gradient is NaN there."""
    logits = rng.standard_normal((30, 2, 5))
    logits[rng.random(logits.shape) < 0.15] = -np.inf
    logits[:, 1, 4] = -np.inf  # a class that can never be
    logits[12, :, :4] = 0.0, -np.inf, -np.inf, -np.inf  # only the blank can be
    targets = torch.tensor([[1, 2, 3, 2, 1], [1, 1, 2, 0, 0]])
    losses, gradient = loss_and_gradient(torch.from_numpy(logits), targets, [30, 30], [5, 3], reduction="none")
    assert torch.isfinite(losses).all()
    for b, length in enumerate([5, 3]):
        loss, expected = naive.ctc(logits[:, b], targets[b, :length].tolist())
        np.testing.assert_allclose(losses[b].item(), loss, rtol=1e-12)
        np.testing.assert_allclose(gradient[:, b], expected, rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("smallest", [0.0, math.log(1e-12), -300.0, -1000.0])
def test_log_priors_lessen_log_probs(batch, rng, smallest):
    """As a subtraction before the loss does, and at the logits as there."""
    logits, targets, frames, lengths = batch
    log_priors = torch.from_numpy(rng.standard_normal(7)).log_softmax(0)
    log_priors[3] += smallest
    losses, gradient = loss_and_gradient(
        logits, targets, frames, lengths, reduction="none", log_priors=log_priors.numpy()
    )
    direct = torch.nn.functional.ctc_loss(
        logits.log_softmax(2) - log_priors, targets, frames, lengths, reduction="none"
    )
    torch.testing.assert_close(losses, direct, rtol=1e-10, atol=1e-10)
    expected, expected_gradient = torch_loss_with_priors(logits, log_priors, targets, frames, lengths)
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-9)
    _, plain = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    assert (gradient - plain).abs().max() > 0.01
    for reduction, scales in (("sum", torch.ones(5)), ("mean", 0.2 / lengths.double().clamp(min=1))):
        loss, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction=reduction, log_priors=log_priors)
        torch.testing.assert_close(loss, (expected * scales).sum(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient, expected_gradient * scales[:, None], rtol=0, atol=1e-9)


def test_log_priors_of_no_effect(batch):
    """Equal ones add to the loss for each frame and change no path; of impossible utterances they change nothing."""
    logits, targets, frames, lengths = batch
    frames = frames.clone()
    frames[1] = 6
    expected, expected_gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    zeros, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none", log_priors=torch.zeros(7))
    assert torch.equal(zeros, expected)
    assert torch.equal(gradient, expected_gradient)
    equal = torch.full((7,), -2.5)
    losses, gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none", log_priors=equal)
    torch.testing.assert_close(losses, expected - 2.5 * frames, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)
    assert (losses[1], losses[3]) == (torch.inf, 0.0)
    zeroed = ctc_loss(logits, targets, frames, lengths, reduction="none", zero_infinity=True, log_priors=equal)
    assert torch.equal(zeroed, losses.masked_fill(losses.isinf(), 0.0))


def test_log_priors_of_any_kind(batch):
    priors = [-0.5, -1.0, -2.5, -4.0, -8.0, 0.0, -0.25]  # the same in all
    expected = ctc_loss(*batch, log_priors=np.array(priors))
    kinds = [torch.tensor(priors, dtype=dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)]
    for log_priors in (priors, torch.tensor(priors, requires_grad=True), *kinds):
        assert torch.equal(ctc_loss(*batch, log_priors=log_priors), expected)


def test_float32_gradient_is_no_worse_than_torchs(rng):
    logits = torch.from_numpy(rng.standard_normal((300, 4, 40)) * 3).float()
    args = torch.from_numpy(rng.integers(1, 40, (4, 40))), [300] * 4, [40] * 4
    _, exact = torch_loss_and_gradient(logits, *args, reduction="sum")
    _, ours = loss_and_gradient(logits, *args, reduction="sum")
    leaf = logits.clone().requires_grad_()
    torch.nn.functional.ctc_loss(leaf.log_softmax(2), *args, reduction="sum").backward()
    assert ours.dtype == leaf.grad.dtype == torch.float32
    error = (ours - exact).abs().max()
    assert 0 < error <= (leaf.grad - exact).abs().max()
    assert error < 1e-7  # its rounding, and no more


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(batch, dtype):
    logits, *args = batch
    values = logits.to(dtype)
    loss, gradient = loss_and_gradient(values, *args, reduction="none")
    assert (loss.dtype, gradient.dtype) == (torch.float64 if dtype == torch.float64 else torch.float32, dtype)
    for reduction in ("sum", "mean"):
        assert ctc_loss(values, *args, reduction=reduction).dtype == loss.dtype
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
    most = ctc.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 64):
            ctc.set_num_threads(threads)
            results.append(loss_and_gradient(*batch, reduction="none"))
    finally:
        ctc.set_num_threads(most)
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf])
@pytest.mark.parametrize("column", [0, 2, 5])
def test_nan_stays_with_its_utterance(batch, value, column):
    """Whether at the blank, at a label or at a class that the target does not even have; it fills its used frames."""
    logits, targets, frames, lengths = batch
    expected, expected_gradient = loss_and_gradient(logits, targets, frames, lengths, reduction="none")
    logits[3, 1, column] = value
    others = [0, 2, 3, 4]
    for zero_infinity in (False, True):
        loss, gradient = loss_and_gradient(
            logits, targets, frames, lengths, reduction="none", zero_infinity=zero_infinity
        )
        assert loss.isnan().tolist() == [False, True, False, False, False]
        assert torch.equal(loss[others], expected[others])
        assert torch.equal(gradient[:, others], expected_gradient[:, others])
        assert gradient[3, 1].isnan().all()
        assert (gradient[9:, 1] == 0).all()
        assert gradient[:9, 1].isnan().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": torch.zeros(4)}, r"shape \(T, B, C\), not torch.float32 \(4,\)"),
        ({"logits": torch.zeros(6, 1, 2, 4)}, r"shape \(T, B, C\), not torch.float32 \(6, 1, 2, 4\)"),
        ({"logits": torch.zeros(6, 4)}, r"input_lengths must be 1 integers, not int64 of shape \(2,\)"),
        ({"logits": torch.zeros(6, 2, 4, dtype=torch.int64)}, r"must be floating.*torch.int64"),
        ({"targets": torch.tensor([[1, 2], [3, 4]])}, r"target 1 .* outside 0\.\.3, .* blank 0: \[3, 4\]"),
        ({"targets": torch.tensor([[1, -1], [3, 2]])}, r"target 0 has a label outside"),
        ({"targets": torch.tensor([[1, 2], [0, 2]])}, r"target 1 has a label .* or the blank 0"),
        ({"targets": torch.tensor([[1.0, 2.0], [3.0, 2.0]])}, r"integers, .* not float32"),
        ({"targets": torch.tensor(1)}, r"integers, \(B, S\) or in a row, not int64 \(\)"),
        ({"targets": torch.tensor([[1, 2]])}, r"1 rows for 2 utterances"),
        ({"targets": torch.tensor([1, 2, 3])}, r"hold 3 labels, .* add up to 4"),
        ({"input_lengths": [6, 7]}, r"input_lengths\[1\] is 7, which is not in 0\.\.6"),
        ({"input_lengths": [-1, 6]}, r"input_lengths\[0\] is -1"),
        ({"input_lengths": [6]}, r"input_lengths must be 2 integers"),
        ({"input_lengths": [6.0, 6.0]}, r"input_lengths must be 2 integers, not float64"),
        ({"target_lengths": [2, 3]}, r"target_lengths\[1\] is 3, which is not in 0\.\.2"),
        ({"target_lengths": torch.tensor([2.0, 2.0])}, r"target_lengths must be 2 integers, not float32"),
        ({"blank": 4}, r"blank 4 is not one of the 4 classes"),
        ({"blank": -1}, r"blank -1 is not one of the 4 classes"),
        ({"reduction": "average"}, r"none, mean or sum, not 'average'"),
        ({"infeasible": "ignore"}, r"inf or raise, not 'ignore'"),
        ({"log_priors": torch.zeros(3)}, r"log_priors must be 4 finite numbers, not \[0.0, 0.0, 0.0\]"),
        ({"log_priors": torch.zeros(1, 4)}, r"log_priors must be 4 finite numbers"),
        ({"log_priors": torch.zeros(4).log()}, r"log_priors must be 4 finite numbers, not \[-inf,"),
        ({"log_priors": [0.0, 0.0, np.nan, 0.0]}, r"log_priors must be 4 finite numbers, not .*nan"),
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


def test_kernels_run_without_compilation(run_python):
    """Rescaled and, at a scale of 3000, in logarithms; an utterance without a path; and with priors."""
    run_python(
        """
import naive, numpy as np, torch
from asr.ctc import ctc_loss
rng = np.random.default_rng(0)
targets, frames = torch.tensor([[1, 1], [3, 1], [3, 3]]), [5, 4, 2]
for scale, blank in ((1, 0), (3000, 2)):
    logits = scale * rng.standard_normal((5, 3, 4))
    for log_priors in (np.zeros(4), np.log([0.7, 0.1, 1e-12, 0.2])):
        leaf = torch.from_numpy(logits).requires_grad_()
        losses = ctc_loss(leaf, targets, frames, [2, 2, 2], blank, "none", log_priors=log_priors)
        losses.sum().backward()
        assert losses[2] == torch.inf
        for b, have in enumerate(frames[:2]):
            log_probs = naive.log_softmax(logits[:have, b])
            scores = naive.log_softmax(log_probs - log_priors)
            loss, gradient = naive.ctc(log_probs - log_priors, targets[b].tolist(), blank)
            expected = loss - np.logaddexp.reduce(log_probs - log_priors, axis=1).sum()
            np.testing.assert_allclose(losses[b].item(), expected, rtol=1e-10, atol=1e-10)
            expected = gradient - np.exp(scores) + np.exp(log_probs)
            np.testing.assert_allclose(leaf.grad[:have, b], expected, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(leaf.grad[:, 2], 0.0)
""",
        NUMBA_DISABLE_JIT="1",
    )
