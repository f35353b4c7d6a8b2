"""Resizing: one axis after the other, each term of each sum added where it belongs, in float64."""

from __future__ import annotations

import numpy as np

from ...spec import ResizeSpec
from .kernel import ReferenceKernel


class ResizeKernel(ReferenceKernel):
    algorithm = "one axis after the other"

    def __init__(self, spec: ResizeSpec) -> None:
        self.spec = spec

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        y = x.astype(np.float64)
        with np.errstate(all="ignore"):
            for dim in range(self.spec.ndim):
                axis = dim + (1 if self.spec.channels_last else 2)
                y = np.moveaxis(self._along(dim, np.moveaxis(y, axis, 0)), 0, axis)
            out[...] = y

    def _along(self, dim: int, x: np.ndarray) -> np.ndarray:
        """Resizes the first axis."""
        first, index, weight = self.spec.table(dim)
        targets = np.repeat(np.arange(len(first) - 1), np.diff(first))
        y = np.zeros((len(first) - 1, *x.shape[1:]))
        np.add.at(y, targets, x[index] * weight.reshape(-1, *(1,) * (x.ndim - 1)))
        return y
