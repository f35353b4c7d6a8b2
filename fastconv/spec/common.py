"""What all specs share: limits of sizes, ints and layouts as callers write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ..arguments import MOST, index, shown

#: More elements than this in one array are refused: offsets inside a kernel stay below 2^31 by design.
MAX_ELEMENTS = 2**31 - 1

#: What ``int_tuple`` takes: one for all spatial dimensions, or one for each.
Ints = int | Sequence[int]

_LAYOUTS = {
    1: {"NCL": False, "NCHW": False, "NLC": True, "NHWC": True},
    2: {"NCHW": False, "NHWC": True},
    3: {"NCDHW": False, "NCHW": False, "NDHWC": True, "NHWC": True},
}


def int_tuple(value: Any, ndim: int, name: str, minimum: int) -> tuple[int, ...]:
    """An int or a sequence of ``ndim`` ints as a tuple; ValueError or TypeError names the argument."""
    allowed = f"an int >= {minimum} or {ndim} of them, below 2^63"
    try:
        items = (index(value),) * ndim
    except TypeError:
        try:
            items = tuple(map(index, value if isinstance(value, (tuple, list, np.ndarray)) else (value,)))
        except TypeError:
            raise TypeError(f"{name}={shown(value)}: allowed is {allowed}") from None
    if len(items) != ndim or not all(minimum <= item <= MOST for item in items):
        raise ValueError(f"{name}={shown(value)}: allowed is {allowed}")
    return items


def channels_last(layout: str, ndim: int) -> bool:
    """Whether ``layout`` puts the channels last; ValueError lists the layouts of this rank."""
    table = _LAYOUTS[ndim]
    if not isinstance(layout, str) or layout not in table:
        raise ValueError(f"layout={shown(layout)}: allowed is {' or '.join(map(repr, table))}")
    return table[layout]


class HashedOnce:
    """What a spec is beside a frozen dataclass: its hash is computed once, as that takes as long as a small layer.

    A pickle or a copy holds the fields alone: hashes of strings, and so of a spec, are others in another process.
    """

    def __init_subclass__(cls) -> None:
        # A frozen dataclass leaves its own alone, but makes another one in place of an inherited one.
        cls.__hash__ = HashedOnce.__hash__  # type: ignore[method-assign]

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(self.__getstate__().values()))

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def check_elements(name: str, shape: tuple[int, ...]) -> None:
    """ValueError for an array of more elements than are allowed; an empty one's other sizes are held to the same."""
    elements = prod(size or 1 for size in shape)
    if elements > MAX_ELEMENTS:
        raise ValueError(f"{name} of shape {shape} spans {elements} elements; at most {MAX_ELEMENTS} are allowed")
