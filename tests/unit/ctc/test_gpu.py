"""The losses on a GPU: Triton's kernels, interpreted where there is none, beside the processor's."""

import logging
from contextlib import contextmanager
from itertools import pairwise
from unittest import mock

import naive
import numpy as np
import pytest
import torch
from torch_ctc import loss_and_gradient, torch_crf_losses

from asr.ctc import Denominator, TokenModel, crf_loss, ctc_loss, gpu
from asr.ctc.automaton import Arcs
from asr.lm import fusion
from asr.lm.estimation import estimate

pytest.importorskip("triton")

import triton_interpreter  # noqa: F401

from asr.ctc import gpu_automaton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LABELS = ["<blank>", *"abcde"]

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # NaN, in the interpreter's numpy


@contextmanager
def on_gpu():
    """Compute losses of tensors on DEVICE as on a GPU."""
    with mock.patch.object(gpu, "serves", return_value=True):
        yield


def both(loss, logits, *args, **kwargs):
    """Loss and gradient of the processor, and of the GPU."""
    expected = loss_and_gradient(logits, *args, loss=loss, **kwargs)
    with on_gpu():
        found = loss_and_gradient(logits.to(DEVICE), *args, loss=loss, **kwargs)
    assert found[0].device.type == found[1].device.type == DEVICE
    return expected, [each.cpu() for each in found]


def assert_alike(expected, found, kind):
    tolerance = 1e-10 if kind == torch.float64 else 1e-5
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.fixture(scope="module")
def ngram():
    """A 4-gram that has seen little: links over two levels, and a node that is no state."""
    rng = np.random.default_rng(20260616)
    text = [list(rng.choice(LABELS[1:], rng.integers(1, 9))) for _ in range(12)]
    denominator = fusion.denominator(estimate(text, "phones", 4, "witten_bell", LABELS[1:]), LABELS)
    tiles = gpu_automaton.tiles(gpu_automaton._levels(denominator.automaton))
    assert len(tiles.levels) == 5
    assert len(denominator.automaton.leaving.offsets) - 1 > 2 * denominator.num_states
    return denominator


def batch(rng, kind, scale=3.0):
    """Repeats, an empty target, a single frame, no frames, too few frames; logits of NaN, +inf and −inf."""
    logits = torch.from_numpy(scale * rng.standard_normal((5, 9, 6))).to(kind)
    targets = torch.from_numpy(rng.integers(1, 4, (9, 3)))
    targets[0] = torch.tensor([1, 2, 2])
    frames, labels = torch.tensor([5, 2, 1, 0, 0, 3, 4, 3, 3]), torch.tensor([3, 0, 1, 0, 1, 3, 2, 2, 3])
    targets[5] = 2
    logits[2, 6, 1], logits[1, 7, 0] = torch.nan, torch.inf
    logits[:, 8, 1:4], logits[0, 0, 3] = -1e30, -torch.inf
    return logits, targets, frames, labels


def part(args, first, stop):
    """Some utterances of a batch, of three frames at most."""
    logits, targets, frames, labels = args
    some = slice(first, stop)
    return logits[:3, some], targets[some], frames[some].clamp(max=3), labels[some].clamp(max=2)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_ctc_is_that_of_the_processor(rng, kind):
    expected, found = both(ctc_loss, *batch(rng, kind), reduction="none")
    assert_alike(expected, found, kind)
    assert torch.isfinite(expected[0]).tolist() == [True, True, True, True, False, False, False, False, False]
    assert found[0][:6].isinf().tolist() == [False] * 4 + [True] * 2


