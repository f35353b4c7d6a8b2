"""Jobs that a kernel walks over piece by piece, each thread with a work space of its own: what direct convolution by
rows and by strips have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ...threads import get_num_threads
from . import workers
from .product import WORK_FLOOR, Packed, addresses_of, aligned

__all__ = ["STEPS", "DirectJob", "Gradients", "Results", "Triple"]

_i8 = np.int64
Triple = tuple[int, int, int]

#: Address steps of an image array, and where it begins.
STEPS = np.dtype([("n", _i8), ("c", _i8), ("s0", _i8), ("s1", _i8), ("s2", _i8), ("base", _i8)])


@dataclass
class DirectJob:
    """Outputs ``q`` of ``results`` channels a group from ``channels``: the taps of these numbers read ``image`` at
    ``q step`` plus an offset."""

    n: int
    groups: int
    channels: int
    results: int
    size: Triple
    step: Triple
    image: Triple
    offsets: list[Triple]
    taps: list[int]


class _Walk:
    """A kernel's jobs: records (``problems``) with a ``table`` of offsets, pieces, and the elements of a work space."""

    kernel: Any
    dtype: np.dtype
    jobs: list[DirectJob]
    problems: np.ndarray
    strides: np.ndarray
    table: np.ndarray
    pieces: int
    work: int

    @cached_property
    def macs(self) -> int:
        return sum(j.n * j.groups * j.results * j.channels * len(j.offsets) * prod(j.size) for j in self.jobs)

    def threads(self) -> int:
        """How many of them the pieces employ."""
        return min(get_num_threads(), self.pieces) if self.macs >= WORK_FLOOR else 1

    def walk(self, arrays: tuple[np.ndarray | None, ...], *others: np.ndarray) -> None:
        """Calls the kernel on each thread. ``arrays``: those that it finds by their addresses."""
        addresses = addresses_of(*arrays)
        counter, pieces = np.zeros(1, np.int64), self.pieces

        def work() -> None:
            space = aligned(self.work, self.dtype)
            self.kernel(counter, pieces, self.problems, self.strides, self.table, addresses, *others, space)

        workers.run(work, self.threads())


class Results(_Walk):
    """Jobs that write disjoint parts of one result. ``order``: where, among the weights, the kernel's lie."""

    order: np.ndarray
    scalars: np.ndarray

    @property
    def workspace_bytes(self) -> int:
        return (self.order.size + self.threads() * self.work) * self.dtype.itemsize

    def pack(self, w: np.ndarray) -> Packed:
        """The weights as the kernel reads them."""
        return Packed(np.take(w.reshape(-1), self.order))

    def run(
        self,
        source: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: Packed,
    ) -> None:
        self.walk((source, out, residual, bias), packed.data, self.scalars)


class Gradients(_Walk):
    """A job that sums the gradient of the weights in float64, of that shape."""

    shape: tuple[int, ...]

    @property
    def workspace_bytes(self) -> int:
        return self.threads() * self.work * self.dtype.itemsize + 8 * prod(self.shape)

    def run(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        totals = np.empty(self.shape)
        self.walk((x, dy), totals.reshape(-1))
        return totals
