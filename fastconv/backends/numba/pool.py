"""Pooling. Windows come as tables, so regular, adaptive and global pooling are one and the same.

The rows of a window are reduced first, side by side over the width and the channels, then its columns. Where channels
come first a vector of them is turned beforehand, and the result is turned back. A piece of work is a block of channels
of one image, forward and backward, so no two pieces write the same element and every sum has one order.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ...spec import PoolSpec
from ...threads import get_num_threads
from . import workers
from .engine import turn
from .product import WORK_FLOOR, address_of, steps
from .simd import ISA, compact, data_of, fetch_add, jit, lanes, part, plain, pointer, vector_lanes
from .windows import (
    accumulate,
    add_to_window,
    arg_max,
    divide,
    fill_line,
    give_back,
    give_to_maxima,
    max_of_windows,
    reduce_max,
    reduce_sum,
    sum_of_windows,
    total_max,
    total_sum,
)

__all__ = ["PoolKernel"]

_i8 = np.int64

PROBLEM = np.dtype(
    [
        ("n", _i8), ("c", _i8), ("block", _i8), ("channels_inside", _i8),
        ("maximum", _i8), ("indexed", _i8), ("counted", _i8), ("whole", _i8),
        ("in0", _i8), ("in1", _i8), ("in2", _i8), ("out0", _i8), ("out1", _i8), ("out2", _i8),
        ("dilation0", _i8), ("dilation1", _i8), ("dilation2", _i8),
        # Where vectors of channels lie that were planes: those of x, behind them those of y, or of dx and dy.
        ("vectors", _i8),
    ]
)  # fmt: skip

#: Address steps of an array, in elements: image, channel, three spatial dimensions.
STEPS = np.dtype([("n", _i8), ("c", _i8), ("s0", _i8), ("s1", _i8), ("s2", _i8)])


@part
def _at(step, p0, p1, p2):
    return p0 * step.s0 + p1 * step.s1 + p2 * step.s2


@part
def _reduce(maximum, dst, d, src, at, offsets, first, taps, count):
    compact()
    if maximum:
        reduce_max(dst, d, src, at, offsets, first, taps, count)
    else:
        reduce_sum(dst, d, src, at, offsets, first, taps, count)


@part
def _rows_of(step, job, w0, w1, offsets):
    """Where the rows of a window begin, to the table; how many they are."""
    rows = 0
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            offsets[rows] = _at(step, p0, p1, 0)
            rows += 1
    return rows


# -------------------------------------------------------------------------------------- a block of channels at a time


@part
def _scatter(dx, d, step, lane, indices, i, dy, y, count, plane):
    """``dx[d + indices[i + k] step + k lane] += dy[y + k]``; returns how many indices are not 0 to plane - 1."""
    compact()
    wrong = 0
    for k in range(count):
        position = indices[i + k]
        if 0 <= position < plane:
            dx[d + position * step + k * lane] += dy[y + k]
        else:
            wrong += 1
    return wrong


@part
def _taps(step, job, w0, w1, w2, offsets):
    """Where the elements of a window are, to the table; how many they are."""
    taps = 0
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            for p2 in range(w2[0], w2[1], job.dilation2):
                offsets[taps] = _at(step, p0, p1, p2)
                taps += 1
    return taps


@part
def _block_forward(
    x, xb, xs, y, yb, ys, indices, ib, js, count, line, job, windows, start, divisor, offsets, numbers, begin
):
    compact()
    # Where pixels adjoin a row is one line.
    dense, lane, columns = xs.s2 == count, vector_lanes(line), job.out0 + job.out1
    for t in range(job.in2):
        numbers[t] = t * job.dilation2 * count
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            if not job.indexed:
                rows = _rows_of(xs, job, w0, w1, offsets)
                for p2 in range(1 if dense else job.in2):
                    length = job.in2 * count if dense else count
                    _reduce(job.maximum, line, p2 * count, x, xb + p2 * xs.s2, offsets, 0, rows, length)
            for o2 in range(job.out2 if job.indexed else 0):
                w2 = windows[columns + o2]
                target = yb + _at(ys, o0, o1, o2)
                taps = _taps(xs, job, w0, w1, w2, offsets)
                for t in range(taps):
                    numbers[t] = offsets[t] // xs.s2
                at = ib + _at(js, o0, o1, o2)
                arg_max(indices, at, y, target, x, xb, offsets, numbers, taps, begin, numbers[0], 0, count)
            if job.indexed:
                continue
            target = yb + _at(ys, o0, o1, 0)
            # A single vector of channels is reduced window by window without leaving its kernel.
            if count == lane and job.maximum:
                max_of_windows(y, target, ys.s2, line, 0, lane, windows, columns, job.dilation2, job.out2)
            elif count == lane:
                sum_of_windows(y, target, ys.s2, line, 0, lane, windows, columns, job.dilation2, job.out2)
            for o2 in range(job.out2 if count != lane or job.counted or divisor != 1 else 0):
                w2, at = windows[columns + o2], target + o2 * ys.s2
                if count != lane:
                    taps = (w2[1] - w2[0] + job.dilation2 - 1) // job.dilation2
                    _reduce(job.maximum, y, at, line, w2[0] * count, numbers, 0, taps, count)
                if job.counted:
                    divisor = start + w0[2] * w1[2] * w2[2]
                if divisor != 1:
                    divide(y, at, y, at, count, divisor)


@part
def _block_backward(dy, yb, ys, x, xb, dx, db, ds, count, line, job, windows, divisor, offsets):
    compact()
    dense, lane, columns = ds.s2 == count, vector_lanes(line), job.out0 + job.out1
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            if not job.maximum:
                fill_line(line, 0, job.in2 * count, 0)
            rows, target = _rows_of(ds, job, w0, w1, offsets), yb + _at(ys, o0, o1, 0)
            if count == lane and job.maximum:
                give_to_maxima(
                    dx, db, ds.s2, x, xb, dy, target, ys.s2, offsets, rows, windows, columns, job.dilation2, job.out2
                )  # fmt: skip
            for o2 in range(job.out2 if count != lane or not job.maximum else 0):
                w2, source, share = windows[columns + o2], target + o2 * ys.s2, job.in2 * count
                if job.maximum:
                    taps = _taps(ds, job, w0, w1, w2, offsets)
                    give_back(dx, db, x, xb, dy, source, offsets, taps, count)
                    continue
                if job.counted:
                    divisor = divisor * 0 + w0[2] * w1[2] * w2[2]
                divide(line, share, dy, source, count, divisor)
                if count == lane:
                    add_to_window(line, 0, lane, line, share, windows, columns, job.dilation2, o2)
                else:
                    for p2 in range(w2[0], w2[1], job.dilation2):
                        accumulate(line, p2 * count, line, share, count)
            if not job.maximum:
                for k in range(rows):
                    for p2 in range(1 if dense else job.in2):
                        length = job.in2 * count if dense else count
                        accumulate(dx, db + offsets[k] + p2 * ds.s2, line, p2 * count, length)


@part
def _turn_planes(line, at, src, s, step, plane, count):
    """Planes of ``count`` channels, at most a vector of them, to vectors; 0 for the others."""
    compact()
    lane = vector_lanes(line)
    if count < lane:
        fill_line(line, at, plane * lane, 0)
    turn(line, at, lane, src, s, step, count, plane)


# ---------------------------------------------------------------------------------------------------- the workers


@jit
def forward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions, tables):
    """x, y and indices (addresses and strides in this order): take pieces until none is left."""
    job, xs, ys, js = jobs[0], strides[0], strides[1], strides[2]
    x, y, indices = pointer(addresses[0], buffer), pointer(addresses[1], buffer), pointer(addresses[2], windows)
    line, places, start, divisor = data_of(buffer), data_of(positions), scalars[0], scalars[1]
    blocks, lane = (job.c + job.block - 1) // job.block, vector_lanes(line)
    plane, outs = job.in0 * job.in1 * job.in2, job.out0 * job.out1 * job.out2
    results = job.vectors + plane * lane
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        xb, yb, ib = n * xs.n + c * xs.c, n * ys.n + c * ys.c, n * js.n + c * js.c
        if job.whole:
            for i in range(count):
                if job.maximum:
                    y[yb + i * ys.c] = total_max(x, xb + i * xs.c, job.in2)
                else:
                    y[yb + i * ys.c] = total_sum(x, xb + i * xs.c, job.in2) / divisor
        elif job.channels_inside:
            _block_forward(
                x, xb, xs, y, yb, ys, indices, ib, js, count, line, job, windows, start, divisor, tables[0], tables[1],
                positions[1],
            )  # fmt: skip
        else:
            _turn_planes(line, job.vectors, x, xb, xs.c, plane, count)
            _block_forward(
                line, job.vectors, strides[3], line, results, strides[4], places, plain(0), strides[4], lane, line, job,
                windows, start, divisor, tables[0], tables[1], positions[1],
            )  # fmt: skip
            turn(y, yb, ys.c, line, results, lane, outs, count)
            for i in range(count if job.indexed else 0):
                for p in range(outs):
                    indices[ib + i * js.c + p] = places[p * lane + i]
        piece = fetch_add(counter)


@jit
def backward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions, tables):
    """dy, x, indices and dx (addresses and strides in this order): take pieces until none is left.

    Returns how many indices are no positions of dx."""
    job, ys, xs, js, ds = jobs[0], strides[0], strides[1], strides[2], strides[3]
    dy, x = pointer(addresses[0], buffer), pointer(addresses[1], buffer)
    indices, dx = pointer(addresses[2], windows), pointer(addresses[3], buffer)
    line, divisor = data_of(buffer), scalars[1]
    blocks, lane = (job.c + job.block - 1) // job.block, vector_lanes(line)
    plane, outs, wrong = job.in0 * job.in1 * job.in2, job.out0 * job.out1 * job.out2, 0
    results = job.vectors + plane * lane
    shares = results + plane * lane
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        yb, xb = n * ys.n + c * ys.c, n * xs.n + c * xs.c
        ib, db = n * js.n + c * js.c, n * ds.n + c * ds.c
        if job.channels_inside:
            dense = ds.s2 == count
            for p in range(1 if dense else plane):
                fill_line(dx, db + p * ds.s2, plane * count if dense else count, 0)
            if job.indexed:
                for p in range(outs):
                    wrong += _scatter(
                        dx, db, ds.s2, plain(1), indices, ib + p * js.s2, dy, yb + p * ys.s2, count, plane
                    )  # fmt: skip
            else:
                _block_backward(dy, yb, ys, x, xb, dx, db, ds, count, line, job, windows, divisor, tables[0])
        elif job.indexed or (job.whole and not job.maximum):
            for i in range(count):
                yi, di = yb + i * ys.c, db + i * ds.c
                fill_line(dx, di, plane, divisor * 0 if job.indexed else dy[yi] / divisor)
                if job.indexed:
                    wrong += _scatter(
                        dx, di, plain(1), plain(0), indices, ib + i * js.c, dy, yi, outs, plane
                    )  # fmt: skip
        else:
            if job.maximum:
                _turn_planes(line, job.vectors, x, xb, xs.c, plane, count)
            _turn_planes(line, shares, dy, yb, ys.c, outs, count)
            fill_line(line, results, plane * lane, divisor * 0)
            _block_backward(
                line, shares, strides[5], line, job.vectors, line, results, strides[4], lane, line, job, windows,
                divisor, tables[0],
            )  # fmt: skip
            turn(dx, db, ds.c, line, results, lane, plane, count)
        piece = fetch_add(counter)
    return wrong


# ----------------------------------------------------------------------------------------------------- the kernel


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
        dilation = (1,) * spec.ndim if spec.adaptive else spec.dilation
        tables = [((0, 1, 1),)] * (3 - spec.ndim) + list(spec.windows)
        self._sizes = (*fill, *spec.in_size, *fill, *spec.out_size, *fill, *dilation)
        whole = [((0, size, size),) for size in spec.in_size]
        self._whole = False
        if not spec.channels_last and list(spec.windows) == whole and max(dilation) == 1:
            # A plane that is one window is one row.
            size = prod(spec.in_size)
            tables = [*[((0, 1, 1),)] * 2, ((0, size, size),)]
            self._sizes = (1, 1, size, 1, 1, 1, 1, 1, 1)
            self._whole = not spec.indices
        self._windows = np.array([window for table in tables for window in table], np.int64)
        average = spec.kind == "avg"
        start = -np.inf if spec.kind == "max" else 0.0
        divisor = spec.divisor if average and spec.divisor is not None else 1.0
        self._scalars = np.array([start, divisor], self.dtype)
        self._counted = average and spec.divisor is None
        if self._counted and all(len({count for _, _, count in t}) == 1 for t in tables):
            # Every window has as many elements.
            self._counted = False
            self._scalars[1] = prod(t[0][2] for t in tables)
        self._spans = [max(e - s for s, e, _ in t) for t in tables]
        self._work = (
            spec.n * spec.c * prod(spec.out_size) * prod(len(t) and max(e - s for s, e, _ in t) for t in tables)
        )
        given = spec.direction != "fwd" and spec.indices
        #: Whether planes become vectors of channels.
        self._turned = not (spec.channels_last or given or (self._whole and (average or spec.direction == "fwd")))
        self._space = lru_cache(maxsize=4)(self._count)
        self._described = lru_cache(maxsize=8)(self._describe)

    def _block(self, threads: int) -> int:
        """Channels of a piece: many, but enough pieces for the threads."""
        spec = self.spec
        if spec.channels_last:
            return min(spec.c, 256 if threads == 1 or spec.n * -(-spec.c // 256) >= 2 * threads else 16)
        return min(spec.c, lanes(spec.dtype))

    def _threads(self) -> int:
        return get_num_threads() if self._work >= WORK_FLOOR // 4 else 1

    @property
    def workspace_bytes(self) -> int:
        threads = self._threads()
        line, positions, table = self._space(self._block(threads))
        return threads * (line * self.dtype.itemsize + (2 * positions + 3 * table) * 8)

    def _count(self, block: int) -> tuple[int, int, int]:
        """Elements of the lines, of each of two lists of positions, and of each of three tables."""
        spec, vector = self.spec, lanes(self.spec.dtype)
        table = max(self._spans[0] * self._spans[1] * self._spans[2], self._sizes[2])
        if spec.channels_last:
            return (self._sizes[2] + 1) * block, block + vector, table
        plane, outs = (prod(size) * vector if self._turned else 0 for size in (self._sizes[:3], self._sizes[3:6]))
        return self._lines + 2 * plane + outs, vector + outs * spec.indices, table

    @property
    def _lines(self) -> int:
        """Elements of a row of vectors and a share."""
        return (self._sizes[2] + 1) * lanes(self.spec.dtype)

    def _describe(self, block: int, indexed: bool, *strides: tuple[int, ...] | None) -> tuple[np.ndarray, np.ndarray]:
        """The problem, and the strides of all arrays."""
        spec = self.spec
        job = (
            spec.n, spec.c, block, spec.channels_last, spec.kind == "max", indexed, self._counted, self._whole,
            *self._sizes, self._lines,
        )  # fmt: skip
        records = []
        for steps_of in strides:
            n, *rest = steps_of or (0,) * (self.spec.ndim + 2)
            *size, c = rest if self.spec.channels_last else (*rest[1:], rest[0])
            records.append((n, c, *(0,) * (3 - self.spec.ndim), *size))
        # Of vectors that were planes.
        vector = lanes(self.spec.dtype)
        for _, height, width in (self._sizes[:3], self._sizes[3:6]):
            records.append((0, 1, height * width * vector, width * vector, vector))
        return np.array([job], PROBLEM), np.array(records, STEPS)

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A pooling has no weights: what comes is returned."""
        return w

    def __call__(self, *arrays: np.ndarray | None) -> None:
        """fwd: (x, out, indices); bwd: (dy, x, indices, out)."""
        spec = self.spec
        # Kernels want what they walk through to be contiguous, and where they add to, all of it.
        forward_ = spec.direction == "fwd"
        result, indices = arrays[1 if forward_ else 3], arrays[2]
        out = result if result.flags.c_contiguous else np.empty(result.shape, result.dtype)
        read = [None if a is None else np.ascontiguousarray(a) for a in (arrays[:1] if forward_ else arrays[:2])]
        if not forward_ and indices is not None:
            indices = np.ascontiguousarray(indices)
        given = (*read, out, indices) if forward_ else (*read, indices, out)
        threads = self._threads()
        block = self._block(threads)
        pieces = spec.n * -(-spec.c // block)
        threads = min(threads, pieces)
        job, strides = self._described(
            block, indices is not None, *[None if a is None else steps(a) for a in given]
        )  # fmt: skip
        addresses = np.array([address_of(a) for a in given], np.int64)
        counter = np.zeros(1, np.int64)
        run = forward if spec.direction == "fwd" else backward

        wrong = []

        def work() -> None:
            line, positions, table = self._space(block)
            found = run(
                counter, pieces, job, strides, self._windows, addresses, self._scalars, np.empty(line, self.dtype),
                np.zeros((2, positions), np.int64), np.empty((3, table), np.int64),
            )  # fmt: skip
            if found:
                wrong.append(found)

        workers.run(work, threads)
        if out is not result:
            result[...] = out
        if wrong:
            raise IndexError
