"""Normalizations of each sample by itself: over its last axes, or in groups of channels; and their gradients.

Names, argument order and defaults are those of torch.nn.functional.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import integer
from ..arrays import as_gradient, as_operand, as_output
from ..spec import channel_axis, int_tuple
from .norm import (
    along,
    channel_parameters,
    checked_eps,
    gradients,
    normalized,
    normalized_backward,
    parameter,
    recomputed,
)

__all__ = ["group_norm", "group_norm_backward", "layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward"]


def _layer(x: np.ndarray, normalized_shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of the last axes, which are normalized, and their numbers."""
    ndim = len(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else 1
    sizes = int_tuple(normalized_shape, max(ndim, 1), "normalized_shape", 0)
    if x.shape[-len(sizes) :] != sizes:
        raise ValueError(f"x has shape {x.shape}: allowed are sizes that end with normalized_shape={sizes}")
    return sizes, tuple(range(x.ndim - len(sizes), x.ndim))


def layer_norm(
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Layer normalization. x (..., *normalized_shape) -> ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Mean and variance are those over the last axes, whose sizes ``normalized_shape`` is; weight and bias have them, too.
    The other arguments and errors are those of ``batch_norm``.
    """
    x = as_operand("x", x, least=1)
    sizes, axes = _layer(x, normalized_shape)
    weight, bias = parameter("weight", weight, sizes, x.dtype), parameter("bias", bias, sizes, x.dtype)
    y, eps = as_output(out, x.shape, x.dtype, x, weight, bias), checked_eps(eps)
    normalized(x, axes, along(weight, axes, x.ndim), along(bias, axes, x.ndim), eps, y)
    return y if out is None else out


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gradients of ``layer_norm(x, ...)``: dy, of the shape of x -> (dx, dweight, dbias), None where there is none."""
    x = as_operand("x", x, least=1)
    (sizes, axes), dy = _layer(x, normalized_shape), as_gradient(dy, x.shape, x.dtype, "x")
    weight, bias = parameter("weight", weight, sizes, x.dtype), parameter("bias", bias, sizes, x.dtype)
    over, w = tuple(range(x.ndim - len(sizes))), along(weight, axes, x.ndim)
    return gradients(*normalized_backward(dy, x, axes, over, *recomputed(x, axes, checked_eps(eps)), w), weight, bias)


def _rms_eps(eps: Any, dtype: np.dtype) -> float:
    return float(np.finfo(dtype).eps) if eps is None else checked_eps(eps)


def rms_norm(
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    eps: float | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Root mean square normalization. x (..., *normalized_shape) -> ``x / sqrt(mean(x^2) + eps) * weight``.

    ``eps=None``: the distance of 1 to the next number of x's dtype. Otherwise as ``layer_norm``.
    """
    x = as_operand("x", x, least=1)
    sizes, axes = _layer(x, normalized_shape)
    weight, eps = parameter("weight", weight, sizes, x.dtype), _rms_eps(eps, x.dtype)
    y = as_output(out, x.shape, x.dtype, x, weight)
    normalized(x, axes, along(weight, axes, x.ndim), None, eps, y, True)
    return y if out is None else out


def rms_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    eps: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients of ``rms_norm(x, ...)``: dy, of the shape of x -> (dx, dweight), which is None where weight is."""
    x = as_operand("x", x, least=1)
    (sizes, axes), dy = _layer(x, normalized_shape), as_gradient(dy, x.shape, x.dtype, "x")
    weight, eps = parameter("weight", weight, sizes, x.dtype), _rms_eps(eps, x.dtype)
    over, w = tuple(range(x.ndim - len(sizes))), along(weight, axes, x.ndim)
    found = normalized_backward(dy, x, axes, over, *recomputed(x, axes, eps, True), w, True)
    return gradients(*found, weight, None)[:2]


def _grouped(x: np.ndarray, num_groups: Any, layout: Any) -> tuple[np.ndarray, tuple[int, ...], int]:
    """x with its channels as groups and their channels, a view; the axes of a group; x's axis of channels."""
    channel = channel_axis(layout, x.ndim)
    channels = x.shape[channel]
    groups = integer("num_groups", num_groups, 1, max(channels, 1))
    if channels % groups:
        raise ValueError(f"num_groups={groups}: allowed is what divides the {channels} channels of x")
    split = x.reshape(*x.shape[:channel], groups, channels // groups, *x.shape[channel + 1 :])
    return split, tuple(axis for axis in range(1, split.ndim) if axis != channel), channel


def group_norm(
    x: np.ndarray,
    num_groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Group normalization. x (n, c, *size) -> the same as ``batch_norm``, of each image and group of channels.

    ``num_groups`` divides c; weight and bias have shape (c,). The other arguments and errors are those of
    ``batch_norm``.
    """
    x = as_operand("x", x, least=2)
    split, axes, channel = _grouped(x, num_groups, layout)
    weight, bias = channel_parameters(x, channel, weight, bias)
    y, eps = as_output(out, x.shape, x.dtype, x, weight, bias), checked_eps(eps)
    w, b = (_split(value, split, channel) for value in (weight, bias))
    # Another shape for a view of y; its elements stay where they are.
    normalized(split, axes, w, b, eps, y.reshape(split.shape))
    return y if out is None else out


def _split(value: np.ndarray | None, split: np.ndarray, channel: int) -> np.ndarray | None:
    pair = split.shape[channel : channel + 2]
    return None if value is None else along(value.reshape(pair), (channel, channel + 1), split.ndim)


def group_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    num_groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gradients of ``group_norm(x, ...)``: as ``batch_norm_backward``."""
    x = as_operand("x", x, least=2)
    (split, axes, channel), dy = _grouped(x, num_groups, layout), as_gradient(dy, x.shape, x.dtype, "x")
    weight, bias = channel_parameters(x, channel, weight, bias)
    over = tuple(axis for axis in range(split.ndim) if axis not in (channel, channel + 1))
    w = _split(weight, split, channel)
    found = normalized_backward(
        dy.reshape(split.shape), split, axes, over, *recomputed(split, axes, checked_eps(eps)), w
    )
    return gradients(found[0].reshape(x.shape), *found[1:], weight, bias)
