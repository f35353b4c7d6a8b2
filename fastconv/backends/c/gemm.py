"""Matrix products as C calls: one descriptor for each combination of strides that is called with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import GemmSpec
from ...threads import get_num_threads
from .library import DTYPES, address, check, isa_number, scratch, set_activation

_MOST_DESCRIPTORS = 16


class GemmKernel:
    backend = "c"

    def __init__(self, spec: GemmSpec, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self.algorithm = "packed_gemm"
        self.reason = "operands are packed block by block; next to a few rows or columns, read where they are"
        self._descriptors: dict[Any, tuple[Any, dict[int, tuple[int, int]]]] = {}

    @property
    def workspace_bytes(self) -> int:
        s = self.spec
        size = np.dtype(s.dtype).itemsize
        strides = [(r * c * size, c * size, size) for r, c in ((s.m, s.k), (s.k, s.n), (s.m, s.n))]
        return self._sized(self._descriptor((*strides, None)), get_num_threads())[1]

    def _descriptor(self, key: Any) -> tuple[Any, dict[int, tuple[int, int]]]:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_gemm_desc *")
        d.dtype, d.isa = DTYPES[spec.dtype], isa_number(self.isa)
        d.batch, d.m, d.n, d.k = spec.batch, spec.m, spec.n, spec.k
        for name, strides in zip(("as", "bs", "os", "cs"), key, strict=True):
            if strides:
                setattr(d, name, [0] * (3 - len(strides)) + [s // size for s in strides])
        d.alpha, d.beta = spec.alpha, spec.beta
        set_activation(d.act, spec.activation)
        if len(self._descriptors) >= _MOST_DESCRIPTORS:
            self._descriptors.clear()
        entry = self._descriptors[key] = (d, {})
        return entry

    def _sized(self, entry: Any, nthreads: int) -> tuple[int, int]:
        """Threads worth waking, and the scratch that they need."""
        descriptor, sizes = entry
        if nthreads not in sizes:
            n = lib.fc_gemm_threads(descriptor, nthreads)
            sizes[nthreads] = n, lib.fc_gemm_workspace(descriptor, n)
        return sizes[nthreads]

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, a: Any, b: Any, bias: Any, c: Any, out: Any) -> None:
        key = a.strides, b.strides, out.strides, None if c is None else c.strides
        entry = self._descriptors.get(key) or self._descriptor(key)
        nthreads = get_num_threads()
        n, nbytes = entry[1].get(nthreads) or self._sized(entry, nthreads)
        if bias is not None and not bias.flags.c_contiguous:
            bias = bias.copy()
        status = lib.fc_gemm_run(
            entry[0], address(a), address(b), address(bias), address(c), address(out), scratch(nbytes), n
        )
        if status:
            check(status)
