"""The recurrence of an LSTM layer through time and back, in Numba.

A kernel runs one direction of a layer over some utterances of a batch. What does not depend on the previous frame, the
products of the layer's inputs and the sums of the weights' gradients, is computed outside for all frames at once.

The frames of all utterances are rows of one array, utterance by utterance, with a row of zeros before the first
utterance and after each (`asr.encoders.lstm.Rows`). So no time is spent on padding, the second direction needs no
reversed copy, and the row before or after a frame is the state that the frame starts from, which at either end of an
utterance is 0. `utterances` (2, B) holds the first row and the number of frames of each, the longest first. Arrays with
values of both directions have those of the second to the right of the first's.

Numbers of one direction to the next layer and from it are float32 or bfloat16 (`asr.encoders.tiles`), the others are
float32. The gates stand in torch's order: input, forget, cell, output.

Letters: N rows, B utterances, H cells, D directions.
"""

import numpy as np

from asr.core.jit import helper, njit
from asr.encoders.tiles import like, multiply, value

# float32, since a literal is float64, which would halve the width of vectors
ONE, TWO, LEAST = np.float32(1), np.float32(2), np.float32(-87)
LOG2_E, ROUND = np.float32(1.44269504), np.float32(12582912)
LN2_HIGH, LN2_LOW = np.float32(0.693145751953125), np.float32(1.42860677e-6)
C2, C3, C4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
C5, C6, C7 = np.float32(1 / 120), np.float32(1 / 720), np.float32(1 / 5040)


@njit(cache=True, nogil=True)
def lstm_forward(direction, utterances, bias, scale, panels, work, memory, outputs):
    """Write the gates and cells of a direction to memory, and its hidden units h to both `outputs`, (N, D · H) each.

    `memory` is ((N, ≥ 4H), (N, H)); the first of them holds W x_t on entry, without the bias (4H,). `panels` are those
    of W_hhᵀ. The second output is h times the utterance's `scale` (B, D · H), the mask of dropout. Places to work in
    are `work`: the last h of each utterance (B, H), H rounded up to even numbers, and net inputs (B, ≥ 4H).
    """
    (first, lengths, owner), (hidden, nets), (gates, cells), (states, scaled) = utterances, work, memory, outputs
    size, mine, count = cells.shape[1], direction * cells.shape[1], len(lengths)
    for i in range(count):
        _clear(hidden[i])
        for t in (first[i] - 1, first[i] + lengths[i]):
            _clear(cells[t])
            _clear(states[t, mine : mine + size])
            _clear(scaled[t, mine : mine + size])
    for step in range(lengths[0] if count else 0):
        while lengths[count - 1] <= step:
            count -= 1
        multiply(hidden[:count], panels, nets)
        for i in range(count):
            t = first[i] + (lengths[i] - 1 - step if direction else step)
            row, net, cell = gates[t], nets[i], cells[t]
            _add_inputs(net, row, bias)
            _sigmoid(net[: 2 * size], row[: 2 * size])
            _tanh(net[2 * size : 3 * size], row[2 * size : 3 * size])
            _sigmoid(net[3 * size : 4 * size], row[3 * size : 4 * size])
            _next_cell(row, cells[t + 1 if direction else t - 1], cell)
            _tanh(cell, net[:size])
            _output(row[3 * size : 4 * size], net, hidden[i], states[t, mine : mine + size])
            _scale(net, row[3 * size : 4 * size], scale[owner[i], mine : mine + size], scaled[t, mine : mine + size])


@njit(cache=True, nogil=True)
def lstm_backward(direction, utterances, grads, scale, panels, work, memory, outputs):
    """Write the gradients at the net inputs, deltas (N, D · 4H), and their sums over each utterance's frames (B, 4H).

    These are `outputs`. `grads` (N, D · H) are the gradients at the scaled hidden units, and `panels` those of W_hh.
    Places to work in are `work`: the last deltas of each utterance (B, 4H), which are multiplied, a row (5H,), and
    what flows back to h (B, ≥ H) and to the cell (B, H).
    """
    (first, lengths, owner), (now, rows, flows, carry), (gates, cells) = utterances, work, memory
    deltas, sums = outputs
    size, mine, count = cells.shape[1], direction * cells.shape[1], 0
    squashed, delta = rows[:size], rows[size:]
    for i in range(len(lengths)):
        _clear(sums[i])
        for t in (first[i] - 1, first[i] + lengths[i]):
            _clear(deltas[t, 4 * mine : 4 * (mine + size)])
    for step in range(lengths[0] - 1 if len(lengths) else -1, -1, -1):
        while count < len(lengths) and lengths[count] > step:
            _clear(flows[count])
            _clear(carry[count])
            count += 1
        for i in range(count):
            t = first[i] + (lengths[i] - 1 - step if direction else step)
            row, flow = gates[t], flows[i]
            _tanh(cells[t], squashed)
            _add_grads(flow, grads[t, mine : mine + size], scale[owner[i], mine : mine + size])
            _output_delta(row[3 * size : 4 * size], squashed, flow, delta[3 * size :], carry[i])
            _gate_deltas(row, cells[t + 1 if direction else t - 1], delta, carry[i])
            _keep(delta, now[i], deltas[t, 4 * mine : 4 * (mine + size)], sums[i])
        if step > 0:
            multiply(now[:count], panels, flows)


