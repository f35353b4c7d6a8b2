"""Vector code for the kernels: intrinsics that emit LLVM vector IR, with widths and tiles chosen for this CPU.

Every intrinsic takes bare pointers (``pointer(address, like)``) with element offsets and has no bounds check. Lanes
are masked where an access could leave an array, so nothing outside the arrays is read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import caching, cgutils, config
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ...autotune import cache_directory

__all__ = [
    "ABREAST",
    "COLUMNS",
    "ISA",
    "KC",
    "LINES",
    "MR",
    "NV",
    "PITCH",
    "PIXELS",
    "TOGETHER",
    "Emit",
    "accumulate",
    "add_to_window",
    "arg_max",
    "compact",
    "copy_evens",
    "copy_lanes",
    "copy_vector",
    "correlate_rows",
    "correlate_strip",
    "data_of",
    "divide",
    "fetch_add",
    "fill_line",
    "give_back",
    "give_to_maxima",
    "inlined",
    "jit",
    "lanes",
    "max_of_windows",
    "merge_lanes",
    "micro_kernel",
    "no_inline",
    "outer_kernel",
    "part",
    "plain",
    "pointer",
    "reduce_max",
    "reduce_sum",
    "sum_of_windows",
    "tile_columns",
    "total_max",
    "total_sum",
    "transpose_vectors",
    "vector_lanes",
    "weigh_results",
    "weigh_rows",
    "weigh_strip",
    "weigh_strip_1",
    "weigh_strip_2",
    "zero_vector",
]


def _vector_unit() -> tuple[str, int, int, int, bool]:
    """(name, bytes of a vector, tile rows, tile vectors, fma) of the CPU that Numba compiles for."""
    triple, _, listed = cpu_target.target_context.codegen().magic_tuple()[:3]
    features = {f[1:] for f in listed.split(",") if f.startswith("+")}
    if "avx512f" in features:
        return "avx512", 64, 14, 2, True
    if {"avx2", "fma"} <= features:
        return "avx2", 32, 6, 2, True
    if triple.startswith(("aarch64", "arm64")):
        return "neon", 16, 8, 2, True
    return "vector128", 16, 4, 2, False


class _Place(caching._CacheLocator):
    """Where compiled code is kept: with the user's caches. It is out of date when any file of this folder changes, not
    only that of the function, as Numba has it; and it is kept for each processor apart, as Numba has it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return config.CACHE_DIR or str(cache_directory() / "numba")

    def get_source_stamp(self) -> str:
        return _sources()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Place | None:
        place = cls(function)
        try:
            place.ensure_cache_path()
        except OSError:
            return None
        return place


class _Cache(caching.FunctionCache):
    class _impl_class(caching.CompileResultCacheImpl):
        _locator_classes = (_Place,)


@cache
def _sources() -> str:
    """A digest of what compiled code is made of."""
    digest = sha256(f"{numba.__version__} {np.__version__}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


ISA, BYTES, MR, NV, FMA = _vector_unit()
#: Reduction block of a GEMM. The rows of a packed left panel lie PITCH elements apart: no power of two.
KC = 256
PITCH = KC + 16


def jit(function: Callable[..., Any], **more: Any) -> Any:
    """Compile without the GIL and without Python's division checks; keep the code on disk where that is possible."""
    compiled = numba.jit(nopython=True, nogil=True, error_model="numpy", **more)(function)
    with suppress(RuntimeError):  # no directory to write to
        compiled._cache = _Cache(function)
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """Compile what only compiled functions call."""
    return jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: Callable[..., Any]) -> Any:
    """Part of the one compiled function that calls it: there is no code of its own to make."""
    return numba.jit(nopython=True, error_model="numpy", inline="always")(function)


def lanes(dtype: str) -> int:
    """Elements of ``dtype`` in one vector."""
    return BYTES // (8 if dtype == "float64" else 4)


#: Vectors that kernels without a register tile keep in registers side by side.
ABREAST = 4

# -------------------------------------------------------------------------------------------- building blocks


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


# ------------------------------------------------------------------------------------------------- intrinsics

_i64 = types.int64


@intrinsic
def pointer(typingctx, address, like):
    """The address as a pointer to elements of the array ``like``."""
    result = types.CPointer(like.dtype)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(_i64, like), codegen


@intrinsic
def data_of(typingctx, array):
    """The pointer to the first element of an array."""
    result = types.CPointer(array.dtype)

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return result(array), codegen


def _constant(value: int) -> Callable[..., Any]:
    return lambda context, builder, signature, args: ir.IntType(64)(value)


@intrinsic
def vector_lanes(typingctx, pointed):
    """Elements in one vector."""
    return _i64(pointed), _constant(lanes(pointed.dtype.name))


@intrinsic
def tile_columns(typingctx, pointed):
    """Columns of the register tile, NR."""
    return _i64(pointed), _constant(NV * lanes(pointed.dtype.name))


@intrinsic
def plain(typingctx, value):
    """The int, but of no literal type, for which Numba would compile a callee once more."""
    return _i64(_i64), lambda context, builder, signature, args: args[0]


