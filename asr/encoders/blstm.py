"""Deep bidirectional LSTM (Graves, Mohamed and Hinton 2013), or in one direction for live speech.

Letters: B utterances, T feature frames, F values a frame, n frames a step, T' = ⌈T / n⌉, H cells a direction, K
channels, C classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from asr.encoders import chunks, lstm
from asr.encoders.blstm_sizes import BLSTMSizes


@dataclass(frozen=True)
class EncoderConfig(BLSTMSizes):
    """The `model` section of a BLSTM recipe."""

    def build(self, num_features: int, num_classes: int) -> "BLSTM":
        """Make the network for F features and C classes."""
        return BLSTM(self, num_features, num_classes)


class BLSTM(nn.Module):
    """Bidirectional LSTM layers and a linear output layer, over stacked frames or two convolutions.

    Each layer consists of two one-directional LSTMs, the second over time-reversed utterances. Thus padding, whatever
    it holds, never affects a valid frame. On a CPU our own kernels train the layers (`asr.encoders.lstm`), both
    directions of one at the same time; elsewhere, and where no gradient is asked for, torch runs one after the other.

    Examples
    --------
    >>> network = EncoderConfig(num_layers=2, hidden_size=8, stack=3).build(num_features=5, num_classes=4)
    >>> logits, lengths = network(torch.zeros(2, 10, 5), torch.tensor([10, 7]))
    >>> tuple(logits.shape), lengths.tolist()
    ((4, 2, 4), [4, 3])
    """

    def __init__(self, config: EncoderConfig, num_features: int, num_classes: int):
        super().__init__()
        self.subsampling = config.stack
        hidden, sizes = config.hidden_size, config.input_sizes(num_features)
        self.front = Convolutions(config.channels, config.stack) if config.channels else None
        self.forward_layers = nn.ModuleList(nn.LSTM(size, hidden) for size in sizes)
        self.backward_layers = nn.ModuleList(nn.LSTM(size, hidden) for size in sizes if config.bidirectional)
        self.dropout, self.chunk, self.lookahead = config.dropout, config.chunk, config.lookahead
        self.output = nn.Linear(config.output_size, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) and their lengths (B,) to logits (T', B, C) and their lengths (B,)."""
        if self.front is None:
            joined = stack_frames(features, feature_lengths, self.subsampling)
        else:
            joined = self.front(features, feature_lengths)
        lengths = output_lengths(feature_lengths, self.subsampling)
        if self.chunk:
            return self._run_chunks(joined, lengths), lengths
        if lstm.can_run(joined, self.forward_layers):
            return self._run_rows(joined, lengths), lengths
        hidden, spans = _fill_up(joined.transpose(0, 1).contiguous(), lengths)  # (T', B or more, ·)
        for i, forward_layer in enumerate(self.forward_layers):
            ahead, _ = forward_layer(hidden)  # (T', B, H)
            if len(self.backward_layers):
                back, _ = self.backward_layers[i](_Reverse.apply(hidden, spans))
                ahead = torch.cat((ahead, _Reverse.apply(back, spans)), dim=2)  # (T', B, 2H)
            hidden = ahead
            if self.training and self.dropout > 0:
                hidden = hidden * self._mask(hidden[0])
        return self._logits(hidden[:, : len(lengths)]), lengths

    def _run_rows(self, joined: Tensor, lengths: Tensor) -> Tensor:
        """Map joined frames (B, T', ·) to logits (T', B, C) by our own kernels; those of padding are 0."""
        rows = lstm.Rows(lengths, joined.shape[1])
        hidden = rows.pack(joined).to(lstm.working_type())  # (N, ·)
        for layer in zip(*self._directions(), strict=True):
            mask = self._mask(torch.empty(len(lengths), sum(one.hidden_size for one in layer)))
            hidden = lstm.run(layer, hidden, mask, rows)  # (N, H or 2H)
        return rows.unpack(self._logits(hidden))

    def _run_chunks(self, joined: Tensor, lengths: Tensor) -> Tensor:
        """Map joined frames (B, T', ·) to logits (T', B, C), the backward layers in windows."""
        layout: type[chunks.Layout] = chunks.Padded
        if lstm.can_run(joined, self.forward_layers):
            layout, joined = lstm.Rows, joined.to(lstm.working_type())
        layers = list(zip(*self._directions(), strict=True))
        units = torch.empty(len(lengths), layers[0][0].hidden_size, device=joined.device)
        scales = [(self._mask(units), self._mask(units)) for _ in layers]
        windows = chunks.Windows(lengths, self.chunk, self.lookahead)
        return self._logits(chunks.run(layers, joined, lengths, windows, scales, layout))

    def _directions(self) -> list[Any]:
        return [each for each in (self.forward_layers, self.backward_layers) if len(each)]

    def _mask(self, units: Tensor) -> Tensor:
        """Draw factors of a layer's units (B, ·), which all frames of an utterance share; 1 without dropout."""
        return nn.functional.dropout(torch.ones_like(units), self.dropout, self.training)

    def _logits(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # 8 bits of mantissa are too few for logits
            return self.output(hidden.float())


class Convolutions(nn.Module):
    """Two 3 × 3 convolutions, as in a small VGG: each halves the frequencies, and the second has a stride of n frames.

    Frames beyond the end of an utterance count as 0, whatever the padding of its batch.

    Examples
    --------
    >>> Convolutions(channels=16, stack=3)(torch.zeros(2, 10, 80), torch.tensor([10, 8])).shape
    torch.Size([2, 4, 640])
    """

    def __init__(self, channels: int, stack: int):
        super().__init__()
        self.stack = stack
        self.first = nn.Conv2d(1, channels, 3, stride=(1, 2), padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, (stack, 3), stride=(stack, 2), padding=(0, 1))

    def forward(self, features: Tensor, feature_lengths: Tensor) -> Tensor:
        """Map features (B, T, F) and their lengths (B,) to (B, T', 2 K ⌈F / 4⌉)."""
        features = _pad_frames(features, feature_lengths, self.stack)
        maps = torch.relu(self.second(torch.relu(self.first(features[:, None]))))  # (B, 2 K, T', ⌈F / 4⌉)
        return maps.transpose(1, 2).flatten(2)


def output_lengths(feature_lengths: Tensor, subsampling: int) -> Tensor:
    """Return ⌈T / subsampling⌉ for each length.

    >>> output_lengths(torch.tensor([1, 3, 4]), 3).tolist()
    [1, 1, 2]
    """
    return (feature_lengths + subsampling - 1) // subsampling


def stack_frames(features: Tensor, feature_lengths: Tensor, stack: int) -> Tensor:
    """Concatenate every `stack` frames, (B, T, F) → (B, ⌈T / stack⌉, stack · F).

    Frames beyond the end of an utterance count as 0, whatever the padding of its batch: the last valid group may hold
    some of them.

    >>> stack_frames(torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [torch.nan], [torch.nan]]]), torch.tensor([3, 1]), 2)
    tensor([[[1., 2.],
             [3., 0.]],
    <BLANKLINE>
            [[4., 0.],
             [0., 0.]]])
    """
    batch, _, size = features.shape
    return _pad_frames(features, feature_lengths, stack).reshape(batch, -1, stack * size)


def _pad_frames(features: Tensor, feature_lengths: Tensor, stack: int) -> Tensor:
    """Fill the frames beyond the end of each utterance with zeros, and append more up to a multiple of `stack`."""
    frames = features.shape[1]
    outside = torch.arange(frames, device=features.device) >= feature_lengths[:, None]
    filled = features.masked_fill(outside[:, :, None], 0)  # a product with 0 would keep NaN
    return nn.functional.pad(filled, (0, 0, 0, -frames % stack))


def _fill_up(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Append empty utterances to x (T', B, F) on a GPU, up to a multiple of 8: cuDNN is several times as fast then.

    It keeps the recurrent weights of a layer on the chip for all steps, if the batch has a multiple of 8 utterances, at
    most 128, and inputs and cells are multiples of 128 (PyTorch's aten/src/ATen/native/cudnn/RNN.cpp). On an H100, 32
    utterances of 333 steps take 22 ms where 20 of 533 steps take 100.
    """
    if not x.is_cuda:
        return x, lengths
    spare = -x.shape[1] % 8
    return nn.functional.pad(x, (0, 0, 0, spare)), nn.functional.pad(lengths, (0, spare))


class _Reverse(torch.autograd.Function):
    """Reverse the first `lengths[b]` frames of each utterance of x (T, B, F); padding stays where it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: Tensor) -> Tensor:
        time = torch.arange(x.shape[0], device=x.device)[:, None]
        index = torch.where(time < lengths, lengths - 1 - time, time)  # (T, B)
        ctx.save_for_backward(index)
        return x[index, torch.arange(x.shape[1], device=x.device)]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        (grad,) = grad_outputs
        return grad[index, torch.arange(grad.shape[1], device=grad.device)], None
