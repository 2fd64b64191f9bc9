"""Sums over all CTC paths in Numba: forward-backward (Graves et al. 2006, section 4.1) with an exponent for each state.

The 2L + 1 states of an utterance are kept in two rows, so that a frame's recursion runs over whole vectors. Row 0 holds
the blanks: column s is the blank after label s, s = 0 … L. Row 1 holds the labels: column s is label s, s = 1 … L, and
columns 0 and L + 1 are 0.

The probabilities of the states of one frame span far more than float64 does. So each state has an exponent of its own,
as in block floating point (Wilkinson 1963, "Rounding errors in algebraic processes"): α of a state is its number times
2^exponent. The exponents stay the same for a *segment* of frames. Within one, a step from state to state costs a
product with 2^(difference of their exponents), which is constant. A segment ends before a number can leave the range of
float64; the exponents of the next are those of its first frame. β needs no exponents of its own: it is divided by α's
power of two, so that the product of both numbers is the posterior. docs/theory/ctc.md derives why nothing is lost.

Letters: T frames, L labels, W = L + 2 columns. The tuple `memory` is what `divide` returns.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

# Vector code may reorder sums and fuse products with sums; NaN and infinity keep their meaning.
VECTORS = {"reassoc", "nsz", "contract"}

# Kernels that other kernels call, and Python does not: no conversion of Python's arguments is compiled.
INNER = {"no_cpython_wrapper": True}

# Binary digits by which a number may fall and rise in a segment. Their sum leaves 80 of those that an exponent has.
FALL, RISE = 480.0, 456.0
NOTHING = -1e300  # the exponent of 0
LEAST_LOG = -1e10  # the logarithm of an emission, below which it counts as 0, so that exponents are exact
NEGLIGIBLE = 1e-30  # posterior of a state, below which β is not followed
LN_2, LN_2_HIGH, LN_2_LOW = math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)

# Rows of one number a column (W,). They lie in the workspace, as all does that vectors go over: whether LLVM's code
# takes them, and so the order of a sum, depends on how far from each other arrays lie: it must be the same each time.
SKIPS, EMITTED, SHIFTS, ZEROS = range(4)
TO_BLANK, TO_LABEL, TO_NEXT = range(4, 7)  # factors of the steps to a blank or label, and past a blank
BETAS, LEFT, WHOLES = range(7, 13, 2)  # two rows each, of blanks and labels
ROWS = 13
NORM, SPREAD, SEGMENT, FIRST, STOP, TOTAL = range(6)  # rows of one number a frame (T,)
FRAME_ROWS = 6


def memory_size(num_frames: int, width: int) -> int:
    """Return how many float64 an utterance takes.

    Two fifths of them are for exponents, and are touched only as far as there are segments.
    """
    return (5 * num_frames + ROWS) * width + FRAME_ROWS * num_frames


@njit(cache=True, **INNER)
def divide(work, num_frames, width):
    """Return the parts of a workspace.

    They are the emissions (T, W), FRAME_ROWS rows of frames, ROWS rows of columns, α (T, 2, W), and the exponents of
    each segment (T, 2, W), as there are at most T segments.
    """
    size, first, second = num_frames * width, ROWS * width, ROWS * width + FRAME_ROWS * num_frames
    rows, frames = work[:first].reshape(ROWS, width), work[first:second].reshape(FRAME_ROWS, num_frames)
    emissions = work[second : second + size].reshape(num_frames, width)
    alphas = work[second + size : second + 3 * size].reshape(num_frames, 2, width)
    return emissions, frames, rows, alphas, work[second + 3 * size : second + 5 * size].reshape(num_frames, 2, width)


@njit(cache=True, **INNER)
def measure(least, greatest):
    """Return norm n and spread of a frame whose emissions lie in [2^(n − spread), 2ⁿ).

    Where the spread is too great for a segment, or an emission is 0 or may have lost digits, the norm is 0 and the
    spread ∞: the frame's emissions are to be replaced by their logarithms. `least` and `greatest` are the bits of the
    exponents of the least and greatest emission.
    """
    if least < 23 or greatest - least + 1 > FALL:
        return 0.0, np.inf
    return greatest - 1022.0, greatest - least + 1.0


@njit(cache=True, **INNER)
def write_skips(symbols, rows):
    """Write SKIPS from symbols (L + 1,).

    It is 1 where a path may skip the blank before label s, as label s − 1 is another label; else 0.
    """
    for s in range(rows.shape[1]):
        rows[SKIPS, s] = 1.0 if 1 < s < len(symbols) and symbols[s] != symbols[s - 1] else 0.0


@helper()
def _power(n):
    """Return 2ⁿ for an integer n in ±1022, 0 below, and 2^1023 above."""
    n = -1023.0 if n < -1023.0 else n
    n = 1023.0 if n > 1023.0 else n
    return np.int64((np.float64(n + 6755399441055744.0).view(np.int64) + 1023) << 52).view(np.float64)


@helper()
def _read_logs(logs, rows):
    """Write emissions whose logarithms are given (W,) as EMITTED, which are in [½, 1], times 2^SHIFTS."""
    for s in range(np.uintp(len(logs)) - ONE):
        shift = 0.0 if logs[s] < LEAST_LOG else np.ceil(logs[s] / LN_2)
        rest = (logs[s] - shift * LN_2_HIGH) - shift * LN_2_LOW
        rows[EMITTED, s], rows[SHIFTS, s] = 0.0 if logs[s] < LEAST_LOG else math.exp(rest), shift


@helper()
def _separate(number, exponent):
    """Return a number as a mantissa in [1, 2) and a sum of exponents; 0 as 0 and NOTHING."""
    field = np.float64(number).view(np.int64) >> 52
    whole = exponent + (np.int64(field | 0x4330000000000000).view(np.float64) - 4503599627371519.0)  # 2⁵² + 1023
    return number * np.int64((2046 - field) << 52).view(np.float64), whole if number != 0.0 else NOTHING


@helper(fastmath={"contract"})
def _renew(before, old, skips, emitted, shifts, scale, numbers, exponents):
    """Write α of a segment's first frame, with the greatest exponent of what came to each state (2, W)."""
    end, blank_prob = np.uintp(len(skips)) - ONE, emitted[0] * scale
    number, i = _separate(before[0, 0], old[0, 0])
    numbers[0, 0], exponents[0, 0] = number * blank_prob, i + shifts[0]
    for s in range(ONE, end):
        blank, i = _separate(before[0, s], old[0, s])
        label, j = _separate(before[1, s], old[1, s])
        top = i if i > j else j
        numbers[0, s] = (blank * _power(i - top) + label * _power(j - top)) * blank_prob
        exponents[0, s] = top + shifts[0]
        blank, i = _separate(before[0, s - ONE], old[0, s - ONE])
        skip, k = _separate(before[1, s - ONE], old[1, s - ONE])
        k = k if skips[s] > 0.0 else NOTHING
        top = j if j > i else i
        top = top if top > k else k
        came = blank * _power(i - top) + skips[s] * skip * _power(k - top)
        numbers[1, s] = (label * _power(j - top) + came) * (emitted[s] * scale)
        exponents[1, s] = top + shifts[s]
    for row, s in ((0, end), (1, ZERO), (1, end)):
        numbers[row, s], exponents[row, s] = 0.0, NOTHING


