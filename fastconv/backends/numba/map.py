"""Elementwise functions. A piece of work is some elements of the result, in the order of its axes."""

from __future__ import annotations

from math import ceil, prod

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

#: The seed and the offset of what has none.
_NONE = np.zeros(2, np.uint64)

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


@part
def _philox(block, seed, offset, word):
    """The four words of Philox4x32-10 (Salmon et al., 2011), all numbers being uint64."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    key0, key1 = seed & low, seed >> shift
    c0, c1, c2, c3 = block, np.uint64(0), offset & low, offset >> shift
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> shift) ^ c1 ^ key0, b & low, (a >> shift) ^ c3 ^ key1, a & low
        key0, key1 = (key0 + np.uint64(0x9E3779B9)) & low, (key1 + np.uint64(0xBB67AE85)) & low
    word[0], word[1], word[2], word[3] = c0, c1, c2, c3


@jit
def walk(counter, pieces, operation, kind, parameters, sizes, strides, addresses, like, numbers):
    """Every piece that is left. Strides are those of three operands, where there are fewer those of the last once more,
    and of the result. Dropout's second operand is the random numbers of ``numbers``, a seed and an offset."""
    compact()
    a, b, c = pointer(addresses[0], like), pointer(addresses[1], like), pointer(addresses[2], like)
    out = pointer(addresses[3], like)
    last = len(sizes) - 1
    word, known = np.empty(4, np.uint64), -1
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
            if operation == 15:
                for k in range(here):
                    number = at_b + k * strides[1, last]
                    if number // 4 != known:
                        known = number // 4
                        _philox(np.uint64(known), numbers[0], numbers[1], word)
                    value = float(a[at_a + k * strides[0, last]]) * parameters[1]
                    kept = float(word[number % 4]) >= parameters[0]
                    out[at + k * strides[3, last]] = value if kept else 0.0
            else:
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
        if spec.operation == "dropout":
            parameters = [ceil(spec.p * 2**32), 1 / (1 - spec.p) if spec.p < 1 else 0]
        self._function = _NUMBERS[spec.operation], number, np.array(parameters, np.float64)
        self._total = prod(spec.shape)
        self._pieces = -(-self._total // _PIECE)
        self._like = np.empty(0, spec.dtype)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A map has no weights: what comes is returned."""
        return w

    def __call__(self, *arrays: np.ndarray) -> None:
        *operands, out = arrays
        places, numbers = (), _NONE
        if self.spec.operation == "dropout":
            (*operands, numbers), places = operands, self.spec.places
        given = [*operands, *operands[-1:] * (3 - len(operands)), out]
        shape, strides = self.spec.shape, [a.strides for a in given]
        if places:
            strides[1] = tuple([place * out.itemsize for place in places])
        elif not shape or all(a.flags.c_contiguous for a in given):
            shape, strides = (self._total,), [(out.itemsize,)] * 4
        steps = np.array(strides, np.int64) // out.itemsize
        sizes, addresses, counter = np.array(shape, np.int64), addresses_of(*given), np.zeros(1, np.int64)
        threads = min(get_num_threads(), self._pieces) if self._total >= _FLOOR else 1
        rest = *self._function, sizes, steps, addresses, self._like, numbers
        workers.run(lambda: walk(counter, self._pieces, *rest), threads)
