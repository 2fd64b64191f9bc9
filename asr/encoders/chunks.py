"""Backward layers that look a little ahead: a bidirectional LSTM for live speech.

The forward layers run through the whole utterance. The backward layers start anew for each chunk of c steps, r steps
after its end, or at the end of the utterance: no output needs more than c + r − 1 steps of the future
(latency-controlled BLSTM; Zhang et al. 2016, "Highway long short-term memory RNNs for distant speech recognition").

    steps     0 1 2 3 4 5 6 7 8 9 …        c = 3, r = 2
    window 0  ◀───────┘
    window 1        ◀───────┘

Within a window, steps after the chunk have no output of a forward layer yet: there, the next backward layer takes that
of the last step of the chunk.

Letters: B utterances, T' steps of the longest, W windows, S = c + r, N rows, H cells a direction.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Layout(Protocol):
    """How the steps of utterances, or of windows, stand as rows of an array: `asr.encoders.lstm.Rows` and `Padded`."""

    at: Tensor  # (B, T'), the row of each step; −1 for padding
    count: int  # N

    def __init__(self, lengths: Tensor, steps: int): ...

    def pack(self, x: Tensor) -> Tensor:
        """Map x (B, T', F) to rows (N, F)."""

    def unpack(self, rows: Tensor) -> Tensor:
        """Map rows (N, F) to (T', B, F)."""

    def run(self, layer: nn.LSTM, x: Tensor, scale: Tensor) -> Tensor:
        """Return the hidden units (N, H) of a layer over rows x, times the factors (B, H) of each utterance."""


class Padded:
    """Rows of a padded batch, step by step, for torch's own LSTM."""

    def __init__(self, lengths: Tensor, steps: int):
        self._shape, self.count = (steps, len(lengths)), steps * len(lengths)
        time = torch.arange(steps, device=lengths.device)
        at = time * len(lengths) + torch.arange(len(lengths), device=lengths.device)[:, None]
        self.at = at.masked_fill(time >= lengths[:, None], -1)

    def pack(self, x: Tensor) -> Tensor:
        """Map x (B, T', F) to rows (N, F)."""
        return x.transpose(0, 1).flatten(0, 1)

    def unpack(self, rows: Tensor) -> Tensor:
        """Map rows (N, F) to (T', B, F)."""
        return rows.unflatten(0, self._shape)

    def run(self, layer: nn.LSTM, x: Tensor, scale: Tensor) -> Tensor:
        """Return the hidden units (N, H) of a layer over rows x, times the factors (B, H) of each utterance."""
        return (layer(x.unflatten(0, self._shape))[0] * scale).flatten(0, 1)


class Windows:
    """The windows of a batch.

    Parameters
    ----------
    lengths : (B,) integers
        Steps of each utterance.
    chunk, lookahead
        c and r.

    Attributes
    ----------
    owner : (W,)
        The utterance of each window.
    lengths : (W,)
        Steps of each window.
    steps : (W, S)
        The step of the utterance at each place of a window, the last step first; −1 for padding.
    held : (W, S)
        The same, with the last step of the chunk in place of those after it.

    Examples
    --------
    >>> windows = Windows(torch.tensor([7, 2]), chunk=3, lookahead=2)
    >>> windows.owner.tolist(), windows.lengths.tolist()
    ([0, 0, 0, 1], [5, 4, 1, 2])
    >>> windows.steps.tolist()
    [[4, 3, 2, 1, 0], [6, 5, 4, 3, -1], [6, -1, -1, -1, -1], [1, 0, -1, -1, -1]]
    >>> windows.held[0].tolist()
    [2, 2, 2, 1, 0]
    """

    def __init__(self, lengths: Tensor, chunk: int, lookahead: int):
        counts, device = (lengths + chunk - 1) // chunk, lengths.device
        self._chunk, self._first = chunk, counts.cumsum(0) - counts
        self.owner = torch.repeat_interleave(torch.arange(len(lengths), device=device), counts)
        start = (torch.arange(len(self.owner), device=device) - self._first[self.owner]) * chunk
        self.lengths = (lengths[self.owner] - start).clamp(max=chunk + lookahead)
        place = torch.arange(chunk + lookahead, device=device)
        steps, outside = (start + self.lengths - 1)[:, None] - place, place >= self.lengths[:, None]
        self.steps = steps.masked_fill(outside, -1)
        self.held = torch.minimum(steps, start[:, None] + chunk - 1).masked_fill(outside, -1)

    def sources(self, whole: Layout, cut: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """Return where rows come from: those of windows, from `steps` and from `held`, and those of utterances.

        Three arrays of indices, (N of windows,) twice and (N of utterances,); −1 stands for a row of zeros.
        """
        inside = self.steps >= 0
        owner = self.owner[:, None].expand_as(inside)[inside]
        windows = [
            torch.full((cut.count,), -1, device=owner.device).index_put_(
                (cut.at[inside],), whole.at[owner, steps[inside]]
            )
            for steps in (self.steps, self.held)
        ]
        there = whole.at >= 0
        time = torch.arange(whole.at.shape[1], device=owner.device).expand_as(there)
        window = (self._first[:, None] + time // self._chunk)[there]
        place = self.lengths[window] - 1 - (time % self._chunk)[there]
        back = torch.full((whole.count,), -1, device=owner.device)
        back[whole.at[there]] = cut.at[window, place]
        return windows[0], windows[1], back


def run(
    layers: Iterable[Sequence[nn.LSTM]],
    joined: Tensor,
    lengths: Tensor,
    windows: Windows,
    scales: Iterable[Sequence[Tensor]],
    layout: type[Layout],
) -> Tensor:
    """Run bidirectional layers whose backward halves see windows only.

    Parameters
    ----------
    layers
        The forward and the backward LSTM of each layer.
    joined : (B, T', F)
        The steps, and 0 as padding.
    lengths : (B,)
        Steps of each utterance.
    windows
        Their windows.
    scales
        Factors (B, H) of the hidden units of each LSTM: dropout's.
    layout
        `asr.encoders.lstm.Rows` for our own kernels, or `Padded`.

    Returns
    -------
    (T', B, 2H) Tensor
        The hidden units of the last layer.
    """
    whole, cut = layout(lengths, joined.shape[1]), layout(windows.lengths, windows.steps.shape[1])
    direct, held, back = windows.sources(whole, cut)
    x = whole.pack(joined)
    seen = _take(x, direct)
    for (ahead_layer, back_layer), (ahead_scale, back_scale) in zip(layers, scales, strict=True):
        ahead = whole.run(ahead_layer, x, ahead_scale)
        behind = cut.run(back_layer, seen, back_scale[windows.owner])
        x, seen = torch.cat((ahead, _take(behind, back)), 1), torch.cat((_take(ahead, held), behind), 1)
    return whole.unpack(x)


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows x[index], with zeros where the index is −1."""
    return x.index_select(0, index.clamp(min=0)).masked_fill((index < 0)[:, None], 0)
