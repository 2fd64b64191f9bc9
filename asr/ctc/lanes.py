"""Four float64 side by side in kernels: the same sum for four utterances at once.

LLVM makes instructions on vectors of a loop whose numbers lie one after another. Those of a sum over arcs lie anywhere,
and each costs more to find than to add. So the numbers of four utterances lie beside each other, in the last axis of an
array, and are read, added and multiplied as one. Each *lane* is added up in the order that the kernel says, whatever
the others hold: an utterance has the same bits alone and beside any other.

Compiled, lanes are a vector of LLVM, which it translates for any processor; under ``NUMBA_DISABLE_JIT``, an array.
"""

import operator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 4
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)


class _Lanes(types.Type):
    """The type of lanes in kernels."""


_LANES = _Lanes("lanes")
register_model(_Lanes)(lambda manager, of: models.PrimitiveModel(manager, of, _VECTOR))


@intrinsic
def _spread(typing, number):
    """Return lanes that all hold a number."""

    def generate(context, builder, signature, arguments):
        return _spread_out(builder, arguments[0])

    return _LANES(types.float64), generate


@intrinsic
def _load(typing, values, i):
    """Return the lanes of row i of an array (N, LANES), C-contiguous; i is unsigned."""

    def generate(context, builder, signature, arguments):
        return builder.load(_place(context, builder, signature.args[0], arguments), align=8)

    return _LANES(values, types.uintp) if _has_rows(values) else None, generate


@intrinsic
def _store(typing, values, i, lanes):
    """Write lanes to row i of an array (N, LANES), C-contiguous; i is unsigned."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature.args[0], arguments), align=8)

    return types.void(values, types.uintp, lanes) if _has_rows(values) else None, generate


def _spread_out(builder, number):
    """Return a vector that holds a number in each place."""
    first = builder.insert_element(_UNDEFINED, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, _UNDEFINED, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _has_rows(kind):
    """Return whether a type is that of an array that lanes can be read from."""
    return isinstance(kind, types.Array) and (kind.dtype, kind.ndim, kind.layout) == (types.float64, 2, "C")


def _place(context, builder, kind, arguments):
    """Return the address of a row; its bounds are checked where Numba checks those of arrays."""
    array = context.make_array(kind)(context, builder, arguments[0])
    if numba.config.BOUNDSCHECK:
        rows, width = cgutils.unpack_tuple(builder, array.shape, 2)
        cgutils.do_boundscheck(context, builder, arguments[1], rows, 0)
        cgutils.do_boundscheck(context, builder, ir.IntType(64)(LANES - 1), width, 1)
    first = builder.gep(array.data, [builder.mul(arguments[1], ir.IntType(64)(LANES))])
    return builder.bitcast(first, _VECTOR.as_pointer())


def _lanewise(operation, instruction):
    """Let kernels apply an operation to lanes, or to a number and lanes."""

    @type_callable(operation)
    def typed(context):
        return lambda a, b: _LANES if b is _LANES and a in (_LANES, types.float64) else None

    @lower_builtin(operation, _Lanes, _Lanes)
    def of_lanes(context, builder, signature, arguments):
        return getattr(builder, instruction)(*arguments)

    @lower_builtin(operation, types.Float, _Lanes)
    def of_number(context, builder, signature, arguments):
        return getattr(builder, instruction)(_spread_out(builder, arguments[0]), arguments[1])


_lanewise(operator.add, "fadd")
_lanewise(operator.iadd, "fadd")
_lanewise(operator.mul, "fmul")
_lanewise(operator.truediv, "fdiv")


# Not by `overload`, which would compile a function for each use.
spread: Any = _spread
load: Any = _load
store: Any = _store
if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    spread, load = (lambda number: np.full(LANES, number)), (lambda values, i: values[i].copy())
    store = np.ndarray.__setitem__
