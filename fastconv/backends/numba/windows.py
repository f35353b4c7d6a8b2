"""Vectors of windows: maxima, sums and their gradients, which pooling is made of. Intrinsics, as in ``simd.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import ABREAST, INDEX, Emit

__all__ = [
    "accumulate",
    "add_to_window",
    "arg_max",
    "divide",
    "fill_line",
    "give_back",
    "give_to_maxima",
    "max_of_windows",
    "reduce_max",
    "reduce_sum",
    "sum_of_windows",
    "total_max",
    "total_sum",
]


def _reduce(maximum: bool) -> Callable[..., ir.Value]:
    """``dst[d + j]`` = the maximum or the sum over t of ``src[s + offsets[first + t] + j]``, for j below count."""

    def codegen(context, builder, signature, args):
        dst, d, src, s, offsets, first, taps, count = args
        e = Emit(builder, signature.args[0])
        table = e.at(context.make_array(signature.args[4])(context, builder, offsets).data, first)
        dst, src = e.at(dst, d), e.at(src, s)
        start = e.constant(float("-inf") if maximum else 0.0)

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            base = e.at(src, at)

            def tap(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                places = e.at_each(base, builder.load(e.at(table, t)), wide)
                values = [e.load(p) if mask is None else e.load_masked(p, mask) for p in places]
                pairs = zip(values, acc, strict=True)
                return [e.larger(v, a) if maximum else builder.fadd(a, v) for v, a in pairs]

            results = e.loop(taps, [start] * wide, tap)
            for value, place in zip(results, e.at_each(dst, at, wide), strict=True):
                if mask is None:
                    e.store(value, place)
                else:
                    e.store_masked(value, place, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return codegen


def _reduce_types(dst: types.Type, src: types.Type, offsets: types.Type) -> types.Type:
    return types.void(dst, INDEX, src, INDEX, offsets, INDEX, INDEX, INDEX)


@intrinsic
def reduce_max(typingctx, dst, d, src, s, offsets, first, taps, count):
    """The maxima of lines that begin at the offsets."""
    return _reduce_types(dst, src, offsets), _reduce(maximum=True)


@intrinsic
def reduce_sum(typingctx, dst, d, src, s, offsets, first, taps, count):
    """The sums of lines that begin at the offsets."""
    return _reduce_types(dst, src, offsets), _reduce(maximum=False)


def _total(maximum: bool) -> Callable[..., ir.Value]:
    """The maximum or the sum of ``src[s + j]``, for j below count."""

    def codegen(context, builder, signature, args):
        src, s, count = args
        e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
        src, join = e.at(src, s), e.larger if maximum else builder.fadd
        start = e.constant(float("-inf") if maximum else 0.0)
        totals, at = [start] * ABREAST, i64(0)
        for wide in (ABREAST, 1):
            first, step = at, i64(wide * e.width)
            times = builder.sdiv(builder.sub(count, first), step)

            def block(i: ir.Value, acc: list[ir.Value], wide=wide, first=first, step=step) -> list[ir.Value]:
                places = e.at_each(src, builder.add(first, builder.mul(i, step)), wide)
                return [join(e.load(p), a) for p, a in zip(places, acc, strict=True)]

            totals = e.loop(times, totals[:wide], block) + totals[wide:]
            at = builder.add(first, builder.mul(times, step))
        mask = e.between(i64(0), builder.sub(count, at))
        total = builder.select(mask, e.load_masked(e.at(src, at), mask), start)
        for one in totals:
            total = join(one, total)
        return e.across(total, join)

    return codegen


@intrinsic
def total_max(typingctx, src, s, count):
    """The maximum of a line."""
    return src.dtype(src, INDEX, INDEX), _total(maximum=True)


@intrinsic
def total_sum(typingctx, src, s, count):
    """The sum of a line."""
    return src.dtype(src, INDEX, INDEX), _total(maximum=False)


@intrinsic
def give_back(typingctx, dx, d, x, s, dy, y, offsets, taps, count):
    """``dx[d + offsets[t] + j] += dy[y + j]`` for the first t with the maximum of ``x[s + offsets[t] + j]``, or the
    last NaN.
    """

    def codegen(context, builder, signature, args):
        dx, d, x, s, dy, y, offsets, taps, count = args
        e, i32 = Emit(builder, signature.args[0]), ir.IntType(32)
        table = context.make_array(signature.args[6])(context, builder, offsets).data
        dx, x, dy = e.at(dx, d), e.at(x, s), e.at(dy, y)

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            def load(base: ir.Value, t: ir.Value | None = None) -> list[ir.Value]:
                begin = at if t is None else builder.add(at, builder.load(e.at(table, t)))
                places = e.at_each(base, begin, wide)
                return [e.load(p) if mask is None else e.load_masked(p, mask) for p in places]

            def find(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                number, out = e.splat(builder.trunc(t, i32)), []
                for i, value in enumerate(load(x, t)):
                    best, at_best = acc[2 * i : 2 * i + 2]
                    nan = builder.fcmp_unordered("uno", value, value)
                    taken = builder.or_(builder.fcmp_ordered(">", value, best), nan)
                    out += [builder.select(taken, value, best), builder.select(taken, number, at_best)]
                return out

            begin = [e.constant(float("-inf")), e.splat(i32(0))] * wide
            winners, shares = e.loop(taps, begin, find)[1::2], load(dy)

            def give(t: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                number = e.splat(builder.trunc(t, i32))
                places = e.at_each(dx, builder.add(at, builder.load(e.at(table, t))), wide)
                for winner, share, old, place in zip(winners, shares, load(dx, t), places, strict=True):
                    value = builder.fadd(
                        old, builder.select(builder.icmp_signed("==", winner, number), share, e.zero())
                    )
                    if mask is None:
                        e.store(value, place)
                    else:
                        e.store_masked(value, place, mask)
                return []

            e.loop(taps, [], give)

        e.spans(count, body)
        return context.get_dummy_value()

    return types.void(dx, INDEX, x, INDEX, dy, INDEX, offsets, INDEX, INDEX), codegen


def _of_windows(maximum: bool) -> Any:
    """One vector of a row of windows: ``dst[d + o d_step]`` = the maximum or the sum of ``src[s + p s_step]``.

    The columns p of window o go from ``windows[first + o, 0]`` to ``windows[first + o, 1]`` by the dilation.
    """

    @intrinsic
    def reduce(typingctx, dst, d, d_step, src, s, s_step, windows, first, dilation, outputs):
        def codegen(context, builder, signature, args):
            dst, d, d_step, src, s, s_step, windows, first, dilation, outputs = args
            e = Emit(builder, signature.args[0])
            table = context.make_array(signature.args[6])(context, builder, windows).data
            dst, src = e.at(dst, d), e.at(src, s)

            def output(o: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                low, columns = _columns(e, table, first, o, dilation)

                def tap(k: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                    value = e.load(e.at(src, builder.mul(builder.add(low, builder.mul(k, dilation)), s_step)))
                    return [e.larger(value, acc[0]) if maximum else builder.fadd(acc[0], value)]

                start = e.constant(float("-inf") if maximum else 0.0)
                (total,) = e.loop(columns, [start], tap)
                e.store(total, e.at(dst, builder.mul(o, d_step)))
                return []

            e.loop(outputs, [], output)
            return context.get_dummy_value()

        return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, windows, INDEX, INDEX, INDEX), codegen

    return reduce


def _columns(e: Emit, table: ir.Value, first: ir.Value, o: ir.Value, dilation: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The first column of a window, and how many it has."""
    window = e.at(table, e.b.mul(e.b.add(first, o), ir.IntType(64)(3)))
    low = e.b.load(window)
    span = e.b.sub(e.b.load(e.at(window, 1)), low)
    return low, e.b.sdiv(e.b.add(span, e.b.sub(dilation, ir.IntType(64)(1))), dilation)


