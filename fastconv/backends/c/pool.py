"""Pooling specs as C plans."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import PoolSpec, Types
from ..tables import ADDITIONS, LIGHT, Widened
from .kernel import CKernel, LongKernel, Plan, made
from .library import check, five, isa_number, spatial, steps, type_numbers

_KINDS = {"max": lib.FC_MAX, "avg": lib.FC_AVG, "sum": lib.FC_SUM}
_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd": lib.FC_BWD_INPUT}

#: The slots of a call's arrays.
_SLOTS = {
    "fwd": (lib.FC_X, lib.FC_Y, lib.FC_INDICES),
    "bwd": (lib.FC_Y, lib.FC_X, lib.FC_INDICES, lib.FC_DX),
}

#: Kernels count positions in a window in numbers of the arrays' type: the integers that float32 holds exactly.
_MOST_POSITIONS = {"float32": 2**24, "float64": 2**53}

#: The largest number in a descriptor.
_MOST = 2**31 - 1


def refuse(spec: PoolSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    if spec.kind != "max" and max(spec.dilation) > 1:
        return "dilated sums have no C kernels"
    if max(*spec.kernel, *spec.stride, *spec.dilation, *map(max, spec.pads)) > _MOST:
        return f"kernel, stride, padding or dilation is over {_MOST}"
    located = spec.kind == "max" and (spec.indices or spec.direction == "bwd")
    if located and prod(spec.in_size) > _MOST_POSITIONS[spec.dtype]:
        return f"a channel plane has over {_MOST_POSITIONS[spec.dtype]} positions"
    return None


def pool_kernel(spec: PoolSpec, isa: str) -> PoolKernel | LongKernel | Widened:
    """The kernel of a spec, in float64 where the gradient of a maximum may be the sum of too many for float32."""
    many = spec.kind == "max" and spec.direction == "bwd" and prod(map(spec.overlap, range(spec.ndim))) > ADDITIONS
    if many and spec.dtype == "float32":
        return Widened(pool_kernel(replace(spec, types=Types.of("float64")), isa), 3)
    nbytes = _table_bytes(spec)
    return PoolKernel(spec, isa) if nbytes <= LIGHT else LongKernel(PoolKernel, spec, isa, 2 * nbytes)


def _table_bytes(spec: PoolSpec) -> int:
    """Of the tables in a plan, at most."""
    return 48 * (sum(spec.in_size) + sum(spec.out_size))


class PoolKernel(CKernel):
    _has_bias = False

    def __init__(self, spec: PoolSpec, isa: str) -> None:
        super().__init__(spec, isa, *_SLOTS[spec.direction])
        given = self.algorithm == "scatter"
        self.reason = "the indices are given" if given else "windows are ranges: rows are reduced first, then columns"

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_pool_desc *")
        d.kind, d.direction = _KINDS[spec.kind], _DIRECTIONS[spec.direction]
        d.types, d.isa, d.indices = type_numbers(spec.types), isa_number(self.isa), spec.indices
        d.adaptive, d.count_pad = spec.adaptive, spec.count_include_pad
        d.n, d.c = spec.n, spec.c
        d.x_size = spatial(spec.in_size)
        d.y_size, d.dil = spatial(spec.out_size), spatial(spec.dilation)
        d.ker, d.stride = spatial(spec.kernel), spatial(spec.stride)
        d.pad, d.pad_end = ([0] * (3 - spec.ndim) + list(pads) for pads in zip(*spec.pads, strict=True))
        d.divisor = spec.divisor or 0
        for name, slot, shape, unit in (
            ("x", lib.FC_X, spec.x_shape, size),
            ("y", lib.FC_Y, spec.y_shape, size),
            ("dx", lib.FC_DX, spec.x_shape, size),
            ("indices", lib.FC_INDICES, spec.y_shape, 8),
        ):
            setattr(d, f"{name}_stride", five(steps(strides.get(slot), shape, unit), spec.channels_last))
        return made(lib.fc_plan_pool, d)

    def _fail(self, status: int) -> None:
        if status == lib.FC_ERROR_ARGUMENT:  # an index is none
            raise IndexError
        check(status)
