"""Elementwise functions as C calls: one descriptor for each combination of strides that is called with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...spec import MapSpec
from .library import DTYPES, NULL, address, check, isa_number, set_activation

#: Combinations of strides of one spec that are kept; more are rare, and a descriptor is quickly made again.
_MOST_CALLS = 16

#: Dimensions that a descriptor has at most.
_MOST_AXES = 8


def refuse(spec: MapSpec) -> str | None:
    """None if the C kernels compute ``spec``, else the reason why not."""
    return f"there are over {_MOST_AXES} dimensions" if len(spec.shape) > _MOST_AXES else None


class MapKernel:
    backend = "c"
    workspace_bytes = 0

    def __init__(self, spec: MapSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self.algorithm = "elementwise"
        self.reason = "runs of neighbours as vectors"
        self._operation = getattr(lib, f"FC_MAP_{spec.operation.upper()}")
        self._calls: dict[Any, tuple[Any, dict[int, int]]] = {}

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def _prepared(self, strides: tuple[tuple[int, ...], ...]) -> tuple[Any, dict[int, int]]:
        """The descriptor for these byte strides of the operands and out, and the threads worth waking of so many."""
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_map_desc *")
        d.op, d.dtype, d.isa, d.rank = self._operation, DTYPES[spec.dtype], isa_number(self.isa), len(spec.shape)
        *operands, out = ([s // size for s in own] for own in strides)
        d.size[0 : d.rank], d.out_stride[0 : d.rank] = list(spec.shape), out
        for k, own in enumerate(operands):
            d.stride[k][0 : d.rank] = own
        set_activation(d.act, spec.activation)
        if len(self._calls) >= _MOST_CALLS:
            self._calls.clear()
        call = self._calls[strides] = d, {}
        return call

    def __call__(self, *arrays: np.ndarray) -> None:
        strides = tuple([a.strides for a in arrays])
        descriptor, threads = self._calls.get(strides) or self._prepared(strides)
        nthreads = get_num_threads()
        n = threads.get(nthreads)
        if n is None:
            n = threads[nthreads] = lib.fc_map_threads(descriptor, nthreads)
        *operands, out = map(address, arrays)
        status = lib.fc_map_run(descriptor, *operands, *[NULL] * (3 - len(operands)), out, n)
        if status:
            check(status)
