"""NumPy: products by its BLAS, convolutions and pooling by windows of a view."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ...arrays import empty
from ..layers import Conv, Gemm, Pool, Problem
from . import Refused, Variant

_REDUCE = {"max": np.max, "avg": np.mean, "sum": np.sum}


class Peer:
    def __init__(self, threads: int) -> None:
        # The number of threads is set by the environment, from which BLAS reads it when it is loaded.
        self.versions = {"numpy": np.__version__}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        layer = problem.layer
        if problem.direction != "fwd":
            raise Refused("gradients are not compared with NumPy")
        operands = problem.operands()
        x = operands["x"]
        if isinstance(layer, Gemm):
            y = empty((x.shape[0], layer.n), x.dtype)
            return {"matmul": Variant(partial(np.matmul, x, operands["w"], out=y))}
        if isinstance(layer, Pool):
            return {"windows": Variant(partial(_pool, layer, x))}
        if layer.groups > 1:
            raise Refused("groups are not compared with NumPy")
        return {"windows": Variant(partial(_conv, layer, x, operands["w"]))}


def _windows(layer: Conv | Pool, x: np.ndarray, dilation: tuple[int, ...], fill: float) -> np.ndarray:
    """(n, channels, out..., kernel...)."""
    ndim = len(layer.size)
    pads = ((0, 0), (0, 0), *((p, p) for p in layer.padding))
    if any(layer.padding):
        x = np.pad(x, pads, constant_values=fill)
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, layer.kernel, strict=True))
    windows = sliding_window_view(x, reach, tuple(range(2, ndim + 2)))
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in (*layer.stride, *dilation)))
    return windows[steps]


def _conv(layer: Conv, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    ndim = len(layer.size)
    windows = _windows(layer, x, layer.dilation, 0)
    y = np.tensordot(windows, w, ((1, *range(ndim + 2, 2 * ndim + 2)), (1, *range(2, ndim + 2))))
    return np.moveaxis(y, -1, 1)


def _pool(layer: Pool, x: np.ndarray) -> np.ndarray:
    ndim = len(layer.size)
    fill = -np.inf if layer.how == "max" else 0
    windows = _windows(layer, x, (1,) * ndim, fill)
    return _REDUCE[layer.how](windows, axis=tuple(range(ndim + 2, 2 * ndim + 2)))
