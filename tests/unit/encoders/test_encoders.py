"""Encoders without trained recurrence, and the attention encoder-decoder: what each promises, and that each learns."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from asr import encoders
from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import ConfigError, InfeasibleError
from asr.core.settings import section
from asr.ctc import ctc_loss
from asr.data.batches import collate
from asr.encoders import attention_decoder, echo_state, self_attention, tdnn
from asr.encoders.attention_decoder import END, Decoder
from asr.encoders.echo_state import Reservoir, draw_weights, run_reservoirs
from asr.evaluation import figures
from asr.models import attention
from asr.models.attention import AttentionModel, beam_search, rising_peaks
from asr.models.base import Spellings
from asr.speech.normaliser import Normaliser
from asr.training.criteria import Attention

ENCODERS = {
    "tdnn": {"hidden_size": 12, "contexts": [1, 2]},
    "tdnn, batch norm": {"name": "tdnn", "hidden_size": 12, "contexts": [0, 2], "norm": "batch"},
    "echo_state": {"reservoir_size": 40, "density": 0.1},
    "echo_state, one way": {"name": "echo_state", "reservoir_size": 40, "density": 0.1, "bidirectional": False},
    "self_attention": {"num_layers": 2, "hidden_size": 16, "feedforward_size": 24, "dropout": 0.0},
    "self_attention, sines": {
        "name": "self_attention",
        "num_layers": 1,
        "hidden_size": 16,
        "feedforward_size": 24,
        "positions": "sinusoidal",
        "dropout": 0.0,
    },
    "attention_decoder": {"num_layers": 1, "hidden_size": 8, "state_size": 6},
}
each_encoder = pytest.mark.parametrize("system", ENCODERS)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def build(system, num_features=5, num_classes=4, **changes):
    return encoders.build({"name": system} | ENCODERS[system] | changes, num_features, num_classes)


@each_encoder
@pytest.mark.parametrize("stack", [1, 3])
def test_an_utterance_does_not_feel_its_batch(system, stack, rng):
    network = build(system, stack=stack).eval()
    utterances = [rng.standard_normal((length, 5)).astype(np.float32) for length in (17, 9, 4)]
    batch = collate([(str(i), features, [1]) for i, features in enumerate(utterances)])
    logits, lengths = network(batch.features, batch.feature_lengths)
    assert logits.shape == (-(-17 // stack), 3, 4)
    assert logits.dtype == torch.float32
    for b, features in enumerate(utterances):
        alone, (length,) = network(torch.from_numpy(features)[None], torch.tensor([len(features)]))
        assert lengths[b] == length == -(-len(features) // stack)
        torch.testing.assert_close(logits[:length, b], alone[:, 0], atol=1e-5, rtol=1e-4)


@each_encoder
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("filling", [-100.0, torch.nan])
@pytest.mark.parametrize("training", [True, False])
def test_padding_touches_no_logits(system, training, filling, stack):
    """The second utterance's last step of three frames holds two frames of it and one of padding."""
    network = build(system, stack=stack).train(training)
    features, lengths = torch.randn(2, 12, 5), torch.tensor([12, 5])
    features[1, 5:] = 0
    expected, steps = network(features, lengths)
    features[1, 5:] = filling
    for count in (12, 20):
        longer = nn.functional.pad(features, (0, 0, 0, count - 12), value=filling)
        logits, _ = network(longer, lengths)
        for b, length in enumerate(steps):
            torch.testing.assert_close(logits[:length, b], expected[:length, b], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("system", [name for name in ENCODERS if not name.startswith("attention_decoder")])
def test_ctc_teaches_every_trained_weight(system):
    network = build(system, stack=1)
    labels = torch.tensor([[1, 2, 3], [2, 1, 0]])
    features = torch.randn(2, 30, 5)
    for b, place in itertools.product(range(2), range(3)):
        features[b, 10 * place : 10 * place + 10, labels[b, place]] += 3
    lengths, counts = torch.tensor([30, 20]), torch.tensor([3, 2])
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        logits, output_lengths = network(features, lengths)
        loss = ctc_loss(logits, labels, output_lengths, counts)
        loss.backward()
        assert all(weights.grad.isfinite().all() for weights in network.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(weights.grad.abs().max() > 0 for name, weights in network.named_parameters() if moves(name, weights))
    assert losses[-1] < 0.25 * losses[0]


def moves(name, weights):
    """Tell whether a weight changes the loss: keys' biases fall out of the softmax, as they are the same for all."""
    return name != "blocks.0.projections.bias"


@each_encoder
def test_weights_kept_and_read_again(system):
    network, other = build(system).eval(), build(system, **different(system)).eval()
    features, lengths = torch.randn(2, 20, 5), torch.tensor([20, 13])
    expected, _ = network(features, lengths)
    assert not torch.equal(other(features, lengths)[0], expected)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(features, lengths)[0], expected)


def different(system):
    return {"reservoir_seed": 7} if system.startswith("echo_state") else {}


@each_encoder
def test_the_seed_draws_the_weights(system):
    states = []
    for number in (3, 3, 4):
        torch.manual_seed(number)
        states.append(build(system).state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@each_encoder
def test_logits_are_float32_under_autocast(system):
    network = build(system)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = network(torch.randn(2, 16, 5), torch.tensor([16, 9]))
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "tdnn", "contexts": []}, "model.contexts must be numbers of frames in 0..100, one for each layer"),
        ({"name": "tdnn", "contexts": [-1]}, "model.contexts must be numbers"),
        ({"name": "tdnn", "norm": "group"}, "model.norm must be one of layer, batch, but it is 'group'"),
        ({"name": "tdnn", "hidden_size": 0}, "model.hidden_size must be 1 or more"),
        ({"name": "tdnn", "dropout": 1.0}, "model.dropout must lie in 0..1"),
        ({"name": "tdnn", "stack": 0}, "model.stack must lie in 1..8"),
        ({"name": "tdnn", "cells": 3}, "unknown key 'model.cells'; model has hidden_size, contexts, norm, dropout"),
        ({"name": "echo_state", "spectral_radius": 0.0}, "model.spectral_radius must lie between 0 and 2"),
        ({"name": "echo_state", "leak": 1.5}, "model.leak must lie above 0, and be 1 at most"),
        ({"name": "echo_state", "density": 0.0}, "model.density must lie above 0"),
        ({"name": "echo_state", "input_scale": 0.0}, "model.input_scale must be positive"),
        ({"name": "echo_state", "reservoir_size": 0}, "model.reservoir_size must lie in"),
        ({"name": "echo_state", "reservoir_seed": -1}, "model.reservoir_seed must be 0 or more"),
        ({"name": "self_attention", "num_heads": 3}, "model.num_heads must divide model.hidden_size, 128"),
        ({"name": "self_attention", "hidden_size": 7, "num_heads": 7}, "model.hidden_size must be even"),
        ({"name": "self_attention", "position_width": 4}, "model.position_width must be odd"),
        ({"name": "self_attention", "positions": "none"}, "model.positions must be one of convolutional, sinusoidal"),
        ({"name": "attention_decoder", "ctc_weight": 1.0}, "model.ctc_weight must lie in 0..1"),
        ({"name": "attention_decoder", "filter_width": 2}, "model.filter_width must be odd"),
        ({"name": "attention_decoder", "decoder_size": 0}, "model.decoder_size must be 1 or more"),
        ({"name": "attention_decoder", "num_layers": 0}, "model.num_layers must be 1 or more"),
    ],
)
def test_options_that_no_encoder_has(options, message):
    with pytest.raises(ConfigError, match=message):
        encoders.build(options, 5, 4)


