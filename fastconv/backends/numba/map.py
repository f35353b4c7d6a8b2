"""Elementwise functions. A piece of work is some elements of the result, in the order of its axes."""

from __future__ import annotations

from math import prod

import numpy as np

from ..._threads import get_num_threads
from ...spec import MAPS, MapSpec
from .core import workers
from .core.activations import activated, activation_number, slope
from .core.arrays import addresses_of
from .core.compile import jit, part
from .core.intrinsics import compact, fetch_add, pointer
from .core.target import ISA

__all__ = ["MapKernel"]

#: Elements below which waking another thread costs more than it saves, and those of a piece.
_FLOOR, _PIECE = 65536, 16384

_NUMBERS = {name: number for number, name in enumerate(MAPS)}


@part
def _value(operation, kind, alpha, beta, a, b, c):
    """One element of the result, of one of each operand."""
    if operation == 0:
        return activated(kind, a, alpha, beta)
    if operation == 1:
        by = slope(kind, b, alpha, beta)
        # Where a function is constant, whatever dy is.
        constant = by == 0 and (kind == 1 or kind == 3 or kind == 7 or kind == 16 or kind == 19)
        return 0.0 if constant else a * by
    if operation == 2:
        return a + b
    if operation == 3:
        return a - b
    if operation == 4:
        return a * b
    if operation == 5:
        return a / b
    if operation == 6:
        return a if a > b or a != a else b
    if operation == 7:
        return a if a < b or a != a else b
    if operation == 8:
        return a * b + c
    if operation == 9:
        return a if a > 0 else a * b
    if operation == 10:
        return a if b > 0 else a * c
    if operation == 11:
        return 0.0 if b > 0 else a * b
    if operation == 12:
        return -a * (b / c / c)
    half = a / 2 if b == c else a
    if operation == 13:
        return 0.0 if b < c else half
    return 0.0 if b > c else half


@jit
def walk(counter, pieces, operation, kind, parameters, sizes, strides, addresses, like):
    """Every piece that is left. Strides are those of three operands, where there are fewer those of the last once more,
    and of the result."""
    compact()
    a, b, c = pointer(addresses[0], like), pointer(addresses[1], like), pointer(addresses[2], like)
    out = pointer(addresses[3], like)
    last = len(sizes) - 1
    count, total = sizes[last], 1
    for size in sizes:
        total *= size
    while True:
        piece = fetch_add(counter)
        if piece >= pieces:
            return
        i, end = piece * _PIECE, min(total, (piece + 1) * _PIECE)
        while i < end:
            first, row = i % count, i // count
            at_a, at_b, at_c, at = (
                first * strides[0, last], first * strides[1, last], first * strides[2, last], first * strides[3, last]
            )  # fmt: skip
            for axis in range(last - 1, -1, -1):
                position = row % sizes[axis]
                row //= sizes[axis]
                at_a += position * strides[0, axis]
                at_b += position * strides[1, axis]
                at_c += position * strides[2, axis]
                at += position * strides[3, axis]
            here = min(count - first, end - i)
            for k in range(here):
                out[at + k * strides[3, last]] = _value(
                    operation, kind, parameters[0], parameters[1],
                    float(a[at_a + k * strides[0, last]]),
                    float(b[at_b + k * strides[1, last]]),
                    float(c[at_c + k * strides[2, last]]),
                )  # fmt: skip
            i += here


class MapKernel:
    backend = "numba"
    isa = ISA
    workspace_bytes = 0

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec
        self.algorithm = "elementwise"
        self.reason = "element by element, in float64"
        number, *parameters = activation_number(spec.activation)
        self._function = _NUMBERS[spec.operation], number, np.array(parameters, np.float64)
        self._total = prod(spec.shape)
        self._pieces = -(-self._total // _PIECE)
        self._like = np.empty(0, spec.dtype)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A map has no weights: what comes is returned."""
        return w

    def __call__(self, *arrays: np.ndarray) -> None:
        *operands, out = arrays
        given = [*operands, *operands[-1:] * (3 - len(operands)), out]
        shape, strides = self.spec.shape, [a.strides for a in given]
        if not shape or all(a.flags.c_contiguous for a in given):
            shape, strides = (self._total,), [(out.itemsize,)] * 4
        steps = np.array(strides, np.int64) // out.itemsize
        sizes, addresses, counter = np.array(shape, np.int64), addresses_of(*given), np.zeros(1, np.int64)
        threads = min(get_num_threads(), self._pieces) if self._total >= _FLOOR else 1
        workers.run(lambda: walk(counter, self._pieces, *self._function, sizes, steps, addresses, self._like), threads)
