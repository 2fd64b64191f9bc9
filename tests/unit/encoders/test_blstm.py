"""Encoders: the BLSTM against torch's own, padding, dropout, sizes, and the noise on its weights."""

import numpy as np
import pytest
import torch
from torch import nn

from asr import encoders
from asr.core.config import from_dict
from asr.core.errors import ConfigError
from asr.data.batches import collate
from asr.encoders import blstm
from asr.encoders.blstm import EncoderConfig, _Reverse, output_lengths, stack_frames
from asr.training.network import RecogniserModule


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def torch_twin(network, num_layers, num_features, hidden):
    """Give torch's bidirectional LSTM the weights of ours."""
    twin = nn.LSTM(num_features, hidden, num_layers, bidirectional=True)
    weights = {}
    for suffix, layers in (("", network.forward_layers), ("_reverse", network.backward_layers)):
        for i, layer in enumerate(layers):
            weights |= {f"{name[:-1]}{i}{suffix}": value for name, value in layer.state_dict().items()}
    twin.load_state_dict(weights)
    return twin


@pytest.mark.parametrize("bidirectional", [True, False])
def test_empty_utterances_that_fill_up_a_batch_change_nothing(bidirectional, monkeypatch):
    """A GPU gets them."""
    network = EncoderConfig(num_layers=2, hidden_size=7, bidirectional=bidirectional).build(5, 4)
    features, lengths = torch.randn(3, 20, 5), torch.tensor([20, 13, 1])

    def fill_up(x, lengths):
        return nn.functional.pad(x, (0, 0, 0, 5)), nn.functional.pad(lengths, (0, 5))

    with torch.no_grad():
        alone, _ = network(features, lengths)
        monkeypatch.setattr(blstm, "_fill_up", fill_up)
        filled, found = network(features, lengths)
    assert found.tolist() == [20, 13, 1]
    torch.testing.assert_close(filled, alone)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_an_unpadded_utterance_as_torchs_bidirectional_lstm(num_layers):
    network = EncoderConfig(num_layers=num_layers, hidden_size=7).build(5, 4)
    features = torch.randn(1, 20, 5)
    logits, lengths = network(features, torch.tensor([20]))
    hidden, _ = torch_twin(network, num_layers, 5, 7)(features.transpose(0, 1))
    torch.testing.assert_close(logits, network.output(hidden), atol=1e-6, rtol=1e-5)
    assert lengths.tolist() == [20]


