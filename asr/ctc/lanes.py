"""Four float64 side by side in kernels: the same sum for four utterances at once.

LLVM makes instructions on vectors of a loop whose numbers lie one after another. Those of a sum over arcs lie anywhere,
and each costs more to find than to add. So the numbers of four utterances lie beside each other, in the last axis of an
array, and are read, added and multiplied as one. Each *lane* is added up in the order that the kernel says, whatever
the others hold: an utterance has the same bits alone and beside any other.

Compiled, lanes are a vector of LLVM, which it translates for any processor; under ``NUMBA_DISABLE_JIT``, an array.
"""

import operator

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 4
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)


class _Lanes(types.Type):
    """The type of lanes in kernels."""


_LANES = _Lanes("lanes")
register_model(_Lanes)(lambda manager, of: models.PrimitiveModel(manager, of, _VECTOR))


def spread(number):
    """Return lanes that all hold a number."""
    return np.full(LANES, number)


def load(values, i):
    """Return the lanes of row i of an array (N, LANES), C-contiguous; i is unsigned."""
    return values[i].copy()


def store(values, i, lanes):
    """Write lanes to row i of an array (N, LANES), C-contiguous; i is unsigned."""
    values[i] = lanes


@overload(spread)
def _compiled_spread(number):
    return lambda number: _spread(np.float64(number))


@overload(load)
def _compiled_load(values, i):
    return lambda values, i: _load(values, np.uintp(i))


@overload(store)
def _compiled_store(values, i, lanes):
    return lambda values, i, lanes: _store(values, np.uintp(i), lanes)


def _lanewise(operation, instruction):
    """Let kernels apply an operation to lanes, or to a number and lanes."""

    @intrinsic
    def of_lanes(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, instruction)(*arguments)

        return _LANES(a, b), generate

    @overload(operation)
    def compiled(a, b):
        if a is _LANES and b is _LANES:
            return lambda a, b: of_lanes(a, b)
        return (lambda a, b: of_lanes(_spread(a), b)) if a is types.float64 and b is _LANES else None


_lanewise(operator.add, "fadd")
_lanewise(operator.iadd, "fadd")
_lanewise(operator.mul, "fmul")
_lanewise(operator.truediv, "fdiv")


@intrinsic
def _spread(typing, number):
    def generate(context, builder, signature, arguments):
        first = builder.insert_element(_UNDEFINED, arguments[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, _UNDEFINED, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    return _LANES(types.float64), generate


@intrinsic
def _load(typing, values, i):
    def generate(context, builder, signature, arguments):
        return builder.load(_place(context, builder, signature.args[0], arguments), align=8)

    return _LANES(values, i) if _has_rows(values) else None, generate


@intrinsic
def _store(typing, values, i, lanes):
    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature.args[0], arguments), align=8)

    return types.void(values, i, lanes) if _has_rows(values) else None, generate


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
