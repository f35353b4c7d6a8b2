"""The spec of reductions over axes, and of what is made of each element and the numbers of its reduction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ..arguments import index, shown
from .common import channels_last
from .types import Typed, Types

#: kind -> the names of its operands and results, in the order of a kernel's ten arrays: six operands, four results.
REDUCTIONS: dict[str, tuple[str | None, ...]] = {
    "sum": ("x", None, None, None, None, None, None, "sum", None, None),
    "moments": ("x", None, None, None, None, None, None, "mean", "var", None),
    "max": ("x", None, None, None, None, None, None, "value", "place", None),
    "min": ("x", None, None, None, None, None, None, "value", "place", None),
    "affine": ("x", None, "m", "s", "w", "b", "y", None, None, None),
    "normalize": ("x", None, None, None, "w", "b", "y", "mean", "rstd", "var"),
    "normalize_backward": ("dy", "x", "m", "s", "w", "v", "dx", "sum_g", "sum_gh", None),
    "normalize_sums": ("dy", "x", "m", "s", "w", None, None, "sum_g", "sum_gh", None),
    "softmax": ("x", None, None, None, None, None, "y", None, None, None),
    "log_softmax": ("x", None, None, None, None, None, "y", "most", "log_sum", None),
    "softmax_backward": ("dy", "y", None, None, None, None, "dx", None, None, None),
    "log_softmax_backward": ("dy", "y", None, None, None, None, "dx", None, None, None),
}


def kept_shape(shape: tuple[int, ...], axes: Collection[int]) -> tuple[int, ...]:
    """Sizes of what is reduced over some axes, which stay with size 1."""
    return tuple([1 if i in axes else size for i, size in enumerate(shape)])


@dataclass(frozen=True)
class ReduceSpec(Typed):
    """A reduction of arrays of ``shape`` over ``axes``; ``kind`` as in csrc/fastconv.h, which has the formulas.

    ``parameter``: what a sum is divided by, the correction of a variance, or what is added to it.
    ``root_mean_square``: the mean is taken for 0.
    """

    kind: str
    types: Types
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    parameter: float = 0.0
    root_mean_square: bool = False

    @cached_property
    def empty(self) -> bool:
        return prod(self.shape) == 0

    @cached_property
    def kept_shape(self) -> tuple[int, ...]:
        """That of results of the reduction: 1 along the axes that are reduced."""
        return kept_shape(self.shape, self.axes)

    @cached_property
    def count(self) -> int:
        """Elements that each result reduces."""
        return prod([self.shape[i] for i in self.axes])


def channel_axis(layout: Any, ndim: int) -> int:
    """The axis of the channels in an array (n, c, *size) of so many axes, or (n, *size, c); ValueError for no layout.

    Of other sizes than one to three, and of none, ``"NCHW"`` and ``"NHWC"`` say where the channels are.
    """
    spatial = ndim - 2 if 1 <= ndim - 2 <= 3 else 2
    return ndim - 1 if channels_last(layout, spatial) else 1


def axis_of(name: str, value: Any, ndim: int) -> int:
    """``value`` as the number of an axis, from 0 on; TypeError or ValueError names the argument."""
    most = max(ndim, 1)
    try:
        axis = index(value)
    except TypeError:
        raise TypeError(f"{name}={shown(value)}: allowed is an int from {-most} to {most - 1}") from None
    if not -most <= axis < most:
        raise ValueError(f"{name}={shown(value)}: allowed is an int from {-most} to {most - 1}")
    return axis % most


def axes_of(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    """An axis, a sequence of some, or None for all, as numbers from 0 on that rise; of no axes, none.

    TypeError or ValueError names the argument.
    """
    if value is None:
        return tuple(range(ndim))
    if not isinstance(value, (tuple, list)):
        axes = [axis_of(name, value, ndim)]
    else:
        axes = [axis_of(name, v, ndim) for v in value]
        if not axes or len(set(axes)) != len(axes):
            raise ValueError(f"{name}={shown(value)}: allowed is None, or at least one axis, and each once")
    return tuple(sorted(axes)) if ndim else ()
