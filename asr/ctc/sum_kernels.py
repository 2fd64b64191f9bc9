"""Sums over all CTC paths in Numba: forward-backward (Graves et al. 2006, section 4.1) with an exponent for each state.

The 2L + 1 states of an utterance are kept in two rows, so that a frame's recursion runs over whole vectors. Row 0 holds
the blanks: column s is the blank after label s, s = 0 … L. Row 1 holds the labels: column s is label s, s = 1 … L, and
columns 0 and L + 1 are 0.

Probabilities of an utterance's states span far more than float64 does, even in one frame. So a state has an exponent of
its own, and α of a state is its value times 2^exponent. The exponents are constant during a *segment* of frames. In it
a step of the recursion costs a product with 2^(difference of two exponents), a constant too, and no more. A segment
ends before a value can have left the range of float64. Its values are then separated into mantissas and exponents, and
the exponents of the next segment are those of the sums. So all that is lost is negligible in the state that loses it.

Letters: T frames, L labels, W = L + 2 columns. The tuple `memory` is what `divide` returns.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

# Vector code may reorder sums and fuse products with sums; NaN and infinity keep their meaning.
VECTORS = {"reassoc", "nsz", "contract"}

# Binary digits by which values may fall and rise in a segment.
FALL, RISE = 480.0, 456.0
NOTHING = -1e300  # the exponent of 0
NEGLIGIBLE = 1e-60  # a state's posterior, below which β is not followed
LN_2, LN_2_HIGH, LN_2_LOW = math.log(2), 6.93147180369123816490e-01, 1.90821492927058770002e-10

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)

# Rows of one number a column (W,). They lie in the workspace, as all does that vectors go over: whether LLVM's code
# takes them, and so the order of a sum, depends on how far from each other arrays lie: it must be the same each time.
SKIPS, TO_BLANK, TO_LABEL, TO_NEXT = range(4)  # TO_…: factors of the steps to a state, 0 where none leads
EMITTED, SHIFTS = 4, 5
BETAS, LEFT, WHOLES = range(6, 12, 2)  # two rows each
ROWS = 12
NORM, SPREAD, SEGMENT, FIRST, STOP, TOTAL = range(6)  # rows of one number a frame (T,)
FRAME_ROWS = 6


@njit(cache=True)
def workspace_size(num_frames, width):
    """Return how many float64 the memory of an utterance takes: less, the fewer the segments, is ever touched."""
    return (5 * num_frames + ROWS) * width + FRAME_ROWS * num_frames


@njit(cache=True)
def divide(work, num_frames, width):
    """Return the parts of a workspace.

    They are the emissions (T, W), the frames' spreads, norms and segments (3, T), rows (ROWS, W), α (T, 2, W) and the
    exponents of segments (at most T, 2, W).
    """
    size, first = num_frames * width, ROWS * width
    rows, work = work[:first].reshape(ROWS, width), work[first:]
    emissions, work = work[:size].reshape(num_frames, width), work[size:]
    alphas, work = work[: 2 * size].reshape(num_frames, 2, width), work[2 * size :]
    exponents, work = work[: 2 * size].reshape(num_frames, 2, width), work[2 * size :]
    return emissions, work[: FRAME_ROWS * num_frames].reshape(FRAME_ROWS, num_frames), rows, alphas, exponents


@helper()
def _power(n):
    """Return 2ⁿ for an integer n in ±1022, 0 below, and 2^1023 above."""
    n = -1023.0 if n < -1023.0 else n
    n = 1023.0 if n > 1023.0 else n
    return np.int64((np.float64(n + 6755399441055744.0).view(np.int64) + 1023) << 52).view(np.float64)


@njit(cache=True)
def measure(least, greatest):
    """Return norm n and spread of a frame, whose emissions lie in [2^(n − spread), 2ⁿ); 0 and ∞ if that is not known.

    It is not where an emission is 0 or may have lost digits, or where the spread is too great for a segment. Logarithms
    are then to be given in place of the frame's emissions. `least` and `greatest` are the exponents' bits.
    """
    if least < 23 or greatest - least + 1 > FALL:
        return 0.0, np.inf
    return greatest - 1022.0, greatest - least + 1.0


@helper()
def _read_logs(logs, rows):
    """Write numbers in [½, 1] to EMITTED, and to SHIFTS their exponents, from logarithms (W,)."""
    for s in range(np.uintp(len(logs)) - ONE):
        shift = math.ceil(logs[s] / LN_2) if logs[s] > NOTHING else 0.0
        rows[EMITTED, s] = math.exp((logs[s] - shift * LN_2_HIGH) - shift * LN_2_LOW)
        rows[SHIFTS, s] = shift


@helper()
def _separate(values, exponents, mantissas, wholes):
    """Write each of the states (2, W) as a mantissa in [1, 2) and an exponent; 0 as 0 and NOTHING."""
    bits = values.view(np.int64)
    for row in range(2):
        for s in range(np.uintp(values.shape[1])):
            field = bits[row, s] >> 52
            mantissas[row, s] = values[row, s] * np.int64((2046 - field) << 52).view(np.float64)
            exponent = np.int64(field | 0x4330000000000000).view(np.float64) - 4503599627371519.0  # 2⁵² + 1023
            wholes[row, s] = exponents[row, s] + exponent if values[row, s] != 0.0 else NOTHING


@helper()
def _join(mantissas, wholes, skips, values, exponents):
    """Add up what comes to each state from mantissas and exponents (2, W), with the greatest of its exponents."""
    end = np.uintp(len(skips)) - ONE
    for s in range(ZERO, end):
        i, j = wholes[0, s], wholes[1, s]
        top = i if i > j else j
        values[0, s] = mantissas[0, s] * _power(i - top) + mantissas[1, s] * _power(j - top)
        exponents[0, s] = top
    for s in range(ONE, end):
        i, j, k = wholes[1, s], wholes[0, s - ONE], wholes[1, s - ONE]
        k = k if skips[s] > 0.0 else NOTHING
        top = i if i > j else j
        top = top if top > k else k
        came = mantissas[0, s - ONE] * _power(j - top) + skips[s] * mantissas[1, s - ONE] * _power(k - top)
        values[1, s] = mantissas[1, s] * _power(i - top) + came
        exponents[1, s] = top
    for row, s in ((0, end), (1, ZERO), (1, end)):
        values[row, s], exponents[row, s] = 0.0, NOTHING


@helper()
def _fill(skips, values, exponents):
    """Give each state that is 0 the greatest exponent of what may come to it; return whether any lies between others.

    Those behind the others are 0 because no path has come so far yet: paths will come from a state that is not 0, or
    after other paths. It is otherwise where an emission is 0: the exponents must be chosen anew in each frame.
    """
    some, gap, between = False, False, False
    for s in range(ZERO, np.uintp(len(skips)) - ONE):
        if s > 0:
            if values[1, s] != 0.0:
                some, between = True, between or gap
            else:
                gap = some
                exponents[1, s] = max(exponents[0, s - ONE], exponents[1, s - ONE] if skips[s] > 0.0 else NOTHING)
        if values[0, s] != 0.0:
            some, between = True, between or gap
        else:
            gap = some
            exponents[0, s] = exponents[1, s]
    return between


@helper()
def _couple(rows, exponents):
    """Write the factors of steps between states with their exponents (2, W); return the greatest one's exponent."""
    end, top = np.uintp(exponents.shape[1]) - ONE, np.int64(0)
    for s in range(ZERO, end):
        factor = _power(exponents[1, s] - exponents[0, s])
        rows[TO_BLANK, s] = factor
        top = max(top, np.float64(factor).view(np.int64))
    for s in range(ONE, end):
        step, skip = _power(exponents[0, s - ONE] - exponents[1, s]), _power(exponents[1, s - ONE] - exponents[1, s])
        skip = skip if rows[SKIPS, s] > 0.0 else 0.0
        rows[TO_LABEL, s], rows[TO_NEXT, s] = step, skip
        top = max(top, max(np.float64(step).view(np.int64), np.float64(skip).view(np.int64)))
    return (top >> 52) - 1023


