"""Winograd's transforms, as vector code: what maps patches, filters and results to values that are multiplied, and
back.

A scheme of two dimensions applies the same map along both sides. With g a filter and d a patch, a tile of results is
A' [(G g G') o (B' d B)] A; with z the gradient of that tile, the filter's is G' [(A z A') o (B' d B)] G.

* F(4, 3) and F(2, 5) have six values a side, at the points 0, +-1/sqrt 2, +-sqrt 2 and infinity.
* By steps of 2, taps 0 and 2 see every second pixel: F(4, 2) with the points +-2/5, +-5/4 and infinity makes five
  values of them, and tap 1 multiplies four more as they are. So a patch has nine values a side and a filter six, of
  which the last multiplies four. Forward they come from nine pixels, and both results are added; backward from five,
  and the results take turns.
* Along one axis matrices that are handed in map runs of vectors. Their points are 0, pairs +-p, and infinity, so that
  of two rows that belong to a pair even terms are the same and odd ones have opposite signs.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Emit, compact, no_inline, part, plain

__all__ = [
    "LINE",
    "SQUARE",
    "STEPS",
    "TURNS",
    "filters_to_values",
    "matrices",
    "patches_to_values",
    "results_to_values",
    "values_of",
    "values_to_filter",
    "values_to_results",
]

_Vectors = list[ir.Value]

#: Values a side by steps of 2, and those of the pair of taps.
_STRIDED, _PAIR = 9, 5

#: Schemes: the same map along both sides; by steps of 2; that backward-input; along one axis.
SQUARE, STEPS, TURNS, LINE = range(4)

#: Points of one dimension, at most; its matrices.
POINTS = 10
PATCHES, RESULTS, FILTERS = range(3)


def _combined(e: Emit, terms: list[tuple[float, ir.Value]]) -> ir.Value:
    """The sum of vectors by factors, the last of them the first that is made."""
    factor, vector = terms[-1]
    total = vector if factor == 1 else e.b.fmul(e.constant(factor), vector)
    for factor, vector in terms[-2::-1]:
        total = e.b.fadd(vector, total) if factor == 1 else e.fma(e.constant(factor), vector, total)
    return total


def _apart(e: Emit, even: ir.Value, odd: ir.Value) -> _Vectors:
    return [e.b.fadd(even, odd), e.b.fsub(even, odd)]


# -------------------------------------------------------------------------------------------------------- step 1

_A, _B = sqrt(0.5), sqrt(2.0)
_SCALES = (-1 / 1.5, 1 / 6)


def _patch(e: Emit, d: _Vectors) -> _Vectors:
    """B' of six vectors."""
    found = []
    for root, other in ((_A, _B), (_B, _A)):
        even, odd = (_combined(e, [(-other * other, d[i]), (1, d[i + 2])]) for i in (2, 1))
        found += [e.fma(e.constant(s), odd, even) for s in (root, -root)]
    ends = [e.fma(e.constant(-2.5), d[i + 2], e.b.fadd(d[i], d[i + 4])) for i in (0, 1)]
    return [ends[0], *found, ends[1]]


def _result(side: int) -> Callable[[Emit, _Vectors], _Vectors]:
    """A' of six vectors: four, or two."""

    def of(e: Emit, m: _Vectors) -> _Vectors:
        s, u = e.b.fadd(m[1], m[2]), e.b.fadd(m[3], m[4])
        p, q = e.b.fsub(m[1], m[2]), e.b.fsub(m[3], m[4])
        first, second = e.b.fadd(e.b.fadd(m[0], s), u), _combined(e, [(_A, p), (_B, q)])
        if side == 2:
            return [first, e.b.fadd(second, m[5])]
        third = _combined(e, [(0.5, s), (2.0, u)])
        return [first, second, third, _combined(e, [(_A / 2, p), (2 * _B, q), (1, m[5])])]

    return of


def _at_points(scales: tuple[float, float]) -> Callable[[Emit, _Vectors], _Vectors]:
    """The polynomial with these coefficients at all points, at the finite ones but 0 times a scale: G, or A."""

    def of(e: Emit, v: _Vectors) -> _Vectors:
        found = [v[0]]
        for root, scale in zip((_A, _B), scales, strict=True):
            even, odd = ([(scale * root**k, v[k]) for k in range(i, len(v), 2)] for i in (0, 1))
            found += _apart(e, _combined(e, even), _combined(e, odd))
        return [*found, v[-1]]

    return of


def _filter_gradient(taps: int) -> Callable[[Emit, _Vectors], _Vectors]:
    """G' of six vectors."""

    def of(e: Emit, u: _Vectors) -> _Vectors:
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


