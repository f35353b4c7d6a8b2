"""Images of another size, and the gradients of that.

``interpolate`` has the names, argument order, defaults and rules of torch.nn.functional, ``resize`` those of ONNX's
operator. Both lead to one spec, which has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import flag, number, plain, shown, word
from ..arrays import DTYPE_NAMES, as_array, as_output
from ..dispatch import Choice, chooser
from ..spec import RESIZE_MODES, ROUNDINGS, TRANSFORMATIONS, Ints, resize_spec, scales_of

__all__ = ["interpolate", "interpolate_backward", "resize", "resize_backward"]

_choose = chooser(resize_spec)

#: A number for all spatial dimensions, or one for each.
Floats = float | Sequence[float]

#: PyTorch's modes -> how many spatial dimensions they are for (any if there are none), and the mode, how positions are
#: found and rounded. Those between positions find them another way where corners are aligned.
_MODES: dict[str, tuple[tuple[int, ...], str, str, str]] = {
    "nearest": ((), "nearest", "asymmetric", "floor"),
    "nearest-exact": ((), "nearest", "half_pixel", "round_prefer_ceil"),
    "linear": ((1,), "linear", "half_pixel", "floor"),
    "bilinear": ((2,), "linear", "half_pixel", "floor"),
    "trilinear": ((3,), "linear", "half_pixel", "floor"),
    "bicubic": ((2,), "cubic", "half_pixel", "floor"),
}


def _forward(choice: Choice, x: np.ndarray, out: Any) -> np.ndarray:
    y = as_output(out, choice.spec.y_shape, x.dtype, x)
    if y.size:
        choice.kernel(x, y)
    return y if out is None else out


def _backward(choice: Choice, dy: Any, x: np.ndarray, out: Any) -> np.ndarray:
    dy = as_array("dy", dy, x.dtype)
    if dy.shape != choice.spec.y_shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {choice.spec.y_shape}")
    dx = as_output(out, x.shape, x.dtype, x, dy)
    if dx.size:
        choice.kernel(dy, dx)
    return dx if out is None else out


def _image(x: Any) -> np.ndarray:
    x = as_array("x", x)
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"x has shape {x.shape}: allowed are 3 to 5 dimensions, a batch and channels among them")
    return x


def _interpolation(
    direction: str, x: np.ndarray, size: Any, scale_factor: Any, mode: Any, align_corners: Any, recompute: Any,
    antialias: Any, layout: Any,
) -> Choice:  # fmt: skip
    ndim, name = x.ndim - 2, word("mode", mode, _MODES)
    ranks, kind, transformation, rounding = _MODES[name]
    if ranks and ndim not in ranks:
        allowed = ", ".join(repr(m) for m, (of, *_) in _MODES.items() if not of or ndim in of)
        raise ValueError(f"mode={mode!r}: allowed for x of shape {x.shape} is {allowed}")
    if align_corners is not None:
        if kind == "nearest":
            raise ValueError(f"align_corners={shown(align_corners)}: allowed with mode={mode!r} is None")
        if flag("align_corners", align_corners):
            transformation = "align_corners"
    antialias = flag("antialias", antialias)
    if antialias and (ndim != 2 or kind == "nearest" or align_corners):
        raise ValueError(
            f"antialias=True: allowed with mode='bilinear' or 'bicubic' and without align_corners; given are "
            f"mode={mode!r} and align_corners={align_corners!r}"
        )
    kept = recompute is None or not flag("recompute_scale_factor", recompute)
    if not kept and size is not None:
        raise ValueError(f"recompute_scale_factor={shown(recompute)}: allowed with a size is None or False")
    return _choose(
        direction, x.shape, DTYPE_NAMES[x.dtype], ndim, plain("size", size), scales_of("scale_factor", scale_factor),
        ("size", "scale_factor"), kind, transformation, rounding, kept, layout, -0.5 if antialias else -0.75, antialias,
        antialias,
    )  # fmt: skip


def interpolate(
    x: np.ndarray,
    size: Ints | None = None,
    scale_factor: Floats | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Images of another size, by the rules of ``torch.nn.functional.interpolate``. x (n, c, ...) -> y (n, c, ...).

    x: float32 or float64, 1 to 3 spatial dimensions, any strides. One of ``size`` and ``scale_factor`` is given: a
    number for all spatial dimensions, or one for each; by a scale, a size is floor(size scale).

    ``mode``: ``"nearest"`` (position floor(o size / out) of x), ``"nearest-exact"`` (floor((o + 0.5) size / out)),
    ``"linear"``, ``"bilinear"``, ``"trilinear"`` for 1, 2, 3 dimensions, ``"bicubic"`` for 2. The latter take pixels
    for squares, or, with ``align_corners``, for points, the outermost ones of which are the same before and after.
    Where ``scale_factor`` is given, its reciprocal stands for size / out, unless ``recompute_scale_factor``.
    ``antialias``, for ``"bilinear"`` and ``"bicubic"`` (whose coefficient is then -0.5) without ``align_corners``:
    where images get smaller, the weights reach as many times further, and are divided by their sum within the image.

    Positions are computed in float64: where PyTorch's nearest, in float32, comes out below a whole number that it
    should be, as in 2 to 82, these are right. What has no weight is not read, so that infinities do not spread to it.

    layout: ``"NCHW"`` or ``"NHWC"``, or their names for 1 or 3 dimensions. ``out``: an array for the result, which
    shares no memory with x. Raises TypeError or ValueError, before any work, that names the argument, its value and
    what is allowed.
    """
    x = _image(x)
    choice = _interpolation(
        "fwd", x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias, layout
    )
    return _forward(choice, x, out)


