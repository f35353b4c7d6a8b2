"""Padding: with a value, or with what the array holds; and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import integer, plain, shown, word
from ..arrays import as_array, as_output, number_of
from ..memo import Memo
from ..spec import PAD_MODES, channel_axis, check_elements, pads_of
from .copy import copied, copied_into, gradient, operand

__all__ = ["pad", "pad_backward"]


#: How much there is before and after each axis, and the shape of the result.
_Pads = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def _checked(given: tuple[int, ...], pad: Any, mode: Any, layout: Any) -> _Pads:
    """Of arrays of the given shape, as the mode and the sizes allow it."""
    word("mode", mode, PAD_MODES)
    ndim = len(given)
    last = ndim - (channel_axis(layout, ndim) == ndim - 1 and layout.endswith("C"))
    before, after = pads_of("pad", pad, tuple(reversed(range(last))), ndim)
    shape = tuple([size + b + a for size, b, a in zip(given, before, after, strict=True)])
    for axis, size in enumerate(given):
        low, most = min(before[axis], after[axis]), max(before[axis], after[axis])
        said = f"pad={shown(pad)}, mode={mode!r}, for axis {axis} of x of shape {given}"
        if shape[axis] < 0:
            raise ValueError(f"{said}: allowed is what leaves a size of at least 0")
        if mode == "constant" or most <= 0:
            continue
        if low < -size:
            raise ValueError(f"{said}: allowed is to crop {size}, all of it")
        if mode == "reflect" and most >= size:
            raise ValueError(f"{said}: allowed is less than its size, {size}")
        if mode == "circular" and most > (left := size + min(low, 0)):
            raise ValueError(f"{said}: allowed is its size, {left}, at most")
        if not size:
            raise ValueError(f"{said}: allowed is an axis with elements, to be repeated")
    check_elements("the result, an array", shape)
    return before, after, shape


_found = Memo(_checked)


def _pads(x: np.ndarray, pad: Any, mode: Any, layout: Any) -> _Pads:
    """The same, remembered: next to a small copy, checks are slow."""
    try:
        return _found[x.shape, plain("pad", pad) if type(pad) in (tuple, list) else pad, mode, layout]
    except TypeError:  # of what is wrong, if only to be looked up
        return _checked(x.shape, pad, mode, layout)


def _bits(value: Any, mode: str, dtype: np.dtype) -> int:
    """The value of the padding, as a spec has it."""
    if value is None:
        return 0
    if mode != "constant":
        raise ValueError(f"value={shown(value)}: allowed is None, as mode is {mode!r}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        number: float = integer("value", value, int(limits.min), int(limits.max))
    else:
        number = number_of("value", value, dtype)
    return int.from_bytes(np.array(number, dtype).tobytes(), "little")


def _cropped(x: np.ndarray, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    """A view of what negative numbers leave of x."""
    return x[..., *(slice(max(-b, 0), n - max(-a, 0)) for n, b, a in zip(x.shape, before, after, strict=True))]


def _grown(*numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple([max(n, 0) for n in some]) for some in numbers]


def pad(
    x: np.ndarray,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """x with more elements, or fewer, before and after it along some axes: a new array, or ``out``.

    pad: pairs of ints, (before, after), for the last axis, the one before it, and so on, as in
    ``torch.nn.functional.pad``; negative ones crop. Of layouts that end in ``C`` the last axis is left out, and pairs
    begin at the one before it. mode: ``"constant"`` (``value``, 0 by default), ``"reflect"`` (mirrored without the
    element at the end; less than the size), ``"replicate"`` (the element at the end), ``"circular"`` (from the other
    end of what is not cropped; at most its size). x: float32, float64 or integers, any shape and strides. Raises
    TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x = operand("x", x)
    before, after, shape = _pads(x, pad, mode, layout)
    bits = _bits(value, mode, x.dtype)
    if mode == "circular":
        x = _cropped(x, before, after)
        before, after = _grown(before, after)
    return copied_into(out, shape, x, before, after, mode, bits)


def pad_backward(
    dy: np.ndarray,
    x: np.ndarray,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``pad(x, ...)``: dy, of the shape of its result -> dx, of the shape of x, a new array or ``out``.

    An element of x receives the sum of what it was copied to, added in double precision.
    """
    x = as_array("x", x)
    before, after, shape = _pads(x, pad, mode, layout)
    _bits(value, mode, x.dtype)
    dy = gradient(dy, x, shape)
    if mode == "constant":
        return copied_into(out, x.shape, dy, *[tuple([-n for n in some]) for some in (before, after)], beside=x)
    dx = as_output(out, x.shape, x.dtype, dy, x)
    part = dx
    if mode == "circular":
        part = _cropped(dx, before, after)
        before, after = _grown(before, after)
    if part.size < dx.size or not dy.size:
        dx.fill(0)
    if dy.size:
        copied(dy, part, before, after, mode, 0, True)
    return dx if out is None else out
