"""Copies as C plans."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import DTYPES, CopySpec
from .kernel import CKernel, Plan, made
from .library import isa_number, steps

#: Dimensions that a descriptor has at most.
_MOST_AXES = 8

#: Positions of an axis that is padded, for which the library makes a table.
_MOST_PADDED = 2**24

_MODES = {
    "constant": lib.FC_PAD_CONSTANT,
    "reflect": lib.FC_PAD_REFLECT,
    "replicate": lib.FC_PAD_REPLICATE,
    "circular": lib.FC_PAD_CIRCULAR,
}

#: By the bytes of an element: what is copied need not be the number that it is taken for.
_KINDS = {4: lib.FC_F32, 8: lib.FC_F64}


def refuse(spec: CopySpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    if len(spec.shape) > _MOST_AXES:
        return f"there are over {_MOST_AXES} dimensions"
    if np.dtype(spec.types.x).itemsize not in _KINDS:
        return f"{spec.types.x} has no kernels"
    sizes = zip(spec.shape, spec.padded_shape, spec.pads, strict=True)
    if any(max(size, padded) > _MOST_PADDED and any(pads) for size, padded, pads in sizes):
        return "an axis that is padded has over 2^24 positions"
    if spec.types.x != spec.types.y and {spec.types.x, spec.types.y} - {*DTYPES}:
        return f"{spec.types.x} to {spec.types.y} has no kernels"
    return None


class CopyKernel(CKernel):
    reason = "runs of neighbours as vectors, turned squares in registers"
    _has_bias = False

    def __init__(self, spec: CopySpec, isa: str) -> None:
        super().__init__(spec, isa, lib.FC_X, lib.FC_OUT)

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        spec = self.spec
        sizes = np.dtype(spec.types.x).itemsize, np.dtype(spec.types.y).itemsize
        shapes = (spec.padded_shape, spec.shape) if spec.backward else (spec.shape, spec.padded_shape)
        d = ffi.new("fc_copy_desc *")
        d.direction = lib.FC_BWD_INPUT if spec.backward else lib.FC_FWD
        d.types = (*(_KINDS[sizes[0]],) * 3, _KINDS[sizes[1]])
        d.isa, d.rank, d.mode = isa_number(self.isa), len(spec.shape), _MODES[spec.mode]
        d.size[0 : d.rank] = spec.shape
        d.before[0 : d.rank], d.after[0 : d.rank] = zip(*spec.pads, strict=True) if spec.pads else ((), ())
        d.x_stride[0 : d.rank] = steps(strides.get(lib.FC_X), shapes[0], sizes[0])
        d.out_stride[0 : d.rank] = steps(strides.get(lib.FC_OUT), shapes[1], sizes[1])
        ffi.buffer(d.value)[0 : sizes[1]] = spec.value.to_bytes(sizes[1], "little")
        return made(lib.fc_plan_copy, d)
