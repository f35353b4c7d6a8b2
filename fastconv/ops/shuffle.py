"""Channels that become pixels, pixels that become channels, and channels in another order, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import MOST, integer, shown
from ..arrays import as_array, as_output
from ..spec import channel_axis, channels_last, check_elements
from .copy import copied, gradient, operand

__all__ = [
    "channel_shuffle", "channel_shuffle_backward", "pixel_shuffle", "pixel_shuffle_backward", "pixel_unshuffle",
    "pixel_unshuffle_backward",
]  # fmt: skip

#: The layouts of one, two and three spatial dimensions, and how many.
_DIMENSIONS = {"NCL": 1, "NLC": 1, "NCHW": 2, "NHWC": 2, "NCDHW": 3, "NDHWC": 3}


class _Images:
    """Images whose channels make the pixels of larger ones: their shapes, and views of both with the same axes."""

    def __init__(self, x: np.ndarray, name: str, factor: Any, layout: Any, up: bool) -> None:
        """x: the images, or, unless ``up``, the larger ones."""
        if not isinstance(layout, str) or layout not in _DIMENSIONS:
            raise ValueError(f"layout={shown(layout)}: allowed is {' or '.join(map(repr, _DIMENSIONS))}")
        d = _DIMENSIONS[layout]
        if x.ndim not in (d + 1, d + 2):
            raise ValueError(f"x has shape {x.shape}: allowed are {d + 2} axes, {layout}, or {d + 1} without the first")
        self.factor = factor = integer(name, factor, 1, MOST)
        self._last = channels_last(layout, d)
        batch, rest = x.shape[: x.ndim - d - 1], x.shape[x.ndim - d - 1 :]
        channels, size = (rest[-1], rest[:-1]) if self._last else (rest[0], rest[1:])
        pixels = f"{name}={shown(factor)}, x has shape {x.shape}"
        if up and channels % factor**d:
            raise ValueError(f"{pixels}, {channels} channels: allowed is a multiple of {name}^{d}")
        if not up and any(n % factor for n in size):
            raise ValueError(f"{pixels}, of size {size}: allowed are multiples of {name}")
        self._batch = batch
        self._channels = channels // factor**d if up else channels
        self._size = size if up else tuple([n // factor for n in size])
        self.small = self._shape(self._channels * factor**d, self._size)
        self.large = self._shape(self._channels, tuple([n * factor for n in self._size]))
        check_elements("the result, an array", self.large)

    def _shape(self, channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
        return (*self._batch, *size, channels) if self._last else (*self._batch, channels, *size)

    def of_small(self, a: np.ndarray) -> np.ndarray:
        """A view over batch, channels of the larger images, and for each dimension its size and the factor."""
        d, b, factors = len(self._size), len(self._batch), (self.factor,) * len(self._size)
        if self._last:
            a = a.reshape(*self._batch, *self._size, self._channels, *factors)
            size, channel, inner = range(b, b + d), b + d, range(b + d + 1, b + d + 1 + d)
        else:
            a = a.reshape(*self._batch, self._channels, *factors, *self._size)
            channel, inner, size = b, range(b + 1, b + 1 + d), range(b + 1 + d, b + 1 + d + d)
        pairs = [axis for pair in zip(size, inner, strict=True) for axis in pair]
        return a.transpose(*range(b), channel, *pairs)

    def of_large(self, a: np.ndarray) -> np.ndarray:
        """The same of the larger images."""
        b, pairs = len(self._batch), [n for size in self._size for n in (size, self.factor)]
        if not self._last:
            return a.reshape(*self._batch, self._channels, *pairs)
        a = a.reshape(*self._batch, *pairs, self._channels)
        return a.transpose(*range(b), a.ndim - 1, *range(b, a.ndim - 1))

    def enlarged(self, x: np.ndarray, out: Any, beside: np.ndarray | None = None) -> np.ndarray:
        y = as_output(out, self.large, x.dtype, x, beside)
        if y.size:
            copied(self.of_small(x), self.of_large(y))
        return y if out is None else out

    def reduced(self, x: np.ndarray, out: Any, beside: np.ndarray | None = None) -> np.ndarray:
        y = as_output(out, self.small, x.dtype, x, beside)
        if y.size:
            copied(self.of_large(x), self.of_small(y))
        return y if out is None else out


def pixel_shuffle(
    x: np.ndarray, upscale_factor: int, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Of every r^2 channels a square of r x r pixels: x (n, c r^2, h, w) -> (n, c, h r, w r), a new array or ``out``.

    r: ``upscale_factor``. layout: ``"NCHW"`` or ``"NHWC"``; ``"NCL"``, ``"NLC"`` with r channels, ``"NCDHW"``,
    ``"NDHWC"`` with r^3. The batch may be missing. Channel c r^2 + i r + j becomes pixel (i, j) of a square. x:
    float32, float64 or integers, any strides. Raises TypeError or ValueError, before any work, that names the argument,
    its value and what is allowed. Source: ``torch.nn.functional.pixel_shuffle``.
    """
    x = operand("x", x)
    return _Images(x, "upscale_factor", upscale_factor, layout, True).enlarged(x, out)


