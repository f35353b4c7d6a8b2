"""The spec of a step of an optimizer: a parameter moves by its gradient and by what is remembered of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

from .types import Typed, Types

#: rule -> what it may remember, in the order of a kernel's arrays.
UPDATES: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "grad_avg", "momentum_buffer"),
}


class UpdateNumbers(NamedTuple):
    """What one step computes with, as csrc/fastconv.h has it."""

    rate: float
    decay: float = 0.0
    kept: float = 1.0
    a: float = 0.0
    b: float = 0.0
    eps: float = 0.0
    per_root: float = 1.0
    unused: float = 0.0


@dataclass(frozen=True)
class UpdateSpec(Typed):
    """A step of arrays of ``shape`` by a rule of ``UPDATES``; ``remembered`` says which of its arrays there are."""

    rule: str
    types: Types
    shape: tuple[int, ...]
    remembered: tuple[bool, ...]
    nesterov: bool = False

    @cached_property
    def empty(self) -> bool:
        return prod(self.shape) == 0
