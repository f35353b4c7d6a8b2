"""Elements divided by a norm of theirs, or by the mean of their neighbours' squares; and the gradients.

Names, argument order and defaults are those of torch.nn.functional.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from ..arguments import integer, number
from ..arrays import as_gradient, as_operand, as_output, new_array
from ..spec import axes_of, axis_of, channel_axis, kept_shape
from .norm import checked_eps
from .pool import sum_pool2d
from .reduce import amax, reduced, sums

__all__ = ["local_response_norm", "local_response_norm_backward", "normalize", "normalize_backward"]


def _norm(x: np.ndarray, axes: tuple[int, ...], p: float) -> np.ndarray:
    """The p-norm of x over some axes, which stay with size 1."""
    shape = kept_shape(x.shape, axes)
    if p == 2:
        square = new_array(shape, x.dtype)
        reduced("normalize_sums", axes, (x, x, None, None, None, None), (None, None, square, None))
        return np.sqrt(square)
    if p == inf:
        return amax(np.abs(x), axes, True)
    total = sums(np.abs(x) ** x.dtype.type(p), axes).reshape(shape)
    return np.asarray(total ** x.dtype.type(1 / p))


def _normalize_arguments(x: Any, p: Any, dim: Any, eps: Any) -> tuple[np.ndarray, float, tuple[int, ...], float]:
    x, p, eps = as_operand("x", x, least=1), number("p", p), checked_eps(eps)
    if not p > 0:
        raise ValueError(f"p={p!r}: allowed is a number over 0")
    return x, p, (axis_of("dim", dim, x.ndim),) if dim is None else axes_of("dim", dim, x.ndim), eps


def normalize(
    x: np.ndarray,
    p: float = 2.0,
    dim: int | tuple[int, ...] = 1,
    eps: float = 1e-12,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """``x / max(norm, eps)``, where norm is the p-norm of x along ``dim``: an axis, or several.

    ``p``: over 0, infinity too. The other arguments and errors are those of ``batch_norm``.
    """
    x, p, axes, eps = _normalize_arguments(x, p, dim, eps)
    y = as_output(out, x.shape, x.dtype, x)
    if x.size:
        with np.errstate(all="ignore"):
            factor = 1 / np.maximum(_norm(x, axes, p), x.dtype.type(eps))
        reduced("affine", axes, (x, None, None, factor, None, None), (y, None, None, None))
    return y if out is None else out


def normalize_backward(
    dy: np.ndarray, x: np.ndarray, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12
) -> np.ndarray:
    """Gradient of ``normalize(x, p, dim, eps)``: dy, of the shape of x -> dx.

    Where the norm is below eps, it counts as a constant. Of an infinite p, largest elements share its gradient.
    """
    x, p, axes, eps = _normalize_arguments(x, p, dim, eps)
    dy = as_gradient(dy, x.shape, x.dtype, "x")
    if not x.size:
        return new_array(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        norm = _norm(x, axes, p)
        factor = 1 / np.maximum(norm, x.dtype.type(eps))
        products = new_array(norm.shape, x.dtype)
        reduced("normalize_sums", axes, (dy, x, None, None, None, None), (None, None, products, None))
        # norm' is sign(x) (|x| / norm)^(p - 1).
        if p == 2:
            slope = x * (1 / norm)
        elif p == inf:
            most = np.abs(x) == norm
            slope = np.sign(x) * (most / most.sum(axes, keepdims=True, dtype=x.dtype))
        else:
            slope = np.sign(x) * (np.abs(x) / norm) ** x.dtype.type(p - 1)
        slope = np.where((norm > x.dtype.type(eps)) & (x != 0), slope, 0)
        dx = dy * factor - slope * (products * factor * factor)
    return np.asarray(dx, x.dtype)


def _window(x: np.ndarray, size: int, channel: int, turned: bool) -> np.ndarray:
    """Sums of x over ``size`` neighbouring channels, the first half of them before each; turned: behind it."""
    # More than there are make no difference.
    pads = min(size // 2, x.shape[channel]), min((size - 1) // 2, x.shape[channel])
    flat = np.moveaxis(x, channel, 1).reshape(x.shape[0], 1, x.shape[channel], -1)
    total = sum_pool2d(flat, (sum(pads) + 1, 1), 1, (pads[::-1] if turned else pads, (0, 0)))
    others = [n for axis, n in enumerate(x.shape) if axis not in (0, channel)]
    return np.moveaxis(total.reshape(x.shape[0], x.shape[channel], *others), 1, channel)


def _response(
    x: Any, size: Any, alpha: Any, beta: Any, k: Any, layout: Any
) -> tuple[np.ndarray, int, int, np.ndarray, float, float]:
    x = as_operand("x", x, least=3)
    channel, size = channel_axis(layout, x.ndim), integer("size", size, 1, 2**31 - 1)
    alpha, beta, k = number("alpha", alpha), number("beta", beta), number("k", k)
    divisor = np.empty_like(x)
    if x.size:
        divisor = k + _window(x * x, size, channel, False) * x.dtype.type(alpha / size)
    return x, channel, size, divisor.astype(x.dtype, copy=False), alpha, beta


def local_response_norm(
    x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *, layout: str = "NCHW"
) -> np.ndarray:
    """Normalization across channels. x (n, c, *size) -> ``x / (k + alpha mean(x^2))^beta``.

    The mean is over ``size`` neighbouring channels, ``size // 2`` of them before; those that there are not count as 0.
    The other arguments and errors are those of ``batch_norm``.
    """
    x, _, _, divisor, _, beta = _response(x, size, alpha, beta, k, layout)
    with np.errstate(all="ignore"):
        return np.asarray(x * divisor ** x.dtype.type(-beta))


def local_response_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    layout: str = "NCHW",
) -> np.ndarray:
    """Gradient of ``local_response_norm(x, ...)``: dy, of the shape of x -> dx."""
    x, channel, size, divisor, alpha, beta = _response(x, size, alpha, beta, k, layout)
    dy = as_gradient(dy, x.shape, x.dtype, "x")
    if not x.size:
        return new_array(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        power = divisor ** x.dtype.type(-beta)
        inner = _window(dy * x * power / divisor, size, channel, True)
        return np.asarray(dy * power - x * inner * x.dtype.type(2 * alpha * beta / size))
