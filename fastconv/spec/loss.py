"""The spec of a loss of elements and their targets, of its sum, and of its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from .types import Typed, Types

#: In the order of the C library's and Numba's numbers. csrc/fastconv.h has the formulas. ``classes``, of which there is
#: the gradient alone: the softmax of logits, whose largest are the targets, and the logarithms of the sums the factors.
LOSSES = ("mse", "l1", "smooth_l1", "huber", "binary", "binary_logits", "kl", "kl_log", "classes")


@dataclass(frozen=True)
class LossSpec(Typed):
    """A loss of ``LOSSES`` of arrays of ``shape``, its ``direction`` ``"fwd"``, or its gradient in x, ``"bwd_input"``.

    ``reduced``: the sum of all, divided by ``divisor``, instead of the loss of each element. ``parameter``: beta or
    delta. ``factors``: whether there are weights, and whether there are those of the part with the target.
    """

    kind: str
    types: Types
    shape: tuple[int, ...]
    direction: str = "fwd"
    reduced: bool = False
    parameter: float = 0.0
    divisor: float = 1.0
    factors: tuple[bool, bool] = (False, False)

    @cached_property
    def empty(self) -> bool:
        return prod(self.shape) == 0
