"""Convolution, its gradients and its transpose, in one, two and three dimensions, which share one path.

Cross-correlation, as in every deep-learning framework (the kernel is not flipped). Names, argument order and
defaults are those of torch.nn.functional; padding rules of the other dialects are in ``spec.conv_pads``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import spec as _spec
from ..arguments import plain, shown
from ..arrays import DTYPE_NAMES, as_array, as_output
from ..dispatch import Choice, chooser
from ..spec import Activation, activation_of
from .activation import activate_backward
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

choose_conv = chooser(_spec.conv_spec)
_choose_transpose = chooser(_spec.conv_transpose_spec)


# ------------------------------------------------------------------------------------------------- helpers


def _weights(ndim: int, w: Any) -> np.ndarray:
    w = as_array("w", w)
    if w.ndim != ndim + 2:
        raise ValueError(f"w has shape {w.shape}: a {ndim}-D convolution takes {ndim + 2} dimensions")
    return w


def _batched(name: str, x: np.ndarray, ndim: int) -> np.ndarray:
    """x with its batch dimension; the caller compares ranks to see whether one was added."""
    if x.ndim == ndim + 1:
        return x[None]
    if x.ndim != ndim + 2:
        raise ValueError(
            f"{name} has shape {x.shape}: a {ndim}-D convolution takes {ndim + 2} dimensions, "
            f"or {ndim + 1} without the batch"
        )
    return x


def _bias(b: Any, channels: int, dtype: np.dtype) -> np.ndarray | None:
    if b is None:
        return None
    b = as_array("b", b, dtype)
    if b.shape != (channels,):
        raise ValueError(f"b has shape {b.shape}: allowed is ({channels},), one element an output channel")
    return b


def _activation(value: Any) -> Activation | None:
    return None if value is None else activation_of(value)


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: allowed is {shape}")


def _spatial_shape(shape: Any, name: str) -> tuple[int, ...]:
    if type(shape) is tuple and {*map(type, shape)} == {int} and min(shape) >= 0:
        return shape
    try:
        sizes = plain(name, shape)
        if isinstance(sizes, tuple) and sizes:
            return _spec.int_tuple(sizes, len(sizes), name, 0)
    except TypeError:
        pass
    raise TypeError(f"{name}={shown(shape)}: allowed is a tuple of ints >= 0")


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
    if out is not None and unbatched:
        result = as_output(out, shape[1:], first.dtype, first, second, b, residual)[None]
    else:
        result = as_output(out, shape, first.dtype, first, second, b, residual)
    if result.size:
        choice.kernel(first, second, b, residual, result)
    if out is not None:
        return out
    return result[0] if unbatched else result


# --------------------------------------------------------------------------------------- the three directions


def _forward(
    ndim: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: str,
    activation: Any,
    residual: Any,
    out: Any,
) -> np.ndarray:
    x = as_array("x", x)
    w = as_array("w", w, x.dtype)
    if w.ndim != ndim + 2:
        w = _weights(ndim, w)
    unbatched = x.ndim == ndim + 1
    if x.ndim != ndim + 2:
        x = _batched("x", x, ndim)
    if b is not None:
        b = _bias(b, w.shape[0], x.dtype)
    choice = choose_conv(
        "fwd",
        x.shape,
        w.shape,
        DTYPE_NAMES[x.dtype],
        plain("stride", stride),
        plain("padding", padding),
        plain("dilation", dilation),
        plain("groups", groups),
        layout,
        b is not None,
        residual is not None,
        _activation(activation),
    )
    if residual is not None:
        residual = as_array("residual", residual, x.dtype)
        _expect("residual", residual, choice.spec.y_shape[unbatched:])
        residual = residual[None] if unbatched else residual
    return _run(choice, x, w, b, residual, out, unbatched)


def _backward_input(
    ndim: int,
    dy: Any,
    w: Any,
    input_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: str,
    out: Any,
) -> np.ndarray:
    dy = as_array("dy", dy)
    w = as_array("w", _weights(ndim, w), dy.dtype)
    shape = _spatial_shape(input_shape, "input_shape")
    unbatched = len(shape) == ndim + 1
    choice = choose_conv(
        "bwd_input",
        (1, *shape) if unbatched else shape,
        w.shape,
        DTYPE_NAMES[dy.dtype],
        plain("stride", stride),
        plain("padding", padding),
        plain("dilation", dilation),
        plain("groups", groups),
        layout,
        False,
        False,
        None,
    )
    _expect("dy", dy, choice.spec.y_shape[unbatched:])
    return _run(choice, dy[None] if unbatched else dy, w, None, None, out, unbatched)


def _backward_weight(
    ndim: int,
    x: Any,
    dy: Any,
    weight_shape: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: str,
    out: Any,
) -> np.ndarray:
    x = as_array("x", x)
    dy = as_array("dy", dy, x.dtype)
    shape = _spatial_shape(weight_shape, "weight_shape")
    if len(shape) != ndim + 2:
        raise ValueError(f"weight_shape={shape}: a {ndim}-D convolution takes {ndim + 2} dimensions")
    if x.ndim == ndim + 1 and dy.ndim == ndim + 1:
        dy = dy[None]
    x = _batched("x", x, ndim)
    choice = choose_conv(
        "bwd_weight",
        x.shape,
        shape,
        DTYPE_NAMES[x.dtype],
        plain("stride", stride),
        plain("padding", padding),
        plain("dilation", dilation),
        plain("groups", groups),
        layout,
        False,
        False,
        None,
    )
    _expect("dy", dy, choice.spec.y_shape)
    return _run(choice, x, dy, None, None, out)


def _transpose(
    ndim: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: str,
    activation: Any,
    out: Any,
) -> np.ndarray:
    x = as_array("x", x)
    w = as_array("w", _weights(ndim, w), x.dtype)
    unbatched = x.ndim == ndim + 1
    x = _batched("x", x, ndim)
    choice = _choose_transpose(
        *_transpose_arguments(x, w, stride, padding, output_padding, groups, dilation, layout),
        b is not None,
        _activation(activation),
    )
    b = _bias(b, choice.spec.ic, x.dtype)
    return _run(choice, x, w, b, None, out, unbatched)


def _transpose_arguments(
    x: np.ndarray,
    w: np.ndarray,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: str,
) -> tuple[Any, ...]:
    """The first arguments of ``conv_transpose_spec``."""
    return (
        x.shape,
        w.shape,
        DTYPE_NAMES[x.dtype],
        plain("stride", stride),
        plain("padding", padding),
        plain("output_padding", output_padding),
        plain("groups", groups),
        plain("dilation", dilation),
        layout,
    )


def conv_backward_bias(dy: np.ndarray, *, layout: str = "NCHW") -> np.ndarray:
    """Gradient of a convolution's bias. dy (n, oc, *size), or (n, *size, oc) -> db (oc,).

    dy must have its batch dimension. Raises TypeError for a dtype, ValueError for a rank or layout that is not one.
    """
    dy = as_array("dy", dy)
    if not 3 <= dy.ndim <= 5:
        raise ValueError(f"dy has shape {dy.shape}: allowed are 3 to 5 dimensions, the batch among them")
    channel = dy.ndim - 1 if _spec.channels_last(layout, dy.ndim - 2) else 1
    return sums(dy, tuple(a for a in range(dy.ndim) if a != channel))


# ----------------------------------------------------------------------------------------- public functions

_SHAPES = {
    1: {"s": "iw", "o": "ow", "k": "kw", "layouts": '``"NCL"`` or ``"NLC"``'},
    2: {"s": "ih, iw", "o": "oh, ow", "k": "kh, kw", "layouts": '``"NCHW"`` or ``"NHWC"``'},
    3: {"s": "id, ih, iw", "o": "od, oh, ow", "k": "kd, kh, kw", "layouts": '``"NCDHW"`` or ``"NDHWC"``'},
}


def _named(function: Callable[..., Any], name: str, ndim: int, doc: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc.format(n=ndim, **_SHAPES[ndim])
    return function


def _make_conv(ndim: int) -> Callable[..., Any]:
    def conv(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        layout: str = "NCHW",
        activation: Any = None,
        residual: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        return _forward(ndim, x, w, b, stride, padding, dilation, groups, layout, activation, residual, out)

    return _named(
        conv,
        f"conv{ndim}d",
        ndim,
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
    activation : None, a name (relu, relu6, leaky_relu, clip, sigmoid, tanh, silu, hardswish, gelu) or
        ``(name, parameter, ...)``.
    out : an array for y, which shares no memory with the inputs; it is returned.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    Output size of a dimension: floor((size + lo + hi - dilation (kernel - 1) - 1) / stride) + 1.
    """,
    )


