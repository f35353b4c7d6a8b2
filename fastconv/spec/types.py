"""The types of a problem's numbers: those of its operands, of its sums and of its result, apart."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache, cached_property
from typing import Any

from ..arguments import shown
from .common import HashedOnce

#: What the public functions take, the same for all arrays of a call.
DTYPES = ("float32", "float64")

#: What a maximum may be taken of besides.
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))

#: What a problem may be described in; backends say which of it they compute.
TYPES = ("float16", "bfloat16", *DTYPES, *INTEGERS)


@dataclass(frozen=True, slots=True, repr=False)
class Types:
    """The names of four dtypes; which array is the result does not matter.

    ``x``: of x and its gradient, or of a product's first operand; of all operands of a map. ``w``: of w and its
    gradient, or of a product's second operand; of parameters and statistics of a normalization; where there is no w,
    the same as ``x``. ``y``: of y and its gradient, or of a product's result. A bias and what is added have the type
    of the result. ``acc``: what is summed in, or in a wider one.
    """

    x: str
    w: str
    acc: str
    y: str

    def __post_init__(self) -> None:
        for name in ("x", "w", "acc", "y"):
            value = getattr(self, name)
            if value not in TYPES:
                raise TypeError(f"{name}={shown(value)}: allowed is {', '.join(TYPES)}")

    @staticmethod
    @cache
    def of(dtype: str) -> Types:
        """All four are ``dtype``."""
        return Types(dtype, dtype, dtype, dtype)

    @property
    def alike(self) -> bool:
        return self.x == self.w == self.acc == self.y

    def __repr__(self) -> str:
        return f"Types.of({self.x!r})" if self.alike else f"Types{astuple(self)!r}"

    def __str__(self) -> str:
        """In words."""
        return self.x if self.alike else f"x {self.x}, w {self.w}, sums {self.acc}, y {self.y}"


class Typed(HashedOnce):
    """What every spec is beside a frozen dataclass: it has types, and is hashed once."""

    types: Types

    @property
    def dtype(self) -> str:
        """That of all its numbers; TypeError where they are not of one."""
        if not self.types.alike:
            raise TypeError(f"a problem of {self.types} has no single dtype")
        return self.types.x


class OfImages(Typed):
    """A spec of images whose channels stay as many: from ``in_size`` to ``out_size``, in either layout."""

    n: int
    c: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    channels_last: bool

    @property
    def ndim(self) -> int:
        return len(self.in_size)

    def _shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.n, *size, self.c) if self.channels_last else (self.n, self.c, *size)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return self._shape(self.in_size)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return self._shape(self.out_size)


def types_of(value: Any, allowed: tuple[str, ...] = DTYPES) -> Types:
    """``Types`` as they are, or those of a dtype's name that is ``allowed``; TypeError for others."""
    if isinstance(value, Types):
        return value
    if value not in allowed:
        raise TypeError(f"dtype {value}: allowed is {' or '.join(allowed)}")
    return Types.of(value)
