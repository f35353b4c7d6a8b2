"""Reductions as C plans, one for each combination of the arrays' strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...spec import ReduceSpec
from .kernel import Plan, made
from .library import NULL, address_like, check, isa_number, scratch, type_numbers

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

_POINTERS = ffi.typeof("void *[]")

#: Of a kernel's ten arrays. The slot between is that of packed weights.
_SLOTS = (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)

#: Axes that a descriptor has room for.
_MOST_AXES = 8

_MOST_CALLS = 16


def refuse(spec: ReduceSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    return f"it has over {_MOST_AXES} axes" if len(_axes(spec)) > _MOST_AXES else None


def _axes(spec: ReduceSpec) -> list[int]:
    """Those along which there is more than one element."""
    return [axis for axis, size in enumerate(spec.shape) if size != 1]


class _Call(NamedTuple):
    """For one combination of shapes and strides: its plan, and what gives the arrays' addresses."""

    plan: Plan
    address: list[Callable[[np.ndarray], Any] | None]


class ReduceKernel:
    backend = "c"
    algorithm = "blocks"
    reason = "blocks are reduced one after another, and what they give is merged in their order"

    def __init__(self, spec: ReduceSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self._calls: dict[Any, _Call] = {}

    def _make(self, arrays: tuple[Any, ...]) -> _Call:
        spec, axes = self.spec, _axes(self.spec)
        d = ffi.new("fc_reduce_desc *")
        d.kind, d.types, d.isa, d.rank = _KINDS[spec.kind], type_numbers(spec.types), isa_number(self.isa), len(axes)
        d.reduced = sum([1 << i for i, axis in enumerate(axes) if axis in spec.axes])
        d.root_mean_square, d.p0 = spec.root_mean_square, spec.parameter
        d.size = [spec.shape[axis] for axis in axes]
        for slot, a in zip(_SLOTS, arrays, strict=True):
            if a is not None:
                d.present |= 1 << slot
                d.stride[slot] = [0 if a.shape[axis] == 1 else a.strides[axis] // a.itemsize for axis in axes]
        plan = made(lib.fc_plan_reduce, d)
        assert plan is not None  # the library refuses no reduction
        return _Call(plan, [None if a is None else address_like(a) for a in arrays])

    @property
    def workspace_bytes(self) -> int:
        """A thread's, at most, and the sums of slices."""
        return get_num_threads() * (7 * 2**14 + 6 * 8 * 256) + 2**18

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, *arrays: Any) -> None:
        key = tuple([None if a is None else (a.shape, a.strides) for a in arrays])
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= _MOST_CALLS:
                self._calls.clear()
            call = self._calls[key] = self._make(arrays)
        places = [NULL if of is None else of(a) for of, a in zip(call.address, arrays, strict=True)]
        n, nbytes = call.plan.alone[0] or call.plan.size(get_num_threads(), False)
        table = ffi.new(_POINTERS, [*places[:7], NULL, *places[7:], NULL])
        status = lib.fc_run(call.plan.pointer, table, scratch(nbytes), n)
        if status:
            check(status)
