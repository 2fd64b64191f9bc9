"""LSTM layers of one or two directions over a batch, by our own kernels: for training on a CPU.

What `torch.nn.LSTM` computes, and its gradients: the two directions run side by side, each on a core of its own, and no
time is spent on padding. The equations are those of docs/theory/recurrent.md without peepholes.

Letters: B utterances, T frames of the longest, N rows, F inputs, H cells, D directions.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from asr.core import workers
from asr.encoders import lstm_kernels, tiles

FLOAT = np.dtype(np.float32)
TURNED = 16  # width of the panels of a transposed factor: a line of the caches
Task = Callable[[], Any]
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

    Attributes
    ----------
    at : (B, T)
        The row of each frame; −1 for padding.
    count
        N.

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
        self.at = torch.from_numpy(np.where(inside, first[:, None] + np.arange(frames), -1))  # row of each frame
        self.count = int(spans.sum()) + batch + 1
        source = np.full(self.count, -1)
        source[self.at[torch.from_numpy(inside)].numpy()] = np.flatnonzero(inside)
        self._from = torch.from_numpy(source)  # frame of each row
        longest_first = np.argsort(-spans, kind="stable")
        self._utterances = tuple(each[longest_first] for each in (first, spans, np.arange(batch)))

    def pack(self, x: Tensor) -> Tensor:
        """Map x (B, T, F) to rows (N, F)."""
        return _Gather.apply(x.flatten(0, 1), self._from, self.at.flatten())

    def unpack(self, rows: Tensor) -> Tensor:
        """Map rows (N, F) to (T, B, F), with zeros as padding, through which no gradient flows."""
        batch, frames = self.at.shape
        back = torch.where(self._from < 0, -1, self._from % frames * batch + self._from // frames)
        return _Gather.apply(rows, self.at.T.flatten(), back).unflatten(0, (frames, batch))

    def run(self, layer: nn.LSTM, x: Tensor, scale: Tensor) -> Tensor:
        """Return the hidden units (N, H) of a forward layer over rows x, times the factors (B, H) of each utterance."""
        return run((layer,), x, scale, self)

    def shares(self, parts: int) -> list[tuple[np.ndarray, ...]]:
        """Return first rows, lengths and indices of the utterances, the longest first, in up to `parts` shares."""
        count = max(1, min(parts, len(self._utterances[0]) // LEAST_SHARE))
        return [tuple(each[start::count].copy() for each in self._utterances) for start in range(count)]


def can_run(x: Tensor, layers: Iterable[nn.Module]) -> bool:
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

    Raises
    ------
    TypeError
        x or scale are of another type.
    """
    kinds = (torch.float32, torch.bfloat16) if tiles.HAS_BFLOAT16 else (torch.float32,)
    if scale.dtype != torch.float32 or x.dtype not in kinds:
        raise TypeError(f"scale must be float32 and x one of {kinds}, not {scale.dtype} and {x.dtype}")
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

    All the work is done in kernels on the threads of `asr.core.workers`: torch's own, which wait for their next task in
    loops that keep a core busy, would slow them down.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, rows: Rows, *weights: Tensor) -> Tensor:
        values = nn.functional.pad(x, (0, 1)) if x.shape[1] % 2 else x.contiguous()  # an even depth
        scaled = x.new_empty((len(x), sum(each.shape[1] for each in weights[1::4])))
        outputs = _array(torch.empty_like(scaled)), _array(scaled)
        memory = _run_forward(_array(values), _array(scale), rows, _of_directions(weights), outputs)
        ctx.save_for_backward(values, scale, *weights)  # autograd tells when they were changed in place
        ctx.states, ctx.memory, ctx.rows = outputs[0], memory, rows
        ctx.num_inputs = x.shape[1] if ctx.needs_input_grad[0] else 0
        return scaled

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("recurrent layers have no second derivative: leave create_graph out")
        values, scale, *tensors = ctx.saved_tensors
        weights, grads = _of_directions(tensors), grad_outputs[0].to(values.dtype).contiguous()
        deltas, biases = _run_backward(_array(grads), _array(scale), ctx.rows, weights, ctx.memory)
        found = values.new_empty((len(values), ctx.num_inputs))
        into, feedback = _multiply_back(deltas, _array(values), ctx.states, weights, _array(found))
        of_weights = zip(into, feedback, biases, biases, strict=True)
        return found if ctx.num_inputs else None, None, None, *(each for four in of_weights for each in four)


