"""Winograd's transforms of two dimensions, as vector code: the same map along both sides.

With g a filter and d a patch, a tile of results is A' [(G g G') o (B' d B)] A; with z the gradient of that tile, the
filter's is G' [(A z A') o (B' d B)] G.

* F(4, 3) and F(2, 5) have six values a side, at the points 0, +-1/sqrt 2, +-sqrt 2 and infinity.
* By steps of 2, taps 0 and 2 see every second pixel: F(4, 2) with the points +-2/5, +-5/4 and infinity makes five
  values of them, and tap 1 multiplies four more as they are. So a patch has nine values a side and a filter six, of
  which the last multiplies four. Forward they come from nine pixels, and both results are added; backward from five,
  and the results take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...core.emit import Emit

__all__ = [
    "Vectors",
    "filter_3",
    "filter_5",
    "filter_gradient_3",
    "filter_gradient_5",
    "filter_gradient_strided",
    "filter_strided",
    "input_turns",
    "patch_6",
    "patch_strided",
    "patch_turns",
    "result_2",
    "result_4",
    "result_gradient_2",
    "result_gradient_4",
    "result_gradient_strided",
    "result_strided",
    "sum_and_difference",
    "values_of",
]

Vectors = list[ir.Value]


#: Values a side by steps of 2, and those of the pair of taps.
_STRIDED, _PAIR = 9, 5


def _combined(e: Emit, terms: list[tuple[float, ir.Value]]) -> ir.Value:
    """The sum of vectors by factors, the last of them the first that is made."""
    factor, vector = terms[-1]
    total = vector if factor == 1 else e.b.fmul(e.constant(factor), vector)
    for factor, vector in terms[-2::-1]:
        total = e.b.fadd(vector, total) if factor == 1 else e.fma(e.constant(factor), vector, total)
    return total


def sum_and_difference(e: Emit, even: ir.Value, odd: ir.Value) -> Vectors:
    return [e.b.fadd(even, odd), e.b.fsub(even, odd)]


# -------------------------------------------------------------------------------------------------------- step 1

_A, _B = sqrt(0.5), sqrt(2.0)
_SCALES = (-1 / 1.5, 1 / 6)


def _patch(e: Emit, d: Vectors) -> Vectors:
    """B' of six vectors."""
    found = []
    for root, other in ((_A, _B), (_B, _A)):
        even, odd = (_combined(e, [(-other * other, d[i]), (1, d[i + 2])]) for i in (2, 1))
        found += [e.fma(e.constant(s), odd, even) for s in (root, -root)]
    ends = [e.fma(e.constant(-2.5), d[i + 2], e.b.fadd(d[i], d[i + 4])) for i in (0, 1)]
    return [ends[0], *found, ends[1]]


def _result(side: int) -> Callable[[Emit, Vectors], Vectors]:
    """A' of six vectors: four, or two."""

    def of(e: Emit, m: Vectors) -> Vectors:
        s, u = e.b.fadd(m[1], m[2]), e.b.fadd(m[3], m[4])
        p, q = e.b.fsub(m[1], m[2]), e.b.fsub(m[3], m[4])
        first, second = e.b.fadd(e.b.fadd(m[0], s), u), _combined(e, [(_A, p), (_B, q)])
        if side == 2:
            return [first, e.b.fadd(second, m[5])]
        third = _combined(e, [(0.5, s), (2.0, u)])
        return [first, second, third, _combined(e, [(_A / 2, p), (2 * _B, q), (1, m[5])])]

    return of


def _at_points(scales: tuple[float, float]) -> Callable[[Emit, Vectors], Vectors]:
    """The polynomial with these coefficients at all points, at the finite ones but 0 times a scale: G, or A."""

    def of(e: Emit, v: Vectors) -> Vectors:
        found = [v[0]]
        for root, scale in zip((_A, _B), scales, strict=True):
            even, odd = ([(scale * root**k, v[k]) for k in range(i, len(v), 2)] for i in (0, 1))
            found += sum_and_difference(e, _combined(e, even), _combined(e, odd))
        return [*found, v[-1]]

    return of


def _filter_gradient(taps: int) -> Callable[[Emit, Vectors], Vectors]:
    """G' of six vectors."""

    def of(e: Emit, u: Vectors) -> Vectors:
        pairs = [(root, scale, u[i], u[i + 1]) for root, scale, i in zip((_A, _B), _SCALES, (1, 3), strict=True)]
        sums = [(root, scale, e.b.fadd(x, y)) for root, scale, x, y in pairs]
        differences = [(root, scale, e.b.fsub(x, y)) for root, scale, x, y in pairs]
        found = []
        for t in range(taps):
            found.append(_combined(e, [(scale * root**t, v) for root, scale, v in (differences if t % 2 else sums)]))
        return [e.b.fadd(found[0], u[0]), *found[1:-1], e.b.fadd(found[-1], u[5])]

    return of


# -------------------------------------------------------------------------------------------------------- step 2

