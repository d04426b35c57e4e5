"""Vectors of float32 for numba: ``GROUP`` edges times ``CELLS`` maps in one value.

Numba leaves it to LLVM to find vector code in loops, and in the layout's short loops it finds none. These
functions emit it: a value of type Lanes is one LLVM vector, which every processor's code generator splits
into registers of its own width. No flag for inexact arithmetic is set, so results repeat on one machine.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

#: Maps moved at once: eight float32 of x and eight of y are one cache line.
CELLS = 8
#: Edges moved at once: independent chains of arithmetic, because one alone waits for its own results.
GROUP = 4

_BITS, _F32, _F64 = ir.IntType(32), ir.FloatType(), ir.DoubleType()
_CELLS = ir.VectorType(_F32, CELLS)
_FLOATS = ir.VectorType(_F32, CELLS * GROUP)
_INTEGERS = ir.VectorType(_BITS, CELLS * GROUP)


class Lanes(types.Type):
    """Numba type of ``GROUP`` x ``CELLS`` float32."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{GROUP}x{CELLS}")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _FLOATS)


LANES = Lanes()


def _floats(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(_F32, float(np.float32(value)))] * (CELLS * GROUP))


def _integers(value: int) -> ir.Constant:
    return ir.Constant(_INTEGERS, [ir.Constant(_BITS, value)] * (CELLS * GROUP))


def _order(places: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_BITS, len(places)), [ir.Constant(_BITS, p) for p in places])


def _fused(builder: Any, x: Any, y: Any, z: Any) -> Any:
    name = f"llvm.fmuladd.v{CELLS * GROUP}f32"
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), (x, y, z))


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


def _function(emit: Callable[..., Any], arity: int) -> Any:
    """A numba function of Lanes only; ``emit(builder, *values)`` writes it."""
    signature = LANES(*[LANES] * arity)
    if arity == 1:
        return intrinsic(lambda context, x: (signature, lambda c, b, s, a: emit(b, *a)))
    if arity == 2:
        return intrinsic(lambda context, x, y: (signature, lambda c, b, s, a: emit(b, *a)))
    return intrinsic(lambda context, x, y, z: (signature, lambda c, b, s, a: emit(b, *a)))


#: x * y + z; the larger of two; x limited to -4 to 4.
muladd = _function(_fused, 3)
at_least = _function(_larger, 2)
limited = _function(lambda b, x: _larger(b, _smaller(b, x, _floats(4)), _floats(-4)), 1)
_add = _function(lambda b, x, y: b.fadd(x, y), 2)
_subtract = _function(lambda b, x, y: b.fsub(x, y), 2)
_multiply = _function(lambda b, x, y: b.fmul(x, y), 2)
_divide = _function(lambda b, x, y: b.fdiv(x, y), 2)


def _overload(symbol: Any, function: Any) -> None:
    # numba compares the arguments' annotations with those of the lambda, which can have none.
    @overload(symbol, inline="always")
    def chosen(x, y):  # type: ignore[no-untyped-def]
        if isinstance(x, Lanes) and isinstance(y, Lanes):
            return lambda x, y: function(x, y)
        return None


for _symbol, _emitted in (
    (operator.add, _add), (operator.sub, _subtract), (operator.mul, _multiply), (operator.truediv, _divide),
):  # fmt: skip
    _overload(_symbol, _emitted)


def _coefficients(function: Callable[[Any], Any], low: float, high: float, degree: int) -> list[float]:
    fitted = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, domain=[low, high])
    return [float(c) for c in fitted.convert(kind=np.polynomial.Polynomial).coef]


# log2(1 + t) / t around 1, and 2**(m - 1) for a mantissa m: relative error of the power below 1e-5.
_LOG = _coefficients(lambda t: np.log1p(t) / t / np.log(2), np.sqrt(0.5) - 1, np.sqrt(2) - 1, 6)
_EXP = _coefficients(lambda m: 2.0 ** (m - 1), 1, 2, 4)
_MANTISSA, _ONE, _SQRT_HALF = 0x7FFFFF, 0x3F800000, 0x3F3504F3