def _pair_patch(e: Emit, d: _Vectors) -> _Vectors:
    """B' of five vectors."""
    found = []
    for root, other in ((_C, _D), (_D, _C)):
        even, odd = (_combined(e, [(-other * other, d[i]), (1, d[i + 2])]) for i in (0, 1))
        found += [e.fma(e.constant(s), even, odd) for s in (root, -root)]
    return [*found, _combined(e, [(_C * _C * _D * _D, d[0]), (-_C * _C - _D * _D, d[2]), (1, d[4])])]


def _pair_result(e: Emit, m: _Vectors) -> _Vectors:
    """A' of five vectors: four."""
    s, u = e.b.fadd(m[0], m[1]), e.b.fadd(m[2], m[3])
    p, q = e.b.fsub(m[0], m[1]), e.b.fsub(m[2], m[3])
    found = [_combined(e, [(_C**k, x), (_D**k, y)]) for k, (x, y) in enumerate(((s, u), (p, q), (s, u)))]
    return [*found, _combined(e, [(_C**3, p), (_D**3, q), (1, m[4])])]


def _strided_patch(e: Emit, d: _Vectors) -> _Vectors:
    return _pair_patch(e, d[::2]) + d[1::2]


def _strided_gradient(e: Emit, d: _Vectors) -> _Vectors:
    """Five vectors, and four that tap 1 reads."""
    return _pair_patch(e, d[:_PAIR]) + d[_PAIR:]


def _strided_result(e: Emit, m: _Vectors) -> _Vectors:
    return [e.b.fadd(x, y) for x, y in zip(_pair_result(e, m), m[_PAIR:], strict=True)]


def _strided_input(e: Emit, m: _Vectors) -> _Vectors:
    """Eight results, first those of the pair."""
    return _pair_result(e, m) + m[_PAIR:]


def _strided_result_gradient(e: Emit, y: _Vectors) -> _Vectors:
    found = []
    for root in (_C, _D):
        even, odd = (_combined(e, [(root**i, y[i]), (root ** (i + 2), y[i + 2])]) for i in (0, 1))
        found += _apart(e, even, odd)
    return [*found, y[3], *y]


def _strided_filter(e: Emit, g: _Vectors) -> _Vectors:
    found = []
    for root in (_C, _D):
        even, odd = (e.b.fmul(e.constant(f), x) for f, x in ((_OVER[root] / root, g[0]), (_OVER[root], g[2])))
        found += [e.b.fadd(odd, even), e.b.fsub(odd, even)]
    return [*found, g[2], g[1]]


def _strided_filter_gradient(e: Emit, u: _Vectors) -> _Vectors:
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


def _to_values(of: Callable[[Emit, _Vectors], _Vectors], size: int, side: int) -> Any:
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


def _from_values(of: Callable[[Emit, _Vectors], _Vectors], side: int) -> Any:
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


_patch_6 = _to_values(_patch, 6, 6)
_patch_strided = _to_values(_strided_patch, _STRIDED, _STRIDED)
_filter_3 = _to_values(_at_points(_SCALES), 3, 6)
_filter_5 = _to_values(_at_points(_SCALES), 5, 6)
_filter_strided = _to_values(_strided_filter, 3, 6)
_result_gradient_4 = _to_values(_at_points((1, 1)), 4, 6)
_result_gradient_2 = _to_values(_at_points((1, 1)), 2, 6)
_result_gradient_strided = _to_values(_strided_result_gradient, 4, _STRIDED)
_result_4 = _from_values(_result(4), 6)
_result_2 = _from_values(_result(2), 6)
_result_strided = _from_values(_strided_result, _STRIDED)
_filter_gradient_3 = _from_values(_filter_gradient(3), 6)
_filter_gradient_5 = _from_values(_filter_gradient(5), 6)
_filter_gradient_strided = _from_values(_strided_filter_gradient, 6)


@intrinsic
def _patch_turns(typingctx, dst, d, t, pitch, apart, src, s, s_row, s_column, down, right):
    """Backward by steps of 2: 5 x 5 pixels; tap 1 reads the four of a line from number ``down`` or ``right`` on, 0 or
    1."""

    def codegen(context, builder, signature, args):
        dst, d, t, pitch, apart, src, s, s_row, s_column, down, right = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)
        moved = builder.trunc(right, ir.IntType(1))
        first = e.at(src, builder.mul(down, s_row))

        def column(j: int) -> _Vectors:
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
def _input_turns(typingctx, dst, d, d_row, d_column, src, s, t, pitch, apart, down, right):
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


# -------------------------------------------------------------------------------------------------- one dimension


