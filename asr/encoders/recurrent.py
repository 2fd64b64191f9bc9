"""Deep one- or bidirectional networks of recurrent cells (docs/theory/recurrent.md).

Letters: B utterances, T feature frames, F values a frame, n stacked frames, T' = ⌈T / n⌉, H units a direction,
C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.core.settings import check, one_of
from asr.encoders.blstm import _Reverse, output_lengths, stack_frames
from asr.encoders.cells import GRU, LSTM, Elman, Jordan, PeepholeLSTM

JORDAN = "jordan"
CELLS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "elman_tanh": lambda inputs, hidden, truncate: Elman(inputs, hidden, "tanh", truncate),
    "elman_relu": lambda inputs, hidden, truncate: Elman(inputs, hidden, "relu", truncate),
    JORDAN: lambda inputs, hidden, truncate: Jordan(inputs, hidden, hidden, "tanh", truncate=truncate),
    "lstm": LSTM,
    "peephole_lstm": PeepholeLSTM,
    "gru": GRU,
}


@dataclass(frozen=True)
class EncoderConfig:
    """The `model` section of a recurrent recipe.

    Attributes
    ----------
    cell
        ``elman_tanh``, ``elman_relu``, ``jordan``, ``lstm``, ``peephole_lstm`` or ``gru``.
    num_layers
        Recurrent layers.
    hidden_size
        Units in each direction.
    bidirectional
        Whether each layer also runs over reversed time.
    dropout
        Probability of dropping a hidden unit after each layer. All frames of an utterance share one mask.
    stack
        Feature frames that are joined into one, 1 to 8.
    truncate
        Number of stacked frames after which the gradient is cut; the state runs on. 0 is full backpropagation through
        time.
    gradient
        ``bptt``, backpropagation through time, or ``rtrl``, real-time recurrent learning, for one Elman layer.
    """

    cell: str = "elman_tanh"
    num_layers: int = 2
    hidden_size: int = 128
    bidirectional: bool = True
    dropout: float = 0.0
    stack: int = 1
    truncate: int = 0
    gradient: str = "bptt"

    def __post_init__(self) -> None:
        one_of("model.cell", self.cell, tuple(CELLS))
        check(self.num_layers >= 1, "model.num_layers", "be 1 or more", self.num_layers)
        check(self.hidden_size >= 1, "model.hidden_size", "be 1 or more", self.hidden_size)
        check(0 <= self.dropout < 1, "model.dropout", "lie in 0..1", self.dropout)
        check(1 <= self.stack <= 8, "model.stack", "lie in 1..8", self.stack)
        check(self.truncate >= 0, "model.truncate", "be 0 or more", self.truncate)
        one_of("model.gradient", self.gradient, ("bptt", "rtrl"))
        online = self.cell.startswith("elman") and self.num_layers == 1 and self.truncate == 0
        check(self.gradient == "bptt" or online, "model.gradient", "be bptt, but of one Elman layer", self.gradient)

    def build(self, num_features: int, num_classes: int) -> "RecurrentEncoder":
        """Make the network for F features and C classes."""
        return RecurrentEncoder(self, num_features, num_classes)


class RecurrentEncoder(nn.Module):
    """Recurrent layers and a linear output layer, which a Jordan network does not have.

    The outputs of a Jordan network's uppermost layer are the classes, as it feeds its outputs back. The inputs of its
    softmax are the logits; those of two directions are added. The second direction runs over time-reversed utterances,
    so that padding never affects a valid frame.

    Examples
    --------
    >>> network = EncoderConfig("jordan", hidden_size=8, stack=3).build(num_features=5, num_classes=4)
    >>> logits, lengths = network(torch.zeros(2, 10, 5), torch.tensor([10, 7]))
    >>> tuple(logits.shape), lengths.tolist()
    ((4, 2, 4), [4, 3])
    """

    def __init__(self, config: EncoderConfig, num_features: int, num_classes: int):
        super().__init__()
        self.subsampling, self.dropout = config.stack, config.dropout
        width = config.hidden_size * (2 if config.bidirectional else 1)
        sizes = [num_features * config.stack] + [width] * (config.num_layers - 1)
        self.forward_layers = _layers(config, sizes, num_classes)
        self.backward_layers = _layers(config, sizes, num_classes) if config.bidirectional else None
        self.output = None if config.cell == JORDAN else nn.Linear(width, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) and their lengths (B,) to logits (T', B, C) and their lengths (B,)."""
        hidden = stack_frames(features, feature_lengths, self.subsampling).transpose(0, 1).contiguous()  # (T', B, nF)
        lengths = output_lengths(feature_lengths, self.subsampling)
        for i, forward_layer in enumerate(self.forward_layers):
            directions = [forward_layer(hidden)[0]]  # (T', B, H)
            if self.backward_layers is not None:
                back, _ = self.backward_layers[i](_Reverse.apply(hidden, lengths))
                directions.append(_Reverse.apply(back, lengths))
            if self.output is None and i == len(self.forward_layers) - 1:
                return sum(directions[1:], directions[0]).float(), lengths
            hidden = torch.cat(directions, dim=2)  # (T', B, H or 2H)
            if self.training and self.dropout > 0:
                hidden = hidden * nn.functional.dropout(torch.ones_like(hidden[:1]), self.dropout)
        assert self.output is not None
        with torch.autocast(hidden.device.type, enabled=False):  # 8 bits of mantissa are too few for logits
            return self.output(hidden.float()), lengths


def _layers(config: EncoderConfig, sizes: list[int], num_classes: int) -> nn.ModuleList:
    """Make the layers of one direction; `sizes` are their numbers of inputs."""
    if config.gradient == "rtrl":
        return nn.ModuleList([Elman(sizes[0], config.hidden_size, config.cell.removeprefix("elman_"), online=True)])
    layers = [CELLS[config.cell](size, config.hidden_size, config.truncate) for size in sizes]
    if config.cell == JORDAN:
        layers[-1] = Jordan(sizes[-1], config.hidden_size, num_classes, logits=True, truncate=config.truncate)
    return nn.ModuleList(layers)