def _polynomial(b: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Estrin's scheme: pairs first, so that few steps wait for each other."""
    terms: list[Any] = [_floats(c) for c in coefficients]
    while len(terms) > 1:
        paired = [_fused(b, high, x, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = paired + terms[len(paired) * 2 :]
        x = b.fmul(x, x)
    return terms[0]


def _power(b: Any, x: Any, exponent: Any) -> Any:
    shifted = b.sub(b.bitcast(x, _INTEGERS), _integers(_SQRT_HALF))
    mantissa = b.bitcast(b.sub(b.bitcast(x, _INTEGERS), b.and_(shifted, _integers(-_MANTISSA - 1))), _FLOATS)
    t = b.fsub(mantissa, _floats(1))
    whole = b.fmul(b.sitofp(b.ashr(shifted, _integers(23)), _FLOATS), exponent)
    logarithm = _fused(b, _polynomial(b, t, _LOG), b.fmul(t, exponent), whole)
    bits = b.add(b.fptosi(logarithm, _INTEGERS), _integers(_ONE))
    fraction = b.bitcast(b.or_(b.and_(bits, _integers(_MANTISSA)), _integers(_ONE)), _FLOATS)
    scale = b.bitcast(b.and_(bits, _integers(0x7F800000)), _FLOATS)
    return b.fmul(_polynomial(b, fraction, _EXP), scale)


#: x ** y for x > 0 and a result within float32; the second argument is y * 2**23.
power = _function(_power, 2)


@intrinsic  # type: ignore[untyped-decorator]
def spread(typing: Any, value: Any) -> Any:
    """One float32 in every lane."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        first = b.insert_element(ir.Constant(_FLOATS, ir.Undefined), args[0], _BITS(0))
        return b.shuffle_vector(first, first, _order([0] * (CELLS * GROUP)))

    return LANES(types.float32), emit


@intrinsic  # type: ignore[untyped-decorator]
def muladd_double(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z in float64, in one rounding where the processor can: as LLVM contracts it elsewhere."""
    kind = ir.FunctionType(_F64, [_F64] * 3)

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.fmuladd.f64"), args)

    return types.float64(types.float64, types.float64, types.float64), emit


def _place(context: Any, b: Any, kind: Any, array: Any, row: Any) -> Any:
    """Pointer to row ``row`` of ``CELLS`` float32."""
    start = b.gep(context.make_array(kind)(context, b, array).data, [b.mul(row, row.type(CELLS))])
    return b.bitcast(start, _CELLS.as_pointer())


def _rows(context: Any, b: Any, signature: Any, args: Any) -> list[Any]:
    """Pointers to one coordinate of the points numbered rows[at], rows[at + 1] ..."""
    data = context.make_array(signature.args[1])(context, b, args[1]).data
    places = []
    for edge in range(GROUP):
        point = b.sext(b.load(b.gep(data, [b.add(args[2], args[2].type(edge))])), ir.IntType(64))
        row = b.add(b.shl(point, point.type(1)), args[3])
        places.append(_place(context, b, signature.args[0], args[0], row))
    return places


def _joined(b: Any, parts: list[Any]) -> Any:
    while len(parts) > 1:
        places = _order(range(2 * parts[0].type.count))
        parts = [b.shuffle_vector(x, y, places) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@intrinsic  # type: ignore[untyped-decorator]
def tile(typing: Any, array: Any, row: Any) -> Any:
    """Row of an array (rows, CELLS) float32, the same for every edge."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        part = b.load(_place(context, b, signature.args[0], args[0], args[1]), align=4)
        return _joined(b, [part] * GROUP)

    return LANES(array, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def gather(typing: Any, position: Any, rows: Any, at: Any, coordinate: Any) -> Any:
    """position (N, 2, CELLS) float32 of the points rows[at : at + GROUP] int32, one coordinate."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        return _joined(b, [b.load(p, align=4) for p in _rows(context, b, signature, args)])

    return LANES(position, rows, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def scatter_add(typing: Any, position: Any, rows: Any, at: Any, coordinate: Any, value: Any) -> Any:
    """Add to what ``gather`` reads, one edge after the other: a point named twice moves by the sum."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        for edge, place in enumerate(_rows(context, b, signature, args)):
            part = b.shuffle_vector(args[4], args[4], _order(range(edge * CELLS, (edge + 1) * CELLS)))
            b.store(b.fadd(b.load(place, align=4), part), place, align=4)
        return context.get_dummy_value()

    return types.void(position, rows, types.intp, types.intp, LANES), emit


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing: Any, position: Any, point: Any) -> Any:
    """Ask for the cache line of a point of position (N, 2, CELLS)."""

    def emit(context: Any, b: Any, signature: Any, args: Any) -> Any:
        row = b.mul(b.sext(args[1], ir.IntType(64)), ir.IntType(64)(2))
        line = b.bitcast(_place(context, b, signature.args[0], args[0], row), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [line.type, _BITS, _BITS, _BITS])
        b.call(
            cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0"),
            (line, _BITS(1), _BITS(3), _BITS(1)),
        )
        return context.get_dummy_value()

    return types.void(position, types.int32), emit
