"""Sums of products of vectors: the register tiles of matrix products, and of taps that weigh rows of vectors.

Intrinsics, as in ``simd.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import INDEX, MR, NV, PITCH, Emit

__all__ = [
    "COLUMNS",
    "LINES",
    "PIXELS",
    "TOGETHER",
    "correlate_3_0",
    "correlate_3_1",
    "correlate_3_2",
    "correlate_5_0",
    "correlate_5_1",
    "correlate_5_2",
    "correlate_rows",
    "correlate_strip",
    "lines_of",
    "micro_kernel",
    "outer_kernel",
    "weigh_1_1",
    "weigh_2_1",
    "weigh_3_1",
    "weigh_3_2",
    "weigh_5_1",
    "weigh_5_2",
    "weigh_results",
    "weigh_rows",
    "weigh_strip",
    "weigh_strip_1",
    "weigh_strip_2",
]


def _tile(a_row: int) -> Callable[..., ir.Value]:
    """``c[MR][NR] (+)= sum over k of a[i a_row + k a_step] b[k b_step + j]``, rows of c ``c_step`` apart.

    The sum over k starts from 0 and is added to c last, so the rounding error grows with KC, not with all of K.
    """

    def codegen(context, builder, signature, args):
        a, ai, a_step, b, bi, b_step, c, ci, c_step, k, add = args
        e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
        a, b, c = e.at(a, ai), e.at(b, bi), e.at(c, ci)

        def step(a_k: ir.Value, b_k: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
            right = [e.load(e.at(b_k, v * e.width)) for v in range(NV)]
            out = []
            for i in range(MR):
                left = e.splat(builder.load(e.at(a_k, i * a_row), align=e.size))
                out += [e.fma(left, right[v], acc[i * NV + v]) for v in range(NV)]
            return out

        def unrolled(count: int) -> Callable[..., list[ir.Value]]:
            def body(_: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                a_k, b_k, *acc = carried
                for _ in range(count):
                    acc = step(a_k, b_k, acc)
                    a_k, b_k = e.at(a_k, a_step), e.at(b_k, b_step)
                return [a_k, b_k, *acc]

            return body

        carried = [a, b] + [e.zero()] * (MR * NV)
        carried = e.loop(builder.lshr(k, i64(2)), carried, unrolled(4))
        carried = e.loop(builder.and_(k, i64(3)), carried, unrolled(1))
        acc = carried[2:]
        rows = [e.at(c, builder.mul(c_step, i64(i))) for i in range(MR)]
        places = [e.at(start, v * e.width) for start in rows for v in range(NV)]
        with builder.if_else(add) as (then, otherwise):
            with then:
                for value, address in zip(acc, places, strict=True):
                    e.store(builder.fadd(value, e.load(address)), address)
            with otherwise:
                for value, address in zip(acc, places, strict=True):
                    e.store(value, address)
        return context.get_dummy_value()

    return codegen


def _tile_types(a: types.Type, b: types.Type, c: types.Type) -> types.Type:
    return types.void(a, INDEX, INDEX, b, INDEX, INDEX, c, INDEX, INDEX, INDEX, types.boolean)


@intrinsic
def micro_kernel(typingctx, a, ai, a_step, b, bi, b_step, c, ci, c_step, k, add):
    """The register tile of packed panels: rows of a PITCH apart, its steps 1, those of b NR."""
    return _tile_types(a, b, c), _tile(PITCH)


@intrinsic
def outer_kernel(typingctx, a, ai, a_step, b, bi, b_step, c, ci, c_step, k, add):
    """The register tile of matrices that both lie row by row, one row a step."""
    return _tile_types(a, b, c), _tile(1)


#: Lines that they compute at a time, and how many vectors of each.
LINES, COLUMNS = 4, 2


def _weigh(several_sources: bool) -> Callable[..., ir.Value]:
    """COLUMNS vectors of LINES lines, ``dst[d + i d_step + j] = sum over t of weights[w + t] src[s + offsets[t] + j]``.

    ``step`` is how far apart either the sources or the weights lie; the lines share the others.
    """

    def codegen(context, builder, signature, args):
        dst, d, d_step, src, s, weights, w, step, offsets, taps = args
        e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
        table = context.make_array(signature.args[8])(context, builder, offsets).data

        def starts(base: ir.Value, first: ir.Value, step: ir.Value, count: int) -> list[ir.Value]:
            return [e.at(base, builder.add(first, builder.mul(step, i64(i)))) for i in range(count)]

        sources = starts(src, s, step, LINES if several_sources else 1)
        panels = starts(weights, w, step, 1 if several_sources else LINES)

        def body(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
            offset = builder.load(e.at(table, t))
            factors = [e.splat(builder.load(e.at(p, t))) for p in panels]
            vectors = [[e.load(p) for p in e.at_each(source, offset, COLUMNS)] for source in sources]
            pairs = [(factor, x) for factor in factors for line in vectors for x in line]
            return [e.fma(factor, x, a) for (factor, x), a in zip(pairs, acc, strict=True)]

        results = e.loop(taps, [e.zero()] * (LINES * COLUMNS), body)
        for i, start in enumerate(starts(dst, d, d_step, LINES)):
            for j in range(COLUMNS):
                e.store(results[i * COLUMNS + j], e.at(start, j * e.width))
        return context.get_dummy_value()

    return codegen


def _weigh_types(dst: types.Type, src: types.Type, weights: types.Type, offsets: types.Type) -> types.Type:
    return types.void(dst, INDEX, INDEX, src, INDEX, weights, INDEX, INDEX, offsets, INDEX)


@intrinsic
def weigh_rows(typingctx, dst, d, d_step, src, s, weights, w, step, offsets, taps):
    """LINES rows, ``step`` apart, by the same weights."""
    return _weigh_types(dst, src, weights, offsets), _weigh(several_sources=True)


@intrinsic
def weigh_results(typingctx, dst, d, d_step, src, s, weights, w, step, offsets, taps):
    """One row by LINES sets of weights, ``step`` apart."""
    return _weigh_types(dst, src, weights, offsets), _weigh(several_sources=False)


#: Pixels of a strip that are weighed at a time.
PIXELS = 8


def _weigh_strip(step: int) -> Any:
    """Of strips, a vector a pixel:
    ``dst[d + i d_step] = src[start] + sum over t of weights[w + t lanes] src[s + offsets[t] + i step]``,
    for PIXELS pixels i, of which the first ``count`` are stored. ``step``: in vectors, 0: that of the call."""

    @intrinsic
    def weigh(typingctx, dst, d, d_step, src, s, s_step, weights, w, start, offsets, taps, count):
        def codegen(context, builder, signature, args):
            dst, d, d_step, src, s, s_step, weights, w, start, offsets, taps, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            table = context.make_array(signature.args[9])(context, builder, offsets).data
            first = e.load(e.at(src, start))
            dst, src, weights = e.at(dst, d), e.at(src, s), e.at(weights, w)

            def body(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                line = e.at(src, builder.load(e.at(table, t)))
                factor = e.load(e.at(weights, builder.mul(t, i64(e.width))))
                places = [i64(i * step * e.width) if step else builder.mul(s_step, i64(i)) for i in range(PIXELS)]
                return [e.fma(factor, e.load(e.at(line, p)), a) for p, a in zip(places, acc, strict=True)]

            results = e.loop(taps, [first] * PIXELS, body)
            for i, value in enumerate(results):
                with builder.if_then(builder.icmp_signed("<", i64(i), count), likely=True):
                    e.store(value, e.at(dst, builder.mul(d_step, i64(i))))
            return context.get_dummy_value()

        arrays = (weights, INDEX, INDEX, offsets, INDEX, INDEX)
        return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, *arrays), codegen

    return weigh


weigh_strip, weigh_strip_1, weigh_strip_2 = (_weigh_strip(step) for step in range(3))


@intrinsic
def correlate_strip(typingctx, sums, k, x, xi, x_row, x_step, y, yi, y_row, offsets, p, rows, columns):
    """TOGETHER taps of strips, a vector a pixel:
    ``sums[k + t lanes] += sum over i, j of y[yi + i y_row + j lanes] x[xi + i x_row + j x_step + offsets[p + t]]``."""

    def codegen(context, builder, signature, args):
        sums, k, x, xi, x_row, x_step, y, yi, y_row, offsets, p, rows, columns = args
        e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
        table = e.at(context.make_array(signature.args[9])(context, builder, offsets).data, p)
        taps = [e.at(e.at(x, xi), builder.load(e.at(table, t))) for t in range(TOGETHER)]
        sums, y = e.at(sums, k), e.at(y, yi)

        def row(i: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
            line, first = e.at(y, builder.mul(i, y_row)), builder.mul(i, x_row)

            def pixel(j: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                value = e.load(e.at(line, builder.mul(j, i64(e.width))))
                at = builder.add(first, builder.mul(j, x_step))
                return [e.fma(value, e.load(e.at(tap, at)), a) for tap, a in zip(taps, acc, strict=True)]

            return e.loop(columns, acc, pixel)

        for t, value in enumerate(e.loop(rows, [e.zero()] * TOGETHER, row)):
            place = e.at(sums, t * e.width)
            e.store(builder.fadd(e.load(place), value), place)
        return context.get_dummy_value()

    arrays = (offsets, INDEX, INDEX, INDEX)
    return types.void(sums, INDEX, x, INDEX, INDEX, INDEX, y, INDEX, INDEX, *arrays), codegen


#: Taps that are correlated at a time.
TOGETHER = 9


@intrinsic
def correlate_rows(typingctx, totals, k, y, yi, y_step, x, xi, x_step, places, p, rows, columns):
    """TOGETHER taps: ``totals[k + t] += sum over i, j of y[yi + i y_step + j] x[xi + i x_step + places[p + t] + j]``.

    ``totals`` is float64; the sums of one call are of the arrays' own type.
    """

    def codegen(context, builder, signature, args):
        totals, k, y, yi, y_step, x, xi, x_step, places, p, rows, columns = args
        e, i64 = Emit(builder, signature.args[2]), ir.IntType(64)
        table = context.make_array(signature.args[8])(context, builder, places).data
        sums = context.make_array(signature.args[0])(context, builder, totals).data
        start = e.at(x, xi)
        taps = [e.at(start, builder.load(e.at(e.at(table, p), t))) for t in range(TOGETHER)]
        # The last vector of a row is masked: what lies behind the columns may be NaN, which even zeros let through.
        whole = builder.sdiv(builder.sub(columns, i64(1)), i64(e.width))
        rest = e.between(i64(0), builder.sub(columns, builder.mul(whole, i64(e.width))))

        def row(i: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
            line = e.at(y, builder.add(yi, builder.mul(i, y_step)))
            base = builder.mul(i, x_step)

            def inside(j: ir.Value, acc: list[ir.Value], load: Callable[[ir.Value], ir.Value]) -> list[ir.Value]:
                at = builder.mul(j, i64(e.width))
                value, at_x = load(e.at(line, at)), builder.add(base, at)
                return [e.fma(value, load(e.at(tap, at_x)), a) for tap, a in zip(taps, acc, strict=True)]

            acc = e.loop(whole, acc, lambda j, acc: inside(j, acc, e.load))
            return inside(whole, acc, lambda place: e.load_masked(place, rest))

        for t, value in enumerate(e.loop(rows, [e.zero()] * TOGETHER, row)):
            place = e.at(e.at(sums, k), t)
            total = e.sum(value) if e.size == 8 else builder.fpext(e.sum(value), ir.DoubleType())
            builder.store(builder.fadd(builder.load(place), total), place)
        return context.get_dummy_value()

    return types.void(totals, INDEX, y, INDEX, INDEX, x, INDEX, INDEX, places, INDEX, INDEX, INDEX), codegen


def lines_of(step: int) -> int:
    """Lines of results that a tile of pixels has, whose rows of taps overlap."""
    return 4 if step == 1 else 2


def _column_of_places(e: Emit, places: ir.Value, rows: int) -> Callable[[ir.Value, ir.Value], list[ir.Value]]:
    """``at(column, c)``: the vectors of channels from c on at the addresses of a column of a table."""

    def at(column: ir.Value, c: ir.Value) -> list[ir.Value]:
        start = e.at(places, e.b.mul(column, ir.IntType(64)(rows)))
        addresses = [e.b.load(e.at(start, row)) for row in range(rows)]
        return [e.load(e.at(e.b.inttoptr(a, e.scalar.as_pointer()), c)) for a in addresses]

    return at


def _blocks(e: Emit, count: ir.Value, body: Callable[[ir.Value, ir.Value], None]) -> None:
    """``body(i, c)`` for vector i of ``count`` channels, of which the last may begin among those before."""
    b, i64 = e.b, ir.IntType(64)
    last = b.sub(count, i64(e.width))

    def block(i: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
        c = b.mul(i, i64(e.width))
        body(i, b.select(b.icmp_signed("<", c, last), c, last))
        return []

    e.loop(b.sdiv(b.add(count, i64(e.width - 1)), i64(e.width)), [], block)


def _weigh_lines(height: int, step: int) -> Any:
    """A pixel of each of some lines, the sum over columns t and rows y of taps:
    ``dst[d + l d_line + c] = start[c] + sum of weights[w + ...] at[first + t spacing][l step + y][c]``.

    ``places`` holds the addresses ``at`` column by column; the weights are in blocks of channels, columns and rows.
    """
    lines = lines_of(step)
    rows = (lines - 1) * step + height

    @intrinsic
    def weigh(typingctx, dst, d, d_line, weights, w, start, places, first, spacing, taps, count):
        def codegen(context, builder, signature, args):
            dst, d, d_line, weights, w, start, places, first, spacing, taps, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            column = _column_of_places(e, context.make_array(signature.args[6])(context, builder, places).data, rows)
            start = builder.inttoptr(start, e.scalar.as_pointer())
            weights = e.at(weights, w)
            out = [e.at(dst, builder.add(d, builder.mul(d_line, i64(line)))) for line in range(lines)]

            def block(i: ir.Value, c: ir.Value) -> None:
                panel = e.at(weights, builder.mul(builder.mul(i, taps), i64(height * e.width)))

                def tap(t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    acc, own = list(carried), e.at(panel, builder.mul(t, i64(height * e.width)))
                    factors = [e.load(e.at(own, y * e.width)) for y in range(height)]
                    for row, value in enumerate(column(builder.add(first, builder.mul(t, spacing)), c)):
                        for line in range(lines):
                            if 0 <= row - line * step < height:
                                acc[line] = e.fma(factors[row - line * step], value, acc[line])
                    return acc

                for value, line in zip(e.loop(taps, [e.load(e.at(start, c))] * lines, tap), out, strict=True):
                    e.store(value, e.at(line, c))

            _blocks(e, count, block)
            return context.get_dummy_value()

        return types.void(dst, INDEX, INDEX, weights, INDEX, INDEX, places, INDEX, INDEX, INDEX, INDEX), codegen

    return weigh


weigh_1_1, weigh_2_1, weigh_3_1, weigh_5_1 = (_weigh_lines(height, 1) for height in (1, 2, 3, 5))
weigh_3_2, weigh_5_2 = (_weigh_lines(height, 2) for height in (3, 5))


def _correlate_lines(height: int, step: int) -> Any:
    """The gradient of the same weights, from sum 0 on:
    ``sums[...] += sum over l of dy[d + l d_line + c] at[first + t spacing][l step + y][c]``. Step 0: of one line."""
    lines = lines_of(step) if step else 1
    rows = (lines - 1) * step + height

    @intrinsic
    def correlate(typingctx, sums, dy, d, d_line, places, first, spacing, taps, count):
        def codegen(context, builder, signature, args):
            sums, dy, d, d_line, places, first, spacing, taps, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            column = _column_of_places(e, context.make_array(signature.args[4])(context, builder, places).data, rows)
            given = [e.at(dy, builder.add(d, builder.mul(d_line, i64(line)))) for line in range(lines)]

            def block(i: ir.Value, c: ir.Value) -> None:
                factors = [e.load(e.at(line, c)) for line in given]
                panel = e.at(sums, builder.mul(builder.mul(i, taps), i64(height * e.width)))

                def tap(t: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                    own = e.at(panel, builder.mul(t, i64(height * e.width)))
                    acc = [e.load(e.at(own, y * e.width)) for y in range(height)]
                    for row, value in enumerate(column(builder.add(first, builder.mul(t, spacing)), c)):
                        for line in range(lines):
                            y = row - line * step
                            if 0 <= y < height:
                                acc[y] = e.fma(factors[line], value, acc[y])
                    for y in range(height):
                        e.store(acc[y], e.at(own, y * e.width))
                    return []

                e.loop(taps, [], tap)

            _blocks(e, count, block)
            return context.get_dummy_value()

        return types.void(sums, dy, INDEX, INDEX, places, INDEX, INDEX, INDEX, INDEX), codegen

    return correlate


correlate_3_0, correlate_3_1, correlate_3_2 = (_correlate_lines(3, step) for step in range(3))
correlate_5_0, correlate_5_1, correlate_5_2 = (_correlate_lines(5, step) for step in range(3))
