"""The spec of resizing images and of its gradient: of which positions each one is the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, prod
from typing import Any

import numpy as np

from ..arguments import number, shown
from .common import MAX_ELEMENTS, channels_last, check_elements, int_tuple
from .types import OfImages, Types, types_of

#: Where position o of the result lies in x: by o, size, out, and two numbers whose quotient is how far apart results
#: lie. The names are those of ONNX's ``coordinate_transformation_mode``.
TRANSFORMATIONS: dict[str, Callable[[np.ndarray, int, int, float, float], np.ndarray]] = {
    "half_pixel": lambda o, size, out, p, q: (o + 0.5) * p / q - 0.5,
    "pytorch_half_pixel": lambda o, size, out, p, q: (o + 0.5) * p / q - 0.5 if out > 1 else 0 * o,
    "align_corners": lambda o, size, out, p, q: o * (size - 1) / max(out - 1, 1),
    "asymmetric": lambda o, size, out, p, q: o * p / q,
    "half_pixel_symmetric": lambda o, size, out, p, q: (o + 0.5 - out / 2) * p / q + (size - 1) / 2,
}

#: Which position is the nearest: ONNX's ``nearest_mode``.
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}

#: mode -> terms of a result along each axis.
RESIZE_MODES = {"nearest": 1, "linear": 2, "cubic": 4}

#: A table: for target i, the positions ``index[first[i]:first[i + 1]]`` (int64) of the source, times as many weights.
Table = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ResizeSpec(OfImages):
    """One resizing, ``direction`` ``"fwd"`` or ``"bwd"``; ``table`` is the only definition of what is computed.

    ``transformation`` and ``rounding`` are keys of the tables above. ``scales``: of each axis what the size is
    multiplied by, None where the sizes say that. ``antialias``: where results lie further apart than positions of x,
    each is the sum of as many more. ``exclude_outside``: what lies beyond the image has no weight, instead of that of
    its border. A spec holds the rules, whose size does not depend on the images'.
    """

    direction: str
    types: Types
    channels_last: bool
    n: int
    c: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    mode: str
    transformation: str
    rounding: str
    scales: tuple[float | None, ...]
    cubic_coeff: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False

    @cached_property
    def source_size(self) -> tuple[int, ...]:
        """Of what a kernel reads: x, or dy."""
        return self.in_size if self.direction == "fwd" else self.out_size

    @cached_property
    def target_size(self) -> tuple[int, ...]:
        return self.out_size if self.direction == "fwd" else self.in_size

    @cached_property
    def empty(self) -> bool:
        return prod(self.x_shape) * prod(self.y_shape) == 0

    @cached_property
    def table_bytes(self) -> int:
        """Of all tables, at most."""
        terms = sum([2 * self._reach(dim) * out for dim, out in enumerate(self.out_size)])
        return 8 * sum(self.target_size) + 16 * terms + 24

    def table(self, dim: int) -> Table:
        """Along a dimension: what each position of the target is the sum of. It is made anew each time."""
        index, weight = self._taps(dim)
        result, term = np.nonzero(weight)  # what has no weight is not read, be it infinite
        index, weight = index[result, term], weight[result, term]
        if self.direction == "fwd":
            return _begins(result, self.out_size[dim]), index, weight
        # Turned: of each position of x the results that it is in, in their order.
        order = np.argsort(index, kind="stable")
        return _begins(index, self.in_size[dim]), result[order], weight[order]

    def _step(self, dim: int) -> tuple[float, float]:
        """Two numbers whose quotient is how far apart results lie: dividing at last, nothing is rounded before."""
        scale = self.scales[dim]
        return (1.0, scale) if scale is not None else (float(self.in_size[dim]), float(self.out_size[dim]))

    def _width(self, dim: int) -> float:
        """How many times as far as usual the positions lie from a result that it is the sum of."""
        p, q = self._step(dim)
        return max(1.0, p / q) if self.antialias else 1.0

    def _reach(self, dim: int) -> int:
        """Positions on either side of a result, at most."""
        return ceil(RESIZE_MODES[self.mode] / 2 * self._width(dim))

    def _taps(self, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each result along a dimension the positions in x, and their weights: (out, terms), int64 and float64."""
        size, out, width, reach = self.in_size[dim], self.out_size[dim], self._width(dim), self._reach(dim)
        # (One quotient a position, so that rounding takes none to the other side of a border that it lies on.)
        place = TRANSFORMATIONS[self.transformation](np.arange(out, dtype=np.float64), size, out, *self._step(dim))
        if self.mode == "nearest":
            index, weight = ROUNDINGS[self.rounding](place)[:, None], np.ones((out, 1))
        elif self.mode == "linear" and width == 1:
            place = np.clip(place, 0, size - 1)
            low = np.floor(place)
            part = place - low
            index, weight = np.stack([low, low + 1], 1), np.stack([1 - part, part], 1)
        else:
            index = np.floor(place)[:, None] + np.arange(1 - reach, 1 + reach)
            far = np.abs(place[:, None] - index) / width
            weight = _cubic(far, self.cubic_coeff) if self.mode == "cubic" else np.maximum(1 - far, 0)
            if self.exclude_outside:
                weight *= (index >= 0) & (index < size)
            if self.exclude_outside or width > 1:
                weight /= weight.sum(1, keepdims=True)
        return np.clip(index, 0, size - 1).astype(np.int64), weight

    @cached_property
    def most_terms(self) -> tuple[int, ...]:
        """Of a result along each dimension."""
        return tuple([int(np.diff(self.table(dim)[0]).max()) for dim in range(self.ndim)])


