"""Normalizations, and their gradients: of batches, layers, groups, single images, by norms and across channels.

Names, argument order and defaults are those of torch.nn.functional. One kernel computes mean, variance and result; its
gradient is another one. They differ in the axes that the mean is taken over, and in those that weight and bias have.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod
from typing import Any

import numpy as np

from ..arguments import flag, integer, number, shown
from ..arrays import as_array, as_output, new_array
from ..spec import axes_of, axis_of, channel_axis, check_elements, int_tuple
from .pool import sum_pool2d
from .reduce import amax, reduced, sums

__all__ = [
    "batch_norm", "batch_norm_backward", "group_norm", "group_norm_backward", "instance_norm",
    "instance_norm_backward", "layer_norm", "layer_norm_backward", "local_response_norm",
    "local_response_norm_backward", "normalize", "normalize_backward", "rms_norm", "rms_norm_backward",
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ what all share


def _array(x: Any, least: int) -> np.ndarray:
    x = as_array("x", x)
    check_elements("x", x.shape)
    if x.ndim < least:
        raise ValueError(f"x has shape {x.shape}: allowed are {least} dimensions or more")
    return x


def _eps(eps: Any) -> float:
    eps = number("eps", eps)
    if not eps >= 0:
        raise ValueError(f"eps={eps!r}: allowed is a number that is not negative")
    return eps


def _dy(dy: Any, x: np.ndarray) -> np.ndarray:
    dy = as_array("dy", dy, x.dtype)
    if dy.shape != x.shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {x.shape}, the shape of x")
    return dy


def _parameter(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    if value is None:
        return None
    value = as_array(name, value, dtype)
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}: allowed is None or {shape}")
    return value


def _along(value: np.ndarray | None, axes: Sequence[int], ndim: int) -> np.ndarray | None:
    """A parameter whose axes are those axes of x, with all axes of x."""
    if value is None:
        return None
    sizes = [1] * ndim
    for axis, size in zip(axes, value.shape, strict=True):
        sizes[axis] = size
    return value.reshape(sizes)


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


def _kept(x: np.ndarray, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple([1 if i in axes else size for i, size in enumerate(x.shape)])


def _normalized(
    x: np.ndarray,
    axes: tuple[int, ...],
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    y: np.ndarray,
    root_mean_square: bool = False,
    var: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """y of x; mean and rstd are returned, with the axes that they are taken over as axes of size 1."""
    mean, rstd = (new_array(_kept(x, axes), x.dtype) for _ in range(2))
    if x.size:
        operands = (x, None, None, None, weight, bias)
        reduced("normalize", axes, operands, (y, mean, rstd, var), eps, root_mean_square)
    return mean, rstd


def _recomputed(
    x: np.ndarray, axes: tuple[int, ...], eps: float, root_mean_square: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """mean and rstd alone."""
    mean, rstd = (new_array(_kept(x, axes), x.dtype) for _ in range(2))
    if not x.size:
        return mean, rstd
    if root_mean_square:
        mean.fill(0)
        reduced("normalize_sums", axes, (x, x, None, None, None, None), (None, None, rstd, None))
        rstd /= x.dtype.type(x.size // rstd.size)
    else:
        reduced("moments", axes, (x, *(None,) * 5), (None, mean, rstd, None))
    rstd += x.dtype.type(eps)
    with np.errstate(divide="ignore"):
        np.divide(1, np.sqrt(rstd), out=rstd)
    return mean, rstd


def _backward(
    dy: np.ndarray,
    x: np.ndarray,
    axes: tuple[int, ...],
    over: tuple[int, ...],
    mean: np.ndarray,
    rstd: np.ndarray,
    weight: np.ndarray | None,
    root_mean_square: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dweight, dbias. axes: those that mean and rstd are taken over; over: those that the weight lacks.

    All but dx have all axes of x, of size 1 where they are summed.
    """
    dx = new_array(x.shape, x.dtype)
    of_g, of_gh = (new_array(_kept(x, axes), x.dtype) for _ in range(2))
    dbias, dweight = (new_array(_kept(x, over), x.dtype) for _ in range(2))
    if not x.size:
        dbias.fill(0)
        dweight.fill(0)
        return dx, dweight, dbias
    centre = None if root_mean_square else mean
    if set(axes) <= set(over):
        # The weight is one number for all that a mean is taken over: it stands before the sums.
        operands = (dy, x, centre, rstd, None, weight)
        reduced("normalize_backward", axes, operands, (dx, of_g, of_gh, None), 0.0, root_mean_square)
        rest = tuple(axis for axis in over if axis not in axes)
        shape = dbias.shape
        return (
            dx,
            sums(of_gh, rest).reshape(shape) if rest else of_gh,
            sums(of_g, rest).reshape(shape) if rest else of_g,
        )
    operands = (dy, x, centre, rstd, weight, None)
    reduced("normalize_backward", axes, operands, (dx, None, None, None), 0.0, root_mean_square)
    reduced("normalize_sums", over, (dy, x, centre, rstd, None, None), (None, dbias, dweight, None))
    return dx, dweight, dbias


