"""The spec of an elementwise function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from .activation import Activation
from .common import check_elements
from .types import Typed, Types

#: name -> how many arrays it takes, in the order of the C library's and Numba's numbers.
#:
#: ``activate`` (of x) and ``activate_backward`` (of dy and x) have an activation. ``scale_shift``: x, s, t -> x s + t;
#: ``prelu``: x and the slope below 0. The last ones are gradients: of dy, x and slope, that of x; of dy and x, that of
#: the slope; of dy, a and b, that of b in a / b; of dy, a and b, that of a in the maximum or the minimum of both.
#: ``dropout``: of x, and of an array (2,) of uint64, a seed and an offset; see ``MapSpec``.
MAPS: dict[str, int] = {
    "activate": 1,
    "activate_backward": 2,
    "add": 2,
    "subtract": 2,
    "multiply": 2,
    "divide": 2,
    "maximum": 2,
    "minimum": 2,
    "scale_shift": 3,
    "prelu": 2,
    "prelu_backward": 3,
    "prelu_slope": 2,
    "divide_backward": 3,
    "maximum_backward": 3,
    "minimum_backward": 3,
    "dropout": 2,
}


@dataclass(frozen=True)
class MapSpec(Typed):
    """``out = operation(arrays)``, element by element; the arrays are broadcast to ``shape``, which out has.

    ``dropout`` makes 0 with probability ``p``, and x / (1 - p) else. ``places`` number the elements: that at index
    (i, j, ...) has the random number at i places[0] + j places[1] + ...; it is 0 where that is below 2^32 p. Number k
    is word k % 4 of Philox4x32-10 of the counter (k // 4, 0, offset, offset >> 32) and the key (seed, seed >> 32), of
    words of 32 bits.
    """

    operation: str
    types: Types
    shape: tuple[int, ...]
    activation: Activation | None = None
    p: float = 0.0
    places: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_elements("the result", self.shape)

    @cached_property
    def empty(self) -> bool:
        return prod(self.shape) == 0
