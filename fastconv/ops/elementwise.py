"""Arithmetic on arrays that are broadcast, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import shown
from ..arrays import DTYPE_NAMES, as_array, as_gradient, as_output, new_array
from ..dispatch import chooser
from ..spec import Activation, MapSpec, Types, check_elements
from .reduce import sums


def _make(operation: str, dtype: np.dtype, *problem: Any) -> MapSpec:
    return MapSpec(operation, Types.of(DTYPE_NAMES[dtype]), *problem)


choose = chooser(_make)

#: Dimensions that NumPy broadcasts, in every version.
_MOST_AXES = 32


def run(operation: str, out: np.ndarray, *operands: np.ndarray, activation: Activation | None = None) -> np.ndarray:
    """``out = operation(operands)``, which are broadcast to its shape, at once; returns out."""
    if out.size:
        shape = out.shape
        arrays = [a if a.shape == shape else np.broadcast_to(a, shape) for a in operands]
        choose(operation, out.dtype, shape, activation).kernel(*arrays, out)
    return out


def run_into(
    out: Any, shape: tuple[int, ...], operation: str, *operands: np.ndarray, activation: Activation | None = None
) -> np.ndarray:
    """The same into the caller's ``out``, which is checked, and returned as it is, or into a new array."""
    result = run(operation, as_output(out, shape, operands[0].dtype, *operands), *operands, activation=activation)
    return result if out is None else out


def fresh(operation: str, like: np.ndarray, *operands: np.ndarray, activation: Activation | None = None) -> np.ndarray:
    """The same into a new array of the shape and dtype of ``like``."""
    return run(operation, new_array(like.shape, like.dtype), *operands, activation=activation)


def summed_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``gradient`` summed over the axes along which an array of ``shape`` was broadcast."""
    extra = gradient.ndim - len(shape)
    stretched = tuple(i + extra for i, size in enumerate(shape) if size == 1 and gradient.shape[i + extra] != 1)
    axes = (*range(extra), *stretched)
    with np.errstate(over="ignore", invalid="ignore"):
        return sums(gradient, axes).reshape(shape) if axes else gradient


def _operands(**given: Any) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """The arrays, checked, and the shape that they are broadcast to."""
    arrays: list[np.ndarray] = []
    for name, value in given.items():
        array = as_array(name, value, arrays[0].dtype if arrays else None)
        if array.ndim > _MOST_AXES:
            raise ValueError(f"{name} has {array.ndim} dimensions: allowed are at most {_MOST_AXES}")
        arrays.append(array)
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        shapes = ", ".join(f"{name} has shape {a.shape}" for name, a in zip(given, arrays, strict=True))
        raise ValueError(f"{shapes}: allowed are shapes that NumPy broadcasts") from None
    check_elements(f"the result of {' and '.join(given)}, an array", shape)
    return arrays, shape


def _result(operation: str, out: Any, **given: Any) -> np.ndarray:
    arrays, shape = _operands(**given)
    return run_into(out, shape, operation, *arrays)


def _gradient(dy: Any, **given: Any) -> list[np.ndarray]:
    """dy and the arrays, checked."""
    arrays, shape = _operands(**given)
    return [as_gradient(dy, shape, arrays[0].dtype, "the result"), *arrays]


def add(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """``a + b``, of shapes that NumPy broadcasts, float32 or float64 -> an array of the broadcast shape.

    ``out``: an array for the result, which shares no memory with the operands; it is returned. Raises TypeError or
    ValueError that names the argument.
    """
    return _result("add", out, a=a, b=b)


def add_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``add(a, b)``: dy, of the shape of its result -> (da, db), of the shapes of a and b.

    Where an operand was broadcast its gradient is a sum, added in float64. Raises TypeError or ValueError that names
    the argument.
    """
    dy, a, b = _gradient(dy, a=a, b=b)
    return _own(summed_to(dy, a.shape), dy), _own(summed_to(dy, b.shape), dy)


