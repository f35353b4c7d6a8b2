"""Resizing specs as C plans, which get the tables of the spec."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import ResizeSpec, Types
from ..tables import ADDITIONS, LIGHT, Widened
from .kernel import CKernel, LongKernel, Plan, made
from .library import five, isa_number, spatial, steps, type_numbers

#: Terms of a sum along the last axis, or along the others together.
_MOST_TERMS = 2**16


def refuse(spec: ResizeSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    *others, last = spec.most_terms
    return f"over {_MOST_TERMS} terms make a result" if max(prod(others), last) > _MOST_TERMS else None


def resize_kernel(spec: ResizeSpec, isa: str) -> ResizeKernel | LongKernel | Widened:
    """The kernel of a spec, in float64 where a gradient may be the sum of too many for float32."""
    if spec.dtype == "float32" and sum(spec.most_terms) > ADDITIONS:
        return Widened(resize_kernel(replace(spec, types=Types.of("float64")), isa), 1)
    nbytes = spec.table_bytes
    return ResizeKernel(spec, isa) if nbytes <= LIGHT else LongKernel(ResizeKernel, spec, isa, 4 * nbytes)


class ResizeKernel(CKernel):
    reason = "rows are added first, then their pixels"
    _has_bias = False

    def __init__(self, spec: ResizeSpec, isa: str) -> None:
        super().__init__(spec, isa, lib.FC_X, lib.FC_Y)

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_resize_desc *")
        d.types, d.isa, d.n, d.c = type_numbers(spec.types), isa_number(self.isa), spec.n, spec.c
        d.x_size, d.y_size = spatial(spec.source_size), spatial(spec.target_size)
        shapes = (spec.x_shape, spec.y_shape) if spec.direction == "fwd" else (spec.y_shape, spec.x_shape)
        for name, slot, shape in zip(("x", "y"), (lib.FC_X, lib.FC_Y), shapes, strict=True):
            setattr(d, f"{name}_stride", five(steps(strides.get(slot), shape, size), spec.channels_last))
        kept = []  # until the plan is made
        for dim in range(spec.ndim):
            for name, kind, part in zip(
                ("first", "index", "weight"), ("int64_t[]", "int64_t[]", "double[]"), spec.table(dim), strict=True
            ):
                kept.append(ffi.from_buffer(kind, np.ascontiguousarray(part)))
                getattr(d, name)[3 - spec.ndim + dim] = kept[-1]
        return made(lib.fc_plan_resize, d)
