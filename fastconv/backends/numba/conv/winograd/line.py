"""Winograd's transforms along one axis, as vector code: matrices that are handed in map runs of vectors.

Their points are 0, pairs +-p, and infinity, so that of two rows that belong to a pair even terms are the same and odd
ones have opposite signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...core.compile import part
from ...core.emit import INDEX, Emit
from ...core.intrinsics import compact, no_inline
from .square import Vectors, sum_and_difference

__all__ = ["FILTERS", "PATCHES", "POINTS", "RESULTS", "line_from_values", "line_to_values", "matrices"]

#: Points of one dimension, at most; its matrices.
POINTS = 10
PATCHES, RESULTS, FILTERS = range(3)

#: Pairs of points. They and their reciprocals keep the error small.
_PAIRS = {6: (sqrt(0.5), sqrt(2.0)), 8: (0.5, 1.0, 2.0), 10: (0.4, 0.8, 1.25, 2.5)}


def _to_points(e: Emit, ins: int, dst: Any, apart: Any, src: Any, s_step: Any, matrix: Any, points: Any) -> None:
    """``ins`` vectors to values: the first and the last row have terms of one parity alone."""
    i64 = ir.IntType(64)
    x = [e.load(e.at(src, e.b.mul(s_step, i64(j)))) for j in range(ins)]
    last = e.b.sub(points, i64(1))

    def row(i: ir.Value, columns: range) -> ir.Value:
        start, total = e.at(matrix, e.b.mul(i, i64(POINTS))), None
        for j in columns:
            factor = e.splat(e.b.load(e.at(start, j)))
            total = e.b.fmul(factor, x[j]) if total is None else e.fma(factor, x[j], total)
        return e.zero() if total is None else total

    e.store(row(i64(0), range(0, ins, 2)), dst)
    e.store(row(last, range((ins - 1) % 2, ins, 2)), e.at(dst, e.b.mul(last, apart)))

    def pair(k: ir.Value, _: Vectors) -> Vectors:
        i = e.b.add(e.b.mul(k, i64(2)), i64(1))
        both = sum_and_difference(e, row(i, range(0, ins, 2)), row(i, range(1, ins, 2)))
        start = e.at(dst, e.b.mul(i, apart))
        for value, place in zip(both, (start, e.at(start, apart)), strict=True):
            e.store(value, place)
        return []

    e.loop(e.b.sub(e.b.sdiv(points, i64(2)), i64(1)), [], pair)


def _from_points(e: Emit, points: int, dst: Any, d_step: Any, src: Any, apart: Any, matrix: Any, count: Any) -> None:
    """Values of so many points to vectors."""
    i64 = ir.IntType(64)
    x = [e.load(e.at(src, e.b.mul(apart, i64(i)))) for i in range(points)]
    pairs = [sum_and_difference(e, x[i], x[i + 1]) for i in range(1, points - 1, 2)]
    last = e.b.sub(count, i64(1))

    def position(j: ir.Value, _: Vectors) -> Vectors:
        odd = e.b.trunc(j, ir.IntType(1))
        total = e.zero()
        for k, (even_term, odd_term) in enumerate(pairs):
            factor = e.b.load(e.at(e.at(matrix, j), (2 * k + 1) * POINTS))
            total = e.fma(e.splat(factor), e.b.select(odd, odd_term, even_term), total)
        for end, at in ((x[0], i64(0)), (x[-1], last)):
            total = e.b.select(e.b.icmp_signed("==", j, at), e.b.fadd(end, total), total)
        e.store(total, e.at(dst, e.b.mul(j, d_step)))
        return []

    e.loop(count, [], position)


def _each(e: Emit, number: ir.Value, cases: Iterable[int], body: Callable[[int], None]) -> None:
    """``body`` of the one of the cases that a number is."""
    for case in cases:
        with e.b.if_then(e.b.icmp_signed("==", number, ir.IntType(64)(case))):
            body(case)


@intrinsic
def _line_to_values(typingctx, dst, d, apart, src, s, s_step, matrix, m, points, count):
    def codegen(context, builder, signature, args):
        dst, d, apart, src, s, s_step, matrix, m, points, count = args
        e = Emit(builder, signature.args[0])
        dst, src, matrix = e.at(dst, d), e.at(src, s), e.at(matrix, m)
        _each(
            e, count, range(2, POINTS + 1), lambda ins: _to_points(e, ins, dst, apart, src, s_step, matrix, points)
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, matrix, INDEX, INDEX, INDEX), codegen


@intrinsic
def _line_from_values(typingctx, dst, d, d_step, src, s, apart, matrix, m, points, count):
    def codegen(context, builder, signature, args):
        dst, d, d_step, src, s, apart, matrix, m, points, count = args
        e = Emit(builder, signature.args[0])
        dst, src, matrix = e.at(dst, d), e.at(src, s), e.at(matrix, m)
        _each(e, points, _PAIRS, lambda many: _from_points(e, many, dst, d_step, src, apart, matrix, count))
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, matrix, INDEX, INDEX, INDEX), codegen


@part
def line_to_values(dst, d, apart, src, s, s_step, matrix, m, points, count):
    """``count`` vectors by a matrix of POINTS columns to as many values as there are points."""
    compact()
    no_inline()
    _line_to_values(dst, d, apart, src, s, s_step, matrix, m, points, count)


@part
def line_from_values(dst, d, d_step, src, s, apart, matrix, m, points, count):
    """A value of each point by the same matrix turned, to ``count`` vectors."""
    compact()
    no_inline()
    _line_from_values(dst, d, d_step, src, s, apart, matrix, m, points, count)


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
