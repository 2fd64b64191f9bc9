"""How recurrent networks begin and learn: initialisers, machines, RTRL against BPTT, and how gradients vanish."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from asr import encoders
from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import AsrError, ConfigError, ModelError
from asr.encoders import rbm
from asr.encoders.cells import LSTM, Elman, PeepholeLSTM
from asr.encoders.initialisers import NAMES, initialise
from asr.encoders.rbm import RBM, Options, contrastive_divergence, pretrain, train_rbm
from asr.encoders.rtrl import OnlineElman, RtrlElman
from asr.evaluation.figures import sensitivity_curves
from asr.evaluation.sensitivity import curve, describe, sensitivity
from asr.models.base import BLANK
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.speech.normaliser import Normaliser


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def blstm(**options):
    return encoders.build({"name": "blstm", "num_layers": 2, "hidden_size": 6} | options, 5, 4)


# Initialisers


@pytest.mark.parametrize(
    ("name", "variance"),
    [("normal", 0.1**2), ("xavier", 2 / (80 + 200)), ("he", 2 / 80), ("zeros", 0.0)],
)
def test_weights_have_the_variance_of_the_paper(name, variance):
    layer = nn.Linear(80, 200)
    initialise(layer, name, seeded())
    assert float(layer.weight.detach().var(correction=0)) == pytest.approx(variance, rel=0.05)
    assert abs(float(layer.weight.detach().mean())) <= 4 * math.sqrt(variance / layer.weight.numel())
    assert not layer.bias.any()


def test_xavier_is_uniform_and_a_convolutions_width_counts():
    layer = nn.Conv1d(10, 30, 3)
    initialise(layer, "xavier", seeded())
    bound = math.sqrt(6 / (3 * 10 + 3 * 30))
    assert 0.98 * bound < float(layer.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("cell", [nn.LSTM(7, 12), PeepholeLSTM(7, 12)])
@pytest.mark.parametrize("name", ["xavier", "he", "orthogonal"])
def test_each_gates_recurrent_matrix_is_orthogonal(cell, name):
    initialise(cell, name, seeded())
    weights = cell.weight_hh_l0 if isinstance(cell, nn.LSTM) else cell.recurrent_weights
    for gate in weights.detach().split(12):
        torch.testing.assert_close(gate @ gate.T, torch.eye(12), atol=1e-5, rtol=0)


def test_a_gates_input_weights_count_their_own_units_alone():
    cell = nn.LSTM(20, 60)
    initialise(cell, "xavier", seeded())
    for gate in cell.weight_ih_l0.detach().split(60):
        assert float(gate.var()) == pytest.approx(2 / (20 + 60), rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_forget_gates_begin_open_and_other_biases_at_nought(name):
    torchs, ours = LSTM(3, 4), PeepholeLSTM(3, 4)
    for layer in (torchs, ours):
        initialise(layer, name, seeded())
    both = torchs.cell.bias_ih_l0 + torchs.cell.bias_hh_l0
    for bias in (both, ours.bias):
        assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert not ours.peepholes.any()


def test_gains_begin_at_one_and_reservoirs_stay():
    norm = nn.LayerNorm(3)
    norm.register_buffer("reservoir", torch.full((2, 2), 7.0))
    initialise(norm, "zeros")
    assert norm.weight.tolist() == [1.0] * 3
    assert norm.bias.tolist() == [0.0] * 3
    assert bool((norm.reservoir == 7).all())


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_generator_decides_all(name):
    networks = blstm(), blstm(), blstm()
    for network, number in zip(networks, (1, 1, 2), strict=True):
        initialise(network, name, seeded(number))
    first, same, other = ([value.detach() for value in each.parameters()] for each in networks)
    assert all(map(torch.equal, first, same))
    assert not all(map(torch.equal, first, other))


def test_an_initialiser_that_does_not_exist():
    with pytest.raises(ConfigError, match="zeros, normal, xavier, he, orthogonal"):
        initialise(nn.Linear(1, 1), "glorot")


def hidden_rows(layer):
    """The weights of each unit of an Elman layer, its weight to itself apart."""
    return torch.cat((layer.input_weights, layer.bias[:, None]), dim=1).detach()


def train_elman(begin, steps=30):
    """A small Elman network with a linear layer above, taught to tell its last input."""
    layer, output = Elman(3, 4), nn.Linear(4, 2)
    begin(nn.ModuleList((layer, output)))
    inputs = torch.randn(6, 16, 3, generator=seeded(5))
    targets = (inputs[-1, :, 0] > 0).long()
    optimizer = torch.optim.Adam([*layer.parameters(), *output.parameters()], 0.05)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(output(layer(inputs)[0][-1]), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return layer, losses


def alike(networks):
    for weights in networks.parameters():
        nn.init.constant_(weights, 0.1)


def test_units_that_begin_alike_never_part():
    layer, _ = train_elman(alike)
    rows = hidden_rows(layer)
    assert (rows - 0.1).abs().max() > 0.1  # it learns
    torch.testing.assert_close(rows, rows[:1].expand_as(rows), atol=1e-6, rtol=0)  # as one unit, four times


def test_zeros_learn_nothing_where_others_learn():
    layer, losses = train_elman(lambda networks: initialise(networks, "zeros"))
    assert not hidden_rows(layer).any()
    assert losses[-1] > 0.6
    for name in NAMES[1:]:
        layer, losses = train_elman(lambda networks, name=name: initialise(networks, name, seeded()))
        assert losses[-1] < 0.3, name
        assert torch.pdist(hidden_rows(layer)).min() > 0.01, name


# Restricted Boltzmann machines


def tiny(gaussian=False):
    generator = seeded(3)
    return RBM(*(torch.randn(shape, generator=generator) for shape in ((4, 3), (4,), (3,))), gaussian)


STATES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))  # of four visible units
HIDDEN = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))


def joint_energies(machine):
    """E(v, h) by its definition, (2⁴, 2³)."""
    inner = STATES @ machine.weights @ HIDDEN.T
    return -(inner + (STATES @ machine.visible_bias)[:, None] + (HIDDEN @ machine.hidden_bias)[None])


def test_free_energy_and_conditionals_as_by_enumeration():
    machine = tiny()
    weights = (-joint_energies(machine)).exp()
    torch.testing.assert_close(machine.free_energy(STATES), -weights.sum(dim=1).log())
    torch.testing.assert_close(machine.hidden(STATES), weights @ HIDDEN / weights.sum(dim=1, keepdim=True))
    torch.testing.assert_close(machine.visible(HIDDEN), weights.T @ STATES / weights.sum(dim=0)[:, None])


def test_a_gaussian_machines_free_energy_is_that_of_a_mixture_of_gaussians():
    """p(v, h) ∝ N(v; a + W h, 1) × exp(b h + |a + W h|² / 2 − |a|² / 2): so F is a log sum of Gaussians' exponents."""
    machine = tiny(gaussian=True)
    points = torch.randn(5, 4, generator=seeded(8))
    means = machine.visible(HIDDEN)
    squares = ((points[:, None] - means) ** 2).sum(dim=2) / 2
    own = HIDDEN @ machine.hidden_bias + (means**2).sum(dim=1) / 2 - (machine.visible_bias**2).sum() / 2
    torch.testing.assert_close(machine.free_energy(points), -(own - squares).logsumexp(dim=1))


