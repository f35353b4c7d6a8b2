"""Elementwise functions as C plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import MAPS, MapSpec
from .kernel import CKernel, Plan, made
from .library import broadcast, isa_number, set_activation, steps, type_numbers

#: The slots of the operands.
_SLOTS = lib.FC_X, lib.FC_W, lib.FC_ADD

#: Dimensions that a descriptor has at most.
_MOST_AXES = 8


def refuse(spec: MapSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    return f"there are over {_MOST_AXES} dimensions" if len(spec.shape) > _MOST_AXES else None


class MapKernel(CKernel):
    reason = "runs of neighbours as vectors"
    _has_bias = False

    def __init__(self, spec: MapSpec, isa: str) -> None:
        super().__init__(spec, isa, *_SLOTS[: MAPS[spec.operation]], lib.FC_OUT)

    def step(self, arrays: Sequence[Any]) -> tuple[Plan, tuple[int, ...]]:
        itemsize = np.dtype(self.spec.dtype).itemsize
        shapes = {slot: a.shape for slot, a in zip(self._order, arrays, strict=False) if a is not None}
        strides = {
            slot: [itemsize * step for step in broadcast(shape, self.spec.shape)]
            for slot, shape in shapes.items()
            if shape is not None and shape != self.spec.shape
        }
        return (self._make_plan(strides) if strides else self._contiguous), self._order

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_map_desc *")
        d.op = getattr(lib, f"FC_MAP_{spec.operation.upper()}")
        d.types, d.isa, d.rank = type_numbers(spec.types), isa_number(self.isa), len(spec.shape)
        d.size[0 : d.rank], d.out_stride[0 : d.rank] = spec.shape, steps(strides.get(lib.FC_OUT), spec.shape, size)
        dropout = spec.operation == "dropout"
        for k, slot in enumerate(self._order[:-1]):
            places = dropout and slot == lib.FC_W
            d.stride[k][0 : d.rank] = spec.places if places else steps(strides.get(slot), spec.shape, size)
        d.p = spec.p
        set_activation(d.act, spec.activation)
        return made(lib.fc_plan_map, d)
