"""Convolution specs as C plans: one plan for each combination of strides that is called with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import ConvSpec
from ...threads import get_num_threads
from .library import (
    DTYPES,
    address,
    check,
    contiguous,
    five,
    isa_number,
    scratch,
    set_activation,
    spatial,
)

_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd_input": lib.FC_BWD_INPUT, "bwd_weight": lib.FC_BWD_WEIGHT}

#: Plans of one spec that are kept; more stride patterns than this are rare, and a plan is quickly made again.
_MOST_PLANS = 16


class PackedWeights:
    """Weights as the kernels read them."""

    __slots__ = ("memory", "pointer")

    def __init__(self, nbytes: int) -> None:
        self.memory = np.empty(nbytes, np.uint8)
        self.pointer = ffi.from_buffer(self.memory)


class _Plan:
    """A C plan for one set of strides, and what a call of it needs to know."""

    __slots__ = ("_bytes", "algorithm", "pointer", "threads")

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer
        self.algorithm = ffi.string(lib.fc_conv_plan_algorithm(pointer)).decode()
        self.threads: dict[int, int] = {}
        self._bytes: dict[tuple[int, bool], int] = {}

    def workspace(self, nthreads: int, packed: bool) -> int:
        key = (nthreads, packed)
        if key not in self._bytes:
            self._bytes[key] = lib.fc_conv_plan_workspace(self.pointer, nthreads, packed)
        return self._bytes[key]

    def worth(self, nthreads: int) -> int:
        if nthreads not in self.threads:
            self.threads[nthreads] = lib.fc_conv_plan_threads(self.pointer, nthreads)
        return self.threads[nthreads]


class ConvKernel:
    backend = "c"

    def __init__(self, spec: ConvSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self._plans: dict[Any, _Plan] = {}
        self._contiguous = self._plan(None)
        self.algorithm = self._contiguous.algorithm
        self.reason = ffi.string(lib.fc_conv_plan_reason(self._contiguous.pointer)).decode()

    @property
    def workspace_bytes(self) -> int:
        return self._contiguous.workspace(self._contiguous.worth(get_num_threads()), True)

    def _plan(self, key: Any) -> _Plan:
        """The plan for these byte strides of (x, w, y, add); None stands for contiguous arrays."""
        spec = self.spec
        size = np.dtype(spec.dtype).itemsize
        d = ffi.new("fc_conv_desc *")
        d.dtype, d.direction, d.isa = DTYPES[spec.dtype], _DIRECTIONS[spec.direction], isa_number(self.isa)
        d.has_bias, d.has_add = spec.bias, spec.residual
        d.strict = spec.precision == "strict"
        d.n, d.groups = spec.n, spec.groups
        d.icg, d.ocg = spec.ic // spec.groups, spec.oc // spec.groups
        d.out, d.ker, d.stride = spatial(spec.out_size), spatial(spec.kernel), spatial(spec.stride)
        setattr(d, "in", spatial(spec.in_size))
        d.pad = [0] * (3 - spec.ndim) + [lo for lo, _ in spec.pads]
        d.dil = spatial(spec.dilation)
        if key is None:
            y = contiguous(spec.y_shape)
            steps = contiguous(spec.x_shape), contiguous(spec.w_shape), y, contiguous(spec.result_shape)
        else:
            steps = tuple([s // size for s in strides] if strides else None for strides in key)
        x, w, y, add = steps
        d.xs, d.ys = self._order(x), self._order(y)
        # Packed weights have no strides; the plan does not look at them then.
        d.ws = five(w if w else contiguous(spec.w_shape), False)
        if add:
            setattr(d, "as", self._order(add) if spec.direction != "bwd_weight" else five(add, False))
        set_activation(d.act, spec.activation)
        pointer = ffi.new("fc_conv_plan **")
        check(lib.fc_conv_plan_create(d, pointer))
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[key] = _Plan(ffi.gc(pointer[0], lib.fc_conv_plan_destroy))
        return plan

    def _order(self, strides: list[int]) -> list[int]:
        return five(strides, self.spec.channels_last)

    def pack(self, w: np.ndarray) -> Any:
        nbytes = lib.fc_conv_plan_packed_bytes(self._contiguous.pointer)
        if nbytes == 0:
            return w.copy()
        packed = PackedWeights(nbytes)
        plan = self._plan(self._key(None, w, None, None))
        check(lib.fc_conv_pack(plan.pointer, address(w), packed.pointer, plan.worth(get_num_threads())))
        return packed

    def __call__(self, first: Any, second: Any, b: Any, residual: Any, out: Any) -> None:
        packed = type(second) is PackedWeights
        plan = self._find(first, None if packed else second, residual, out)
        if packed and plan.algorithm != self.algorithm:
            # Arrays with these strides take another algorithm, which these weights are not packed for.
            result = np.empty(out.shape, out.dtype)
            residual = None if residual is None else np.ascontiguousarray(residual)
            self(np.ascontiguousarray(first), second, b, residual, result)
            out[...] = result
            return
        n = plan.worth(get_num_threads())
        memory = scratch(plan.workspace(n, packed))
        if b is not None and not b.flags.c_contiguous:
            b = b.copy()
        check(
            lib.fc_conv_run(
                plan.pointer,
                address(first),
                ffi.NULL if packed else address(second),
                second.pointer if packed else ffi.NULL,
                address(b),
                address(residual),
                address(out),
                memory,
                n,
            )
        )

    def _find(self, first: Any, second: Any, residual: Any, out: Any) -> _Plan:
        if (
            first.flags.c_contiguous
            and out.flags.c_contiguous
            and (second is None or second.flags.c_contiguous)
            and (residual is None or residual.flags.c_contiguous)
        ):
            return self._contiguous
        key = self._key(first, second, residual, out)
        return self._plans.get(key) or self._plan(key)

    def _key(self, first: Any, second: Any, residual: Any, out: Any) -> Any:
        spec = self.spec
        f, s, r, o = (None if a is None else a.strides for a in (first, second, residual, out))
        size = np.dtype(spec.dtype).itemsize
        defaults = {
            "x": tuple(v * size for v in contiguous(spec.x_shape)),
            "y": tuple(v * size for v in contiguous(spec.y_shape)),
        }
        if spec.direction == "fwd":
            return f or defaults["x"], s, o or defaults["y"], r
        if spec.direction == "bwd_input":
            return o or defaults["x"], s, f or defaults["y"], r
        return f, o, s, None
