"""Reductions as C plans, one for each combination of the arrays' strides."""

from __future__ import annotations

from collections.abc import Sequence

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...spec import ReduceSpec
from .kernel import Plan, TableKernel, made
from .library import isa_number, type_numbers

_KINDS = {
    "sum": lib.FC_SUM_OVER,
    "moments": lib.FC_MOMENTS_OVER,
    "max": lib.FC_MAX_OVER,
    "min": lib.FC_MIN_OVER,
    "affine": lib.FC_AFFINE,
    "normalize": lib.FC_NORMALIZE,
    "normalize_backward": lib.FC_NORMALIZE_BACKWARD,
    "normalize_sums": lib.FC_NORMALIZE_SUMS,
    "softmax": lib.FC_SOFTMAX,
    "log_softmax": lib.FC_LOG_SOFTMAX,
    "softmax_backward": lib.FC_SOFTMAX_BACKWARD,
    "log_softmax_backward": lib.FC_LOG_SOFTMAX_BACKWARD,
}

#: Of a kernel's ten arrays. The slot between is that of packed weights.
_SLOTS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)


class ReduceKernel(TableKernel):
    algorithm = "blocks"
    reason = "blocks are reduced one after another, and what they give is merged in their order"

    slots = _SLOTS

    spec: ReduceSpec

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.spec.shape] * 7 + [self.spec.kept_shape] * 3

    def _plan(self, strides: Sequence[Sequence[int] | None]) -> Plan:
        spec, axes = self.spec, self.axes(self.spec.shape)
        d = ffi.new("fc_reduce_desc *")
        d.kind, d.types, d.isa, d.rank = _KINDS[spec.kind], type_numbers(spec.types), isa_number(self.isa), len(axes)
        d.reduced = sum([1 << i for i, axis in enumerate(axes) if axis in spec.axes])
        d.root_mean_square, d.p0 = spec.root_mean_square, spec.parameter
        d.size = [spec.shape[axis] for axis in axes]
        for slot, own in zip(_SLOTS, strides, strict=True):
            if own is not None:
                d.present |= 1 << slot
                d.stride[slot] = [own[axis] for axis in axes]
        plan = made(lib.fc_plan_reduce, d)
        assert plan is not None  # the library refuses no reduction
        return plan

    @property
    def workspace_bytes(self) -> int:
        """A thread's, at most, and the sums of slices."""
        return get_num_threads() * (7 * 2**14 + 6 * 8 * 256) + 2**18
