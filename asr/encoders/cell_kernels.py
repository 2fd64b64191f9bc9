"""Recurrences through time and back, in Numba; the numbers (R1), (R2), … are those of docs/theory/recurrent.md.

A kernel runs over all T frames of the utterances first … last − 1 of a batch, so that each thread has utterances of its
own. Products that do not depend on the previous frame, W x_t and the sums of the weights' gradients, are computed
outside for all frames at once; the kernel computes one product a frame for each feedback matrix. Arrays are
C-contiguous and of one type, float32 or float64. A *trail* has T + 1 rows: row 0 is the state before the first frame,
and row t + 1 the state after frame t. The gradient is cut at each multiple of `truncate` frames except 0. Slopes are
written as g − g² instead of g (1 − g), since a literal 1 would turn float32 into float64 and halve the width of
vectors.

Letters: T frames, B utterances, H units, O outputs of a Jordan network.
"""

import numpy as np

from asr.core.jit import helper, njit


@njit(cache=True, nogil=True)
def elman_forward(share, inputs, recurrent, relu, trail):
    """Write the hidden units to trail (T + 1, B, H), from inputs = W_x x_t + b (T, B, H) and recurrent = W_hᵀ."""
    first, last = share[0], share[1]
    for t in range(len(inputs)):
        hidden = trail[t + 1, first:last]
        _multiply(trail[t, first:last], recurrent, hidden)
        for b in range(last - first):
            row = hidden[b]
            _add(row, inputs[t, first + b])  # (R1)
            if relu:
                _relu(row)  # (R2)
            else:
                _tanh(row)  # (R2)


@njit(cache=True, nogil=True)
def elman_backward(share, grads, recurrent, relu, trail, deltas, carry):
    """Write δ (T, B, H), the gradients at the net inputs, from those at the hidden units.

    `carry` (B, H) gets the gradient at the state before the first frame.
    """
    first, last, truncate = share
    epsilon = carry[first:last]
    epsilon[:] = 0
    for t in range(len(grads) - 1, -1, -1):
        for b in range(last - first):
            _add(epsilon[b], grads[t, first + b])  # (R3)
            _slope(epsilon[b], trail[t + 1, first + b], relu, deltas[t, first + b])  # (R4)
        if truncate > 0 and t > 0 and t % truncate == 0:
            epsilon[:] = 0
        else:
            _multiply(deltas[t, first:last], recurrent, epsilon)  # (R3) of the frame before


@njit(cache=True, nogil=True)
def jordan_forward(share, softmax, inputs, feedback, output, bias, hidden, trail):
    """Write hidden units h (T, B, H), and v and y to trail (2, T + 1, B, O); feedback = W_yᵀ, output = W_oᵀ."""
    first, last = share[0], share[1]
    for t in range(len(inputs)):
        now, net, outputs = hidden[t, first:last], trail[0, t + 1, first:last], trail[1, t + 1, first:last]
        _multiply(trail[1, t, first:last], feedback, now)
        for b in range(last - first):
            _add(now[b], inputs[t, first + b])  # (R8)
            _tanh(now[b])
        _multiply(now, output, net)
        for b in range(last - first):
            _add(net[b], bias)  # (R9)
            _copy(net[b], outputs[b])
            if softmax:
                _softmax(outputs[b])  # (R10)
            else:
                _tanh(outputs[b])


@njit(cache=True, nogil=True)
def jordan_backward(share, softmax, weights, memory, grads, out_deltas, deltas, carry):
    """Write δ of the hidden units (T, B, H), and add δ of the output units to out_deltas (T, B, O), given as ∂E/∂v.

    `weights` are W_y (H, O) and W_o (O, H), `memory` is h and y, `grads` is ∂E/∂y (T, B, O); `carry` (B, O) is as in
    `elman_backward`.
    """
    first, last, truncate = share
    (feedback, output), (hidden, outputs) = weights, memory
    epsilon = carry[first:last]
    epsilon[:] = 0
    for t in range(len(grads) - 1, -1, -1):
        for b in range(last - first):
            _add(epsilon[b], grads[t, first + b])  # (R11), the bracket
            if softmax:
                _softmax_slope(epsilon[b], outputs[t, first + b])
            else:
                _slope(epsilon[b], outputs[t, first + b], False, epsilon[b])
            _add(out_deltas[t, first + b], epsilon[b])  # (R11)
        delta = deltas[t, first:last]
        _multiply(out_deltas[t, first:last], output, delta)
        for b in range(last - first):
            _slope(delta[b], hidden[t, first + b], False, delta[b])  # (R12)
        if truncate > 0 and t > 0 and t % truncate == 0:
            epsilon[:] = 0
        else:
            _multiply(delta, feedback, epsilon)  # (R11) of the frame before


