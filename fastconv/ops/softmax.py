"""Softmax and its logarithm along an axis, with their gradients.

Names, argument order and defaults are those of torch.nn.functional.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import as_array, as_gradient, as_operand, as_output
from ..spec import axis_of
from .reduce import reduced

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


def _forward(kind: str, x: Any, dim: Any, out: Any) -> np.ndarray:
    x = as_operand("x", x)
    axis = axis_of("dim", dim, x.ndim)
    y = as_output(out, x.shape, x.dtype, x)
    if y.size:
        reduced(kind, (axis,) if x.ndim else (), (x, *(None,) * 5), (y, None, None, None))
    return y if out is None else out


def _backward(kind: str, dy: Any, x: Any, dim: Any, y: Any, out: Any) -> np.ndarray:
    x = as_operand("x", x)
    axis, dy = axis_of("dim", dim, x.ndim), as_gradient(dy, x.shape, x.dtype, "x")
    y = _forward(kind, x, axis, None) if y is None else as_array("y", y, x.dtype)
    if y.shape != x.shape:
        raise ValueError(f"y has shape {y.shape}: allowed is {x.shape}, the shape of x")
    dx = as_output(out, x.shape, x.dtype, x, dy, y)
    if dx.size:
        axes = (axis,) if x.ndim else ()
        reduced(f"{kind}_backward", axes, (dy, y, *(None,) * 4), (dx, None, None, None))
    return dx if out is None else out


def softmax(x: np.ndarray, dim: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """``exp(x) / sum(exp(x))`` along axis ``dim``: a new array of x's shape and dtype (float32 or float64), or ``out``.

    The largest x is subtracted first, so nothing overflows, and exactly: results are within 4 units of the last place.
    Where x is NaN, +infinity, or -infinity all along, the result is NaN all along.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    return _forward("softmax", x, dim, out)


def softmax_backward(
    dy: np.ndarray, x: np.ndarray, dim: int, *, y: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``softmax(x, dim)``: dy -> dx, both of the shape of x.

    ``y``, the result of ``softmax``, saves computing it again.
    """
    return _backward("softmax", dy, x, dim, y, out)


def log_softmax(x: np.ndarray, dim: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """``log(softmax(x, dim))``, but exact where that is near 0 or far from it. Arguments and errors likewise."""
    return _forward("log_softmax", x, dim, out)


def log_softmax_backward(
    dy: np.ndarray, x: np.ndarray, dim: int, *, y: np.ndarray | None = None, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``log_softmax(x, dim)``: as ``softmax_backward``, with its own result for ``y``."""
    return _backward("log_softmax", dy, x, dim, y, out)
