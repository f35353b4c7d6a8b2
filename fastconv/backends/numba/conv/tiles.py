"""Sums of products of vectors: taps that weigh rows of vectors, and the gradients of these weights. Intrinsics, as in
``core.intrinsics``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..core.emit import INDEX, Emit

__all__ = [
    "COLUMNS",
    "LINES",
    "PIXELS",
    "TOGETHER",
    "correlate_3",
    "correlate_3_1",
    "correlate_3_2",
    "correlate_5",
    "correlate_5_1",
    "correlate_5_2",
    "correlate_rows",
    "correlate_strip",
    "lines_of",
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

        results = e.sums(taps, [e.zero()] * (LINES * COLUMNS), body)
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

            results = e.sums(taps, [first] * PIXELS, body)
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


#: Pixels of lines whose taps are the same columns: how many; the column of tap 0 of the first, and how far they are
#: apart; the first tap, and the one behind the last; elements from tap to tap; how many taps there are in all.
RUN = types.UniTuple(INDEX, 7)


class _Run:
    """The pixels of a ``RUN``, by the rows that they read: ``places`` has where each begins and, behind that, elements
    from one column to the next. Weights and sums lie in blocks of channels, then columns, then rows of taps."""

    def __init__(self, e: Emit, rows: int, height: int, places: ir.Value, run: ir.Value, count: ir.Value) -> None:
        self.e, self.rows, self.height, self.places, self.channels = e, rows, height, places, count
        fields = cgutils.unpack_tuple(e.b, run, RUN.count)
        self.pixels, self.first, self.step, self.low, self.high, self.gap, self.taps = fields

    def sources(self, q: ir.Value) -> list[ir.Value]:
        """Where the first column of pixel q is in each row."""
        e, out = self.e, []
        column = e.b.add(self.first, e.b.mul(q, self.step))
        for row in range(self.rows):
            begin, step = (e.b.load(e.at(self.places, at)) for at in (row, self.rows + row))
            out.append(e.at(e.b.inttoptr(begin, e.scalar.as_pointer()), e.b.mul(column, step)))
        return out

    def blocks(self, body: Callable[[ir.Value, ir.Value], None]) -> None:
        """``body(panel, c)`` for vectors of channels: where their weights are, and the first one. The last vector may
        begin among those before."""
        e, i64 = self.e, ir.IntType(64)
        last = e.b.sub(self.channels, i64(e.width))

        def block(i: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            c = e.b.mul(i, i64(e.width))
            body(
                e.b.mul(e.b.mul(i, self.taps), i64(self.height * e.width)),
                e.b.select(e.b.icmp_signed("<", c, last), c, last),
            )
            return []

        e.loop(e.b.sdiv(e.b.add(self.channels, i64(e.width - 1)), i64(e.width)), [], block)

    def columns(self, sources: list[ir.Value], c: ir.Value, carried: list[ir.Value], body: Callable[..., Any]) -> Any:
        """``carried = body(at, vectors of channels c row by row, carried)`` for the taps inside, whose weights begin
        ``at`` elements behind the block's."""
        e, i64 = self.e, ir.IntType(64)

        def tap(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            t = e.b.add(self.low, i)
            at = e.b.add(c, e.b.mul(t, self.gap))
            values = (e.load(e.at(source, at)) for source in sources)
            return body(e.b.mul(t, i64(self.height * e.width)), values, carried)

        through = e.sums if carried else e.loop
        return through(e.b.sub(self.high, self.low), carried, tap)


def _weigh_lines(height: int, step: int) -> Any:
    """Lines of results of pixels q and channels c:
    ``dst[d + l d_line + q d_pixel + c] = start[c] + sum over taps t and rows y of weights[w + ...] row[l step + y]``.
    """
    lines = lines_of(step)
    rows = (lines - 1) * step + height

    @intrinsic
    def weigh(typingctx, dst, d, d_line, d_pixel, weights, w, start, places, run, count):
        def codegen(context, builder, signature, args):
            dst, d, d_line, d_pixel, weights, w, start, places, run, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            table = context.make_array(signature.args[7])(context, builder, places).data
            run = _Run(e, rows, height, table, run, count)
            start, weights = builder.inttoptr(start, e.scalar.as_pointer()), e.at(weights, w)

            def pixel(q: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                sources = run.sources(q)
                to = e.at(dst, builder.add(d, builder.mul(q, d_pixel)))

                def block(panel: ir.Value, c: ir.Value) -> None:
                    own = e.at(weights, panel)

                    def tap(at: ir.Value, values: Iterable[ir.Value], acc: list[ir.Value]) -> list[ir.Value]:
                        acc = list(acc)
                        factors = [e.load(e.at(e.at(own, at), y * e.width)) for y in range(height)]
                        for row, value in enumerate(values):
                            for line in range(lines):
                                if 0 <= row - line * step < height:
                                    acc[line] = e.fma(factors[row - line * step], value, acc[line])
                        return acc

                    results = run.columns(sources, c, [e.load(e.at(start, c))] * lines, tap)
                    for line, value in enumerate(results):
                        e.store(value, e.at(to, builder.add(c, builder.mul(d_line, i64(line)))))

                run.blocks(block)
                return []

            e.loop(run.pixels, [], pixel)
            return context.get_dummy_value()

        return types.void(dst, *[INDEX] * 3, weights, INDEX, INDEX, places, RUN, INDEX), codegen

    return weigh


weigh_1_1, weigh_2_1, weigh_3_1, weigh_5_1 = (_weigh_lines(height, 1) for height in (1, 2, 3, 5))
weigh_3_2, weigh_5_2 = (_weigh_lines(height, 2) for height in (3, 5))


def _correlate_lines(height: int, step: int, lines: int) -> Any:
    """The gradient of the same weights, of so many lines:
    ``sums[...] += sum over lines l and pixels q of dy[d + l d_line + q d_pixel + c] row[l step + y]``.
    """
    rows = (lines - 1) * step + height

    @intrinsic
    def correlate(typingctx, sums, dy, d, d_line, d_pixel, places, run, count):
        def codegen(context, builder, signature, args):
            sums, dy, d, d_line, d_pixel, places, run, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            table = context.make_array(signature.args[5])(context, builder, places).data
            run = _Run(e, rows, height, table, run, count)

            def pixel(q: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                sources = run.sources(q)
                given = e.at(dy, builder.add(d, builder.mul(q, d_pixel)))

                def block(panel: ir.Value, c: ir.Value) -> None:
                    own = e.at(sums, panel)
                    shares = [e.load(e.at(given, builder.add(c, builder.mul(d_line, i64(l))))) for l in range(lines)]

                    def tap(at: ir.Value, values: Iterable[ir.Value], _: list[ir.Value]) -> list[ir.Value]:
                        totals = [e.at(e.at(own, at), y * e.width) for y in range(height)]
                        acc = [e.load(total) for total in totals]
                        for row, value in enumerate(values):
                            for line, share in enumerate(shares):
                                if 0 <= row - line * step < height:
                                    acc[row - line * step] = e.fma(share, value, acc[row - line * step])
                        for total, value in zip(totals, acc, strict=True):
                            e.store(value, total)
                        return []

                    run.columns(sources, c, [], tap)

                run.blocks(block)
                return []

            e.loop(run.pixels, [], pixel)
            return context.get_dummy_value()

        return types.void(sums, dy, *[INDEX] * 3, places, RUN, INDEX), codegen

    return correlate


#: Of so many rows of taps, of a step; or of a single line.
correlate_3_1, correlate_3_2 = (_correlate_lines(3, step, lines_of(step)) for step in (1, 2))
correlate_5_1, correlate_5_2 = (_correlate_lines(5, step, lines_of(step)) for step in (1, 2))
correlate_3, correlate_5 = (_correlate_lines(height, 1, 1) for height in (3, 5))