@njit(cache=True, fastmath=VECTORS)
def _forward(memory):
    """Write α (eq. 6–8) and exponents; return ln p(l|x), and its exponent without the norms."""
    emissions, frames, rows, alphas, exponents = memory
    skips, to_blank, to_label, to_next = rows[SKIPS], rows[TO_BLANK], rows[TO_LABEL], rows[TO_NEXT]
    mantissas, wholes = rows[LEFT : LEFT + 2], rows[WHOLES : WHOLES + 2]
    num_frames, end = np.uintp(len(emissions)), np.uintp(len(skips)) - ONE
    num_labels, segment, norms = end - ONE, ZERO, 0.0
    for s in range(ZERO, end + ONE):
        for row in range(2):
            alphas[0, row, s], exponents[0, row, s] = 0.0, NOTHING
        for row in (TO_BLANK, TO_LABEL, TO_NEXT):
            rows[row, s] = 0.0
    for row in range(2 if num_labels > 0 else 1):
        alphas[0, row, row], exponents[0, row, row] = 1.0, 0.0
    fall, rise, step = np.inf, 0.0, 0.0
    for t in range(ZERO, num_frames):
        fall, rise, norms = fall + frames[SPREAD, t], rise + step, norms + frames[NORM, t]
        emitted, scale = emissions[t], _power(-frames[NORM, t])
        if frames[SPREAD, t] == np.inf:
            _read_logs(emitted, rows)
            emitted = rows[EMITTED]
        if fall < FALL and rise < RISE:
            before, blanks, labels, blank_prob = alphas[t - ONE], alphas[t, 0], alphas[t, 1], emitted[0] * scale
            first = max(num_labels + t + ONE, num_frames) - num_frames  # states before this label cannot end in time
            for s in range(ZERO, first):
                blanks[s], labels[s] = 0.0, 0.0
            for s in range(first, end):
                blanks[s] = (before[0, s] + to_blank[s] * before[1, s]) * blank_prob
            labels[0], blanks[end], labels[end] = 0.0, 0.0, 0.0
            for s in range(max(first, ONE), end):
                came = to_label[s] * before[0, s - ONE] + to_next[s] * before[1, s - ONE]
                labels[s] = (before[1, s] + came) * (emitted[s] * scale)
        else:
            if t > 0:
                _separate(alphas[t - ONE], exponents[segment], mantissas, wholes)
                segment += ONE
                _join(mantissas, wholes, skips, alphas[t], exponents[segment])
            values, wholes_here = alphas[t], exponents[segment]
            for s in range(ZERO, end):
                values[0, s] *= emitted[0] * scale
                values[1, s] *= emitted[s] * scale
            if frames[SPREAD, t] == np.inf:
                for s in range(ZERO, end):
                    wholes_here[0, s] += rows[SHIFTS, 0]
                    wholes_here[1, s] += rows[SHIFTS, s]
            zeros = 0
            for s in range(ONE, end):
                zeros += np.int64(values[0, s] == 0.0) + np.int64(values[1, s] == 0.0)
            between = (zeros > 0 or values[0, 0] == 0.0) and _fill(skips, values, wholes_here)
            step = max(_couple(rows, wholes_here), 0) + 2.0  # three are added: less than 2² × the greatest
            fall, rise = frames[SPREAD, t] if frames[SPREAD, t] < np.inf else 0.0, np.inf if between else 0.0
        frames[SEGMENT, t] = segment
    blank, label = alphas[num_frames - ONE, 0, num_labels], alphas[num_frames - ONE, 1, num_labels]
    i, j = exponents[segment, 0, num_labels], exponents[segment, 1, num_labels]
    top = max(i, j)
    total = blank * _power(i - top) + label * _power(j - top)
    betas = rows[BETAS : BETAS + 2]
    for row in range(2):
        for s in range(ZERO, end + ONE):
            betas[row, s] = 0.0
    betas[0, num_labels], betas[1, num_labels] = _power(i - top) / total, _power(j - top) / total
    return math.log(total) + (norms + top) * LN_2 if total != 0.0 else -np.inf