@njit(cache=True, nogil=True)
def lstm_forward(share, inputs, recurrent, peepholes, gates, trail):
    """Write g^I, g^F, f(u), g^O to gates (T, B, 4H), and z, s and f(s) to trail (3, T + 1, B, H).

    inputs = W x_t + b (T, B, 4H), recurrent = Wᵀ (H, 4H), and peepholes (3, H) of the input, forget and output gates.
    """
    first, last = share[0], share[1]
    size = peepholes.shape[1]
    for t in range(len(inputs)):
        _multiply(trail[0, t, first:last], recurrent, gates[t, first:last])
        for b in range(first, last):
            row, before, state = gates[t, b], trail[1, t, b], trail[1, t + 1, b]
            _add(row, inputs[t, b])  # (R14)
            _add_product(row[:size], peepholes[0], before)  # (R15), w^I s_{t-1}
            _add_product(row[size : 2 * size], peepholes[1], before)  # (R15), w^F s_{t-1}
            _sigmoid(row[: 2 * size])  # (R15)
            _tanh(row[2 * size : 3 * size])
            _next_state(row, before, state)  # (R16)
            _add_product(row[3 * size :], peepholes[2], state)  # (R17), w^O s_t
            _sigmoid(row[3 * size :])  # (R17)
            _copy(state, trail[2, t + 1, b])
            _tanh(trail[2, t + 1, b])
            _product(row[3 * size :], trail[2, t + 1, b], trail[0, t + 1, b])  # (R18)


@njit(cache=True, nogil=True)
def lstm_backward(share, grads, recurrent, peepholes, gates, trail, deltas, carries):
    """Write δ^I, δ^F, δ, δ^O to deltas (T, B, 4H), from the gradients at z (T, B, H).

    `carries` (5, B, H): rows 0 and 1 get the gradients at z and s before the first frame; on entry row 1 holds the
    gradient at the last frame's s. Rows 2 to 4 get each utterance's gradients at the peepholes.
    """
    first, last, truncate = share
    carries[0, first:last], carries[2:, first:last] = 0, 0
    for t in range(len(grads) - 1, -1, -1):
        for b in range(first, last):
            row, delta, epsilon, cell = gates[t, b], deltas[t, b], carries[0, b], carries[1, b]
            _add(epsilon, grads[t, b])  # (R19)
            _output_deltas(row, epsilon, trail[2, t + 1, b], peepholes[2], delta, cell)
            _cell_deltas(row, trail[1, t, b], delta, cell, peepholes)
            _add_peepholes(delta, trail[1, t, b], trail[1, t + 1, b], carries[2:, b])  # (R25)
        if truncate > 0 and t > 0 and t % truncate == 0:
            carries[:2, first:last] = 0
        else:
            _multiply(deltas[t, first:last], recurrent, carries[0, first:last])  # (R19) of the frame before


@helper(fastmath={"contract"})
def _multiply(a, b, c):
    """Write the product of a (M, K) and b (K, N) to c (M, N), four rows of b at a time for four rows of a.

    A BLAS would repack b in each call. For so few rows of a that takes longer than the product itself; OpenBLAS takes
    five times as long. A row of c depends on its own row of a alone, whatever share of a batch it is in.
    """
    size, depth = b.shape[1], len(b)
    whole = depth - depth % 4
    c[:] = 0
    for start in range(0, len(a), 4):
        end = min(start + 4, len(a))
        for k in range(0, whole, 4):
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            for i in range(start, end):
                row, a0, a1, a2, a3 = c[i], a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
                for j in range(size):
                    row[j] += a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
        for k in range(whole, depth):
            for i in range(start, end):
                _add_scaled(c[i], a[i, k], b[k])


@helper()
def _add_scaled(row, scale, other):
    for j in range(len(row)):
        row[j] += scale * other[j]


@helper()
def _next_state(row, before, state):
    """Write s_t from the gates' row g^I, g^F, f(u), g^O."""
    size = len(state)
    gate, forget, entered = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
    for j in range(size):
        state[j] = forget[j] * before[j] + gate[j] * entered[j]