def exact_gradient(machine, examples):
    """The gradient of the mean ln p(v), with the partition function as a sum over all states."""
    parts = [part.clone().requires_grad_() for part in (machine.weights, machine.visible_bias, machine.hidden_bias)]
    free = RBM(*parts, machine.gaussian)
    log_partition = (-free.free_energy(STATES)).logsumexp(dim=0)
    return torch.autograd.grad((-free.free_energy(examples)).mean() - log_partition, parts)


def test_contrastive_divergence_leads_where_the_exact_gradient_does():
    data = STATES[[3, 3, 3, 12, 12, 7]]
    start = RBM.small(4, 3, False, seeded())
    for machine in (start, train_rbm(data, 3, False, Options(epochs=30, batch_size=6), seeded())):
        parts = contrastive_divergence(machine, data.repeat(3000, 1), seeded())
        ours, exact = (torch.cat([p.flatten() for p in each]) for each in (parts, exact_gradient(machine, data)))
        assert float(torch.cosine_similarity(ours, exact, dim=0)) > 0.9


def faces(number, generator):
    """Points about two centres in ten dimensions, each value of mean 0 and variance 1."""
    sides = torch.randint(0, 2, (number, 1), generator=generator) * 2.0 - 1
    pattern = torch.tensor([1.0, -1.0] * 5)
    points = 2 * sides * pattern + torch.randn(number, 10, generator=generator)
    return points / math.sqrt(5)