@helper()
def _clear(row):
    for j in range(len(row)):
        row[j] = 0


@helper()
def _add_inputs(net, row, bias):
    for j in range(len(bias)):
        net[j] += row[j] + bias[j]


@helper()
def _add_grads(flow, grads, scale):
    for j in range(len(grads)):
        flow[j] += value(grads[j]) * scale[j]


@helper()
def _next_cell(row, before, cell):
    """Write c_t = f c_{t−1} + i g."""
    size = len(cell)
    gate, forget, entered = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
    for j in range(size):
        cell[j] = forget[j] * before[j] + gate[j] * entered[j]


@helper()
def _output(opened, squashed, hidden, outputs):
    """Write h_t = o tanh(c_t)."""
    for j in range(len(opened)):
        hidden[j] = like(opened[j] * squashed[j], hidden)
    for j in range(len(opened)):
        outputs[j] = hidden[j]


@helper()
def _scale(squashed, opened, scale, outputs):
    for j in range(len(opened)):
        outputs[j] = like(opened[j] * squashed[j] * scale[j], outputs)


@helper()
def _output_delta(opened, squashed, flow, delta, carry):
    """Write the output gate's delta of a frame, and add to the cell's gradient what flows back through its output."""
    for j in range(len(opened)):
        delta[j] = (opened[j] - opened[j] * opened[j]) * squashed[j] * flow[j]
    for j in range(len(opened)):
        carry[j] += opened[j] * (flow[j] - squashed[j] * squashed[j] * flow[j])


@helper()
def _gate_deltas(row, before, delta, carry):
    """Write the other deltas of a frame; turn the cell's gradient into the gradient at the previous frame's cell."""
    size = len(carry)
    gate, forget, entered = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
    into, kept, net = delta[:size], delta[size : 2 * size], delta[2 * size : 3 * size]
    for j in range(size):
        into[j] = (gate[j] - gate[j] * gate[j]) * entered[j] * carry[j]
    for j in range(size):
        kept[j] = (forget[j] - forget[j] * forget[j]) * before[j] * carry[j]
    for j in range(size):
        net[j] = (gate[j] - gate[j] * entered[j] * entered[j]) * carry[j]
    for j in range(size):
        carry[j] *= forget[j]


@helper()
def _keep(delta, now, deltas, sums):
    for j in range(len(delta)):
        now[j] = like(delta[j], now)
    for j in range(len(delta)):
        deltas[j] = now[j]
    for j in range(len(delta)):
        sums[j] += delta[j]


@helper(error_model="numpy")  # no test for division by 0, which would prevent vector code
def _sigmoid(row, target):
    for j in range(len(row)):
        e = _exp(-abs(row[j]))
        target[j] = (e if row[j] < 0 else ONE) / (ONE + e)


@helper(error_model="numpy")  # no test for division by 0, which would prevent vector code
def _tanh(row, target):
    for j in range(len(row)):
        e = _exp(-TWO * abs(row[j]))
        target[j] = (e - ONE if row[j] < 0 else ONE - e) / (ONE + e)


@helper(fastmath={"contract"})
def _exp(x):
    """Return eˣ for x ≤ 0 in float32, with an error of a unit in the last place or two; below −87 it is e⁻⁸⁷.

    It is 2ⁿ, made from its bits, times a Taylor series for the rest. Unlike math.exp it has no call and no branch, so
    that loops over it become vector code.
    """
    x = LEAST if x < LEAST else x  # NaN stays
    shifted = x * LOG2_E + ROUND  # 1.5 · 2²³ leaves the integer n in the last bits
    n = shifted - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW  # ln 2 in two parts: |r| ≤ ln 2 / 2
    p = C7
    p = p * r + C6
    p = p * r + C5
    p = p * r + C4
    p = p * r + C3
    p = p * r + C2
    p = p * r + ONE
    p = p * r + ONE
    power = np.uint32((np.float32(shifted).view(np.uint32) + 127) << 23).view(np.float32)
    return p * power
