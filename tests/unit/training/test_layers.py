"""Layers that stay as they are, and layers that learn more slowly than those above them."""

import pytest
import torch

from asr import encoders
from asr.core.errors import ConfigError
from asr.training import layers

SMALL = {"blstm": {"hidden_size": 8}, "tdnn": {}, "self_attention": {}, "recurrent": {"hidden_size": 8}}


def network(name="blstm", **options):
    return encoders.build({"name": name, "num_layers": 3, **SMALL.get(name, {}), **options}, 13, 5)


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"tdnn"}))
def test_every_parameter_has_a_layer(name):
    encoder = network(name)
    found = layers.levels(encoder)
    assert list(found) == [each for each, _ in encoder.named_parameters()]
    assert set(found.values()) == {0, 1, 2, 3}
    assert {each for each, level in found.items() if level == 3} >= {"output.weight", "output.bias"}


def test_rates_fall_from_layer_to_layer():
    encoder = network()
    above = torch.nn.Linear(5, 5)  # what a criterion adds
    groups = layers.parameter_groups(torch.nn.ModuleList([encoder, above]), encoder, 0.01, 0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    expected = {name: 0.01 * 0.5 ** (3 - level) for name, level in layers.levels(encoder).items()}
    assert {name: rates[id(parameter)] for name, parameter in encoder.named_parameters()} == expected
    assert {rates[id(parameter)] for parameter in above.parameters()} == {0.01}
    assert groups[0]["lr"] == 0.01
    assert len(rates) == sum(1 for _ in encoder.parameters()) + 2


def test_without_decay_there_is_one_group_in_the_order_of_the_parameters():
    encoder = network()
    (group,) = layers.parameter_groups(encoder, encoder, 0.01, 1.0)
    assert all(one is other for one, other in zip(group["params"], encoder.parameters(), strict=True))


def test_frozen_parameters_are_in_no_group():
    encoder = network()
    layers.freeze(encoder, 2)
    groups = layers.parameter_groups(encoder, encoder, 0.01, 0.5)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    found = layers.levels(encoder)
    assert {name for name, each in encoder.named_parameters() if id(each) in trained} == {
        name for name, level in found.items() if level >= 2
    }


def test_there_must_be_layers_to_freeze():
    with pytest.raises(ConfigError, match=r"train\.freeze is 4, but the network has 3 layers below its output"):
        layers.freeze(network(), 4)
    with pytest.raises(ConfigError, match="0 layers below its output"):
        layers.freeze(encoders.build({"name": "echo_state"}, 13, 5), 1)
