"""The CTC loss and its gradient at the logits in Numba (Graves et al. 2006, section 4.1).

`symbols[0]` is the class of the blank and `symbols[s]` that of label s, s = 1 … L. `emissions[t, s]` is the softmax of
that class, times its weight; the sums over paths are those of `asr.ctc.sum_kernels`.

Letters: T frames, B utterances, C classes, L labels.
"""

import math

import numpy as np

from asr.core.jit import helper, njit
from asr.ctc.sum_kernels import FIRST, NORM, SKIPS, SPREAD, STOP, TOTAL, divide, measure, memory_size, sum_paths

# Vector code may reorder sums and fuse products with sums; NaN and infinity keep their meaning.
VECTORS = {"reassoc", "nsz", "contract"}

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)

# Rows of one number a symbol (L + 1,). They lie in the workspace, as all does that vectors go over: whether LLVM's code
# takes them, and so the order of a sum, depends on how far from each other arrays lie: it must be the same each time.
WEIGHTS, RECIPROCALS, SUMS = range(3)
ROWS = 3

BLOCK = 4096  # numbers whose exponentials are taken together: 32 KiB, which the first cache holds


def workspace_size(num_frames: int, num_labels: int, num_classes: int) -> int:
    """Return how many float64 a worker needs for utterances of up to T frames, L labels and C classes."""
    return ROWS * (num_labels + 1) + max(BLOCK, num_classes) + memory_size(num_frames, num_labels + 2)


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
    bits = block.view(np.int64)
    for start in range(ZERO, num_frames, rows):
        here = min(rows, num_frames - start)
        for i in range(ZERO, here):  # only copies: an utterance's frames lie far apart, and are fetched together
            for c in range(ZERO, num_classes):
                block[i * num_classes + c] = logits[start + i, b, c]
        for i in range(ZERO, here):
            # floats keep their order as integers, whose maximum vector code can take
            top = np.int64(-0x7FFFFFFFFFFFFFFF)
            for c in range(ZERO, num_classes):
                value = bits[i * num_classes + c]
                top = max(top, value ^ ((value >> 63) & 0x7FFFFFFFFFFFFFFF))
            peak = np.int64(top ^ ((top >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64)
            for c in range(ZERO, num_classes):
                block[i * num_classes + c] -= peak
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


@njit(cache=True)
def _distinct(symbols, num_classes):
    """Return the classes of a target (U,), the column in which each comes first, and of each column the class's place.

    symbols (L + 1,) are the columns' classes.
    """
    places, num_distinct = np.full(num_classes, -1), 0
    firsts, slots = np.empty(len(symbols), np.uintp), np.empty(len(symbols), np.uintp)
    for s in range(len(symbols)):
        if places[symbols[s]] < 0:
            places[symbols[s]] = num_distinct
            firsts[num_distinct] = s
            num_distinct += 1
        slots[s] = places[symbols[s]]
    return symbols[firsts[:num_distinct]], firsts[:num_distinct], slots


@helper(fastmath={"contract"})
def _write_gradient(grads, b, scale, distinct, memory, log_weights, rows):
    """Write scale × (softmax − posterior) of the target's classes (eq. 16) to grads (T, B, C).

    `distinct` is what `_distinct` returns.
    """
    (classes, firsts, slots), (emissions, frames, _, posteriors, _) = distinct, memory
    sums, reciprocals, num_classes = rows[SUMS], rows[RECIPROCALS], np.uintp(len(classes))
    for i in range(ZERO, num_classes):
        reciprocals[i] = math.exp(-max(log_weights[classes[i]], -708.0))  # below, emissions are given as logarithms
    for t in range(ZERO, np.uintp(len(emissions))):
        sums[0] = posteriors[t, 1, 0]
        for i in range(ONE, num_classes):
            sums[i] = 0.0
        for s in range(np.uintp(max(frames[FIRST, t], 1.0)), np.uintp(frames[STOP, t])):
            sums[slots[s]] += posteriors[t, 1, s]
        share, are_logs = 1 / frames[TOTAL, t], frames[SPREAD, t] == np.inf
        for i in range(ZERO, num_classes):
            softmax = emissions[t, firsts[i]]
            softmax = math.exp(softmax - log_weights[classes[i]]) if are_logs else softmax * reciprocals[i]
            grads[t, b, classes[i]] = scale * (softmax - sums[i] * share)


@njit(cache=True, inline="always")
def _utterance(logits, b, num_frames, symbols, log_weights, scale, grads, work):
    """Return the loss of an utterance that has frames enough, and write its gradient."""
    num_symbols, last = len(symbols), ROWS * len(symbols) + max(BLOCK, logits.shape[2])
    rows, block = work[: ROWS * num_symbols].reshape(ROWS, num_symbols), work[ROWS * num_symbols : last]
    memory = divide(work[last:], num_frames, num_symbols + 1)
    emissions, frames, sum_rows = memory[:3]
    for s in range(num_symbols):
        sum_rows[SKIPS, s] = 1.0 if s > 1 and symbols[s] != symbols[s - 1] else 0.0
    sum_rows[SKIPS, num_symbols] = 0.0
    _softmax(logits, b, symbols, scale, grads, emissions, block)
    _weigh(logits, b, symbols, log_weights, rows[WEIGHTS], emissions, frames)
    total = sum_paths(memory)
    if total > -np.inf:
        _write_gradient(grads, b, scale, _distinct(symbols, grads.shape[2]), memory, log_weights, rows)
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
