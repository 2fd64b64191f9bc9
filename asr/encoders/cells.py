"""Recurrent layers: Elman, Jordan and peephole LSTM by our own kernels, LSTM without peepholes and GRU by torch's.

All are one-directional and called as `layer(x (T, B, F), state=None) -> (y (T, B, output_size), state)`. `state` is a
tuple of tensors (B, ·) from which the layer can continue after the last frame; None stands for zeros. With `truncate`
the state is detached after every `truncate` frames, so that the gradient does not flow further back (truncated
backpropagation through time); 0 never detaches it. The equations are in docs/theory/recurrent.md.

Letters: T frames, B utterances, F inputs, H units, O outputs of a Jordan network.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.core import workers
from asr.encoders import cell_kernels
from asr.encoders.rtrl import RtrlElman

State = tuple[Tensor, ...]

LEAST_SHARE = 4  # utterances for each thread: with fewer, a product is too small to be worth a thread


class Elman(nn.Module):
    """Elman network: h_t = f(W_x x_t + W_h h_{t−1} + b) (Elman 1990, "Finding structure in time").

    Parameters
    ----------
    input_size, hidden_size
        F and H.
    nonlinearity
        f: ``tanh`` or ``relu``.
    truncate
        Frames after which the gradient is cut; 0: never.
    online
        Learn in real time (`asr.encoders.rtrl`), which gives no gradient at x.

    Attributes
    ----------
    input_weights (H, F), recurrent_weights (H, H), bias (H,)
        W_x, W_h and b.

    Examples
    --------
    >>> layer = Elman(5, 8)
    >>> y, state = layer(torch.zeros(10, 2, 5))
    >>> tuple(y.shape), [tuple(part.shape) for part in state]
    ((10, 2, 8), [(2, 8)])
    """

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: str = "tanh", truncate: int = 0, online: bool = False
    ):
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity must be tanh or relu, not {nonlinearity!r}")
        self.hidden_size = self.output_size = hidden_size
        self.nonlinearity, self.truncate, self.online = nonlinearity, truncate, online
        self.input_weights = _uniform(hidden_size, hidden_size, input_size)
        self.recurrent_weights = _uniform(hidden_size, hidden_size, hidden_size)
        self.bias = _uniform(hidden_size, hidden_size)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (T, B, F) and the state (h (B, H),) to h (T, B, H) and the state."""
        weights = self.recurrent_weights
        (first,) = _initial(x, weights, state, self.output_size)
        relu = self.nonlinearity == "relu"
        if self.online and self.training:  # in evaluation the other kernels, which give a gradient at x too
            hidden = RtrlElman.apply(x, first, self.input_weights, weights, self.bias, relu)
            return hidden, (hidden[-1],)
        inputs = nn.functional.linear(x, self.input_weights, self.bias).to(weights.dtype)
        hidden = _ElmanThroughTime.apply(inputs, weights, first, relu, self.truncate)
        return hidden, (hidden[-1],)