def _line_to(ins: int) -> Any:
    """``ins`` vectors by a matrix of POINTS columns to as many values as there are points; the first and the last row
    have terms of one parity alone."""

    @intrinsic
    def transform(typingctx, dst, d, apart, src, s, s_step, matrix, m, points):
        def codegen(context, builder, signature, args):
            dst, d, apart, src, s, s_step, matrix, m, points = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            dst, src, matrix = e.at(dst, d), e.at(src, s), e.at(matrix, m)
            x = [e.load(e.at(src, builder.mul(s_step, i64(j)))) for j in range(ins)]
            last = builder.sub(points, i64(1))

            def row(i: ir.Value, columns: range) -> ir.Value:
                start, total = e.at(matrix, builder.mul(i, i64(POINTS))), None
                for j in columns:
                    factor = e.splat(builder.load(e.at(start, j)))
                    total = builder.fmul(factor, x[j]) if total is None else e.fma(factor, x[j], total)
                return e.zero() if total is None else total

            e.store(row(i64(0), range(0, ins, 2)), dst)
            e.store(row(last, range((ins - 1) % 2, ins, 2)), e.at(dst, builder.mul(last, apart)))

            def pair(k: ir.Value, _: _Vectors) -> _Vectors:
                i = builder.add(builder.mul(k, i64(2)), i64(1))
                both = _apart(e, row(i, range(0, ins, 2)), row(i, range(1, ins, 2)))
                start = e.at(dst, builder.mul(i, apart))
                for value, place in zip(both, (start, e.at(start, apart)), strict=True):
                    e.store(value, place)
                return []

            e.loop(builder.sub(builder.sdiv(points, i64(2)), i64(1)), [], pair)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(dst, i64, i64, src, i64, i64, matrix, i64, i64), codegen

    return transform


def _line_from(points: int) -> Any:
    """A value of each point by the same matrix turned, to ``count`` vectors."""

    @intrinsic
    def transform(typingctx, dst, d, d_step, src, s, apart, matrix, m, count):
        def codegen(context, builder, signature, args):
            dst, d, d_step, src, s, apart, matrix, m, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            dst, src, matrix = e.at(dst, d), e.at(src, s), e.at(matrix, m)
            x = [e.load(e.at(src, builder.mul(apart, i64(i)))) for i in range(points)]
            pairs = [_apart(e, x[i], x[i + 1]) for i in range(1, points - 1, 2)]
            last = builder.sub(count, i64(1))

            def position(j: ir.Value, _: _Vectors) -> _Vectors:
                odd = builder.trunc(j, ir.IntType(1))
                total = e.zero()
                for k, (even_term, odd_term) in enumerate(pairs):
                    factor = builder.load(e.at(e.at(matrix, j), (2 * k + 1) * POINTS))
                    total = e.fma(e.splat(factor), builder.select(odd, odd_term, even_term), total)
                for end, at in ((x[0], i64(0)), (x[-1], last)):
                    total = builder.select(builder.icmp_signed("==", j, at), builder.fadd(end, total), total)
                e.store(total, e.at(dst, builder.mul(j, d_step)))
                return []

            e.loop(count, [], position)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(dst, i64, i64, src, i64, i64, matrix, i64, i64), codegen

    return transform


_to_2, _to_3, _to_4, _to_5, _to_6, _to_7, _to_8, _to_9, _to_10 = (_line_to(i) for i in range(2, POINTS + 1))
_from_6, _from_8, _from_10 = (_line_from(p) for p in (6, 8, 10))