@pytest.mark.parametrize("gaussian", [True, False])
def test_a_machine_learns_its_data_and_not_noise(gaussian):
    points, others = faces(2000, seeded()), faces(500, seeded(2))
    noise = torch.randn(500, 10, generator=seeded(4))
    if not gaussian:
        points, others, noise = ((each > 0).float() for each in (points, others, noise))
    start = RBM.small(10, 8, gaussian, seeded())
    options = Options(epochs=20, gaussian_learning_rate=0.01)
    machine = train_rbm(points, 8, gaussian, options, seeded())
    assert machine.reconstruction_error(others) < 0.7 * start.reconstruction_error(others)
    assert machine.free_energy(others).mean() + 1 < machine.free_energy(noise).mean()
    assert torch.equal(machine.weights, train_rbm(points, 8, gaussian, options, seeded()).weights)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_pretrained_layer_computes_the_machines_hidden_probabilities(nonlinearity):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.output = Elman(5, 4, nonlinearity), nn.Linear(4, 2)

        def forward(self, features, lengths):
            return self.output(self.layer(features.transpose(0, 1))[0]), lengths

    network, utterances = Network(), [3 * torch.randn(40, 5) + 1, 2 * torch.randn(30, 5)]
    before = network.layer.recurrent_weights.clone()
    machine = pretrain(network, utterances, Options(epochs=3), seeded())["layer"]
    seen = torch.cat(utterances)
    net = seen @ network.layer.input_weights.T + network.layer.bias
    probs = (net.tanh() + 1) / 2 if nonlinearity == "tanh" else net.sigmoid()
    expected = machine.hidden((seen - seen.mean(dim=0)) / seen.std(dim=0, correction=0))
    torch.testing.assert_close(probs, expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(network.layer.recurrent_weights, before)
    assert network.training


def test_a_convolutions_machine_sees_its_windows():
    layer = nn.Conv1d(3, 4, 3, dilation=2)
    rows = rbm._windows(layer, inputs := torch.randn(1, 3, 9))
    expected = layer(inputs)[0].T
    torch.testing.assert_close(rows @ layer.weight.reshape(4, -1).T + layer.bias, expected)


def test_each_layer_but_the_classifier_is_pretrained():
    network = encoders.build({"name": "tdnn", "hidden_size": 8, "contexts": [1, 2]}, 5, 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    machines = pretrain(network, [torch.randn(30, 5)], Options(epochs=1), seeded())
    assert list(machines) == ["layers.0", "layers.1"]
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}


# Real-time recurrent learning


def elman_and_inputs(nonlinearity, dtype=torch.float64, shape=(9, 3, 4)):
    layer = nn.RNN(shape[2], 5, nonlinearity=nonlinearity).to(dtype)
    layer.bias_hh_l0.data.zero_()
    x, start = torch.randn(shape, dtype=dtype), torch.randn(shape[1], 5, dtype=dtype)
    errors = torch.randn(*shape[:2], 5, dtype=dtype)
    return layer, x, start, errors


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_the_gradient_forward_in_time_is_that_through_time(nonlinearity, dtype, tolerance):
    layer, x, start, errors = elman_and_inputs(nonlinearity, dtype)
    expected, _ = layer(x, start[None])
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
    truths = torch.autograd.grad(expected, weights, errors)
    states = RtrlElman.apply(x, start, *weights, nonlinearity == "relu")
    torch.testing.assert_close(states, expected, atol=tolerance, rtol=tolerance)
    for ours, truth in zip(torch.autograd.grad(states, weights, errors), truths, strict=True):
        torch.testing.assert_close(ours, truth, atol=tolerance, rtol=tolerance)


def test_rtrl_and_our_own_bptt_agree_on_what_ctc_says():
    layer, output = Elman(3, 4).double(), nn.Linear(4, 3).double()
    x, zeros = torch.randn(12, 2, 3, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    weights = [layer.input_weights, layer.recurrent_weights, layer.bias]
    sides = layer(x)[0], RtrlElman.apply(x, zeros, *weights, False)
    found = []
    for states in sides:
        log_probs = output(states).log_softmax(dim=2)
        lengths = torch.tensor([12, 8]), torch.tensor([2, 1])
        loss = nn.functional.ctc_loss(log_probs, torch.tensor([[1, 2], [2, 0]]), *lengths)
        found.append(torch.autograd.grad(loss, weights))
    for ours, truth in zip(*found, strict=True):
        assert float(truth.abs().max()) > 1e-4
        torch.testing.assert_close(ours, truth, atol=1e-12, rtol=1e-10)


def test_gradcheck_of_rtrl():
    layer, x, start, _ = elman_and_inputs("tanh")
    weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0
    assert torch.autograd.gradcheck(lambda *args: RtrlElman.apply(x, start, *args, False), weights)


def test_frame_by_frame_as_over_the_whole():
    layer, x, _, errors = elman_and_inputs("tanh", shape=(7, 1, 4))
    weights = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
    states = RtrlElman.apply(x, torch.zeros(1, 5, dtype=torch.float64), *weights, False)
    whole = torch.autograd.grad(states, weights, errors)
    network = OnlineElman(torch.cat((*weights[:2], weights[2][:, None]), dim=1).detach().numpy())
    gradient = np.zeros_like(network.weights)
    for t in range(7):
        np.testing.assert_allclose(network.step(x[t, 0].numpy()), states[t, 0].detach(), atol=1e-12)
        gradient += network.gradient(errors[t, 0].numpy())
    np.testing.assert_allclose(gradient, np.column_stack([part.numpy() for part in whole]), atol=1e-12)


def test_rtrl_keeps_no_states():
    layer, x, start, _ = elman_and_inputs("tanh", shape=(500, 1, 4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value) or value, lambda value: value):
        RtrlElman.apply(x, start, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, False)
    assert sum(value.numel() for value in kept) - x.numel() == start.numel() + 5 * 4 + 5 * 5 + 5


def test_rtrl_says_what_it_cannot_do():
    layer, x, start, _ = elman_and_inputs("tanh")
    weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0
    with pytest.raises(RuntimeError, match="only the lowest layer can learn by it"):
        RtrlElman.apply(x.requires_grad_(), start, *weights, False)


def test_real_time_learning_refuses_a_state_or_a_frame_of_another_shape():
    """The kernels would read past its end."""
    weights = [torch.ones(shape, requires_grad=True) for shape in ((3, 2), (3, 3), (3,))]
    with pytest.raises(ValueError, match="the state of a batch of 4"):
        RtrlElman.apply(torch.zeros(5, 4, 2), torch.zeros(1, 3), *weights, False)
    network = OnlineElman(np.zeros((3, 6)))
    for wrong in (np.zeros(3), np.zeros(1), np.zeros((2, 1))):
        with pytest.raises(ValueError, match="a frame of 2 inputs is needed"):
            network.step(wrong)


# Vanishing gradients


class Recurrence(nn.Module):
    """A layer as an encoder whose logits are its outputs."""

    subsampling = 1

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, features, lengths):
        return self.layer(features.transpose(0, 1))[0], lengths


def scaled_identity(factor, size=3):
    """A linear Elman network, as rectified units are where all is positive: W = factor · I."""
    layer = Elman(size, size, "relu")
    with torch.no_grad():
        layer.input_weights.copy_(torch.eye(size))
        layer.recurrent_weights.copy_(factor * torch.eye(size))
        layer.bias.fill_(1.0)
    return Recurrence(layer)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1])
