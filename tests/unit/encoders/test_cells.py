"""Recurrent layers: against loops a reader can check, torch's own layers and finite differences; and their encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from asr import encoders
from asr.core.config import from_dict
from asr.core.errors import ConfigError
from asr.data.batches import collate
from asr.encoders.cells import GRU, LSTM, Elman, Jordan, PeepholeLSTM
from asr.encoders.initialisers import initialise

pytestmark = pytest.mark.kernels

LAYERS = {
    "elman_tanh": lambda truncate=0: Elman(5, 6, "tanh", truncate),
    "elman_relu": lambda truncate=0: Elman(5, 6, "relu", truncate),
    "jordan": lambda truncate=0: Jordan(5, 6, 4, truncate=truncate),
    "jordan_tanh": lambda truncate=0: Jordan(5, 6, 4, "tanh", truncate=truncate),
    "jordan_logits": lambda truncate=0: Jordan(5, 6, 4, logits=True, truncate=truncate),
    "peephole_lstm": lambda truncate=0: PeepholeLSTM(5, 6, truncate),
    "lstm": lambda truncate=0: LSTM(5, 6, truncate),
    "gru": lambda truncate=0: GRU(5, 6, truncate),
}
OURS = [name for name in LAYERS if name not in ("lstm", "gru")]
CELLS = ["elman_tanh", "elman_relu", "jordan", "lstm", "peephole_lstm", "gru"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def elman_step(layer, x, h):
    h = x @ layer.input_weights.T + h @ layer.recurrent_weights.T + layer.bias
    h = h.clamp(min=0) if layer.nonlinearity == "relu" else h.tanh()
    return h, (h,)


def jordan_step(layer, x, y):
    h = torch.tanh(x @ layer.input_weights.T + y @ layer.recurrent_weights.T + layer.bias)
    v = h @ layer.output_weights.T + layer.output_bias
    y = torch.exp(v) / torch.exp(v).sum(1, keepdim=True) if layer.activation == "softmax" else v.tanh()
    return v if layer.logits else y, (y,)


def lstm_step(layer, x, z, s):
    net = x @ layer.input_weights.T + z @ layer.recurrent_weights.T + layer.bias
    into, forget, u, out = net.chunk(4, dim=1)
    peep_into, peep_forget, peep_out = layer.peepholes.chunk(3)
    s, before = torch.sigmoid(forget + peep_forget * s) * s, s
    s = s + torch.sigmoid(into + peep_into * before) * u.tanh()
    z = torch.sigmoid(out + peep_out * s) * s.tanh()
    return z, (z, s)


def torch_step(layer, x, *state):
    kind = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[type(layer.cell)]
    cell = kind(layer.cell.input_size, layer.cell.hidden_size, dtype=x.dtype)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        delattr(cell, name)
        setattr(cell, name, getattr(layer.cell, f"{name}_l0"))
    state = cell(x, state if kind is nn.LSTMCell else state[0])
    state = state if kind is nn.LSTMCell else (state,)
    return state[0], tuple(state)


STEPS = {Elman: elman_step, Jordan: jordan_step, PeepholeLSTM: lstm_step, LSTM: torch_step, GRU: torch_step}


def loop(layer, x, state, truncate=0):
    """A frame at a time, detaching the state at each multiple of `truncate` frames but 0."""
    outputs = []
    for t, frame in enumerate(x):
        if truncate and t and t % truncate == 0:
            state = tuple(part.detach() for part in state)
        output, state = STEPS[type(layer)](layer, frame, *state)
        outputs.append(output)
    return torch.stack(outputs), state


def example(name, truncate=0, frames=11, batch=3, dtype=torch.float64):
    """A layer, inputs (T, B, 5), and a first state that is not 0."""
    layer = LAYERS[name](truncate).to(dtype)
    x = torch.randn(frames, batch, 5, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        _, state = layer(x)
    return layer, x, tuple(torch.randn_like(part).requires_grad_() for part in state)


def results(run, layer, x, state):
    """Outputs, last state, and the gradients at inputs, first state and weights of a sum that has a part of each."""
    output, last = run(x, state)
    generator = torch.Generator().manual_seed(2)
    upstream = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype) for v in (output, *last)]
    total = sum((grad * v).sum() for grad, v in zip(upstream, (output, *last), strict=True))
    return output, *last, *torch.autograd.grad(total, [x, *state, *layer.parameters()])


@pytest.mark.parametrize("name", OURS)
def test_gradients_are_those_of_finite_differences(name):
    layer, x, state = example(name, frames=4, batch=2)
    names = [key for key, _ in layer.named_parameters()]

    def run(x, *values):
        weights = dict(zip(names, values[len(state) :], strict=True))
        output, last = torch.func.functional_call(layer, weights, (x, values[: len(state)]))
        return output, *last

    weights = [value.detach().requires_grad_() for value in layer.parameters()]
    assert torch.autograd.gradcheck(run, (x, *state, *weights))


@pytest.mark.parametrize("truncate", [0, 1, 3, 5, 10, 11, 100])
@pytest.mark.parametrize("name", LAYERS)
def test_as_a_loop_that_detaches_the_state(name, truncate):
    layer, x, state = example(name, truncate)
    ours = results(layer, layer, x, state)
    theirs = results(lambda x, state: loop(layer, x, state, truncate), layer, x, state)
    for mine, yours in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_truncation_changes_gradients_and_no_output(name):
    layer, x, state = example(name)
    whole = results(layer, layer, x, state)
    for truncate, same in ((11, True), (12, True), (3, False)):
        layer.truncate = truncate
        cut = results(layer, layer, x, state)
        torch.testing.assert_close(cut[0], whole[0])
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(cut, whole, strict=True)) == same
    output, _ = layer(x, state)
    (output[3:] ** 2).sum().backward()
    assert not x.grad[:3].any()
    assert x.grad[3:].any(dim=2).any(dim=1).all()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_elman_as_torchs_rnn(nonlinearity):
    layer, x, (first,) = example(f"elman_{nonlinearity}")
    twin = nn.RNN(5, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    copy_weights(layer, twin)
    ours, theirs = layer(x, (first,)), twin(x, first[None])
    compare_with_torch(layer, twin, x, ours[0], theirs[0])


def test_lstm_as_torchs_where_nothing_peeps():
    layer, x, state = example("peephole_lstm")
    nn.init.zeros_(layer.peepholes)
    twin = nn.LSTM(5, 6, dtype=torch.float64)
    copy_weights(layer, twin)
    (ours, last), (theirs, (_, cells)) = layer(x, state), twin(x, tuple(part[None] for part in state))
    torch.testing.assert_close(last[1], cells[0])
    compare_with_torch(layer, twin, x, ours, theirs)


@pytest.mark.parametrize(("name", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_torchs_layers_with_the_weights_of_others(name, kind):
    layer, x, _ = example(name)
    twin = kind(5, 6, dtype=torch.float64)
    twin.load_state_dict(layer.cell.state_dict())
    torch.testing.assert_close(layer(x)[0], twin(x)[0])


def copy_weights(layer, twin):
    with torch.no_grad():
        twin.weight_ih_l0.copy_(layer.input_weights)
        twin.weight_hh_l0.copy_(layer.recurrent_weights)
        twin.bias_ih_l0.copy_(layer.bias)
        twin.bias_hh_l0.zero_()


def compare_with_torch(layer, twin, x, ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)
    upstream = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, [x, layer.input_weights, layer.recurrent_weights, layer.bias], upstream)
    yours = torch.autograd.grad(theirs, [x, twin.weight_ih_l0, twin.weight_hh_l0, twin.bias_ih_l0], upstream)
    for a, b in zip(mine, yours, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", OURS)
def test_float32_is_near_float64(name):
    layer, x, state = example(name, frames=50)
    exact = results(layer, layer, x, state)
    rough = results(layer.float(), layer, x.detach().float().requires_grad_(), tuple(s.float() for s in state))
    for a, b in zip(rough, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 2e-5 * max(1, b.abs().max())


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_each_time_and_with_more_threads(name, threads, monkeypatch):
    layer, x, state = example(name, batch=13, dtype=torch.float32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = results(layer, layer, x, state)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    first, second = results(layer, layer, x, state), results(layer, layer, x, state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for a, b in zip(first, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_in_parts_is_the_sequence(name):
    layer, x, state = example(name)
    whole, last = layer(x, state)
    early, state = layer(x[:4], state)
    late, state = layer(x[4:], state)
    torch.testing.assert_close(torch.cat((early, late)), whole)
    for a, b in zip(state, last, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_no_state_is_zeros_and_sizes_are_as_said(name):
    layer, x, state = example(name, frames=1, batch=1)
    output, last = layer(x)
    assert output.shape == (1, 1, layer.output_size)
    assert [part.shape for part in last] == [part.shape for part in state]
    torch.testing.assert_close(output, layer(x, tuple(torch.zeros_like(part) for part in state))[0])


@pytest.mark.parametrize("name", OURS)
def test_large_net_inputs_saturate_and_nan_stays(name):
    layer, x, _ = example(name)
    with torch.no_grad():
        output, _ = layer(1e4 * x)
        assert torch.isfinite(output).all()
        x[5, 1, 2] = torch.nan
        output, _ = layer(x)
    assert torch.isfinite(output[:, [0, 2]]).all()
    assert torch.isfinite(output[:5]).all()
    assert torch.isnan(output[5:, 1]).any(dim=1).all()


@pytest.mark.parametrize("name", OURS)
def test_a_second_derivative_is_refused(name):
    layer, x, _ = example(name)
    with pytest.raises(RuntimeError, match="recurrent layers have no second derivative"):
        torch.autograd.grad((layer(x)[0] ** 2).sum(), x, create_graph=True)


def test_functions_that_no_layer_has():
    with pytest.raises(ValueError, match="nonlinearity must be tanh or relu, not 'sine'"):
        Elman(2, 3, "sine")
    with pytest.raises(ValueError, match="activation must be softmax or tanh, not 'sine'"):
        Jordan(2, 3, 4, "sine")


@pytest.mark.parametrize("name", [name for name in OURS if name != "jordan_logits"])
def test_a_change_of_the_output_in_place_is_noticed(name):
    """The backward pass reads the outputs: with others in their place the gradient was wrong, without a word."""
    layer, x = LAYERS[name](), torch.randn(7, 3, 5)
    for change in (lambda y, state: y.mul_(2), lambda y, state: state[0].add_(1)):
        y, state = layer(x)
        change(y, state)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_change_of_logits_in_place_does_no_harm():
    """Those of a Jordan network's softmax are not read again."""
    layer, x = LAYERS["jordan_logits"](), torch.randn(7, 3, 5)
    found = []
    for change in (torch.mul, torch.Tensor.mul_):
        layer.zero_grad()
        change(layer(x)[0], 2.0).sum().backward()
        found.append([weights.grad for weights in layer.parameters()])
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", OURS)
def test_a_state_of_another_shape_is_refused(name):
    """Kernels would read past its end."""
    layer, x = LAYERS[name](), torch.randn(7, 3, 5)
    _, state = layer(x)
    for wrong in (state[0][:2], state[0][:, 1:], torch.zeros(4, *state[0].shape[1:]), state[0][0]):
        with pytest.raises(ValueError, match=r"the state of a batch of 3 must have the shapes? \(3, \d\)"):
            layer(x, (wrong, *state[1:]))
    with pytest.raises(ValueError, match="the state of a batch of 3"):
        layer(x, (*state, state[0]))
    y, _ = layer(x, tuple(part.double() for part in state))
    assert torch.equal(y, layer(x, state)[0])


