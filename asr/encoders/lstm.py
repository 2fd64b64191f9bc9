"""LSTM layers of one or two directions over a batch, by our own kernels: for training on a CPU.

What `torch.nn.LSTM` computes, and its gradients: the two directions run side by side, each on a core of its own, and no
time is spent on padding. The equations are those of docs/theory/recurrent.md without peepholes.

Letters: B utterances, T frames of the longest, N rows, F inputs, H cells, D directions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.core import workers
from asr.encoders import lstm_kernels, tiles

LEAST_SHARE = 2  # utterances for each thread: a product of one row takes as long as one of two


class Rows:
    """Where the frames of a padded batch stand as rows of one array (N, ·).

    Utterance follows upon utterance, with a row of zeros before the first and after each: N = Σ (length + 1) + 1.

    Parameters
    ----------
    lengths : (B,) integers
        Frames of each utterance.

    Attributes
    ----------
    owners : (N,) int64
        The utterance of each row; that of a row of zeros is the one before it.

    Examples
    --------
    >>> rows = Rows(torch.tensor([2, 1]))
    >>> packed = rows.pack(torch.tensor([[[1.0], [2.0]], [[3.0], [torch.nan]]]))
    >>> packed.squeeze(1).tolist()
    [0.0, 1.0, 2.0, 0.0, 3.0, 0.0]
    >>> rows.unpack(packed).squeeze(2).tolist()
    [[1.0, 3.0], [2.0, 0.0]]
    """

    def __init__(self, lengths: Tensor):
        spans = lengths.cpu().numpy().astype(np.int64)
        batch, frames = len(spans), int(spans.max())
        first = np.cumsum(spans + 1) - spans
        inside = np.arange(frames) < spans[:, None]  # (B, T)
        self._at = torch.from_numpy(np.where(inside, first[:, None] + np.arange(frames), -1))  # row of each frame
        source = np.full(int(spans.sum()) + batch + 1, -1)
        source[self._at[torch.from_numpy(inside)].numpy()] = np.flatnonzero(inside)
        self._from = torch.from_numpy(source)  # frame of each row
        self.owners = torch.from_numpy(np.concatenate(([0], np.repeat(np.arange(batch), spans + 1))))
        longest_first = np.argsort(-spans, kind="stable")
        self._utterances = np.stack((first, spans))[:, longest_first]

    def pack(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) to rows (N, F)."""
        return _Gather.apply(x.flatten(0, 1), self._from, self._at.flatten())

    def unpack(self, rows: Tensor) -> Tensor:
        """Map rows (N, F) to (T, B, F), with zeros as padding, through which no gradient flows."""
        batch, frames = self._at.shape
        back = torch.where(self._from < 0, -1, self._from % frames * batch + self._from // frames)
        return _Gather.apply(rows, self._at.T.flatten(), back).unflatten(0, (frames, batch))

    def shares(self, directions: int) -> list[np.ndarray]:
        """Return first rows and lengths (2, ·) of the utterances of each thread that works on a direction."""
        threads = min(torch.get_num_threads(), workers.get_num_threads()) // directions
        count = max(1, min(threads, self._utterances.shape[1] // LEAST_SHARE))
        return [np.ascontiguousarray(self._utterances[:, start::count]) for start in range(count)]


def run(layer: Sequence[nn.LSTM], x: Tensor, rows: Rows, dtype: torch.dtype) -> Tensor:
    """Run the directions of a layer, forward and perhaps backward, over rows (N, F); return rows (N, D · H).

    Products are of `dtype`, float32 or bfloat16, as are the rows that are returned. All weights are float32, and the
    state within the layer is too.
    """
    weights = [getattr(one, f"{name}_l0") for one in layer for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return _Layer.apply(x, rows, dtype, *weights)


class _Gather(torch.autograd.Function):
    """x[index], with zeros where the index is −1. `back` is the inverse of the index: it makes the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(index, back)
        return _gather(x, index)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        index, back = ctx.saved_tensors
        return _Gather.apply(grad_outputs[0], back, index), None, None


def _gather(x: Tensor, index: Tensor) -> Tensor:
    return x.index_select(0, index.clamp(min=0)).index_fill_(0, (index < 0).nonzero().squeeze(1), 0)


class _Layer(torch.autograd.Function):
    """The directions of a layer; the weights of each are W_ih (4H, F), W_hh (4H, H), b_ih (4H,) and b_hh (4H,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        into, feedback = weights[::4], weights[1::4]
        size, directions = feedback[0].shape[1], len(into)
        values, joined = x.to(dtype), torch.cat([each.to(dtype) for each in into])  # (D · 4H, F)
        inputs = values @ joined.T
        bias = torch.cat([a + b for a, b in zip(weights[2::4], weights[3::4], strict=True)])
        memory = [(inputs.new_empty((len(x), 4 * size), dtype=torch.float32), _rows(len(x), size)) for _ in into]
        outputs = inputs.new_zeros((len(x), directions * size))
        calls, kind = [], _multiplied(dtype)
        for direction, each in enumerate(feedback):
            panels = tiles.pack(each, kind)
            for share in rows.shares(directions):
                batch, width = share.shape[1], panels.shape[0] * panels.shape[2]
                work = _empty(kind, batch, size + size % 2), _empty(torch.float32, batch, width)
                calls.append(
                    partial(
                        lstm_kernels.lstm_forward,
                        direction,
                        share,
                        _array(inputs),
                        _array(bias),
                        _array(panels),
                        _arrays(*work),
                        _arrays(*memory[direction]),
                        _array(outputs),
                    )
                )
        workers.side_by_side(calls)
        ctx.save_for_backward(values, joined, outputs, *weights)  # weights: autograd tells when they were changed
        ctx.memory, ctx.rows, ctx.kind = memory, rows, x.dtype
        return outputs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("recurrent layers have no second derivative: leave create_graph out")
        values, joined, outputs, *weights = ctx.saved_tensors
        feedback = weights[1::4]
        size, directions = feedback[0].shape[1], len(feedback)
        grads = grad_outputs[0].to(values.dtype).contiguous()
        deltas = values.new_zeros((len(values), directions * 4 * size))
        calls, kind, sums = [], _multiplied(values.dtype), [[] for _ in feedback]
        for direction, each in enumerate(feedback):
            panels = tiles.pack(each.T, kind)
            for share in ctx.rows.shares(directions):
                batch, width = share.shape[1], panels.shape[0] * panels.shape[2]
                sums[direction].append(_empty(torch.float32, batch, 4 * size))
                work = (
                    _empty(kind, batch, 4 * size),
                    _empty(torch.float32, 5 * size),
                    _empty(torch.float32, batch, width),
                    _empty(torch.float32, batch, size),
                )
                calls.append(
                    partial(
                        lstm_kernels.lstm_backward,
                        direction,
                        share,
                        _array(grads),
                        _array(panels),
                        _arrays(*work),
                        _arrays(*ctx.memory[direction]),
                        _array(deltas),
                        _array(sums[direction][-1]),
                    )
                )
        workers.side_by_side(calls)
        inner = (deltas.T @ values).float()
        found: list[Any] = []
        for direction in range(directions):
            columns = slice(direction * 4 * size, (direction + 1) * 4 * size)
            mine, hidden = deltas[:, columns], outputs[:, direction * size : (direction + 1) * size]
            pair = (mine[:-1], hidden[1:]) if direction else (mine[1:], hidden[:-1])
            bias = torch.cat(sums[direction]).sum(0)
            found += [inner[columns], (pair[0].T @ pair[1]).float(), bias, bias]
        at_inputs = (deltas @ joined).to(ctx.kind) if ctx.needs_input_grad[0] else None
        return at_inputs, None, None, *found


def _multiplied(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which the kernels multiply: float32 where the processor has no instruction for bfloat16."""
    return torch.bfloat16 if dtype == torch.bfloat16 and tiles.HAS_BFLOAT16 else torch.float32


def _rows(num_rows: int, size: int) -> Tensor:
    return torch.zeros((num_rows, size))


def _empty(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array of the same memory, bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(_array(tensor) for tensor in tensors)
