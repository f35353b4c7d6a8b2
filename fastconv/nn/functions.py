"""Where the branches of a network meet: functions for ``forward``."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

import numpy as np

from ..arrays import as_array
from ..ops.copy import concat
from ..ops.elementwise import add as _add
from .tape import record

__all__ = ["add", "concatenate"]


def add(*arrays: np.ndarray) -> np.ndarray:
    """The sum of two arrays or more, such as a residual connection. TypeError or ValueError unless shape and dtype are
    one."""
    _checked(arrays)
    return record(reduce(_add, arrays), *((x, _unchanged) for x in arrays))


def concatenate(arrays: Sequence[np.ndarray], axis: int = 1) -> np.ndarray:
    """Two arrays or more, one behind the other along ``axis`` (1 has the channels in NCHW, -1 in NHWC).

    TypeError or ValueError unless they are equal in dtype and along the other axes.
    """
    arrays = tuple(arrays)
    axis = _checked(arrays, operator.index(axis))
    ends = np.cumsum([x.shape[axis] for x in arrays]).tolist()
    parts = [(slice(None),) * axis + (slice(end - x.shape[axis], end),) for x, end in zip(arrays, ends, strict=True)]
    operands = ((x, lambda dy, part=part: dy[part]) for x, part in zip(arrays, parts, strict=True))
    return record(concat(arrays, axis), *operands)


def _checked(arrays: tuple[np.ndarray, ...], axis: int | None = None) -> int:
    """Raise unless the arrays are equal in dtype and along all axes but ``axis``; returns that axis from the front."""
    if len(arrays) < 2:
        raise ValueError(f"arrays has length {len(arrays)}: allowed is 2 or more")
    first = as_array("arrays[0]", arrays[0])
    if axis is not None and not -first.ndim <= axis < first.ndim:
        raise ValueError(f"axis={axis}: allowed is an axis of arrays[0] of shape {first.shape}")
    axis = first.ndim if axis is None else axis % first.ndim
    for i, x in enumerate(arrays[1:], 1):
        shape = as_array(f"arrays[{i}]", x, first.dtype).shape
        if len(shape) != first.ndim or shape[:axis] + shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]:
            raise ValueError(f"arrays[{i}] has shape {shape}: that of arrays[0] is {first.shape}")
    return axis


def _unchanged(dy: np.ndarray) -> np.ndarray:
    return dy
