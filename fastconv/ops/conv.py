"""Convolution, its gradients and its transpose, in one, two and three dimensions, which share one path.

Cross-correlation, as in every deep-learning framework (the kernel is not flipped). Names, argument order and
defaults are those of torch.nn.functional; padding rules of the other dialects are in ``spec.conv_pads``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import spec as _spec
from ..arguments import plain, shown
from ..arrays import DTYPE_NAMES, as_array, as_output, new_array
from ..dispatch import Choice, chooser
from ..spec import Activation, ActivationLike, ConvSpec, Ints, Padding, activation_of
from .activation import activate_backward
from .ranks import of_ranks
from .reduce import sums

__all__ = [
    f"{stem}{n}d{tail}"
    for n in (1, 2, 3)
    for stem, tail in [
        ("conv", ""),
        ("conv", "_backward"),
        ("conv", "_backward_input"),
        ("conv", "_backward_weight"),
        ("conv_transpose", ""),
        ("conv_transpose", "_backward"),
    ]
] + ["conv_backward_bias"]

#: How the filters move: stride, padding, dilation and groups, of ints, strings and tuples of them.
Geometry = tuple[Any, Any, Any, Any]


# ------------------------------------------------------------------------------------- arguments, for plans as well


def geometry_of(stride: Any, padding: Any, dilation: Any, groups: Any) -> Geometry:
    """The four as a part of a key, where what is equal must mean the same: True, which is 1 there, is refused."""
    if type(stride) is type(padding) is type(dilation) is type(groups) is int:
        return stride, padding, dilation, groups
    return plain("stride", stride), plain("padding", padding), plain("dilation", dilation), plain("groups", groups)


def filters(ndim: int, w: Any, dtype: np.dtype | None = None) -> np.ndarray:
    w = as_array("w", w, dtype)
    if w.ndim != ndim + 2:
        raise ValueError(f"w has shape {w.shape}: a {ndim}-D convolution takes {ndim + 2} dimensions")
    return w


def bias(b: Any, channels: int, dtype: np.dtype) -> np.ndarray | None:
    if b is None:
        return None
    b = as_array("b", b, dtype)
    if b.shape != (channels,):
        raise ValueError(f"b has shape {b.shape}: allowed is ({channels},), one element an output channel")
    return b


def sizes(name: str, shape: Any) -> tuple[int, ...]:
    if type(shape) is tuple and {*map(type, shape)} == {int} and min(shape) >= 0:
        return shape
    try:
        given = plain(name, shape)
        if isinstance(given, tuple) and given:
            return _spec.int_tuple(given, len(given), name, 0)
    except TypeError:
        pass
    raise TypeError(f"{name}={shown(shape)}: allowed is a tuple of ints >= 0")


def batched(name: str, x: np.ndarray, ndim: int) -> np.ndarray:
    """x with its batch dimension; the caller compares ranks to see whether one was added."""
    if x.ndim == ndim + 1:
        return x[None]
    if x.ndim != ndim + 2:
        raise ValueError(
            f"{name} has shape {x.shape}: a {ndim}-D convolution takes {ndim + 2} dimensions, "
            f"or {ndim + 1} without the batch"
        )
    return x


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: allowed is {shape}")


# ---------------------------------------------------------------------------------------------- from there to a kernel


def _make(
    direction: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: np.dtype,
    geometry: Geometry,
    layout: str,
    has_bias: bool = False,
    residual: bool = False,
    activation: Activation | None = None,
    packed: bool = False,
) -> ConvSpec:
    name = DTYPE_NAMES[dtype]
    return _spec.conv_spec(direction, x_shape, w_shape, name, *geometry, layout, has_bias, residual, activation, packed)


def _make_transpose(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: np.dtype,
    geometry: Geometry,
    output_padding: Any,
    layout: str,
    has_bias: bool = False,
    activation: Activation | None = None,
) -> ConvSpec:
    name, (stride, padding, dilation, groups) = DTYPE_NAMES[dtype], geometry
    return _spec.conv_transpose_spec(
        x_shape, w_shape, name, stride, padding, output_padding, groups, dilation, layout, has_bias, activation
    )


choose_conv = chooser(_make)
_choose_transpose = chooser(_make_transpose)


def _run(
    choice: Choice,
    first: np.ndarray,
    second: np.ndarray,
    b: np.ndarray | None,
    residual: np.ndarray | None,
    out: Any,
    unbatched: bool = False,
) -> np.ndarray:
    shape = choice.spec.result_shape
    if out is None:
        result = new_array(shape, first.dtype)
    elif unbatched:
        result = as_output(out, shape[1:], first.dtype, first, second, b, residual)[None]
    else:
        result = as_output(out, shape, first.dtype, first, second, b, residual)
    if result.size:
        choice.kernel(first, second, b, residual, result)
    if out is not None:
        return out
    return result[0] if unbatched else result


# -------------------------------------------------------------------------------------------------------- operators


def conv(
    ndim: int,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "NCHW",
    activation: ActivationLike = None,
    residual: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{n}-D cross-correlation. x (n, ic, {s}), w (oc, ic/groups, {k}) -> y (n, oc, {o}).

    ``y = activation(x * w + b + residual)``, in the dtype of x (float32 or float64), which w, b (oc,) and residual
    (the shape of y) share. x may lack its batch dimension; then y does. Arrays may have any strides.

    Parameters
    ----------
    stride, dilation : int or {n} of them.
    padding : int, {n} ints, {n} (lo, hi) pairs (asymmetric; a negative one crops), ``"valid"``, ``"same"``
        (TensorFlow's SAME, ONNX SAME_UPPER, for any stride), ``"same_lower"``, and in 1-D ``"causal"``.
    groups : divides ic and oc; ``groups=ic`` is a depthwise convolution.
    layout : {layouts}: where x, residual and y have their channels. w is (oc, ic/groups, {k}) in both.
    activation : None, the name of one (those of ``activate``) or ``(name, parameter, ...)``.
    out : an array for y, which shares no memory with the inputs; it is returned.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    Output size of a dimension: floor((size + lo + hi - dilation (kernel - 1) - 1) / stride) + 1.
    """
    x = as_array("x", x)
    dtype, unbatched = x.dtype, False
    w = as_array("w", w, dtype)
    if w.ndim != ndim + 2:
        filters(ndim, w)
    if x.ndim != ndim + 2:
        x, unbatched = batched("x", x, ndim), True
    if b is not None:
        b = bias(b, w.shape[0], dtype)
    if activation is not None:
        activation = activation_of(activation)
    geometry = geometry_of(stride, padding, dilation, groups)
    choice = choose_conv(
        "fwd", x.shape, w.shape, dtype, geometry, layout, b is not None, residual is not None, activation
    )
    if residual is not None:
        residual = as_array("residual", residual, dtype)
        _expect("residual", residual, choice.spec.y_shape[unbatched:])
        residual = residual[None] if unbatched else residual
    return _run(choice, x, w, b, residual, out, unbatched)


