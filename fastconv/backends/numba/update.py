"""Steps of optimizers. A piece of work is some elements of the parameter, in the order of its axes."""

from __future__ import annotations

import math
from math import prod
from typing import Any

import numpy as np

from ..._threads import get_num_threads
from ...spec import UPDATES, UpdateSpec
from .core import workers
from .core.arrays import addresses_of
from .core.compile import jit
from .core.intrinsics import compact, fetch_add, pointer
from .core.target import ISA

__all__ = ["UpdateKernel"]

#: Elements below which waking another thread costs more than it saves, and those of a piece.
_FLOOR, _PIECE = 65536, 16384

_NUMBERS = {rule: number for number, rule in enumerate(UPDATES)}


@jit
def walk(counter, pieces, rule, nesterov, numbers, there, sizes, strides, addresses, like):
    """Every piece that is left. Arrays: the parameter, the gradient, three that are remembered where they are there."""
    compact()
    w, g = pointer(addresses[0], like), pointer(addresses[1], like)
    first, second, third = pointer(addresses[2], like), pointer(addresses[3], like), pointer(addresses[4], like)
    rate, decay, kept, a, b, eps, per_root = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]
    )  # fmt: skip
    last = len(sizes) - 1
    count, total = sizes[last], 1
    for size in sizes:
        total *= size
    at = np.zeros(5, np.int64)
    while True:
        piece = fetch_add(counter)
        if piece >= pieces:
            return
        i, end = piece * _PIECE, min(total, (piece + 1) * _PIECE)
        while i < end:
            column, row = i % count, i // count
            for k in range(5):
                at[k] = column * strides[k, last]
            for axis in range(last - 1, -1, -1):
                position = row % sizes[axis]
                row //= sizes[axis]
                for k in range(5):
                    at[k] += position * strides[k, axis]
            here = min(count - column, end - i)
            for j in range(here):
                i0, i2 = at[0] + j * strides[0, last], at[2] + j * strides[2, last]
                i3, i4 = at[3] + j * strides[3, last], at[4] + j * strides[4, last]
                value, slope = float(w[i0]) * kept, float(g[at[1] + j * strides[1, last]])
                if decay != 0:
                    slope += decay * value
                move = slope
                if rule == 0:
                    if there[0]:
                        move = a * float(first[i2]) + slope
                        first[i2] = move
                        if nesterov:
                            move = slope + a * move
                elif rule == 1:
                    mean, square = float(first[i2]), float(second[i3])
                    mean += a * (slope - mean)
                    square += b * (slope * slope - square)
                    first[i2], second[i3] = mean, square
                    move = mean / (math.sqrt(square) * per_root + eps)
                else:
                    square = float(first[i2])
                    square += b * (slope * slope - square)
                    first[i2] = square
                    if there[1]:
                        mean = float(second[i3])
                        mean += b * (slope - mean)
                        second[i3] = mean
                        square = max(square - mean * mean, 0.0)
                    move = slope / (math.sqrt(square) + eps)
                    if there[2]:
                        move += a * float(third[i4])
                        third[i4] = move
                w[i0] = value - rate * move
            i += here


class UpdateKernel:
    backend = "numba"
    isa = ISA
    workspace_bytes = 0
    algorithm = "elementwise"
    reason = "element by element, in float64"

    def __init__(self, spec: UpdateSpec) -> None:
        self.spec = spec
        there = (*spec.remembered, False, False)[:3]
        self._rule = _NUMBERS[spec.rule], spec.nesterov
        self._there = np.array(there)
        self._total = prod(spec.shape)
        self._pieces = -(-self._total // _PIECE)
        self._like = np.empty(0, spec.dtype)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """An update has no weights: what comes is returned."""
        return w

    def __call__(self, *arrays: Any) -> None:
        *arrays, numbers = arrays
        # What is not there is not looked at.
        given = [arrays[0] if a is None else a for a in arrays]
        shape, strides = self.spec.shape, [a.strides for a in given]
        if not shape or all(a.flags.c_contiguous for a in given):
            shape, strides = (self._total,), [(self._like.itemsize,)] * 5
        steps = np.array(strides, np.int64) // self._like.itemsize
        sizes, addresses, counter = np.array(shape, np.int64), addresses_of(*given), np.zeros(1, np.int64)
        threads = min(get_num_threads(), self._pieces) if self._total >= _FLOOR else 1
        work = (counter, self._pieces, *self._rule, numbers, self._there, sizes, steps, addresses, self._like)
        workers.run(lambda: walk(*work), threads)