_C, _D = 0.4, 1.25
_OVER = {_C: 1 / (2 * (_C * _C - _D * _D)), _D: 1 / (2 * (_D * _D - _C * _C))}


def _pair_patch(e: Emit, d: Vectors) -> Vectors:
    """B' of five vectors."""
    found = []
    for root, other in ((_C, _D), (_D, _C)):
        even, odd = (_combined(e, [(-other * other, d[i]), (1, d[i + 2])]) for i in (0, 1))
        found += [e.fma(e.constant(s), even, odd) for s in (root, -root)]
    return [*found, _combined(e, [(_C * _C * _D * _D, d[0]), (-_C * _C - _D * _D, d[2]), (1, d[4])])]


def _pair_result(e: Emit, m: Vectors) -> Vectors:
    """A' of five vectors: four."""
    s, u = e.b.fadd(m[0], m[1]), e.b.fadd(m[2], m[3])
    p, q = e.b.fsub(m[0], m[1]), e.b.fsub(m[2], m[3])
    found = [_combined(e, [(_C**k, x), (_D**k, y)]) for k, (x, y) in enumerate(((s, u), (p, q), (s, u)))]
    return [*found, _combined(e, [(_C**3, p), (_D**3, q), (1, m[4])])]


def _strided_patch(e: Emit, d: Vectors) -> Vectors:
    return _pair_patch(e, d[::2]) + d[1::2]


def _strided_gradient(e: Emit, d: Vectors) -> Vectors:
    """Five vectors, and four that tap 1 reads."""
    return _pair_patch(e, d[:_PAIR]) + d[_PAIR:]


def _strided_result(e: Emit, m: Vectors) -> Vectors:
    return [e.b.fadd(x, y) for x, y in zip(_pair_result(e, m), m[_PAIR:], strict=True)]


def _strided_input(e: Emit, m: Vectors) -> Vectors:
    """Eight results, first those of the pair."""
    return _pair_result(e, m) + m[_PAIR:]


def _strided_result_gradient(e: Emit, y: Vectors) -> Vectors:
    found = []
    for root in (_C, _D):
        even, odd = (_combined(e, [(root**i, y[i]), (root ** (i + 2), y[i + 2])]) for i in (0, 1))
        found += sum_and_difference(e, even, odd)
    return [*found, y[3], *y]


def _strided_filter(e: Emit, g: Vectors) -> Vectors:
    found = []
    for root in (_C, _D):
        even, odd = (e.b.fmul(e.constant(f), x) for f, x in ((_OVER[root] / root, g[0]), (_OVER[root], g[2])))
        found += [e.b.fadd(odd, even), e.b.fsub(odd, even)]
    return [*found, g[2], g[1]]


def _strided_filter_gradient(e: Emit, u: Vectors) -> Vectors:
    first = [(_OVER[root] / root, e.b.fsub(u[i], u[i + 1])) for root, i in ((_C, 0), (_D, 2))]
    last = [(_OVER[root], e.b.fadd(u[i], u[i + 1])) for root, i in ((_C, 0), (_D, 2))]
    return [_combined(e, first), u[5], _combined(e, [*last, (1, u[4])])]


# ------------------------------------------------------------------------------------- the maps of two dimensions


def _group(side: int, i: int) -> tuple[int, int]:
    """The filter of a value along a side, and with how many others it shares it."""
    return (min(i, _PAIR), _STRIDED - _PAIR if i >= _PAIR else 1) if side == _STRIDED else (i, 1)


def values_of(side: int) -> list[tuple[int, int]]:
    """For each filter of a scheme of two dimensions the first of the values that it multiplies, and how many there
    are."""
    groups = sorted({_group(side, i) for i in range(side)})
    return [(side * y + x * high, high * wide) for y, high in groups for x, wide in groups]


def _place(e: Emit, side: int, i: int, j: int, t: ir.Value, pitch: ir.Value, apart: ir.Value) -> ir.Value:
    """Where value (i, j) of tile t lies: values that one filter multiplies are rows that follow one another."""
    i64 = ir.IntType(64)
    (y, high), (x, wide) = _group(side, i), _group(side, j)
    row = e.b.add(e.b.mul(t, i64(high * wide)), i64((i - y) * wide + j - x))
    return e.b.add(e.b.mul(apart, i64(side * y + x * high)), e.b.mul(row, pitch))


def _rows_then_columns(e: Emit, of: Any, read: Any, write: Any, size: int) -> None:
    columns = [of(e, [read(i, j) for i in range(size)]) for j in range(size)]
    for i, line in enumerate(zip(*columns, strict=True)):
        for j, value in enumerate(of(e, list(line))):
            write(i, j, value)


