"""CTC forward-backward in Numba (Graves et al. 2006, section 4.1).

The 2L + 1 states of an utterance are kept in two rows, so that a frame's recursion runs over whole vectors:
`blanks[t, s]` is the blank after label s, s = 0 … L, and `labels[t, s]` is label s, s = 1 … L; columns 0 and L + 1 of
the labels are 0. `symbols[0]` is the class of the blank and `symbols[s]` that of label s; `probs[t, s]` is the softmax
of that class.

Letters: T frames, B utterances, C classes, L labels.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

# Vector code may reorder sums and fuse products with sums; NaN and infinity keep their meaning.
VECTORS = {"reassoc", "nsz", "contract"}

# A state that is lost to underflow is below 1e-301 (2.2e-308 and MAX_TILT) before its frame is rescaled by the norm. So
# it is less than 1e-301 / (norm × mass) of p(l|x), with mass = Σ α β over the rescaled states of the frame: below 1e-21
# within these bounds. They serve for β too: its norm × mass is that of α one frame later. Outside them the utterance is
# computed in logarithms. That α and β give the same total proves less: they can lose the same paths.
LEAST_NORM = 1e-40
LEAST_MASS = 1e-240
MAX_TILT = 1e6

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)

# Rows of one number a state (L + 2,). They lie in the workspace, as all does that vectors go over: whether LLVM's code
# takes them, and so the order of a sum, depends on how far from each other arrays lie: it must be the same each time.
WEIGHTS, SKIPS, BETA_BLANKS, BETA_LABELS, ARRIVED, POSTERIORS, SUMS = range(7)
ROWS = 7

BLOCK = 4096  # numbers whose exponentials are taken together: 32 KiB, which the first cache holds


def workspace_size(num_frames: int, num_labels: int, num_classes: int) -> int:
    """Return how many float64 a worker needs for utterances of up to T frames, L labels and C classes."""
    return (3 * num_frames + ROWS) * (num_labels + 2) + max(BLOCK, num_classes)


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
def _softmax(logits, b, symbols, scale, grads, probs, block):
    """Write scale × softmax(logits) to grads (T, B, C), and the softmax of the target's symbols to probs (T, L + 2)."""
    num_frames, num_classes, num_symbols = np.uintp(len(probs)), np.uintp(logits.shape[2]), np.uintp(len(symbols))
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
                probs[start + i, s] = block[i * num_classes + symbols[s]] * share
            probs[start + i, num_symbols] = 0.0
            share *= scale
            for c in range(ZERO, num_classes):
                grads[start + i, b, c] = block[i * num_classes + c] * share


