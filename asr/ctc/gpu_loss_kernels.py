"""The CTC loss and its gradient in Triton: what `asr.ctc.loss_kernels` and `asr.ctc.sum_kernels` do, on a GPU.

Emissions and the gradient are computed for all frames at once. The recursions run frame by frame, an utterance in two
programs at once: α from the first frame to the middle and β from the last frame to the middle, whose rows are kept,
and then, in a second launch, each goes on through the rows that the other has left, which become posteriors. So a
loss takes as long as T frames one after another, not 2T, and keeps one row a frame.

Every number is a mantissa and an exponent (`asr.ctc.gpu_numbers`). Nothing depends on the other utterances of a batch:
sums over a block are sums of integers.

Letters: T frames, B utterances, C classes, L labels of the longest target, W ≥ L + 1 a power of two.
"""

import triton
import triton.language as tl

from asr.ctc.gpu_numbers import LEAST, MOST, NOTHING, UNIT, VARYING, add, normalise, power, whole_units

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=VARYING)
def emit(
    logits, strides_t, strides_b, strides_c, num_classes, num_frames, lengths, labels, symbols, symbol_stride,
    log_weights, norms, sums, mantissas, exponents, width, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the log of Σ exp(logits) of each frame to sums (B, T), and the emissions of the symbols (B, T, width).

    An emission is the softmax of a symbol times the weight of its class. It is divided by 2^norm, norms (B, T), whose
    exponent is the greatest of the frame. Beyond an utterance's length, sums and norms are 0.
    """
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    place = b * num_frames + t
    if t >= tl.load(lengths + b):
        tl.store(sums + place, tl.zeros([], tl.float64))
        tl.store(norms + place, tl.zeros([], tl.float64))
    else:
        kind: tl.constexpr = mantissas.dtype.element_ty
        row, columns = logits + t * strides_t + b * strides_b, tl.arange(0, BLOCK)
        peaks = tl.full([BLOCK], float("-inf"), kind)
        for start in range(0, num_classes, BLOCK):
            is_one = start + columns < num_classes
            peaks = tl.maximum(peaks, tl.load(row + (start + columns) * strides_c, is_one, float("-inf")).to(kind))
        peak = tl.max(peaks, 0)
        totals = tl.zeros([BLOCK], tl.float64)
        for start in range(0, num_classes, BLOCK):
            is_one = start + columns < num_classes
            values = tl.load(row + (start + columns) * strides_c, is_one, float("-inf")).to(kind)
            totals += tl.exp(values - peak).to(tl.float64)
        log_sum = peak.to(tl.float64) + tl.log(tl.sum(totals, 0))
        lanes = tl.arange(0, W)
        is_symbol = lanes <= tl.load(labels + b)
        classes = tl.load(symbols + b * symbol_stride + lanes, is_symbol, 0)
        values = tl.load(row + classes * strides_c, is_symbol, float("-inf")).to(tl.float64)
        logs = (values - log_sum + tl.load(log_weights + classes, is_symbol, 0.0)) * LOG2_E
        wholes = tl.floor(logs)
        greatest = tl.max(tl.where(wholes == wholes, wholes, float("-inf")), 0)  # NaN is found in `sums`
        norm = tl.where(greatest > float("-inf"), greatest, 0.0)
        is_some = wholes - norm > LEAST
        rest = tl.where(is_some, logs - wholes, 0.0).to(kind)
        tl.store(sums + place, log_sum)
        tl.store(norms + place, norm)
        tl.store(mantissas + place * width + lanes, tl.where(is_some, tl.exp2(rest), 0.0), is_symbol)
        whole = tl.where(is_some, wholes - norm, 0.0).to(tl.int32)
        tl.store(exponents + place * width + lanes, tl.where(is_some, whole, NOTHING), is_symbol)


@triton.jit
def _read(mantissas, exponents, row, lanes, is_one):
    """Return a row of numbers."""
    return tl.load(mantissas + row + lanes, is_one, 0.0), tl.load(exponents + row + lanes, is_one, NOTHING)


@triton.jit
def _write(mantissas, exponents, row, lanes, is_one, m, e):
    """Write a row of numbers."""
    tl.store(mantissas + row + lanes, m, is_one)
    tl.store(exponents + row + lanes, e, is_one)


@triton.jit
def _shift(m, e, sources, is_one):
    """Return the numbers of neighbours, zero where there is none."""
    return tl.where(is_one, tl.gather(m, sources, 0), 0.0), tl.where(is_one, tl.gather(e, sources, 0), NOTHING)


@triton.jit
def _meet(bm, be, lm, le, cm, ce, dm, de):
    """Return Σ α β over blanks and labels as an integer of 2^-40, and its exponent."""
    ends, others = tl.where(bm * cm > 0, be + ce, 2 * NOTHING), tl.where(lm * dm > 0, le + de, 2 * NOTHING)
    top = tl.maximum(tl.max(ends, 0), tl.max(others, 0))
    units = whole_units(bm * cm * power(ends - top, bm)) + whole_units(lm * dm * power(others - top, lm))
    return tl.sum(units, 0), top


@triton.jit
def _write_posteriors(place, row, width, lanes, is_one, whole, bm, be, lm, le, cm, ce, dm, de):
    """Write α β of blanks and labels divided by 2^whole."""
    tl.store(place + row + lanes, bm * cm * power(tl.minimum(be + ce - whole, MOST), bm), is_one)
    tl.store(place + row + width + lanes, lm * dm * power(tl.minimum(le + de - whole, MOST), lm), is_one)


@triton.jit(do_not_specialize=VARYING)
def walk(
    frames, labels, symbols, mantissas, exponents, num_frames, width, row_mantissas, row_exponents,
    kept_mantissas, kept_exponents, total_units, total_exponents, IS_SECOND: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Do half of the recursions of an utterance: α in program (b, 0), β in program (b, 1).

    The first launch writes rows (B, T, 2, width) of blanks and labels, α of the first half of the frames and β of the
    second, and keeps (B, 2, 2, width) the last row of each. The second launch replaces rows by posteriors, times a
    number that differs from one half to the other; the first program writes p(labels) as a total (B,).
    """
    kind: tl.constexpr = mantissas.dtype.element_ty
    b = tl.program_id(0).to(tl.int64)
    length, num_labels = tl.load(frames + b), tl.load(labels + b)
    half, lanes = length // 2, tl.arange(0, W)
    inside = lanes <= num_labels
    symbol = tl.load(symbols + b * width + lanes, inside, -1)
    may_skip = (lanes > 0) & (symbol != tl.load(symbols + b * width + lanes + 1, lanes < num_labels, -1))
    emitted, rows = b * num_frames * width, b * num_frames * 2 * width
    kept = (2 * b + tl.program_id(1)) * 2 * width
    is_label = inside & (lanes > 0)
    whole = tl.full([], 0, tl.int32)
    if tl.program_id(1) == 0:
        if IS_SECOND:
            start, stop = half, length
            bm, be = _read(kept_mantissas, kept_exponents, kept, lanes, inside)
            lm, le = _read(kept_mantissas, kept_exponents, kept + width, lanes, inside)
        else:
            start, stop = half * 0, half
            bm = tl.where(lanes == 0, 1.0, 0.0).to(kind)  # as if paths came to the first frame from a blank
            be = tl.where(lanes == 0, 0, NOTHING)
            lm, le = tl.zeros([W], kind), tl.full([W], NOTHING, tl.int32)
        before = tl.maximum(lanes - 1, 0)
        for t in range(start, stop):
            y, row = emitted + t * width, rows + t * 2 * width
            zm, ze = tl.load(mantissas + y), tl.load(exponents + y)
            ym, ye = _read(mantissas, exponents, y, lanes, is_label)
            if IS_SECOND:
                cm, ce = _read(row_mantissas, row_exponents, row, lanes, inside)
                dm, de = _read(row_mantissas, row_exponents, row + width, lanes, inside)
            bothm, bothe = add(bm, be, lm, le)
            cames, camee = tl.where(may_skip, bothm, bm), tl.where(may_skip, bothe, be)
            cames, camee = _shift(cames, camee, before, lanes > 0)
            cames, camee = add(lm, le, cames, camee)
            bm, be = normalise(bothm * zm, bothe + ze)
            lm, le = normalise(cames * ym, camee + ye)
            if IS_SECOND:
                if t == start:
                    units, whole = _meet(bm, be, lm, le, cm, ce, dm, de)
                    tl.store(total_units + b, units)
                    tl.store(total_exponents + b, whole)
                _write_posteriors(row_mantissas, row, width, lanes, inside, whole, bm, be, lm, le, cm, ce, dm, de)
            else:
                _write(row_mantissas, row_exponents, row, lanes, inside, bm, be)
                _write(row_mantissas, row_exponents, row + width, lanes, inside, lm, le)
    else:
        if IS_SECOND:
            steps, last = half, half - 1
            bm, be = _read(kept_mantissas, kept_exponents, kept, lanes, inside)
            lm, le = _read(kept_mantissas, kept_exponents, kept + width, lanes, inside)
        else:
            steps, last = tl.maximum(length - half - 1, 0), length - 2
            bm = tl.where(lanes == num_labels, 1.0, 0.0).to(kind)
            be = tl.where(lanes == num_labels, 0, NOTHING)
            lm = tl.where((lanes == num_labels) & (lanes > 0), 1.0, 0.0).to(kind)
            le = tl.where((lanes == num_labels) & (lanes > 0), 0, NOTHING)
            row = rows + (length - 1) * 2 * width
            _write(row_mantissas, row_exponents, row, lanes, inside & (length > 0), bm, be)
            _write(row_mantissas, row_exponents, row + width, lanes, inside & (length > 0), lm, le)
        after = tl.minimum(lanes + 1, W - 1)
        for i in range(0, steps):
            t = last - i
            y, row = emitted + (t + 1) * width, rows + t * 2 * width
            zm, ze = tl.load(mantissas + y), tl.load(exponents + y)
            ym, ye = _read(mantissas, exponents, y, lanes, is_label)
            if IS_SECOND:
                cm, ce = _read(row_mantissas, row_exponents, row, lanes, inside)
                dm, de = _read(row_mantissas, row_exponents, row + width, lanes, inside)
            bm, be = normalise(bm * zm, be + ze)
            lm, le = normalise(lm * ym, le + ye)
            nextm, nexte = _shift(lm, le, after, lanes < W - 1)
            bothm, bothe = add(bm, be, nextm, nexte)
            lm, le = add(lm, le, tl.where(may_skip, bothm, bm), tl.where(may_skip, bothe, be))
            bm, be = normalise(bothm, bothe)
            lm, le = normalise(tl.where(lanes > 0, lm, 0.0), le)
            if IS_SECOND:
                if i == 0:
                    units, whole = _meet(bm, be, lm, le, cm, ce, dm, de)
                _write_posteriors(row_mantissas, row, width, lanes, inside, whole, bm, be, lm, le, cm, ce, dm, de)
            else:
                _write(row_mantissas, row_exponents, row, lanes, inside, bm, be)
                _write(row_mantissas, row_exponents, row + width, lanes, inside, lm, le)
    if not IS_SECOND:
        _write(kept_mantissas, kept_exponents, kept, lanes, inside, bm, be)
        _write(kept_mantissas, kept_exponents, kept + width, lanes, inside, lm, le)


@triton.jit(do_not_specialize=VARYING)
def write_gradient(
    logits, strides_t, strides_b, strides_c, grads, grad_t, grad_b, grad_c, num_classes, num_frames, lengths, labels,
    symbols, losses, scales, sums, posteriors, width, classes, starts, positions, used,
    W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write scale × (softmax − posterior) of each class to grads (T, B, C).

    The `used` classes of a target's labels are given, with the place in `positions` at which the labels of each start.
    """
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, grad = logits + t * strides_t + b * strides_b, grads + t * grad_t + b * grad_b
    kind: tl.constexpr = grads.dtype.element_ty
    loss, columns = tl.load(losses + b), tl.arange(0, BLOCK)
    if (t >= tl.load(lengths + b)) | (loss == float("inf")):
        for start in range(0, num_classes, BLOCK):
            tl.store(grad + (start + columns) * grad_c, tl.zeros([BLOCK], kind), start + columns < num_classes)
    else:
        log_sum = tl.load(sums + b * num_frames + t)
        scale = tl.where(loss == loss, tl.load(scales + b), float("nan"))
        for start in range(0, num_classes, BLOCK):
            is_one = start + columns < num_classes
            values = tl.load(row + (start + columns) * strides_c, is_one, 0.0).to(tl.float64)
            softmax = tl.exp((values - log_sum).to(kind)) * scale.to(kind)
            tl.store(grad + (start + columns) * grad_c, softmax, is_one)
        tl.debug_barrier()  # some are written again
        lanes, num_labels = tl.arange(0, W), tl.load(labels + b)
        place = posteriors + (b * num_frames + t) * 2 * width
        blank = tl.sum(whole_units(tl.load(place + lanes, lanes <= num_labels, 0.0)), 0)
        total = blank + tl.sum(whole_units(tl.load(place + width + lanes, lanes <= num_labels, 0.0)), 0)
        share = 1.0 / total.to(tl.float64)
        symbol = tl.load(symbols + b * width)
        softmax = tl.exp((tl.load(row + symbol * strides_c).to(tl.float64) - log_sum).to(kind))
        tl.store(grad + symbol * grad_c, (scale * (softmax - blank.to(tl.float64) * share)).to(kind))
        is_class = lanes < tl.load(used + b)
        symbols_here = tl.load(classes + b * width + lanes, is_class, 0)
        first = tl.load(starts + b * width + lanes, is_class, 0)
        count = tl.load(starts + b * width + lanes + 1, is_class, 0) - first
        sum_here = tl.zeros([W], tl.float64)
        for i in range(0, tl.max(count, 0)):
            label = tl.load(positions + b * width + first + i, i < count, 0)
            sum_here += tl.load(place + width + label, i < count, 0.0).to(tl.float64)
        values = tl.load(row + symbols_here * strides_c, is_class, 0.0).to(tl.float64)
        softmax = tl.exp((values - log_sum).to(kind)).to(tl.float64)
        tl.store(grad + symbols_here * grad_c, (scale * (softmax - sum_here * share * UNIT)).to(kind), is_class)
