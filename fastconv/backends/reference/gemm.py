"""Matrix products: numpy.matmul in float64 and the epilogue, term by term."""

from __future__ import annotations

import numpy as np

from ...spec import GemmSpec
from .kernel import ReferenceKernel, activated


class GemmKernel(ReferenceKernel):
    algorithm = "numpy.matmul"

    def __init__(self, spec: GemmSpec) -> None:
        self.spec = spec

    def __call__(
        self, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, c: np.ndarray | None, out: np.ndarray
    ) -> None:
        result = self.spec.alpha * (a.astype(np.float64) @ b.astype(np.float64))
        if self.spec.use_c:
            result += self.spec.beta * c.astype(np.float64)
        if bias is not None:
            result += bias
        with np.errstate(over="ignore"):
            out[...] = activated(result, self.spec.activation)
