"""Vectors of windows: maxima, sums and their gradients. Intrinsics, as in ``core.intrinsics``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..core.emit import INDEX, Emit
from ..core.target import ABREAST

__all__ = [
    "add_to_maxima",
    "add_to_windows",
    "arg_max",
    "max_of_windows",
    "put_in_indices",
    "put_in_maxima",
    "put_in_windows",
    "reduce_max",
    "reduce_sum",
    "spread_lines",
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
        start, join = e.constant(float("-inf") if maximum else 0.0), e.larger if maximum else builder.fadd

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            base = e.at(src, at)

            def tap(t: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                pairs = zip(e.load_each(base, builder.load(e.at(table, t)), wide, mask), acc, strict=True)
                return [join(value, a) for value, a in pairs]

            e.store_each(e.loop(taps, [start] * wide, tap), dst, at, mask)

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


def _total(maximum: bool) -> Any:
    """Of lines i: ``dst[d + i d_step]`` = the maximum, or the sum over the divisor, of ``src[s + i s_step + j]``, for j
    below count."""

    @intrinsic
    def total(typingctx, dst, d, d_step, src, s, s_step, divisor, lines, count):
        def codegen(context, builder, signature, args):
            dst, d, d_step, src, s, s_step, divisor, lines, count = args
            e, i64 = Emit(builder, signature.args[0]), ir.IntType(64)
            dst, src, join = e.at(dst, d), e.at(src, s), e.larger if maximum else builder.fadd
            start = e.constant(float("-inf") if maximum else 0.0)

            def line(i: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                totals, at, own = [start] * ABREAST, i64(0), e.at(src, builder.mul(i, s_step))
                for wide in (ABREAST, 1):
                    first, step = at, i64(wide * e.width)
                    times = builder.sdiv(builder.sub(count, first), step)

                    def block(k: ir.Value, acc: list[ir.Value], first=first, step=step) -> list[ir.Value]:
                        values = e.load_each(own, builder.add(first, builder.mul(k, step)), len(acc))
                        return [join(value, a) for value, a in zip(values, acc, strict=True)]

                    totals = e.loop(times, totals[:wide], block) + totals[wide:]
                    at = builder.add(first, builder.mul(times, step))
                mask = e.between(i64(0), builder.sub(count, at))
                total = builder.select(mask, e.load_masked(e.at(own, at), mask), start)
                totals.append(total)
                while len(totals) > 1:
                    pairs = zip(totals[::2], totals[1::2], strict=False)
                    totals = [join(one, other) for one, other in pairs] + totals[len(totals) // 2 * 2 :]
                total = e.across(totals[0], join)
                builder.store(total if maximum else builder.fdiv(total, divisor), e.at(dst, builder.mul(i, d_step)))
                return []

            e.loop(lines, [], line)
            return context.get_dummy_value()

        return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, src.dtype, INDEX, INDEX), codegen

    return total


total_max, total_sum = (_total(maximum) for maximum in (True, False))


@intrinsic
def spread_lines(typingctx, dst, d, d_step, src, s, s_step, divisor, lines, count):
    """The gradient of ``total_sum``: ``dst[d + i d_step + j] = src[s + i s_step] / divisor``."""

    def codegen(context, builder, signature, args):
        dst, d, d_step, src, s, s_step, divisor, lines, count = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)

        def line(i: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            share = e.splat(builder.fdiv(builder.load(e.at(src, builder.mul(i, s_step))), divisor))
            own = e.at(dst, builder.mul(i, d_step))
            e.spans(count, lambda at, wide, mask: e.store_each([share] * wide, own, at, mask))
            return []

        e.loop(lines, [], line)
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, src.dtype, INDEX, INDEX), codegen


#: A row of windows: elements from column to column; rows of each; the first one's number; columns from one that is read
#: to the next; how many windows; channels.
ROW = types.UniTuple(INDEX, 6)


class _Row:
    """Windows o of a ``ROW``: ``windows[first + o]`` has the first column, the end, how many columns count, and are
    read; the rows of each begin at the offsets."""

    def __init__(self, e: Emit, offsets: ir.Value, windows: ir.Value, row: ir.Value) -> None:
        self.e, self.offsets, self.windows = e, offsets, windows
        self.step, self.rows, self.first, self.dilation, self.outputs, self.count = cgutils.unpack_tuple(
            e.b, row, ROW.count
        )
        self.tap_step = e.b.mul(self.dilation, self.step)

    @classmethod
    def given(cls, e: Emit, context: Any, signature: Any, args: Any) -> _Row:
        """By the last three arguments of an intrinsic."""
        offsets, windows = (context.make_array(signature.args[i])(context, e.b, args[i]).data for i in (-3, -2))
        return cls(e, offsets, windows, args[-1])

    def _of(self, o: ir.Value, field: int) -> ir.Value:
        e, i64 = self.e, ir.IntType(64)
        return e.b.load(e.at(e.at(self.windows, e.b.mul(e.b.add(self.first, o), i64(4))), field))

    def each(self, body: Callable[..., None]) -> None:
        """``body(o, over, at, wide, mask)`` for every window and every few of its channels, the first of which is
        ``at``. ``over(start, tap)`` goes through the taps: ``carried = tap(offset, row, column, carried)``."""
        e = self.e

        def output(o: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            low, columns = self._of(o, 0), self._of(o, 3)
            start_at = e.b.mul(low, self.step)

            def over(usual: tuple[int, ...], start: list[ir.Value], tap: Callable[..., Any]) -> list[ir.Value]:
                def row(r: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    begin = e.b.add(e.b.load(e.at(self.offsets, r)), start_at)

                    def one(k: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                        column = e.b.add(low, e.b.mul(k, self.dilation))
                        return tap(e.b.add(begin, e.b.mul(k, self.tap_step)), r, column, carried)

                    return e.unrolled_loop(usual, columns, carried, one)

                return e.loop(self.rows, start, row)

            # Planes that became vectors have one vector of channels, and little to do in each window.
            with e.b.if_else(e.b.icmp_signed("==", self.count, ir.IntType(64)(e.width))) as (single, several):
                with single:
                    body(o, partial(over, (2, 3)), ir.IntType(64)(0), 1, None)
                with several:
                    e.spans(self.count, lambda at, wide, mask: body(o, partial(over, ()), at, wide, mask))
            return []

        e.loop(self.outputs, [], output)

    def divisor(self, o: ir.Value, given: ir.Value, counted: ir.Value) -> ir.Value:
        """A vector of the divisor of window o: as given, or ``counted`` times as many as its columns count."""
        e = self.e
        own = e.b.sitofp(e.b.mul(counted, self._of(o, 2)), e.scalar)
        return e.splat(e.b.select(e.b.icmp_signed("==", counted, counted.type(0)), given, own))


def _of_windows(maximum: bool) -> Any:
    """A row of windows: ``dst[d + o d_step + j]`` = the maximum, or the sum over the divisor, of ``src[s + ...]``, with
    ``more`` also of what it was."""

    @intrinsic
    def reduce(typingctx, more, dst, d, d_step, src, s, divisor, counted, offsets, windows, row):
        def codegen(context, builder, signature, args):
            more, dst, d, d_step, src, s, divisor, counted, *_ = args
            e = Emit(builder, signature.args[1])
            row, dst, src = _Row.given(e, context, signature, args), e.at(dst, d), e.at(src, s)
            start, join = e.constant(float("-inf") if maximum else 0.0), e.larger if maximum else builder.fadd

            def window(o: ir.Value, over: Callable[..., Any], at: ir.Value, wide: int, mask: ir.Value | None) -> None:
                base = e.at(src, at)

                def tap(offset: ir.Value, _r: ir.Value, _c: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
                    pairs = zip(e.load_each(base, offset, wide, mask), acc, strict=True)
                    return [join(value, a) for value, a in pairs]

                to, again = e.at(dst, builder.mul(o, d_step)), builder.icmp_signed("!=", more, more.type(0))
                before = [builder.select(again, old, start) for old in e.load_each(to, at, wide, mask)]
                if maximum:
                    results = over(before, tap)
                else:
                    # Sums of sums: their error grows with the length of either.
                    share, sums = row.divisor(o, divisor, counted), zip(over([start] * wide, tap), before, strict=True)
                    results = [builder.fdiv(builder.fadd(value, old), share) for value, old in sums]
                e.store_each(results, to, at, mask)

            row.each(window)
            return context.get_dummy_value()

        given = (src.dtype, INDEX, offsets, windows, ROW)
        return types.void(INDEX, dst, INDEX, INDEX, src, INDEX, *given), codegen

    return reduce


max_of_windows, sum_of_windows = (_of_windows(maximum) for maximum in (True, False))


def _to_windows(fresh: bool) -> Any:
    """A row of windows: ``dx[d + ...] += dy[y + o y_step + j]`` over the divisor. Fresh: what was there does not
    count, as no other window has it."""

    @intrinsic
    def spread(typingctx, dx, d, dy, y, y_step, divisor, counted, offsets, windows, row):
        def codegen(context, builder, signature, args):
            dx, d, dy, y, y_step, divisor, counted, *_ = args
            e = Emit(builder, signature.args[0])
            row, dx, dy = _Row.given(e, context, signature, args), e.at(dx, d), e.at(dy, y)

            def window(o: ir.Value, over: Callable[..., Any], at: ir.Value, wide: int, mask: ir.Value | None) -> None:
                share, base = row.divisor(o, divisor, counted), e.at(dx, at)
                given = e.load_each(e.at(dy, builder.mul(o, y_step)), at, wide, mask)
                given = [builder.fdiv(value, share) for value in given]

                def tap(offset: ir.Value, _r: ir.Value, _c: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
                    values = given
                    if not fresh:
                        old = e.load_each(base, offset, wide, mask)
                        values = [builder.fadd(a, v) for a, v in zip(old, given, strict=True)]
                    e.store_each(values, base, offset, mask)
                    return []

                over([], tap)

            row.each(window)
            return context.get_dummy_value()

        given = (dy.dtype, INDEX, offsets, windows, ROW)
        return types.void(dx, INDEX, dy, INDEX, INDEX, *given), codegen

    return spread


add_to_windows, put_in_windows = (_to_windows(fresh) for fresh in (False, True))


def _to_maxima(fresh: bool) -> Any:
    """A row of windows: ``dx[d + ...] += dy[y + o y_step + j]`` for the first maximum of ``x[s + ...]``, or the last
    NaN. Fresh: as ``put_in_windows``."""

    @intrinsic
    def give(typingctx, dx, d, x, s, dy, y, y_step, offsets, windows, row):
        def codegen(context, builder, signature, args):
            dx, d, x, s, dy, y, y_step, *_ = args
            e, i32 = Emit(builder, signature.args[0]), ir.IntType(32)
            row, dx, x, dy = _Row.given(e, context, signature, args), e.at(dx, d), e.at(x, s), e.at(dy, y)

            def window(o: ir.Value, over: Callable[..., Any], at: ir.Value, wide: int, mask: ir.Value | None) -> None:
                source, target = e.at(x, at), e.at(dx, at)

                def find(offset: ir.Value, _r: ir.Value, _c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    number, *acc = carried
                    values, out = e.load_each(source, offset, wide, mask), [builder.add(number, e.splat(i32(1)))]
                    for value, best, at_best in zip(values, acc[::2], acc[1::2], strict=True):
                        nan = builder.fcmp_unordered("uno", value, value)
                        taken = builder.or_(builder.fcmp_ordered(">", value, best), nan)
                        out += [builder.select(taken, value, best), builder.select(taken, number, at_best)]
                    return out

                none = e.splat(i32(0))
                winners = over([none] + [e.constant(float("-inf")), none] * wide, find)[2::2]
                shares = e.load_each(e.at(dy, builder.mul(o, y_step)), at, wide, mask)

                def share(offset: ir.Value, _r: ir.Value, _c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    (number,) = carried
                    given = [
                        builder.select(builder.icmp_signed("==", winner, number), share, e.zero())
                        for winner, share in zip(winners, shares, strict=True)
                    ]
                    if not fresh:
                        old = e.load_each(target, offset, wide, mask)
                        given = [builder.fadd(a, v) for a, v in zip(old, given, strict=True)]
                    e.store_each(given, target, offset, mask)
                    return [builder.add(number, e.splat(i32(1)))]

                over([none], share)

            row.each(window)
            return context.get_dummy_value()

        return types.void(dx, INDEX, x, INDEX, dy, INDEX, INDEX, offsets, windows, ROW), codegen

    return give


add_to_maxima, put_in_maxima = (_to_maxima(fresh) for fresh in (False, True))


@intrinsic
def put_in_indices(typingctx, dx, d, indices, i, i_step, dy, y, y_step, numbers, offsets, windows, row):
    """A row of windows that have no pixel in common: ``dx[d + ...] = dy[y + o y_step + j]`` at the pixel
    ``indices[i + o i_step + j]``, 0 at the others. ``numbers``: those of the rows' first pixels. Not 0 comes back if an
    index is none of its window's, and so has been left out."""

    def codegen(context, builder, signature, args):
        dx, d, indices, i, i_step, dy, y, y_step, numbers, *_ = args
        e, i64, i32 = Emit(builder, signature.args[0]), ir.IntType(64), ir.IntType(32)
        row, dx, indices, dy = _Row.given(e, context, signature, args), e.at(dx, d), e.at(indices, i), e.at(dy, y)
        numbers = context.make_array(signature.args[8])(context, builder, numbers).data
        long, short = (ir.VectorType(t, e.width) for t in (i64, i32))
        strange = cgutils.alloca_once_value(builder, i64(0))

        def window(o: ir.Value, over: Callable[..., Any], at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            target, first = e.at(dx, at), e.at(indices, builder.add(at, builder.mul(o, i_step)))
            shares = e.load_each(e.at(dy, builder.mul(o, y_step)), at, wide, mask)
            given = []
            for v in range(wide):
                place = builder.bitcast(e.at(first, v * e.width), long.as_pointer())
                if mask is None:
                    given.append(builder.load(place, align=8))
                else:
                    name, none = f"llvm.masked.load.v{e.width}i64.p0v{e.width}i64", ir.Constant(long, None)
                    given.append(e.call(name, long, place, i32(8), mask, none))
            places = [builder.trunc(position, short) for position in given]

            def tap(offset: ir.Value, r: ir.Value, column: ir.Value, found: list[ir.Value]) -> list[ir.Value]:
                number = e.splat(builder.trunc(builder.add(builder.load(e.at(numbers, r)), column), i32))
                hits = [builder.icmp_signed("==", place, number) for place in places]
                values = [builder.select(hit, share, e.zero()) for hit, share in zip(hits, shares, strict=True)]
                e.store_each(values, target, offset, mask)
                return [builder.or_(f, builder.sext(hit, short)) for f, hit in zip(found, hits, strict=True)]

            for found, place, position in zip(over([ir.Constant(short, None)] * wide, tap), places, given, strict=True):
                lost = builder.or_(
                    builder.icmp_signed("==", found, ir.Constant(short, None)),
                    builder.icmp_signed("!=", builder.sext(place, long), position),
                )
                lost = lost if mask is None else builder.and_(lost, mask)
                bits = builder.zext(builder.bitcast(lost, ir.IntType(e.width)), i64)
                builder.store(builder.or_(builder.load(strange), bits), strange)

        row.each(window)
        return builder.load(strange)

    given = (numbers, offsets, windows, ROW)
    return INDEX(dx, INDEX, indices, INDEX, INDEX, dy, INDEX, INDEX, *given), codegen


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
                values = e.load_each(start, builder.load(e.at(tables[0], t)), wide, mask)
                number = e.splat(builder.trunc(builder.load(e.at(tables[1], t)), i32))
                out = []
                for value, best, at_best in zip(values, acc[::2], acc[1::2], strict=True):
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
            e.store_each(found[::2], dst, at, mask)
            for i, found_at in enumerate(found[1::2]):
                base = builder.add(steps, e.splat(builder.mul(step, builder.add(at, i64(i * e.width)))))
                position = builder.add(builder.sext(found_at, long), base)
                if mask is None:
                    builder.store(position, longs(positions, i), align=8)
                else:
                    name = f"llvm.masked.store.v{e.width}i64.p0v{e.width}i64"
                    e.call(name, ir.VoidType(), position, longs(positions, i), i32(8), mask)

        e.spans(count, body)
        return context.get_dummy_value()

    arrays = (offsets, numbers, INDEX, begin, INDEX, INDEX, INDEX)
    return types.void(positions, INDEX, dst, INDEX, src, INDEX, *arrays), codegen
