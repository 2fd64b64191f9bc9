"""Encoders: features in, one row of logits for each output frame.

Each encoder family is one file, listed in `FAMILIES`; a recipe names it by the file's name. The file has a frozen
dataclass `EncoderConfig`, whose fields are the keys of a recipe's `model` section besides `name`, and whose method
`build(num_features, num_classes)` makes the `torch.nn.Module`. The module maps ``features (B, T, F)`` and
``feature_lengths (B,)`` to ``logits (T', B, C)`` and ``output_lengths (B,)``, and has an
attribute `subsampling`, the number of feature frames in one output frame: T' = ⌈T / subsampling⌉.
"""

import importlib
from typing import TYPE_CHECKING, Any

from asr.core.settings import check, model_options

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
        F, values of a feature frame.
    num_classes
        C, the number of labels and the blank.

    Raises
    ------
    ConfigError
        There is no such family, a key is unknown, or a value is wrong.

    Examples
    --------
    >>> build({"name": "blstm", "num_layers": 1, "hidden_size": 8}, num_features=5, num_classes=3).subsampling
    1
    """
    return config_of(options).build(num_features, num_classes)


def config_of(options: dict[str, Any]) -> Any:
    """Return the EncoderConfig that a recipe's `model` section describes; errors are those of `build`.

    >>> config_of({"name": "blstm", "hidden_size": 8}).hidden_size
    8
    """
    name = options["name"]
    check(name in FAMILIES, "model.name", f"be one of {', '.join(FAMILIES)} or gmm_hmm", name)
    family = importlib.import_module(f"asr.encoders.{name}")
    return model_options(options, family.EncoderConfig)