def conv_backward_input(
    ndim: int,
    dy: np.ndarray,
    w: np.ndarray,
    input_shape: tuple[int, ...],
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of conv{n}d's input. dy (n, oc, {o}), w (oc, ic/groups, {k}) -> dx of ``input_shape``.

    The adjoint of ``conv{n}d`` in x: <conv{n}d(x, w), dy> = <x, dx>. The other arguments are those of ``conv{n}d``;
    errors likewise.
    """
    dy = as_array("dy", dy)
    w = filters(ndim, w, dy.dtype)
    shape = sizes("input_shape", input_shape)
    unbatched = len(shape) == ndim + 1
    shape = (1, *shape) if unbatched else shape
    geometry = geometry_of(stride, padding, dilation, groups)
    choice = choose_conv("bwd_input", shape, w.shape, dy.dtype, geometry, layout)
    _expect("dy", dy, choice.spec.y_shape[unbatched:])
    return _run(choice, dy[None] if unbatched else dy, w, None, None, out, unbatched)


def conv_backward_weight(
    ndim: int,
    x: np.ndarray,
    dy: np.ndarray,
    weight_shape: tuple[int, ...],
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of conv{n}d's weights. x (n, ic, {s}), dy (n, oc, {o}) -> dw of ``weight_shape``.

    The adjoint of ``conv{n}d`` in w: <conv{n}d(x, w), dy> = <w, dw>. The other arguments are those of ``conv{n}d``;
    errors likewise.
    """
    x = as_array("x", x)
    dy = as_array("dy", dy, x.dtype)
    shape = sizes("weight_shape", weight_shape)
    if len(shape) != ndim + 2:
        raise ValueError(f"weight_shape={shape}: a {ndim}-D convolution takes {ndim + 2} dimensions")
    if x.ndim == ndim + 1 and dy.ndim == ndim + 1:
        dy = dy[None]
    x = batched("x", x, ndim)
    geometry = geometry_of(stride, padding, dilation, groups)
    choice = choose_conv("bwd_weight", x.shape, shape, x.dtype, geometry, layout)
    _expect("dy", dy, choice.spec.y_shape)
    return _run(choice, x, dy, None, None, out)


def conv_backward_bias(dy: np.ndarray, *, layout: str = "NCHW") -> np.ndarray:
    """Gradient of a convolution's bias. dy (n, oc, *size), or (n, *size, oc) -> db (oc,).

    dy must have its batch dimension. Raises TypeError for a dtype, ValueError for a rank or layout that is not one.
    """
    dy = as_array("dy", dy)
    if not 3 <= dy.ndim <= 5:
        raise ValueError(f"dy has shape {dy.shape}: allowed are 3 to 5 dimensions, the batch among them")
    channel = dy.ndim - 1 if _spec.channels_last(layout, dy.ndim - 2) else 1
    return sums(dy, tuple(a for a in range(dy.ndim) if a != channel))


def conv_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "NCHW",
    activation: ActivationLike = None,
    residual: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gradients of ``conv{n}d(x, w, b, ..., residual=residual)``: dy (n, oc, {o}) -> (dx, dw, db, dresidual).

    The arguments after dy are those of ``conv{n}d``. None stands for the gradient of an array that was not given.
    With an activation the forward pass is computed once more, without it.
    """
    geometry = geometry_of(stride, padding, dilation, groups)
    x = as_array("x", x)
    w, dy = filters(ndim, w, x.dtype), as_array("dy", dy, x.dtype)
    b = bias(b, w.shape[0], x.dtype)
    xb = batched("x", x, ndim)
    activation = activation_of(activation)
    if activation is not None or residual is not None:
        spec = _make("bwd_weight", xb.shape, w.shape, x.dtype, geometry, layout)
        shape = spec.y_shape if xb is x else spec.y_shape[1:]
        _expect("dy", dy, shape)
        if residual is not None:
            residual = as_array("residual", residual, x.dtype)
            _expect("residual", residual, shape)
    if activation is not None:
        before = conv(ndim, x, w, b, *geometry, layout=layout, residual=residual)
        dy = activate_backward(dy, before, activation)
    dx = conv_backward_input(ndim, dy, w, x.shape, *geometry, layout=layout)
    dw = conv_backward_weight(ndim, x, dy, w.shape, *geometry, layout=layout)
    db = None if b is None else conv_backward_bias(batched("dy", dy, ndim), layout=layout)
    return dx, dw, db, None if residual is None else dy


def conv_transpose(
    ndim: int,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    layout: str = "NCHW",
    activation: ActivationLike = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """{n}-D transposed convolution. x (n, ic, {s}), w (ic, oc/groups, {k}) -> y (n, oc, {o}).

    The adjoint of ``conv{n}d`` with the same stride, padding and dilation, plus b (oc,). Output size of a dimension:
    (size - 1) stride - lo - hi + dilation (kernel - 1) + output_padding + 1. ``output_padding`` must be less than
    the stride or the dilation. The other arguments are those of ``conv{n}d``; errors likewise.
    """
    x = as_array("x", x)
    w = filters(ndim, w, x.dtype)
    unbatched = x.ndim == ndim + 1
    x = batched("x", x, ndim)
    activation = activation_of(activation)
    geometry, extra = geometry_of(stride, padding, dilation, groups), plain("output_padding", output_padding)
    choice = _choose_transpose(x.shape, w.shape, x.dtype, geometry, extra, layout, b is not None, activation)
    b = bias(b, choice.spec.ic, x.dtype)
    return _run(choice, x, w, b, None, out, unbatched)


def conv_transpose_backward(
    ndim: int,
    dy: np.ndarray,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    layout: str = "NCHW",
    activation: ActivationLike = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Gradients of ``conv_transpose{n}d(x, w, b, ...)``: dy, of the shape of its result -> (dx, dw, db).

    The arguments after dy are those of ``conv_transpose{n}d``. db is None where b is.
    """
    x = as_array("x", x)
    w, dy = filters(ndim, w, x.dtype), as_array("dy", dy, x.dtype)
    xb = batched("x", x, ndim)
    geometry, extra = geometry_of(stride, padding, dilation, groups), plain("output_padding", output_padding)
    spec = _make_transpose(xb.shape, w.shape, x.dtype, geometry, extra, layout)
    _expect("dy", dy, spec.x_shape if xb is x else spec.x_shape[1:])
    b = bias(b, spec.ic, x.dtype)
    activation = activation_of(activation)
    if activation is not None:
        before = conv_transpose(ndim, x, w, b, stride, padding, extra, groups, dilation, layout=layout)
        dy = activate_backward(dy, before, activation)
    dyb = batched("dy", dy, ndim)
    geometry = spec.stride, spec.pads, spec.dilation, spec.groups
    # The convolution that this is the adjoint of maps dy to dx, and pairs dy with x for the weights.
    dx = conv(ndim, dyb, w, None, *geometry, layout=layout)
    dw = conv_backward_weight(ndim, dyb, xb, w.shape, *geometry, layout=layout)
    db = None if b is None else conv_backward_bias(dyb, layout=layout)
    return (dx if x.ndim == ndim + 2 else dx[0]), dw, db


conv1d, conv2d, conv3d = of_ranks(conv)
conv1d_backward, conv2d_backward, conv3d_backward = of_ranks(conv_backward)
conv1d_backward_input, conv2d_backward_input, conv3d_backward_input = of_ranks(conv_backward_input)
conv1d_backward_weight, conv2d_backward_weight, conv3d_backward_weight = of_ranks(conv_backward_weight)
conv_transpose1d, conv_transpose2d, conv_transpose3d = of_ranks(conv_transpose)
conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = of_ranks(conv_transpose_backward)