# Time-delay network


def test_a_delayed_layer_by_hand():
    """With one layer: output t is the sum over k of W_k x_{t + (k − 1) · context}, zeros beyond the ends."""
    network = tdnn.EncoderConfig(hidden_size=6, contexts=(2,)).build(3, 4)
    network.norms[0] = network.output = nn.Identity()
    features = torch.randn(1, 9, 3)
    hidden, _ = network(features, torch.tensor([9]))
    weights, bias = network.layers[0].weight, network.layers[0].bias  # (H, F, 3)
    for t in range(9):
        inside = [(k, t + 2 * (k - 1)) for k in range(3) if 0 <= t + 2 * (k - 1) < 9]
        expected = bias + sum(weights[:, :, k] @ features[0, s] for k, s in inside)
        torch.testing.assert_close(hidden[t, 0], expected.relu(), atol=1e-5, rtol=1e-5)


def test_a_frame_sees_its_context_and_no_further():
    network = tdnn.EncoderConfig(hidden_size=16, contexts=(1, 0, 3)).build(5, 4)
    features = torch.randn(1, 21, 5, requires_grad=True)
    logits, _ = network(features, torch.tensor([21]))
    (gradient,) = torch.autograd.grad(logits[10].sum(), features)
    assert gradient[0].abs().sum(dim=1).nonzero().flatten().tolist() == [*range(6, 9), *range(9, 12), *range(12, 15)]
    assert network.reach == 4