def test_a_linear_networks_sensitivity_is_a_power_of_its_weight(factor):
    norms = sensitivity(scaled_identity(factor), torch.rand(20, 3), frame=15)
    expected = math.sqrt(3) * factor ** np.arange(15, -1, -1)
    np.testing.assert_allclose(norms[:16], expected, rtol=1e-5)
    assert not norms[16:].any()


def lstm(forget):
    layer = PeepholeLSTM(2, 3)
    with torch.no_grad():
        for weights in layer.parameters():
            weights.mul_(0.5)
        layer.recurrent_weights.zero_()
        layer.peepholes.zero_()
        layer.input_weights[3:6] = 0
        layer.bias.zero_()  # else the cell fills up, and the tanh over it flattens
        layer.bias[3:6] = forget
    return Recurrence(layer)


def test_an_open_forget_gate_keeps_the_gradient_and_a_half_open_one_halves_it():
    features = 0.01 * torch.randn(40, 2)
    open_gate = sensitivity(lstm(30.0), features, frame=39)
    half_open = sensitivity(lstm(0.0), features, frame=39)
    assert float(open_gate[0] / open_gate[39]) == pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(half_open[30:39] / half_open[31:40], 0.5, rtol=0.1)


def test_sensitivity_is_the_norm_of_the_jacobian():
    network, features = blstm(stack=2).eval(), torch.randn(11, 5)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: network(x[None], torch.tensor([11]))[0][3, 0], features
    )  # (C, T, F)
    truth = jacobian.square().sum(dim=(0, 2)).sqrt()
    torch.testing.assert_close(sensitivity(network, features), truth, rtol=1e-4, atol=1e-7)