def _make_backward_input(ndim: int) -> Callable[..., Any]:
    def conv_backward_input(
        dy: np.ndarray,
        w: np.ndarray,
        input_shape: tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        return _backward_input(ndim, dy, w, input_shape, stride, padding, dilation, groups, layout, out)

    return _named(
        conv_backward_input,
        f"conv{ndim}d_backward_input",
        ndim,
        """Gradient of conv{n}d's input. dy (n, oc, {o}), w (oc, ic/groups, {k}) -> dx of ``input_shape``.

    The adjoint of ``conv{n}d`` in x: <conv{n}d(x, w), dy> = <x, dx>. The other arguments are those of ``conv{n}d``;
    errors likewise.
    """,
    )


def _make_backward_weight(ndim: int) -> Callable[..., Any]:
    def conv_backward_weight(
        x: np.ndarray,
        dy: np.ndarray,
        weight_shape: tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        layout: str = "NCHW",
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        return _backward_weight(ndim, x, dy, weight_shape, stride, padding, dilation, groups, layout, out)

    return _named(
        conv_backward_weight,
        f"conv{ndim}d_backward_weight",
        ndim,
        """Gradient of conv{n}d's weights. x (n, ic, {s}), dy (n, oc, {o}) -> dw of ``weight_shape``.

    The adjoint of ``conv{n}d`` in w: <conv{n}d(x, w), dy> = <w, dw>. The other arguments are those of ``conv{n}d``;
    errors likewise.
    """,
    )


def _make_backward(ndim: int) -> Callable[..., Any]:
    def conv_backward(
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        layout: str = "NCHW",
        activation: Any = None,
        residual: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        arguments = tuple(map(plain, ("stride", "padding", "dilation", "groups"), (stride, padding, dilation, groups)))
        x = as_array("x", x)
        w, dy = as_array("w", _weights(ndim, w), x.dtype), as_array("dy", dy, x.dtype)
        b = _bias(b, w.shape[0], x.dtype)
        xb = _batched("x", x, ndim)
        activation = _activation(activation)
        if activation is not None or residual is not None:
            spec = _spec.conv_spec("bwd_weight", xb.shape, w.shape, DTYPE_NAMES[x.dtype], *arguments, layout)
            shape = spec.y_shape if xb is x else spec.y_shape[1:]
            _expect("dy", dy, shape)
            if residual is not None:
                residual = as_array("residual", residual, x.dtype)
                _expect("residual", residual, shape)
        if activation is not None:
            before = _forward(ndim, x, w, b, *arguments, layout, None, residual, None)
            dy = activate_backward(dy, before, activation)
        dx = _backward_input(ndim, dy, w, x.shape, *arguments, layout, None)
        dw = _backward_weight(ndim, x, dy, w.shape, *arguments, layout, None)
        db = None if b is None else conv_backward_bias(_batched("dy", dy, ndim), layout=layout)
        return dx, dw, db, None if residual is None else dy

    return _named(
        conv_backward,
        f"conv{ndim}d_backward",
        ndim,
        """Gradients of ``conv{n}d(x, w, b, ..., residual=residual)``: dy (n, oc, {o}) -> (dx, dw, db, dresidual).

    The arguments after dy are those of ``conv{n}d``. None stands for the gradient of an array that was not given.
    With an activation the forward pass is computed once more, without it.
    """,
    )


def _make_transpose(ndim: int) -> Callable[..., Any]:
    def conv_transpose(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
        *,
        layout: str = "NCHW",
        activation: Any = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        return _transpose(ndim, x, w, b, stride, padding, output_padding, groups, dilation, layout, activation, out)

    return _named(
        conv_transpose,
        f"conv_transpose{ndim}d",
        ndim,
        """{n}-D transposed convolution. x (n, ic, {s}), w (ic, oc/groups, {k}) -> y (n, oc, {o}).

    The adjoint of ``conv{n}d`` with the same stride, padding and dilation, plus b (oc,). Output size of a dimension:
    (size - 1) stride - lo - hi + dilation (kernel - 1) + output_padding + 1. ``output_padding`` must be less than
    the stride or the dilation. The other arguments are those of ``conv{n}d``; errors likewise.
    """,
    )


def _make_transpose_backward(ndim: int) -> Callable[..., Any]:
    def conv_transpose_backward(
        dy: np.ndarray,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
        *,
        layout: str = "NCHW",
        activation: Any = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        x = as_array("x", x)
        w, dy = as_array("w", _weights(ndim, w), x.dtype), as_array("dy", dy, x.dtype)
        xb = _batched("x", x, ndim)
        arguments = _transpose_arguments(xb, w, stride, padding, output_padding, groups, dilation, layout)
        spec = _spec.conv_transpose_spec(*arguments)
        _expect("dy", dy, spec.x_shape if xb is x else spec.x_shape[1:])
        b = _bias(b, spec.ic, x.dtype)
        activation = _activation(activation)
        if activation is not None:
            before = _transpose(ndim, x, w, b, *arguments[3:], None, None)
            dy = activate_backward(dy, before, activation)
        dyb = _batched("dy", dy, ndim)
        arguments = (spec.stride, spec.pads, spec.dilation, spec.groups)
        # The convolution that this is the adjoint of maps dy to dx, and pairs dy with x for the weights.
        dx = _forward(ndim, dyb, w, None, *arguments, layout, None, None, None)
        dw = _backward_weight(ndim, dyb, xb, w.shape, *arguments, layout, None)
        db = None if b is None else conv_backward_bias(dyb, layout=layout)
        return (dx if x.ndim == ndim + 2 else dx[0]), dw, db

    return _named(
        conv_transpose_backward,
        f"conv_transpose{ndim}d_backward",
        ndim,
        """Gradients of ``conv_transpose{n}d(x, w, b, ...)``: dy, of the shape of its result -> (dx, dw, db).

    The arguments after dy are those of ``conv_transpose{n}d``. db is None where b is.
    """,
    )


conv1d, conv2d, conv3d = map(_make_conv, (1, 2, 3))
conv1d_backward, conv2d_backward, conv3d_backward = map(_make_backward, (1, 2, 3))
conv1d_backward_input, conv2d_backward_input, conv3d_backward_input = map(_make_backward_input, (1, 2, 3))
conv1d_backward_weight, conv2d_backward_weight, conv3d_backward_weight = map(_make_backward_weight, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_make_transpose, (1, 2, 3))
conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = map(
    _make_transpose_backward, (1, 2, 3)
)