@helper()
def _fill(skips, numbers, exponents):
    """Give each state that is 0 the greatest exponent of what may come to it; return whether one lies between others.

    States behind all others are 0 because no path has reached them. The first paths will come from states that have
    the same exponent. States between others are 0 because their emission is, and paths of any exponent may come.
    """
    some, gap, between = False, False, False
    for s in range(ZERO, np.uintp(len(skips)) - ONE):
        if numbers[1, s] != 0.0:
            some, between = True, between or gap
        elif s > 0:
            gap = some
            exponents[1, s] = max(exponents[0, s - ONE], exponents[1, s - ONE] if skips[s] > 0.0 else NOTHING)
        if numbers[0, s] != 0.0:
            some, between = True, between or gap
        else:
            gap = some
            exponents[0, s] = exponents[1, s]
    return between


@helper()
def _couple(rows, exponents):
    """Write the factors of the steps between states of a segment.

    Return by how many binary digits a number may rise in a frame.
    """
    end, top = np.uintp(exponents.shape[1]) - ONE, np.int64(0)
    for s in range(ONE, end):
        blank, label = _power(exponents[1, s] - exponents[0, s]), _power(exponents[0, s - ONE] - exponents[1, s])
        skip = _power(exponents[1, s - ONE] - exponents[1, s])
        skip = skip if rows[SKIPS, s] > 0.0 else 0.0
        rows[TO_BLANK, s], rows[TO_LABEL, s], rows[TO_NEXT, s] = blank, label, skip
        for factor in (blank, label, skip):  # positive floats are ordered as their bits are
            top = max(top, np.float64(factor).view(np.int64))
    return max((top >> 52) - 1023, 0) + 2.0  # three are added: less than 2² times the greatest


