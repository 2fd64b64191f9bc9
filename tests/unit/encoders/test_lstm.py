"""LSTM layers by our own kernels, and their products: against torch's in float64, an utterance at a time."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from asr.core import workers
from asr.encoders import lstm, lstm_kernels, tiles
from asr.encoders.blstm import EncoderConfig

pytestmark = pytest.mark.kernels

needs_bfloat16 = pytest.mark.skipif(not tiles.HAS_BFLOAT16, reason="no instruction for bfloat16, or no compiler")
LENGTHS = ([9, 4, 9, 1, 6], [1], [7], [3, 3], [1, 1, 1], [2, 8, 5, 8, 3, 1, 7, 4, 6, 8, 2, 2, 5])
TYPES = (torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


@pytest.fixture(autouse=True)
def restore_threads():
    before = workers.get_num_threads()
    yield
    workers.set_num_threads(before)


def example(lengths, directions=2, inputs=5, size=7):
    """Layers, inputs (B, T, F), a scale, and gradients at the outputs (T, B, D H); beyond each utterance all is NaN."""
    layers = [nn.LSTM(inputs, size) for _ in range(directions)]
    frames = max(lengths) + 1  # a batch may be padded further than its longest utterance
    x = torch.randn(len(lengths), frames, inputs)
    upstream = torch.randn(frames, len(lengths), directions * size)
    for b, length in enumerate(lengths):
        x[b, length:] = torch.nan
        upstream[length:, b] = torch.nan
    return layers, x, torch.rand(len(lengths), directions * size) + 0.5, upstream


def results(layers, x, lengths, scale, upstream, dtype=torch.float32):
    """Outputs (T, B, D H), and the gradients at the inputs (B, T, F) and at all weights, by the kernels."""
    x = x.clone().requires_grad_()
    rows = lstm.Rows(torch.tensor(lengths), x.shape[1])
    outputs = rows.unpack(lstm.run(layers, rows.pack(x).to(dtype), scale, rows))
    weights = [each for layer in layers for each in layer.parameters()]
    return [outputs, *torch.autograd.grad(outputs, [x, *weights], upstream.to(dtype))]


def reference(layers, x, lengths, scale, upstream):
    """The same by torch in float64, an utterance at a time and without padding."""
    layers = [copy.deepcopy(layer).double() for layer in layers]
    weights = [each for layer in layers for each in layer.parameters()]
    found = [torch.zeros(upstream.shape, dtype=torch.float64), torch.zeros(x.shape, dtype=torch.float64)]
    totals = [torch.zeros_like(each) for each in weights]
    for b, length in enumerate(lengths):
        frames = x[b, :length].double().requires_grad_()
        ways = [frames, frames.flip(0)][: len(layers)]
        outputs = [layer(way)[0] for layer, way in zip(layers, ways, strict=True)]
        outputs = torch.cat([outputs[0], *(each.flip(0) for each in outputs[1:])], dim=1) * scale[b]
        at_x, *grads = torch.autograd.grad(outputs, [frames, *weights], upstream[:length, b].double())
        found[0][:length, b], found[1][b, :length] = outputs.detach(), at_x
        totals = [total + grad for total, grad in zip(totals, grads, strict=True)]
    return found + totals


def assert_near(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * max(1, b.abs().max())


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_outputs_and_gradients_are_torchs_whatever_the_padding(lengths, directions):
    layers, x, scale, upstream = example(lengths, directions)
    found, expected = results(layers, x, lengths, scale, upstream), reference(layers, x, lengths, scale, upstream)
    assert_near(found, expected, 2e-6)
    for b, length in enumerate(lengths):
        assert not found[0][length:, b].any()
        assert not found[1][b, length:].any()
    assert max(lengths) == 1 or all(each.abs().max() > 1e-3 for each in expected)


@pytest.mark.parametrize(("inputs", "size"), [(1, 1), (4, 8), (6, 33), (65, 3)])
def test_sizes_that_fill_no_panel_and_more_than_one(inputs, size):
    lengths = [5, 3, 4]
    layers, x, scale, upstream = example(lengths, 2, inputs, size)
    found, expected = results(layers, x, lengths, scale, upstream), reference(layers, x, lengths, scale, upstream)
    assert_near(found, expected, 2e-6)


@needs_bfloat16
@pytest.mark.parametrize(("inputs", "size"), [(5, 7), (64, 48)])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_bfloat16_is_near(lengths, inputs, size):
    layers, x, scale, upstream = example(lengths, 2, inputs, size)
    found = results(layers, x, lengths, scale, upstream, torch.bfloat16)
    expected = reference(layers, x, lengths, scale, upstream)
    assert found[0].dtype == torch.bfloat16
    assert_near(found, expected, 0.02)


@needs_bfloat16
def test_bfloat16_is_as_near_as_torchs():
    lengths = [40, 40, 40]
    layers, x, scale, upstream = example(lengths, 1, 64, 48)
    scale[:], upstream[-1] = 1, 0
    expected = reference(layers, x, lengths, scale, upstream)
    ours, x = results(layers, x, lengths, scale, upstream, torch.bfloat16), x[:, :-1].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = layers[0](x.transpose(0, 1))
    theirs = [outputs, *torch.autograd.grad(outputs, [x, *layers[0].parameters()], upstream[:-1].bfloat16())]
    expected[0], expected[1] = expected[0][:-1], expected[1][:, :-1]
    ours[0], ours[1] = ours[0][:-1], ours[1][:, :-1]
    for a, b, exact in zip(ours, theirs, expected, strict=True):
        assert (a - exact).norm() < 1.1 * (b - exact).norm()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("directions", [1, 2])
def test_the_same_bits_each_time_and_with_any_threads(directions, dtype, monkeypatch):
    lengths = LENGTHS[-1]
    layers, x, scale, upstream = example(lengths, directions)
    found = []
    for threads in (1, 1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        workers.set_num_threads(threads)
        found.append(results(layers, x, lengths, scale, upstream, dtype))
    for others in zip(*found, strict=True):
        assert all(torch.equal(others[0], other) for other in others[1:])


@pytest.mark.parametrize("dtype", TYPES)
def test_an_utterance_does_not_feel_its_batch_to_the_bit(dtype):
    lengths = LENGTHS[-1]
    layers, x, scale, upstream = example(lengths)
    together = results(layers, x, lengths, scale, upstream, dtype)
    for b, length in enumerate(lengths):
        alone = results(layers, x[b : b + 1], [length], scale[b : b + 1], upstream[:, b : b + 1], dtype)
        assert torch.equal(alone[0][:, 0], together[0][:, b])
        assert torch.equal(alone[1][0], together[1][b])


def test_a_graph_that_is_kept_gives_its_gradients_again():
    lengths = [6, 4]
    layers, x, scale, _ = example(lengths)
    rows = lstm.Rows(torch.tensor(lengths), x.shape[1])
    total = lstm.run(layers, rows.pack(x), scale, rows).square().sum()
    weights = [each for layer in layers for each in layer.parameters()]
    first, second = (torch.autograd.grad(total, weights, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_outputs_may_be_changed_in_place_and_weights_may_not():
    lengths = [6, 4]
    layers, x, scale, _ = example(lengths)
    rows = lstm.Rows(torch.tensor(lengths), x.shape[1])
    weights = layers[0].weight_hh_l0
    (expected,) = torch.autograd.grad(2 * lstm.run(layers, rows.pack(x), scale, rows).sum(), weights)
    (found,) = torch.autograd.grad(lstm.run(layers, rows.pack(x), scale, rows).mul_(2).sum(), weights)
    assert torch.equal(found, expected)
    total = lstm.run(layers, rows.pack(x), scale, rows).sum()
    with torch.no_grad():
        weights.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_second_derivative_is_refused():
    layers, x, scale, _ = example([5])
    rows = lstm.Rows(torch.tensor([5]), x.shape[1])
    total = lstm.run(layers, rows.pack(x), scale, rows).square().sum()
    with pytest.raises(RuntimeError, match="recurrent layers have no second derivative"):
        torch.autograd.grad(total, layers[0].weight_hh_l0, create_graph=True)


def test_large_net_inputs_saturate_and_nan_stays():
    layers, x, scale, _ = example([5, 5])
    rows = lstm.Rows(torch.tensor([5, 5]), 5)
    x = x[:, :5].clone()
    assert lstm.run(layers, 1e30 * rows.pack(x), scale, rows).isfinite().all()
    x[1, 2, 0] = torch.nan
    outputs = rows.unpack(lstm.run(layers, rows.pack(x), scale, rows))
    assert outputs[:, 0].isfinite().all()
    assert outputs[2, 1].isnan().all()


@pytest.mark.parametrize("lengths", LENGTHS)
def test_rows_and_back_and_their_gradients(lengths):
    x = torch.randn(len(lengths), max(lengths) + 1, 3, dtype=torch.float64, requires_grad=True)
    rows = lstm.Rows(torch.tensor(lengths), x.shape[1])
    back = rows.unpack(rows.pack(x)).transpose(0, 1)
    for b, length in enumerate(lengths):
        assert torch.equal(back[b, :length], x[b, :length])
        assert not back[b, length:].any()
    assert torch.autograd.gradcheck(rows.pack, x)
    packed = rows.pack(x).detach().requires_grad_()
    assert len(packed) == sum(lengths) + len(lengths) + 1
    upstream = torch.randn(back.shape, dtype=torch.float64).transpose(0, 1)
    (found,) = torch.autograd.grad(rows.unpack(packed), packed, upstream)
    assert torch.equal(found, rows.pack(upstream.transpose(0, 1)))


def as_array(values, dtype):
    """A tensor as the kernels take it, and what it then holds in float64."""
    tensor = torch.from_numpy(values).to(dtype)
    array = tensor.view(torch.uint16) if dtype == torch.bfloat16 else tensor
    return array.numpy(), tensor.double().numpy()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("columns", [1, 63, 64, 150])
@pytest.mark.parametrize("depth", [2, 16])
def test_products_of_few_rows(depth, columns, dtype, rng):
    matrix, exact = as_array(rng.standard_normal((depth, columns)).astype(np.float32), dtype)
    panels = lstm._panels(matrix.shape, matrix.dtype)
    tiles.pack(matrix, (0, columns), 0, panels)
    for count in range(1, 2 * tiles.ROWS + 2):
        rows, values = as_array(rng.standard_normal((count, depth)).astype(np.float32), dtype)
        product = np.full((count, len(panels) * tiles.WIDTH), np.nan, np.float32)
        tiles.multiply(rows, panels, product)
        np.testing.assert_allclose(product[:, :columns], values @ exact, rtol=0, atol=1e-5)
        assert not product[:, columns:].any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("length", [1, 2, 7, 10])
@pytest.mark.parametrize("start", [-1, 0, 1])
def test_sums_over_rows_of_which_one_matrix_is_shifted(start, length, dtype, rng):
    a, left = as_array(rng.standard_normal((length, 13)).astype(np.float32), dtype)
    b, right = as_array(rng.standard_normal((length, 9)).astype(np.float32), dtype)
    panels, turned = lstm._panels((length, 4), b.dtype), lstm._panels(a.shape, a.dtype, lstm.TURNED)
    tiles.pack(a, (0, 13), 0, turned)
    tiles.pack(b, (3, 7), start, panels)
    product = np.empty((len(turned) * lstm.TURNED, len(panels) * tiles.WIDTH), np.float32)
    tiles.multiply_transposed(turned, panels, product)
    moved = np.zeros_like(right)
    moved[max(0, start) : length + min(0, start)] = right[max(0, -start) : length - max(0, start)]
    np.testing.assert_allclose(product[:13, :4], left.T @ moved[:, 3:7], rtol=0, atol=1e-5)


@needs_bfloat16
def test_numbers_are_rounded_as_torch_rounds_them():
    halves = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.4e38, torch.inf, -torch.inf, 0.0, -0.0, 1e-42])
    numbers = torch.cat((halves, torch.randn(1000)))[None]
    found = np.empty(numbers.shape, np.uint16)
    tiles.convert(numbers.numpy(), found)
    assert np.array_equal(found, numbers.bfloat16().view(torch.uint16).numpy())
    tiles.convert(np.full((1, 1), np.nan, np.float32), found[:, :1])
    assert torch.from_numpy(found[:, :1].copy()).view(torch.bfloat16).isnan().all()


def test_exponentials():
    x = np.concatenate((np.linspace(-87, 0, 2001), -np.geomspace(1e-8, 80, 500))).astype(np.float32)
    found = np.array([lstm_kernels._exp(each) for each in x])
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert found.dtype == np.float32


def networks(**options):
    torch.manual_seed(3)
    return EncoderConfig(num_layers=2, hidden_size=6, stack=3, **options).build(5, 4)


@pytest.mark.parametrize("options", [{}, {"channels": 2}, {"bidirectional": False}, {"dropout": 0.4}])
def test_a_network_learns_by_the_kernels_as_by_torch(options, monkeypatch):
    network, found = networks(**options), []
    features, lengths = torch.randn(3, 17, 5, requires_grad=True), torch.tensor([17, 9, 4])
    upstream = torch.randn(6, 3, 4)
    for b, steps in enumerate((6, 3, 2)):
        upstream[steps:, b] = 0
    for by_kernels in (True, False):
        monkeypatch.setattr(lstm, "can_run", lambda *_, by_kernels=by_kernels: by_kernels)
        torch.manual_seed(5)
        logits, steps = network(features, lengths)
        assert steps.tolist() == [6, 3, 2]
        grads = torch.autograd.grad(logits, [features, *network.parameters()], upstream)
        found.append([logits * (upstream != 0), *grads])
    assert_near(*found, 2e-6)


@needs_bfloat16
@pytest.mark.parametrize("channels", [0, 4])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_network_learns_in_mixed_precision(bidirectional, channels):
    network, found = networks(bidirectional=bidirectional, channels=channels), []
    features, lengths = torch.randn(3, 17, 5), torch.tensor([17, 9, 4])
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits, _ = network(features, lengths)
        assert logits.dtype == torch.float32
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(network.parameters()))])
    assert_near(*found, 0.03)
    assert not torch.equal(found[0][0], found[1][0])


def test_kernels_are_for_learning_on_a_cpu_in_single_precision():
    network = networks()
    x = torch.randn(2, 6, 15)
    assert lstm.can_run(x, network.forward_layers)
    assert not lstm.can_run(x.to("meta"), network.forward_layers)
    with torch.no_grad():
        assert not lstm.can_run(x, network.forward_layers)
    with torch.autocast("cpu", torch.float16):
        assert not lstm.can_run(x, network.forward_layers)
    assert not lstm.can_run(x.double(), networks().double().forward_layers)
