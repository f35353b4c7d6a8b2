"""The spec of a matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .activation import Activation
from .types import Typed, Types


@dataclass(frozen=True)
class GemmSpec(Typed):
    """``out = activation(alpha a @ b + beta c + bias)`` for ``batch`` matrices a (m, k), b (k, n), out (m, n).

    ``bias`` has n elements, one a column. ``c`` (where ``use_c``) has the shape of out and is read only then.
    """

    types: Types
    batch: int
    m: int
    n: int
    k: int
    bias: bool = False
    use_c: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    activation: Activation | None = None

    @cached_property
    def empty(self) -> bool:
        return self.batch * self.m * self.n * self.k == 0
