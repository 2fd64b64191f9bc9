"""Self-attention encoder: the encoder of the Transformer, with the normalisation before each block.

Sources: A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. N. Gomez, Ł. Kaiser and I. Polosukhin,
"Attention is all you need", NeurIPS 2017, sections 3.1-3.3 and 3.5; normalisation before the blocks: R. Xiong et al.,
"On layer normalization in the Transformer architecture", ICML 2020; positions from a convolution instead of sines:
A. Mohamed, D. Okhonko and L. Zettlemoyer, "Transformers with convolutional context for ASR", arXiv:1904.11660, 2019.

Letters: B utterances, T feature frames, F values a frame, n stacked frames, T' = ⌈T / n⌉, D values of a frame inside
the network, A heads, C classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.core.settings import check, one_of
from asr.encoders.blstm import output_lengths, stack_frames


@dataclass(frozen=True)
class EncoderConfig:
    """The `model` section of a self-attention recipe.

    Attributes
    ----------
    num_layers
        Blocks of self-attention and feed-forward network.
    hidden_size
        D, the size of a frame between blocks; an even number.
    num_heads
        Attention heads; a divisor of `hidden_size`.
    feedforward_size
        Hidden units of the feed-forward network in each block.
    positions
        How the position of a frame is encoded: ``convolutional`` or ``sinusoidal``.
    position_width
        Output frames that the position convolution covers; an odd number.
    dropout
        Probability of dropping a unit of the input or of what each block adds to it, or an attention weight.
    stack
        Feature frames that are joined into one, 1 to 8.
    """

    num_layers: int = 4
    hidden_size: int = 128
    num_heads: int = 4
    feedforward_size: int = 512
    positions: str = "convolutional"
    position_width: int = 15
    dropout: float = 0.1
    stack: int = 2

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "num_heads", "feedforward_size"):
            check(getattr(self, name) >= 1, f"model.{name}", "be 1 or more", getattr(self, name))
        check(self.hidden_size % 2 == 0, "model.hidden_size", "be even", self.hidden_size)
        fits = self.hidden_size % self.num_heads == 0
        check(fits, "model.num_heads", f"divide model.hidden_size, {self.hidden_size}", self.num_heads)
        one_of("model.positions", self.positions, ("convolutional", "sinusoidal"))
        odd = self.position_width >= 1 and self.position_width % 2 == 1
        check(odd, "model.position_width", "be odd and positive", self.position_width)
        check(0 <= self.dropout < 1, "model.dropout", "lie in 0..1", self.dropout)
        check(1 <= self.stack <= 8, "model.stack", "lie in 1..8", self.stack)

    def build(self, num_features: int, num_classes: int) -> "SelfAttention":
        """Make the network for F features and C classes."""
        return SelfAttention(self, num_features, num_classes)


class SelfAttention(nn.Module):
    """Blocks of self-attention and a linear output layer.

    Examples
    --------
    >>> config = EncoderConfig(num_layers=2, hidden_size=8, num_heads=2, feedforward_size=16, stack=3)
    >>> network = config.build(num_features=5, num_classes=4)
    >>> logits, lengths = network(torch.zeros(2, 10, 5), torch.tensor([10, 7]))
    >>> tuple(logits.shape), lengths.tolist()
    ((4, 2, 4), [4, 3])
    """

    def __init__(self, config: EncoderConfig, num_features: int, num_classes: int):
        super().__init__()
        self.subsampling = config.stack
        size, width = config.hidden_size, config.position_width
        self.input = nn.Linear(num_features * config.stack, size)
        convolutional = config.positions == "convolutional"
        self.convolution = nn.Conv1d(size, size, width, padding=width // 2, groups=size) if convolutional else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(size)
        self.output = nn.Linear(size, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) and their lengths (B,) to logits (T', B, C) and their lengths (B,)."""
        stacked = stack_frames(features, feature_lengths, self.subsampling)  # (B, T', nF)
        lengths = output_lengths(feature_lengths, self.subsampling)
        valid = torch.arange(stacked.shape[1], device=stacked.device) < lengths[:, None]  # (B, T')
        hidden = self._place(self.input(stacked).float(), valid)
        for block in self.blocks:
            hidden = block(hidden, valid)
        with torch.autocast(hidden.device.type, enabled=False):
            return self.output(self.norm(hidden.float())).transpose(0, 1), lengths

    def _place(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Add its position to each frame (B, T', D): a convolution of its neighbours, or sinusoids."""
        if self.convolution is None:
            return self.dropout(hidden + sinusoids(hidden.shape[1], hidden.shape[2]).to(hidden))
        inside = hidden * valid[:, :, None]
        return self.dropout(hidden + self.convolution(inside.transpose(1, 2)).transpose(1, 2).relu())


class Block(nn.Module):
    """Self-attention over the utterance, then two layers on each frame, both with a residual connection."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        size = config.hidden_size
        self.num_heads, self.rate = config.num_heads, config.dropout
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.projections = nn.Linear(size, 3 * size)  # queries, keys and values
        self.merge = nn.Linear(size, size)
        self.feedforward = nn.Sequential(
            nn.Linear(size, config.feedforward_size), nn.ReLU(), nn.Linear(config.feedforward_size, size)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """Map frames (B, T', D) to frames of the same shape; `valid` (B, T') is false for padding."""
        projected = self.projections(self.attention_norm(hidden))  # (B, T', 3D)
        queries, keys, values = projected.unflatten(2, (3, self.num_heads, -1)).permute(
            2, 0, 3, 1, 4
        )  # (B, A, T', D/A)
        mixed = nn.functional.scaled_dot_product_attention(
            queries, keys, values, valid[:, None, None, :], self.rate if self.training else 0.0
        )
        hidden = hidden + self.dropout(self.merge(mixed.transpose(1, 2).flatten(2)))
        return hidden + self.dropout(self.feedforward(self.feedforward_norm(hidden)))


def sinusoids(num_frames: int, size: int) -> Tensor:
    """Return the positions' sines and cosines (T', D), for even D: Vaswani et al. 2017, section 3.5.

    >>> sinusoids(2, 2).tolist()[0], round(float(sinusoids(2, 2)[1, 0]), 4)
    ([0.0, 1.0], 0.8415)
    """
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000) / size))
    angles = torch.arange(num_frames)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1)
