"""Vector code for the kernels: intrinsics that emit LLVM vector IR, with widths and tiles chosen for this CPU.

Every intrinsic takes bare pointers (``pointer(address, like)``) with element offsets and has no bounds check. Lanes
are masked where an access could leave an array, so nothing outside the arrays is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import caching, cgutils, config
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ...machine import cache_directory, private_directory

__all__ = [
    "ABREAST",
    "INDEX",
    "ISA",
    "KC",
    "MR",
    "NV",
    "PITCH",
    "Emit",
    "address_in",
    "compact",
    "copy_evens",
    "copy_lanes",
    "copy_vector",
    "data_of",
    "fetch_add",
    "inlined",
    "jit",
    "lanes",
    "merge_lanes",
    "no_inline",
    "part",
    "plain",
    "pointer",
    "tile_columns",
    "transpose_vectors",
    "vector_lanes",
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

    def __init__(self, function: Callable[..., Any], directory: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._directory = directory

    def get_cache_path(self) -> str:
        return self._directory

    def get_source_stamp(self) -> str:
        return _sources()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Place | None:
        directory = _code_directory()
        return directory and cls(function, directory)


@cache
def _code_directory() -> str | None:
    """Where compiled code is kept; None where it is not to be kept (``FASTCONV_CACHE=off``), or cannot be.

    What lies there is loaded as code: so the directory must be this user's alone. One that ``NUMBA_CACHE_DIR`` names is
    Numba's affair.
    """
    root = cache_directory()
    if root is None:
        return None
    directory = Path(config.CACHE_DIR) if config.CACHE_DIR else root / "numba"
    try:
        if config.CACHE_DIR:
            directory.mkdir(parents=True, exist_ok=True)
        else:
            private_directory(directory)
        with TemporaryFile(dir=directory):
            return str(directory)
    except OSError as error:
        warnings.warn(f"compiled code is not kept for later processes: {error}", stacklevel=2)
        return None


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
    with suppress(RuntimeError):  # no directory for it
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

#: Terms of a sum that are added one after another.
BLOCK = 512

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


# ------------------------------------------------------------------------------------------------- intrinsics

INDEX = types.int64


@intrinsic
def pointer(typingctx, address, like):
    """The address as a pointer to elements of the array ``like``."""
    result = types.CPointer(like.dtype)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(result))

    return result(INDEX, like), codegen


@intrinsic
def address_in(typingctx, pointed):
    """The address that a pointer holds."""
    return INDEX(pointed), lambda context, builder, signature, args: builder.ptrtoint(args[0], ir.IntType(64))


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
    return INDEX(pointed), _constant(lanes(pointed.dtype.name))


@intrinsic
def tile_columns(typingctx, pointed):
    """Columns of the register tile, NR."""
    return INDEX(pointed), _constant(NV * lanes(pointed.dtype.name))


@intrinsic
def plain(typingctx, value):
    """The int, but of no literal type, for which Numba would compile a callee once more."""
    return INDEX(INDEX), lambda context, builder, signature, args: args[0]


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

    return INDEX(counter), codegen


@intrinsic
def zero_vector(typingctx, dst, d):
    """``dst[d : d + lanes] = 0``"""

    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        e.store(e.zero(), e.at(args[0], args[1]))
        return context.get_dummy_value()

    return types.void(dst, INDEX), codegen


@intrinsic
def copy_vector(typingctx, dst, d, src, s):
    """``dst[d : d + lanes] = src[s : s + lanes]``"""

    def codegen(context, builder, signature, args):
        e = Emit(builder, signature.args[0])
        e.store(e.load(e.at(args[2], args[3])), e.at(args[0], args[1]))
        return context.get_dummy_value()

    return types.void(dst, INDEX, src, INDEX), codegen


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

    return types.void(dst, INDEX, src, INDEX), codegen


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
    return types.void(dst, INDEX, src, INDEX, INDEX, INDEX), _copy_lanes(merge=False)


@intrinsic
def merge_lanes(typingctx, dst, d, src, s, lo, hi):
    """Lanes lo to hi of the vector at ``dst[d:]``, which are 0, from ``src[s:]``; the others stay."""
    return types.void(dst, INDEX, src, INDEX, INDEX, INDEX), _copy_lanes(merge=True)


@intrinsic
def transpose_vectors(typingctx, dst, d, d_step, src, s, s_step, count):
    """As many vectors as one has lanes: ``dst[d + j d_step + i] = src[s + i s_step + j]`` for the first ``count`` j."""

    def codegen(context, builder, signature, args):
        dst, d, d_step, src, s, s_step, count = args
        e = Emit(builder, signature.args[0])
        i64, i32 = ir.IntType(64), ir.IntType(32)

        def places(base: ir.Value, start: ir.Value, step: ir.Value) -> list[ir.Value]:
            return [e.at(base, builder.add(start, builder.mul(step, i64(i)))) for i in range(e.width)]

        def interleaved(lines: list[ir.Value], unit: int, span: int) -> list[ir.Value]:
            """A square of units, which are columns afterwards, in each span of the lines."""
            half, width = len(lines) // 2, e.width

            def joined(x: ir.Value, y: ir.Value, first: int) -> ir.Value:
                starts = [at + k for at in range(first, width, span) for k in range(0, span // 2, unit)]
                order = [start + k for s in starts for start in (s, s + width) for k in range(unit)]
                return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(i32, width), order))

            # Each round interleaves the halves of the list.
            for _ in range(len(lines).bit_length() - 1):
                pairs = zip(lines[:half], lines[half:], strict=True)
                lines = [joined(x, y, first) for x, y in pairs for first in (0, span // 2)]
            return lines

        def transposed(lines: list[ir.Value]) -> list[ir.Value]:
            # In 16 bytes first, where shuffles cost least, then these.
            few = 16 // e.size
            groups = [interleaved(lines[g : g + few], 1, few) for g in range(0, e.width, few)]
            columns = [interleaved(list(group), few, e.width) for group in zip(*groups, strict=True)]
            return [line for lines in zip(*columns, strict=True) for line in lines]

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

    return types.void(dst, INDEX, INDEX, src, INDEX, INDEX, INDEX), codegen
