"""Intrinsics of pointers, atomic counters and single vectors.

Every intrinsic takes bare pointers (``pointer(address, like)``) with element offsets and has no bounds check. Lanes
are masked where an access could leave an array, so nothing outside the arrays is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .emit import INDEX, Emit
from .target import NV, lanes

__all__ = [
    "address_in",
    "compact",
    "copy_evens",
    "copy_lanes",
    "copy_vector",
    "data_of",
    "fetch_add",
    "merge_lanes",
    "no_inline",
    "plain",
    "pointer",
    "tile_columns",
    "transpose_vectors",
    "vector_lanes",
    "zero_vector",
]


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