def test_batch_norm_counts_valid_frames_alone():
    network = tdnn.EncoderConfig(hidden_size=6, contexts=(0,), norm="batch").build(3, 4)
    features, lengths = torch.randn(2, 10, 3), torch.tensor([10, 4])
    network(features, lengths)
    sums = network.layers[0](features.transpose(1, 2)).transpose(1, 2)
    rows = torch.cat((sums[0], sums[1, :4]))
    torch.testing.assert_close(network.norms[0].running_mean, 0.1 * rows.mean(dim=0))
    torch.testing.assert_close(network.norms[0].running_var, 0.9 + 0.1 * rows.var(dim=0))


# Echo-state network


def reservoir(**changes):
    options = {"reservoir_size": 60, "density": 0.1, "leak": 0.5} | changes
    return Reservoir(echo_state.EncoderConfig(**options), 5, np.random.default_rng(2))


@pytest.mark.parametrize("radius", [0.3, 0.95, 1.2])
def test_the_spectral_radius_is_the_one_asked_for(radius):
    weights = reservoir(spectral_radius=radius).weights.double().numpy()
    state = np.linalg.matrix_power(weights, 400)  # Gelfand: the 400th root of a norm, near the radius
    assert np.linalg.norm(state, 2) ** (1 / 400) == pytest.approx(radius, rel=0.02)
    assert (np.count_nonzero(weights, axis=1) == 6).all()


def test_the_radius_of_many_units_as_from_all_their_eigenvalues():
    weights = draw_weights(echo_state.SMALL + 100, 0.02, 0.9, np.random.default_rng(3))
    assert np.abs(np.linalg.eigvals(weights)).max() == pytest.approx(0.9, abs=1e-6)


def test_a_single_unit_is_a_reservoir_too():
    assert abs(draw_weights(1, 0.01, 0.7, np.random.default_rng(0))[0, 0]) == pytest.approx(0.7)


def test_states_by_the_equation():
    network = reservoir(leak=0.3)
    inputs, start = torch.randn(7, 2, 5), torch.randn(2, 60)
    states = network(inputs, torch.tensor([7, 4]), start)
    state = start
    for t in range(7):
        drive = inputs[t] @ network.input_weights + network.bias
        state = 0.7 * state + 0.3 * torch.tanh(drive + state @ network.weights.T)
        valid = [0, 1] if t < 4 else [0]
        torch.testing.assert_close(states[t, valid], state[valid], atol=1e-5, rtol=1e-4)
    assert not states[4:, 1].any()


