"""Copies: arrays joined and taken apart, turned into another layout or dtype, with their gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..arguments import MOST, index, integer, shown, word
from ..arrays import ALL_NAMES, DTYPE_NAMES, as_array, as_output, dtype_among, new_array
from ..dispatch import chooser
from ..spec import CopySpec, Types, axis_of, check_elements

__all__ = [
    "cast", "cast_backward", "concat", "concat_backward", "split", "split_backward", "to_layout", "to_layout_backward",
]  # fmt: skip


def _spec(dtype: str, out_dtype: str, *problem: Any) -> CopySpec:
    return CopySpec(Types(dtype, dtype, dtype, out_dtype), *problem)


_choose = chooser(_spec)

#: What ``cast`` makes.
_FLOATS = {np.dtype(name): name for name in ("float16", "float32", "float64")}


def copied(x: np.ndarray, out: np.ndarray, *padding: Any) -> np.ndarray:
    """``out = x``, of one dtype, at once; ``padding``: the other fields of the spec. Returns out."""
    if out.size:
        name, backward = ALL_NAMES[x.dtype], len(padding) == 5 and padding[4]
        _choose(name, name, out.shape if backward else x.shape, *padding).kernel(x, out)
    return out


def copied_into(
    out: Any, shape: tuple[int, ...], x: np.ndarray, *padding: Any, beside: np.ndarray | None = None
) -> np.ndarray:
    """The same into the caller's ``out``, which is checked, and returned as it is, or into a new array.

    ``beside``: another input of the call, which ``out`` may not overlap either.
    """
    result = copied(x, as_output(out, shape, x.dtype, x, beside), *padding)
    return result if out is None else out


def operand(name: str, value: Any) -> np.ndarray:
    """An array of any dtype that is copied, checked."""
    x = as_array(name, value, None, ALL_NAMES)
    check_elements(name, x.shape)
    return x


def gradient(dy: Any, x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """dy, of the shape of the result and of the dtype of x, which has a gradient."""
    dy = as_array("dy", dy, as_array("x", x).dtype)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {shape}, the shape of the result")
    return dy


# ------------------------------------------------------------------------------------------- joined and taken apart


def _joined(arrays: Any, dim: Any, allowed: Any = ALL_NAMES, name: str = "arrays") -> tuple[list[np.ndarray], int]:
    """The arrays, of one dtype, and of one shape but for one axis; and that axis."""
    if not isinstance(arrays, (tuple, list)) or not arrays:
        kind = ValueError if isinstance(arrays, (tuple, list)) else TypeError
        raise kind(f"{name}={shown(arrays)}: allowed is a sequence of at least one array")
    checked: list[np.ndarray] = []
    for i, array in enumerate(arrays):
        checked.append(as_array(f"{name}[{i}]", array, checked[0].dtype if checked else None, allowed))
    first = checked[0]
    if not first.ndim:
        raise ValueError(f"{name}[0] has shape (): allowed are arrays with at least one axis")
    axis = axis_of("dim", dim, first.ndim)
    for i, array in enumerate(checked):
        if _with_size(array.shape, axis, 0) != _with_size(first.shape, axis, 0):
            raise ValueError(
                f"{name}[{i}] has shape {array.shape}, {name}[0] has shape {first.shape}: "
                f"allowed are arrays that differ along axis {axis} alone"
            )
    return checked, axis


def _with_size(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _parts(whole: np.ndarray, sizes: Sequence[int], axis: int) -> Iterator[np.ndarray]:
    """Views of so many elements along an axis, one after the other."""
    begin = 0
    for size in sizes:
        yield whole[(slice(None),) * axis + (slice(begin, begin + size),)]
        begin += size


def _join(arrays: list[np.ndarray], axis: int, out: Any) -> np.ndarray:
    first, sizes = arrays[0], [array.shape[axis] for array in arrays]
    shape = _with_size(first.shape, axis, sum(sizes))
    check_elements("the result, an array", shape)
    joined = as_output(out, shape, first.dtype, *arrays)
    for array, part in zip(arrays, _parts(joined, sizes, axis), strict=True):
        copied(array, part)
    return joined if out is None else out


def _taken_apart(whole: np.ndarray, sizes: Sequence[int], axis: int) -> tuple[np.ndarray, ...]:
    return tuple([copied(part, new_array(part.shape, part.dtype)) for part in _parts(whole, sizes, axis)])


def concat(arrays: Sequence[np.ndarray], dim: int = 0, *, out: np.ndarray | None = None) -> np.ndarray:
    """The arrays, one behind the other along axis ``dim``: a new array, or ``out``.

    arrays: at least one, with at least one axis, of one dtype (float32, float64 or integers), and of the same sizes
    along the other axes. Raises TypeError or ValueError, before any work, that names the argument, its value and what
    is allowed. Source: ``torch.concat``.
    """
    return _join(*_joined(arrays, dim), out)


def concat_backward(dy: np.ndarray, arrays: Sequence[np.ndarray], dim: int = 0) -> tuple[np.ndarray, ...]:
    """Gradients of ``concat(arrays, dim)``: dy, of the shape of its result -> one for each of the arrays."""
    checked, axis = _joined(arrays, dim, DTYPE_NAMES)
    sizes = [array.shape[axis] for array in checked]
    dy = gradient(dy, checked[0], _with_size(checked[0].shape, axis, sum(sizes)))
    return _taken_apart(dy, sizes, axis)


def _sizes(given: Any, size: int) -> list[int]:
    """How many elements each part of so many has."""
    name = "split_size_or_sections"
    allowed = f"an int of at least 1, or sizes that add up to {size}"
    try:
        sizes = [index(v) for v in given] if isinstance(given, (tuple, list)) else None
        step = 0 if sizes is not None else integer(name, given, 1, MOST, allowed)
    except TypeError:
        raise TypeError(f"{name}={shown(given)}: allowed is {allowed}") from None
    if sizes is None:
        return [min(step, size - begin) for begin in range(0, size, step)] or [0]
    if not sizes or min(sizes) < 0 or sum(sizes) != size:
        raise ValueError(f"{name}={shown(given)}: allowed is {allowed}")
    return sizes


def _to_split(x: Any, given: Any, dim: Any) -> tuple[np.ndarray, list[int], int]:
    x = operand("x", x)
    if not x.ndim:
        raise ValueError("x has shape (): allowed is an array with at least one axis")
    axis = axis_of("dim", dim, x.ndim)
    return x, _sizes(given, x.shape[axis]), axis


def split(x: np.ndarray, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[np.ndarray, ...]:
    """Parts of x along axis ``dim``, each a new array: of so many elements, the last one of what is left, or of these
    sizes, which add up to that of x.

    x: float32, float64 or integers, any shape and strides, at least one axis. Raises TypeError or ValueError that names
    the argument. Source: ``torch.split``, whose results are views.
    """
    return _taken_apart(*_to_split(x, split_size_or_sections, dim))


def split_backward(
    dy: Sequence[np.ndarray], x: np.ndarray, split_size_or_sections: int | Sequence[int], dim: int = 0
) -> np.ndarray:
    """Gradient of ``split(x, ...)``: dy, a sequence of arrays of the shapes of its results -> dx, of the shape of x."""
    x, sizes, axis = _to_split(as_array("x", x), split_size_or_sections, dim)
    parts, _ = _joined(dy, axis, {x.dtype: DTYPE_NAMES[x.dtype]}, "dy")
    wanted = [part.shape for part in _parts(x, sizes, axis)]
    if [part.shape for part in parts] != wanted:
        raise ValueError(f"dy has shapes {shown([part.shape for part in parts])}: allowed is {shown(wanted)}")
    return _join(parts, axis, None)


# --------------------------------------------------------------------------------------------- layouts and dtypes


def _order(x: np.ndarray, source: Any, destination: Any) -> tuple[int, ...]:
    """Which axis of x each of the destination's is."""
    source, destination = word("source", source), word("destination", destination)
    if len(source) != x.ndim or len(set(source)) != len(source):
        raise ValueError(f"source={shown(source)}: allowed is a letter for each axis of x of shape {shown(x.shape)}")
    if sorted(source) != sorted(destination):
        raise ValueError(f"destination={shown(destination)}: allowed are the letters of source={source!r} in any order")
    return tuple([source.index(letter) for letter in destination])


