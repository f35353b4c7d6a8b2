"""Steps of optimizers as C plans, one for each combination of the arrays' strides."""

from __future__ import annotations

from collections.abc import Sequence

from ..._c import ffi, lib
from ...spec import UpdateSpec
from .kernel import Plan, TableKernel, made
from .library import isa_number, type_numbers

_RULES = {"sgd": lib.FC_UPDATE_SGD, "adam": lib.FC_UPDATE_ADAM, "rmsprop": lib.FC_UPDATE_RMSPROP}


class UpdateKernel(TableKernel):
    algorithm = "elementwise"
    reason = "one pass over all arrays, as vectors"
    workspace_bytes = 0
    slots = (lib.FC_OUT, lib.FC_X, lib.FC_FIRST, lib.FC_SECOND, lib.FC_THIRD, lib.FC_NUMBERS)

    spec: UpdateSpec

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.spec.shape] * 5

    def _plan(self, strides: Sequence[Sequence[int] | None]) -> Plan:
        spec, axes = self.spec, self.axes(self.spec.shape)
        d = ffi.new("fc_update_desc *")
        d.rule, d.nesterov, d.types, d.isa = (
            _RULES[spec.rule],
            spec.nesterov,
            type_numbers(spec.types),
            isa_number(self.isa),
        )
        d.rank, d.size = len(axes), [spec.shape[axis] for axis in axes]
        d.remembered = sum([1 << i for i, there in enumerate(spec.remembered) if there])
        for i, own in enumerate(strides):
            if own is not None:
                d.stride[i] = [own[axis] for axis in axes]
        plan = made(lib.fc_plan_update, d)
        assert plan is not None  # the library refuses no update
        return plan