@helper()
def _output_deltas(row, epsilon, squashed, peephole, delta, cell):
    """Write δ^O of a frame, and add to the cell's gradient what flows back through its output."""
    size = len(cell)
    opened, output = row[3 * size :], delta[3 * size :]
    for j in range(size):
        output[j] = (opened[j] - opened[j] * opened[j]) * squashed[j] * epsilon[j]  # (R20)
    for j in range(size):
        cell[j] += opened[j] * (epsilon[j] - squashed[j] * squashed[j] * epsilon[j])  # (R21), δ̃
    _add_product(cell, peephole, output)  # (R21), w^O δ^O


@helper()
def _cell_deltas(row, before, delta, cell, peepholes):
    """Write δ^I, δ^F and δ of a frame; turn the cell's gradient into the gradient at the previous frame's cell."""
    size = len(cell)
    gate, forget, entered = row[:size], row[size : 2 * size], row[2 * size : 3 * size]
    into, kept, net = delta[:size], delta[size : 2 * size], delta[2 * size : 3 * size]
    for j in range(size):
        net[j] = gate[j] * (cell[j] - entered[j] * entered[j] * cell[j])  # (R22)
    for j in range(size):
        kept[j] = (forget[j] - forget[j] * forget[j]) * before[j] * cell[j]  # (R23)
    for j in range(size):
        into[j] = (gate[j] - gate[j] * gate[j]) * entered[j] * cell[j]  # (R24)
    for j in range(size):
        cell[j] *= forget[j]  # (R21), g^F δ^cell
    _add_product(cell, peepholes[0], into)  # (R21), w^I δ^I
    _add_product(cell, peepholes[1], kept)  # (R21), w^F δ^F


@helper()
def _add_peepholes(delta, before, state, sums):
    size = len(state)
    _add_product(sums[0], delta[:size], before)
    _add_product(sums[1], delta[size : 2 * size], before)
    _add_product(sums[2], delta[3 * size :], state)


@helper()
def _add(row, other):
    for j in range(len(row)):
        row[j] += other[j]


@helper()
def _copy(other, row):
    for j in range(len(row)):  # Numba would need 2 s more to compile the assignment of an array to a part of another
        row[j] = other[j]


@helper()
def _product(a, b, row):
    for j in range(len(row)):
        row[j] = a[j] * b[j]


@helper()
def _add_product(row, a, b):
    for j in range(len(row)):
        row[j] += a[j] * b[j]


@helper()
def _slope(epsilon, values, relu, delta):
    """Write f′(u) ε, with f′(u) computed from f(u)."""
    if relu:
        for j in range(len(delta)):
            delta[j] = epsilon[j] if values[j] > 0 else 0.0
    else:
        for j in range(len(delta)):
            delta[j] = epsilon[j] - values[j] * values[j] * epsilon[j]


@helper()
def _softmax_slope(epsilon, values):
    """Turn the gradient at a softmax's outputs y into that at its inputs: y_k (ε_k − Σ ε y)."""
    mean = 0.0
    for k in range(len(values)):
        mean += epsilon[k] * values[k]
    for k in range(len(values)):
        epsilon[k] = values[k] * (epsilon[k] - mean)


@helper()
def _relu(row):
    for j in range(len(row)):
        row[j] = 0.0 if row[j] < 0 else row[j]


@helper(error_model="numpy")  # no test for division by 0, which would prevent vector code
def _sigmoid(row):
    for j in range(len(row)):
        e = _exp(-abs(row[j]))
        row[j] = (e if row[j] < 0 else 1.0) / (1.0 + e)


@helper(error_model="numpy")  # no test for division by 0, which would prevent vector code
def _tanh(row):
    for j in range(len(row)):
        e = _exp(-2.0 * abs(row[j]))
        row[j] = (e - 1.0 if row[j] < 0 else 1.0 - e) / (1.0 + e)


@helper()
def _softmax(row):
    peak, total = row[0], 0.0
    for k in range(1, len(row)):
        peak = max(peak, row[k])
    for k in range(len(row)):
        row[k] = _exp(np.float64(row[k] - peak))
    for k in range(len(row)):
        total += row[k]
    for k in range(len(row)):
        row[k] /= total


@helper(fastmath={"contract"})
def _exp(x):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return eˣ for x ≤ 0 with an error of one unit in the last place, and 0 below −708.

    It is 2ⁿ, made from its bits, times a Taylor series for the rest. Unlike math.exp it has no call and no branch, so
    that loops over it become vector code.
    """
    shifted = x * 1.4426950408889634 + 6755399441055744.0  # 1.5 · 2⁵² leaves the integer n in the last bits
    n = shifted - 6755399441055744.0
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10  # ln 2 in two parts: |r| ≤ ln 2 / 2
    p = 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r + 1.0
    p = p * r + 1.0
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return 0.0 if x < -708.0 else p * power
