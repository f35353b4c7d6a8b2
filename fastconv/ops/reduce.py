"""Reductions over axes, and their gradients: sums, means, variances, largest and smallest elements and their places.

Names, argument order and defaults are those of torch (``dim``, ``keepdim``), as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..arguments import flag, number
from ..arrays import DTYPE_NAMES, as_gradient, as_operand, new_array
from ..dispatch import chooser
from ..spec import ReduceSpec, Types, axes_of, axis_of, kept_shape

__all__ = [
    "amax", "amax_backward", "amin", "amin_backward", "argmax", "argmin", "mean", "mean_backward", "sum",
    "sum_backward", "var", "var_backward",
]  # fmt: skip


def _make(kind: str, dtype: np.dtype, *problem: Any) -> ReduceSpec:
    return ReduceSpec(kind, Types.of(DTYPE_NAMES[dtype]), *problem)


_choose = chooser(_make)

_INT64 = np.dtype(np.int64)


def reduced(
    kind: str,
    axes: tuple[int, ...],
    operands: Sequence[np.ndarray | None],
    results: Sequence[np.ndarray | None],
    parameter: float = 0.0,
    root_mean_square: bool = False,
) -> None:
    """One kernel call. The arrays are those of ``spec.REDUCTIONS``; all have the axes of the first.

    Along an axis each has its size or 1: there it is the same all along, or a result of the reduction.
    """
    x = operands[0]
    assert x is not None
    choice = _choose(kind, x.dtype, x.shape, axes, parameter, root_mean_square)
    choice.kernel(*operands, *results)


def _operand(x: Any, dim: Any) -> tuple[np.ndarray, tuple[int, ...]]:
    x = as_operand("x", x)
    return x, axes_of("dim", dim, x.ndim)


def _shown(result: np.ndarray, axes: tuple[int, ...], keepdim: bool) -> np.ndarray:
    """A result of the reduction, without the axes that were reduced unless they are kept."""
    if keepdim:
        return result
    return result.reshape([size for i, size in enumerate(result.shape) if i not in axes])


def _dy(dy: Any, x: np.ndarray, axes: tuple[int, ...], keepdim: Any) -> np.ndarray:
    """dy, checked, with the axes that were reduced."""
    kept = kept_shape(x.shape, axes)
    wanted = kept if flag("keepdim", keepdim) else tuple(n for i, n in enumerate(kept) if i not in axes)
    return as_gradient(dy, wanted, x.dtype).reshape(kept)


def _total(x: np.ndarray, axes: tuple[int, ...], divisor: float, keepdim: bool) -> np.ndarray:
    y = new_array(kept_shape(x.shape, axes), x.dtype)
    if x.size:
        reduced("sum", axes, (x, *(None,) * 5), (None, y, None, None), divisor)
    else:
        y.fill(0 if divisor else np.nan)
    return _shown(y, axes, keepdim)


def sums(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """``sum`` without its checks."""
    return _total(x, axes, 1.0, False)


def sum(x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> np.ndarray:
    """The sum of x over some axes, added in double precision and rounded once. Of no elements it is 0.

    x: float32 or float64, any shape and strides. ``dim``: an axis, several, or None for all; they are left out of the
    result, or kept with size 1 if ``keepdim``. The result is an array, of no axes if all are reduced.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x, axes = _operand(x, dim)
    return _total(x, axes, 1.0, flag("keepdim", keepdim))