@njit(cache=True, fastmath=VECTORS, **INNER, _nrt=False)
def forward(memory):
    """Write α (eq. 6–8), its exponents, and β of the last frame (eq. 9); return ln p(l|x), −inf without a path.

    It needs emissions, NORM, SPREAD and SKIPS. NaN among the emissions gives NaN.
    """
    emissions, frames, rows, alphas, exponents = memory
    skips, to_blank, to_label, to_next = rows[SKIPS], rows[TO_BLANK], rows[TO_LABEL], rows[TO_NEXT]
    num_frames, end = np.uintp(len(emissions)), np.uintp(len(skips)) - ONE
    num_labels, segment, norms = end - ONE, ZERO, 0.0
    for row in range(EMITTED, ROWS):
        for s in range(ZERO, end + ONE):
            rows[row, s] = 0.0 if row < WHOLES else NOTHING
    before, old = rows[LEFT : LEFT + 2], rows[WHOLES : WHOLES + 2]  # as if paths came to frame 0 from a blank
    before[0, 0], old[0, 0] = 1.0, 0.0
    fall, rise, step = np.inf, 0.0, 0.0
    for t in range(ZERO, num_frames):
        fall, rise, norms = fall + frames[SPREAD, t], rise + step, norms + frames[NORM, t]
        emitted, shifts, scale, numbers = emissions[t], rows[ZEROS], _power(-frames[NORM, t]), alphas[t]
        if fall < FALL and rise < RISE:
            blanks, labels, blank_prob = numbers[0], numbers[1], emitted[0] * scale
            first = max(num_labels + t + ONE, num_frames) - num_frames  # states before this label cannot end in time
            blanks[0] = before[0, 0] * blank_prob
            for s in range(ZERO, first):
                blanks[s], labels[s] = 0.0, 0.0
            labels[0], blanks[end], labels[end] = 0.0, 0.0, 0.0
            for s in range(max(first, ONE), end):
                blanks[s] = (before[0, s] + to_blank[s] * before[1, s]) * blank_prob
            for s in range(max(first, ONE), end):
                came = to_label[s] * before[0, s - ONE] + to_next[s] * before[1, s - ONE]
                labels[s] = (before[1, s] + came) * (emitted[s] * scale)
        else:
            segment += np.uintp(t > 0)
            fall, rise = frames[SPREAD, t], 0.0
            if fall == np.inf:
                _read_logs(emitted, rows)
                emitted, shifts, fall = rows[EMITTED], rows[SHIFTS], 0.0
            _renew(before, old, skips, emitted, shifts, scale, numbers, exponents[segment])
            if _fill(skips, numbers, exponents[segment]):
                rise = np.inf
            step = _couple(rows, exponents[segment])
        frames[SEGMENT, t] = segment
        before, old = numbers, exponents[segment]
    blank, i = _separate(before[0, num_labels], old[0, num_labels])
    label, j = _separate(before[1, num_labels], old[1, num_labels])
    whole = max(i, j)
    ends = blank * _power(i - whole) + label * _power(j - whole)
    if ends == 0.0:
        return -np.inf
    for row in range(2):
        rows[BETAS + row, num_labels] = _power(old[row, num_labels] - whole) / ends
    return math.log(ends) + (norms + whole) * LN_2


@helper()
def _cross(left, shifts, skips, columns, after, before, betas):
    """Write β of a segment's last frame from what has left the states of the next segment's first frame.

    `before` and `after` are the exponents of both segments. Arrays have rows of blanks and labels (2, W); `columns` are
    the first one and the one after the last.
    """
    for s in range(columns[0], columns[1]):
        i, j, k = after[0, s] - shifts[0], after[1, s] - shifts[s], after[1, s + ONE] - shifts[s + ONE]
        step, skip = left[1, s + ONE] * _power(before[0, s] - k), left[1, s + ONE] * _power(before[1, s] - k)
        skip = skip if skips[s + ONE] > 0.0 else 0.0
        betas[0, s] = left[0, s] * _power(before[0, s] - i) + step
        betas[1, s] = left[1, s] * _power(before[1, s] - j) + left[0, s] * _power(before[1, s] - i) + skip


