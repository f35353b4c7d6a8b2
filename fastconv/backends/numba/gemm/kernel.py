"""The operator."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ....spec import GemmSpec
from ..core.arrays import steps
from ..core.target import ISA, MR, NV, lanes
from .operands import Operand
from .product import Job, Product

__all__ = ["GemmKernel"]


class GemmKernel:
    backend = "numba"
    isa = ISA

    def __init__(self, spec: GemmSpec) -> None:
        self.spec = spec
        self.algorithm = f"packed_gemm {MR}x{NV * lanes(spec.dtype)}"
        self.reason = f"{self.algorithm}: blocks of both matrices are packed for the register tile"
        self._product = lru_cache(maxsize=8)(self._make)

    def _make(
        self, a: tuple[int, ...], b: tuple[int, ...], out: tuple[int, ...], c: tuple[int, ...] | None, bias_step: int
    ) -> Product:
        s = self.spec
        job = Job(
            m=s.m,
            n=s.n,
            k=s.k,
            batch=s.batch,
            a=Operand.matrix(s.m, a[1], s.k, a[2], a[0]),
            b=Operand.matrix(s.k, b[1], s.n, b[2], b[0]),
            result=Operand.matrix(s.m, out[1], s.n, out[2], out[0]),
            residual=Operand.matrix(s.m, c[1], s.n, c[2], c[0]) if c else None,
            a_pixels_inner=False,
            b_pixels_inner=False,
            rows_are_pixels=True,
            bias_axis=2 if s.bias else 0,
            bias_step=bias_step,
        )
        return Product(s.dtype, [job], s.activation, s.alpha, s.beta)

    @property
    def workspace_bytes(self) -> int:
        s = self.spec
        return self._product((s.m * s.k, s.k, 1), (s.k * s.n, s.n, 1), (s.m * s.n, s.n, 1), None, 1).workspace_bytes

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A matrix as the call takes it: as it is."""
        return w

    def __call__(
        self, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, c: np.ndarray | None, out: np.ndarray
    ) -> None:
        if out.ndim == 2:
            a, b, out, c = a[None], b[None], out[None], None if c is None else c[None]
        product = self._product(
            steps(a), steps(b), steps(out), None if c is None else steps(c), 0 if bias is None else steps(bias)[0]
        )
        product.run(a, b, out, c, bias, None)
