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
    y: np.ndarray,
    root_mean_square: bool = False,
    var: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """y of x; mean and rstd are returned, with the axes that they are taken over as axes of size 1."""
    mean, rstd = (new_array(kept_shape(x.shape, axes), x.dtype) for _ in range(2))
    if x.size:
        operands = (x, None, None, None, weight, bias)
        reduced("normalize", axes, operands, (y, mean, rstd, var), eps, root_mean_square)
    return mean, rstd


def recomputed(
    x: np.ndarray, axes: tuple[int, ...], eps: float, root_mean_square: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """mean and rstd alone."""
    mean, rstd = (new_array(kept_shape(x.shape, axes), x.dtype) for _ in range(2))
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


def normalized_backward(
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
    of_g, of_gh = (new_array(kept_shape(x.shape, axes), x.dtype) for _ in range(2))
    dbias, dweight = (new_array(kept_shape(x.shape, over), x.dtype) for _ in range(2))
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