def _gradients(
    dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, weight: Any, bias: Any
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """As they are returned: in the shapes of the parameters, None where there is none."""
    return (
        dx,
        None if weight is None else dweight.reshape(weight.shape),
        None if bias is None else dbias.reshape(bias.shape),
    )


# --------------------------------------------------------------------------------------------- batches and images


def _running(x: np.ndarray, channel: int, running_mean: Any, running_var: Any, needed: bool) -> list[np.ndarray | None]:
    shape = (x.shape[channel],)
    arrays = []
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None and needed:
            raise TypeError(f"{name} is None: allowed is an array of shape {shape}, unless the batch's own is taken")
        arrays.append(_parameter(name, value, shape, x.dtype))
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


def _channel_parameters(x: np.ndarray, channel: int, weight: Any, bias: Any) -> tuple[Any, Any]:
    shape = (x.shape[channel],)
    return tuple(_parameter(name, value, shape, x.dtype) for name, value in (("weight", weight), ("bias", bias)))


def _affine_of_running(running: Sequence[Any], eps: float, channel: int, ndim: int) -> tuple[Any, Any]:
    mean, var = running
    rstd = (1 / np.sqrt(var.astype(np.float64) + eps)).astype(var.dtype)
    return _along(mean, (channel,), ndim), _along(rstd, (channel,), ndim)


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
    x = _array(x, 2)
    channel = channel_axis(layout, x.ndim)
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    training, momentum, eps = flag("training", training), number("momentum", momentum), _eps(eps)
    wanted = flag("return_statistics", return_statistics)
    running = _running(x, channel, running_mean, running_var, not training)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    if training:
        count = _more_than_one(x, axes)
        _writeable("running_mean", running_mean, running[0])
        _writeable("running_var", running_var, running[1])
    y = as_output(out, x.shape, x.dtype, x, weight, bias, *running)
    w, b = _along(weight, (channel,), x.ndim), _along(bias, (channel,), x.ndim)
    if training:
        var = new_array(_kept(x, axes), x.dtype)
        mean, rstd = _normalized(x, axes, w, b, eps, y, var=var)
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
    x = _array(x, 2)
    channel, dy = channel_axis(layout, x.ndim), _dy(dy, x)
    axes = tuple(axis for axis in range(x.ndim) if axis != channel)
    training, eps = flag("training", training), _eps(eps)
    number("momentum", momentum)
    running = _running(x, channel, running_mean, running_var, not training)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    given = _statistics(statistics, (x.shape[channel],), x.dtype)
    if training:
        _more_than_one(x, axes)
    w = _along(weight, (channel,), x.ndim)
    if given is not None:
        mean, rstd = (_along(array, (channel,), x.ndim) for array in given)
    elif training:
        mean, rstd = _recomputed(x, axes, eps)
    else:
        mean, rstd = _affine_of_running(running, eps, channel, x.ndim)
    if training:
        return _gradients(*_backward(dy, x, axes, axes, mean, rstd, w), weight, bias)
    dx, dbias, dweight = (new_array(shape, x.dtype) for shape in (x.shape, _kept(x, axes), _kept(x, axes)))
    dbias.fill(0)
    dweight.fill(0)
    if x.size:
        reduced("affine", axes, (dy, None, None, rstd, w, None), (dx, None, None, None))
        if weight is not None or bias is not None:
            reduced("normalize_sums", axes, (dy, x, mean, rstd, None, None), (None, dbias, dweight, None))
    return _gradients(dx, dweight, dbias, weight, bias)


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
    x = _array(x, 3)
    channel = channel_axis(layout, x.ndim)
    own, momentum, eps = flag("use_input_stats", use_input_stats), number("momentum", momentum), _eps(eps)
    if not own:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps, layout=layout, out=out)
    axes = tuple(axis for axis in range(1, x.ndim) if axis != channel)
    running = _running(x, channel, running_mean, running_var, False)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    _writeable("running_mean", running_mean, running[0])
    _writeable("running_var", running_var, running[1])
    count = _more_than_one(x, axes)
    y = as_output(out, x.shape, x.dtype, x, weight, bias, *running)
    var = new_array(_kept(x, axes), x.dtype)
    w, b = _along(weight, (channel,), x.ndim), _along(bias, (channel,), x.ndim)
    mean, _ = _normalized(x, axes, w, b, eps, y, var=var)
    if x.size:
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
    x = _array(x, 3)
    channel, own, eps = channel_axis(layout, x.ndim), flag("use_input_stats", use_input_stats), _eps(eps)
    if not own:
        return batch_norm_backward(dy, x, running_mean, running_var, weight, bias, False, momentum, eps, layout=layout)
    dy = _dy(dy, x)
    number("momentum", momentum)
    _running(x, channel, running_mean, running_var, False)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    axes = tuple(axis for axis in range(1, x.ndim) if axis != channel)
    _more_than_one(x, axes)
    w = _along(weight, (channel,), x.ndim)
    return _gradients(*_backward(dy, x, axes, (0, *axes), *_recomputed(x, axes, eps), w), weight, bias)


