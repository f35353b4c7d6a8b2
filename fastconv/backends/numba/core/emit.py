"""What intrinsics are written with: LLVM vector IR of an element type, as wide as this CPU's vectors."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .target import ABREAST, BLOCK, BYTES, FMA

__all__ = ["INDEX", "Emit"]

INDEX = types.int64


def _scalar(pointer_type: types.CPointer) -> ir.Type:
    return ir.DoubleType() if pointer_type.dtype == types.float64 else ir.FloatType()


class Emit:
    """The IR of one intrinsic: a builder that knows its element and vector type."""

    def __init__(self, builder: ir.IRBuilder, pointer_type: types.CPointer) -> None:
        self.b = builder
        self.scalar = _scalar(pointer_type)
        self.size = 8 if pointer_type.dtype == types.float64 else 4
        self.width = BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.width)
        self.suffix = f"v{self.width}f{8 * self.size}"

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        function = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(result, [a.type for a in args]), name)
        return self.b.call(function, args)

    def at(self, base: ir.Value, offset: ir.Value | int) -> ir.Value:
        offset = ir.IntType(64)(offset) if isinstance(offset, int) else offset
        return self.b.gep(base, [offset])

    def at_each(self, base: ir.Value, offset: ir.Value, count: int = ABREAST) -> list[ir.Value]:
        """The addresses of vectors side by side, the first at ``offset``."""
        start = self.at(base, offset)
        return [self.at(start, v * self.width) for v in range(count)]

    def load(self, address: ir.Value) -> ir.Value:
        return self.b.load(self.b.bitcast(address, self.vector.as_pointer()), align=self.size)

    def store(self, value: ir.Value, address: ir.Value) -> None:
        self.b.store(value, self.b.bitcast(address, self.vector.as_pointer()), align=self.size)

    def splat(self, value: ir.Value) -> ir.Value:
        vector = ir.VectorType(value.type, self.width)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)

    def zero(self) -> ir.Constant:
        return self.constant(0.0)

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [value] * self.width)

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        if not FMA:
            return self.b.fadd(self.b.fmul(x, y), z)
        return self.call(f"llvm.fma.{self.suffix}", self.vector, x, y, z)

    def sum(self, value: ir.Value) -> ir.Value:
        """The sum of the lanes."""
        return self.across(value, self.b.fadd)

    def across(self, value: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """The lanes joined, halves first."""
        width, i32 = self.width, ir.IntType(32)
        while width > 1:
            width //= 2
            halves = [ir.Constant(ir.VectorType(i32, width), list(range(b, b + width))) for b in (0, width)]
            low, high = (self.b.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), h) for h in halves)
            value = join(low, high)
        return self.b.extract_element(value, i32(0))

    def between(self, lo: ir.Value, hi: ir.Value) -> ir.Value:
        """Mask of the lanes with lo <= lane < hi."""
        i32 = ir.IntType(32)
        lane = ir.Constant(ir.VectorType(i32, self.width), list(range(self.width)))
        above = self.b.icmp_signed(">=", lane, self.splat(self.b.trunc(lo, i32)))
        below = self.b.icmp_signed("<", lane, self.splat(self.b.trunc(hi, i32)))
        return self.b.and_(above, below)

    def load_masked(self, address: ir.Value, mask: ir.Value) -> ir.Value:
        vector = self.vector.as_pointer()
        return self.call(
            f"llvm.masked.load.{self.suffix}.p0{self.suffix}", self.vector,
            self.b.bitcast(address, vector), ir.IntType(32)(self.size), mask, self.zero(),
        )  # fmt: skip

    def store_masked(self, value: ir.Value, address: ir.Value, mask: ir.Value) -> None:
        vector, i32 = self.vector.as_pointer(), ir.IntType(32)
        name = f"llvm.masked.store.{self.suffix}.p0{self.suffix}"
        self.call(name, ir.VoidType(), value, self.b.bitcast(address, vector), i32(self.size), mask)

    def load_each(self, base: ir.Value, offset: ir.Value, count: int, mask: ir.Value | None = None) -> list[ir.Value]:
        """Vectors side by side, the first at ``offset``, masked if there is a mask."""
        places = self.at_each(base, offset, count)
        return [self.load(place) if mask is None else self.load_masked(place, mask) for place in places]

    def store_each(
        self, values: list[ir.Value], base: ir.Value, offset: ir.Value, mask: ir.Value | None = None
    ) -> None:
        for value, place in zip(values, self.at_each(base, offset, len(values)), strict=True):
            if mask is None:
                self.store(value, place)
            else:
                self.store_masked(value, place, mask)

    def larger(self, value: ir.Value, best: ir.Value) -> ir.Value:
        """The maximum of two vectors: a NaN of either, of equal ones the second."""
        larger = self.b.select(self.b.fcmp_ordered(">", value, best), value, best)
        return self.b.select(self.b.fcmp_unordered("uno", value, value), value, larger)

    def spans(self, count: ir.Value, body: Callable[[ir.Value, int, ir.Value | None], None]) -> None:
        """``body(first, vectors, mask)`` for ``count`` elements: several vectors at a time, single ones, the rest."""
        b, i64, at = self.b, ir.IntType(64), ir.IntType(64)(0)
        for wide in (ABREAST, 1):
            step, start = i64(wide * self.width), at
            times = b.sdiv(b.sub(count, start), step)

            def block(i: ir.Value, _: list[ir.Value], wide=wide, step=step, start=start) -> list[ir.Value]:
                body(b.add(start, b.mul(i, step)), wide, None)
                return []

            self.loop(times, [], block)
            at = b.add(start, b.mul(times, step))
        with b.if_then(b.icmp_signed("<", at, count)):
            body(at, 1, self.between(i64(0), b.sub(count, at)))

    def loop(self, count: ir.Value, carried: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
        """``for i in range(count): carried = body(i, carried)``, the carried values in registers."""
        b, i64 = self.b, ir.IntType(64)
        before = b.block
        head, inside, after = (b.append_basic_block(n) for n in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(i64)
        index.add_incoming(i64(0), before)
        phis = [b.phi(c.type) for c in carried]
        for phi, start in zip(phis, carried, strict=True):
            phi.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, count), inside, after)
        b.position_at_end(inside)
        results = body(index, phis)
        index.add_incoming(b.add(index, i64(1)), b.block)
        for phi, result in zip(phis, results, strict=True):
            phi.add_incoming(result, b.block)
        b.branch(head)
        b.position_at_end(after)
        return phis

    def sums(self, count: ir.Value, start: list[ir.Value], body: Callable[..., list[ir.Value]]) -> list[ir.Value]:
        """``loop`` for sums of ``count`` terms, a BLOCK of them at a time, whose sums are added to the first one: the
        rounding error does not grow with all of the length."""
        b, i64 = self.b, ir.IntType(64)

        def block(first: ir.Value, start: list[ir.Value]) -> list[ir.Value]:
            left = b.sub(count, first)
            some = b.select(b.icmp_signed("<", left, i64(BLOCK)), left, i64(BLOCK))
            return self.loop(some, start, lambda i, carried: body(b.add(first, i), carried))

        def more(i: ir.Value, totals: list[ir.Value]) -> list[ir.Value]:
            own = block(b.mul(b.add(i, i64(1)), i64(BLOCK)), [self.zero()] * len(totals))
            return [b.fadd(total, value) for total, value in zip(totals, own, strict=True)]

        return self.loop(b.sdiv(b.sub(count, i64(1)), i64(BLOCK)), block(i64(0), start), more)

    def unrolled_loop(
        self, usual: tuple[int, ...], count: ir.Value, carried: list[ir.Value], body: Callable[..., list[ir.Value]]
    ) -> list[ir.Value]:
        """``loop``, without one for the usual counts."""
        if not usual:
            return self.loop(count, carried, body)
        b, i64, ends = self.b, ir.IntType(64), []
        with b.if_else(b.icmp_signed("==", count, i64(usual[0]))) as (straight, otherwise):
            with straight:
                results = carried
                for i in range(usual[0]):
                    results = body(i64(i), results)
                ends.append((b.block, results))
            with otherwise:
                results = self.unrolled_loop(usual[1:], count, carried, body)
                ends.append((b.block, results))
        phis = [b.phi(c.type) for c in carried]
        for block, results in ends:
            for phi, result in zip(phis, results, strict=True):
                phi.add_incoming(result, block)
        return phis