def test_a_padded_batch_and_its_gradients_as_torchs_packed_one():
    network = EncoderConfig(num_layers=2, hidden_size=7).build(5, 4)
    twin = torch_twin(network, 2, 5, 7)
    lengths = torch.tensor([20, 13, 1, 8])
    features = torch.randn(4, 20, 5, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    hidden, _ = nn.utils.rnn.pad_packed_sequence(twin(packed)[0])
    expected, (logits, _) = network.output(hidden), network(features, lengths)
    valid = torch.arange(20)[:, None] < lengths  # (T, B)
    torch.testing.assert_close(logits[valid], expected[valid], atol=1e-6, rtol=1e-5)
    upstream = torch.randn(int(valid.sum()), 4)
    (ours,), (theirs,) = (torch.autograd.grad(values[valid], features, upstream) for values in (logits, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert theirs.abs().max() > 0.01


@pytest.mark.parametrize("channels", [0, 2])
@pytest.mark.parametrize("stack", [1, 3])
def test_an_utterance_does_not_feel_its_batch(stack, channels):
    network = EncoderConfig(num_layers=2, hidden_size=6, stack=stack, channels=channels).build(5, 4)
    utterances = [np.random.default_rng(i).standard_normal((n, 5)).astype(np.float32) for i, n in enumerate((17, 9, 4))]
    batch = collate([(str(i), features, [1]) for i, features in enumerate(utterances)])
    logits, lengths = network(batch.features, batch.feature_lengths)
    for b, features in enumerate(utterances):
        alone, (length,) = network(torch.from_numpy(features)[None], torch.tensor([len(features)]))
        assert lengths[b] == length == -(-len(features) // stack)
        torch.testing.assert_close(logits[:length, b], alone[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("filling", [1000.0, torch.nan])
@pytest.mark.parametrize("channels", [0, 2])
@pytest.mark.parametrize("stack", [1, 3])
def test_padding_touches_neither_logits_nor_gradients(stack, channels, filling):
    """The second utterance's last step of three frames holds two frames of it and one of padding."""
    network = EncoderConfig(num_layers=2, hidden_size=6, stack=stack, channels=channels).build(5, 4)
    features, lengths = torch.randn(2, 12, 5), torch.tensor([12, 5])
    loud = features.clone()
    loud[1, 5:] = filling
    loud.requires_grad_()
    logits, (_, steps) = network(loud, lengths)
    alone, _ = network(features[1:, :5], lengths[1:])
    torch.testing.assert_close(logits[:steps, 1], alone[:, 0], atol=1e-6, rtol=1e-5)
    (logits[:steps, 1] ** 2).sum().backward()
    assert all(weights.grad.isfinite().all() for weights in network.parameters())
    assert loud.grad[1, :5].abs().min() > 0
    assert not loud.grad[1, 5:].any()
    assert not loud.grad[0].any()


def test_reversal_frame_by_frame_and_its_gradient():
    x, lengths = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([6, 1, 4, 3])
    expected = x.detach().clone()
    for b, length in enumerate(lengths.tolist()):
        for t in range(length):
            expected[t, b] = x.detach()[length - 1 - t, b]
    assert torch.equal(_Reverse.apply(x, lengths), expected)
    assert torch.equal(_Reverse.apply(_Reverse.apply(x, lengths), lengths), x)
    assert torch.autograd.gradcheck(lambda values: _Reverse.apply(values, lengths), x)


@pytest.mark.parametrize(("frames", "stack"), [(1, 3), (3, 3), (10, 3), (7, 8), (5, 1)])
def test_stacked_frames_are_the_frames_side_by_side_and_zeros_at_the_end(frames, stack):
    features, lengths = torch.randn(2, frames, 4), torch.tensor([frames, frames - 1])
    features[1, -1] = torch.nan
    stacked = stack_frames(features, lengths, stack)
    count = -(-frames // stack)
    assert stacked.shape == (2, count, 4 * stack)
    assert output_lengths(torch.tensor([frames]), stack).tolist() == [count]
    rows = stacked.reshape(2, count * stack, 4)
    for row, given, length in zip(rows, features, lengths, strict=True):
        assert torch.equal(row[:length], given[:length])
        assert not row[length:].any()


def test_dropout_is_for_training_only():
    network = EncoderConfig(num_layers=2, hidden_size=8, dropout=0.5).build(5, 4)
    features, lengths = torch.randn(2, 9, 5), torch.tensor([9, 6])
    assert not torch.equal(network(features, lengths)[0], network(features, lengths)[0])
    network.eval()
    assert torch.equal(network(features, lengths)[0], network(features, lengths)[0])


def test_dropout_drops_the_same_cells_in_all_frames_of_an_utterance():
    network = EncoderConfig(num_layers=1, hidden_size=100, dropout=0.3).build(5, 4)
    whole = EncoderConfig(num_layers=1, hidden_size=100).build(5, 4)
    whole.load_state_dict(network.state_dict())
    network.output = whole.output = nn.Identity()
    features, lengths = torch.randn(3, 9, 5), torch.tensor([9, 9, 9])
    hidden = network(features, lengths)[0]  # (T, B, 2H)
    dropped = hidden == 0
    assert torch.equal(dropped.all(dim=0), dropped.any(dim=0))
    assert 0.2 < dropped.float().mean() < 0.4
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    kept = ~dropped
    torch.testing.assert_close(hidden[kept], whole(features, lengths)[0][kept] / 0.7)


def test_the_3_x_250_network_has_3_8_million_weights():
    """Graves, Mohamed and Hinton 2013, table 1, CTC-3l-250h; torch has two bias vectors a gate."""
    network = EncoderConfig().build(num_features=123, num_classes=62)
    size = sum(weights.numel() for weights in network.parameters())
    layers = [2 * 4 * 250 * (inputs + 250 + 2) for inputs in (123, 500, 500)]
    assert size == sum(layers) + 62 * 501
    assert round(size / 1e6, 1) == 3.8


def test_logits_are_float32_under_autocast():
    network = EncoderConfig(num_layers=1, hidden_size=8).build(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.randn(1, 6, 5), torch.tensor([6]))
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "transducer"}, "model.name must be one of .*blstm.* or gmm_hmm, but it is 'transducer'"),
        (
            {"name": "blstm", "cells": 3},
            r"unknown key 'model.cells': did you mean model.channels\? model has",
        ),
        ({"name": "blstm", "hidden_size": "big"}, "model.hidden_size must be of type int, but it is 'big'"),
        ({"name": "blstm", "num_layers": 0}, "model.num_layers must be 1 or more"),
        ({"name": "blstm", "hidden_size": 0}, "model.hidden_size must be 1 or more"),
        ({"name": "blstm", "dropout": 1.0}, "model.dropout must lie in 0..1"),
        ({"name": "blstm", "stack": 9}, "model.stack must lie in 1..8"),
        ({"name": "blstm", "chunk": -1}, "model.chunk must be 0 or more"),
        ({"name": "blstm", "chunk": 2, "bidirectional": False}, "model.chunk must be 0 in a network of one direction"),
        ({"name": "blstm", "chunk": 2, "lookahead": -1}, "model.lookahead must be 0 or more"),
        ({"name": "blstm", "lookahead": 2}, "model.lookahead must be 0 without model.chunk"),
    ],
)
def test_options_that_no_encoder_has(options, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build(options, 5, 4)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(RecogniserModule, "log", lambda *_, **__: None)  # there is no trainer to log to

    def make(weight_noise):
        options = {"name": "blstm", "num_layers": 1, "hidden_size": 8}
        values = {"data": {"corpora": {"mini": None}}, "model": options, "train": {"weight_noise": weight_noise}}
        torch.manual_seed(1)
        return RecogniserModule(from_dict(values), tmp_path)

    return make


@pytest.fixture
def batch(rng):
    features = rng.standard_normal((2, 12, 123)).astype(np.float32)
    return collate([("a", features[0], [1, 2, 3]), ("b", features[1][:9], [4])])


def test_weight_noise_changes_the_loss_and_leaves_the_weights(module, batch):
    quiet, noisy = module(0.0), module(0.075)
    before = {name: value.clone() for name, value in noisy.encoder.state_dict().items()}
    assert torch.equal(quiet.training_step(batch, 0), quiet.training_step(batch, 0))
    losses = {noisy.training_step(batch, 0).item() for _ in range(3)}
    assert len(losses | {quiet.training_step(batch, 0).item()}) == 4
    for name, value in noisy.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    noisy.training_step(batch, 0).backward()
    assert all(weights.grad.abs().max() > 0 for weights in noisy.encoder.parameters())


def test_weight_noise_has_the_standard_deviation_asked_for(module, batch, monkeypatch):
    noisy, seen = module(0.075), []

    def call(network, weights, inputs):
        seen.append(torch.cat([(weights[n] - v).detach().flatten() for n, v in network.named_parameters()]))
        return network(*inputs)

    monkeypatch.setattr(torch.func, "functional_call", call)
    noisy.training_step(batch, 0)
    (noise,) = seen
    assert float(noise.std()) == pytest.approx(0.075, rel=0.05)
    assert abs(float(noise.mean())) < 0.01


def test_a_step_is_seeded_by_its_number(module, batch):
    """Dropout and noise of update n do not depend on what was drawn before it: so a resumed run repeats them."""
    first, second = module(0.075), module(0.075)
    first.on_train_batch_start(batch, 0)
    expected = first.training_step(batch, 0).item()
    torch.randn(100)
    second.on_train_batch_start(batch, 0)
    assert second.training_step(batch, 0).item() == expected
