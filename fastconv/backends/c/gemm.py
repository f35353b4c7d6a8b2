"""Matrix products as C calls: one descriptor for each combination of strides that is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...spec import GemmSpec
from .library import (
    DTYPES,
    NULL,
    address,
    address_like,
    address_of_contiguous,
    check,
    isa_number,
    scratch,
    set_activation,
)

_MOST_CALLS = 16


class _Call(NamedTuple):
    """For one combination of strides: the descriptor, ``_sizes`` by number of threads, and where arrays are."""

    descriptor: Any
    sizes: dict[int, tuple[int, int]]
    of_a: Callable[[np.ndarray], Any]
    of_b: Callable[[np.ndarray], Any]
    of_out: Callable[[np.ndarray], Any]


class GemmKernel:
    backend = "c"

    def __init__(self, spec: GemmSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self.algorithm = "packed_gemm"
        self.reason = "operands are packed block by block; next to a few rows or columns, read where they are"
        self._calls: dict[Any, _Call] = {}

    @property
    def workspace_bytes(self) -> int:
        s = self.spec
        size = np.dtype(s.dtype).itemsize
        strides = [(r * c * size, c * size, size) for r, c in ((s.m, s.k), (s.k, s.n), (s.m, s.n))]
        return _sizes(self._descriptor((*strides, None)), get_num_threads())[1]

    def _descriptor(self, all_strides: Any) -> Any:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_gemm_desc *")
        d.dtype, d.isa = DTYPES[spec.dtype], isa_number(self.isa)
        d.batch, d.m, d.n, d.k = spec.batch, spec.m, spec.n, spec.k
        for name, strides in zip(("a", "b", "out", "c"), all_strides, strict=True):
            if strides:
                setattr(d, f"{name}_stride", [0] * (3 - len(strides)) + [s // size for s in strides])
        d.alpha, d.beta = spec.alpha, spec.beta
        set_activation(d.act, spec.activation)
        return d

    def _prepared(self, key: Any, arrays: tuple[np.ndarray, ...]) -> _Call:
        if len(self._calls) >= _MOST_CALLS:
            self._calls.clear()
        call = self._calls[key] = _Call(self._descriptor(key), {}, *map(address_like, arrays))
        return call

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, a: Any, b: Any, bias: Any, c: Any, out: Any) -> None:
        key = a.strides, b.strides, out.strides, None if c is None else c.strides
        descriptor, sizes, of_a, of_b, of_out = self._calls.get(key) or self._prepared(key, (a, b, out))
        nthreads = get_num_threads()
        if nthreads not in sizes:
            sizes[nthreads] = _sizes(descriptor, nthreads)
        n, nbytes = sizes[nthreads]
        if bias is not None and not bias.flags.c_contiguous:
            bias = bias.copy()
        at_bias, at_c = NULL if bias is None else address_of_contiguous(bias), NULL if c is None else address(c)
        status = lib.fc_gemm_run(descriptor, of_a(a), of_b(b), at_bias, at_c, of_out(out), scratch(nbytes), n)
        if status:
            check(status)


def _sizes(descriptor: Any, nthreads: int) -> tuple[int, int]:
    """Threads worth waking, and the scratch that they need."""
    n = lib.fc_gemm_threads(descriptor, nthreads)
    return n, lib.fc_gemm_workspace(descriptor, n)