class Jordan(nn.Module):
    """Jordan network, which feeds back its output units instead of its hidden units (Jordan 1986, "Serial order").

    h_t = tanh(W_x x_t + W_y y_{t−1} + b), v_t = W_o h_t + c, y_t = g(v_t); before the first frame y is 0. Every layer
    has output units of its own and returns them.

    Parameters
    ----------
    input_size, hidden_size, output_size
        F, H and O.
    activation
        g: ``softmax`` where the outputs are classes; ``tanh`` below another layer, since a softmax over many units
        would pass only small values to it.
    logits
        Return v instead of y, for the uppermost layer: the loss takes a softmax's inputs, so that no further layer of
        weights is needed. Either way y is fed back.
    truncate
        Frames after which the gradient is cut; 0: never.

    Attributes
    ----------
    input_weights (H, F), recurrent_weights (H, O), bias (H,), output_weights (O, H), output_bias (O,)
        W_x, W_y, b, W_o and c.

    Examples
    --------
    >>> y, state = Jordan(5, 8, 3)(torch.zeros(10, 2, 5))
    >>> tuple(y.shape), torch.equal(y[-1], state[0]), bool(torch.allclose(y.sum(2), torch.ones(10, 2)))
    ((10, 2, 3), True, True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        activation: str = "softmax",
        logits: bool = False,
        truncate: int = 0,
    ):
        super().__init__()
        if activation not in ("softmax", "tanh"):
            raise ValueError(f"activation must be softmax or tanh, not {activation!r}")
        self.hidden_size, self.output_size = hidden_size, output_size
        self.activation, self.logits, self.truncate = activation, logits, truncate
        self.input_weights = _uniform(hidden_size, hidden_size, input_size)
        self.recurrent_weights = _uniform(hidden_size, hidden_size, output_size)
        self.bias = _uniform(hidden_size, hidden_size)
        self.output_weights = _uniform(hidden_size, output_size, hidden_size)
        self.output_bias = _uniform(hidden_size, output_size)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (T, B, F) and the state (y (B, O),) to y or v (T, B, O) and the state."""
        weights = self.recurrent_weights
        (first,) = _initial(x, weights, state, self.output_size)
        inputs = nn.functional.linear(x, self.input_weights, self.bias).to(weights.dtype)
        softmax = self.activation == "softmax"
        net, outputs = _JordanThroughTime.apply(
            inputs, weights, self.output_weights, self.output_bias, first, softmax, self.truncate
        )
        return net if self.logits else outputs, (outputs[-1],)


