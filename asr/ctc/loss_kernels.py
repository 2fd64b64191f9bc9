"""The CTC loss and its gradient at the logits in Numba (Graves et al. 2006, section 4.1).

`symbols[0]` is the class of the blank and `symbols[s]` that of label s, s = 1 … L. `emissions[t, s]` is the softmax of
that class, times its weight; the sums over paths are those of `asr.ctc.sum_kernels`.

Letters: T frames, B utterances, C classes, L labels.
"""

import math

import numpy as np

from asr.core.jit import helper, njit
from asr.ctc.sum_kernels import (
    FIRST,
    NORM,
    SPREAD,
    STOP,
    TOTAL,
    backward,
    divide,
    forward,
    measure,
    memory_size,
    write_skips,
)

# Vector code may reorder sums and fuse products with sums; NaN and infinity keep their meaning.
VECTORS = {"reassoc", "nsz", "contract"}

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)

BLOCK = 4096  # numbers whose exponentials are taken together: 32 KiB, which the first cache holds


def workspace_size(num_frames: int, num_labels: int, num_classes: int) -> int:
    """Return how many float64 a worker needs for utterances of up to T frames, L labels and C classes."""
    return max(BLOCK, num_classes) + num_labels + 1 + memory_size(num_frames, num_labels + 2)


@helper(fastmath={"contract"})
def _exp(x):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return eˣ for x ≤ 0 with an error of one unit in the last place, and 0 below −708.

    It is 2ⁿ, made from its bits, times a Taylor series for the rest.
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


