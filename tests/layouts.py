"""Arrays and layout names of both layouts; problems are written with the channels first."""

from __future__ import annotations

import numpy as np

FIRST = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


def name(last: bool, ndim: int) -> str:
    return (LAST if last else FIRST)[ndim]


def to(x: np.ndarray, last: bool) -> np.ndarray:
    """(n, c, *size) in the layout, contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