class PeepholeLSTM(nn.Module):
    """LSTM whose gates see the cell's state (Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing").

    s_t = g^F s_{t−1} + g^I f(u_t), z_t = g^O f(s_t), f = tanh; g^I and g^F see s_{t−1}, g^O sees s_t.

    Parameters
    ----------
    input_size, hidden_size
        F and H.
    truncate
        Frames after which the gradient is cut; 0: never.

    Attributes
    ----------
    input_weights (4H, F), recurrent_weights (4H, H), bias (4H,)
        Rows of the input gate, the forget gate, the net input u and the output gate, in the order of torch's LSTM.
    peepholes (3H,)
        w^I, w^F and w^O.

    Examples
    --------
    >>> z, state = PeepholeLSTM(5, 8)(torch.zeros(10, 2, 5))
    >>> tuple(z.shape), [tuple(part.shape) for part in state]
    ((10, 2, 8), [(2, 8), (2, 8)])
    """

    forget_gate = 1  # the forget gate's block of rows, whose bias is initialised differently

    def __init__(self, input_size: int, hidden_size: int, truncate: int = 0):
        super().__init__()
        self.hidden_size = self.output_size = hidden_size
        self.truncate = truncate
        self.input_weights = _uniform(hidden_size, 4 * hidden_size, input_size)
        self.recurrent_weights = _uniform(hidden_size, 4 * hidden_size, hidden_size)
        self.bias = _uniform(hidden_size, 4 * hidden_size)
        self.peepholes = _uniform(hidden_size, 3 * hidden_size)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (T, B, F) and the state (z, s), each (B, H), to z (T, B, H) and the state."""
        weights = self.recurrent_weights
        outputs, cells = _initial(x, weights, state, self.output_size, self.output_size)
        inputs = nn.functional.linear(x, self.input_weights, self.bias).to(weights.dtype)
        peepholes = self.peepholes.reshape(3, self.hidden_size)
        outputs, cells = _LSTMThroughTime.apply(inputs, weights, peepholes, outputs, cells, self.truncate)
        return outputs, (outputs[-1], cells)


class _TorchLayer(nn.Module):
    """One of torch's recurrent layers, `cell`, with the signature of the others."""

    def __init__(self, cell: nn.RNNBase, truncate: int):
        super().__init__()
        self.cell, self.output_size, self.truncate = cell, cell.hidden_size, truncate

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map x (T, B, F) and the state to the outputs (T, B, H) and the state."""
        outputs = []
        for i, chunk in enumerate(x.split(self.truncate or len(x))):
            if i > 0 and state is not None:
                state = tuple(part.detach() for part in state)
            output, state = self._run(chunk, state)
            outputs.append(output)
        assert state is not None
        return torch.cat(outputs), state

    def _run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        raise NotImplementedError


class LSTM(_TorchLayer):
    """LSTM without peepholes, by torch. The state is (z, s), each (B, H).

    >>> z, state = LSTM(5, 8, truncate=4)(torch.zeros(10, 2, 5))
    >>> tuple(z.shape), [tuple(part.shape) for part in state]
    ((10, 2, 8), [(2, 8), (2, 8)])
    """

    def __init__(self, input_size: int, hidden_size: int, truncate: int = 0):
        super().__init__(nn.LSTM(input_size, hidden_size), truncate)

    def _run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        y, (hidden, cells) = self.cell(x, None if state is None else tuple(part[None] for part in state))
        return y, (hidden[0], cells[0])


class GRU(_TorchLayer):
    """Gated recurrent unit with update and reset gate (Cho et al. 2014), by torch. The state is (h (B, H),).

    >>> GRU(5, 8)(torch.zeros(10, 2, 5))[0].shape
    torch.Size([10, 2, 8])
    """

    def __init__(self, input_size: int, hidden_size: int, truncate: int = 0):
        super().__init__(nn.GRU(input_size, hidden_size), truncate)

    def _run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        y, hidden = self.cell(x, None if state is None else state[0][None])
        return y, (hidden[0],)


def _uniform(hidden_size: int, *shape: int) -> nn.Parameter:
    """Return weights drawn uniformly from ±1/√H, as torch initialises its recurrent layers."""
    bound = 1 / math.sqrt(hidden_size)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _initial(x: Tensor, like: Tensor, state: State | None, *sizes: int) -> State:
    """Return a state for x (T, B, F) in the type of the weights: the one given, or zeros (B, size) of each size.

    Raises
    ------
    ValueError
        The state has another shape, which the kernels would read past.
    """
    shapes = [(x.shape[1], size) for size in sizes]
    if not state:
        return tuple(like.new_zeros(shape) for shape in shapes)
    found = [tuple(part.shape) for part in state]
    if found != shapes:
        expected, given = (" and ".join(map(str, each)) for each in (shapes, found))
        raise ValueError(
            f"the state of a batch of {x.shape[1]} must have the shape{'s' * (len(shapes) > 1)} {expected}, not {given}"
        )
    return tuple(part.to(like) for part in state)


class _ElmanThroughTime(torch.autograd.Function):
    """(R1)–(R7), except for the input weights, which autograd handles."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, recurrent: Tensor, first: Tensor, relu: bool, truncate: int) -> Tensor:
        num_frames, batch, _ = inputs.shape
        trail = _start(num_frames, first)
        _share(cell_kernels.elman_forward, batch, 0, _array(inputs), _array(recurrent.T), relu, trail)
        (hidden,) = _tensors(inputs.device, trail[1:])
        ctx.save_for_backward(recurrent, hidden)  # the trail's own memory: autograd tells when it was changed in place
        ctx.trail, ctx.relu, ctx.truncate = trail, relu, truncate
        return hidden

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        recurrent, _ = ctx.saved_tensors
        grads, trail = _array(grad_outputs[0]), ctx.trail
        deltas, carry = np.empty_like(grads), np.empty_like(grads[0])
        args = grads, _array(recurrent), ctx.relu, trail, deltas, carry
        _share(cell_kernels.elman_backward, grads.shape[1], ctx.truncate, *args)
        device = recurrent.device
        return *_tensors(device, deltas, _outer(deltas, trail[:-1]), carry), None, None