def test_mean_priors_and_zero_infinity(rng):
    logits, *args = batch(rng, torch.float64)
    logits = logits.nan_to_num(0.0, 1.0, -50.0)
    options = {"zero_infinity": True, "log_priors": torch.tensor([-0.1, -2.0, -30.0, -1.0, 0.0, 0.0])}
    assert_alike(*both(ctc_loss, logits, *args, reduction="mean", **options), torch.float64)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_extreme_logits(rng, kind):
    """±1e4: their exponents, added up, are far beyond those of floats."""
    logits = (1e4 * torch.from_numpy(rng.choice([-1.0, 1.0], (12, 1, 4)))).to(kind)
    target = torch.from_numpy(rng.integers(1, 4, (1, 4)))
    with on_gpu():
        losses, gradient = loss_and_gradient(logits.to(DEVICE), target, [12], [4], reduction="sum")
    loss, expected = naive.ctc(logits[:, 0].double().numpy(), target[0].tolist())
    np.testing.assert_allclose(losses.item(), loss, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, 0].cpu(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_types(rng, kind):
    logits = torch.from_numpy(rng.standard_normal((3, 1, 4))).to(kind)
    expected, found = both(ctc_loss, logits, torch.tensor([[1, 1]]), [3], [2], reduction="sum")
    assert_alike(expected, found, torch.float32)
    assert (found[0].dtype, found[1].dtype) == (torch.float32, kind)


def losses_of(denominator):
    """Both losses, called alike."""

    def crf(*args, **kwargs):
        return crf_loss(*args, denominator, **kwargs)

    return {"ctc": ctc_loss, "crf": crf}


@pytest.mark.parametrize("name", ["crf", "ctc"])
def test_order_padding_and_other_utterances_change_no_bit(rng, ngram, name):
    loss = losses_of(ngram)[name]
    logits, targets, frames, labels = part(batch(rng, torch.float32), 0, 3)
    padded = torch.nn.functional.pad(logits[:, :2].flip(1), (0, 0, 0, 0, 0, 1), value=torch.nan).transpose(0, 1)
    others = torch.nn.functional.pad(targets[:2].flip(0), (0, 40)), frames[:2].flip(0), labels[:2].flip(0)
    strided = padded.contiguous().transpose(0, 1)
    with on_gpu():
        losses, gradient = loss_and_gradient(logits.to(DEVICE), targets, frames, labels, loss=loss, reduction="none")
        moved, turned = loss_and_gradient(strided.to(DEVICE), *others, loss=loss, reduction="none")
    assert torch.equal(moved.flip(0), losses[:2])
    assert torch.equal(turned[:3].flip(1), gradient[:, :2])
    assert (turned[3:] == 0).all()


@pytest.mark.parametrize("name", ["crf", "ctc"])
def test_gradient_equals_finite_differences(rng, ngram, name):
    loss = losses_of(ngram)[name]
    leaf = torch.from_numpy(rng.standard_normal((2, 1, 6))).to(DEVICE).requires_grad_()
    args = torch.tensor([[2, 1]]), [2], [2]
    weights = torch.tensor([-0.5], dtype=torch.float64, device=DEVICE)

    def weighted(x):
        return loss(x, *args, reduction="none") * weights

    with on_gpu():
        assert torch.autograd.gradcheck(weighted, leaf, fast_mode=True)
        with pytest.raises(RuntimeError, match="no second derivative"):
            torch.autograd.grad(loss(leaf, *args), leaf, create_graph=True)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_crf_is_that_of_the_processor(rng, ngram, kind):
    options = {"reduction": "none", "ctc_weight": 0.5, "zero_infinity": True}
    assert_alike(*both(losses_of(ngram)["crf"], *part(batch(rng, kind), 4, 9), **options), kind)


def test_crf_of_weights_beyond_floats(rng):
    """A denominator whose weights differ by e^200, with logits of ±300."""
    scores = np.log(np.full((2, 3), 0.5)) - 200.0 * rng.random((2, 3))
    model = TokenModel(scores, np.array([[0, 1, 0], [0, 1, 0]]), np.array([-100.0, 3.0]))
    logits = torch.from_numpy(rng.choice([-300.0, 300.0], (5, 1, 3)))
    args = torch.tensor([[1, 2]]), [5], [2]
    assert_alike(*both(losses_of(Denominator.of(model))["crf"], logits, *args, reduction="none"), torch.float64)


def test_crf_is_that_of_a_dense_table(rng, ngram):
    logits, args = torch.from_numpy(rng.standard_normal((4, 2, 6))), (torch.tensor([[1, 1], [2, 3]]), [4, 4], [2, 2])
    with on_gpu():
        losses, gradient = loss_and_gradient(logits.to(DEVICE), *args, loss=losses_of(ngram)["crf"], reduction="none")
    leaf = logits.clone().requires_grad_()
    expected = torch_crf_losses(leaf, *args, ngram.model)
    expected.sum().backward()
    torch.testing.assert_close(losses.cpu(), expected.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient.cpu(), leaf.grad, rtol=0, atol=1e-10)


def test_a_batch_is_done_in_parts_where_its_rows_are_large(rng, ngram, monkeypatch):
    logits, targets, frames, labels = part(batch(rng, torch.float32), 1, 3)
    crf = losses_of(ngram)["crf"]
    with on_gpu():
        expected = loss_and_gradient(logits.to(DEVICE), targets, frames, labels, loss=crf)
        monkeypatch.setattr(gpu_automaton, "MEMORY", 1)
        found = loss_and_gradient(logits.to(DEVICE), targets, frames, labels, loss=crf)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_no_frames_and_no_utterances(ngram):
    for loss in losses_of(ngram).values():
        for num_frames, num in ((0, 2), (3, 0), (0, 0)):
            logits = torch.zeros(num_frames, num, 6)
            args = torch.ones(num, 1, dtype=torch.int64), [0] * num, [0, 1][:num]
            expected, found = both(loss, logits, *args, reduction="none")
            assert_alike(expected, found, torch.float32)


@pytest.mark.parametrize("num_ends", [1, 700])
def test_tiles_hold_all_arcs(rng, num_ends):
    """Sums over arcs, some ends with none and one with hundreds; weights down to e^-230."""
    degrees = rng.integers(0, 12, num_ends)
    degrees[0] = 300
    offsets, total = np.append(0, np.cumsum(degrees)), int(degrees.sum())
    arcs = Arcs(offsets, rng.integers(0, 1000, total), np.exp(-230 * rng.random(total)))
    values, ends = rng.random(1000), rng.permutation(2 * num_ends)[:num_ends]
    tiles = gpu_automaton.tiles([(ends, arcs)])
    assert tiles.levels[0] == 0
    assert tiles.levels[2] == len(tiles.starts) - 1 == len(tiles.ends)
    others, exponents = tiles.packed & 0xFFFFF, tiles.packed >> 20
    products = np.ldexp(tiles.weights, exponents) * values[others]
    assert ((tiles.weights == 0) | ((tiles.weights >= 1) & (tiles.weights < 2))).all()
    assert (tiles.weights[tiles.starts[-1] :] == 0).all()  # what is read in advance
    found = np.full(2 * num_ends, np.nan)
    for i, here in enumerate(tiles.ends):
        width = gpu_automaton.WIDE if i < tiles.levels[1] else gpu_automaton.NARROW
        parts = products[tiles.starts[i] : tiles.starts[i + 1]].reshape(-1, width, gpu_automaton.TILE // width)
        sums = np.resize(parts.sum((0, 1)), len(here))
        assert (here[parts.shape[2] :] == -1).all()
        found[here[here >= 0]] = sums[here >= 0]
    expected = [arcs.weights[a:b] @ values[arcs.others[a:b]] for a, b in pairwise(offsets)]
    np.testing.assert_allclose(found[ends], expected, rtol=1e-12)
    assert np.isnan(found).sum() == num_ends


def test_without_triton_the_processor_does_it_and_the_log_says_so_once(caplog):
    gpu._works.cache_clear()
    with (
        mock.patch("asr.ctc.gpu_numbers.probe", {(1,): mock.Mock(side_effect=RuntimeError("no compiler\nat all"))}),
        mock.patch.object(torch.cuda, "device"),
        caplog.at_level(logging.WARNING),
    ):
        device = torch.device("cpu")
        assert [gpu._works(device), gpu._works(device)] == [False, False]
    gpu._works.cache_clear()
    (record,) = caplog.records
    assert (
        record.getMessage() == "the loss is computed on the processor, since Triton does not work on cpu: no compiler"
    )
    assert not gpu.serves(torch.zeros(1))
