"""Pooling specs as C plans; what depends on strides and threads is kept for each combination."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...spec import PoolSpec
from ..tables import ADDITIONS, LIGHT, TABLES, Widened
from .library import DTYPES, NULL, address, check, contiguous, five, isa_number, scratch, spatial

_KINDS = {"max": lib.FC_MAX, "avg": lib.FC_AVG, "sum": lib.FC_SUM}
_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd": lib.FC_BWD_INPUT}

_POSITIONS = ffi.typeof("int64_t *")

#: Patterns of strides and threads of one spec that are kept; more are rare, and one is quickly made again.
_MOST_CALLS = 16

#: Kernels count positions in a window in numbers of the arrays' type: the integers that float32 holds exactly.
_MOST_POSITIONS = {"float32": 2**24, "float64": 2**53}

#: The largest number in a descriptor.
_MOST = 2**31 - 1


def refuse(spec: PoolSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    if spec.dtype not in DTYPES:
        return f"{spec.dtype} has no C kernels"
    if spec.kind != "max" and max(spec.dilation) > 1:
        return "dilated sums have no C kernels"
    if max(*spec.kernel, *spec.stride, *spec.dilation, *map(max, spec.pads)) > _MOST:
        return f"kernel, stride, padding or dilation is over {_MOST}"
    located = spec.kind == "max" and (spec.indices or spec.direction == "bwd")
    if located and prod(spec.in_size) > _MOST_POSITIONS[spec.dtype]:
        return f"a channel plane has over {_MOST_POSITIONS[spec.dtype]} positions"
    return None


def pool_kernel(spec: PoolSpec, isa: str) -> PoolKernel | Widened:
    """The kernel of a spec, in float64 where the gradient of a maximum may be the sum of too many for float32."""
    many = spec.kind == "max" and spec.direction == "bwd" and prod(map(spec.overlap, range(spec.ndim))) > ADDITIONS
    if many and spec.dtype == "float32":
        return Widened(PoolKernel(replace(spec, dtype="float64"), isa), 3)
    return PoolKernel(spec, isa)


class PoolKernel:
    backend = "c"

    def __init__(self, spec: PoolSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        given = spec.kind == "max" and spec.direction == "bwd" and spec.indices
        self.algorithm = "scatter" if given else "rows_then_columns"
        self.reason = "the indices are given" if given else "windows are ranges: rows are reduced first, then columns"
        d = self._desc = ffi.new("fc_pool_desc *")
        d.kind, d.direction = _KINDS[spec.kind], _DIRECTIONS[spec.direction]
        d.dtype, d.isa, d.indices = DTYPES[spec.dtype], isa_number(isa), spec.indices
        d.adaptive, d.count_pad = spec.adaptive, spec.count_include_pad
        d.n, d.c = spec.n, spec.c
        d.x_size = spatial(spec.in_size)
        d.y_size, d.dil = spatial(spec.out_size), spatial(spec.dilation)
        d.ker, d.stride = spatial(spec.kernel), spatial(spec.stride)
        d.pad, d.pad_end = ([0] * (3 - spec.ndim) + list(pads) for pads in zip(*spec.pads, strict=True))
        d.divisor = spec.divisor or 0
        #: Of the tables in a plan, at most. Those of long dimensions are not kept for every length that comes by.
        self._nbytes = 48 * (sum(spec.in_size) + sum(spec.out_size))
        self._plan = self._make_plan() if self._nbytes <= LIGHT else None
        self._calls: dict[Any, tuple[Any, int, int]] = {}

    def _make_plan(self) -> Any:
        pointer = ffi.new("fc_pool_plan **")
        check(lib.fc_pool_plan_create(self._desc, pointer))
        return ffi.gc(pointer[0], lib.fc_pool_plan_destroy)

    def _kept_plan(self) -> Any:
        return TABLES.get((self.spec, self.isa), self._nbytes, self._make_plan)

    def _call(self, plan: Any, key: tuple[Any, ...]) -> tuple[Any, int, int]:
        """C's strides for these byte strides of (x, y, indices, dx); threads worth waking of so many; their scratch."""
        nthreads, *arrays = key
        size = np.dtype(self.spec.dtype).itemsize
        s = ffi.new("fc_pool_strides *")
        for name, strides, unit in zip(("x", "y", "indices", "dx"), arrays, (size, size, 8, size), strict=True):
            if strides:
                setattr(s, name, five([v // unit for v in strides], self.spec.channels_last))
        if len(self._calls) >= _MOST_CALLS:
            self._calls.clear()
        n = lib.fc_pool_plan_threads(plan, nthreads)
        call = self._calls[key] = (s, n, lib.fc_pool_plan_workspace(plan, s, n))
        return call

    @property
    def workspace_bytes(self) -> int:
        """For contiguous arrays."""
        size = np.dtype(self.spec.dtype).itemsize
        x, y = contiguous(self.spec.x_shape), contiguous(self.spec.y_shape)
        strides = [tuple(v * unit for v in strides) for strides, unit in ((x, size), (y, size), (y, 8), (x, size))]
        return self._call(self._plan or self._kept_plan(), (get_num_threads(), *strides))[2]

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, first: Any, *others: Any) -> None:
        if self.spec.direction == "fwd":
            (x, dx), (y, indices) = (first, None), others
        else:
            y, (x, indices, dx) = first, others
        key = (
            get_num_threads(),
            None if x is None else x.strides,
            y.strides,
            None if indices is None else indices.strides,
            None if dx is None else dx.strides,
        )
        plan = self._plan or self._kept_plan()
        strides, n, nbytes = self._calls.get(key) or self._call(plan, key)
        positions = NULL if indices is None else ffi.cast(_POSITIONS, address(indices))
        status = lib.fc_pool_run(plan, strides, address(x), address(y), positions, address(dx), scratch(nbytes), n)
        if status:
            if status == lib.FC_ERROR_ARGUMENT:
                raise IndexError
            check(status)