def build(cell, **options):
    torch.manual_seed(3)
    return encoders.build({"name": "recurrent", "cell": cell, "hidden_size": 6, **options}, 5, 4)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_an_utterance_does_not_feel_its_batch(cell, bidirectional):
    network = build(cell, bidirectional=bidirectional, stack=3)
    utterances = [np.random.default_rng(i).standard_normal((n, 5)).astype(np.float32) for i, n in enumerate((17, 9, 4))]
    batch = collate([(str(i), features, [1]) for i, features in enumerate(utterances)])
    logits, lengths = network(batch.features, batch.feature_lengths)
    assert (logits.dtype, tuple(logits.shape), network.subsampling) == (torch.float32, (6, 3, 4), 3)
    for b, features in enumerate(utterances):
        alone, (length,) = network(torch.from_numpy(features)[None], torch.tensor([len(features)]))
        assert lengths[b] == length == -(-len(features) // 3)
        torch.testing.assert_close(logits[:length, b], alone[:, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("filling", [1000.0, torch.nan])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_touches_neither_logits_nor_gradients(cell, stack, filling):
    """The second utterance's last step of three frames holds two frames of it and one of padding."""
    network = build(cell, stack=stack)
    features, lengths = torch.randn(2, 12, 5), torch.tensor([12, 5])
    loud = features.clone()
    loud[1, 5:] = filling
    loud.requires_grad_()
    logits, (_, steps) = network(loud, lengths)
    alone, _ = network(features[1:, :5], lengths[1:])
    torch.testing.assert_close(logits[:steps, 1], alone[:, 0], atol=1e-5, rtol=1e-4)
    (logits[:steps, 1] ** 2).sum().backward()
    assert all(weights.grad.isfinite().all() for weights in network.parameters())
    assert loud.grad[1, :5].abs().max(dim=1).values.min() > 0
    assert not loud.grad[1, 5:].any()
    assert not loud.grad[0].any()


@pytest.mark.parametrize("cell", CELLS)
def test_one_direction_hears_no_later_frame_and_two_do(cell):
    features, lengths = torch.randn(1, 8, 5, requires_grad=True), torch.tensor([8])
    for bidirectional in (False, True):
        logits, _ = build(cell, bidirectional=bidirectional)(features, lengths)
        (grad,) = torch.autograd.grad((logits[3] ** 2).sum(), features)
        assert grad[0, :4].any(dim=1).all()
        assert bool(grad[0, 4:].any()) == bidirectional


@pytest.mark.parametrize("cell", CELLS)
def test_an_encoder_saved_and_loaded_says_the_same(cell, tmp_path):
    network, other = build(cell), build(cell)
    initialise(other, "normal")
    features, lengths = torch.randn(2, 9, 5), torch.tensor([9, 6])
    assert not torch.equal(network(features, lengths)[0], other(features, lengths)[0])
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(network(features, lengths)[0], other(features, lengths)[0])
    assert torch.equal(build(cell)(features, lengths)[0], network(features, lengths)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_a_training_step_in_mixed_precision(cell):
    network = build(cell, dropout=0.3, truncate=4)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.randn(2, 9, 5), torch.tensor([9, 6]))
    assert logits.dtype == torch.float32
    (logits**2).sum().backward()
    assert all(weights.grad.abs().max() > 0 for weights in network.parameters())


def test_dropout_is_for_training_only():
    network = build("elman_tanh", dropout=0.5)
    features, lengths = torch.randn(2, 9, 5), torch.tensor([9, 6])
    assert not torch.equal(network(features, lengths)[0], network(features, lengths)[0])
    network.eval()
    assert torch.equal(network(features, lengths)[0], network(features, lengths)[0])


def test_a_jordan_networks_logits_are_what_its_softmax_takes():
    network = build("jordan", num_layers=1, bidirectional=False)
    features = torch.randn(2, 9, 5)
    logits, _ = network(features, torch.tensor([9, 9]))
    layer = network.forward_layers[0]
    layer.logits = False
    torch.testing.assert_close(logits.softmax(2), layer(features.transpose(0, 1))[0])


def test_truncate_of_the_recipe_reaches_each_layer():
    network = build("peephole_lstm", truncate=7)
    assert [layer.truncate for layer in (*network.forward_layers, *network.backward_layers)] == [7] * 4


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"cell": "elman"}, "model.cell must be one of elman_tanh, elman_relu, jordan, lstm, peephole_lstm, gru, but"),
        ({"num_layers": 0}, "model.num_layers must be 1 or more"),
        ({"hidden_size": 0}, "model.hidden_size must be 1 or more"),
        ({"bidirectional": "both"}, "model.bidirectional must be of type bool, but it is 'both'"),
        ({"dropout": 1.0}, "model.dropout must lie in 0..1"),
        ({"stack": 9}, "model.stack must lie in 1..8"),
        ({"truncate": -1}, "model.truncate must be 0 or more"),
        ({"gradient": "rtrl"}, "model.gradient must be bptt, but of one Elman layer, but it is 'rtrl'"),
        ({"units": 3}, "unknown key 'model.units'; model has cell, num_layers, hidden_size, bidirectional"),
    ],
)
def test_options_that_no_recurrent_encoder_has(option, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build({"name": "recurrent", **option}, 5, 4)


def test_the_blstm_does_not_load_the_recurrent_cells(python):
    code = """
import sys
from asr import encoders
from asr.training import network
encoders.build({"name": "blstm", "num_layers": 1, "hidden_size": 8}, 5, 3)
print([name for name in sys.modules if name in ("asr.encoders.recurrent", "asr.encoders.cells")])
"""
    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("cell", ["elman_tanh", "elman_relu"])
def test_a_network_that_learns_in_real_time_has_the_gradients_of_bptt(cell):
    features, lengths, found = torch.randn(2, 9, 5), torch.tensor([9, 6]), []
    for gradient in ("bptt", "rtrl"):
        network = build(cell, num_layers=1, gradient=gradient).train()
        (network(features, lengths)[0] ** 2).sum().backward()
        found.append([weight.grad for weight in network.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_recipe_of_a_recurrent_network():
    model = {"name": "recurrent", "cell": "jordan", "truncate": 20}
    assert from_dict({"data": {"corpora": {"mini": None}}, "model": model}).model == model