class _Weights(NamedTuple):
    """The weights of a direction: W_ih (4H, F), W_hh (4H, H), and the sum of both biases (4H,)."""

    into: np.ndarray
    feedback: np.ndarray
    bias: np.ndarray


def _of_directions(weights: Sequence[Tensor]) -> list[_Weights]:
    fours = zip(*(weights[i::4] for i in range(4)), strict=True)
    return [_Weights(_array(into), _array(feedback), _array(a + b)) for into, feedback, a, b in fours]


def _run_forward(
    values: np.ndarray, scale: np.ndarray, rows: Rows, weights: list[_Weights], outputs: tuple[np.ndarray, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write the hidden units and the scaled ones to outputs, (N, D · H) each; return each direction's gates and cells.

    `values` are (N, F), with a column of zeros after an odd F.
    """
    size, tasks, parts = weights[0].feedback.shape[1], [], _parts(len(weights))
    below = [_panels(each.into.T.shape, values.dtype) for each in weights]
    around = [_panels(each.feedback.T.shape, values.dtype) for each in weights]
    for each, *panels in zip(weights, below, around, strict=True):
        tasks += [_pack(one.T, panel) for one, panel in zip(each[:2], panels, strict=True)]
    _run(tasks)
    width = around[0].shape[0] * around[0].shape[2]
    memory = [(_empty((len(values), width)), _empty((len(values), size))) for _ in weights]
    _run(
        partial(tiles.multiply, values[part], panels, gates[part])
        for panels, (gates, _) in zip(below, memory, strict=True)
        for part in _split(len(values), parts)
    )
    tasks = []
    for direction, each in enumerate(weights):
        for share in rows.shares(parts):
            batch = len(share[0])
            work = _empty((batch, size + size % 2), values.dtype), _empty((batch, width))
            places = around[direction], work, memory[direction], outputs
            tasks.append(partial(lstm_kernels.lstm_forward, direction, share, each.bias, scale, *places))
    _run(tasks)
    return memory


def _run_backward(
    grads: np.ndarray, scale: np.ndarray, rows: Rows, weights: list[_Weights], memory: list[Any]
) -> tuple[np.ndarray, list[Tensor]]:
    """Return the gradients at the net inputs (N, D · 4H), and those at each direction's bias."""
    size, tasks, parts = weights[0].feedback.shape[1], [], _parts(len(weights))
    deltas = _empty((len(grads), len(weights) * 4 * size), grads.dtype)
    panels = [_panels(each.feedback.shape, grads.dtype) for each in weights]
    _run(_pack(each.feedback, panel) for each, panel in zip(weights, panels, strict=True))
    width = panels[0].shape[0] * panels[0].shape[2]
    sums: list[list[np.ndarray]] = [[] for _ in weights]
    for direction, panel in enumerate(panels):
        for share in rows.shares(parts):
            batch = len(share[0])
            work = (
                _empty((batch, 4 * size), grads.dtype),
                _empty((5 * size,)),
                _empty((batch, width)),
                _empty((batch, size)),
            )
            sums[direction].append(_empty((batch, 4 * size)))
            places = panel, work, memory[direction], (deltas, sums[direction][-1])
            tasks.append(partial(lstm_kernels.lstm_backward, direction, share, grads, scale, *places))
    _run(tasks)
    order = np.argsort(np.concatenate([share[2] for share in rows.shares(parts)]))  # for the same sum by any threads
    return deltas, [torch.from_numpy(np.concatenate(each)[order].sum(0)) for each in sums]


def _multiply_back(
    deltas: np.ndarray, values: np.ndarray, states: np.ndarray, weights: list[_Weights], found: np.ndarray
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients at W_ih and at W_hh of each direction; write those at the inputs to found (N, F or 0)."""
    (gates, size), num_inputs, parts = weights[0].feedback.shape, weights[0].into.shape[1], _parts(len(weights))
    (length, width), kind = deltas.shape, deltas.dtype
    inputs, below = _panels((length, num_inputs), kind), _panels((width, num_inputs), kind)
    hidden = [_panels((length, size), kind) for _ in weights]
    turned = [_panels((length, gates), kind, TURNED) for _ in weights]
    tasks: list[Task] = [partial(tiles.pack, values, (0, num_inputs), 0, inputs)]
    for direction, panels in enumerate(turned):
        tasks.append(partial(tiles.pack, deltas, (direction * gates, (direction + 1) * gates), 0, panels))
    for direction, panels in enumerate(hidden):  # a frame's row gets the state that it starts from
        mine = direction * size, (direction + 1) * size
        tasks.append(partial(tiles.pack, states, mine, -1 if direction else 1, panels))
    if found.size:
        tasks.append(_pack(np.concatenate([each.into for each in weights]), below))
    _run(tasks)
    pairs = [(each, inputs) for each in turned] + list(zip(turned, hidden, strict=True))
    products = [_empty((len(a) * TURNED, len(b) * tiles.WIDTH)) for a, b in pairs]
    tasks = []
    for (a, b), c in zip(pairs, products, strict=True):
        for part in _split(len(a), parts):
            rows = slice(part.start * TURNED, part.stop * TURNED)
            tasks.append(partial(tiles.multiply_transposed, a[part], b, c[rows]))
    if found.size:
        tasks += [
            partial(_multiply_and_convert, deltas[part], below, found[part])
            for part in _split(length, parts * len(weights))
        ]
    _run(tasks)
    grads = [torch.from_numpy(each[:gates]) for each in products]
    return [each[:, :num_inputs] for each in grads[: len(weights)]], [each[:, :size] for each in grads[len(weights) :]]


def _pack(matrix: np.ndarray, panels: np.ndarray) -> Task:
    return partial(tiles.pack, matrix, (0, matrix.shape[1]), 0, panels)


def _multiply_and_convert(a: np.ndarray, panels: np.ndarray, target: np.ndarray) -> None:
    """Write the product of a and a matrix in panels to a target (M, N) of float32 or bfloat16."""
    product = _empty((len(a), len(panels) * tiles.WIDTH))
    tiles.multiply(a, panels, product)
    tiles.convert(product, target)


def _parts(directions: int) -> int:
    """Return into how many parts the work of each direction is split."""
    return max(1, _num_threads() // directions)


def _num_threads() -> int:
    return min(torch.get_num_threads(), workers.get_num_threads())


def _split(length: int, parts: int) -> list[slice]:
    edges = [length * i // parts for i in range(parts + 1)]
    return [slice(*each) for each in pairwise(edges)]


def _run(tasks: Iterable[Task]) -> None:
    """Do tasks, of which those that take longest come first, by as many threads as there may be."""
    listed, count = list(tasks), _num_threads()
    workers.side_by_side([partial(_one_by_one, listed[i::count]) for i in range(min(count, len(listed)))])


def _one_by_one(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task()


def _panels(shape: tuple[int, ...], kind: np.dtype, width: int = tiles.WIDTH) -> np.ndarray:
    """Return panels for a matrix (K, N) of numbers of a kind."""
    depth, columns = shape
    if kind == np.uint16:
        return _empty((-(-columns // width), -(-depth // 2), width), np.dtype(np.int32))
    return _empty((-(-columns // width), depth, width))


def _empty(shape: tuple[int, ...], kind: np.dtype = FLOAT) -> np.ndarray:
    """Return an array that begins at a multiple of 64 bytes, as the vectors do that the kernels read."""
    return torch.empty(math.prod(shape) * kind.itemsize, dtype=torch.uint8).numpy().view(kind).reshape(shape)


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array of the same memory, bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
