"""Time-delay neural network: dilated convolutions over time.

Sources: A. Waibel, T. Hanazawa, G. Hinton, K. Shikano and K. J. Lang, "Phoneme recognition using time-delay neural
networks", IEEE Transactions on Acoustics, Speech and Signal Processing 37(3), 1989; V. Peddinti, D. Povey and
S. Khudanpur, "A time delay neural network architecture for efficient modeling of long temporal contexts", Proc.
Interspeech 2015, section 3, for layers that subsample a context that widens from layer to layer.

Letters: B utterances, T feature frames, F values a frame, n stacked frames, T' = ⌈T / n⌉, H units a layer, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.core.settings import check, one_of
from asr.encoders.blstm import output_lengths, stack_frames


@dataclass(frozen=True)
class EncoderConfig:
    """The `model` section of a time-delay network's recipe.

    Attributes
    ----------
    hidden_size
        Units of each layer.
    contexts
        One entry for each layer, 0 to 100: a layer with context c sees the frames t − c, t and t + c.
    norm
        ``layer`` normalises over the units of a frame, ``batch`` over the frames of the batch for each unit.
    dropout
        Probability of dropping a unit after each layer.
    stack
        Feature frames that are joined into one, 1 to 8.
    """

    hidden_size: int = 256
    contexts: tuple[int, ...] = (1, 2, 3, 6)
    norm: str = "layer"
    dropout: float = 0.0
    stack: int = 1

    def __post_init__(self) -> None:
        check(self.hidden_size >= 1, "model.hidden_size", "be 1 or more", self.hidden_size)
        fits = len(self.contexts) > 0 and all(0 <= context <= 100 for context in self.contexts)
        check(fits, "model.contexts", "be numbers of frames in 0..100, one for each layer", list(self.contexts))
        one_of("model.norm", self.norm, ("layer", "batch"))
        check(0 <= self.dropout < 1, "model.dropout", "lie in 0..1", self.dropout)
        check(1 <= self.stack <= 8, "model.stack", "lie in 1..8", self.stack)

    def build(self, num_features: int, num_classes: int) -> "TDNN":
        """Make the network for F features and C classes."""
        return TDNN(self, num_features, num_classes)


class TDNN(nn.Module):
    """Layers of convolution, normalisation and ReLU, and a linear output layer.

    An output frame depends on `reach` frames on either side of it. Frames beyond the utterance, padding or not, count
    as zeros in each layer, so that padding does not affect a valid frame.

    Examples
    --------
    >>> network = EncoderConfig(hidden_size=8, contexts=(1, 3), stack=3).build(num_features=5, num_classes=4)
    >>> logits, lengths = network(torch.zeros(2, 10, 5), torch.tensor([10, 7]))
    >>> tuple(logits.shape), lengths.tolist(), network.reach
    ((4, 2, 4), [4, 3], 4)
    """

    def __init__(self, config: EncoderConfig, num_features: int, num_classes: int):
        super().__init__()
        self.subsampling = config.stack
        self.reach = sum(config.contexts)
        hidden = config.hidden_size
        sizes = [num_features * config.stack] + [hidden] * (len(config.contexts) - 1)
        pairs = zip(sizes, config.contexts, strict=True)
        self.layers = nn.ModuleList(_delays(size, hidden, context) for size, context in pairs)
        norm = nn.LayerNorm if config.norm == "layer" else nn.BatchNorm1d
        self.norms = nn.ModuleList(norm(hidden) for _ in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) and their lengths (B,) to logits (T', B, C) and their lengths (B,)."""
        hidden = stack_frames(features, feature_lengths, self.subsampling)  # (B, T', nF)
        lengths = output_lengths(feature_lengths, self.subsampling)
        valid = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # (B, T')
        for layer, norm in zip(self.layers, self.norms, strict=True):
            sums = layer(hidden.transpose(1, 2)).transpose(1, 2)  # (B, T', H)
            rows = self.dropout(norm(sums[valid].float()).relu())  # frames of all utterances: no padding in the means
            hidden = rows.new_zeros(sums.shape).masked_scatter(valid[:, :, None], rows)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.output(hidden.transpose(0, 1)), lengths


def _delays(inputs: int, outputs: int, context: int) -> nn.Conv1d:
    if context == 0:
        return nn.Conv1d(inputs, outputs, 1)
    return nn.Conv1d(inputs, outputs, 3, padding=context, dilation=context)