@helper()
def _cross(memory, t, low, stop):
    """Write β of frame t − 1, the last of a segment, from LEFT in frame t."""
    _, frames, rows, _, exponents = memory
    before, after = exponents[np.uintp(frames[SEGMENT, t - ONE])], exponents[np.uintp(frames[SEGMENT, t])]
    skips, wholes, left, betas = rows[SKIPS], rows[WHOLES : WHOLES + 2], rows[LEFT : LEFT + 2], rows[BETAS : BETAS + 2]
    for row in range(2):
        for s in range(low, stop):
            wholes[row, s] = after[row, s]
        wholes[row, stop] = NOTHING
    if frames[SPREAD, t] == np.inf:
        for s in range(low, stop):
            wholes[0, s] -= rows[SHIFTS, 0]
            wholes[1, s] -= rows[SHIFTS, s]
    for s in range(low, stop):
        i, j, k = wholes[0, s], wholes[1, s], wholes[1, s + ONE]
        step = left[1, s + ONE] * _power(before[0, s] - k)
        skip = left[1, s + ONE] * _power(before[1, s] - k)
        skip = skip if skips[s + ONE] > 0.0 else 0.0
        betas[0, s] = left[0, s] * _power(before[0, s] - i) + step
        betas[1, s] = left[1, s] * _power(before[1, s] - j) + left[0, s] * _power(before[1, s] - i) + skip


