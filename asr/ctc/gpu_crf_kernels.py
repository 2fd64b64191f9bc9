"""The sum over all label sequences in Triton: what `asr.ctc.crf_kernels` does, on a GPU.

The recursions of an utterance run in two programs at once, and meet in the middle, as in `asr.ctc.gpu_loss_kernels`.
A row of 2S numbers has the blanks of all states first, then the labels. Sums over arcs go through tiles
(`asr.ctc.gpu_automaton`): R ends of arcs, with up to K arcs of each.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

import triton
import triton.language as tl

from asr.ctc.gpu_numbers import MOST, NOTHING, VARYING, add, normalise, power, whole_units

LOW_BITS = tl.constexpr(20)  # of a packed arc: the other end; the bits above are the exponent of its weight
WARPS = tl.constexpr(16)
# Arcs of a tile, and of an end in it. A thread has an end of a narrow tile of its own, and sums without the others.
TILE, WIDE, NARROW = tl.constexpr(4096), tl.constexpr(128), tl.constexpr(8)
OTHERS = tl.constexpr((1 << 20) - 1)


@triton.jit
def _read(mantissas, exponents, place, is_one):
    """Return numbers."""
    return tl.load(mantissas + place, is_one, 0.0), tl.load(exponents + place, is_one, NOTHING)


@triton.jit
def _write(mantissas, exponents, place, is_one, m, e):
    """Write numbers."""
    tl.store(mantissas + place, m, is_one)
    tl.store(exponents + place, e, is_one)


@triton.jit
def _read_node(mantissas, exponents, place, is_one):
    """Return numbers that lie where `_write_node` writes them."""
    if mantissas.dtype.element_ty == tl.int64:
        both = tl.load(mantissas + place, is_one, 0)
        return both.to(tl.int32).to(tl.float32, bitcast=True), (both >> 32).to(tl.int32)
    else:
        return _read(mantissas, exponents, place, is_one)


@triton.jit
def _write_node(mantissas, exponents, place, is_one, m, e):
    """Write numbers, those of float32 as one integer, which is read at once."""
    if mantissas.dtype.element_ty == tl.int64:
        bits = m.to(tl.int32, bitcast=True).to(tl.int64)  # with the sign 0
        tl.store(mantissas + place, (e.to(tl.int64) << 32) | bits, is_one)
    else:
        _write(mantissas, exponents, place, is_one, m, e)


@triton.jit
def _follow(packed, weights, mantissas, exponents):
    """Return the numbers at the other ends of arcs, times their weights."""
    m, e = _read_node(mantissas, exponents, packed & OTHERS, packed == packed)
    m, e = m * weights, e + (packed >> LOW_BITS)
    return m, tl.where(m > 0, e, NOTHING)


@triton.jit
def _sum_slices(
    first, stop, starts, ends, packed, weights, mantissas, exponents, summed, summed_exponents,
    ADDS: tl.constexpr, R: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Write what arrives at the ends of arcs by slices `first` up to `stop` of R ends, or add it to what is there."""
    kind: tl.constexpr = weights.dtype.element_ty
    rows = tl.arange(0, R)
    inside = rows[:, None] + R * tl.arange(0, K)[None, :]
    tile = tl.load(starts + first)
    others, factors = tl.load(packed + tile * (R * K) + inside), tl.load(weights + tile * (R * K) + inside)
    for i in range(first, stop):
        total, top = tl.zeros([R], kind), tl.full([R], NOTHING, tl.int32)
        for _ in range(tl.load(starts + i), tl.load(starts + i + 1)):
            m, e = _follow(others, factors, mantissas, exponents)
            tile += 1  # there is always one more; it is read in advance
            others, factors = tl.load(packed + tile * (R * K) + inside), tl.load(weights + tile * (R * K) + inside)
            peak = tl.max(e, 1)
            total, top = add(total, top, tl.sum(m * power(e - peak[:, None], m), 1), peak)
        end = tl.load(ends + i * (TILE // NARROW) + rows)
        if ADDS:
            n, f = _read_node(summed, summed_exponents, end, end >= 0)
            total, top = add(total, top, n, f)
        _write_node(summed, summed_exponents, end, end >= 0, total, top)


@triton.jit
def _sum_arcs(
    levels, starts, ends, packed, weights, mantissas, exponents, summed, summed_exponents, ADDS: tl.constexpr
):
    """Sum the arcs of a level: its first slices are of few ends, which have many arcs each."""
    first, wide, stop = tl.load(levels), tl.load(levels + 1), tl.load(levels + 2)
    _sum_slices(
        first, wide, starts, ends, packed, weights, mantissas, exponents, summed, summed_exponents, ADDS,
        TILE // WIDE, WIDE,
    )  # fmt: skip
    _sum_slices(
        wide, stop, starts, ends, packed, weights, mantissas, exponents, summed, summed_exponents, ADDS,
        TILE // NARROW, NARROW,
    )  # fmt: skip


@triton.jit
def _meet(alphas, alpha_exponents, betas, beta_exponents, size, BLOCK: tl.constexpr):
    """Return Σ α β over a row of numbers as an integer of 2^-40, and its exponent."""
    lanes, tops = tl.arange(0, BLOCK), tl.full([BLOCK], 2 * NOTHING, tl.int32)
    for start in range(0, size, BLOCK):
        is_one = start + lanes < size
        m, e = _read(alphas, alpha_exponents, start + lanes, is_one)
        n, f = _read(betas, beta_exponents, start + lanes, is_one)
        tops = tl.maximum(tops, tl.where(m * n > 0, e + f, 2 * NOTHING))
    top, units = tl.max(tops, 0), tl.zeros([BLOCK], tl.int64)
    for start in range(0, size, BLOCK):
        is_one = start + lanes < size
        m, e = _read(alphas, alpha_exponents, start + lanes, is_one)
        n, f = _read(betas, beta_exponents, start + lanes, is_one)
        units += whole_units(m * n * power(tl.minimum(e + f - top, 0), m))
    return tl.sum(units, 0), top


@triton.jit
def _write_posteriors(rows, row_exponents, mantissas, exponents, whole, size, BLOCK: tl.constexpr):
    """Replace a row of numbers by its products with another one, divided by 2^whole."""
    lanes = tl.arange(0, BLOCK)
    for start in range(0, size, BLOCK):
        is_one = start + lanes < size
        m, e = _read(rows, row_exponents, start + lanes, is_one)
        n, f = _read(mantissas, exponents, start + lanes, is_one)
        tl.store(rows + start + lanes, m * n * power(tl.minimum(e + f - whole, MOST), m), is_one)


@triton.jit
def _copy_row(mantissas, exponents, rows, row_exponents, size, BLOCK: tl.constexpr):
    """Copy a row of numbers."""
    lanes = tl.arange(0, BLOCK)
    for start in range(0, size, BLOCK):
        m, e = _read(mantissas, exponents, start + lanes, start + lanes < size)
        _write(rows, row_exponents, start + lanes, start + lanes < size, m, e)


@triton.jit
def _walk_forward(
    frames, emitted, emitted_exponents, num_frames, num_classes, blank, num_states, num_nodes, start_state, classes,
    num_levels, levels, link_starts, link_ends, links, link_weights,
    arc_levels, arc_starts, arc_ends, arcs, arc_weights,
    row_mantissas, row_exponents, kept_mantissas, kept_exponents, node_mantissas, node_exponents,
    total_units, total_exponents,
    IS_SECOND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do α of half of the frames."""
    kind: tl.constexpr = row_mantissas.dtype.element_ty
    b, lanes, size = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK), 2 * num_states
    length = tl.load(frames + b)
    half = length // 2
    emitted += b * num_frames * num_classes
    emitted_exponents += b * num_frames * num_classes
    row_mantissas += b * num_frames * size
    row_exponents += b * num_frames * size
    row, row_e = kept_mantissas + b * size, kept_exponents + b * size
    nodes, nodes_e = node_mantissas + b * (num_nodes + num_states), node_exponents + b * (num_nodes + num_states)
    came, came_e = nodes + num_nodes, nodes_e + num_nodes
    for start in range(0, num_nodes, BLOCK):  # those that are no states
        _write_node(
            nodes, nodes_e, start + lanes, start + lanes < num_nodes, tl.zeros([BLOCK], kind),
            tl.full([BLOCK], NOTHING, tl.int32),
        )  # fmt: skip
    tl.debug_barrier()
    for start in range(0, num_states, BLOCK):
        state, is_one = start + lanes, start + lanes < num_states
        if IS_SECOND:
            bm, be = _read(row, row_e, state, is_one)
            lm, le = _read(row, row_e, num_states + state, is_one)
        else:
            bm = tl.where(state == start_state, 1.0, 0.0).to(kind)
            be = tl.where(state == start_state, 0, NOTHING)
            lm, le = tl.zeros([BLOCK], kind), tl.full([BLOCK], NOTHING, tl.int32)
            _write(row, row_e, state, is_one, bm, be)
            _write(row, row_e, num_states + state, is_one, lm, le)
        m, e = add(bm, be, lm, le)
        _write_node(nodes, nodes_e, state, is_one, m, e)
        _write_node(nodes, nodes_e, num_states + state, is_one, bm, be)
    first, stop, whole = half * 0, half, half * 0
    if IS_SECOND:
        first, stop = half, length
    for t in range(first, stop):
        tl.debug_barrier()
        for level in range(0, num_levels):
            _sum_arcs(
                levels + 2 * level, link_starts, link_ends, links, link_weights, nodes, nodes_e, nodes, nodes_e, True
            )
            tl.debug_barrier()
        _sum_arcs(arc_levels, arc_starts, arc_ends, arcs, arc_weights, nodes, nodes_e, came, came_e, False)
        tl.debug_barrier()
        zm, ze = tl.load(emitted + t * num_classes + blank), tl.load(emitted_exponents + t * num_classes + blank)
        for start in range(0, num_nodes - size, BLOCK):
            _write_node(
                nodes, nodes_e, size + start + lanes, size + start + lanes < num_nodes, tl.zeros([BLOCK], kind),
                tl.full([BLOCK], NOTHING, tl.int32),
            )  # fmt: skip
        for start in range(0, num_states, BLOCK):
            state, is_one = start + lanes, start + lanes < num_states
            label = tl.load(classes + state, is_one, 0)
            ym, ye = _read(emitted, emitted_exponents, t * num_classes + label, is_one)
            bm, be = _read(row, row_e, state, is_one)
            lm, le = _read(row, row_e, num_states + state, is_one)
            m, e = add(bm, be, lm, le)
            bm, be = normalise(m * zm, e + ze)
            m, e = _read_node(came, came_e, state, is_one)
            m, e = add(lm, le, m, e)
            lm, le = normalise(m * ym, e + ye)
            _write(row, row_e, state, is_one, bm, be)
            _write(row, row_e, num_states + state, is_one, lm, le)
            m, e = add(bm, be, lm, le)
            _write_node(nodes, nodes_e, state, is_one, m, e)
            _write_node(nodes, nodes_e, num_states + state, is_one, bm, be)
        tl.debug_barrier()
        here, here_e = row_mantissas + (b * 0 + t) * size, row_exponents + (b * 0 + t) * size
        if IS_SECOND:
            if t == first:
                units, whole = _meet(row, row_e, here, here_e, size, BLOCK)
                tl.store(total_units + b, units)
                tl.store(total_exponents + b, whole)
            _write_posteriors(here, here_e, row, row_e, whole, size, BLOCK)
        else:
            _copy_row(row, row_e, here, here_e, size, BLOCK)


@triton.jit
def _walk_backward(
    frames, emitted, emitted_exponents, num_frames, num_classes, blank, num_states, num_nodes, classes,
    finals, final_exponents, depth, ancestors, ancestor_weights, again, again_weights,
    arc_levels, arc_starts, arc_ends, arcs, arc_weights,
    row_mantissas, row_exponents, kept_mantissas, kept_exponents, node_mantissas, node_exponents,
    IS_SECOND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do β of half of the frames, from the last one."""
    b, lanes, size = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK), 2 * num_states
    length = tl.load(frames + b)
    half = length // 2
    emitted += b * num_frames * num_classes
    emitted_exponents += b * num_frames * num_classes
    row_mantissas += b * num_frames * size
    row_exponents += b * num_frames * size
    row, row_e = kept_mantissas + b * size, kept_exponents + b * size
    nodes = node_mantissas + b * (num_nodes + size)
    nodes_e = node_exponents + b * (num_nodes + size)
    arrived, arrived_e = nodes + num_nodes, nodes_e + num_nodes
    steps, last, whole = tl.maximum(length - half - 1, 0), length - 2, half * 0
    if IS_SECOND:
        steps, last = half, half - 1
    for start in range(0, num_states, BLOCK):
        state, is_one = start + lanes, start + lanes < num_states
        if IS_SECOND:
            lm, le = _read(row, row_e, num_states + state, is_one)
        else:
            lm, le = _read(finals, final_exponents, state, is_one)
            _write(row, row_e, state, is_one, lm, le)
            _write(row, row_e, num_states + state, is_one, lm, le)
        label = tl.load(classes + state, is_one, 0)
        ym, ye = _read(emitted, emitted_exponents, (last + 1) * num_classes + label, is_one & (last >= -1))
        m, e = normalise(lm * ym, le + ye)
        _write_node(arrived, arrived_e, state, is_one, m, e)
    if not IS_SECOND:
        tl.debug_barrier()
        if length > 0:
            place = (b * 0 + length - 1) * size
            _copy_row(row, row_e, row_mantissas + place, row_exponents + place, size, BLOCK)
    for i in range(0, steps):
        t = last - i
        tl.debug_barrier()
        now, then = (i % 2) * num_states, (1 - i % 2) * num_states
        _sum_arcs(
            arc_levels, arc_starts, arc_ends, arcs, arc_weights, arrived + now, arrived_e + now, nodes, nodes_e, False
        )
        tl.debug_barrier()
        zm = tl.load(emitted + (t + 1) * num_classes + blank)
        ze = tl.load(emitted_exponents + (t + 1) * num_classes + blank)
        for start in range(0, num_states, BLOCK):
            state, is_one = start + lanes, start + lanes < num_states
            bm, be = _read(row, row_e, state, is_one)
            m, e = _read_node(nodes, nodes_e, state, is_one)
            m, e = add(bm * zm, be + ze, m, e)
            for d in range(0, depth):
                place = d * num_states + state
                other, weight = tl.load(ancestors + place, is_one, 0), tl.load(ancestor_weights + place, is_one, 0.0)
                n, f = _follow(other, weight, nodes, nodes_e)
                m, e = add(m, e, n, f)
            n, f = _follow(
                tl.load(again + state, is_one, 0), tl.load(again_weights + state, is_one, 0.0),
                arrived + now, arrived_e + now,
            )  # fmt: skip
            bm, be = add(m, e, n, f)
            bm, be = normalise(bm, be)
            n, f = _read_node(arrived + now, arrived_e + now, state, is_one)
            lm, le = add(m, e, n, f)
            lm, le = normalise(lm, le)
            _write(row, row_e, state, is_one, bm, be)
            _write(row, row_e, num_states + state, is_one, lm, le)
            label = tl.load(classes + state, is_one, 0)
            ym, ye = _read(emitted, emitted_exponents, t * num_classes + label, is_one)
            m, e = normalise(lm * ym, le + ye)
            _write_node(arrived + then, arrived_e + then, state, is_one, m, e)
        tl.debug_barrier()
        here, here_e = row_mantissas + (b * 0 + t) * size, row_exponents + (b * 0 + t) * size
        if IS_SECOND:
            if i == 0:
                _, whole = _meet(here, here_e, row, row_e, size, BLOCK)
            _write_posteriors(here, here_e, row, row_e, whole, size, BLOCK)
        else:
            _copy_row(row, row_e, here, here_e, size, BLOCK)


@triton.jit(do_not_specialize=VARYING)
def walk(
    frames, emitted, emitted_exponents, num_frames, num_classes, blank, num_states, num_nodes, start_state, classes,
    num_levels, levels, link_starts, link_ends, links, link_weights,
    arc_levels, arc_starts, arc_ends, arcs, arc_weights,
    row_mantissas, row_exponents, alpha_mantissas, alpha_exponents, node_mantissas, node_exponents,
    total_units, total_exponents,
    finals, final_exponents, depth, ancestors, ancestor_weights, again, again_weights,
    out_levels, out_starts, out_ends, out_arcs, out_weights,
    beta_mantissas, beta_exponents, out_mantissas, out_exponents,
    IS_SECOND: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Do half of the recursions of an utterance: α in program (b, 0), β in program (b, 1).

    Rows (B, T, 2S) and totals (B,) are written as those of `asr.ctc.gpu_loss_kernels.walk`.
    """
    if tl.program_id(1) == 0:
        _walk_forward(
            frames, emitted, emitted_exponents, num_frames, num_classes, blank, num_states, num_nodes, start_state,
            classes, num_levels, levels, link_starts, link_ends, links, link_weights,
            arc_levels, arc_starts, arc_ends, arcs, arc_weights,
            row_mantissas, row_exponents, alpha_mantissas, alpha_exponents, node_mantissas, node_exponents,
            total_units, total_exponents, IS_SECOND, BLOCK,
        )  # fmt: skip
    else:
        _walk_backward(
            frames, emitted, emitted_exponents, num_frames, num_classes, blank, num_states, num_nodes, classes,
            finals, final_exponents, depth, ancestors, ancestor_weights, again, again_weights,
            out_levels, out_starts, out_ends, out_arcs, out_weights,
            row_mantissas, row_exponents, beta_mantissas, beta_exponents, out_mantissas, out_exponents,
            IS_SECOND, BLOCK,
        )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def write_gradient(
    logits, strides_t, strides_b, strides_c, grads, grad_t, grad_b, grad_c, num_classes, num_frames, lengths, blank,
    is_possible, sums, posteriors, num_states, offsets, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write posteriors less softmax of the classes to grads (T, B, C)."""
    kind: tl.constexpr = grads.dtype.element_ty
    t, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, grad, lanes = logits + t * strides_t + b * strides_b, grads + t * grad_t + b * grad_b, tl.arange(0, W)
    if (t >= tl.load(lengths + b)) | (tl.load(is_possible + b) == 0):
        for start in range(0, num_classes, W):
            tl.store(grad + (start + lanes) * grad_c, tl.zeros([W], kind), start + lanes < num_classes)
    else:
        place = posteriors + (b * num_frames + t) * 2 * num_states
        columns, blanks, all_units = tl.arange(0, BLOCK), tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64)
        for start in range(0, num_states, BLOCK):
            is_one = start + columns < num_states
            blanks += whole_units(tl.load(place + start + columns, is_one, 0.0))
            all_units += whole_units(tl.load(place + num_states + start + columns, is_one, 0.0))
        blank_units = tl.sum(blanks, 0)
        share = 1.0 / (blank_units + tl.sum(all_units, 0)).to(tl.float64)
        log_sum = tl.load(sums + b * num_frames + t)
        for start in range(0, num_classes, W):
            label, is_one = start + lanes, start + lanes < num_classes
            first = tl.load(offsets + label, is_one, 0)
            count = tl.load(offsets + label + 1, is_one, 0) - first
            total = tl.where(label == blank, blank_units.to(tl.float64), 0.0)
            for i in range(0, tl.max(count, 0)):
                p = tl.load(place + num_states + first + i, i < count, 0.0)
                total += whole_units(p).to(tl.float64)
            values = tl.load(row + label * strides_c, is_one, 0.0).to(tl.float64)
            softmax = tl.exp((values - log_sum).to(kind)).to(tl.float64)
            tl.store(grad + label * grad_c, (total * share - softmax).to(kind), is_one)
