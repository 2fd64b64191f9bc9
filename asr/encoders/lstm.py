"""LSTM layers of one or two directions over a batch, by our own kernels: for training on a CPU.

What `torch.nn.LSTM` computes, and its gradients: the two directions run side by side, each on a core of its own, and no
time is spent on padding. The equations are those of docs/theory/recurrent.md without peepholes.

Letters: B utterances, T frames of the longest, N rows, F inputs, H cells, D directions.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
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
    frames
        T, at least the longest.

    Examples
    --------
    >>> rows = Rows(torch.tensor([2, 1]), 2)
    >>> packed = rows.pack(torch.tensor([[[1.0], [2.0]], [[3.0], [torch.nan]]]))
    >>> packed.squeeze(1).tolist()
    [0.0, 1.0, 2.0, 0.0, 3.0, 0.0]
    >>> rows.unpack(packed).squeeze(2).tolist()
    [[1.0, 3.0], [2.0, 0.0]]
    """

    def __init__(self, lengths: Tensor, frames: int):
        spans = lengths.numpy().astype(np.int64)
        batch = len(spans)
        first = np.cumsum(spans + 1) - spans
        inside = np.arange(frames) < spans[:, None]  # (B, T)
        self._at = torch.from_numpy(np.where(inside, first[:, None] + np.arange(frames), -1))  # row of each frame
        source = np.full(int(spans.sum()) + batch + 1, -1)
        source[self._at[torch.from_numpy(inside)].numpy()] = np.flatnonzero(inside)
        self._from = torch.from_numpy(source)  # frame of each row
        longest_first = np.argsort(-spans, kind="stable")
        self._utterances = np.stack((first, spans, np.arange(batch)))[:, longest_first]

    def pack(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) to rows (N, F)."""
        return _Gather.apply(x.flatten(0, 1), self._from, self._at.flatten())

    def unpack(self, rows: Tensor) -> Tensor:
        """Map rows (N, F) to (T, B, F), with zeros as padding, through which no gradient flows."""
        batch, frames = self._at.shape
        back = torch.where(self._from < 0, -1, self._from % frames * batch + self._from // frames)
        return _Gather.apply(rows, self._at.T.flatten(), back).unflatten(0, (frames, batch))

    def shares(self, parts: int) -> list[np.ndarray]:
        """Return first row, length and index (3, ·) of the utterances, the longest first, in up to `parts` shares."""
        count = max(1, min(parts, self._utterances.shape[1] // LEAST_SHARE))
        return [np.ascontiguousarray(self._utterances[:, start::count]) for start in range(count)]


def can_run(x: Tensor, layers: Iterable[nn.LSTM]) -> bool:
    """Tell whether `run` is for this: training on a CPU in float32, or in bfloat16 by autocast.

    Without gradients torch is as fast, and its results are those of earlier versions to the bit.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return False
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return False
    return all(weights.dtype == torch.float32 for layer in layers for weights in layer.parameters())


def working_type() -> torch.dtype:
    """Return the type of the products: bfloat16 under autocast, where the processor has an instruction for it."""
    return torch.bfloat16 if torch.is_autocast_enabled("cpu") and tiles.HAS_BFLOAT16 else torch.float32


