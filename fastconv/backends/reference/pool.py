"""Pooling: one pass a window element, in the row-major order of the window, over all windows at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...spec import PoolSpec
from .kernel import ReferenceKernel


class PoolKernel(ReferenceKernel):
    algorithm = "one pass a window element"

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec

    def __call__(self, first: np.ndarray, *others: np.ndarray | None) -> None:
        if self.spec.direction == "fwd":
            self._forward(first, *others)
        else:
            self._backward(first, *others)

    def _forward(self, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None) -> None:
        x = self._channels_first(x)
        if self.spec.kind == "max":
            # In the dtype of x: float64 does not hold every integer.
            result, position = self._max(x)
            if indices is not None:
                self._channels_first(indices)[...] = position
        else:
            result = self._sum(x.astype(np.float64)) / self._divisor()
        self._channels_first(out)[...] = result

    def _backward(self, dy: np.ndarray, x: np.ndarray | None, indices: np.ndarray | None, out: np.ndarray) -> None:
        dy = self._channels_first(dy).astype(np.float64)
        spec = self.spec
        dx = np.zeros((spec.n, spec.c, *spec.in_size))
        if spec.kind == "max":
            if indices is None:
                position = self._max(self._channels_first(x))[1]
            else:
                position = self._channels_first(indices)
                if position.min() < 0 or position.max() >= np.prod(spec.in_size):
                    raise IndexError
            planes = dx.reshape(spec.n * spec.c, -1)
            rows = np.arange(spec.n * spec.c)[:, None]
            np.add.at(planes, (rows, position.reshape(planes.shape[0], -1)), dy.reshape(planes.shape[0], -1))
        else:
            share = dy / self._divisor()
            for where, inside in self._elements():
                np.add.at(dx, where, np.where(inside, share, 0))
        self._channels_first(out)[...] = dx

    def _channels_first(self, x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, -1, 1) if self.spec.channels_last else x

    def _elements(self) -> Iterator[tuple[tuple, np.ndarray]]:
        """For each window element, in row-major order: its place in x for every output, and which windows have it."""
        spec = self.spec
        starts, ends, _ = zip(*map(spec.windows, range(spec.ndim)), strict=True)
        # Taps further apart than the input is long: one of them is inside.
        steps = [min(step, size) for step, size in zip(spec.dilation, spec.in_size, strict=True)]
        longest = [int(np.max(-(-(end - start) // step))) for start, end, step in zip(starts, ends, steps, strict=True)]
        for element in product(*map(range, longest)):
            places = [start + e * step for start, e, step in zip(starts, element, steps, strict=True)]
            inside = _mesh([place < end for place, end in zip(places, ends, strict=True)])
            clipped = _mesh([np.minimum(place, end - 1) for place, end in zip(places, ends, strict=True)])
            yield (slice(None), slice(None), *clipped), np.all(inside, axis=0)

    def _max(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The maxima and their flat positions in a channel plane: the first of equal ones, the last NaN."""
        spec = self.spec
        best = np.zeros((spec.n, spec.c, *spec.out_size), x.dtype)
        position = np.full(best.shape, -1)
        plane = np.arange(np.prod(spec.in_size)).reshape(spec.in_size)
        for where, inside in self._elements():
            value = x[where]
            better = inside & ((position < 0) | (value > best) | (value != value))
            best = np.where(better, value, best)
            position = np.where(better, plane[where[2:]], position)
        return best, position

    def _sum(self, x: np.ndarray) -> np.ndarray:
        total = np.zeros((self.spec.n, self.spec.c, *self.spec.out_size))
        for where, inside in self._elements():
            total += np.where(inside, x[where], 0)
        return total

    def _divisor(self) -> np.ndarray | float:
        """What a window's sum is divided by, for every output."""
        if self.spec.kind == "sum":
            return 1.0
        if self.spec.divisor is not None:
            return self.spec.divisor
        return np.prod(_mesh([self.spec.windows(dim)[2] for dim in range(self.spec.ndim)]), axis=0)


def _mesh(vectors: list[np.ndarray]) -> list[np.ndarray]:
    """One vector a dimension as arrays over all their combinations."""
    return np.meshgrid(*vectors, indexing="ij")
