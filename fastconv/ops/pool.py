"""Max, average and sum pooling with their gradients, regular, adaptive and global, which share one path.

Names, argument order and defaults are those of torch.nn.functional where it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from .. import spec as _spec
from ..arguments import flag, number
from ..arrays import ALL_NAMES, DTYPE_NAMES, as_array, as_output, plain
from ..dispatch import Choice, chooser

__all__ = [
    f"{stem}_pool{n}d{tail}"
    for n in (1, 2, 3)
    for stem in ("max", "avg", "sum", "global_max", "global_avg", "global_sum", "adaptive_max", "adaptive_avg")
    for tail in ("", "_backward")
]

_choose = chooser(_spec.pool_spec)
_choose_adaptive = chooser(_spec.adaptive_pool_spec)

_INT64 = {np.dtype(np.int64): "int64"}


# ---------------------------------------------------------------------------------------- the two directions


def _batched(x: Any, ndim: int, allowed: Mapping[np.dtype, str] = DTYPE_NAMES) -> tuple[np.ndarray, bool]:
    """x with its batch dimension, and whether that was added. allowed: its dtypes."""
    x = as_array("x", x, allowed=allowed)
    if x.ndim not in (ndim + 1, ndim + 2):
        raise ValueError(
            f"x has shape {x.shape}: {ndim}-D pooling takes {ndim + 2} dimensions, or {ndim + 1} without the batch"
        )
    return (x[None], True) if x.ndim == ndim + 1 else (x, False)


def _forward(choice: Choice, x: np.ndarray, unbatched: bool, out: Any) -> Any:
    spec = choice.spec
    shape = spec.y_shape
    y = as_output(out, shape[1:] if unbatched else shape, x.dtype, x)
    indices = np.empty(shape, np.int64) if spec.indices else None
    if y.size:
        choice.kernel(x, y[None] if unbatched else y, indices)
    y = y if out is None else out
    if indices is None:
        return y
    return y, (indices[0] if unbatched else indices)


def _backward(choice: Choice, dy: Any, x: np.ndarray, unbatched: bool, indices: Any, out: Any) -> np.ndarray:
    spec = choice.spec
    dy = as_array("dy", dy, x.dtype)
    wanted = spec.y_shape[1:] if unbatched else spec.y_shape
    if dy.shape != wanted:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {wanted}")
    if indices is not None:
        indices = _checked_indices(indices, wanted)
    dx = as_output(out, x.shape[1:] if unbatched else x.shape, x.dtype, x, dy, indices)
    if dx.size:
        arrays = (dy, indices, dx)
        dy, flat, result = (a if a is None or not unbatched else a[None] for a in arrays)
        try:
            choice.kernel(dy, x if spec.kind == "max" else None, flat, result)
        except IndexError:
            allowed = f"0 to {prod(spec.in_size) - 1}"
            raise ValueError(f"indices runs from {indices.min()} to {indices.max()}: allowed is {allowed}") from None
    return dx if out is None else out


def _checked_indices(indices: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(indices, np.ndarray) or indices.dtype != np.int64:
        given = indices.dtype if isinstance(indices, np.ndarray) else type(indices).__name__
        raise TypeError(f"indices is of {given}: allowed is an array of int64, as return_indices=True gives it")
    if indices.shape != shape:
        raise ValueError(f"indices has shape {indices.shape}: allowed is {shape}")
    return as_array("indices", indices, allowed=_INT64)


def _regular(
    kind: str,
    direction: str,
    ndim: int,
    x: np.ndarray,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    layout: str,
    count_include_pad: Any = True,
    divisor_override: Any = None,
    indices: bool = False,
) -> Choice:
    if divisor_override is not None:
        divisor_override = _spec.divisor_of(divisor_override, DTYPE_NAMES[x.dtype])
    return _choose(
        kind,
        direction,
        x.shape,
        ALL_NAMES[x.dtype],
        ndim,
        plain("kernel_size", kernel_size),
        plain("stride", stride),
        plain("padding", padding),
        plain("dilation", dilation),
        flag("ceil_mode", ceil_mode),
        flag("count_include_pad", count_include_pad),
        None if divisor_override is None else number("divisor_override", divisor_override),
        layout,
        indices,
    )


def _adaptive(
    kind: str, direction: str, ndim: int, x: np.ndarray, output_size: Any, layout: str, indices: bool = False
) -> Choice:
    size = plain("output_size", output_size)
    return _choose_adaptive(kind, direction, x.shape, ALL_NAMES[x.dtype], ndim, size, layout, indices)


# ----------------------------------------------------------------------------------------- public functions

_SHAPES = {
    1: {"s": "iw", "o": "ow", "layouts": '``"NCL"`` or ``"NLC"``'},
    2: {"s": "ih, iw", "o": "oh, ow", "layouts": '``"NCHW"`` or ``"NHWC"``'},
    3: {"s": "id, ih, iw", "o": "od, oh, ow", "layouts": '``"NCDHW"`` or ``"NDHWC"``'},
}

_COMMON = """

    x ({dtypes}, any strides) may lack its batch dimension; then the result does. Without images or
    without channels the result has none either. layout: {layouts}.
    ``out``: an array for the result, which shares no memory with the inputs.
    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed."""

_WINDOW = """
    ``stride=None`` is the kernel size. ``padding``: an int, {n} ints, {n} (lo, hi) pairs, each at most half of the
    kernel, ``"valid"``, ``"same"`` or ``"same_lower"``. ``ceil_mode`` keeps a last window that overhangs the end, if
    it starts inside the input or the leading padding."""

_BACKWARD = """Gradient of ``{f}(x, ...)`` in x: dy, of the shape of its result -> dx, of the shape of x.

    The arguments after dy are those of ``{f}``, of float32 or float64.{more} Errors likewise."""

_INDICES = """ ``indices``, as ``return_indices=True`` gave them, save finding the maxima again;
    ``return_indices`` itself changes nothing here. ValueError if they are outside the plane, which is found out while
    ``out`` is written."""


def _named(function: Callable[..., Any], name: str, ndim: int, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    dtypes = "float32, float64 or an integer type of 8 to 64 bits" if "max" in name else "float32 or float64"
    function.__doc__ = doc.format(n=ndim, dtypes=dtypes, **_SHAPES[ndim])
    return function


def _named_backward(function: Callable[..., Any], of: str, more: str = "") -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = f"{of}_backward"
    function.__doc__ = _BACKWARD.format(f=of, more=more)
    return function


def _make_max(ndim: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def max_pool(
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        x, unbatched = _batched(x, ndim, ALL_NAMES)
        window = (kernel_size, stride, padding, dilation, ceil_mode)
        choice = _regular("max", "fwd", ndim, x, *window, layout, indices=flag("return_indices", return_indices))
        return _forward(choice, x, unbatched, out)

    def max_pool_backward(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        indices: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        window = (kernel_size, stride, padding, dilation, ceil_mode)
        flag("return_indices", return_indices)
        choice = _regular("max", "bwd", ndim, x, *window, layout, indices=indices is not None)
        return _backward(choice, dy, x, unbatched, indices, out)

    doc = """{n}-D max pooling. x (n, c, {s}) -> y (n, c, {o}).

    With ``return_indices`` the result is (y, indices): int64 of the shape of y, the flat position of each maximum
    inside its channel plane of x. Of equal maxima the first counts, in row-major order; NaN wins over numbers.
    Padding never wins."""
    name = f"max_pool{ndim}d"
    return _named(max_pool, name, ndim, doc + _WINDOW + _COMMON), _named_backward(max_pool_backward, name, _INDICES)


def _make_avg(ndim: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def avg_pool(
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: float | None = None,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        window = (kernel_size, stride, padding, 1, ceil_mode)
        choice = _regular("avg", "fwd", ndim, x, *window, layout, count_include_pad, divisor_override)
        return _forward(choice, x, unbatched, out)

    def avg_pool_backward(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: float | None = None,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        window = (kernel_size, stride, padding, 1, ceil_mode)
        choice = _regular("avg", "bwd", ndim, x, *window, layout, count_include_pad, divisor_override)
        return _backward(choice, dy, x, unbatched, None, out)

    doc = """{n}-D average pooling. x (n, c, {s}) -> y (n, c, {o}).

    The divisor of a window is the number of its elements in the padded input (what overhangs that under ``ceil_mode``
    is not counted), without the padding if not ``count_include_pad``, or ``divisor_override`` everywhere."""
    name = f"avg_pool{ndim}d"
    return _named(avg_pool, name, ndim, doc + _WINDOW + _COMMON), _named_backward(avg_pool_backward, name)


def _make_sum(ndim: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def sum_pool(
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        choice = _regular("sum", "fwd", ndim, x, kernel_size, stride, padding, 1, ceil_mode, layout)
        return _forward(choice, x, unbatched, out)

    def sum_pool_backward(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        choice = _regular("sum", "bwd", ndim, x, kernel_size, stride, padding, 1, ceil_mode, layout)
        return _backward(choice, dy, x, unbatched, None, out)

    doc = "{n}-D sum pooling. x (n, c, {s}) -> y (n, c, {o}), the sum over each window.\n"
    name = f"sum_pool{ndim}d"
    return _named(sum_pool, name, ndim, doc + _WINDOW + _COMMON), _named_backward(sum_pool_backward, name)


def _make_global(ndim: int, kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def global_pool(x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None) -> np.ndarray:
        x, unbatched = _batched(x, ndim, ALL_NAMES if kind == "max" else DTYPE_NAMES)
        return _forward(_adaptive(kind, "fwd", ndim, x, 1, layout), x, unbatched, out)

    def global_pool_backward(
        dy: np.ndarray, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        return _backward(_adaptive(kind, "bwd", ndim, x, 1, layout), dy, x, unbatched, None, out)

    ones = ", ".join("1" * ndim)
    doc = f"{{n}}-D {kind} pooling over whole channel planes. x (n, c, {{s}}) -> y (n, c, {ones})."
    name = f"global_{kind}_pool{ndim}d"
    return _named(global_pool, name, ndim, doc + _COMMON), _named_backward(global_pool_backward, name)


_ADAPTIVE = """{n}-D adaptive KIND pooling. x (n, c, {s}) -> y (n, c, {o}) with (o...) = ``output_size``.

    Window o of a dimension runs from floor(o size / out) to ceil((o + 1) size / out). ``output_size``: an int or {n} of
    them; in a tuple None keeps the size of x."""


def _make_adaptive_avg(ndim: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def adaptive_avg_pool(
        x: np.ndarray,
        output_size: int | tuple[int | None, ...],
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        return _forward(_adaptive("avg", "fwd", ndim, x, output_size, layout), x, unbatched, out)

    def adaptive_avg_pool_backward(
        dy: np.ndarray,
        x: np.ndarray,
        output_size: int | tuple[int | None, ...],
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        return _backward(_adaptive("avg", "bwd", ndim, x, output_size, layout), dy, x, unbatched, None, out)

    name = f"adaptive_avg_pool{ndim}d"
    doc = _ADAPTIVE.replace("KIND", "average") + _COMMON
    return _named(adaptive_avg_pool, name, ndim, doc), _named_backward(adaptive_avg_pool_backward, name)


def _make_adaptive_max(ndim: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def adaptive_max_pool(
        x: np.ndarray,
        output_size: int | tuple[int | None, ...],
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        x, unbatched = _batched(x, ndim, ALL_NAMES)
        choice = _adaptive("max", "fwd", ndim, x, output_size, layout, flag("return_indices", return_indices))
        return _forward(choice, x, unbatched, out)

    def adaptive_max_pool_backward(
        dy: np.ndarray,
        x: np.ndarray,
        output_size: int | tuple[int | None, ...],
        return_indices: bool = False,
        *,
        layout: str = "NCHW",
        indices: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        x, unbatched = _batched(x, ndim)
        flag("return_indices", return_indices)
        choice = _adaptive("max", "bwd", ndim, x, output_size, layout, indices is not None)
        return _backward(choice, dy, x, unbatched, indices, out)

    name = f"adaptive_max_pool{ndim}d"
    doc = _ADAPTIVE.replace("KIND", "max") + "\n    ``return_indices``, ties and NaN as in ``max_pool{n}d``." + _COMMON
    return _named(adaptive_max_pool, name, ndim, doc), _named_backward(adaptive_max_pool_backward, name, _INDICES)


max_pool1d, max_pool1d_backward = _make_max(1)
max_pool2d, max_pool2d_backward = _make_max(2)
max_pool3d, max_pool3d_backward = _make_max(3)
avg_pool1d, avg_pool1d_backward = _make_avg(1)
avg_pool2d, avg_pool2d_backward = _make_avg(2)
avg_pool3d, avg_pool3d_backward = _make_avg(3)
sum_pool1d, sum_pool1d_backward = _make_sum(1)
sum_pool2d, sum_pool2d_backward = _make_sum(2)
sum_pool3d, sum_pool3d_backward = _make_sum(3)
global_max_pool1d, global_max_pool1d_backward = _make_global(1, "max")
global_max_pool2d, global_max_pool2d_backward = _make_global(2, "max")
global_max_pool3d, global_max_pool3d_backward = _make_global(3, "max")
global_avg_pool1d, global_avg_pool1d_backward = _make_global(1, "avg")
global_avg_pool2d, global_avg_pool2d_backward = _make_global(2, "avg")
global_avg_pool3d, global_avg_pool3d_backward = _make_global(3, "avg")
global_sum_pool1d, global_sum_pool1d_backward = _make_global(1, "sum")
global_sum_pool2d, global_sum_pool2d_backward = _make_global(2, "sum")
global_sum_pool3d, global_sum_pool3d_backward = _make_global(3, "sum")
adaptive_max_pool1d, adaptive_max_pool1d_backward = _make_adaptive_max(1)
adaptive_max_pool2d, adaptive_max_pool2d_backward = _make_adaptive_max(2)
adaptive_max_pool3d, adaptive_max_pool3d_backward = _make_adaptive_max(3)
adaptive_avg_pool1d, adaptive_avg_pool1d_backward = _make_adaptive_avg(1)
adaptive_avg_pool2d, adaptive_avg_pool2d_backward = _make_adaptive_avg(2)
adaptive_avg_pool3d, adaptive_avg_pool3d_backward = _make_adaptive_avg(3)