def pixel_shuffle_backward(
    dy: np.ndarray, x: np.ndarray, upscale_factor: int, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``pixel_shuffle(x, ...)``: dy, of the shape of its result -> dx, of the shape of x."""
    x = as_array("x", x)
    images = _Images(x, "upscale_factor", upscale_factor, layout, True)
    return images.reduced(gradient(dy, x, images.large), out, x)


def pixel_unshuffle(
    x: np.ndarray, downscale_factor: int, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """The inverse of ``pixel_shuffle``: x (n, c, h r, w r) -> (n, c r^2, h, w), r being ``downscale_factor``.

    The other arguments and errors are those of ``pixel_shuffle``.
    """
    x = operand("x", x)
    return _Images(x, "downscale_factor", downscale_factor, layout, False).reduced(x, out)


def pixel_unshuffle_backward(
    dy: np.ndarray, x: np.ndarray, downscale_factor: int, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``pixel_unshuffle(x, ...)``: dy, of the shape of its result -> dx, of the shape of x."""
    x = as_array("x", x)
    images = _Images(x, "downscale_factor", downscale_factor, layout, False)
    return images.enlarged(gradient(dy, x, images.small), out, x)


def _shuffled(x: np.ndarray, groups: Any, layout: Any, out: Any, backward: bool, dy: Any = None) -> np.ndarray:
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}: allowed are at least 2 axes, of which one has the channels")
    axis = channel_axis(layout, x.ndim)
    channels = x.shape[axis]
    groups = integer("groups", groups, 1, MOST)
    if channels % groups:
        raise ValueError(f"groups={groups}, x has shape {x.shape}, {channels} channels: allowed is a divisor of them")
    source = gradient(dy, x, x.shape) if backward else x
    y = as_output(out, x.shape, x.dtype, source, x)
    if y.size:
        parts = (channels // groups, groups) if backward else (groups, channels // groups)
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        apart = source.reshape(*before, *parts, *after).swapaxes(axis, axis + 1)
        copied(apart, y.reshape(*before, *parts[::-1], *after))
    return y if out is None else out


def channel_shuffle(x: np.ndarray, groups: int, *, layout: str = "NCHW", out: np.ndarray | None = None) -> np.ndarray:
    """The channels in another order: first that of each group, then the second of each, and so on; or in ``out``.

    x (n, c, *size) or, with ``layout="NHWC"``, (n, *size, c), of float32, float64 or integers, any strides; ``groups``
    divides c. Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    Source: ``torch.nn.functional.channel_shuffle``.
    """
    return _shuffled(operand("x", x), groups, layout, out, False)


def channel_shuffle_backward(
    dy: np.ndarray, x: np.ndarray, groups: int, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``channel_shuffle(x, ...)``: dy -> dx, both of the shape of x."""
    return _shuffled(as_array("x", x), groups, layout, out, True, dy)