def interpolate_backward(
    dy: np.ndarray,
    x: np.ndarray,
    size: Ints | None = None,
    scale_factor: Floats | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``interpolate(x, ...)`` in x: dy, of the shape of its result -> dx, of the shape of x.

    The arguments after dy are those of ``interpolate``; of x, only shape and dtype matter. Errors likewise.
    """
    x = _image(x)
    choice = _interpolation(
        "bwd", x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias, layout
    )
    return _backward(choice, dy, x, out)


def _resizing(
    direction: str, x: np.ndarray, sizes: Any, scales: Any, mode: Any, transformation: Any, rounding: Any, cubic: Any,
    antialias: Any, exclude_outside: Any, layout: Any,
) -> Choice:  # fmt: skip
    a = number("cubic_coeff_a", cubic)
    if not -2 <= a <= 2:  # others make weights that are large and cancel
        raise ValueError(f"cubic_coeff_a={shown(cubic)}: allowed is a number from -2 to 2")
    return _choose(
        direction, x.shape, DTYPE_NAMES[x.dtype], x.ndim - 2, plain("sizes", sizes), scales_of("scales", scales),
        ("sizes", "scales"), word("mode", mode, RESIZE_MODES),
        word("coordinate_transformation_mode", transformation, TRANSFORMATIONS),
        word("nearest_mode", rounding, ROUNDINGS), True, layout, a, flag("antialias", antialias),
        flag("exclude_outside", exclude_outside),
    )  # fmt: skip


def resize(
    x: np.ndarray,
    sizes: Ints | None = None,
    scales: Floats | None = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Images of another size, by the rules of ONNX's ``Resize``. x (n, c, ...) -> y (n, c, ...).

    x: float32 or float64, 1 to 3 spatial dimensions, any strides. One of ``sizes`` and ``scales`` is given, of the
    spatial dimensions alone: a number for all of them, or one for each; by a scale, a size is floor(size scale).

    ``mode``: ``"nearest"``, ``"linear"`` or ``"cubic"`` (with ``cubic_coeff_a``). ``coordinate_transformation_mode``
    says where position o of the result lies in x, s being out / size or the scale: ``"half_pixel"``
    (o + 0.5) / s - 0.5; ``"pytorch_half_pixel"`` the same, or 0 where out is 1; ``"align_corners"``
    o (size - 1) / (out - 1); ``"asymmetric"`` o / s; ``"half_pixel_symmetric"`` as half_pixel, but the middle stays
    the middle where out is not size s. ``nearest_mode`` says which position is the nearest: ``"round_prefer_floor"``,
    ``"round_prefer_ceil"``, ``"floor"`` or ``"ceil"``.

    ``antialias``: where images get smaller, the weights of ``"linear"`` and ``"cubic"`` reach as many times further,
    and are divided by their sum. What lies beyond the image is what lies at its border; with ``exclude_outside`` it has
    no weight, and the other weights are divided by their sum. What has no weight is not read, so that infinities do not
    spread to it. ``layout``, ``out`` and errors as in ``interpolate``.
    """
    x = _image(x)
    choice = _resizing(
        "fwd", x, sizes, scales, mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, antialias,
        exclude_outside, layout,
    )  # fmt: skip
    return _forward(choice, x, out)


def resize_backward(
    dy: np.ndarray,
    x: np.ndarray,
    sizes: Ints | None = None,
    scales: Floats | None = None,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``resize(x, ...)`` in x: dy, of the shape of its result -> dx, of the shape of x.

    The arguments after dy are those of ``resize``; of x, only shape and dtype matter. Errors likewise.
    """
    x = _image(x)
    choice = _resizing(
        "bwd", x, sizes, scales, mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, antialias,
        exclude_outside, layout,
    )  # fmt: skip
    return _backward(choice, dy, x, out)