def _at(e: Emit, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
    i64 = ir.IntType(64)
    return e.b.add(e.b.mul(row, i64(i)), e.b.mul(column, i64(j)))


def _to_values(of: Callable[[Emit, Vectors], Vectors], size: int, side: int) -> Any:
    """``size`` x ``size`` vectors at ``src[s + i s_row + j s_column]`` to the values of tile t."""

    @intrinsic
    def transform(typingctx, dst, d, t, pitch, apart, src, s, s_row, s_column):
        def codegen(context, builder, signature, args):
            dst, d, t, pitch, apart, src, s, s_row, s_column = args
            e = Emit(builder, signature.args[0])
            dst, src = e.at(dst, d), e.at(src, s)
            _rows_then_columns(
                e,
                of,
                lambda i, j: e.load(e.at(src, _at(e, s_row, s_column, i, j))),
                lambda i, j, value: e.store(value, e.at(dst, _place(e, side, i, j, t, pitch, apart))),
                size,
            )
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(dst, i64, i64, i64, i64, src, i64, i64, i64), codegen

    return transform


def _from_values(of: Callable[[Emit, Vectors], Vectors], side: int) -> Any:
    """The values of tile t to vectors at ``dst[d + i d_row + j d_column]``."""

    @intrinsic
    def transform(typingctx, dst, d, d_row, d_column, src, s, t, pitch, apart):
        def codegen(context, builder, signature, args):
            dst, d, d_row, d_column, src, s, t, pitch, apart = args
            e = Emit(builder, signature.args[0])
            dst, src = e.at(dst, d), e.at(src, s)
            _rows_then_columns(
                e,
                of,
                lambda i, j: e.load(e.at(src, _place(e, side, i, j, t, pitch, apart))),
                lambda i, j, value: e.store(value, e.at(dst, _at(e, d_row, d_column, i, j))),
                side,
            )
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(dst, i64, i64, i64, src, i64, i64, i64, i64), codegen

    return transform


patch_6 = _to_values(_patch, 6, 6)
patch_strided = _to_values(_strided_patch, _STRIDED, _STRIDED)
filter_3 = _to_values(_at_points(_SCALES), 3, 6)
filter_5 = _to_values(_at_points(_SCALES), 5, 6)
filter_strided = _to_values(_strided_filter, 3, 6)
result_gradient_4 = _to_values(_at_points((1, 1)), 4, 6)
result_gradient_2 = _to_values(_at_points((1, 1)), 2, 6)
result_gradient_strided = _to_values(_strided_result_gradient, 4, _STRIDED)
result_4 = _from_values(_result(4), 6)
result_2 = _from_values(_result(2), 6)
result_strided = _from_values(_strided_result, _STRIDED)
filter_gradient_3 = _from_values(_filter_gradient(3), 6)
filter_gradient_5 = _from_values(_filter_gradient(5), 6)
filter_gradient_strided = _from_values(_strided_filter_gradient, 6)


@intrinsic
def patch_turns(typingctx, dst, d, t, pitch, apart, src, s, s_row, s_column, down, right):
    """Backward by steps of 2: 5 x 5 pixels; tap 1 reads the four of a line from number ``down`` or ``right`` on, 0 or
    1."""

    def codegen(context, builder, signature, args):
        dst, d, t, pitch, apart, src, s, s_row, s_column, down, right = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)
        moved = builder.trunc(right, ir.IntType(1))
        first = e.at(src, builder.mul(down, s_row))

        def column(j: int) -> Vectors:
            pair = [e.load(e.at(src, _at(e, s_row, s_column, i, j))) for i in range(_PAIR)]
            single = [e.load(e.at(first, _at(e, s_row, s_column, i, j))) for i in range(_PAIR - 1)]
            return _strided_gradient(e, pair + single)

        for i, line in enumerate(zip(*[column(j) for j in range(_PAIR)], strict=True)):
            single = [builder.select(moved, line[j + 1], line[j]) for j in range(_PAIR - 1)]
            for j, value in enumerate(_strided_gradient(e, [*line, *single])):
                e.store(value, e.at(dst, _place(e, _STRIDED, i, j, t, pitch, apart)))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(dst, i64, i64, i64, i64, src, i64, i64, i64, i64, i64), codegen


@intrinsic
def input_turns(typingctx, dst, d, d_row, d_column, src, s, t, pitch, apart, down, right):
    """Its results, 8 x 8: those of tap 1 are number ``down`` or ``right`` of each two in a line, 0 or 1."""

    def codegen(context, builder, signature, args):
        dst, d, d_row, d_column, src, s, t, pitch, apart, down, right = args
        e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
        dst, src = e.at(dst, d), e.at(src, s)

        def position(i: int, single: ir.Value, step: ir.Value) -> ir.Value:
            of = builder.sub(i64(1), single) if i < 4 else single
            return builder.mul(builder.add(of, i64(2 * (i % 4))), step)

        def write(i: int, j: int, value: ir.Value) -> None:
            e.store(value, e.at(dst, builder.add(position(i, down, d_row), position(j, right, d_column))))

        def read(i: int, j: int) -> ir.Value:
            return e.load(e.at(src, _place(e, _STRIDED, i, j, t, pitch, apart)))

        _rows_then_columns(e, _strided_input, read, write, _STRIDED)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(dst, i64, i64, i64, src, i64, i64, i64, i64, i64, i64), codegen
