"""What normalizations share: checks, the kernel of mean, variance and result, and that of its gradient.

They differ in the axes that the mean is taken over, and in those that weight and bias have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import number
from ..arrays import as_array, new_array
from ..spec import kept_shape
from .reduce import reduced, sums

__all__ = [
    "along",
    "channel_parameters",
    "checked_eps",
    "gradients",
    "new_statistics",
    "normalized",
    "normalized_backward",
    "parameter",
    "recomputed",
]


def checked_eps(eps: Any) -> float:
    eps = number("eps", eps)
    if not eps >= 0:
        raise ValueError(f"eps={eps!r}: allowed is a number that is not negative")
    return eps


def parameter(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    if value is None:
        return None
    value = as_array(name, value, dtype)
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}: allowed is None or {shape}")
    return value


def along(value: np.ndarray | None, axes: Sequence[int], ndim: int) -> np.ndarray | None:
    """A parameter whose axes are those axes of x, with all axes of x."""
    if value is None:
        return None
    sizes = [1] * ndim
    for axis, size in zip(axes, value.shape, strict=True):
        sizes[axis] = size
    return value.reshape(sizes)


def normalized(
    x: np.ndarray,
    axes: tuple[int, ...],
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    y: np.ndarray | None,
    root_mean_square: bool = False,
    statistics: Sequence[np.ndarray | None] = (None, None, None),
) -> None:
    """y of x; mean, rstd and variance, with the axes that they are taken over as axes of size 1. None: nobody asks."""
    if x.size:
        reduced("normalize", axes, (x, None, None, None, weight, bias), (y, *statistics), eps, root_mean_square)


def new_statistics(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays for those."""
    shape = kept_shape(x.shape, axes)
    return new_array(shape, x.dtype), new_array(shape, x.dtype), new_array(shape, x.dtype)


def recomputed(
    x: np.ndarray, axes: tuple[int, ...], eps: float, root_mean_square: bool = False
) -> tuple[np.ndarray | None, np.ndarray]:
    """mean and rstd alone; None for a mean of 0."""
    shape = kept_shape(x.shape, axes)
    mean, rstd = None if root_mean_square else new_array(shape, x.dtype), new_array(shape, x.dtype)
    normalized(x, axes, None, None, eps, None, root_mean_square, (mean, rstd, None))
    return mean, rstd


def normalized_backward(
    dy: np.ndarray,
    x: np.ndarray,
    axes: tuple[int, ...],
    over: tuple[int, ...],
    mean: np.ndarray | None,
    rstd: np.ndarray,
    weight: np.ndarray | None,
    root_mean_square: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dweight, dbias. axes: those that mean and rstd are taken over; over: those that the weight lacks.

    All but dx have all axes of x, of size 1 where they are summed.
    """
    dx = new_array(x.shape, x.dtype)
    inside = set(axes) <= set(over)
    shape = kept_shape(x.shape, over)
    of_g, of_gh = (new_array(kept_shape(x.shape, axes) if inside else shape, x.dtype) for _ in range(2))
    if not x.size:
        return dx, np.zeros(shape, x.dtype), np.zeros(shape, x.dtype)
    if inside:
        # The weight is one number for all that a mean is taken over: it stands before the sums.
        operands = (dy, x, mean, rstd, None, weight)
        reduced("normalize_backward", axes, operands, (dx, of_g, of_gh, None), 0.0, root_mean_square)
        rest = tuple(axis for axis in over if axis not in axes)
        if not rest:
            return dx, of_gh, of_g
        return dx, sums(of_gh, rest).reshape(shape), sums(of_g, rest).reshape(shape)
    operands = (dy, x, mean, rstd, weight, None)
    reduced("normalize_backward", axes, operands, (dx, None, None, None), 0.0, root_mean_square)
    reduced("normalize_sums", over, (dy, x, mean, rstd, None, None), (None, of_g, of_gh, None))
    return dx, of_gh, of_g


def gradients(
    dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, weight: Any, bias: Any
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """As they are returned: in the shapes of the parameters, None where there is none."""
    return (
        dx,
        None if weight is None else dweight.reshape(weight.shape),
        None if bias is None else dbias.reshape(bias.shape),
    )


def channel_parameters(x: np.ndarray, channel: int, weight: Any, bias: Any) -> tuple[Any, Any]:
    shape = (x.shape[channel],)
    return tuple(parameter(name, value, shape, x.dtype) for name, value in (("weight", weight), ("bias", bias)))
