"""Real-time recurrent learning of the Elman network (Williams and Zipser 1989): the exact gradient, forward in time.

    u_t = W_in x_t + W h_{t−1} + b        h_t = f(u_t)

With a unit's weights in one row, θ_j = (W_in, W, b)_j, and their inputs in one column, c_t = (x_t, h_{t−1}, 1), the net
input of unit j is u_{t,j} = θ_j · c_t. The influence P_t[i, j] = ∂h_{t,i} / ∂θ_j is carried from frame to frame, and an
error signal e_t = ∂E / ∂h_t is used as soon as it arrives: only the last state is stored, however long the utterance.
The price is P, which has H · H · (F + H + 1) numbers and takes H times as many products for each frame.

Letters: T frames, B utterances, F inputs, H units, N = F + H + 1 weights a unit.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.core.jit import helper, njit


@helper()
def _copy(values, target):
    for n in range(len(values)):  # Numba would need 2 s more to compile the assignment of an array to a part of another
        target[n] = values[n]


@njit(cache=True)
def advance(weights, relu, column, state, influence, buffer):
    """Process a frame: `state` (H,) becomes h_t, and `buffer` (H, H · N) the influence P_t.

    `column` is c_t (N,), in which the caller has set x_t and the 1; `influence` is P_{t−1}.
    """
    size = len(state)
    width = len(column)
    first = width - 1 - size
    _copy(state, column[first : width - 1])
    net = np.dot(weights, column)
    np.dot(np.ascontiguousarray(weights[:, first : width - 1]), influence, buffer)  # what reaches h_t through h_{t−1}
    for i in range(size):
        state[i] = max(net[i], 0) if relu else np.tanh(net[i])
        slope = (1 if net[i] > 0 else 0) if relu else 1 - state[i] * state[i]
        row = buffer[i]
        for n in range(width):
            row[i * width + n] += column[n]  # a unit's own weights times c_t: (L1)
        for n in range(len(row)):
            row[n] *= slope


@njit(cache=True)
def run(inputs, errors, start, weights, relu, influences, gradient):
    """Add Σ_t e_t P_t, the gradient at the weights of one utterance, to `gradient` (H · N,).

    `inputs` are (T, F), `errors` (T, H), `start` (H,) is the state before the first frame, `weights` are (H, N);
    `influences` (2, H, H · N) is working memory.
    """
    state = start.copy()
    column = np.ones(weights.shape[1], weights.dtype)
    influences[0] = 0
    for t in range(len(inputs)):
        _copy(inputs[t], column[: inputs.shape[1]])
        advance(weights, relu, column, state, influences[t % 2], influences[1 - t % 2])
        gradient += np.dot(errors[t], influences[1 - t % 2])  # (L2)


class OnlineElman:
    """An Elman network that learns at every frame, to show the algorithm, and for endless streams.

    Parameters
    ----------
    weights : (H, N) float64 or float32
        W_in, W and b side by side. They may be changed between frames, as Williams and Zipser do after each error; the
        gradient is then that of slowly changing weights.
    relu
        Use rectified linear units instead of tanh.

    Attributes
    ----------
    state : (H,)
        h_t.
    influence : (H, H · N)
        P_t.

    Examples
    --------
    >>> network = OnlineElman(np.array([[1.0, 0.5, 0.0]]), relu=True)  # one input, one unit: h_t = x_t + h_{t-1} / 2
    >>> network.step(np.array([1.0])), network.step(np.array([1.0]))
    (array([1.]), array([1.5]))
    >>> network.gradient(np.array([1.0]))  # x_2 + x_1 / 2, h_1 + h_0 / 2, 1 + 1 / 2
    array([[1.5, 1. , 1.5]])
    """

    def __init__(self, weights: np.ndarray, relu: bool = False):
        size, width = weights.shape
        self.weights, self.relu = np.ascontiguousarray(weights), relu
        self.state = np.zeros(size, self.weights.dtype)
        self.influence, self._buffer = np.zeros((2, size, size * width), self.weights.dtype)
        self._column = np.ones(width, self.weights.dtype)

    def step(self, inputs: np.ndarray) -> np.ndarray:
        """Process x_t (F,) and return h_t (H,).

        Raises
        ------
        ValueError
            Not F inputs.
        """
        num_inputs = len(self._column) - len(self.state) - 1
        if np.shape(inputs) != (num_inputs,):
            raise ValueError(f"a frame of {num_inputs} inputs is needed, not {np.shape(inputs)}")
        self._column[:num_inputs] = inputs
        advance(self.weights, self.relu, self._column, self.state, self.influence, self._buffer)
        self.influence, self._buffer = self._buffer, self.influence
        return self.state.copy()

    def gradient(self, error: np.ndarray) -> np.ndarray:
        """Return the contribution of this frame's error signal e_t (H,) to the gradient at the weights (H, N)."""
        return (error @ self.influence).reshape(self.weights.shape)


