"""Matrix products with a fused bias and activation, and their gradients."""

from __future__ import annotations

from itertools import zip_longest
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..arguments import flag
from ..arrays import DTYPE_NAMES, as_array, as_gradient, as_output, new_array, number_of
from ..dispatch import chooser
from ..spec import MAX_ELEMENTS, Activation, ActivationLike, GemmSpec, Types, activation_of, check_elements
from .activation import activate_backward
from .elementwise import summed_to
from .reduce import sums

__all__ = ["gemm", "gemm_backward", "linear", "linear_backward", "matmul", "matmul_backward"]


def _make(dtype: np.dtype, *problem: Any) -> GemmSpec:
    return GemmSpec(Types.of(DTYPE_NAMES[dtype]), *problem)


_choose = chooser(_make)


# ------------------------------------------------------------------------------------------------ one product


def _run(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    bias: np.ndarray | None = None,
    activation: Activation | None = None,
    c: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> None:
    """One kernel call. a (batch, m, k), b (batch, k, n), out and c (batch, m, n), or all of them without a batch."""
    batch, m, n = out.shape if out.ndim == 3 else (1, *out.shape)
    k, biased, added = a.shape[-1], bias is not None, c is not None
    choice = _choose(out.dtype, batch, m, n, k, biased, added, alpha, beta, activation)
    choice.kernel(a, b, bias, c, out)


def _merged(x: np.ndarray, axes: int) -> np.ndarray | None:
    """x with its first ``axes`` axes as one, without a copy; None where its strides do not allow that."""
    shape, step = x.shape[:axes], None
    expected = None
    for size, stride in zip(reversed(shape), reversed(x.strides[:axes]), strict=True):
        if size == 1:
            continue
        if step is None:
            step = expected = stride
        if stride != expected:
            return None
        expected = stride * size
    return as_strided(x, (prod(shape), *x.shape[axes:]), (step or 0, *x.strides[axes:]))


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray, bias: Any = None, activation: Any = None) -> None:
    """``out = activation(a @ b + bias)`` over any number of batch axes, which the three arrays share (broadcast)."""
    axes = out.ndim - 2
    if axes == 0:
        _run(a, b, out, bias, activation)
        return
    if all(s == 0 or n == 1 for s, n in zip(b.strides[:axes], b.shape[:axes], strict=True)):
        # One b for all: the batch is nothing but more rows of a.
        rows, results = _merged(a, axes + 1), _merged(out, axes + 1)
        if rows is not None and results is not None:
            _run(rows, b[(0,) * axes], results, bias, activation)
            return
    merged = [_merged(x, axes) for x in (a, b, out)]
    if all(x is not None for x in merged):
        _run(*merged, bias, activation)
        return
    for part in zip(a, b, out, strict=True):
        _product(*part, bias, activation)


