"""Max, average and sum pooling with their gradients, regular, adaptive and global, which share one path.

Names, argument order and defaults are those of torch.nn.functional where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .. import spec as _spec
from ..arguments import flag, plain
from ..arrays import ALL_NAMES, DTYPE_NAMES, as_array, as_gradient, as_output
from ..dispatch import Choice, chooser
from ..spec import Ints, Padding
from .ranks import Ranks, of_ranks

if TYPE_CHECKING:
    from .overloads import AdaptiveMaxPool, MaxPool

__all__ = [
    f"{stem}_pool{n}d{tail}"
    for n in (1, 2, 3)
    for stem in ("max", "avg", "sum", "global_max", "global_avg", "global_sum", "adaptive_max", "adaptive_avg")
    for tail in ("", "_backward")
]

_choose = chooser(_spec.pool_spec)
_choose_adaptive = chooser(_spec.adaptive_pool_spec)

_INT64 = {np.dtype(np.int64): "int64"}

#: kernel_size, stride, padding, dilation and ceil_mode, as callers write them.
Window = tuple[Any, Any, Any, Any, Any]


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
    wanted = spec.y_shape[1:] if unbatched else spec.y_shape
    dy = as_gradient(dy, wanted, x.dtype)
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
    window: Window,
    layout: str,
    count_include_pad: Any = True,
    divisor_override: Any = None,
    indices: bool = False,
) -> Choice:
    kernel_size, stride, padding, dilation, ceil_mode = window
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
        divisor_override,
        layout,
        indices,
    )


def _adaptive(
    kind: str, direction: str, ndim: int, x: np.ndarray, output_size: Any, layout: str, indices: bool = False
) -> Choice:
    size = plain("output_size", output_size)
    return _choose_adaptive(kind, direction, x.shape, ALL_NAMES[x.dtype], ndim, size, layout, indices)


# -------------------------------------------------------------------------------------------------------- operators

#: What docstrings share.
_TEXTS = {
    "common": """x (float32 or float64, any strides) may lack its batch dimension; then the result does. Without images
    or without channels the result has none either. layout: {layouts}.
    ``out``: an array for the result, which shares no memory with the inputs.
    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.""",
    "window": """``stride=None`` is the kernel size. ``padding``: an int, {n} ints, {n} (lo, hi) pairs, each at most
    half of the kernel, ``"valid"``, ``"same"`` or ``"same_lower"``. ``ceil_mode`` keeps a last window that overhangs
    the end, if it starts inside the input or the leading padding.""",
    "adaptive": """Window o of a dimension runs from floor(o size / out) to ceil((o + 1) size / out). ``output_size``:
    an int or {n} of them; in a tuple None keeps the size of x.""",
    "gradient": """Gradient of ``{f}(x, ...)`` in x: dy, of the shape of its result -> dx, of the shape of x.

    The arguments after dy are those of ``{f}``, of float32 or float64. Errors likewise.""",
    "indices": """``indices``, as
    ``return_indices=True`` gave them, save finding the maxima again; ``return_indices`` itself changes nothing here.
    ValueError if they are outside the plane, which is found out while ``out`` is written.""",
}


def max_pool(
    ndim: int,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """{n}-D max pooling. x (n, c, {s}) -> y (n, c, {o}).

    With ``return_indices`` the result is (y, indices): int64 of the shape of y, the flat position of each maximum
    inside its channel plane of x. Of equal maxima the first counts, in row-major order; NaN wins over numbers.
    Padding never wins. x may be of integers of 8 to 64 bits, too.
    {window}
    {common}
    """
    x, unbatched = _batched(x, ndim, ALL_NAMES)
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    choice = _regular("max", "fwd", ndim, x, window, layout, indices=flag("return_indices", return_indices))
    return _forward(choice, x, unbatched, out)


def max_pool_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    indices: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{gradient} {indices}"""
    x, unbatched = _batched(x, ndim)
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    flag("return_indices", return_indices)
    choice = _regular("max", "bwd", ndim, x, window, layout, indices=indices is not None)
    return _backward(choice, dy, x, unbatched, indices, out)