def sum_backward(
    dy: np.ndarray, x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> np.ndarray:
    """Gradient of ``sum(x, dim, keepdim)``: dy, of the shape of its result -> dx, of the shape of x."""
    x, axes = _operand(x, dim)
    dx = new_array(x.shape, x.dtype)
    dx[...] = _dy(dy, x, axes, keepdim)
    return dx


def mean(x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> np.ndarray:
    """The mean of x over some axes. Of no elements it is NaN. Arguments and errors are those of ``sum``."""
    x, axes = _operand(x, dim)
    return _total(x, axes, float(prod([x.shape[i] for i in axes])), flag("keepdim", keepdim))


def mean_backward(
    dy: np.ndarray, x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> np.ndarray:
    """Gradient of ``mean(x, dim, keepdim)``: dy, of the shape of its result -> dx, of the shape of x."""
    x, axes = _operand(x, dim)
    dx = new_array(x.shape, x.dtype)
    if x.size:
        dx[...] = _dy(dy, x, axes, keepdim) / x.dtype.type(prod([x.shape[i] for i in axes]))
    else:
        _dy(dy, x, axes, keepdim)
    return dx


def var(
    x: np.ndarray, dim: int | tuple[int, ...] | None = None, *, correction: float = 1, keepdim: bool = False
) -> np.ndarray:
    """The variance of x over some axes: the sum of ``(x - mean)^2`` divided by ``n - correction``, n elements a result.

    Where n is not larger than the correction it is NaN, or infinity. The other arguments and errors are those of
    ``sum``.
    """
    x, axes = _operand(x, dim)
    correction, keepdim = number("correction", correction), flag("keepdim", keepdim)
    y = new_array(kept_shape(x.shape, axes), x.dtype)
    if x.size:
        reduced("moments", axes, (x, *(None,) * 5), (None, None, y, None), correction)
    else:
        y.fill(np.nan)
    return _shown(y, axes, keepdim)


def var_backward(
    dy: np.ndarray,
    x: np.ndarray,
    dim: int | tuple[int, ...] | None = None,
    *,
    correction: float = 1,
    keepdim: bool = False,
) -> np.ndarray:
    """Gradient of ``var(x, dim, ...)``: dy, of the shape of its result -> dx, of the shape of x."""
    x, axes = _operand(x, dim)
    correction, dy = number("correction", correction), _dy(dy, x, axes, keepdim)
    dx = new_array(x.shape, x.dtype)
    if x.size:
        centre = new_array(kept_shape(x.shape, axes), x.dtype)
        reduced("moments", axes, (x, *(None,) * 5), (None, centre, None, None))
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = dy * x.dtype.type(2 / np.maximum(np.float64(x.size // centre.size - correction), 0))
        reduced("affine", axes, (x, None, centre, factor, None, None), (dx, None, None, None))
    return dx


def _extreme(kind: str, x: np.ndarray, axes: tuple[int, ...], places: bool) -> np.ndarray:
    """The largest or smallest elements, or where they are, with the axes that were reduced."""
    kept = kept_shape(x.shape, axes)
    result = np.empty(kept, _INT64) if places else new_array(kept, x.dtype)
    if x.size:
        reduced(kind, axes, (x, *(None,) * 5), (None, None, result, None) if places else (None, result, None, None))
    elif result.size:
        raise ValueError(f"x has shape {x.shape}: allowed are elements along the axes that are reduced, {axes}")
    return result


def _extreme_backward(kind: str, dy: Any, x: Any, dim: Any, keepdim: Any) -> np.ndarray:
    x, axes = _operand(x, dim)
    dy = _dy(dy, x, axes, keepdim)
    equal = x == _extreme(kind, x, axes, False)
    dx = new_array(x.shape, x.dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.multiply(equal, dy / equal.sum(axes, dtype=x.dtype, keepdims=True), out=dx)
    return dx


def amax(x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> np.ndarray:
    """The largest element of x over some axes; NaN where one is NaN. Arguments and errors are those of ``sum``.

    ValueError also if there are no elements to choose from.
    """
    x, axes = _operand(x, dim)
    keepdim = flag("keepdim", keepdim)
    return _shown(_extreme("max", x, axes, False), axes, keepdim)


def amax_backward(
    dy: np.ndarray, x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> np.ndarray:
    """Gradient of ``amax(x, dim, keepdim)``: dy, of the shape of its result -> dx, of the shape of x.

    Equal maxima share dy, as in torch.
    """
    return _extreme_backward("max", dy, x, dim, keepdim)


def amin(x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> np.ndarray:
    """The smallest element of x over some axes: as ``amax``."""
    x, axes = _operand(x, dim)
    keepdim = flag("keepdim", keepdim)
    return _shown(_extreme("min", x, axes, False), axes, keepdim)


def amin_backward(
    dy: np.ndarray, x: np.ndarray, dim: int | tuple[int, ...] | None = None, keepdim: bool = False
) -> np.ndarray:
    """Gradient of ``amin(x, dim, keepdim)``: as ``amax_backward``."""
    return _extreme_backward("min", dy, x, dim, keepdim)


def _place(kind: str, x: Any, dim: Any, keepdim: Any) -> np.ndarray:
    x = as_operand("x", x)
    axes = tuple(range(x.ndim)) if dim is None else (axis_of("dim", dim, x.ndim),) if x.ndim else ()
    if dim is not None:
        axis_of("dim", dim, x.ndim)
    keepdim = flag("keepdim", keepdim)
    return _shown(_extreme(kind, x, axes, True), axes, keepdim)


def argmax(x: np.ndarray, dim: int | None = None, keepdim: bool = False) -> np.ndarray:
    """Where the largest element of x is along an axis: int64, of equal ones the first, of NaN the first NaN.

    ``dim``: an axis; None: its place in ``x.reshape(-1)``. The other arguments and errors are those of ``amax``.
    """
    return _place("max", x, dim, keepdim)


def argmin(x: np.ndarray, dim: int | None = None, keepdim: bool = False) -> np.ndarray:
    """Where the smallest element of x is along an axis: as ``argmax``."""
    return _place("min", x, dim, keepdim)