def run(layer: Sequence[nn.LSTM], x: Tensor, scale: Tensor, rows: Rows) -> Tensor:
    """Run the directions of a layer, forward and perhaps backward, over rows x (N, F); return rows (N, D · H).

    Parameters
    ----------
    layer
        One LSTM of a single layer for each direction, with weights of float32.
    x
        float32, or bfloat16 where `tiles.HAS_BFLOAT16`: the type of all products and of the rows that are returned.
    scale : (B, D · H) float32
        Factors of the hidden units of an utterance as they are returned: dropout's.
    rows
        Where the frames stand.
    """
    weights = [getattr(one, f"{name}_l0") for one in layer for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return _Layer.apply(x, scale, rows, *weights)


class _Gather(torch.autograd.Function):
    """x[index], with zeros where the index is −1. `back` is the inverse of the index: it makes the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(index, back)
        return x.index_select(0, index.clamp(min=0)).index_fill_(0, (index < 0).nonzero().squeeze(1), 0)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        index, back = ctx.saved_tensors
        return _Gather.apply(grad_outputs[0], back, index), None, None


class _Layer(torch.autograd.Function):
    """The directions of a layer; the weights of each are W_ih (4H, F), W_hh (4H, H), b_ih (4H,) and b_hh (4H,).

    All the work is done in kernels on the threads of `asr.core.workers`: torch's, which wait for their next task in
    loops that keep a core busy, would slow them down.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, rows: Rows, *weights: Tensor) -> Tensor:
        into, feedback = ([_array(each) for each in weights[i::4]] for i in (0, 1))
        bias = [_array(a + b) for a, b in zip(weights[2::4], weights[3::4], strict=True)]
        values = nn.functional.pad(x, (0, 1)) if x.shape[1] % 2 else x.contiguous()  # an even depth
        size, directions, factors = feedback[0].shape[1], range(len(into)), _array(scale)
        panels = [[_panels(one.shape[1] + one.shape[1] % 2, 4 * size, x.dtype) for one in (into[d], feedback[d])] for d in directions]
        workers.side_by_side([partial(_pack_transposed, (into[d], feedback[d]), panels[d]) for d in directions])
        width = panels[0][0].shape[0] * panels[0][0].shape[2]
        memory = [(_empty(len(x), width), _empty(len(x), size)) for _ in directions]
        parts = _parts(len(directions))
        tasks = []
        for d in directions:
            for part in _chunks(len(x), parts):
                tasks.append(partial(tiles.multiply, _array(values)[part], panels[d][0], memory[d][0][part]))
        workers.side_by_side(tasks)
        scaled = x.new_empty((len(x), len(directions) * size))
        outputs = _array(torch.empty_like(scaled)), _array(scaled)
        tasks = []
        for d in directions:
            for share in rows.shares(parts):
                work = _empty(share.shape[1], size + size % 2, dtype=x.dtype), _empty(share.shape[1], width)
                places = panels[d][1], work, memory[d], outputs
                tasks.append(partial(lstm_kernels.lstm_forward, d, tuple(share), bias[d], factors, *places))
        workers.side_by_side(tasks)
        ctx.save_for_backward(values, scale, *weights)  # weights: autograd tells when they were changed
        ctx.states, ctx.memory, ctx.rows, ctx.num_inputs = outputs[0], memory, rows, x.shape[1]
        return scaled

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("recurrent layers have no second derivative: leave create_graph out")
        values, scale, *weights = ctx.saved_tensors
        into, feedback = ([_array(each) for each in weights[i::4]] for i in (0, 1))
        dtype, num_rows, size, directions = values.dtype, len(values), feedback[0].shape[1], range(len(into))
        grads, factors = _array(grad_outputs[0].to(dtype).contiguous()), _array(scale)
        count, parts = len(into), _parts(len(directions))
        deltas = _empty(num_rows, count * 4 * size, dtype=dtype)
        # W_hh of each direction, W_ih of both below each other
        around = [_panels(4 * size, size, dtype) for _ in directions]
        below = _panels(count * 4 * size, ctx.num_inputs, dtype)
        workers.side_by_side([partial(_pack_both, d, into[d], feedback[d], below, around[d]) for d in directions])
        tasks, sums = [], [[] for _ in directions]
        for d in directions:
            for share in ctx.rows.shares(parts):
                batch, width = share.shape[1], around[d].shape[0] * around[d].shape[2]
                sums[d].append(torch.empty(batch, 4 * size))
                work = _empty(batch, 4 * size, dtype=dtype), _empty(5 * size), _empty(batch, width), _empty(batch, size)
                places = around[d], work, ctx.memory[d], (deltas, _array(sums[d][-1]))
                tasks.append(partial(lstm_kernels.lstm_backward, d, tuple(share), grads, factors, *places))
        workers.side_by_side(tasks)
        # sums over rows
        inputs = _panels(num_rows, ctx.num_inputs, dtype)
        hidden = [_panels(num_rows, size, dtype) for _ in directions]
        wide = _array(torch.empty((1, *_panels_depth(num_rows, dtype), deltas.shape[1]), dtype=_packed(dtype)))
        tasks = [partial(tiles.pack, deltas, 0, wide)]
        tasks.append(partial(_pack_rows, _array(values)[:, : ctx.num_inputs], ctx.states, inputs, hidden))
        workers.side_by_side(tasks)
        at_inputs = torch.empty(num_rows, below.shape[0] * below.shape[2])
        at_into = torch.empty(deltas.shape[1], inputs.shape[0] * inputs.shape[2])
        at_feedback = [torch.empty(4 * size, hidden[0].shape[0] * hidden[0].shape[2]) for _ in directions]
        tasks = []
        for d in directions:
            for part in _chunks(4 * size, parts):
                columns = wide[0].T[d * 4 * size :][part]
                tasks.append(partial(tiles.multiply, columns, inputs, _array(at_into)[d * 4 * size :][part]))
                tasks.append(partial(tiles.multiply, columns, hidden[d], _array(at_feedback[d])[part]))
        if ctx.needs_input_grad[0]:
            found = values.new_empty((num_rows, ctx.num_inputs))
            for part in _chunks(num_rows, count * parts):
                tasks.append(partial(_multiply_and_convert, deltas[part], below, _array(at_inputs)[part], _array(found)[part]))
        workers.side_by_side(tasks)
        results: list[Any] = []
        for d in directions:
            bias = torch.cat(sums[d]).sum(0)
            results += [at_into[d * 4 * size : (d + 1) * 4 * size, : ctx.num_inputs], at_feedback[d][:, :size], bias, bias]
        return found if ctx.needs_input_grad[0] else None, None, None, *results