def recogniser(encoder, name="recurrent"):
    config = from_dict({"data": {"corpora": {"mini": None}}, "model": {"name": name}})
    return CTCModel(config, (BLANK, "a", "b"), Normaliser(FeatureConfig(cmvn="none")), Calibration(), encoder)


def test_a_curve_begins_at_the_frame_itself_and_tells_who_looks_ahead():
    utterances = [torch.rand(30, 3), torch.rand(40, 3)]
    found = curve("half", recogniser(scaled_identity(0.5)), utterances)
    assert not found.ahead
    np.testing.assert_allclose(found.norms, 0.5 ** np.arange(len(found.norms)), rtol=1e-5)
    np.testing.assert_allclose(found.seconds[:3], [0, 0.01, 0.02])
    assert describe(found) == "half: falls below 1/10 after 0.04 s, below 1/100 after 0.07 s"
    both = curve("both", recogniser(blstm()), [torch.randn(30, 5)])
    assert both.ahead
    assert describe(both).endswith("(past frames only)")
    with pytest.raises(ModelError, match="echo has no gradient"):
        curve("echo", recogniser(blstm(), "echo_state"), utterances)


def test_the_picture(tmp_path):
    found = curve("half", recogniser(scaled_identity(0.5)), [torch.rand(30, 3)])
    sensitivity_curves([found], tmp_path / "new" / "sensitivity.png")
    assert (tmp_path / "new" / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AsrError, match="name it"):
        sensitivity_curves([found], tmp_path / "sensitivity.xyz")
    assert len(list(tmp_path.iterdir())) == 1
