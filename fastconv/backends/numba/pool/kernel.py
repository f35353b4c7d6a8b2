"""The operator. Windows come as tables, so regular, adaptive and global pooling are one and the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np

from ...._threads import get_num_threads
from ....spec import PoolSpec, Types
from ...tables import ADDITIONS, LIGHT, TABLES, Widened
from ..core import workers
from ..core.arrays import addresses_of
from ..core.target import ABREAST, ISA, lanes
from .blocks import PROBLEM, STEPS, backward, forward

__all__ = ["PoolKernel", "pool_kernel"]

#: Taps that are read side by side.
_AT_ONCE = 16

#: Bytes of a band of planes that became vectors.
_BAND = 16384


_NO_POSITIONS = np.zeros((2, 1), np.int64)


@dataclass(frozen=True)
class _Plan:
    """A call on so many threads at most; elements of the lines, of each list of positions, of each table."""

    threads: int
    pieces: int
    job: np.ndarray
    strides: np.ndarray
    lines: int
    positions: int
    table: int


def pool_kernel(spec: PoolSpec) -> PoolKernel | Widened:
    """The kernel of a spec, in float64 where float32 would add too much one after the other."""
    kernel = PoolKernel(spec)
    if spec.dtype == "float64" or kernel.additions <= ADDITIONS:
        return kernel
    return Widened(PoolKernel(replace(spec, types=Types.of("float64"))), 1 if spec.direction == "fwd" else 3)


class PoolKernel:
    backend = "numba"
    isa = ISA

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.algorithm = "pool channels" if spec.channels_last else "pool rows"
        inside = "channels are" if spec.channels_last else "the width is"
        self.reason = f"{self.algorithm}: {inside} contiguous"
        self.dtype = np.dtype(spec.dtype)
        fill = (1,) * (3 - spec.ndim)
        # Taps further apart than the input is long: one of them is inside.
        dilation = [min(step, size) for step, size in zip(spec.dilation, spec.in_size, strict=True)]
        self._sizes = (*fill, *spec.in_size, *fill, *spec.out_size, *fill, *dilation)
        windows = self._kept_windows()
        self._whole = False
        whole = all(
            w[0, 0] == 0 and w[0, 1] == size for w, size in zip(self._tables(windows), self._sizes, strict=False)
        )
        if not spec.channels_last and max(self._sizes[3:]) == 1 and whole:
            # A plane that is one window is one row.
            size = prod(spec.in_size)
            windows = np.array([(0, 1, 1, 1), (0, 1, 1, 1), (0, size, windows[:, 2].prod(), size)], np.int64)
            self._sizes = (1, 1, size, 1, 1, 1, 1, 1, 1)
            self._whole = not spec.indices
        self._light = windows if windows.nbytes <= LIGHT else None
        tables = self._tables(windows)
        average = spec.kind == "avg"
        divisor = spec.divisor if average and spec.divisor is not None else 1.0
        self._counted = average and spec.divisor is None
        if self._counted and all((t[:, 2] == t[0, 2]).all() for t in tables):
            # Every window has as many elements.
            self._counted, divisor = False, prod(float(t[0, 2]) for t in tables)
        self._scalars = np.array([divisor, 1], self.dtype)
        self._spans = [int((t[:, 1] - t[:, 0]).max()) for t in tables]
        self._work = spec.n * spec.c * prod(spec.out_size) * prod(self._spans)
        given = spec.direction != "fwd" and spec.indices
        #: Whether planes become vectors of channels.
        self._turned = not (spec.channels_last or given or (self._whole and (average or spec.direction == "fwd")))
        # What the rows of several windows have in common pays for a line of its own if windows are large or overlap.
        rows0, rows1, columns = (int(t[:, 3].max()) for t in tables)
        width, results = self._sizes[2], self._sizes[5]
        shared = (rows0 * rows1 + 1) * width + columns * results
        self._apart = max(self._sizes[6:]) == 1 and all((t[:-1, 1] <= t[1:, 0]).all() for t in tables)
        self._separate = self._apart or (
            rows0 * rows1 * columns <= _AT_ONCE and rows0 * rows1 * columns * results <= shared
        )
        self._at_once = max(1, _AT_ONCE // columns)
        self._covered = self._apart and all(
            t[0, 0] == 0 and t[-1, 1] == size and (t[:-1, 1] == t[1:, 0]).all()
            for t, size in zip(tables, self._sizes[:3], strict=True)
        )
        self._bands = np.array(self._divided(tables[1]), np.int64)
        self._planned = lru_cache(maxsize=8)(self._plan)

    @property
    def additions(self) -> int:
        """So many numbers at most are added one after the other."""
        spec = self.spec
        if spec.direction == "bwd":
            *rows, columns = (1, *map(spec.overlap, range(spec.ndim)))
            return prod(rows) * columns if spec.kind == "max" else prod(rows) + columns
        if spec.kind == "max":
            return 0
        if self._whole:
            return self._sizes[2] // (ABREAST * lanes(spec.dtype))
        # The rows of a window, or some at once, then its columns.
        return self._spans[0] * self._spans[1] + self._spans[2]

    def _make_windows(self) -> np.ndarray:
        """Of every output along each of three dimensions: first, end, elements that count, elements that are read."""
        windows = [np.array([(0, 1, 1, 1)], np.int64)] * (3 - self.spec.ndim)
        for dim in range(self.spec.ndim):
            start, end, count = self.spec.windows(dim)
            step = self._sizes[6 + 3 - self.spec.ndim + dim]
            read = -((start - end) // step)
            counted = count.astype(np.int64) if self.spec.kind == "avg" else read
            windows.append(np.stack([start, end, counted, read], axis=1))
        return np.concatenate(windows)

    def _kept_windows(self) -> np.ndarray:
        """Long ones are not kept for every length that comes by."""
        nbytes = 32 * sum(self._sizes[3:6])
        if nbytes <= LIGHT:
            return self._make_windows()
        return TABLES.get((self.spec, self.backend), nbytes, self._make_windows)

    def _tables(self, windows: np.ndarray) -> list[np.ndarray]:
        """The windows of each dimension."""
        return np.split(windows, np.cumsum(self._sizes[3:5]))

    def _divided(self, windows: np.ndarray) -> list[tuple[int, int, int, int]]:
        """Bands of a plane that stay near while they are vectors: rows of results (first, last), rows (low, high) that
        they read, or that no other band gives to."""
        in0, in1, in2, out0, out1, _ = self._sizes[:6]
        forward_, indexed = self.spec.direction == "fwd", self.spec.indices
        if in0 * out0 > 1 or indexed or not (forward_ or self._apart):
            return [(0, out1, 0, in1)]
        row = in2 * lanes(self.spec.dtype) * self.dtype.itemsize
        count = min(out1, -(-in1 * row // _BAND))
        edges = [out1 * k // count for k in range(count + 1)]
        bands = []
        for first, last in pairwise(edges):
            low, high = int(windows[first:last, 0].min()), int(windows[first:last, 1].max())
            if not forward_:
                low, high = low if first else 0, int(windows[last, 0]) if last < out1 else in1
            bands.append((first, last, low, high))
        return bands

    def _block(self, threads: int) -> int:
        """Channels of a piece: many, but enough pieces for the threads."""
        spec = self.spec
        if spec.channels_last:
            alone = self._separate if spec.direction == "fwd" else self._apart or spec.kind == "max"
            most = spec.c if alone and threads == 1 else 256
            return min(spec.c, most if threads == 1 or spec.n * -(-spec.c // 256) >= 2 * threads else 16)
        return min(spec.c, lanes(spec.dtype))

    def _threads(self) -> int:
        return get_num_threads() if self._work >= workers.WORK_FLOOR // 4 else 1

    @property
    def workspace_bytes(self) -> int:
        plan = self._planned(self._threads())
        positions = plan.positions if self.spec.indices else 0
        return plan.threads * (plan.lines * self.dtype.itemsize + 2 * (positions + plan.table) * 8)

    def _count(self, block: int) -> tuple[int, int, int]:
        """Elements of the lines, of each of two lists of positions, and of each of two tables."""
        spec, vector = self.spec, lanes(self.spec.dtype)
        # Where the rows of a window begin, or all that it reads where its maximum is located.
        located = spec.direction == "fwd" and spec.indices
        table = self._spans[0] * self._spans[1] * (self._spans[2] if located else 1)
        if spec.channels_last:
            return (self._sizes[2] + 1) * block, block + vector, table
        if not self._turned:
            return self._lines, vector, table
        outs = self._sizes[3] * self._sizes[5] * max(last - first for first, last, _, _ in self._bands) * vector
        return self._lines + 2 * self._band_pixels * vector + outs, vector + outs * spec.indices, table

    @property
    def _band_pixels(self) -> int:
        return int(self._sizes[0] * self._sizes[2] * max(high - low for _, _, low, high in self._bands))

    @property
    def _lines(self) -> int:
        """Elements of a row of vectors and a share."""
        return (self._sizes[2] + 1) * lanes(self.spec.dtype)

    def _plan(self, threads: int) -> _Plan:
        spec = self.spec
        block = self._block(threads)
        lines, positions, table = self._count(block)
        job = (
            spec.n, spec.c, block, spec.channels_last, spec.kind == "max", spec.indices, self._counted, self._whole,
            *self._sizes, self._lines, self._band_pixels, self._separate, self._at_once, self._apart, self._covered,
        )  # fmt: skip
        images, results = (self._steps(*size) for size in (self._sizes[:3], self._sizes[3:6]))
        strides = [images, results, results] if spec.direction == "fwd" else [results, images, results, images]
        # Of vectors that were planes.
        vector = lanes(spec.dtype)
        for _, height, width in (self._sizes[:3], self._sizes[3:6]):
            strides.append((0, 1, height * width * vector, width * vector, vector))
        pieces = spec.n * -(-spec.c // block)
        return _Plan(
            min(threads, pieces), pieces, np.array([job], PROBLEM), np.array(strides, STEPS), lines, positions, table
        )

    def _steps(self, depth: int, height: int, width: int) -> tuple[int, ...]:
        """``STEPS`` of a contiguous array."""
        c = self.spec.c
        pixel, plane = (c, 1) if self.spec.channels_last else (1, depth * height * width)
        return c * depth * height * width, plane, height * width * pixel, width * pixel, pixel

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A pooling has no weights: what comes is returned."""
        return w

    def __call__(self, *arrays: np.ndarray | None) -> None:
        """fwd: (x, out, indices); bwd: (dy, x, indices, out)."""
        # Kernels want what they walk through to be contiguous, and where they add to, all of it.
        forward_ = self.spec.direction == "fwd"
        at = 1 if forward_ else 3
        result = arrays[at]
        given = [a if a is None or a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]
        if given[at] is not result:
            given[at] = np.empty(result.shape, result.dtype)
        plan = self._planned(self._threads())
        addresses, counter = addresses_of(*given), np.zeros(1, np.int64)
        windows = self._light if self._light is not None else self._kept_windows()
        run = forward if forward_ else backward
        wrong = []

        def work() -> None:
            positions = np.zeros((2, plan.positions), np.int64) if self.spec.indices else _NO_POSITIONS
            found = run(
                counter, plan.pieces, plan.job, plan.strides, windows, self._bands, addresses, self._scalars,
                np.empty(plan.lines, self.dtype), positions, np.empty((2, plan.table), np.int64),
            )  # fmt: skip
            if found:
                wrong.append(found)

        workers.run(work, plan.threads)
        if given[at] is not result:
            result[...] = given[at]
        if wrong:
            raise IndexError