def test_the_kernel_without_compilation():
    weights = draw_weights(6, 0.5, 0.9, np.random.default_rng(3)).astype(np.float32)
    graph = echo_state.csr_matrix(weights)
    drives = np.random.default_rng(4).standard_normal((2, 5, 6)).astype(np.float32)
    rows = graph.indptr, graph.indices, graph.data
    arguments = (np.array([5, 3]), np.zeros((2, 6), np.float32), rows, 0.5)
    compiled, plain = drives.copy(), drives.copy()
    run_reservoirs(np.arange(2), compiled, *arguments)
    getattr(run_reservoirs, "py_func", run_reservoirs)(np.arange(2), plain, *arguments)
    np.testing.assert_allclose(compiled, plain, atol=1e-6)
    assert np.abs(plain[0]).max() > 0.1


@pytest.mark.parametrize(
    ("lengths", "shape"), [([8, 4], (2, 60)), ([-1, 4], (2, 60)), ([7], (2, 60)), ([7, 4], (1, 60)), ([7, 4], (2, 59))]
)
def test_lengths_and_states_that_do_not_fit_are_refused(lengths, shape):
    """The kernel would write past the end of its arrays."""
    with pytest.raises(ValueError, match=r"do not fit inputs of 7 frames, 2 utterances and 60 units"):
        reservoir()(torch.randn(7, 2, 5), torch.tensor(lengths), torch.zeros(shape))


@pytest.mark.parametrize(("radius", "forgets"), [(0.9, True), (1.9, False)])
def test_two_states_converge_where_the_radius_is_below_1(radius, forgets):
    """Jaeger 2001, proposition 3: with zero input a radius above 1 keeps states apart, as 0 is no longer stable."""
    network = reservoir(spectral_radius=radius)
    network.bias.zero_()
    inputs, lengths = torch.zeros(300, 2, 5), torch.tensor([300, 300])
    states = network(inputs, lengths, torch.stack((torch.randn(60), torch.randn(60))))
    gaps = (states[:, 0] - states[:, 1]).norm(dim=1)
    assert (gaps[-1] < 1e-3 * gaps[0]) == forgets


def test_echoes_die_out_under_real_input_too():
    network = reservoir()
    inputs = torch.randn(200, 1, 5).expand(200, 2, 5)
    gaps = network(inputs, torch.tensor([200, 200]), torch.randn(2, 60)).diff(dim=1).norm(dim=2)
    assert gaps[-1] < 1e-4 * gaps[0]


def test_reservoirs_are_drawn_from_their_own_seed_and_never_trained():
    first = build("echo_state")
    torch.manual_seed(99)
    second, third = build("echo_state"), build("echo_state", reservoir_seed=2)
    for name, buffer in first.named_buffers():
        assert torch.equal(buffer, second.get_buffer(name))
        assert not torch.equal(buffer, third.get_buffer(name))
        assert not buffer.requires_grad
    assert not torch.equal(first.reservoirs[0].weights, first.reservoirs[1].weights)
    assert {name for name, _ in first.named_parameters()} == {"output.weight", "output.bias"}
    assert {name for name, _ in first.named_buffers()} < set(first.state_dict())


def test_the_second_reservoir_hears_the_future():
    network = build("echo_state")
    features = torch.randn(1, 20, 5)
    changed = features.clone()
    changed[0, 12] += 1
    before, after = (network(each, torch.tensor([20]))[0] for each in (features, changed))
    assert (before - after)[:12].abs().amax(dim=(1, 2))[8:].min() > 1e-4
    one_way = build("echo_state, one way")
    before, after = (one_way(each, torch.tensor([20]))[0] for each in (features, changed))
    assert not (before - after)[:12].any()


# Self-attention