@part
def _line_to_values(dst, d, apart, src, s, s_step, matrix, m, points, count):
    compact()
    no_inline()
    if count == 2:
        _to_2(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 3:
        _to_3(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 4:
        _to_4(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 5:
        _to_5(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 6:
        _to_6(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 7:
        _to_7(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 8:
        _to_8(dst, d, apart, src, s, s_step, matrix, m, points)
    elif count == 9:
        _to_9(dst, d, apart, src, s, s_step, matrix, m, points)
    else:
        _to_10(dst, d, apart, src, s, s_step, matrix, m, points)


@part
def _line_from_values(dst, d, d_step, src, s, apart, matrix, m, points, count):
    compact()
    no_inline()
    if points == 6:
        _from_6(dst, d, d_step, src, s, apart, matrix, m, count)
    elif points == 8:
        _from_8(dst, d, d_step, src, s, apart, matrix, m, count)
    else:
        _from_10(dst, d, d_step, src, s, apart, matrix, m, count)


#: Pairs of points. They and their reciprocals keep the error small.
_PAIRS = {6: (_A, _B), 8: (0.5, 1.0, 2.0), 10: (0.4, 0.8, 1.25, 2.5)}


def matrices(points: int, taps: int) -> np.ndarray:
    """Those of one dimension: PATCHES, RESULTS, FILTERS. A patch's rows are polynomials with all points but one as
    roots; the others' powers of the points, those for filters over the values of the polynomials there."""
    pairs, last, step = np.array(_PAIRS[points]), points - 1, points + 1 - taps
    m = np.zeros((3, POINTS, POINTS))

    def polynomial(roots: np.ndarray) -> np.ndarray:
        return np.poly(roots)[::-1]

    whole = polynomial(pairs**2)
    m[PATCHES, 0, 0:points:2] = whole / whole[0]
    m[PATCHES, last, 1 : points + 1 : 2] = whole
    m[RESULTS, 0, 0] = m[RESULTS, last, step - 1] = m[FILTERS, 0, 0] = m[FILTERS, last, taps - 1] = 1
    for i, p in enumerate(pairs):
        row, c = 1 + 2 * i, polynomial(np.delete(pairs, i) ** 2)
        m[PATCHES, row, 1:last:2], m[PATCHES, row, 2:points:2] = p * c, c
        value = 2 * p * p * np.polyval(c[::-1], p * p)
        m[RESULTS, row, :step] = p ** np.arange(step)
        m[FILTERS, row, :taps] = p ** np.arange(taps) / value
    return m


# --------------------------------------------------------------------------------------------------- any of them
#
# ``job``: a problem of ``winograd.PROBLEM``. A line's values are the vectors along its one axis.


@part
def patches_to_values(dst, d, t, pitch, apart, src, s, s_row, s_column, hop, tiles, matrix, job):
    """The patches of ``tiles`` tiles from number t on, ``hop`` elements apart."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == SQUARE:
            _patch_6(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == STEPS:
            _patch_strided(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == TURNS:
            _patch_turns(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column, job.down, job.right)
        else:
            step = s_column if job.along else s_row
            at = plain(PATCHES * POINTS * POINTS)
            _line_to_values(dst, d + (t + i) * pitch, apart, src, s + i * hop, step, matrix, at, job.values, job.values)


@part
def results_to_values(dst, d, t, pitch, apart, src, s, s_row, s_column, hop, tiles, matrix, job):
    """The gradients of tiles of results likewise."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == STEPS:
            _result_gradient_strided(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == SQUARE and job.side_1 == 4:
            _result_gradient_4(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == SQUARE:
            _result_gradient_2(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        else:
            step, count = (s_column, job.side_2) if job.along else (s_row, job.side_1)
            at = RESULTS * POINTS * POINTS
            _line_to_values(dst, d + (t + i) * pitch, apart, src, s + i * hop, step, matrix, at, job.values, count)


@part
def values_to_results(dst, d, d_row, d_column, hop, src, s, t, pitch, apart, tiles, matrix, job):
    """The results of ``tiles`` tiles from number t on, ``hop`` elements apart."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == STEPS:
            _result_strided(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        elif job.scheme == TURNS:
            _input_turns(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart, job.down, job.right)
        elif job.scheme == SQUARE and job.side_1 == 4:
            _result_4(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        elif job.scheme == SQUARE:
            _result_2(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        else:
            step, count = (d_column, job.side_2) if job.along else (d_row, job.side_1)
            at = RESULTS * POINTS * POINTS
            _line_from_values(
                dst, d + i * hop, step, src, s + (t + i) * pitch, apart, matrix, at, job.values, count
            )  # fmt: skip


@part
def filters_to_values(dst, d, apart, src, s, s_tap, matrix, job):
    """A vector of filters, whose taps lie ``s_tap`` elements apart."""
    compact()
    no_inline()
    if job.scheme == STEPS or job.scheme == TURNS:
        _filter_strided(dst, d, 0, 0, apart, src, s, 3 * s_tap, s_tap)
    elif job.scheme == SQUARE and job.taps == 9:
        _filter_3(dst, d, 0, 0, apart, src, s, 3 * s_tap, s_tap)
    elif job.scheme == SQUARE:
        _filter_5(dst, d, 0, 0, apart, src, s, 5 * s_tap, s_tap)
    else:
        at = FILTERS * POINTS * POINTS
        _line_to_values(dst, d, apart, src, s, s_tap, matrix, at, job.values, job.taps)


@part
def values_to_filter(dst, d, d_tap, src, s, apart, matrix, job):
    """The gradient of such a vector."""
    compact()
    no_inline()
    if job.scheme == STEPS:
        _filter_gradient_strided(dst, d, 3 * d_tap, d_tap, src, s, 0, 0, apart)
    elif job.scheme == SQUARE and job.taps == 9:
        _filter_gradient_3(dst, d, 3 * d_tap, d_tap, src, s, 0, 0, apart)
    elif job.scheme == SQUARE:
        _filter_gradient_5(dst, d, 5 * d_tap, d_tap, src, s, 0, 0, apart)
    else:
        at = FILTERS * POINTS * POINTS
        _line_from_values(dst, d, d_tap, src, s, apart, matrix, at, job.values, job.taps)
