"""Products of matrices on one core, and in particular of a few rows and a matrix that is used over and over.

A BLAS would repack the matrix in each call, which for so few rows takes longer than the product. Here it is packed once
(`pack`) into *panels*, so wide that a tile of up to `ROWS` rows of the product stays in the registers of the processor
while the sum runs over the depth. Numba's compiler does not keep such a tile in registers by itself, so its loop is
written as instructions on vectors, which the compiler translates for any processor.

Numbers are float32, or bfloat16 where the processor has an instruction that makes two products of them at once
(`HAS_BFLOAT16`); their sum is still float32. An array of bfloat16 is one of uint16. In panels, two numbers that follow
upon each other in depth are one int32.

Letters: M rows, K depth, N columns, W columns of a panel, P = ⌈N / W⌉ panels.
"""

from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from asr.core.jit import helper, njit

_IS_HOST = numba.config.CPU_NAME is None and numba.config.CPU_FEATURES is None  # type: ignore[attr-defined]
_FEATURES = llvm.get_host_cpu_features() if _IS_HOST else {}  # of what Numba compiles for, as far as it is known

# A tile takes ROWS · VECTORS registers of LANES numbers: 24 of the 32 of AVX-512, 12 of the 16 of AVX2.
ROWS = 6
LANES, VECTORS = (16, 4) if _FEATURES.get("avx512f") else (8, 2)
WIDTH = LANES * VECTORS  # W
HAS_BFLOAT16 = bool(_FEATURES.get("avx512bf16")) and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


@njit(cache=True, nogil=True)
def pack(matrix, columns, start, panels):
    """Write columns (first, end) of a matrix, float32 or bfloat16, to panels of a matrix (K, N), from row `start` on.

    Rows before the first and after the last of the panels' are left out. All that is not filled becomes 0.
    """
    first, end = columns
    for p in range(len(panels)):
        left = first + p * panels.shape[2]
        _pack_panel(matrix, start, left, min(panels.shape[2], end - left), panels[p])


def _pack_panel(matrix, start, left, inside, panel):
    panel[:] = 0
    for k in range(max(0, start), min(len(panel), start + len(matrix))):
        panel[k, :inside] = matrix[k - start, left : left + inside]


@overload(_pack_panel)
def _compiled_pack_panel(matrix, start, left, inside, panel):
    def pack_singles(matrix, start, left, inside, panel):
        for k in range(len(panel)):
            row, i = panel[k], k - start
            if i < 0 or i >= len(matrix):
                _clear(row)
                continue
            source = matrix[i, left : left + inside]
            for j in range(inside):
                row[j] = source[j]
            _clear(row[inside:])

    def pack_pairs(matrix, start, left, inside, panel):
        for k in range(len(panel)):
            row, low, high = panel[k], 2 * k - start, 2 * k + 1 - start
            if low >= 0 and high < len(matrix):
                lower, upper = matrix[low, left : left + inside], matrix[high, left : left + inside]
                for j in range(inside):
                    row[j] = bits(lower[j]) | bits(upper[j]) << 16
                _clear(row[inside:])
                continue
            _clear(row)
            if low == len(matrix) - 1 or high == 0:
                shift, source = (16 if high == 0 else 0), matrix[max(low, 0), left : left + inside]
                for j in range(inside):
                    row[j] = bits(source[j]) << shift

    return pack_pairs if panel.dtype == types.int32 else pack_singles


@helper()
def _clear(row):
    for j in range(len(row)):
        row[j] = 0


def bits(number):
    """Return the bits of a number as bfloat16, to which a float32 is rounded as torch does it."""
    return np.int64(number) if isinstance(number, np.uint16) else _rounded(number)


@overload(bits)
def _compiled_bits(number):
    return (lambda number: np.int64(number)) if number == types.uint16 else lambda number: _rounded(number)


@helper()
def _rounded(number):
    """Return the upper half of a float32, rounded to even; a NaN stays one, as the highest bit of its mantissa is 1."""
    whole = np.int64(np.float32(number).view(np.uint32))
    return (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16


def value(number):
    """Return a number, float32 or bfloat16, as float32."""
    return np.uint32(np.uint32(number) << 16).view(np.float32) if isinstance(number, np.uint16) else number


@overload(value)
def _compiled_value(number):
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << 16).view(np.float32)
    return lambda number: number


def like(number, row):
    """Return a float32 as a number of a row of float32 or bfloat16."""
    return np.uint16(bits(number)) if row.dtype == np.uint16 else number


@overload(like)
def _compiled_like(number, row):
    if row.dtype == types.uint16:
        return lambda number, row: np.uint16(bits(number))
    return lambda number, row: number


@njit(cache=True, nogil=True)
def convert(source, target):
    """Write the first columns of a matrix of float32 to one of float32 or bfloat16."""
    for i in range(len(target)):
        row, other = target[i], source[i]
        for j in range(len(row)):
            row[j] = like(other[j], row)