def _promoted(a: np.ndarray, b: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One-dimensional operands as a row and a column; ValueError where the shapes do not fit."""
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return a, b
    for name, x in zip(names[:2], (a, b), strict=True):
        if x.ndim == 0:
            raise ValueError(f"{name} has shape (): allowed is at least one dimension")
    rows = a[None] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    if rows.shape[-1] != columns.shape[-2]:
        raise ValueError(
            f"{names[0]} of shape {a.shape} and {names[1]} of shape {b.shape} do not fit: "
            f"they must agree in the summed dimension, {rows.shape[-1]} and {columns.shape[-2]} here"
        )
    return rows, columns


def _broadcast(a: np.ndarray, b: np.ndarray, names: tuple[str, ...]) -> tuple[int, ...]:
    """The batch axes of the product. (``numpy.broadcast_shapes`` knows 32 dimensions, arrays have up to 64.)"""
    sizes = []
    for s, t in zip_longest(reversed(a.shape[:-2]), reversed(b.shape[:-2]), fillvalue=1):
        if s != t and 1 not in (s, t):
            raise ValueError(
                f"{names[0]} of shape {a.shape} and {names[1]} of shape {b.shape}: "
                "their batch dimensions do not broadcast"
            )
        sizes.append(t if s == 1 else s)
    return tuple(reversed(sizes))


def _epilogue(b: Any, name: str, n: int, dtype: np.dtype) -> np.ndarray | None:
    if b is None:
        return None
    b = as_array(name, b, dtype)
    if b.shape != (n,):
        raise ValueError(f"{name} has shape {b.shape}: allowed is ({n},), one element a column of the result")
    return b


def _matmul(
    a: np.ndarray, b: np.ndarray, bias: Any, activation: Any, out: Any, names: tuple[str, str, str]
) -> np.ndarray:
    rows, columns, batch = a, b, ()
    sizes, others = a.shape, b.shape
    matrices = len(sizes) == len(others) == 2 and sizes[1] == others[0]
    if not matrices:
        rows, columns = _promoted(a, b, names)
        batch = _broadcast(rows, columns, names)
    m, n = sizes[-2] if len(sizes) > 1 else 1, others[-1] if len(others) > 1 else 1
    if bias is not None:
        bias = _epilogue(bias, names[2], n, a.dtype)
    if activation is not None:
        activation = activation_of(activation)
    shape = (m, n) if matrices else batch + sizes[-2:-1] + others[1:][-1:]
    if not matrices or max(m * sizes[1], sizes[1] * n, m * n) > MAX_ELEMENTS:
        check_elements(names[0], sizes)
        check_elements(names[1], others)
        check_elements("the result", shape)
    result = new_array(shape, a.dtype) if out is None else as_output(out, shape, a.dtype, a, b, bias)
    if matrices and m and n:
        _run(a, b, result, bias, activation)
    elif result.size:
        full = result
        if a.ndim == 1:
            full = full[..., None, :] if b.ndim > 1 else full[..., None]
        if b.ndim == 1:
            full = full[..., None]
        if rows.ndim != full.ndim or rows.shape[:-2] != batch:
            rows = np.broadcast_to(rows, batch + rows.shape[-2:])
        if columns.ndim != full.ndim or columns.shape[:-2] != batch:
            columns = np.broadcast_to(columns, batch + columns.shape[-2:])
        _product(rows, columns, full, bias, activation)
    return result if out is None else out


def _rows(x: np.ndarray) -> np.ndarray:
    """(..., n) as (rows, n)."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _dy_of_product(
    dy: Any, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, activation: Any, names: tuple[str, str, str]
) -> np.ndarray:
    """The gradient of ``a @ b + bias``, given that of ``activation(a @ b + bias)``; the shape of dy is checked."""
    shape = _broadcast(*_promoted(a, b, names), names) + a.shape[-2:-1] + (b.shape[-1:] if b.ndim > 1 else ())
    dy = as_gradient(dy, shape, a.dtype)
    if activation_of(activation) is not None:
        dy = activate_backward(dy, _matmul(a, b, bias, None, None, names), activation)
    return dy