@njit(cache=True, fastmath=VECTORS, **INNER, _nrt=False)
def backward(memory):
    """Replace α by the posteriors of the states (terms of eq. 14), times TOTAL, which is 1 but for rounding.

    β (eq. 10–11) runs along and does not include its own frame. Only columns from FIRST up to STOP of a frame are
    written, as all other posteriors are negligible. Column 0 of the labels gets the sum of all blanks.
    """
    emissions, frames, rows, alphas, exponents = memory
    to_blank, to_label, to_next = rows[TO_BLANK], rows[TO_LABEL], rows[TO_NEXT]
    beta_blanks, beta_labels, stayed, left = rows[BETAS], rows[BETAS + 1], rows[LEFT], rows[LEFT + 1]
    num_frames, first, stop = np.uintp(len(emissions)), ZERO, np.uintp(rows.shape[1]) - ONE
    for after in range(ZERO, num_frames):
        t = num_frames - ONE - after
        blanks, labels, emitted, shifts = alphas[t, 0], alphas[t, 1], emissions[t], rows[ZEROS]
        if frames[SPREAD, t] == np.inf:
            _read_logs(emitted, rows)
            emitted, shifts = rows[EMITTED], rows[SHIFTS]
        scale, sum_blanks, sum_labels = _power(-frames[NORM, t]), 0.0, 0.0
        blank_prob = emitted[0] * scale
        for s in range(first, stop):
            posterior, onward = blanks[s] * beta_blanks[s], beta_blanks[s] * blank_prob
            stayed[s] = onward if posterior > NEGLIGIBLE else 0.0
            posterior = posterior if posterior > NEGLIGIBLE else 0.0  # 0 times infinity, too
            blanks[s] = posterior
            sum_blanks += posterior
        for s in range(first, stop):
            posterior, onward = labels[s] * beta_labels[s], beta_labels[s] * (emitted[s] * scale)
            left[s] = onward if posterior > NEGLIGIBLE else 0.0
            posterior = posterior if posterior > NEGLIGIBLE else 0.0
            labels[s] = posterior
            sum_labels += posterior
        while first < stop and blanks[first] == 0.0 and labels[first] == 0.0:
            first += ONE
        while first < stop and blanks[stop - ONE] == 0.0 and labels[stop - ONE] == 0.0:
            stop -= ONE
        labels[0] = sum_blanks
        frames[FIRST, t], frames[STOP, t], frames[TOTAL, t] = first, stop, sum_blanks + sum_labels
        if t == 0:
            return
        low = max(first, ONE) - ONE
        if low < first:
            stayed[low], left[low] = 0.0, 0.0
        left[stop] = 0.0
        segment, old = np.uintp(frames[SEGMENT, t]), np.uintp(frames[SEGMENT, t - ONE])
        if segment == old:
            for s in range(low, stop):
                beta_labels[s] = left[s] + to_blank[s] * stayed[s] + to_next[s + ONE] * left[s + ONE]
                beta_blanks[s] = stayed[s] + to_label[s + ONE] * left[s + ONE]
        else:
            both, betas = rows[LEFT : LEFT + 2], rows[BETAS : BETAS + 2]
            _cross(both, shifts, rows[SKIPS], (low, stop), exponents[segment], exponents[old], betas)
            _couple(rows, exponents[old])
        first = low


@njit(cache=True, nogil=True)
def state_posteriors(logs, symbols, work):
    """Return ln p(l|x), −inf without a path, and the posteriors of the states (T, 2, W), which lie in the workspace.

    `symbols` (L + 1,) are the blank, then the labels; `logs` (T, L + 1) are the logarithms of their emissions.
    """
    num_frames, end = logs.shape
    memory = divide(work, num_frames, end + 1)
    emissions, frames, rows, states, _ = memory
    write_skips(symbols, rows)
    peaks = 0.0
    for t in range(num_frames):
        peak, least = -np.inf, 1.0
        for s in range(end):
            peak = max(peak, logs[t, s])
        peak = peak if peak > -np.inf else 0.0
        for s in range(end):
            emissions[t, s] = math.exp(logs[t, s] - peak)
            least = min(least, emissions[t, s])
        frames[NORM, t], frames[SPREAD, t] = measure(np.float64(least).view(np.int64) >> 52, 1023)
        for s in range(end if frames[SPREAD, t] == np.inf else 0):
            emissions[t, s] = logs[t, s] - peak
        peaks += peak
    total = forward(memory)
    if total == -np.inf:
        return total, states
    backward(memory)
    for t in range(num_frames):
        for row in range(2):
            for s in range(end):
                is_any = frames[FIRST, t] <= s < frames[STOP, t]
                states[t, row, s] = states[t, row, s] / frames[TOTAL, t] if is_any else 0.0
        states[t, 1, 0] = 0.0
    return total + peaks, states