def _own(gradient: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """A result is an array of its own, not the caller's."""
    return fresh("activate", dy, dy) if gradient is dy else gradient


def subtract(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """``a - b``, otherwise as ``add``."""
    return _result("subtract", out, a=a, b=b)


def subtract_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``subtract(a, b)`` -> (da, db), otherwise as ``add_backward``."""
    da, db = add_backward(dy, a, b)
    return da, np.negative(db, out=db)


def multiply(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """``a * b``, as of x (n, c, h, w) and its channels' scales (n, c, 1, 1), otherwise as ``add``."""
    return _result("multiply", out, a=a, b=b)


def multiply_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``multiply(a, b)`` -> (da, db), otherwise as ``add_backward``."""
    dy, a, b = _gradient(dy, a=a, b=b)
    return summed_to(fresh("multiply", dy, dy, b), a.shape), summed_to(fresh("multiply", dy, dy, a), b.shape)


def divide(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """``a / b``, otherwise as ``add``."""
    return _result("divide", out, a=a, b=b)


def divide_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``divide(a, b)`` -> (da, db), otherwise as ``add_backward``."""
    dy, a, b = _gradient(dy, a=a, b=b)
    return summed_to(fresh("divide", dy, dy, b), a.shape), summed_to(fresh("divide_backward", dy, dy, a, b), b.shape)


def maximum(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The larger of a and b, NaN where one of them is NaN, otherwise as ``add``."""
    return _result("maximum", out, a=a, b=b)


def maximum_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``maximum(a, b)`` -> (da, db): half of dy to each where they are equal.

    Otherwise as ``add_backward``.
    """
    return _of_both("maximum_backward", dy, a, b)


def minimum(a: np.ndarray, b: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """The smaller of a and b, NaN where one of them is NaN, otherwise as ``add``."""
    return _result("minimum", out, a=a, b=b)


def minimum_backward(dy: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``minimum(a, b)`` -> (da, db): half of dy to each where they are equal.

    Otherwise as ``add_backward``.
    """
    return _of_both("minimum_backward", dy, a, b)


def _of_both(operation: str, dy: Any, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    dy, a, b = _gradient(dy, a=a, b=b)
    return summed_to(fresh(operation, dy, dy, a, b), a.shape), summed_to(fresh(operation, dy, dy, b, a), b.shape)


def scale_shift(x: np.ndarray, s: np.ndarray, t: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """``x * s + t``, as of x (n, c, h, w), s and t (c, 1, 1), otherwise as ``add``."""
    return _result("scale_shift", out, x=x, s=s, t=t)


def scale_shift_backward(
    dy: np.ndarray, x: np.ndarray, s: np.ndarray, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of ``scale_shift(x, s, t)`` -> (dx, ds, dt), otherwise as ``add_backward``."""
    dy, x, s, t = _gradient(dy, x=x, s=s, t=t)
    dx, ds = (summed_to(fresh("multiply", dy, dy, by), like.shape) for by, like in ((s, x), (x, s)))
    return dx, ds, _own(summed_to(dy, t.shape), dy)


def _slopes(x: np.ndarray, weight: Any) -> tuple[np.ndarray, np.ndarray]:
    """weight as it is, and along the channels of x."""
    weight = as_array("weight", weight, x.dtype)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.shape not in ((), (1,), (channels,)):
        raise ValueError(
            f"weight has shape {shown(weight.shape)}: allowed is (1,) or ({channels},), a slope for each channel of x"
        )
    return weight, weight.reshape(-1, *(1,) * (x.ndim - 2)) if weight.size > 1 else weight.reshape(())


def prelu(x: np.ndarray, weight: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where it is above 0, else ``weight * x``: x (n, c, ...), weight (c,) or (1,) -> the shape of x.

    That of ``torch.nn.functional``. float32 or float64. ``out``: an array for the result, which shares no memory with
    the operands; it is returned. Raises TypeError or ValueError that names the argument.
    """
    x = as_array("x", x)
    weight, slopes = _slopes(x, weight)
    return run_into(out, x.shape, "prelu", x, slopes)


def prelu_backward(dy: np.ndarray, x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of ``prelu(x, weight)`` -> (dx, dweight), the latter added in float64.

    Raises TypeError or ValueError that names the argument.
    """
    dy, x = _gradient(dy, x=x)
    weight, slopes = _slopes(x, weight)
    by_slope = summed_to(fresh("prelu_slope", x, dy, x), slopes.shape)
    return fresh("prelu_backward", x, dy, x, slopes), by_slope.reshape(weight.shape)
