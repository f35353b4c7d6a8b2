"""Normalizations of batches and of single images, by statistics of their own or by running ones, and their gradients.

Names, argument order and defaults are those of torch.nn.functional.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from ..arguments import flag, number, shown
from ..arrays import as_array, as_gradient, as_operand, as_output, new_array
from ..spec import channel_axis, kept_shape
from .norm import (
    along,
    channel_parameters,
    checked_eps,
    gradients,
    new_statistics,
    normalized,
    normalized_backward,
    parameter,
    recomputed,
)
from .reduce import reduced, sums

__all__ = ["batch_norm", "batch_norm_backward", "instance_norm", "instance_norm_backward"]


def _statistics(given: Any, shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray] | None:
    """(mean, rstd) as the forward function gave them."""
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(f"statistics={shown(given)}: allowed is None or (mean, rstd)")
    pair = [as_array("statistics", array, dtype) for array in given]
    for array in pair:
        if array.shape != shape:
            raise ValueError(f"statistics has an array of shape {array.shape}: allowed is {shape}")
    return pair[0], pair[1]


def _running(x: np.ndarray, channel: int, running_mean: Any, running_var: Any, needed: bool) -> list[np.ndarray | None]:
    shape = (x.shape[channel],)
    arrays = []
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None and needed:
            raise TypeError(f"{name} is None: allowed is an array of shape {shape}, unless the batch's own is taken")
        arrays.append(parameter(name, value, shape, x.dtype))
    return arrays


def _writeable(name: str, given: Any, array: np.ndarray | None) -> None:
    if array is not None and not (given.flags.writeable and np.shares_memory(given, array)):
        raise ValueError(f"{name} is read-only or not aligned: allowed is an array that can be written in training")


def _update(running: Sequence[Any], batch: Sequence[np.ndarray], momentum: float, count: int) -> None:
    """``running = (1 - momentum) running + momentum batch``, of an unbiased variance."""
    for value, new, scale in zip(running, batch, (1.0, count / (count - 1) if count > 1 else inf), strict=True):
        if value is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                value *= value.dtype.type(1 - momentum)
                value += value.dtype.type(momentum * scale) * new.reshape(value.shape)


def _affine_of_running(running: Sequence[Any], eps: float, channel: int, ndim: int) -> tuple[Any, Any]:
    mean, var = running
    rstd = (1 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)
    return along(mean.copy(), (channel,), ndim), along(rstd, (channel,), ndim)


def _more_than_one(x: np.ndarray, axes: tuple[int, ...]) -> int:
    count = prod([x.shape[axis] for axis in axes])
    if count == 1 and x.size:
        raise ValueError(f"x has shape {x.shape}: allowed is more than one value a mean, where it is the batch's own")
    return count


def batch_norm(
    x: np.ndarray,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    return_statistics: bool = False,
    out: np.ndarray | None = None,
) -> Any:
    """Batch normalization. x (n, c, *size) -> ``(x - mean) / sqrt(var + eps) * weight + bias`` of its shape.

    In evaluation mean and variance are ``running_mean`` and ``running_var`` (c,). In ``training`` they are those of all
    images and positions of a channel (the variance divided by their number), and both running ones, unless None, are
    updated in place: ``(1 - momentum) running + momentum batch``, with the unbiased variance. ``weight`` and ``bias``
    have shape (c,), or are None for 1 and 0. With ``layout="NHWC"`` and its like the channels are the last axis.

    ``return_statistics``: the result is (y, mean, 1 / sqrt(var + eps)), the last two (c,), for the gradient. ``out``:
    an array for y, which shares no memory with the inputs. float32 or float64, the same for all arrays; any strides.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x = as_operand("x", x, least=2)
    channel = channel_axis(layout, x.ndim)
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    training, momentum, eps = flag("training", training), number("momentum", momentum), checked_eps(eps)
    wanted = flag("return_statistics", return_statistics)
    running = _running(x, channel, running_mean, running_var, not training)
    weight, bias = channel_parameters(x, channel, weight, bias)
    if training:
        count = _more_than_one(x, axes)
        _writeable("running_mean", running_mean, running[0])
        _writeable("running_var", running_var, running[1])
    y = as_output(out, x.shape, x.dtype, x, weight, bias, *running)
    w, b = along(weight, (channel,), x.ndim), along(bias, (channel,), x.ndim)
    if training:
        mean, rstd, var = new_statistics(x, axes)
        normalized(x, axes, w, b, eps, y, statistics=(mean, rstd, var))
        if x.size:
            _update(running, (mean, var), momentum, count)
    else:
        mean, rstd = _affine_of_running(running, eps, channel, x.ndim)
        if x.size:
            reduced("affine", axes, (x, None, mean, rstd, w, b), (y, None, None, None))
    y = y if out is None else out
    return (y, mean.reshape(-1), rstd.reshape(-1)) if wanted else y


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    running_mean: np.ndarray | None,
    running_var: np.ndarray | None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gradients of ``batch_norm(x, ...)``: dy, of the shape of x -> (dx, dweight, dbias), None where there is no such.

    The arguments are those of ``batch_norm``; nothing is updated. ``statistics``, its (mean, rstd), saves computing
    them again.
    """
    x = as_operand("x", x, least=2)
    channel, dy = channel_axis(layout, x.ndim), as_gradient(dy, x.shape, x.dtype, "x")
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    training, eps = flag("training", training), checked_eps(eps)
    number("momentum", momentum)
    running = _running(x, channel, running_mean, running_var, not training)
    weight, bias = channel_parameters(x, channel, weight, bias)
    given = _statistics(statistics, (x.shape[channel],), x.dtype)
    if training:
        _more_than_one(x, axes)
    w = along(weight, (channel,), x.ndim)
    if given is not None:
        mean, rstd = (along(array, (channel,), x.ndim) for array in given)
    elif training:
        mean, rstd = recomputed(x, axes, eps)
    else:
        mean, rstd = _affine_of_running(running, eps, channel, x.ndim)
    if training:
        return gradients(*normalized_backward(dy, x, axes, axes, mean, rstd, w), weight, bias)
    dx, dbias, dweight = (
        new_array(shape, x.dtype) for shape in (x.shape, kept_shape(x.shape, axes), kept_shape(x.shape, axes))
    )
    dbias.fill(0)
    dweight.fill(0)
    if x.size:
        reduced("affine", axes, (dy, None, None, rstd, w, None), (dx, None, None, None))
        if weight is not None or bias is not None:
            reduced("normalize_sums", axes, (dy, x, mean, rstd, None, None), (None, dbias, dweight, None))
    return gradients(dx, dweight, dbias, weight, bias)


def instance_norm(
    x: np.ndarray,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Instance normalization. x (n, c, *size) -> the same as ``batch_norm``, of each image and channel by itself.

    Without ``use_input_stats`` mean and variance are the running ones. With it these are, unless None, updated by the
    mean over the images. The other arguments and errors are those of ``batch_norm``.
    """
    x = as_operand("x", x, least=3)
    channel = channel_axis(layout, x.ndim)
    own, momentum, eps = flag("use_input_stats", use_input_stats), number("momentum", momentum), checked_eps(eps)
    if not own:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps, layout=layout, out=out)
    axes = tuple(axis for axis in range(1, x.ndim) if axis != channel)
    running = _running(x, channel, running_mean, running_var, False)
    weight, bias = channel_parameters(x, channel, weight, bias)
    _writeable("running_mean", running_mean, running[0])
    _writeable("running_var", running_var, running[1])
    count = _more_than_one(x, axes)
    y = as_output(out, x.shape, x.dtype, x, weight, bias, *running)
    w, b = along(weight, (channel,), x.ndim), along(bias, (channel,), x.ndim)
    statistics = new_statistics(x, axes) if any(value is not None for value in running) else (None, None, None)
    normalized(x, axes, w, b, eps, y, statistics=statistics)
    if x.size and statistics[0] is not None:
        mean, _, var = statistics
        n = x.dtype.type(x.shape[0])
        _update(running, [sums(s, (0,)) / n for s in (mean, var)], momentum, count)
    return y if out is None else out


def instance_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "NCHW",
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gradients of ``instance_norm(x, ...)``: as ``batch_norm_backward``."""
    x = as_operand("x", x, least=3)
    channel, own, eps = channel_axis(layout, x.ndim), flag("use_input_stats", use_input_stats), checked_eps(eps)
    if not own:
        return batch_norm_backward(dy, x, running_mean, running_var, weight, bias, False, momentum, eps, layout=layout)
    dy = as_gradient(dy, x.shape, x.dtype, "x")
    number("momentum", momentum)
    _running(x, channel, running_mean, running_var, False)
    weight, bias = channel_parameters(x, channel, weight, bias)
    axes = tuple(axis for axis in range(1, x.ndim) if axis != channel)
    _more_than_one(x, axes)
    w = along(weight, (channel,), x.ndim)
    return gradients(*normalized_backward(dy, x, axes, (0, *axes), *recomputed(x, axes, eps), w), weight, bias)