@helper()
def _tilt(logits, b, num_frames, symbols):
    """Choose a factor that multiplies all paths at each label, to keep α and β in range.

    Every path enters each label once, so all of them are multiplied by factorᴸ and no posterior changes. What changes
    is how many labels α has behind it by frame t, before it has seen the rest. With constant probabilities, blank to
    label as q to 1, it gains d ln λ / d ln factor labels a frame, λ the larger eigenvalue of ((q, q), (factor, 1 +
    factor)). The factor returned makes that L / T; q comes from geometric means over some 64 frames.
    """
    num_labels = len(symbols) - 1
    step = max(1, num_frames // 64)
    log_ratio = 0.0
    for t in range(0, num_frames, step):
        labels = 0.0
        for s in range(1, num_labels + 1):
            labels += logits[t, b, symbols[s]]
        log_ratio += logits[t, b, symbols[0]] - labels / num_labels
    log_ratio /= (num_frames + step - 1) // step
    if not abs(log_ratio) < 12.0:  # −inf and NaN among the logits come here too
        log_ratio = math.copysign(12.0, log_ratio)
    q = math.exp(log_ratio)
    rate = min(num_labels / num_frames, 0.9)
    root = math.sqrt((rate * (q + 1)) ** 2 + (1 - rate * rate) * (q - 1) ** 2)
    tilt = rate * (rate * (q + 1) + root) / (1 - rate * rate)
    return min(max(tilt, 1 / MAX_TILT), MAX_TILT)


@helper(fastmath=VECTORS)
def _forward(probs, tilt, rows, alphas):
    """Write rescaled α (Graves 2006, eq. 6–8) to blanks and labels; return ln p(l|x), −inf if lost."""
    (blanks, labels), weights, skips = alphas, rows[WEIGHTS], rows[SKIPS]
    num_frames, end = np.uintp(len(probs)), np.uintp(len(weights)) - ONE
    num_labels = end - ONE
    for s in range(ZERO, end + ONE):
        blanks[0, s], labels[0, s] = 0.0, 0.0
    if num_frames > num_labels:
        blanks[0, 0] = probs[0, 0] * weights[0]
    if num_labels > 0:
        labels[0, 1] = tilt * probs[0, 1] * weights[1]
    norm = blanks[0, 0] + labels[0, 1]
    total, product = 0.0, 1.0
    for t in range(ONE, num_frames):
        if not norm > LEAST_NORM:  # so written, NaN goes this way too
            return -np.inf
        product *= norm
        if not 1e-200 < product < 1e200:
            total += math.log(product)
            product = 1.0
        before, scale = t - ONE, 1 / norm  # the norm of one frame divides the next: one pass a frame
        first = max(num_labels + t + ONE, num_frames) - num_frames  # states before this label cannot end in time
        for s in range(ZERO, first):
            blanks[t, s], labels[t, s] = 0.0, 0.0
        blank_prob = probs[t, 0] * weights[0] * scale
        sum_blanks, sum_labels = 0.0, 0.0
        for s in range(first, end):
            a = (blanks[before, s] + labels[before, s]) * blank_prob
            blanks[t, s] = a
            sum_blanks += a
        labels[t, 0], labels[t, end] = 0.0, 0.0
        for s in range(max(first, ONE), end):
            came = tilt * blanks[before, s - ONE] + skips[s] * labels[before, s - ONE]
            a = (labels[before, s] + came) * (probs[t, s] * weights[s] * scale)
            labels[t, s] = a
            sum_labels += a
        norm = sum_blanks + sum_labels
    ends = blanks[num_frames - ONE, num_labels] + labels[num_frames - ONE, num_labels]
    return total + math.log(product) + math.log(ends) if ends > LEAST_NORM else -np.inf


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
def _write_gradient(grads, t, b, scale, distinct, probs, rows, total):
    """Write scale × (softmax − posterior) of the target's classes (eq. 16) to frame t of grads (T, B, C).

    `distinct` is what `_distinct` returns. The row of posteriors holds those of the symbols, times the total; that of
    all blanks together is in column 0.
    """
    (classes, firsts, slots), posteriors, sums = distinct, rows[POSTERIORS], rows[SUMS]
    for i in range(ZERO, np.uintp(len(firsts))):
        sums[i] = 0.0
    for s in range(ZERO, np.uintp(len(slots))):
        sums[slots[s]] += posteriors[s]
    share = 1 / total
    for i in range(ZERO, np.uintp(len(firsts))):
        grads[t, b, classes[i]] = scale * (probs[t, firsts[i]] - sums[i] * share)


@njit(cache=True, fastmath=VECTORS)
def _backward(grads, b, scale, symbols, probs, tilt, rows, alphas):
    """Write the gradient from α and a running β (eq. 10–11, without its own frame); return whether nothing was lost."""
    weights, skips, posteriors = rows[WEIGHTS], rows[SKIPS], rows[POSTERIORS]
    (blanks, labels), beta_blanks, beta_labels, arrived = alphas, rows[BETA_BLANKS], rows[BETA_LABELS], rows[ARRIVED]
    num_frames, end = np.uintp(len(probs)), np.uintp(len(symbols))
    for s in range(ZERO, end + ONE):
        beta_blanks[s], beta_labels[s], arrived[s] = 0.0, 0.0, 0.0
    beta_blanks[end - ONE] = 1.0
    beta_labels[end - ONE] = 1.0 if end > 1 else 0.0
    distinct = _distinct(symbols, grads.shape[2])
    norm = 1.0
    for after in range(ZERO, num_frames):
        t = num_frames - ONE - after
        if after > 0:
            if not norm > 0.0:
                return False
            scale_back = 1 / norm
            blank_prob = probs[t + ONE, 0] * weights[0] * scale_back
            for s in range(ZERO, end):
                arrived[s] = beta_labels[s] * (probs[t + ONE, s] * weights[s] * scale_back)
            norm = 0.0
            for s in range(ZERO, end):
                stayed = beta_blanks[s] * blank_prob
                label = arrived[s] + stayed + skips[s + ONE] * arrived[s + ONE]
                blank = stayed + tilt * arrived[s + ONE]
                beta_labels[s], beta_blanks[s] = label, blank
                norm += label + blank
            norm -= beta_labels[0]
            beta_labels[0] = 0.0
        sum_blanks, sum_labels = 0.0, 0.0
        for s in range(ZERO, end):
            sum_blanks += blanks[t, s] * beta_blanks[s]
            both = labels[t, s] * beta_labels[s]
            posteriors[s] = both
            sum_labels += both
        posteriors[0] = sum_blanks
        total = sum_blanks + sum_labels
        if not total > LEAST_MASS:
            return False
        _write_gradient(grads, t, b, scale, distinct, probs, rows, total)
    return True


@helper()
def _logaddexp(a, b):  # a copy in each file of kernels: Numba's cache does not notice an edit elsewhere
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@helper()
def _log_probs(logits, b, symbols, log_weights, log_probs):
    """Write log softmax(logits) + log weights (C,) of the target's symbols."""
    for t in range(len(log_probs)):
        frame, peak, total = logits[t, b], -np.inf, 0.0
        for c in range(len(frame)):
            peak = max(peak, float(frame[c]))
        for c in range(len(frame)):
            total += math.exp(frame[c] - peak)
        for s in range(len(symbols)):
            log_probs[t, s] = frame[symbols[s]] - peak - math.log(total) + log_weights[symbols[s]]


@njit(cache=True, nogil=True)
def log_posteriors(log_probs, skips, blanks, labels):
    """Write the states' posteriors (terms of eq. 14) to blanks and labels, computed in logarithms; return ln p(l|x)."""
    num_frames, last = len(log_probs), len(skips) - 2
    blanks[:], labels[:] = -np.inf, -np.inf
    blanks[0, 0] = log_probs[0, 0]
    if last > 0:
        labels[0, 1] = log_probs[0, 1]
    for t in range(1, num_frames):
        for s in range(last + 1):
            blanks[t, s] = _logaddexp(blanks[t - 1, s], labels[t - 1, s]) + log_probs[t, 0]
        for s in range(1, last + 1):
            a = _logaddexp(labels[t - 1, s], blanks[t - 1, s - 1])
            if skips[s] > 0.0:
                a = _logaddexp(a, labels[t - 1, s - 1])
            labels[t, s] = a + log_probs[t, s]
    total = _logaddexp(blanks[-1, last], labels[-1, last])
    if total == -np.inf:
        return total
    beta_blanks, beta_labels = np.full(last + 1, -np.inf), np.full(last + 2, -np.inf)
    beta_blanks[last] = 0.0
    if last > 0:
        beta_labels[last] = 0.0
    for t in range(num_frames - 1, -1, -1):
        if t < num_frames - 1:
            for s in range(last + 1):  # upwards: state s needs label s + 1 as it was a frame later
                stayed = beta_blanks[s] + log_probs[t + 1, 0]
                onward = beta_labels[s + 1] + log_probs[t + 1, s + 1] if s < last else -np.inf
                if s > 0:
                    staying = _logaddexp(beta_labels[s] + log_probs[t + 1, s], stayed)
                    beta_labels[s] = _logaddexp(staying, onward) if skips[s + 1] > 0.0 else staying
                beta_blanks[s] = _logaddexp(stayed, onward)
        for s in range(last + 1):
            blanks[t, s] = math.exp(blanks[t, s] + beta_blanks[s] - total)
            labels[t, s] = math.exp(labels[t, s] + beta_labels[s] - total)
    return total


@njit(cache=True, inline="always")
def _utterance(logits, b, num_frames, symbols, log_weights, scale, grads, work):
    """Return the loss of an utterance that has frames enough, and write its gradient."""
    width = len(symbols) + 1
    size = num_frames * width
    probs = work[:size].reshape(num_frames, width)
    blanks = work[size : 2 * size].reshape(num_frames, width)
    labels = work[2 * size : 3 * size].reshape(num_frames, width)
    rows = work[3 * size : 3 * size + ROWS * width].reshape(ROWS, width)
    block = work[3 * size + ROWS * width :][: max(BLOCK, logits.shape[2])]
    tilt = _tilt(logits, b, num_frames, symbols) if len(symbols) > 1 else 1.0
    rows[WEIGHTS, width - 1], rows[SKIPS, width - 1] = 0.0, 0.0
    for s in range(len(symbols)):
        rows[WEIGHTS, s] = _exp(log_weights[symbols[s]])
        rows[SKIPS, s] = tilt if s > 1 and symbols[s] != symbols[s - 1] else 0.0
    _softmax(logits, b, symbols, scale, grads, probs, block)
    total = _forward(probs, tilt, rows, (blanks, labels)) - (len(symbols) - 1) * math.log(tilt)
    if total > -np.inf and _backward(grads, b, scale, symbols, probs, tilt, rows, (blanks, labels)):
        return -total
    _log_probs(logits, b, symbols, log_weights, probs)
    total = log_posteriors(probs, rows[SKIPS], blanks, labels)
    _softmax(logits, b, symbols, scale, grads, probs, block)
    distinct = _distinct(symbols, grads.shape[2])
    for t in range(ZERO, np.uintp(num_frames)):
        for s in range(len(symbols)):
            labels[t, 0] += blanks[t, s]
        for s in range(len(symbols)):
            rows[POSTERIORS, s] = labels[t, s]
        _write_gradient(grads, t, b, scale, distinct, probs, rows, 1.0)
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