class _JordanThroughTime(torch.autograd.Function):
    """(R8)–(R13), except for the input weights; returns v and y."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        feedback: Tensor,
        output: Tensor,
        bias: Tensor,
        first: Tensor,
        softmax: bool,
        truncate: int,
    ) -> tuple[Tensor, Tensor]:
        num_frames, batch, _ = inputs.shape
        values = _array(inputs)
        hidden = np.empty_like(values)
        trail = _start(num_frames, first, first)
        args = values, _array(feedback.T), _array(output.T), _array(bias), hidden, trail
        _share(cell_kernels.jordan_forward, batch, 0, softmax, *args)
        net, outputs = _tensors(inputs.device, trail[0, 1:], trail[1, 1:])
        ctx.save_for_backward(feedback, output, outputs)  # as above; the net inputs are not read again
        ctx.memory, ctx.softmax, ctx.truncate = (hidden, trail[1]), softmax, truncate
        return net, outputs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        feedback, output, _ = ctx.saved_tensors
        hidden, outputs = ctx.memory
        out_deltas, grads = _array(grad_outputs[0]).copy(), _array(grad_outputs[1])
        deltas, carry = np.empty_like(hidden), np.empty_like(grads[0])
        weights = _array(feedback), _array(output)
        args = ctx.softmax, weights, (hidden, outputs[1:]), grads, out_deltas, deltas, carry
        _share(cell_kernels.jordan_backward, grads.shape[1], ctx.truncate, *args)
        found = deltas, _outer(deltas, outputs[:-1]), _outer(out_deltas, hidden), out_deltas.sum((0, 1)), carry
        return *_tensors(feedback.device, *found), None, None


class _LSTMThroughTime(torch.autograd.Function):
    """(R14)–(R25), except for the input weights; returns z and the last frame's s."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, recurrent: Tensor, peepholes: Tensor, first: Tensor, cells: Tensor, truncate: int
    ) -> tuple[Tensor, Tensor]:
        num_frames, batch, _ = inputs.shape
        values = _array(inputs)
        gates, trail = np.empty_like(values), _start(num_frames, first, cells, cells)
        _share(cell_kernels.lstm_forward, batch, 0, values, _array(recurrent.T), _array(peepholes), gates, trail)
        outputs, last = _tensors(inputs.device, trail[0, 1:], trail[1, -1].copy())
        ctx.save_for_backward(recurrent, peepholes, outputs)  # as above
        ctx.gates, ctx.trail, ctx.truncate = gates, trail, truncate
        return outputs, last

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        recurrent, peepholes, _ = ctx.saved_tensors
        grads, trail = _array(grad_outputs[0]), ctx.trail
        deltas, carries = np.empty_like(ctx.gates), np.empty((5, *grads.shape[1:]), grads.dtype)
        carries[1] = _array(grad_outputs[1])
        args = grads, _array(recurrent), _array(peepholes), ctx.gates, trail, deltas, carries
        _share(cell_kernels.lstm_backward, grads.shape[1], ctx.truncate, *args)
        found = deltas, _outer(deltas, trail[0, :-1]), carries[2:].sum(1), carries[0], carries[1]
        return *_tensors(recurrent.device, *found), None


def _refuse_second_derivative() -> None:
    """Raise RuntimeError if the gradient is to be differentiated, which would silently give a wrong result."""
    if torch.is_grad_enabled():
        raise RuntimeError("recurrent layers have no second derivative: leave create_graph out")


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().numpy()


def _tensors(device: torch.device, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(array).to(device) for array in arrays]


def _start(num_frames: int, *states: Tensor) -> np.ndarray:
    """Return a trail (states, T + 1, B, ·) with the states in row 0; for a single state (T + 1, B, ·)."""
    rows = [_array(state) for state in states]
    trail = np.empty((len(rows), num_frames + 1, *rows[0].shape), rows[0].dtype)
    trail[:, 0] = rows
    return trail if len(rows) > 1 else trail[0]


def _outer(deltas: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return Σ_t,b δ valueᵀ (H, I), the gradient at weights, for deltas (T, B, H) and values (T, B, I)."""
    left, right = (torch.from_numpy(each.reshape(-1, each.shape[2])) for each in (deltas, values))
    return (left.T @ right).numpy()


def _share(kernel: Callable[..., Any], batch: int, truncate: int, *args: Any) -> None:
    """Call kernel((first, last, truncate), *args) for shares of the batch, side by side.

    A frame depends on the previous frame, but no utterance on another: threads synchronise once a sequence.
    """
    count = max(1, min(torch.get_num_threads(), workers.get_num_threads(), batch // LEAST_SHARE))
    edges = [batch * i // count for i in range(count + 1)]
    workers.side_by_side([partial(kernel, (first, last, truncate), *args) for first, last in pairwise(edges)])
