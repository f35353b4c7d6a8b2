"""The spec of a copy, what padding repeats included, and of its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ..arguments import MOST, index, shown
from .common import check_elements
from .types import Typed, Types

#: How padding goes on, in the order of the C library's and Numba's numbers.
PAD_MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class CopySpec(Typed):
    """``out`` has, along each axis, the positions from ``-before`` to ``size + after`` of x, which is of ``shape``.

    Positions of x are 0 to ``size - 1``: negative numbers leave some out; what the others hold ``mode`` says.
    ``types``: ``x`` of what is read, ``y`` of out. ``value``: the bits of an element of out, as an int. ``backward``:
    the gradient, of padded dy to dx, which is of ``shape``: each element is the sum of all to which it was copied.
    """

    types: Types
    shape: tuple[int, ...]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    mode: str = "constant"
    value: int = 0
    backward: bool = False

    def __post_init__(self) -> None:
        check_elements("x", self.shape)
        check_elements("the result", self.padded_shape)

    @cached_property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Before and after each axis."""
        return tuple(zip(self.before, self.after, strict=True)) or ((0, 0),) * len(self.shape)

    @cached_property
    def padded_shape(self) -> tuple[int, ...]:
        return tuple([size + before + after for size, (before, after) in zip(self.shape, self.pads, strict=True)])

    @cached_property
    def empty(self) -> bool:
        return prod(self.shape) == 0


def pads_of(name: str, value: Any, axes: tuple[int, ...], ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pairs of ints for these axes as the numbers before and after each of ``ndim``; the others have none.

    TypeError or ValueError names the argument.
    """
    allowed = f"a pair of ints for each of up to {len(axes)} axes, the last first"
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}={shown(value)}: allowed is {allowed}")
    try:
        numbers = [index(v) for v in value]
    except TypeError:
        raise TypeError(f"{name}={shown(value)}: allowed is {allowed}") from None
    if len(numbers) % 2 or len(numbers) > 2 * len(axes) or any(abs(n) > MOST for n in numbers):
        raise ValueError(f"{name}={shown(value)}: allowed is {allowed}")
    before, after = [0] * ndim, [0] * ndim
    for axis, first, last in zip(axes, numbers[::2], numbers[1::2], strict=False):
        before[axis], after[axis] = first, last
    return tuple(before), tuple(after)