@helper(fastmath=VECTORS)
def _softmax(logits, b, symbols, scale, grads, emissions, block):
    """Write scale × softmax(logits) to grads (T, B, C), and the softmax of the target's symbols to emissions (T, W)."""
    num_frames, num_classes, num_symbols = np.uintp(len(emissions)), np.uintp(logits.shape[2]), np.uintp(len(symbols))
    rows = np.uintp(len(block)) // num_classes
    for start in range(ZERO, num_frames, rows):
        here = min(rows, num_frames - start)
        for i in range(ZERO, here):
            # floats keep their order as integers, whose maximum vector code can take
            top = np.int64(-0x7FFFFFFFFFFFFFFF)
            for c in range(ZERO, num_classes):
                bits = np.float64(logits[start + i, b, c]).view(np.int64)
                top = max(top, bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF))
            peak = np.int64(top ^ ((top >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64)
            for c in range(ZERO, num_classes):
                block[i * num_classes + c] = logits[start + i, b, c] - peak
        for i in range(ZERO, here * num_classes):
            block[i] = _exp(block[i])
        for i in range(ZERO, here):
            total = 0.0
            for c in range(ZERO, num_classes):
                total += block[i * num_classes + c]
            share = 1 / total
            for s in range(ZERO, num_symbols):
                emissions[start + i, s] = block[i * num_classes + symbols[s]] * share
            share *= scale
            for c in range(ZERO, num_classes):
                grads[start + i, b, c] = block[i * num_classes + c] * share


@helper()
def _weigh(logits, b, symbols, log_weights, weights, emissions, frames):
    """Multiply emissions (T, W) by the weights of their symbols, and write NORM and SPREAD of each frame.

    In frames of infinite spread, emissions become the logarithms of the products.
    """
    num_symbols, is_weighted = np.uintp(len(symbols)), False
    for s in range(ZERO, num_symbols):
        weights[s] = _exp(log_weights[symbols[s]])
        is_weighted |= log_weights[symbols[s]] < 0.0
    for t in range(ZERO, np.uintp(len(emissions))):
        for s in range(ZERO, num_symbols if is_weighted else ZERO):
            emissions[t, s] *= weights[s]
        least, greatest = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(0)
        for s in range(ZERO, num_symbols):
            bits = np.float64(emissions[t, s]).view(np.int64)  # floats of one sign are ordered as their bits are
            least, greatest = min(least, bits), max(greatest, bits)
        frames[NORM, t], frames[SPREAD, t] = measure(least >> 52, greatest >> 52)
        if frames[SPREAD, t] == np.inf:
            _log_softmax(logits, b, t, symbols, log_weights, emissions)


@helper()
def _log_softmax(logits, b, t, symbols, log_weights, emissions):
    """Write the logarithms of a frame's weighted emissions."""
    peak, total = -np.inf, 0.0
    for c in range(logits.shape[2]):
        peak = max(peak, float(logits[t, b, c]))
    for c in range(logits.shape[2]):
        total += _exp(logits[t, b, c] - peak)
    for s in range(len(symbols)):
        emissions[t, s] = logits[t, b, symbols[s]] - peak - math.log(total) + log_weights[symbols[s]]


@helper(fastmath={"contract"})
def _write_gradient(grads, b, scale, symbols, memory, log_weights, weights, sums):
    """Write scale × (softmax − posterior) of the classes that have a posterior (eq. 16) to grads (T, B, C).

    `sums` (C,) is a place to work in.
    """
    emissions, frames, _, posteriors, _ = memory
    for c in range(ZERO, np.uintp(len(sums))):
        sums[c] = 0.0
    for s in range(ZERO, np.uintp(len(weights))):
        weights[s] = math.exp(-max(log_weights[symbols[s]], -708.0))  # below, emissions are given as logarithms
    for t in range(ZERO, np.uintp(len(emissions))):
        first, stop = np.uintp(frames[FIRST, t]), np.uintp(frames[STOP, t])
        share, are_logs = 1 / frames[TOTAL, t], frames[SPREAD, t] == np.inf
        for s in range(first, stop):
            sums[symbols[s]] += posteriors[t, 1, s]
        sums[symbols[0]] = posteriors[t, 1, 0]
        for start, end in ((ZERO, ONE), (max(first, ONE), stop)):  # the blanks, and the labels
            for s in range(start, end):
                c = symbols[s]
                if sums[c] > 0.0:  # at the first column of its class
                    softmax = math.exp(emissions[t, s] - log_weights[c]) if are_logs else emissions[t, s] * weights[s]
                    grads[t, b, c] = scale * (softmax - sums[c] * share)
                    sums[c] = 0.0


@njit(cache=True, inline="always")
def _utterance(logits, b, num_frames, symbols, log_weights, scale, grads, work):
    """Return the loss of an utterance that has frames enough, and write its gradient."""
    num_symbols, size = len(symbols), max(BLOCK, logits.shape[2])
    block, weights = work[:size], work[size : size + num_symbols]
    memory = divide(work[size + num_symbols :], num_frames, num_symbols + 1)
    emissions, frames, rows = memory[:3]
    write_skips(symbols, rows)
    _softmax(logits, b, symbols, scale, grads, emissions, block)
    _weigh(logits, b, symbols, log_weights, weights, emissions, frames)
    total = forward(memory)
    if total > -np.inf:
        backward(memory)
        _write_gradient(grads, b, scale, symbols, memory, log_weights, weights, block[: logits.shape[2]])
    return -total


@njit(cache=True, nogil=True)
def forward_backward(utterances, logits, symbols, lengths, log_weights, scales, found, work):
    """Find losses (B,) of some utterances among logits (T, B, C), and the gradient (T, B, C) of Σ scales × losses.

    symbols (B, 1 + L) hold the blank, then the labels; lengths (B, 2) the frames and labels; log_weights (C,), at most
    0, are added to the log softmax. `found` gets losses and gradient. An utterance has no path when its frames are
    fewer than its labels and repeats: its loss is +inf and its gradient 0.
    """
    losses, grads = found
    for b in utterances:
        num_frames, target = lengths[b, 0], symbols[b, : lengths[b, 1] + 1]
        needed = len(target) - 1
        for s in range(2, len(target)):
            needed += target[s] == target[s - 1]
        losses[b] = np.inf if num_frames < needed else 0.0
        if num_frames > 0 and needed <= num_frames:
            losses[b] = _utterance(logits, np.uintp(b), num_frames, target, log_weights, scales[b], grads, work)
        for t in range(num_frames if losses[b] < np.inf else 0, len(grads)):
            grads[t, b] = np.nan if losses[b] != losses[b] and t < num_frames else 0.0