# ----------------------------------------------------------------------------------------------- layers and groups


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
    x = _array(x, 1)
    sizes, axes = _layer(x, normalized_shape)
    weight, bias = _parameter("weight", weight, sizes, x.dtype), _parameter("bias", bias, sizes, x.dtype)
    y, eps = as_output(out, x.shape, x.dtype, x, weight, bias), _eps(eps)
    _normalized(x, axes, _along(weight, axes, x.ndim), _along(bias, axes, x.ndim), eps, y)
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
    x = _array(x, 1)
    (sizes, axes), dy = _layer(x, normalized_shape), _dy(dy, x)
    weight, bias = _parameter("weight", weight, sizes, x.dtype), _parameter("bias", bias, sizes, x.dtype)
    over, w = tuple(range(x.ndim - len(sizes))), _along(weight, axes, x.ndim)
    return _gradients(*_backward(dy, x, axes, over, *_recomputed(x, axes, _eps(eps)), w), weight, bias)


def _rms_eps(eps: Any, dtype: np.dtype) -> float:
    return float(np.finfo(dtype).eps) if eps is None else _eps(eps)


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
    x = _array(x, 1)
    sizes, axes = _layer(x, normalized_shape)
    weight, eps = _parameter("weight", weight, sizes, x.dtype), _rms_eps(eps, x.dtype)
    y = as_output(out, x.shape, x.dtype, x, weight)
    _normalized(x, axes, _along(weight, axes, x.ndim), None, eps, y, True)
    return y if out is None else out


def rms_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    normalized_shape: int | tuple[int, ...],
    weight: np.ndarray | None = None,
    eps: float | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients of ``rms_norm(x, ...)``: dy, of the shape of x -> (dx, dweight), which is None where weight is."""
    x = _array(x, 1)
    (sizes, axes), dy = _layer(x, normalized_shape), _dy(dy, x)
    weight, eps = _parameter("weight", weight, sizes, x.dtype), _rms_eps(eps, x.dtype)
    over, w = tuple(range(x.ndim - len(sizes))), _along(weight, axes, x.ndim)
    found = _backward(dy, x, axes, over, *_recomputed(x, axes, eps, True), w, True)
    return _gradients(*found, weight, None)[:2]


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
    x = _array(x, 2)
    split, axes, channel = _grouped(x, num_groups, layout)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    y, eps = as_output(out, x.shape, x.dtype, x, weight, bias), _eps(eps)
    w, b = (_split(value, split, channel) for value in (weight, bias))
    # Another shape for a view of y; its elements stay where they are.
    _normalized(split, axes, w, b, eps, y.reshape(split.shape))
    return y if out is None else out


def _split(value: np.ndarray | None, split: np.ndarray, channel: int) -> np.ndarray | None:
    pair = split.shape[channel : channel + 2]
    return None if value is None else _along(value.reshape(pair), (channel, channel + 1), split.ndim)


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
    x = _array(x, 2)
    (split, axes, channel), dy = _grouped(x, num_groups, layout), _dy(dy, x)
    weight, bias = _channel_parameters(x, channel, weight, bias)
    over = tuple(axis for axis in range(split.ndim) if axis not in (channel, channel + 1))
    w = _split(weight, split, channel)
    found = _backward(dy.reshape(split.shape), split, axes, over, *_recomputed(split, axes, _eps(eps)), w)
    return _gradients(found[0].reshape(x.shape), *found[1:], weight, bias)


# ------------------------------------------------------------------------------------------- norms, and neighbours


def _norm(x: np.ndarray, axes: tuple[int, ...], p: float) -> np.ndarray:
    """The p-norm of x over some axes, which stay with size 1."""
    shape = _kept(x, axes)
    if p == 2:
        square = new_array(shape, x.dtype)
        reduced("normalize_sums", axes, (x, x, None, None, None, None), (None, None, square, None))
        return np.sqrt(square)
    if p == inf:
        return amax(np.abs(x), axes, True)
    total = sums(np.abs(x) ** x.dtype.type(p), axes).reshape(shape)
    return np.asarray(total ** x.dtype.type(1 / p))


def _normalize_arguments(x: Any, p: Any, dim: Any, eps: Any) -> tuple[np.ndarray, float, tuple[int, ...], float]:
    x, p, eps = _array(x, 1), number("p", p), _eps(eps)
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
    dy = _dy(dy, x)
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
    x = _array(x, 3)
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
    dy = _dy(dy, x)
    if not x.size:
        return new_array(x.shape, x.dtype)
    with np.errstate(all="ignore"):
        power = divisor ** x.dtype.type(-beta)
        inner = _window(dy * x * power / divisor, size, channel, True)
        return np.asarray(dy * power - x * inner * x.dtype.type(2 * alpha * beta / size))
