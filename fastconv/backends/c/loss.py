"""Losses as C plans, one for each combination of the arrays' strides."""

from __future__ import annotations

from collections.abc import Sequence

from ..._c import ffi, lib
from ...spec import LOSSES, LossSpec
from .kernel import Plan, TableKernel, made
from .library import isa_number, type_numbers

_KINDS = {kind: getattr(lib, f"FC_LOSS_{kind.upper()}") for kind in LOSSES}

_OPERANDS = lib.FC_X, lib.FC_TARGET, lib.FC_FIRST, lib.FC_SECOND


class LossKernel(TableKernel):
    algorithm = "elementwise"
    reason = "one pass over all arrays, as vectors; sums of pieces are added in their order"
    workspace_bytes = 2**16

    spec: LossSpec

    def __init__(self, spec: LossSpec, isa: str) -> None:
        super().__init__(spec, isa)
        own = (lib.FC_DX, lib.FC_Y) if spec.direction == "fwd" else (lib.FC_Y, lib.FC_DX)
        self.slots = *_OPERANDS, *own
        self.shapes = [spec.shape] * 5 + [(1,) * len(spec.shape) if spec.reduced else spec.shape]

    def _plan(self, strides: Sequence[Sequence[int] | None]) -> Plan:
        spec, axes = self.spec, self.axes(self.spec.shape)
        d = ffi.new("fc_loss_desc *")
        d.kind, d.types, d.isa, d.rank = _KINDS[spec.kind], type_numbers(spec.types), isa_number(self.isa), len(axes)
        d.direction = lib.FC_FWD if spec.direction == "fwd" else lib.FC_BWD_INPUT
        d.reduced, d.p0, d.divisor = spec.reduced, spec.parameter, spec.divisor
        d.factors, d.size = (
            sum([1 << i for i, there in enumerate(spec.factors) if there]),
            [spec.shape[axis] for axis in axes],
        )
        *operands, dy, result = strides
        for i, own in enumerate([*operands, *((result, None) if spec.direction == "fwd" else (dy, result))]):
            if own is not None and not (spec.reduced and own is result):
                d.stride[i] = [own[axis] for axis in axes]
        plan = made(lib.fc_plan_loss, d)
        assert plan is not None  # the library refuses no loss
        return plan