def to_layout(x: np.ndarray, source: str, destination: str, *, out: np.ndarray | None = None) -> np.ndarray:
    """x with its axes in another order, as a contiguous array or in ``out``: ``to_layout(x, "NCHW", "NHWC")``.

    source, destination: a letter for each axis, such as ``"HWC"`` and ``"CHW"``. x: float32, float64 or integers, any
    strides. Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x = operand("x", x)
    view = x.transpose(_order(x, source, destination))
    return copied_into(out, view.shape, view)


def to_layout_backward(
    dy: np.ndarray, x: np.ndarray, source: str, destination: str, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``to_layout(x, source, destination)``: dy, of the shape of its result -> dx, of the shape of x."""
    x = as_array("x", x)
    order = _order(x, source, destination)
    dy = gradient(dy, x, tuple([x.shape[axis] for axis in order]))
    return copied_into(out, x.shape, dy.transpose(np.argsort(order)), beside=x)


def _cast(x: np.ndarray, dtype: np.dtype, out: Any, beside: np.ndarray | None = None) -> np.ndarray:
    result = as_output(out, x.shape, dtype, x, beside)
    if result.size:
        _choose(x.dtype.name, dtype.name, x.shape).kernel(x, result)
    return result if out is None else out


def cast(x: np.ndarray, dtype: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """x in another dtype, rounded to its nearest number, beyond its largest to infinity: a new array, or ``out``.

    x: float16, float32, float64 or integers, any shape and strides; dtype: float16, float32 or float64. Raises
    TypeError or ValueError that names the argument.
    """
    x = as_array("x", x, None, {**_FLOATS, **ALL_NAMES})
    check_elements("x", x.shape)
    return _cast(x, dtype_among(dtype, _FLOATS), out)


def cast_backward(dy: np.ndarray, x: np.ndarray, dtype: Any, *, out: np.ndarray | None = None) -> np.ndarray:
    """Gradient of ``cast(x, dtype)``: dy, of that dtype -> dx, of the dtype and shape of x, which is of floats."""
    x, dy = as_array("x", x, None, _FLOATS), as_array("dy", dy, dtype_among(dtype, _FLOATS), _FLOATS)
    if dy.shape != x.shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {x.shape}, the shape of x")
    check_elements("x", x.shape)
    return _cast(dy, x.dtype, out, x)