max_of_windows, sum_of_windows = (_of_windows(maximum) for maximum in (True, False))


@intrinsic
def add_to_window(typingctx, dst, d, step, src, s, windows, first, dilation, o):
    """One vector: ``dst[d + p step] += src[s]`` for the columns p of window o."""

    def codegen(context, builder, signature, args):
        dst, d, step, src, s, windows, first, dilation, o = args
        e = Emit(builder, signature.args[0])
        table = context.make_array(signature.args[5])(context, builder, windows).data
        low, columns = _columns(e, table, first, o, dilation)
        dst, share = e.at(dst, d), e.load(e.at(src, s))

        def tap(k: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            place = e.at(dst, builder.mul(builder.add(low, builder.mul(k, dilation)), step))
            e.store(builder.fadd(e.load(place), share), place)
            return []

        e.loop(columns, [], tap)
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, src, INDEX, windows, INDEX, INDEX, INDEX), codegen


@intrinsic
def give_to_maxima(typingctx, dx, d, step, x, s, dy, y, y_step, offsets, rows, windows, first, dilation, outputs):
    """``give_back`` for one vector of a row of windows, whose rows begin at the offsets; ``step``: of columns."""

    def codegen(context, builder, signature, args):
        dx, d, step, x, s, dy, y, y_step, offsets, rows, windows, first, dilation, outputs = args
        e, i32 = Emit(builder, signature.args[0]), ir.IntType(32)
        begins = context.make_array(signature.args[8])(context, builder, offsets).data
        table = context.make_array(signature.args[10])(context, builder, windows).data
        dx, x, dy = e.at(dx, d), e.at(x, s), e.at(dy, y)

        def output(o: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            low, columns = _columns(e, table, first, o, dilation)

            def over(start: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
                """Every tap, row by row: its number, and where it is."""

                def row(r: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                    begin, number = builder.load(e.at(begins, r)), builder.mul(r, columns)

                    def tap(k: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                        column = builder.add(low, builder.mul(k, dilation))
                        at = builder.add(begin, builder.mul(column, step))
                        return body(e.splat(builder.trunc(builder.add(number, k), i32)), at, acc)

                    return e.loop(columns, acc, tap)

                return e.loop(rows, start, row)

            def find(number: ir.Value, at: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                value, (best, at_best) = e.load(e.at(x, at)), acc
                nan = builder.fcmp_unordered("uno", value, value)
                taken = builder.or_(builder.fcmp_ordered(">", value, best), nan)
                return [builder.select(taken, value, best), builder.select(taken, number, at_best)]

            share = e.load(e.at(dy, builder.mul(o, y_step)))
            _, winner = over([e.constant(float("-inf")), e.splat(i32(0))], find)

            def give(number: ir.Value, at: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                place = e.at(dx, at)
                given = builder.select(builder.icmp_signed("==", winner, number), share, e.zero())
                e.store(builder.fadd(e.load(place), given), place)
                return []

            over([], give)
            return []

        e.loop(outputs, [], output)
        return context.get_dummy_value()

    arrays = (offsets, INDEX, windows, INDEX, INDEX, INDEX)
    return types.void(dx, INDEX, INDEX, x, INDEX, dy, INDEX, INDEX, *arrays), codegen


def _combined(of: Callable[[Emit, ir.Value, list[ir.Value]], ir.Value]) -> Callable[..., ir.Value]:
    """``dst[d + j] = of(dst[d + j], src[s + j])``, for j below count."""

    def codegen(context, builder, signature, args):
        dst, d, src, s, count, *more = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)
        splats = [e.splat(builder.fptrunc(m, e.scalar) if m.type != e.scalar else m) for m in more]

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            for to, place in zip(e.at_each(dst, at, wide), e.at_each(src, at, wide), strict=True):
                if mask is None:
                    e.store(of(e, to, [e.load(place), *splats], e.load), to)
                else:
                    value = of(e, to, [e.load_masked(place, mask), *splats], lambda p: e.load_masked(p, mask))
                    e.store_masked(value, to, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return codegen


@intrinsic
def accumulate(typingctx, dst, d, src, s, count):
    """``dst[d + j] += src[s + j]``"""
    add = _combined(lambda e, to, values, load: e.b.fadd(load(to), values[0]))
    return types.void(dst, INDEX, src, INDEX, INDEX), add


@intrinsic
def divide(typingctx, dst, d, src, s, count, divisor):
    """``dst[d + j] = src[s + j] / divisor``"""
    over = _combined(lambda e, to, values, load: e.b.fdiv(*values))
    return types.void(dst, INDEX, src, INDEX, INDEX, divisor), over


@intrinsic
def fill_line(typingctx, dst, d, count, value):
    """``dst[d + j] = value``"""

    def codegen(context, builder, signature, args):
        dst, d, count, value = args
        e = Emit(builder, signature.args[0])
        line = e.splat(value)

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            for place in e.at_each(e.at(dst, d), at, wide):
                if mask is None:
                    e.store(line, place)
                else:
                    e.store_masked(line, place, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, dst.dtype), codegen


@intrinsic
def arg_max(typingctx, positions, p, dst, d, src, s, offsets, numbers, taps, begin, first, step, count):
    """``dst[d + j]`` = the maximum over t of ``src[s + offsets[t] + j]``, and where it was.

    ``positions[p + j] = numbers[t] + j step`` of the first t that has the maximum, or of the last NaN.
    Where all are -infinity the position is ``first + begin[j] + j step``.
    """

    def codegen(context, builder, signature, args):
        positions, p, dst, d, src, s, _, _, taps, _, first, step, count = args
        e, i64, i32 = Emit(builder, signature.args[2]), ir.IntType(64), ir.IntType(32)
        tables = [context.make_array(signature.args[i])(context, builder, args[i]).data for i in (6, 7, 9)]
        positions, dst, src = e.at(positions, p), e.at(dst, d), e.at(src, s)
        long, short = (ir.VectorType(t, e.width) for t in (i64, i32))
        steps = builder.mul(e.splat(step), ir.Constant(long, list(range(e.width))))

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            start = e.at(src, at)

            def tap(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                places = e.at_each(start, builder.load(e.at(tables[0], t)), wide)
                number = e.splat(builder.trunc(builder.load(e.at(tables[1], t)), i32))
                out = []
                for i, place in enumerate(places):
                    value = e.load(place) if mask is None else e.load_masked(place, mask)
                    best, at_best = acc[2 * i : 2 * i + 2]
                    nan = builder.fcmp_unordered("uno", value, value)
                    taken = builder.or_(builder.fcmp_ordered(">", value, best), nan)
                    out += [builder.select(taken, value, best), builder.select(taken, number, at_best)]
                return out

            def longs(base: ir.Value, i: int) -> ir.Value:
                return builder.bitcast(e.at(base, builder.add(at, i64(i * e.width))), long.as_pointer())

            firsts = e.splat(builder.trunc(first, i32))
            begins = [builder.trunc(builder.load(longs(tables[2], i), align=8), short) for i in range(wide)]
            start_with = [v for b in begins for v in (e.constant(float("-inf")), builder.add(b, firsts))]
            found = e.loop(taps, start_with, tap)
            for i, (value, place) in enumerate(zip(found[::2], e.at_each(dst, at, wide), strict=True)):
                base = builder.add(steps, e.splat(builder.mul(step, builder.add(at, i64(i * e.width)))))
                position = builder.add(builder.sext(found[2 * i + 1], long), base)
                if mask is None:
                    e.store(value, place)
                    builder.store(position, longs(positions, i), align=8)
                else:
                    e.store_masked(value, place, mask)
                    name = f"llvm.masked.store.v{e.width}i64.p0v{e.width}i64"
                    e.call(name, ir.VoidType(), position, longs(positions, i), i32(8), mask)

        e.spans(count, body)
        return context.get_dummy_value()

    arrays = (offsets, numbers, INDEX, begin, INDEX, INDEX, INDEX)
    return types.void(positions, INDEX, dst, INDEX, src, INDEX, *arrays), codegen
