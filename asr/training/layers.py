"""Layers of a network, from its input up: which of them are frozen, and how fast the others learn."""

import re
from collections import defaultdict
from typing import Any

from torch import nn

from asr.core.errors import ConfigError

_NUMBER = re.compile(r"\.(\d+)\.")  # in the name of a layer's parameter


def levels(encoder: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter, counted from 0 at the input.

    The two directions of a layer are one. What comes before the lowest layer, such as convolutions, belongs to it; what
    comes after the highest belongs to the output layer.

    Examples
    --------
    >>> from asr import encoders
    >>> found = levels(encoders.build({"name": "blstm", "num_layers": 2, "channels": 8, "stack": 3}, 80, 10))
    >>> found["front.first.weight"], found["backward_layers.1.weight_hh_l0"], found["output.bias"]
    (0, 1, 2)
    """
    numbers = {name: _NUMBER.search(name) for name, _ in encoder.named_parameters()}
    top = max((int(number[1]) + 1 for number in numbers.values() if number), default=0)
    found, default = dict[str, int](), 0
    for name, number in numbers.items():
        found[name] = int(number[1]) if number else default
        default = top if number else default
    return found


def freeze(encoder: nn.Module, count: int) -> None:
    """Freeze the lowest layers of a network: their weights stay as they are.

    Raises
    ------
    ConfigError
        There are fewer layers, or no weight would be left to train.
    """
    found = levels(encoder)
    if count > 0 and count > max(found.values()):
        most = max(found.values())
        below = f"{most} {'layer' if most == 1 else 'layers'} below its output"
        raise ConfigError(f"train.freeze is {count}, but the network has {below}: freeze fewer", "train.freeze")
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(found[name] >= count)


def parameter_groups(module: nn.Module, encoder: nn.Module, rate: float, decay: float) -> list[dict[str, Any]]:
    """Return the parameters that are trained, in groups of one learning rate each, the highest layer's first.

    Parameters
    ----------
    module
        All that is trained: the encoder, and what stands above it.
    encoder
        The network in it.
    rate
        The learning rate of what is above the highest numbered layer.
    decay
        Factor of the learning rate from each layer to the one below.
    """
    known = {
        id(parameter): level
        for (_, parameter), level in zip(encoder.named_parameters(), levels(encoder).values(), strict=True)
    }
    top, groups = max(known.values()), defaultdict[int, list[nn.Parameter]](list)
    for parameter in module.parameters():
        if parameter.requires_grad:
            below = 0 if decay == 1 else top - known.get(id(parameter), top)
            groups[below].append(parameter)
    return [{"params": groups[below], "lr": rate * decay**below} for below in sorted(groups)]
