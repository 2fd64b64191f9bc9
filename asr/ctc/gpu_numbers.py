"""Numbers of any size in Triton: a mantissa and an integer exponent, m · 2^e.

Products of probabilities never leave their range. No logarithm is taken, and a sum keeps the mantissas' precision.

Mantissas are float32 or float64 and not negative; exponents are int32. Zero has the mantissa 0 and the exponent
NOTHING. A number below 2^NOTHING counts as 0.
"""

import triton
import triton.language as tl

# Arguments of kernels: sizes, strides, and parts of a copy of small tables. Triton would compile a kernel again where
# one is a multiple of 16, which is so in some batches.
VARYING = [
    "num_frames", "num_classes", "num_states", "num_nodes", "num_levels", "num_slices", "num_out_slices", "depth",
    "width", "symbol_stride", "blank", "start_state", "strides_t", "strides_b", "strides_c", "grad_t", "grad_b",
    "grad_c", "logits", "grads", "frames", "lengths", "labels", "symbols", "log_weights", "losses", "scales", "norms",
    "sums", "classes", "starts", "positions", "used", "is_possible", "offsets", "total_units", "total_exponents",
    "links", "link_weights", "arcs", "arc_weights", "out_arcs", "out_weights",
]  # fmt: skip

NOTHING = tl.constexpr(-(1 << 29))
LEAST = tl.constexpr(-(1 << 28))  # the exponent of an emission, below which it counts as 0
MOST = tl.constexpr(60)  # binary digits by which a posterior may exceed those of the frame where α and β meet
UNIT = tl.constexpr(float(1 << 40))  # sums over a block are of integers, so that no order changes them


@triton.jit
def power(n, like):
    """Return 2ⁿ in the type of `like` for n up to 127, 0 where that is below its normal range."""
    if like.dtype == tl.float64:
        return ((tl.maximum(n, -1023) + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:  # as Triton wants one type of what is returned
        return ((tl.maximum(n, -127) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def add(m, e, n, f):
    """Return m · 2^e + n · 2^f, with a mantissa up to the sum of both."""
    top = tl.maximum(e, f)
    return m * power(e - top, m) + n * power(f - top, m), top


@triton.jit
def normalise(m, e):
    """Return a number with a mantissa in [1, 2), or zero."""
    if m.dtype == tl.float64:
        bits = m.to(tl.int64, bitcast=True)
        whole = e + ((bits >> 52) - 1023).to(tl.int32)
        mantissa = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        bits = m.to(tl.int32, bitcast=True)
        whole = e + (bits >> 23) - 127
        mantissa = ((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    is_some = (m > 0) & (whole > NOTHING)
    return tl.where(is_some, mantissa, 0.0), tl.where(is_some, whole, NOTHING)


@triton.jit
def whole_units(p):
    """Return numbers as integers of 2^-40."""
    return (p.to(tl.float64) * UNIT).to(tl.int64)


@triton.jit
def probe(found):
    """Write 1."""
    tl.store(found, 1)