def test_a_block_as_torchs_own_layer():
    config = self_attention.EncoderConfig(hidden_size=16, num_heads=2, feedforward_size=24, dropout=0.0)
    block = self_attention.Block(config)
    twin = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True, norm_first=True)
    names = {
        "self_attn.in_proj_": "projections.",
        "self_attn.out_proj.": "merge.",
        "linear1.": "feedforward.0.",
        "linear2.": "feedforward.2.",
        "norm1.": "attention_norm.",
        "norm2.": "feedforward_norm.",
    }
    ours = {name: torch.randn_like(value) / 3 for name, value in block.state_dict().items()}
    block.load_state_dict(ours)
    twin.load_state_dict({a + kind: ours[b + kind] for a, b in names.items() for kind in ("weight", "bias")})
    hidden, valid = torch.randn(2, 9, 16), torch.arange(9) < torch.tensor([[9], [5]])
    expected = twin(hidden, src_key_padding_mask=~valid)
    torch.testing.assert_close(block(hidden, valid)[valid], expected[valid], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("system", ["self_attention", "self_attention, sines"])
def test_positions_tell_the_order(system):
    """Without them, permuted frames would give permuted logits."""
    network = build(system, stack=1)
    features, order = torch.randn(1, 9, 5), torch.randperm(9)
    logits, permuted = (network(each, torch.tensor([9]))[0] for each in (features, features[:, order]))
    assert (logits[order] - permuted).abs().max() > 1e-2


def test_sines_by_the_formula():
    table = self_attention.sinusoids(40, 8)
    assert table[17, 4] == pytest.approx(np.sin(17 / 10_000 ** (4 / 8)), abs=1e-5)
    assert table[17, 5] == pytest.approx(np.cos(17 / 10_000 ** (4 / 8)), abs=1e-5)


# Attention encoder-decoder

TOKENS = ("<blank>", "aa", "b", "d")


def small(**changes):
    options = {"state_size": 6, "decoder_size": 12, "attention_size": 10, "filter_width": 5, "num_filters": 3}
    return attention_decoder.EncoderConfig(**(options | changes))


def sharp_decoder(num_classes=4):
    """Return a decoder with weights so large that its choices differ much, and that does not end at once."""
    decoder = Decoder(small(), num_classes).eval()
    for weights in decoder.parameters():
        weights.data.mul_(3)
    decoder.output.bias.data[END] -= 2
    return decoder


def test_teacher_forcing_is_decoding_step_by_step():
    decoder = sharp_decoder()
    states, lengths, targets = torch.randn(2, 9, 6), torch.tensor([9, 5]), torch.tensor([[1, 3, 2], [2, 2, 1]])
    log_probs, weights = decoder(states, lengths, targets)
    assert log_probs.shape == (2, 4, 4)
    torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(2, 4))
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 4))
    assert not weights[1, :, 5:].any()
    for b in range(2):
        alone = states[b : b + 1, : lengths[b]]
        memory, state = decoder.start(alone, lengths[b : b + 1])
        for i, before in enumerate([END, *targets[b].tolist()]):
            found, state = decoder.step(memory, state, torch.tensor([before]))
            torch.testing.assert_close(found[0], log_probs[b, i], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(state.weights[0], weights[b, i, : lengths[b]], atol=1e-5, rtol=1e-4)


def test_the_search_scores_as_teacher_forcing_does():
    decoder, states, lengths = sharp_decoder(), torch.randn(8, 8, 6), torch.tensor([8, 3, 6, 8, 8, 7, 5, 8])
    greedy, wide = (beam_search(decoder, states, lengths, beam) for beam in (1, 5))
    assert sum(len(each.tokens) for each in wide) > 16
    assert sum(one.tokens != other.tokens for one, other in zip(greedy, wide, strict=True)) >= 2
    for hypotheses in (greedy, wide):
        for b, found in enumerate(hypotheses):
            length, count = int(lengths[b]), len(found.tokens)
            targets = torch.tensor([found.tokens], dtype=torch.long)
            log_probs, weights = decoder(states[b : b + 1, :length], lengths[b : b + 1], targets)
            chosen = log_probs[0].gather(1, torch.tensor([*found.tokens, END])[:, None])[:, 0].detach()
            assert found.score == pytest.approx(float(chosen.sum()), abs=1e-4)
            assert found.confidences == pytest.approx(chosen[:-1].exp().tolist(), abs=1e-5)
            assert found.weights.shape == (count, length)
            np.testing.assert_allclose(found.weights, weights[0, :-1].detach().numpy(), atol=1e-5)
            assert count <= length


@pytest.mark.parametrize("penalty", [0.0, 1.5, -1.5])
def test_a_wide_beam_finds_the_best_of_all_sentences(penalty):
    decoder, states, lengths = sharp_decoder(3), torch.randn(6, 4, 6), torch.tensor([4, 3, 4, 4, 2, 4])
    found = beam_search(decoder, states, lengths, 200, penalty)
    plain = beam_search(decoder, states, lengths, 200)
    assert (penalty == 0) == all(one.tokens == other.tokens for one, other in zip(found, plain, strict=True))
    for b, length in enumerate(lengths.tolist()):
        scores = {}
        for sentence in (each for n in range(length + 1) for each in itertools.product((1, 2), repeat=n)):
            log_probs, _ = decoder(states[b : b + 1, :length], lengths[b : b + 1], torch.tensor([sentence]).long())
            chosen = log_probs[0].gather(1, torch.tensor([*sentence, END])[:, None]).sum()
            scores[sentence] = float(chosen.detach()) - penalty * len(sentence)
        best = max(scores, key=scores.get)
        assert found[b].tokens == best
        assert found[b].score - penalty * len(best) == pytest.approx(scores[best], abs=1e-4)


def test_a_penalty_shortens_and_a_reward_lengthens():
    decoder, states, lengths = sharp_decoder(), torch.randn(4, 10, 6), torch.tensor([10, 10, 9, 8])
    counts = {p: sum(len(each.tokens) for each in beam_search(decoder, states, lengths, 4, p)) for p in (-20, 0, 20)}
    assert counts[20] == 0
    assert counts[-20] == 37
    assert 0 <= counts[0] <= 37


def test_an_utterance_is_decoded_alike_in_any_batch():
    decoder, states, lengths = sharp_decoder(), torch.randn(3, 9, 6), torch.tensor([4, 9, 6])
    together = beam_search(decoder, states, lengths, 4)
    for b, length in enumerate(lengths.tolist()):
        (alone,) = beam_search(decoder, states[b : b + 1, :length], lengths[b : b + 1], 4)
        assert alone.tokens == together[b].tokens
        assert alone.score == pytest.approx(together[b].score, abs=1e-4)


def test_peaks_as_by_enumeration(rng):
    for _ in range(20):
        count, num_frames = int(rng.integers(1, 4)), int(rng.integers(4, 7))
        weights = rng.dirichlet(np.ones(num_frames), count)
        choices = itertools.combinations(range(num_frames), count)
        best = max(choices, key=lambda frames: np.log(weights[range(count), list(frames)]).sum())
        assert rising_peaks(weights) == list(best)
    assert rising_peaks(np.full((4, 4), 0.25)) == [0, 1, 2, 3]
    assert rising_peaks(np.zeros((0, 4))) == []


def configured(**changes):
    options = {"name": "attention_decoder", "num_layers": 1, "hidden_size": 16, "stack": 1} | changes
    sizes = {"state_size": 24, "decoder_size": 24, "attention_size": 16, "num_filters": 4, "filter_width": 7}
    return from_dict({"data": {"corpora": {"mini": None}, "labels": "timit39"}, "model": sizes | options})


def sentences(count, draw=5, num_features=123):
    """Return utterances of three to five sounds, 4 frames each, that are labels 1..6: a copying task."""
    rng, utterances = np.random.default_rng(draw), []
    for i in range(count):
        labels = rng.permutation(6)[: rng.integers(3, 6)] + 1
        features = 0.3 * rng.standard_normal((4 * len(labels), num_features)).astype(np.float32)
        for place, label in enumerate(labels):
            features[4 * place : 4 * place + 4, label] += 4
        utterances.append((str(i), features, labels.tolist()))
    return utterances


@pytest.fixture(scope="module")
def copied():
    """A recogniser trained for some seconds to copy, its criterion, its losses, and speech that it has not heard."""
    torch.manual_seed(1)
    config = configured(ctc_weight=0.3)
    criterion = Attention(config)
    encoder = encoders.build(config.model, 123, criterion.num_classes)
    learned = [*encoder.parameters(), *criterion.parameters()]
    optimizer, losses = torch.optim.Adam(learned, 0.01), []
    for step in range(200):  # with new sentences in each, so that none can be learnt by heart
        batch = collate(sentences(16, draw=step))
        optimizer.zero_grad()
        loss = criterion(*encoder(batch.features, batch.feature_lengths), batch)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    unmoved = [weights for weights in learned if weights.grad is None or not weights.grad.abs().max() > 0]
    assert not unmoved
    model = criterion.acoustic_model(encoder.eval(), Normaliser(FeatureConfig(cmvn="none")))
    return model, criterion, losses, collate(sentences(16, draw=1000))


def test_an_encoder_decoder_learns_to_copy_with_its_attention_on_the_diagonal(copied):
    model, _, losses, batch = copied
    assert losses[-1] < 0.1 * losses[0]
    right = 0
    for b, found in enumerate(model.decode(model.emissions(batch.rows()), 1)):
        right += list(found.tokens) == batch.targets[b, : batch.target_lengths[b]].tolist()
        places = (found.weights * np.arange(found.weights.shape[1])).sum(axis=1)
        assert np.abs(places - (4 * np.arange(len(places)) + 1.5)).max() < 4  # frames of a sound are 4
        assert all(later > earlier for earlier, later in itertools.pairwise(found.timesteps))
    assert right >= 14  # of 16 sentences that it has not heard


def test_a_beam_scores_no_less_than_greedy(copied):
    model, *_, batch = copied
    noisy = [
        rows + np.random.default_rng(1).normal(0, 3, rows.shape).astype(np.float32)
        for rows in model.emissions(batch.rows())
    ]
    greedy, beam = (np.array([each.score for each in model.decode(noisy, size)]) for size in (1, 8))
    assert (beam >= greedy - 1e-5).all()
    assert (beam > greedy + 1e-3).any()


def test_each_loss_sums_to_the_mean_loss(copied):
    model, criterion, _, batch = copied
    with torch.no_grad():
        outputs = model.encoder(batch.features, batch.feature_lengths)
        losses, mean = criterion.each(*outputs, batch), criterion(*outputs, batch)
    assert float((losses / batch.target_lengths).mean()) == pytest.approx(float(mean), rel=1e-5)
    labels = [model.tokens[i] for i in batch.targets[0, : batch.target_lengths[0]]]
    aligned = model.align(Spellings.of_phones(labels), model.emissions(batch.rows())[0]).score
    states, lengths = outputs
    spelt = ctc_loss(criterion.ctc(states), batch.targets, lengths, batch.target_lengths, reduction="none").detach()
    assert float(losses[0]) == pytest.approx(0.3 * float(spelt[0]) - 0.7 * aligned, abs=1e-4)


def test_without_ctc_the_loss_is_the_decoders_alone():
    criterion = Attention(configured(ctc_weight=0.0))
    assert criterion.ctc is None
    batch, states = collate(sentences(2)), torch.randn(20, 2, 24)
    lengths = torch.tensor([20, 12])
    log_probs = criterion.decoder(states.transpose(0, 1), lengths, batch.targets)[0].detach()
    expected = [
        -sum(float(log_probs[b, i, label]) for i, label in enumerate([*batch.targets[b, :n].tolist(), END]))
        for b, n in enumerate(batch.target_lengths.tolist())
    ]
    assert criterion.each(states, lengths, batch).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_recogniser_of_the_tensors_that_another_gave(copied):
    model, _, _, batch = copied
    tensors = model.tensors()
    assert {name.split(".")[0] for name in tensors} == {"encoder", "decoder"}
    parts = AttentionModel.parts(model.config, model.tokens, tensors)
    again = AttentionModel(model.config, model.tokens, model.normaliser, model.calibration, **parts)
    first, second = (each.decode(each.emissions(batch.rows()), 4) for each in (model, again))
    assert first == second
    assert model.num_parameters == again.num_parameters == sum(value.size for value in tensors.values())
    assert model.decoders(1) == {"greedy": 1}
    assert list(model.decoders(8)) == ["greedy", "beam 8"]
    with pytest.raises(RuntimeError, match="size mismatch"):
        AttentionModel.parts(configured(decoder_size=8), model.tokens, tensors)


def test_phones_lie_where_they_were_read(copied):
    model, *_, batch = copied
    rows = model.emissions(batch.rows())[0]
    (found,) = model.decode([rows], 1)
    segments = model.segments(found, rows)
    assert [each.label for each in segments] == [model.tokens[i] for i in found.tokens]
    assert segments[0].start == 0
    assert segments[-1].end == pytest.approx(len(rows) * model.frame_shift)
    for i, (before, after) in enumerate(itertools.pairwise(segments), start=1):
        assert before.end == after.start
        assert before.end == pytest.approx(0.04 * i, abs=0.03)
    placed = model.align(Spellings.of_phones([each.label for each in segments]), rows)
    spans = [(each.label, each.start, each.end) for each in segments]
    assert [(each.label, each.start, each.end) for each in placed.phones] == spans
    assert placed.score == pytest.approx(found.score, abs=1e-4)
    with pytest.raises(InfeasibleError, match=r"a\.wav: 2 phones need at least as many frames, and there are 1"):
        model.align(Spellings.of_phones(["aa", "b"]), rows[:1], name="a.wav")
    assert model.segments(attention.AttentionHypothesis((), (), 0.0, (), np.zeros((0, 5))), rows) == []


def test_what_is_shown_as_posteriors(copied):
    model, *_, batch = copied
    rows = model.emissions(batch.rows())[0]
    (found,) = model.decode([rows], model.config.decode.beam_size)
    probs = np.exp(model.log_probs(rows))
    assert probs.shape == (len(rows), len(model.tokens))
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    for token, frame in zip(found.tokens, found.timesteps, strict=True):
        assert probs[frame].argmax() == token


def test_the_picture_is_drawn(copied, tmp_path, rng):
    model, *_, batch = copied
    rows = model.emissions(batch.rows())[0]
    (found,) = model.decode([rows], 1)
    waveform = rng.standard_normal(int(16_000 * len(rows) * model.frame_shift))
    times = [("aa", 0.0, 0.05), ("b", 0.05, 0.1)]
    labels = [model.tokens[token] for token in found.tokens]
    path = tmp_path / "attention.png"
    figures.attention_weights(waveform, found.weights, labels, model.frame_shift, times, path, "an utterance")
    assert (tmp_path / "attention.png").stat().st_size > 5_000
    assert [path.name for path in tmp_path.iterdir()] == ["attention.png"]


def test_the_section_of_a_recipe_is_the_blstms_and_the_decoders():
    fields = set(attention_decoder.EncoderConfig.__dataclass_fields__)
    assert {"num_layers", "hidden_size", "dropout", "stack", "decoder_size"} < fields
    assert section("model", attention_decoder.EncoderConfig, {"stack": 3}).stack == 3