def _pack_transposed(matrices, panels):
    for matrix, each in zip(matrices, panels, strict=True):
        if matrix.shape[1] % 2:
            each[:, -1] = 0
        tiles.pack(matrix.T, 0, each)


def _pack_both(d, into, feedback, below, around):
    tiles.pack(into, d * len(into), below)
    tiles.pack(feedback, 0, around)


def _pack_rows(values, states, inputs, hidden):
    tiles.pack(values, 0, inputs)
    size = states.shape[1] // len(hidden)
    for d, panels in enumerate(hidden):
        panels[:, 0 if d == 0 else -1] = 0
        tiles.pack(states[:, d * size : (d + 1) * size], -1 if d else 1, panels)


def _multiply_and_convert(a, panels, c, target):
    tiles.multiply(a, panels, c)
    tiles.convert(c, target)


def _parts(directions: int) -> int:
    """Return into how many parts the work of each direction is split."""
    return max(1, min(torch.get_num_threads(), workers.get_num_threads()) // directions)


def _chunks(length: int, parts: int) -> list[slice]:
    edges = [length * i // parts for i in range(parts + 1)]
    return [slice(*each) for each in pairwise(edges)]


def _packed(dtype: torch.dtype) -> torch.dtype:
    return torch.int32 if dtype == torch.bfloat16 else dtype


def _panels_depth(depth, dtype):
    return (-(-depth // 2) if dtype == torch.bfloat16 else depth,)


def _panels(depth: int, columns: int, dtype: torch.dtype) -> np.ndarray:
    return _empty(*tiles.panels_shape(depth, columns, dtype == torch.bfloat16), dtype=_packed(dtype))


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Return an array that begins at a multiple of 64 bytes, as the vectors do that the kernels read."""
    return _array(torch.empty(shape, dtype=dtype))


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array of the same memory, bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