def avg_pool(
    ndim: int,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{n}-D average pooling. x (n, c, {s}) -> y (n, c, {o}).

    The divisor of a window is the number of its elements in the padded input (what overhangs that under ``ceil_mode``
    is not counted), without the padding if not ``count_include_pad``, or ``divisor_override`` everywhere.
    {window}
    {common}
    """
    x, unbatched = _batched(x, ndim)
    window = (kernel_size, stride, padding, 1, ceil_mode)
    choice = _regular("avg", "fwd", ndim, x, window, layout, count_include_pad, divisor_override)
    return _forward(choice, x, unbatched, out)


def avg_pool_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    window = (kernel_size, stride, padding, 1, ceil_mode)
    choice = _regular("avg", "bwd", ndim, x, window, layout, count_include_pad, divisor_override)
    return _backward(choice, dy, x, unbatched, None, out)


def sum_pool(
    ndim: int,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{n}-D sum pooling. x (n, c, {s}) -> y (n, c, {o}), the sum over each window.
    {window}
    {common}
    """
    x, unbatched = _batched(x, ndim)
    window = (kernel_size, stride, padding, 1, ceil_mode)
    choice = _regular("sum", "fwd", ndim, x, window, layout)
    return _forward(choice, x, unbatched, out)


def sum_pool_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    window = (kernel_size, stride, padding, 1, ceil_mode)
    choice = _regular("sum", "bwd", ndim, x, window, layout)
    return _backward(choice, dy, x, unbatched, None, out)


def global_max_pool(ndim: int, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None) -> np.ndarray:
    """{n}-D max pooling over whole channel planes. x (n, c, {s}) -> y (n, c, {ones}).

    x may be of integers of 8 to 64 bits, too.
    {common}
    """
    x, unbatched = _batched(x, ndim, ALL_NAMES)
    return _forward(_adaptive("max", "fwd", ndim, x, 1, layout), x, unbatched, out)


def global_max_pool_backward(
    ndim: int, dy: np.ndarray, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    return _backward(_adaptive("max", "bwd", ndim, x, 1, layout), dy, x, unbatched, None, out)


def global_avg_pool(ndim: int, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None) -> np.ndarray:
    """{n}-D average pooling over whole channel planes. x (n, c, {s}) -> y (n, c, {ones}).

    {common}
    """
    x, unbatched = _batched(x, ndim)
    return _forward(_adaptive("avg", "fwd", ndim, x, 1, layout), x, unbatched, out)


def global_avg_pool_backward(
    ndim: int, dy: np.ndarray, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    return _backward(_adaptive("avg", "bwd", ndim, x, 1, layout), dy, x, unbatched, None, out)


def global_sum_pool(ndim: int, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None) -> np.ndarray:
    """{n}-D sum pooling over whole channel planes. x (n, c, {s}) -> y (n, c, {ones}).

    {common}
    """
    x, unbatched = _batched(x, ndim)
    return _forward(_adaptive("sum", "fwd", ndim, x, 1, layout), x, unbatched, out)


def global_sum_pool_backward(
    ndim: int, dy: np.ndarray, x: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    return _backward(_adaptive("sum", "bwd", ndim, x, 1, layout), dy, x, unbatched, None, out)


def adaptive_max_pool(
    ndim: int,
    x: np.ndarray,
    output_size: int | Sequence[int | None],
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """{n}-D adaptive max pooling. x (n, c, {s}) -> y (n, c, {o}) with (o...) = ``output_size``.

    {adaptive}
    ``return_indices``, integers, ties and NaN as in ``max_pool{n}d``.
    {common}
    """
    x, unbatched = _batched(x, ndim, ALL_NAMES)
    choice = _adaptive("max", "fwd", ndim, x, output_size, layout, flag("return_indices", return_indices))
    return _forward(choice, x, unbatched, out)


def adaptive_max_pool_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    output_size: int | Sequence[int | None],
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    indices: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{gradient} {indices}"""
    x, unbatched = _batched(x, ndim)
    flag("return_indices", return_indices)
    choice = _adaptive("max", "bwd", ndim, x, output_size, layout, indices is not None)
    return _backward(choice, dy, x, unbatched, indices, out)


def adaptive_avg_pool(
    ndim: int,
    x: np.ndarray,
    output_size: int | Sequence[int | None],
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{n}-D adaptive average pooling. x (n, c, {s}) -> y (n, c, {o}) with (o...) = ``output_size``.

    {adaptive}
    {common}
    """
    x, unbatched = _batched(x, ndim)
    return _forward(_adaptive("avg", "fwd", ndim, x, output_size, layout), x, unbatched, out)


def adaptive_avg_pool_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    output_size: int | Sequence[int | None],
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{gradient}"""
    x, unbatched = _batched(x, ndim)
    return _backward(_adaptive("avg", "bwd", ndim, x, output_size, layout), dy, x, unbatched, None, out)


max_pool1d, max_pool2d, max_pool3d = cast("Ranks[MaxPool]", of_ranks(max_pool, **_TEXTS))
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = of_ranks(max_pool_backward, **_TEXTS)
avg_pool1d, avg_pool2d, avg_pool3d = of_ranks(avg_pool, **_TEXTS)
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = of_ranks(avg_pool_backward, **_TEXTS)
sum_pool1d, sum_pool2d, sum_pool3d = of_ranks(sum_pool, **_TEXTS)
sum_pool1d_backward, sum_pool2d_backward, sum_pool3d_backward = of_ranks(sum_pool_backward, **_TEXTS)
global_max_pool1d, global_max_pool2d, global_max_pool3d = of_ranks(global_max_pool, **_TEXTS)
global_max_pool1d_backward, global_max_pool2d_backward, global_max_pool3d_backward = of_ranks(
    global_max_pool_backward, **_TEXTS
)
global_avg_pool1d, global_avg_pool2d, global_avg_pool3d = of_ranks(global_avg_pool, **_TEXTS)
global_avg_pool1d_backward, global_avg_pool2d_backward, global_avg_pool3d_backward = of_ranks(
    global_avg_pool_backward, **_TEXTS
)
global_sum_pool1d, global_sum_pool2d, global_sum_pool3d = of_ranks(global_sum_pool, **_TEXTS)
global_sum_pool1d_backward, global_sum_pool2d_backward, global_sum_pool3d_backward = of_ranks(
    global_sum_pool_backward, **_TEXTS
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = cast(
    "Ranks[AdaptiveMaxPool]", of_ranks(adaptive_max_pool, **_TEXTS)
)
adaptive_max_pool1d_backward, adaptive_max_pool2d_backward, adaptive_max_pool3d_backward = of_ranks(
    adaptive_max_pool_backward, **_TEXTS
)
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = of_ranks(adaptive_avg_pool, **_TEXTS)
adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward, adaptive_avg_pool3d_backward = of_ranks(
    adaptive_avg_pool_backward, **_TEXTS
)
