"""The register tiles of matrix products. Intrinsics, as in ``core.intrinsics``."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..core.emit import INDEX, Emit
from ..core.target import MR, NV, PITCH

__all__ = ["micro_kernel", "outer_kernel"]


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
