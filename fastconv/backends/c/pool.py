"""Pooling specs as C plans; what depends on strides is kept for each combination that is called with."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import PoolSpec
from ...threads import get_num_threads
from .library import DTYPES, address, check, contiguous, five, isa_number, scratch, spatial

_KINDS = {"max": lib.FC_MAX, "avg": lib.FC_AVG, "sum": lib.FC_SUM}
_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd": lib.FC_BWD_INPUT}

#: Stride patterns of one spec that are kept; more are rare, and one is quickly made again.
_MOST_PATTERNS = 16

#: Kernels count positions in a window in numbers of the arrays' type: the integers that float32 holds exactly.
_MOST_POSITIONS = {"float32": 2**24, "float64": 2**53}


def refuse(spec: PoolSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    if spec.kind != "max" and spec.direction == "bwd" and max(spec.dilation) > 1:
        return "gradients of dilated sums have no C kernels"
    located = spec.kind == "max" and (spec.indices or spec.direction == "bwd")
    if located and prod(spec.in_size) > _MOST_POSITIONS[spec.dtype]:
        return f"a channel plane has over {_MOST_POSITIONS[spec.dtype]} positions"
    return None


class PoolKernel:
    backend = "c"

    def __init__(self, spec: PoolSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        given = spec.kind == "max" and spec.direction == "bwd" and spec.indices
        self.algorithm = "scatter" if given else "rows_then_columns"
        self.reason = "the indices are given" if given else "windows are ranges: rows are reduced first, then columns"
        d = ffi.new("fc_pool_desc *")
        d.kind, d.direction = _KINDS[spec.kind], _DIRECTIONS[spec.direction]
        d.dtype, d.isa, d.indices = DTYPES[spec.dtype], isa_number(isa), spec.indices
        d.n, d.c = spec.n, spec.c
        setattr(d, "in", spatial(spec.in_size))
        d.out, d.dil = spatial(spec.out_size), spatial(spec.dilation)
        tables = [np.array(table, np.int64) for table in (*[((0, 1, 1),)] * (3 - spec.ndim), *spec.windows)]
        d.windows = [ffi.cast("int64_t *", t.ctypes.data) for t in tables]
        d.divisor = spec.divisor or 0
        if not spec.adaptive:
            d.ker, d.stride, d.pad = spec.kernel[-1], spec.stride[-1], spec.pads[-1][0]
        pointer = ffi.new("fc_pool_plan **")
        check(lib.fc_pool_plan_create(d, pointer))
        self._plan = ffi.gc(pointer[0], lib.fc_pool_plan_destroy)
        self._patterns: dict[Any, tuple[Any, dict[int, tuple[int, int]]]] = {}

    def _pattern(self, key: tuple[Any, ...]) -> tuple[Any, dict[int, tuple[int, int]]]:
        """C's strides for these byte strides of (x, y, indices, dx), and a table of sizes by threads."""
        size = np.dtype(self.spec.dtype).itemsize
        s = ffi.new("fc_pool_strides *")
        for name, strides, unit in zip(("x", "y", "indices", "dx"), key, (size, size, 8, size), strict=True):
            if strides:
                setattr(s, name, five([v // unit for v in strides], self.spec.channels_last))
        if len(self._patterns) >= _MOST_PATTERNS:
            self._patterns.clear()
        entry = self._patterns[key] = (s, {})
        return entry

    def _sized(self, entry: tuple[Any, dict[int, tuple[int, int]]], nthreads: int) -> tuple[int, int]:
        """Threads worth waking, and the scratch that they need."""
        strides, sizes = entry
        if nthreads not in sizes:
            n = lib.fc_pool_plan_threads(self._plan, nthreads)
            sizes[nthreads] = n, lib.fc_pool_plan_workspace(self._plan, strides, n)
        return sizes[nthreads]

    @property
    def workspace_bytes(self) -> int:
        """For contiguous arrays."""
        size = np.dtype(self.spec.dtype).itemsize
        x, y = contiguous(self.spec.x_shape), contiguous(self.spec.y_shape)
        key = tuple(tuple(v * unit for v in strides) for strides, unit in ((x, size), (y, size), (y, 8), (x, size)))
        return self._sized(self._patterns.get(key) or self._pattern(key), get_num_threads())[1]

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, first: Any, *others: Any) -> None:
        if self.spec.direction == "fwd":
            (x, dx), (y, indices) = (first, None), others
        else:
            y, (x, indices, dx) = first, others
        key = tuple([None if a is None else a.strides for a in (x, y, indices, dx)])
        entry = self._patterns.get(key) or self._pattern(key)
        n, nbytes = self._sized(entry, get_num_threads())
        positions = ffi.NULL if indices is None else ffi.cast("int64_t *", address(indices))
        check(lib.fc_pool_run(self._plan, entry[0], address(x), address(y), positions, address(dx), scratch(nbytes), n))