@njit(cache=True, fastmath=VECTORS, _nrt=False)
def _backward(memory):
    """Replace α by the states' posteriors (terms of eq. 14), from α and a running β (eq. 10–11, without its own frame).

    Only columns from FIRST up to STOP of a frame are written: in the others they are negligible. TOTAL is their sum, and
    column 0 of the labels holds that of all blanks.
    """
    emissions, frames, rows, alphas, exponents = memory
    to_blank, to_label, to_next = rows[TO_BLANK], rows[TO_LABEL], rows[TO_NEXT]
    beta_blanks, beta_labels, stayed, left = rows[BETAS], rows[BETAS + 1], rows[LEFT], rows[LEFT + 1]
    num_frames = np.uintp(len(emissions))
    first, stop = ZERO, np.uintp(rows.shape[1]) - ONE
    for back in range(ONE, num_frames + ONE):
        t = num_frames - back
        blanks, labels, emitted = alphas[t, 0], alphas[t, 1], emissions[t]
        if frames[SPREAD, t] == np.inf:
            _read_logs(emitted, rows)
            emitted = rows[EMITTED]
        scale = _power(-frames[NORM, t])
        blank_prob = emitted[0] * scale
        sum_blanks, sum_labels = 0.0, 0.0
        for s in range(first, stop):
            posterior, onward = blanks[s] * beta_blanks[s], beta_blanks[s] * blank_prob
            onward = onward if posterior > NEGLIGIBLE else 0.0
            posterior = posterior if posterior > NEGLIGIBLE else 0.0
            blanks[s], stayed[s] = posterior, onward
            sum_blanks += posterior
        for s in range(first, stop):
            posterior, onward = labels[s] * beta_labels[s], beta_labels[s] * (emitted[s] * scale)
            onward = onward if posterior > NEGLIGIBLE else 0.0
            posterior = posterior if posterior > NEGLIGIBLE else 0.0
            labels[s], left[s] = posterior, onward
            sum_labels += posterior
        while first < stop and blanks[first] == 0.0 and labels[first] == 0.0:
            first += ONE
        while first < stop and blanks[stop - ONE] == 0.0 and labels[stop - ONE] == 0.0:
            stop -= ONE
        labels[0] = sum_blanks
        frames[FIRST, t], frames[STOP, t], frames[TOTAL, t] = first, stop, sum_blanks + sum_labels
        if t == 0:
            return
        left[stop] = 0.0
        low = max(first, ONE) - ONE
        if low < first:
            stayed[low], left[low] = 0.0, 0.0
        if frames[SEGMENT, t] != frames[SEGMENT, t - ONE]:
            _cross(memory, t, low, stop)
            _couple(rows, exponents[np.uintp(frames[SEGMENT, t - ONE])])
        else:
            for s in range(low, stop):
                beta_labels[s] = left[s] + to_blank[s] * stayed[s] + to_next[s + ONE] * left[s + ONE]
                beta_blanks[s] = stayed[s] + to_label[s + ONE] * left[s + ONE]
        first = low


@njit(cache=True, nogil=True)
def sum_paths(memory):
    """Return ln p(l|x), NaN where an emission is, and replace α by the states' posteriors unless there is no path.

    Emissions, SPREAD and SKIPS are given. See `_backward`.
    """
    total = _forward(memory)
    if total > -np.inf:
        _backward(memory)
    return total


@njit(cache=True, nogil=True)
def state_posteriors(log_emissions, skips, work):
    """Return ln p(l|x), −inf without a path, and the posteriors of the states (T, 2, W), from logarithms (T, W)."""
    num_frames, width = log_emissions.shape
    memory = divide(work, num_frames, width)
    emissions, frames, rows, alphas, _ = memory
    peaks = 0.0
    for s in range(width):
        rows[SKIPS, s] = skips[s]
    for t in range(num_frames):
        peak, lowest = -np.inf, 1.0
        for s in range(width - 1):
            peak = max(peak, log_emissions[t, s])
        peak = peak if peak > -np.inf else 0.0
        for s in range(width - 1):
            emissions[t, s] = math.exp(log_emissions[t, s] - peak)
            lowest = min(lowest, emissions[t, s])
        emissions[t, width - 1] = 0.0
        frames[NORM, t], frames[SPREAD, t] = measure(np.float64(lowest).view(np.int64) >> 52, 1023)
        if frames[SPREAD, t] == np.inf:
            for s in range(width - 1):
                emissions[t, s] = log_emissions[t, s] - peak
        peaks += peak
    total = sum_paths(memory)
    for t in range(num_frames):
        share, first, stop = 1 / frames[TOTAL, t], frames[FIRST, t], frames[STOP, t]
        for row in range(2):
            for s in range(width):
                alphas[t, row, s] = alphas[t, row, s] * share if first <= s < stop else 0.0
        alphas[t, 1, 0] = 0.0
    return total + peaks, alphas