def _matmul_backward(
    dy: Any, a: np.ndarray, b: np.ndarray, bias: Any, activation: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    names = _MATMUL
    rows, columns = _promoted(a, b, names)
    m, n = rows.shape[-2], columns.shape[-1]
    bias = _epilogue(bias, names[2], n, a.dtype)
    dy = _dy_of_product(dy, a, b, bias, activation, names)
    batch = _broadcast(rows, columns, names)
    dy = dy.reshape(*batch, m, n)
    da = _matmul(dy, columns.swapaxes(-1, -2), None, None, None, names)
    if prod(columns.shape[:-2]) == 1:
        # One b for all: its gradient is one product that sums over the batch as well.
        flat = _rows(np.broadcast_to(rows, batch + rows.shape[-2:]))
        db = _matmul(flat.T, _rows(dy), None, None, None, names).reshape(columns.shape)
    else:
        db = _matmul(rows.swapaxes(-1, -2), dy, None, None, None, names)
    da, db = summed_to(da, rows.shape).reshape(a.shape), summed_to(db, columns.shape).reshape(b.shape)
    return da, db, None if bias is None else sums(_rows(dy), (0,))


# ------------------------------------------------------------------------------------------- public functions

_MATMUL = ("a", "b", "bias")
_LINEAR = ("x", "w", "b")


def _operands(first: Any, second: Any, names: tuple[str, str, str]) -> tuple[np.ndarray, np.ndarray]:
    first = as_array(names[0], first)
    return first, as_array(names[1], second, first.dtype)


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray | None = None,
    activation: ActivationLike = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Matrix product. a (..., m, k), b (..., k, n) -> ``activation(a @ b + bias)`` (..., m, n).

    The rules of numpy.matmul: batch dimensions broadcast, a 1-D a is a row and a 1-D b a column that the result lacks.
    float32 or float64, the same for all arrays, any strides (a transposed operand is read in place).

    Parameters
    ----------
    bias : (n,), added to every row.
    activation : as in ``conv2d``.
    out : an array for the result, which shares no memory with the others; it is returned.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    a, b = _operands(a, b, _MATMUL)
    return _matmul(a, b, bias, activation, out, _MATMUL)


def matmul_backward(
    dy: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray | None = None,
    activation: ActivationLike = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of ``matmul(a, b, bias, activation)``: dy, of the shape of its result -> (da, db, dbias).

    Gradients of broadcast operands are summed to the shapes of these. dbias is None where bias is.
    """
    a, b = _operands(a, b, _MATMUL)
    return _matmul_backward(dy, a, b, bias, activation)


def linear(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    activation: ActivationLike = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Fully connected layer. x (..., in), w (out, in), b (out,) -> ``activation(x @ w.T + b)`` (..., out).

    The other arguments, and the errors, are those of ``matmul``.
    """
    x, w = _operands(x, w, _LINEAR)
    _check_linear(x, w)
    return _matmul(x, w.T, b, activation, out, _LINEAR)


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    *,
    activation: ActivationLike = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of ``linear(x, w, b)``: dy (..., out) -> (dx, dw, db). db is None where b is."""
    x, w = _operands(x, w, _LINEAR)
    _check_linear(x, w)
    b = _epilogue(b, "b", w.shape[0], x.dtype)
    dy = _dy_of_product(dy, x, w.T, b, activation, _LINEAR)
    rows, columns = _rows(dy), _rows(x)
    dx = _matmul(dy, w, None, None, None, _LINEAR)
    dw = _matmul(rows.T, columns, None, None, None, _LINEAR)
    return dx, dw, None if b is None else sums(rows, (0,))


def _check_linear(x: np.ndarray, w: np.ndarray) -> None:
    if w.ndim != 2:
        raise ValueError(f"w has shape {w.shape}: allowed is (out, in)")
    if x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"x has shape {x.shape}: allowed is (..., {w.shape[1]}), as w of shape {w.shape} takes it")


def _gemm_operands(
    a: Any, b: Any, c: Any, alpha: Any, beta: Any, trans_a: Any, trans_b: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float, float]:
    """a and b as the product reads them, c, alpha and beta; all checked."""
    a, b = _operands(a, b, _MATMUL)
    trans_a, trans_b = flag("trans_a", trans_a), flag("trans_b", trans_b)
    alpha, beta = number_of("alpha", alpha, a.dtype), number_of("beta", beta, a.dtype)
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2:
            raise ValueError(f"{name} has shape {x.shape}: allowed are 2 dimensions")
    a, b = a.T if trans_a else a, b.T if trans_b else b
    _promoted(a, b, _MATMUL)
    if c is not None:
        c = as_array("c", c, a.dtype)
        shape = (a.shape[0], b.shape[1])
        fits = c.ndim <= 2 and all(s in (1, t) for s, t in zip(c.shape[::-1], shape[::-1], strict=False))
        if not fits:
            raise ValueError(f"c has shape {c.shape}: allowed is what broadcasts to {shape}")
    for name, sizes in (("a", a.shape), ("b", b.shape), ("the result", (a.shape[0], b.shape[1]))):
        check_elements(name, sizes)
    return a, b, c, alpha, beta


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
) -> np.ndarray:
    """``alpha a' b' + beta c``. a' (m, k), b' (k, n), c what broadcasts to (m, n) -> a new array (m, n).

    a' is a, or its transpose if ``trans_a``; b' likewise: the Gemm of ONNX and BLAS. With ``beta=0`` c is not read.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    a, b, c, alpha, beta = _gemm_operands(a, b, c, alpha, beta, trans_a, trans_b)
    y = new_array((a.shape[0], b.shape[1]), a.dtype)
    if y.size:
        c = None if c is None or beta == 0 else np.broadcast_to(c, y.shape)
        _run(a, b, y, c=c, alpha=alpha, beta=0.0 if c is None else beta)
    return y


def gemm_backward(
    dy: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    trans_a: bool = False,
    trans_b: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of ``gemm(a, b, c, ...)``: dy (m, n) -> (da, db, dc), in the shapes of a, b and c (None: no c)."""
    left, right, c, alpha, beta = _gemm_operands(a, b, c, alpha, beta, trans_a, trans_b)
    dy = as_gradient(dy, (left.shape[0], right.shape[1]), left.dtype)
    da = gemm(right, dy, None, alpha, trans_b=True) if trans_a else gemm(dy, right, None, alpha, trans_b=True)
    db = gemm(dy, left, None, alpha, trans_a=True) if trans_b else gemm(left, dy, None, alpha, trans_a=True)
    dc = None if c is None else dy.dtype.type(beta) * summed_to(dy, c.shape)
    return da, db, dc