@njit(cache=True, nogil=True)
def multiply(a, panels, c):
    """Write the product of a (M, K) and the matrix in `panels` to c (M, P · W), float32 and C-contiguous.

    If the panels hold bfloat16, `a` is of bfloat16 and K is even. Columns of a beyond K are not read. A row of c
    depends on its own row of a alone, to the bit.
    """
    count, width = len(a), panels.shape[2]
    blocks = -(-count // ROWS)
    for p in range(len(panels)):
        panel = panels[p]
        for block in range(blocks):
            first = count * block // blocks
            _tile(a, first, count * (block + 1) // blocks - first, panel, c, p * width)


@njit(cache=True, nogil=True)
def multiply_transposed(a, panels, c):
    """Write the product of aᵀ (M, K) and the matrix in `panels` to c (Q · 16, P · W), float32 and C-contiguous.

    `a` is a matrix (K, M) in panels of its own (Q, ·, 16), 16 numbers wide: were its rows further apart, by a power of
    two as they often are, few of them would find a place in the caches at a time.
    """
    width = a.shape[2]
    blocks = -(-width // ROWS)
    for p in range(len(panels)):
        panel = panels[p]
        for q in range(len(a)):
            rows, target = a[q].T, c[q * width : (q + 1) * width]
            for block in range(blocks):
                first = width * block // blocks
                _tile(rows, first, width * (block + 1) // blocks - first, panel, target, p * panel.shape[1])


def _tile(a, first, rows, panel, c, left):
    """Write `rows` rows of the product, from row `first` on and column `left` on; 1 ≤ rows ≤ ROWS."""
    c[first : first + rows, left : left + panel.shape[1]] = a[first : first + rows, : len(panel)] @ panel


@overload(_tile)
def _compiled_tile(a, first, rows, panel, c, left):
    return lambda a, first, rows, panel, c, left: _vector_tile(a, first, rows, panel, c, left)


@intrinsic
def _vector_tile(typing, a, first, rows, panel, c, left):
    """Generate the code of `_tile`: a loop over the depth for each number of rows."""
    return types.void(a, types.intp, types.intp, panel, c, types.intp), _generate


_INDEX, _WORD, _BYTE, _FLOAT = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, panel, c = (context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 3, 4))
    first, rows, left = arguments[1], arguments[2], arguments[5]
    are_pairs = signature.args[3].dtype == types.int32
    depth, width = builder.extract_value(panel.shape, 0), builder.extract_value(c.shape, 1)
    down, along = (builder.extract_value(a.strides, i) for i in (0, 1))  # bytes
    along = builder.mul(along, _INDEX(32 // signature.args[0].dtype.bitwidth))
    values = builder.gep(builder.bitcast(a.data, _BYTE.as_pointer()), [builder.mul(first, down)])
    target = builder.gep(c.data, [builder.add(builder.mul(first, width), left)])
    end = builder.append_basic_block("end")
    choice = builder.switch(rows, end)
    for count in range(1, ROWS + 1):
        block = builder.append_basic_block(f"rows{count}")
        choice.add_case(_INDEX(count), block)
        builder.position_at_end(block)
        sums = _loop(builder, count, (values, down, along), panel.data, depth, are_pairs)
        for i, total in enumerate(sums):
            row, vector = divmod(i, VECTORS)
            place = builder.add(builder.mul(_INDEX(row), width), _INDEX(vector * LANES))
            builder.store(total, builder.bitcast(builder.gep(target, [place]), _FLOATS.as_pointer())).align = 4
        builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _loop(builder: Any, count: int, a: Any, panel: Any, depth: Any, are_pairs: bool) -> list[Any]:
    """Sum over the depth for `count` rows of a, (address, strides); return the sums in vectors, row by row."""
    values, down, along = a
    kind = (_WORD if are_pairs else _FLOAT).as_pointer()
    before, body, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("sums")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_INDEX)
    sums = [builder.phi(_FLOATS) for _ in range(count * VECTORS)]
    columns = []
    for vector in range(VECTORS):
        place = builder.add(builder.mul(k, _INDEX(VECTORS * LANES)), _INDEX(vector * LANES))
        vectors = (_WORDS if are_pairs else _FLOATS).as_pointer()
        columns.append(builder.load(builder.bitcast(builder.gep(panel, [place]), vectors)))
        columns[-1].align = 4
    more = []
    for row in range(count):
        place = builder.add(builder.mul(_INDEX(row), down), builder.mul(k, along))
        spread = _spread(builder, builder.load(builder.bitcast(builder.gep(values, [place]), kind)))
        totals = sums[row * VECTORS : (row + 1) * VECTORS]
        more += [_add_product(builder, *each, spread, are_pairs) for each in zip(totals, columns, strict=True)]
    following = builder.add(k, _INDEX(1))
    for phi, start, value in zip([k, *sums], [_INDEX(0)] + [_zeros()] * len(sums), [following, *more], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, body)
    builder.cbranch(builder.icmp_signed("<", following, depth), body, after)
    builder.position_at_end(after)
    return more


def _zeros() -> Any:
    return ir.Constant(_FLOATS, [0.0] * LANES)


def _spread(builder: Any, value: Any) -> Any:
    """Return a vector that holds a number in each place."""
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    vector = builder.insert_element(empty, value, _WORD(0))
    return builder.shuffle_vector(vector, empty, ir.Constant(_WORDS, [0] * LANES))


def _add_product(builder: Any, total: Any, column: Any, spread: Any, are_pairs: bool) -> Any:
    if are_pairs:
        kind = ir.FunctionType(_FLOATS, [_FLOATS, _WORDS, _WORDS])
        dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
        return builder.call(dot, [total, spread, column])
    fused = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    return builder.call(fused, [spread, column, total])
