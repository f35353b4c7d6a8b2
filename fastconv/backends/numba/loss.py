"""Losses, their sums and their gradients. A piece of work is some elements, in the order of the axes."""

from __future__ import annotations

import math
from math import prod
from typing import Any

import numpy as np

from ..._threads import get_num_threads
from ...spec import LOSSES, LossSpec
from .core import workers
from .core.arrays import addresses_of
from .core.compile import jit, part
from .core.intrinsics import compact, fetch_add, pointer
from .core.target import ISA

__all__ = ["LossKernel"]

#: Elements below which waking another thread costs more than it saves, and those of a piece.
_FLOOR, _PIECE = 65536, 16384

_NUMBERS = {kind: number for number, kind in enumerate(LOSSES)}
_MSE, _L1, _SMOOTH_L1, _HUBER, _BINARY, _BINARY_LOGITS, _KL, _KL_LOG, _CLASSES = range(len(LOSSES))


@part
def _loss(kind, border, x, t, positive):
    apart = abs(x - t)
    if kind == _MSE:
        return apart * apart
    if kind == _L1:
        return apart
    if kind == _SMOOTH_L1:
        return apart * apart / (2 * border) if apart < border else apart - border / 2
    if kind == _HUBER:
        return border * (apart - border / 2) if apart > border else apart * apart / 2
    if kind == _BINARY:
        return (t - 1) * max(math.log1p(-x), -100.0) - t * max(math.log(x), -100.0)
    if kind == _BINARY_LOGITS:
        f = (positive - 1) * t + 1
        return ((1 - t) * x + f * (0.0 if x > 0 else -x)) + f * math.log1p(math.exp(-abs(x)))
    if kind == _KL:
        return (0.0 if t == 0 else t * math.log(t)) - t * x
    return math.exp(t) * (t - x)


@part
def _slope(kind, border, x, t, positive):
    d = x - t
    sign = 1.0 if d > 0 else (-1.0 if d < 0 else d)
    if kind == _MSE:
        return 2 * d
    if kind == _L1:
        return sign
    if kind == _SMOOTH_L1:
        return d / border if abs(d) < border else sign
    if kind == _HUBER:
        return border * sign if abs(d) > border else d
    if kind == _BINARY:
        return d / max(x * (1 - x), 1e-12)
    if kind == _BINARY_LOGITS:
        return (1 - t) / (1 + math.exp(-x)) - positive * t / (1 + math.exp(x))
    if kind == _KL:
        return -t
    if kind == _KL_LOG:
        return -math.exp(t)
    return math.exp(d - positive)


@jit
def walk(counter, pieces, kind, backward, reduced, border, there, sizes, strides, addresses, like, sums):
    """Every piece that is left. Arrays: x, the targets, two of factors and dy where they are there, and the result.

    sums: of the pieces, and one number more, which becomes 1 where an x has no loss.
    """
    compact()
    x, t, weight = pointer(addresses[0], like), pointer(addresses[1], like), pointer(addresses[2], like)
    positive, dy, out = pointer(addresses[3], like), pointer(addresses[4], like), pointer(addresses[5], like)
    last = len(sizes) - 1
    count, total = sizes[last], 1
    for size in sizes:
        total *= size
    at, step = np.zeros(6, np.int64), strides[:, last]
    while True:
        piece = fetch_add(counter)
        if piece >= pieces:
            return
        i, end, piece_sum = piece * _PIECE, min(total, (piece + 1) * _PIECE), 0.0
        while i < end:
            column, row = i % count, i // count
            for k in range(6):
                at[k] = column * step[k]
            for axis in range(last - 1, -1, -1):
                position = row % sizes[axis]
                row //= sizes[axis]
                for k in range(6):
                    at[k] += position * strides[k, axis]
            here = min(count - column, end - i)
            row_sum = 0.0
            for j in range(here):
                one, its = float(x[at[0] + j * step[0]]), float(t[at[1] + j * step[1]])
                p = float(positive[at[3] + j * step[3]]) if there[1] else 1.0
                value = _slope(kind, border, one, its, p) if backward else _loss(kind, border, one, its, p)
                if there[0]:
                    value *= float(weight[at[2] + j * step[2]])
                if backward:
                    value *= float(dy[at[4] + j * step[4]])
                if kind == _BINARY and not (one >= 0 and one <= 1):
                    sums[pieces] = 1.0
                if reduced:
                    row_sum += value
                else:
                    out[at[5] + j * step[5]] = value
            piece_sum += row_sum
            i += here
        if reduced:
            sums[piece] = piece_sum


class LossKernel:
    backend = "numba"
    isa = ISA
    workspace_bytes = 0
    algorithm = "elementwise"
    reason = "element by element, in float64"

    def __init__(self, spec: LossSpec) -> None:
        self.spec = spec
        self._function = _NUMBERS[spec.kind], spec.direction != "fwd", spec.reduced, spec.parameter
        self._there = np.array(spec.factors)
        self._total = prod(spec.shape)
        self._pieces = -(-self._total // _PIECE)
        self._like = np.empty(0, spec.dtype)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A loss has no weights to pack: what comes is returned."""
        return w

    def __call__(self, *arrays: Any) -> None:
        spec, out = self.spec, arrays[-1]
        # What is not there, and the result where it is a sum, is not looked at.
        given = [arrays[0] if a is None or (spec.reduced and a is out) else a for a in arrays]
        shape, whole = spec.shape, [a if a.shape == spec.shape else np.broadcast_to(a, spec.shape) for a in given]
        strides = [a.strides for a in whole]
        if not shape or all(a.flags.c_contiguous for a in whole):
            shape, strides = (self._total,), [(self._like.itemsize,)] * 6
        steps = np.array(strides, np.int64) // self._like.itemsize
        sizes, addresses, counter = np.array(shape, np.int64), addresses_of(*given), np.zeros(1, np.int64)
        threads = min(get_num_threads(), self._pieces) if self._total >= _FLOOR else 1
        sums = np.zeros(self._pieces + 1)
        rest = *self._function, self._there, sizes, steps, addresses, self._like, sums
        workers.run(lambda: walk(counter, self._pieces, *rest), threads)
        if sums[-1]:
            raise ValueError("x is not from 0 to 1")
        if spec.reduced:
            out[...] = np.sum(sums[:-1]) / spec.divisor