class RtrlElman(torch.autograd.Function):
    """h (T, B, H) of an Elman layer whose backward pass runs forward in time and stores no states.

    CTC's error signals are known only at the end of an utterance, since its loss depends on all outputs. A first pass
    computes the outputs and keeps only x; when the errors are known, `backward` computes the states again and uses the
    errors frame by frame. The outputs live as long as the layer above needs them, so that with CTC memory does grow
    with the length; only `OnlineElman`'s does not.

    There is no gradient at x, which would need all of BPTT: an Elman layer that learns in this way must be the only
    one, with no weights below it.

    Parameters
    ----------
    x : (T, B, F)
        Must not require a gradient.
    start : (B, H)
        h_0, a constant.
    input_weights : (H, F)
    recurrent_weights : (H, H)
    bias : (H,)
    relu : bool
        Use rectified linear units instead of tanh.

    Raises
    ------
    RuntimeError
        x requires a gradient, or a second derivative is requested.
    ValueError
        The state has another shape.

    Examples
    --------
    >>> weights = [torch.ones(shape, requires_grad=True) for shape in ((1, 1), (1, 1), (1,))]
    >>> h = RtrlElman.apply(torch.ones(3, 1, 1), torch.zeros(1, 1), *weights, True)
    >>> h.flatten().tolist()
    [2.0, 4.0, 6.0]
    >>> h.sum().backward()
    >>> [weight.grad.item() for weight in weights]  # 1 + 2 + 3, 0 + 2 + 6 and 1 + 2 + 3
    [6.0, 8.0, 6.0]
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor, input_weights: Tensor, recurrent_weights: Tensor, bias: Tensor, relu: bool
    ) -> Tensor:
        """Return the states without keeping them."""
        if ctx.needs_input_grad[0]:
            raise RuntimeError(
                "RTRL gives no gradient at its input: only the lowest layer can learn by it, and nothing below it"
            )
        if start.shape != (x.shape[1], len(bias)):
            raise ValueError(f"the state of a batch of {x.shape[1]} must have a row each, not {tuple(start.shape)}")
        x, start = x.to(bias.dtype), start.to(bias.dtype)
        ctx.save_for_backward(x, start, input_weights, recurrent_weights, bias)
        ctx.relu = relu
        with torch.autocast(x.device.type, enabled=False):  # the backward pass computes the same states again
            nets = x @ input_weights.T + bias  # (T, B, H)
            state, states = start, torch.empty_like(nets)
            for t in range(len(x)):
                net = nets[t] + state @ recurrent_weights.T
                state = net.relu() if relu else net.tanh()
                states[t] = state
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients at the weights, from errors (T, B, H) that are used one after the other."""
        x, start, input_weights, recurrent_weights, bias = ctx.saved_tensors
        weights = torch.cat((input_weights, recurrent_weights, bias[:, None]), dim=1).detach().cpu().numpy()  # (H, N)
        size, width = weights.shape
        inputs, errors, starts = (_by_utterance(values) for values in (x, grad_outputs[0], start[None]))
        influences = np.empty((2, size, size * width), weights.dtype)
        gradient = np.zeros(size * width, weights.dtype)
        for b in range(len(inputs)):
            run(inputs[b], errors[b], starts[b, 0], weights, ctx.relu, influences, gradient)
        whole = torch.from_numpy(gradient).reshape(size, width).to(bias.device)
        of_input, of_state, of_bias = whole.split((x.shape[2], size, 1), dim=1)
        return None, None, of_input.contiguous(), of_state.contiguous(), of_bias[:, 0].contiguous(), None


def _by_utterance(values: Tensor) -> np.ndarray:
    """Return (T, B, ·) as contiguous (B, T, ·)."""
    return values.detach().cpu().transpose(0, 1).contiguous().numpy()
