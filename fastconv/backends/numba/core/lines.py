"""Lines of elements: added, filled, turned, and finished with an epilogue."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .activations import activate
from .compile import part
from .emit import INDEX, Emit
from .intrinsics import compact, copy_vector, no_inline, transpose_vectors, vector_lanes

__all__ = ["accumulate", "fill_line", "finish", "turn"]


@intrinsic
def accumulate(typingctx, dst, d, src, s, count):
    """``dst[d + j] += src[s + j]``, for j below count."""

    def codegen(context, builder, signature, args):
        dst, d, src, s, count = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)

        def body(at: ir.Value, wide: int, mask: ir.Value | None) -> None:
            pairs = zip(e.load_each(dst, at, wide, mask), e.load_each(src, at, wide, mask), strict=True)
            e.store_each([builder.fadd(old, more) for old, more in pairs], dst, at, mask)

        e.spans(count, body)
        return context.get_dummy_value()

    return types.void(dst, INDEX, src, INDEX, INDEX), codegen


@intrinsic
def fill_line(typingctx, dst, d, count, value):
    """``dst[d + j] = value``, for j below count."""

    def codegen(context, builder, signature, args):
        dst, d, count, value = args
        e = Emit(builder, signature.args[0])
        line, dst = e.splat(value), e.at(dst, d)
        e.spans(count, lambda at, wide, mask: e.store_each([line] * wide, dst, at, mask))
        return context.get_dummy_value()

    return types.void(dst, INDEX, INDEX, dst.dtype), codegen


@part
def turn(dst, d, pitch, src, s, step, inner, outer):
    """``dst[d + o pitch + i] = src[s + i step + o]``"""
    compact()
    no_inline()
    width = vector_lanes(dst)
    # The last vectors of either side may begin inside the ones before.
    for i in range(0, inner if inner >= width else 0, width):
        i0 = min(i, inner - width)
        for o in range(0, outer, width):
            o0 = max(0, min(o, outer - width))
            transpose_vectors(dst, d + o0 * pitch + i0, pitch, src, s + i0 * step + o0, step, min(width, outer))
    if inner < width:
        for o in range(outer):
            for i in range(inner):
                dst[d + o * pitch + i] = src[s + i * step + o]


@part
def finish(
    line, at, count, bias, b, b_step, out, o, o_step, residual, r, r_step, has_bias, has_residual, activation, scalars
):
    """The epilogue on ``line[at : at + count]``, and its elements to their places."""
    no_inline()
    if has_bias and b_step == 0:
        value = bias[b]
        for j in range(count):
            line[at + j] += value
    elif has_bias:
        for j in range(count):
            line[at + j] += bias[b + j * b_step]
    if has_residual:
        for j in range(count):
            line[at + j] += residual[r + j * r_step]
    activate(line, at, count, activation, scalars[0], scalars[1])
    if o_step == 1:
        width = vector_lanes(line)
        whole = count // width * width
        for j in range(0, whole, width):
            copy_vector(out, o + j, line, at + j)
        for j in range(whole, count):
            out[o + j] = line[at + j]
    else:
        for j in range(count):
            out[o + j * o_step] = line[at + j]
