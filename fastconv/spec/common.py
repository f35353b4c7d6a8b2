"""What all specs share: limits of sizes, ints and layouts as callers write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
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


def hash_of_fields(spec: Any) -> int:
    """Computed once a spec: it takes as long as a small layer."""
    return hash(tuple(getattr(spec, field.name) for field in fields(spec)))


def fields_alone(spec: Any) -> dict[str, Any]:
    """What a pickle or a copy of a spec holds: hashes of strings, and so of a spec, are others in another process."""
    return {field.name: getattr(spec, field.name) for field in fields(spec)}


def check_elements(name: str, shape: tuple[int, ...]) -> None:
    """ValueError for an array of more elements than are allowed; an empty one's other sizes are held to the same."""
    elements = prod(size or 1 for size in shape)
    if elements > MAX_ELEMENTS:
        raise ValueError(f"{name} of shape {shape} spans {elements} elements; at most {MAX_ELEMENTS} are allowed")
