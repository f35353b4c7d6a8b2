"""Reductions, row by row: the axes that are kept are the rows, those that are reduced the columns. Sums are float64."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..._threads import get_num_threads
from ...spec import REDUCTIONS, ReduceSpec
from .core import workers
from .core.compile import jit, part
from .core.intrinsics import fetch_add
from .core.target import ISA

__all__ = ["ReduceKernel"]

_NUMBERS = {kind: number for number, kind in enumerate(REDUCTIONS)}
(
    _SUM, _MOMENTS, _MAX, _MIN, _AFFINE, _NORMALIZE, _NORMALIZE_BACKWARD, _NORMALIZE_SUMS, _SOFTMAX, _LOG_SOFTMAX,
    _SOFTMAX_BACKWARD, _LOG_SOFTMAX_BACKWARD,
) = range(len(REDUCTIONS))  # fmt: skip

#: Elements of a piece of work.
_PIECE = 32 * 1024

#: Terms that are added one after the other; what such blocks give is added up, so that roundings of long sums stay few.
_BLOCK = 1024


@part
def _at(a, row, column):
    """An element of an array that has all rows, or one for all; likewise columns."""
    return np.float64(a[row if a.shape[0] > 1 else 0, column if a.shape[1] > 1 else 0])


@part
def _extreme(x, row, columns, sign):
    best, place = sign * _at(x, row, 0), 0
    for i in range(1, columns):
        value = sign * _at(x, row, i)
        if best == best and (value > best or value != value):
            best, place = value, i
    return sign * best, place


@part
def _sum(x, row, columns):
    total = 0.0
    for start in range(0, columns, _BLOCK):
        block = 0.0
        for i in range(start, min(columns, start + _BLOCK)):
            block += _at(x, row, i)
        total += block
    return total


@part
def _moments(x, row, columns, root_mean_square):
    """The mean and the sum of the squares around it."""
    mean = 0.0 if root_mean_square else _sum(x, row, columns) / columns
    squares = 0.0
    for start in range(0, columns, _BLOCK):
        block = 0.0
        for i in range(start, min(columns, start + _BLOCK)):
            block += (_at(x, row, i) - mean) ** 2
        squares += block
    return mean, squares


@part
def _sums(dy, x, m, s, w, row, columns):
    """Of g = dy w, and of g h, where h = (x - m) s."""
    of_g, of_gh = 0.0, 0.0
    for start in range(0, columns, _BLOCK):
        block_g, block_gh = 0.0, 0.0
        for i in range(start, min(columns, start + _BLOCK)):
            g = _at(dy, row, i) * _at(w, row, i)
            block_g += g
            block_gh += g * ((_at(x, row, i) - _at(m, row, i)) * _at(s, row, i))
        of_g += block_g
        of_gh += block_gh
    return of_g, of_gh


@part
def _softmax(x, row, columns, out, logarithm):
    """Into the row, if there is one; what the logarithm takes off comes back."""
    most = _extreme(x, row, columns, 1.0)[0]
    total = 0.0
    for i in range(columns):
        total += np.exp(_at(x, row, i) - most)
    shift = np.log(total)
    for i in range(columns if row < out.shape[0] else 0):
        value = _at(x, row, i) - most
        out[row, i] = value - shift if logarithm else np.exp(value) / total
    return most, shift


@part
def _softmax_backward(dy, y, row, columns, out, logarithm):
    total = 0.0
    for i in range(columns):
        total += _at(dy, row, i) * (1.0 if logarithm else _at(y, row, i))
    for i in range(columns):
        value = _at(y, row, i)
        if logarithm:
            out[row, i] = _at(dy, row, i) - np.exp(value) * total
        else:
            out[row, i] = value * (_at(dy, row, i) - total)


@jit
def rows(counter, count, columns, together, kind, parameter, root_mean_square, x, y, m, s, w, v, out, results):
    """Take so many rows together, until none is left."""
    first = fetch_add(counter) * together
    while first < count:
        for row in range(first, min(count, first + together)):
            if kind == _SUM:
                results[1, row] = _sum(x, row, columns) / parameter
            elif kind == _MOMENTS:
                mean, squares = _moments(x, row, columns, False)
                results[1, row], results[2, row] = mean, squares / max(columns - parameter, 0.0)
            elif kind in (_MAX, _MIN):
                results[1, row], results[2, row] = _extreme(x, row, columns, 1.0 if kind == _MAX else -1.0)
            elif kind == _AFFINE:
                for i in range(columns):
                    value = (_at(x, row, i) - _at(m, row, i)) * _at(s, row, i)
                    out[row, i] = value * _at(w, row, i) + _at(v, row, i)
            elif kind == _NORMALIZE:
                mean, squares = _moments(x, row, columns, root_mean_square)
                var = squares / columns
                rstd = 1 / np.sqrt(var + parameter)
                results[1, row], results[2, row], results[3, row] = mean, rstd, var
                for i in range(columns):
                    out[row, i] = (_at(x, row, i) - mean) * rstd * _at(w, row, i) + _at(v, row, i)
            elif kind in (_NORMALIZE_BACKWARD, _NORMALIZE_SUMS):
                of_g, of_gh = _sums(x, y, m, s, w, row, columns)
                results[1, row], results[2, row] = of_g, of_gh
                if kind == _NORMALIZE_BACKWARD:
                    of_g = 0.0 if root_mean_square else of_g / columns
                    for i in range(columns):
                        r = _at(s, row, i)
                        h = (_at(y, row, i) - _at(m, row, i)) * r
                        g = _at(x, row, i) * _at(w, row, i)
                        out[row, i] = (g - of_g - h * (of_gh / columns)) * r * _at(v, row, i)
            elif kind in (_SOFTMAX, _LOG_SOFTMAX):
                results[1, row], results[2, row] = _softmax(x, row, columns, out, kind == _LOG_SOFTMAX)
            else:
                _softmax_backward(x, y, row, columns, out, kind == _LOG_SOFTMAX_BACKWARD)
        first = fetch_add(counter) * together


class ReduceKernel:
    backend = "numba"
    isa = ISA
    algorithm = "rows"
    reason = "each result by itself, over rows that are contiguous"
    workspace_bytes = 0

    def __init__(self, spec: ReduceSpec) -> None:
        self.spec = spec
        kept = tuple(i for i in range(len(spec.shape)) if i not in spec.axes)
        self._order, self._kept = (*kept, *spec.axes), len(kept)
        self._dtype = np.dtype(spec.dtype)
        # Of operands that are absent: what they are then.
        names = REDUCTIONS[spec.kind][:6]
        self._neutral = [np.full((1, 1), name in ("s", "w", "v"), self._dtype) for name in names]

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w

    def _matrix(self, a: np.ndarray) -> np.ndarray:
        """An operand as rows and columns: all, or one where it is the same in all."""
        a = a.transpose(self._order)
        parts = []
        for sizes, whole in (
            (a.shape[: self._kept], [self.spec.shape[i] for i in self._order[: self._kept]]),
            (a.shape[self._kept :], [self.spec.shape[i] for i in self._order[self._kept :]]),
        ):
            parts.append(list(sizes) if prod(sizes) == 1 else whole)
        a = np.broadcast_to(a, (*parts[0], *parts[1]))
        return np.ascontiguousarray(a.reshape(prod(parts[0]), prod(parts[1])))

    def __call__(self, *arrays: Any) -> None:
        spec = self.spec
        operands = [n if a is None else self._matrix(a) for a, n in zip(arrays, self._neutral, strict=False)]
        columns, out = spec.count, arrays[6]
        count = prod(spec.shape) // columns
        unseen = out is None and spec.kind != "normalize"
        made = np.empty((0 if unseen else count, columns), self._dtype)
        results, counter = np.empty((4, count)), np.zeros(1, np.int64)
        together = 1 + _PIECE // columns

        def work() -> None:
            rows(
                counter, count, columns, together, _NUMBERS[spec.kind], spec.parameter, spec.root_mean_square,
                *operands, made, results,
            )  # fmt: skip

        pieces = -(-count // together)
        threads = get_num_threads() if prod(spec.shape) >= workers.WORK_FLOOR // 16 else 1
        workers.run(work, min(threads, pieces))
        if out is not None:
            shape = [spec.shape[i] for i in self._order]
            out.transpose(self._order)[...] = made.reshape(shape)
        for result, found in zip(arrays[7:], results[1:], strict=True):
            if result is not None:
                result[...] = found.reshape(result.shape)
