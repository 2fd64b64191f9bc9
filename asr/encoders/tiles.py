"""Products of a few rows and a matrix that is used over and over, as in a recurrence, on one core.

A BLAS would repack the matrix in each call, which for so few rows takes longer than the product. Here it is packed once
(`pack`) into *panels*, so wide that a tile of up to `ROWS` rows of the product stays in the registers of the processor
while the sum runs over the depth. Numba's compiler does not keep such a tile in registers by itself, so its loop is
written as instructions on vectors, which the compiler translates for any processor. With bfloat16, and where the
processor has an instruction for it (`HAS_BFLOAT16`), two products are made at once, and the sum is still float32.

Letters: M rows, K depth, N columns, W columns of a panel, P = ⌈N / W⌉ panels.
"""

from typing import Any

import llvmlite.binding as llvm
import numba
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from torch import Tensor

from asr.core.jit import njit

_IS_HOST = numba.config.CPU_NAME is None and numba.config.CPU_FEATURES is None  # type: ignore[attr-defined]
_FEATURES = llvm.get_host_cpu_features() if _IS_HOST else {}  # of what Numba compiles for, as far as it is known

# A tile takes ROWS · VECTORS registers of LANES numbers: 24 of the 32 of AVX-512, 12 of the 16 of AVX2.
ROWS = 6
LANES, VECTORS = (16, 4) if _FEATURES.get("avx512f") else (8, 2)
HAS_BFLOAT16 = bool(_FEATURES.get("avx512bf16")) and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


def pack(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Pack the matrix b (K, N), given as its transpose (N, K), into panels.

    Returns
    -------
    Tensor
        float32 (P, K, W); for bfloat16 int32 (P, K / 2, W), of which each holds two numbers of a column. An odd K is
        rounded up, and the last panel is filled up with columns of zeros.

    Examples
    --------
    >>> panels = pack(torch.ones(100, 5), torch.float32)
    >>> panels.shape[0] * panels.shape[2] >= 100, panels.shape[1], panels.sum().item()
    (True, 6, 500.0)
    """
    width = LANES * VECTORS
    columns, depth = weights.shape
    filled = weights.new_zeros((-(-columns // width) * width, depth + depth % 2), dtype=dtype)
    filled[:columns, :depth] = weights
    numbers = filled if dtype == torch.float32 else filled.view(torch.int32)
    return numbers.view(-1, width, numbers.shape[1]).transpose(1, 2).contiguous()


@njit(cache=True, nogil=True)
def multiply(a, panels, c):
    """Write the product of a (M, K) and the matrix in `panels` to c (M, P · W), float32.

    `a` is float32, or bfloat16 in uint16 if the panels are int32. K is even. A row of c depends on its own row of
    a alone, to the bit.
    """
    count, width = len(a), panels.shape[2]
    blocks = -(-count // ROWS)
    for p in range(len(panels)):
        panel = panels[p]
        for block in range(blocks):
            first = count * block // blocks
            _tile(a, first, count * (block + 1) // blocks - first, panel, c, p * width)


def _tile(a, first, rows, panel, c, left):
    """Write `rows` rows of the product, from row `first` on and column `left` on; 1 ≤ rows ≤ ROWS."""
    c[first : first + rows, left : left + panel.shape[1]] = a[first : first + rows] @ panel


@overload(_tile)
def _compiled_tile(a, first, rows, panel, c, left):
    return lambda a, first, rows, panel, c, left: _vector_tile(a, first, rows, panel, c, left)


@intrinsic
def _vector_tile(typing, a, first, rows, panel, c, left):
    """Generate the code of `_tile`: a loop over the depth for each number of rows."""
    return types.void(a, types.intp, types.intp, panel, c, types.intp), _generate


_INDEX, _WORD, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, panel, c = (context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 3, 4))
    first, rows, left = arguments[1], arguments[2], arguments[5]
    are_pairs = signature.args[3].dtype == types.int32
    depth, width = builder.extract_value(panel.shape, 0), builder.extract_value(c.shape, 1)
    values = builder.bitcast(a.data, (_WORD if are_pairs else _FLOAT).as_pointer())
    values = builder.gep(values, [builder.mul(first, depth)])
    target = builder.gep(c.data, [builder.add(builder.mul(first, width), left)])
    end = builder.append_basic_block("end")
    choice = builder.switch(rows, end)
    for count in range(1, ROWS + 1):
        block = builder.append_basic_block(f"rows{count}")
        choice.add_case(_INDEX(count), block)
        builder.position_at_end(block)
        sums = _loop(builder, count, values, panel.data, depth, are_pairs)
        for i, total in enumerate(sums):
            row, vector = divmod(i, VECTORS)
            place = builder.add(builder.mul(_INDEX(row), width), _INDEX(vector * LANES))
            builder.store(total, builder.bitcast(builder.gep(target, [place]), _FLOATS.as_pointer())).align = 4
        builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


def _loop(builder: Any, count: int, values: Any, panel: Any, depth: Any, are_pairs: bool) -> list[Any]:
    """Sum over the depth for `count` rows; return the sums in vectors, row by row."""
    before, body, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("sums")
    builder.branch(body)
    builder.position_at_end(body)
    k = builder.phi(_INDEX)
    sums = [builder.phi(_FLOATS) for _ in range(count * VECTORS)]
    columns = []
    for vector in range(VECTORS):
        place = builder.add(builder.mul(k, _INDEX(VECTORS * LANES)), _INDEX(vector * LANES))
        kind = _WORDS if are_pairs else _FLOATS
        columns.append(builder.load(builder.bitcast(builder.gep(panel, [place]), kind.as_pointer())))
        columns[-1].align = 4
    more = []
    for row in range(count):
        value = builder.load(builder.gep(values, [builder.add(builder.mul(_INDEX(row), depth), k)]))
        spread = _spread(builder, value)
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
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fma.v{LANES}f32"
    )
    return builder.call(fused, [spread, column, total])