def _begins(targets: np.ndarray, size: int) -> np.ndarray:
    """Where the terms of each target begin, if they are in order; and where the last ones end."""
    return np.concatenate([[0], np.cumsum(np.bincount(targets, minlength=size))]).astype(np.int64)


def _cubic(far: np.ndarray, a: float) -> np.ndarray:
    """The weights of what is so far away: Keys, Cubic convolution interpolation for digital image processing, 1981."""
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    return np.where(far <= 1, near, np.where(far < 2, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a, 0))


def scales_of(name: str, value: Any) -> float | tuple[float, ...] | None:
    """None, a number above 0 or a sequence of them, as floats; TypeError or ValueError names the argument."""
    if value is None:
        return None
    many = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)
    scales = tuple([number(name, item) for item in (value if many else (value,))])
    if not all(0 < scale < np.inf for scale in scales):
        raise ValueError(f"{name}={shown(value)}: allowed are numbers above 0")
    return scales if many else scales[0]


def resize_spec(
    direction: str,
    x_shape: tuple[int, ...],
    dtype: str | Types,
    ndim: int,
    size: Any,
    scales: Any,
    names: tuple[str, str],
    mode: str,
    transformation: str,
    rounding: str,
    keep_scales: bool = True,
    layout: str = "NCHW",
    cubic_coeff: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
) -> ResizeSpec:
    """The spec of a resizing to ``size``, or by ``scales``, as ``scales_of`` has them: one of both is given.

    names: what those are called. keep_scales: positions are found by the scales, not by the sizes that these give.
    """
    last = channels_last(layout, ndim)
    types = types_of(dtype)
    n, *rest = x_shape
    c, in_size = (rest[-1], tuple(rest[:-1])) if last else (rest[0], tuple(rest[1:]))
    if min(in_size) < 1:
        raise ValueError(f"x has the spatial size {in_size}: every size must be >= 1")
    if (size is None) == (scales is None):
        raise ValueError(
            f"{names[0]}={shown(size)} and {names[1]}={shown(scales)}: allowed is one of them, and the other None"
        )
    kept: tuple[float | None, ...] = (None,) * ndim
    if size is not None:
        out_size = int_tuple(size, ndim, names[0], 1)
    else:
        factors = scales if isinstance(scales, tuple) else (scales,) * ndim
        if len(factors) != ndim:
            raise ValueError(f"{names[1]}={shown(scales)}: allowed is a number above 0, or {ndim} of them")
        sizes = [i * factor for i, factor in zip(in_size, factors, strict=True)]
        if not all(1 <= s <= MAX_ELEMENTS for s in sizes):
            raise ValueError(f"{names[1]}={shown(scales)}: of the size {in_size} it makes {tuple(sizes)}; "
                             f"every size must be from 1 to {MAX_ELEMENTS}")  # fmt: skip
        out_size = tuple(map(floor, sizes))
        kept = factors if keep_scales else kept
    spec = ResizeSpec(
        direction, types, last, n, c, in_size, out_size, mode, transformation, rounding, kept, cubic_coeff, antialias,
        exclude_outside,
    )  # fmt: skip
    for name, shape in (("x", spec.x_shape), ("the result", spec.y_shape)):
        check_elements(name, tuple(max(1, s) for s in shape))
    return spec
