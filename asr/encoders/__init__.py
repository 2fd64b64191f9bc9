"""Encoders: features in, one row of logits for each output frame.

An encoder family is one file here, named in `FAMILIES`; the file's name is its name in a recipe. It has a frozen
dataclass `EncoderConfig`, whose fields are the keys that a recipe's `model` section may hold beside `name`, and whose
method `build(num_features, num_classes)` makes the `torch.nn.Module`. The module maps ``features (B, T, F)`` and
``feature_lengths (B,)`` to ``logits (T', B, C)`` and ``output_lengths (B,)``, and tells in `subsampling` how many
feature frames make one of its output frames: T' = ⌈T / subsampling⌉.
"""

import importlib
from typing import TYPE_CHECKING, Any

from asr.core.config import model_options
from asr.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

FAMILIES = ("attention_decoder", "blstm", "echo_state", "recurrent", "self_attention", "tdnn")


def build(options: dict[str, Any], num_features: int, num_classes: int) -> "nn.Module":
    """Build the encoder that a recipe's `model` section describes.

    Parameters
    ----------
    options
        ``name`` and the keys of that family's EncoderConfig.
    num_features
        F, values in a feature frame.
    num_classes
        C, labels and the blank.

    Raises
    ------
    ConfigError
        No such family; an unknown key or a wrong value.

    Examples
    --------
    >>> build({"name": "blstm", "num_layers": 1, "hidden_size": 8}, num_features=5, num_classes=3).subsampling
    1
    """
    name = options["name"]
    if name not in FAMILIES:
        raise ConfigError(f"config: model.name must be one of {', '.join(FAMILIES)} or gmm_hmm, but it is {name!r}")
    family = importlib.import_module(f"asr.encoders.{name}")
    return model_options(options, family.EncoderConfig).build(num_features, num_classes)