def _attribute(name: str) -> Callable[..., ir.Value]:
    def codegen(context, builder, signature, args):
        builder.function.attributes.add(name)
        return context.get_dummy_value()

    return codegen


@intrinsic
def no_inline(typingctx):
    """Keeps the function in which it stands out of its callers: less to compile."""
    return types.void(), _attribute("noinline")


@intrinsic
def compact(typingctx):
    """Keeps the compiler from unrolling and vectorizing the loops of the function in which it stands."""
    return types.void(), _attribute("optsize")


@intrinsic
def fetch_add(typingctx, counter):
    """``counter[0]``, which is increased by one, atomically. ``counter`` is an int64 array."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.IntType(64)(1), "seq_cst")

    return _i64(counter), codegen


@intrinsic
def zero_vector(typingctx, dst, d):
    """``dst[d : d + lanes] = 0``"""

    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        e.store(e.zero(), e.at(args[0], args[1]))
        return context.get_dummy_value()

    return types.void(dst, _i64), codegen


@intrinsic
def copy_vector(typingctx, dst, d, src, s):
    """``dst[d : d + lanes] = src[s : s + lanes]``"""

    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        e.store(e.load(e.at(args[2], args[3])), e.at(args[0], args[1]))
        return context.get_dummy_value()

    return types.void(dst, _i64, src, _i64), codegen


@intrinsic
def copy_evens(typingctx, dst, d, src, s):
    """One vector, ``dst[d + i] = src[s + 2 i]``; one element more is read."""

    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        start, i32 = e.at(args[2], args[3]), ir.IntType(32)
        evens = ir.Constant(ir.VectorType(i32, e.width), list(range(0, 2 * e.width, 2)))
        pair = [e.load(e.at(start, v * e.width)) for v in range(2)]
        e.store(builder.shuffle_vector(*pair, evens), e.at(args[0], args[1]))
        return context.get_dummy_value()

    return types.void(dst, _i64, src, _i64), codegen


def _copy_lanes(merge: bool) -> Callable[..., Any]:
    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        value = e.load_masked(e.at(args[2], args[3]), e.between(args[4], args[5]))
        address = e.at(args[0], args[1])
        if merge:
            bits = ir.VectorType(ir.IntType(8 * e.size), e.width)
            value = builder.or_(builder.bitcast(e.load(address), bits), builder.bitcast(value, bits))
            value = builder.bitcast(value, e.vector)
        e.store(value, address)
        return context.get_dummy_value()

    return codegen


@intrinsic
def copy_lanes(typingctx, dst, d, src, s, lo, hi):
    """One vector to ``dst[d:]``: lanes lo to hi from ``src[s:]``, which alone is read there; 0 in the others."""
    return types.void(dst, _i64, src, _i64, _i64, _i64), _copy_lanes(merge=False)


@intrinsic
def merge_lanes(typingctx, dst, d, src, s, lo, hi):
    """Lanes lo to hi of the vector at ``dst[d:]``, which are 0, from ``src[s:]``; the others stay."""
    return types.void(dst, _i64, src, _i64, _i64, _i64), _copy_lanes(merge=True)


@intrinsic
def transpose_vectors(typingctx, dst, d, d_step, src, s, s_step, count):
    """As many vectors as one has lanes: ``dst[d + j d_step + i] = src[s + i s_step + j]`` for the first ``count`` j."""

    def codegen(context, builder, signature, args):
        dst, d, d_step, src, s, s_step, count = args
        e = Emit(builder, signature.args[0])
        i64, i32 = ir.IntType(64), ir.IntType(32)

        def places(base: ir.Value, start: ir.Value, step: ir.Value) -> list[ir.Value]:
            return [e.at(base, builder.add(start, builder.mul(step, i64(i)))) for i in range(e.width)]

        def interleaved(x: ir.Value, y: ir.Value, first: int) -> ir.Value:
            order = [lane for i in range(first, first + half) for lane in (i, i + e.width)]
            return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(i32, e.width), order))

        def transposed(lines: list[ir.Value]) -> list[ir.Value]:
            # Each round interleaves the halves of the list: after log2(lanes) of them rows are columns.
            for _ in range(e.width.bit_length() - 1):
                pairs = zip(lines[:half], lines[half:], strict=True)
                lines = [interleaved(x, y, first) for x, y in pairs for first in (0, half)]
            return lines

        half = e.width // 2
        targets, sources = places(dst, d, d_step), places(src, s, s_step)
        with builder.if_else(builder.icmp_signed("==", count, i64(e.width)), likely=True) as (whole, part):
            with whole:
                for line, place in zip(transposed([e.load(p) for p in sources]), targets, strict=True):
                    e.store(line, place)
            with part:
                mask = e.between(i64(0), count)
                lines = transposed([e.load_masked(p, mask) for p in sources])
                for j, (line, place) in enumerate(zip(lines[:-1], targets, strict=False)):
                    with builder.if_then(builder.icmp_signed("<", i64(j), count)):
                        e.store(line, place)
        return context.get_dummy_value()

    return types.void(dst, _i64, _i64, src, _i64, _i64, _i64), codegen


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
    return types.void(a, _i64, _i64, b, _i64, _i64, c, _i64, _i64, _i64, types.boolean)


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


def _at_each(e: Emit, base: ir.Value, offset: ir.Value, count: int = ABREAST) -> list[ir.Value]:
    start = e.at(base, offset)
    return [e.at(start, v * e.width) for v in range(count)]


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
            vectors = [[e.load(p) for p in _at_each(e, source, offset, COLUMNS)] for source in sources]
            pairs = [(factor, x) for factor in factors for line in vectors for x in line]
            return [e.fma(factor, x, a) for (factor, x), a in zip(pairs, acc, strict=True)]

        results = e.loop(taps, [e.zero()] * (LINES * COLUMNS), body)
        for i, start in enumerate(starts(dst, d, d_step, LINES)):
            for j in range(COLUMNS):
                e.store(results[i * COLUMNS + j], e.at(start, j * e.width))
        return context.get_dummy_value()

    return codegen


def _weigh_types(dst: types.Type, src: types.Type, weights: types.Type, offsets: types.Type) -> types.Type:
    return types.void(dst, _i64, _i64, src, _i64, weights, _i64, _i64, offsets, _i64)


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

        arrays = (weights, _i64, _i64, offsets, _i64, _i64)
        return types.void(dst, _i64, _i64, src, _i64, _i64, *arrays), codegen

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

    arrays = (offsets, _i64, _i64, _i64)
    return types.void(sums, _i64, x, _i64, _i64, _i64, y, _i64, _i64, *arrays), codegen


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

    return types.void(totals, _i64, y, _i64, _i64, x, _i64, _i64, places, _i64, _i64, _i64), codegen


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
                places = _at_each(e, base, builder.load(e.at(table, t)), wide)
                values = [e.load(p) if mask is None else e.load_masked(p, mask) for p in places]
                pairs = zip(values, acc, strict=True)
                return [e.larger(v, a) if maximum else builder.fadd(a, v) for v, a in pairs]

            results = e.loop(taps, [start] * wide, tap)
            for value, place in zip(results, _at_each(e, dst, at, wide), strict=True):
                if mask is None:
                    e.store(value, place)
                else:
                    e.store_masked(value, place, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return codegen


def _reduce_types(dst: types.Type, src: types.Type, offsets: types.Type) -> types.Type:
    return types.void(dst, _i64, src, _i64, offsets, _i64, _i64, _i64)


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
                places = _at_each(e, src, builder.add(first, builder.mul(i, step)), wide)
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
    return src.dtype(src, _i64, _i64), _total(maximum=True)


@intrinsic
def total_sum(typingctx, src, s, count):
    """The sum of a line."""
    return src.dtype(src, _i64, _i64), _total(maximum=False)


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
                places = _at_each(e, base, begin, wide)
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
                places = _at_each(e, dx, builder.add(at, builder.load(e.at(table, t))), wide)
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

    return types.void(dx, _i64, x, _i64, dy, _i64, offsets, _i64, _i64), codegen


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

        return types.void(dst, _i64, _i64, src, _i64, _i64, windows, _i64, _i64, _i64), codegen

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

    return types.void(dst, _i64, _i64, src, _i64, windows, _i64, _i64, _i64), codegen


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

    arrays = (offsets, _i64, windows, _i64, _i64, _i64)
    return types.void(dx, _i64, _i64, x, _i64, dy, _i64, _i64, *arrays), codegen


def _combined(of: Callable[[Emit, ir.Value, list[ir.Value]], ir.Value]) -> Callable[..., ir.Value]:
    """``dst[d + j] = of(dst[d + j], src[s + j])``, for j below count."""

    def codegen(context, builder, signature, args):
        dst, d, src, s, count, *more = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)
        splats = [e.splat(builder.fptrunc(m, e.scalar) if m.type != e.scalar else m) for m in more]

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            for to, place in zip(_at_each(e, dst, at, wide), _at_each(e, src, at, wide), strict=True):
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
    return types.void(dst, _i64, src, _i64, _i64), add


@intrinsic
def divide(typingctx, dst, d, src, s, count, divisor):
    """``dst[d + j] = src[s + j] / divisor``"""
    over = _combined(lambda e, to, values, load: e.b.fdiv(*values))
    return types.void(dst, _i64, src, _i64, _i64, divisor), over


@intrinsic
def fill_line(typingctx, dst, d, count, value):
    """``dst[d + j] = value``"""

    def codegen(context, builder, signature, args):
        dst, d, count, value = args
        e = Emit(builder, signature.args[0])
        line = e.splat(value)

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            for place in _at_each(e, e.at(dst, d), at, wide):
                if mask is None:
                    e.store(line, place)
                else:
                    e.store_masked(line, place, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return types.void(dst, _i64, _i64, dst.dtype), codegen


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
                places = _at_each(e, start, builder.load(e.at(tables[0], t)), wide)
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
            for i, (value, place) in enumerate(zip(found[::2], _at_each(e, dst, at, wide), strict=True)):
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

    arrays = (offsets, numbers, _i64, begin, _i64, _i64, _i64)
    return types.void(positions, _i64, dst, _i64, src, _i64, *arrays), codegen
