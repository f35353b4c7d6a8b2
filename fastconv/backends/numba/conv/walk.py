"""Jobs that a kernel walks over piece by piece, each thread with a work space of its own: what direct convolution by
rows and by strips have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ...._threads import get_num_threads
from ....spec import Activation
from ..core import workers
from ..core.activations import activation_number
from ..core.arrays import Packed, addresses_of, aligned
from .layer import STEPS, Layer, Triple

__all__ = ["DirectJob", "Gradients", "Phases", "Results", "Walk", "jobs_of"]


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


def jobs_of(layer: Layer) -> tuple[list[DirectJob], list[Triple]]:
    """A layer's phases as jobs, and where each one's results begin."""
    jobs, begins = [], []
    for size, begin, taps in layer.phases(with_taps=False):
        numbers = [(a * layer.kernel[1] + b) * layer.kernel[2] + c for (a, b, c), _ in taps]
        offsets = [offset for _, offset in taps]
        n, groups = layer.spec.n, layer.spec.groups
        jobs.append(DirectJob(n, groups, *layer.channels, size, layer.step, layer.sizes[0], offsets, numbers))
        begins.append(begin)
    return jobs, begins


@dataclass
class Phases:
    """Jobs that make one result of size ``full``: where each one's results begin in it, how far apart they are. For a
    result: how many taps the weights have, what is added, what is done then."""

    dtype: str
    jobs: list[DirectJob]
    strides: list[tuple[int, ...]]
    begins: list[Triple]
    every: Triple
    full: Triple
    taps: int
    bias_step: int | None = None
    residual: bool = False
    activation: Activation | None = None

    @property
    def epilogue(self) -> tuple[int, ...]:
        """As the kernels' records have it: bias, its step, residual, activation."""
        return self.bias_step is not None, self.bias_step or 0, self.residual, activation_number(self.activation)[0]

    @cached_property
    def scalars(self) -> np.ndarray:
        """What the activation takes."""
        return np.array(activation_number(self.activation)[1:], self.dtype)


class Walk:
    """A kernel's jobs: records (``problems``) with a ``table`` of offsets, pieces, and the elements of a work space."""

    kernel: Any
    problems: np.ndarray
    table: np.ndarray
    pieces: int
    work: int

    def __init__(self, phases: Phases) -> None:
        self.phases, self.jobs, self.dtype = phases, phases.jobs, np.dtype(phases.dtype)
        self.strides = np.array(phases.strides, STEPS)

    @cached_property
    def macs(self) -> int:
        return sum(j.n * j.groups * j.results * j.channels * len(j.offsets) * prod(j.size) for j in self.jobs)

    def threads(self) -> int:
        """How many of them the pieces employ."""
        return min(get_num_threads(), self.pieces) if self.macs >= workers.WORK_FLOOR else 1

    def walk(self, arrays: tuple[np.ndarray | None, ...], *others: np.ndarray) -> None:
        """Calls the kernel on each thread. ``arrays``: those that it finds by their addresses."""
        addresses = addresses_of(*arrays)
        counter, pieces = np.zeros(1, np.int64), self.pieces

        def work() -> None:
            space = aligned(self.work, self.dtype)
            self.kernel(counter, pieces, self.problems, self.strides, self.table, addresses, *others, space)

        workers.run(work, self.threads())


class Results(Walk):
    """Jobs that write disjoint parts of one result. ``order``: where, among the weights, the kernel's lie."""

    order: np.ndarray

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
        self.walk((source, out, residual, bias), packed.data, self.phases.scalars)


class Gradients(Walk):
    """A job that sums the gradient of the weights in float64, of that shape."""

    shape: tuple[int, ...]

    @property
    def workspace_bytes(self) -> int:
        return self.threads() * self.work * self.dtype.itemsize + 8 * prod(self.shape)

    def run(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        totals = np.empty(self.shape)
        self.walk((x, dy), totals.reshape(-1))
        return totals
