"""Pooling. Windows come as tables, so regular, adaptive and global pooling are one and the same.

The rows of a window are reduced first, side by side over the width (and over the channels, where these are last), then
its columns: regular windows side by side, too, of a row with margins that is split by the stride. Positions of maxima
are found side by side in the same order as one by one. A piece of work is a block of channels of one image, forward and
backward, so no two pieces write the same element and every sum has one order.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ...spec import PoolSpec
from ...threads import get_num_threads
from . import workers
from .direct import fill_row
from .product import WORK_FLOOR, address_of, steps
from .simd import (
    ISA,
    accumulate,
    arg_max,
    compact,
    data_of,
    divide,
    fetch_add,
    fill_line,
    give_back,
    jit,
    lanes,
    part,
    plain,
    pointer,
    reduce_max,
    reduce_sum,
    total_max,
    total_sum,
    vector_lanes,
)

__all__ = ["PoolKernel"]

_i8 = np.int64

PROBLEM = np.dtype(
    [
        ("n", _i8), ("c", _i8), ("block", _i8), ("channels_inside", _i8),
        ("maximum", _i8), ("indexed", _i8), ("counted", _i8), ("whole", _i8),
        ("in0", _i8), ("in1", _i8), ("in2", _i8), ("out0", _i8), ("out1", _i8), ("out2", _i8),
        ("dilation0", _i8), ("dilation1", _i8), ("dilation2", _i8),
        # Of the width of regular windows (stride 0: they are not): stride, margin before, columns, and the room of the
        # columns with one remainder by the stride.
        ("stride", _i8), ("lo", _i8), ("kernel", _i8), ("pitch", _i8),
        # Where the line has room for a row of maxima that nobody wants.
        ("spare", _i8),
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
def _larger(value, total, maximum):
    """The maximum of two, or a NaN of either; or their sum."""
    if maximum:
        return value if value > total or value != value else total
    return total + value


@part
def _rows_of(step, job, w0, w1, offsets):
    """Where the rows of a window begin, to the table; how many they are."""
    rows = 0
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            offsets[rows] = _at(step, p0, p1, 0)
            rows += 1
    return rows


@part
def _argmax(x, base, step, job, w0, w1, w2):
    """The flat position of a window's first maximum, or of its last NaN; -1 if the window is empty."""
    best, position = x[base], -1
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            for p2 in range(w2[0], w2[1], job.dilation2):
                value = x[base + _at(step, p0, p1, p2)]
                if position < 0 or value > best or value != value:
                    best, position = value, (p0 * job.in1 + p1) * job.in2 + p2
    return position


# ------------------------------------------------------------------------------------------------ one plane at a time


@part
def _lay_out(job, windows, places, begin):
    """Where in a split row each tap of the kernel begins; then for each remainder the range that is not margin.

    ``begin``: where each window begins, as if its place in the row were the first."""
    for o2 in range(job.out2):
        begin[o2] = windows[job.out0 + job.out1 + o2][0] - o2 * job.stride
    for t in range(job.kernel):
        column = t * job.dilation2
        places[t] = column % job.stride * job.pitch + column // job.stride
    for phase in range(job.stride):
        first = phase - job.lo
        j0, j1 = max(0, -(first // job.stride)), min(job.pitch, -((first - job.in2) // job.stride))
        places[job.kernel + 2 * phase] = j0
        places[job.kernel + 2 * phase + 1] = max(j0, j1)


@part
def _split(line, at, src, source, job, places, outside):
    """A row of x with margins, the columns with the same remainder by the stride side by side."""
    for phase in range(job.stride):
        j0, j1 = places[job.kernel + 2 * phase], places[job.kernel + 2 * phase + 1]
        first = source + phase - job.lo
        fill_row(line, at + phase * job.pitch, src, first, job.stride, j0, j1, job.pitch, outside)


@part
def _plane_positions(x, xb, xs, line, positions, p, y, yb, job, o0, o1, windows, offsets, numbers, places, begin):
    """The maxima of a row of windows to y, and where they are."""
    compact()
    w0, w1 = windows[o0], windows[job.out0 + o1]
    if not job.stride:
        for o2 in range(job.out2):
            position = _argmax(x, xb, xs, job, w0, w1, windows[job.out0 + job.out1 + o2])
            positions[p + o2] = position
            y[yb + o2] = x[xb + position * xs.s2]
        return
    taps, at, size = 0, 0, job.stride * job.pitch
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            _split(line, at, x, xb + _at(xs, p0, p1, 0), job, places, -np.inf)
            for t in range(job.kernel):
                offsets[taps] = at + places[t]
                numbers[taps] = (p0 * job.in1 + p1) * job.in2 + t * job.dilation2 - job.lo
                taps += 1
            at += size
    first = (w0[0] * job.in1 + w1[0]) * job.in2
    arg_max(positions, p, y, yb, line, 0, offsets, numbers, taps, begin, first, job.stride, job.out2)


@part
def _plane_forward(
    x, xb, xs, y, yb, ys, indices, ib, js, line, job, windows, start, divisor, offsets, numbers, places, begin
):
    compact()
    lane, row, margin = vector_lanes(line), job.stride * job.pitch, job.lo
    if job.stride == 1:
        fill_line(line, 0, job.pitch, start)
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            target = yb + _at(ys, o0, o1, 0)
            if job.indexed:
                _plane_positions(
                    x, xb, xs, line, indices, ib + _at(js, o0, o1, 0), y, target, job, o0, o1, windows, offsets,
                    numbers, places, begin,
                )  # fmt: skip
                continue
            rows, src, at = _rows_of(xs, job, w0, w1, offsets), line, margin if job.stride == 1 else row
            if rows == 1 and job.stride != 1:
                src, at = x, xb + offsets[0]
            else:
                _reduce(job.maximum, line, at, x, xb, offsets, 0, rows, job.in2)
            if job.stride:
                if job.stride > 1:
                    _split(line, 0, src, at, job, places, start)
                _reduce(job.maximum, y, target, line, 0, places, 0, job.kernel, job.out2)
            else:
                for t in range(job.in2 // lane):
                    offsets[t] = t * lane
                for o2 in range(job.out2):
                    w2 = windows[job.out0 + job.out1 + o2]
                    total, head = start, w2[0]
                    times = (w2[1] - w2[0]) // lane if job.dilation2 == 1 else 0
                    if times > 1:
                        # A long window becomes one vector, and the rest.
                        _reduce(job.maximum, line, row + job.in2, src, at + head, offsets, 0, times, lane)
                        for k in range(lane):
                            total = _larger(line[row + job.in2 + k], total, job.maximum)
                        head += times * lane
                    for p2 in range(head, w2[1], job.dilation2):
                        total = _larger(src[at + p2], total, job.maximum)
                    y[target + o2] = total
            if job.counted:
                for o2 in range(job.out2):
                    y[target + o2] /= start + w0[2] * w1[2] * windows[job.out0 + job.out1 + o2][2]
            elif divisor != 1:
                divide(y, target, y, target, job.out2, divisor)


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
def _plane_backward(
    dy, yb, ys, x, xb, xs, dx, db, ds, line, positions, job, windows, divisor, offsets, numbers, places, begin
):
    compact()
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            if job.maximum:
                _plane_positions(
                    x, xb, xs, line, positions, plain(0), line, job.spare, job, o0, o1, windows, offsets, numbers,
                    places, begin,
                )  # fmt: skip
                plane = job.in0 * job.in1 * job.in2
                source = yb + _at(ys, o0, o1, 0)
                _scatter(dx, db, plain(1), plain(0), positions, plain(0), dy, source, job.out2, plane)
                continue
            fill_line(line, 0, job.in2, 0)
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                if job.counted:
                    divisor = w0[2] * w1[2] * w2[2]
                share = dy[yb + _at(ys, o0, o1, o2)] / divisor
                for p2 in range(w2[0], w2[1], job.dilation2):
                    line[p2] += share
            for k in range(_rows_of(ds, job, w0, w1, offsets)):
                accumulate(dx, db + offsets[k], line, 0, job.in2)


# -------------------------------------------------------------------------------------- a block of channels at a time


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
    dense = xs.s2 == count
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
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                target = yb + _at(ys, o0, o1, o2)
                if job.indexed:
                    taps = _taps(xs, job, w0, w1, w2, offsets)
                    for t in range(taps):
                        numbers[t] = offsets[t] // xs.s2
                    at = ib + _at(js, o0, o1, o2)
                    arg_max(indices, at, y, target, x, xb, offsets, numbers, taps, begin, numbers[0], 0, count)
                    continue
                taps = (w2[1] - w2[0] + job.dilation2 - 1) // job.dilation2
                _reduce(job.maximum, y, target, line, w2[0] * count, numbers, 0, taps, count)
                if job.counted:
                    divisor = start + w0[2] * w1[2] * w2[2]
                if divisor != 1:
                    divide(y, target, y, target, count, divisor)


@part
def _block_backward(dy, yb, ys, x, xb, dx, db, ds, count, line, job, windows, divisor, offsets):
    compact()
    dense = ds.s2 == count
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            if not job.maximum:
                fill_line(line, 0, job.in2 * count, 0)
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                source = yb + _at(ys, o0, o1, o2)
                if job.maximum:
                    taps = _taps(ds, job, w0, w1, w2, offsets)
                    give_back(dx, db, x, xb, dy, source, offsets, taps, count)
                else:
                    if job.counted:
                        divisor = divisor * 0 + w0[2] * w1[2] * w2[2]
                    share = job.in2 * count
                    divide(line, share, dy, source, count, divisor)
                    for p2 in range(w2[0], w2[1], job.dilation2):
                        accumulate(line, p2 * count, line, share, count)
            if not job.maximum:
                for k in range(_rows_of(ds, job, w0, w1, offsets)):
                    for p2 in range(1 if dense else job.in2):
                        length = job.in2 * count if dense else count
                        accumulate(dx, db + offsets[k] + p2 * ds.s2, line, p2 * count, length)


# ---------------------------------------------------------------------------------------------------- the workers


@jit
def forward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions, tables):
    """x, y and indices (addresses and strides in this order): take pieces until none is left."""
    job, xs, ys, js = jobs[0], strides[0], strides[1], strides[2]
    x, y, indices = pointer(addresses[0], buffer), pointer(addresses[1], buffer), pointer(addresses[2], windows)
    line, start, divisor = data_of(buffer), scalars[0], scalars[1]
    blocks = (job.c + job.block - 1) // job.block
    if job.stride:
        _lay_out(job, windows, tables[2], positions[1])
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
            for i in range(count):
                _plane_forward(
                    x, xb + i * xs.c, xs, y, yb + i * ys.c, ys, indices, ib + i * js.c, js, line, job, windows, start,
                    divisor, tables[0], tables[1], tables[2], positions[1],
                )  # fmt: skip
        piece = fetch_add(counter)


@jit
def backward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions, tables):
    """dy, x, indices and dx (addresses and strides in this order): take pieces until none is left.

    Returns how many indices are no positions of dx."""
    job, ys, xs, js, ds = jobs[0], strides[0], strides[1], strides[2], strides[3]
    dy, x = pointer(addresses[0], buffer), pointer(addresses[1], buffer)
    indices, dx = pointer(addresses[2], windows), pointer(addresses[3], buffer)
    line, divisor = data_of(buffer), scalars[1]
    blocks = (job.c + job.block - 1) // job.block
    if job.stride:
        _lay_out(job, windows, tables[2], positions[1])
    plane, outs, wrong = job.in0 * job.in1 * job.in2, job.out0 * job.out1 * job.out2, 0
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
        else:
            for i in range(count):
                yi, di = yb + i * ys.c, db + i * ds.c
                fill_line(dx, di, plane, dy[yi] / divisor if job.whole and not job.maximum else divisor * 0)
                if job.indexed:
                    wrong += _scatter(
                        dx, di, plain(1), plain(0), indices, ib + i * js.c, dy, yi, outs, plane
                    )  # fmt: skip
                elif not job.whole or job.maximum:
                    _plane_backward(
                        dy, yi, ys, x, xb + i * xs.c, xs, dx, di, ds, line, data_of(positions), job, windows, divisor,
                        tables[0], tables[1], tables[2], positions[1],
                    )  # fmt: skip
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
        self._regular = self._width(spec)
        self._work = (
            spec.n * spec.c * prod(spec.out_size) * prod(len(t) and max(e - s for s, e, _ in t) for t in tables)
        )
        self._strides = lru_cache(maxsize=8)(self._make_strides)

    def _width(self, spec: PoolSpec) -> tuple[int, int, int, int]:
        """The fields stride to pitch."""
        if spec.adaptive or spec.channels_last or spec.out_size[-1] == 1:
            return (0, 0, 0, 0)
        stride, kernel, dilation = spec.stride[-1], spec.kernel[-1], spec.dilation[-1]
        columns = max((spec.out_size[-1] - 1) * stride + (kernel - 1) * dilation, spec.pads[-1][0] + spec.in_size[-1])
        return (stride, spec.pads[-1][0], kernel, columns // stride + 1)

    def _block(self, threads: int) -> int:
        """Channels of a piece: many, but enough pieces for the threads."""
        spec = self.spec
        if spec.channels_last:
            return min(spec.c, 256 if threads == 1 or spec.n * -(-spec.c // 256) >= 2 * threads else 16)
        return max(1, min(spec.c, 4096 // prod(spec.in_size), -(-spec.n * spec.c // (4 * threads))))

    def _threads(self) -> int:
        return get_num_threads() if self._work >= WORK_FLOOR // 4 else 1

    @property
    def workspace_bytes(self) -> int:
        threads = self._threads()
        line, positions, table = self._space(self._block(threads))
        return threads * (line * self.dtype.itemsize + (2 * positions + 3 * table) * 8)

    def _space(self, block: int) -> tuple[int, int, int]:
        """Elements of the lines, of each of two lists of positions, and of each of three tables."""
        spec, rows = self.spec, self._spans[0] * self._spans[1]
        stride, _, kernel, pitch = self._regular
        width, vector = self._sizes[2], lanes(spec.dtype)
        table = max(rows * max(self._spans[2], kernel), width, kernel + 2 * stride)
        if spec.channels_last:
            return (width + 1) * block, block + vector, table
        return rows * stride * pitch + width + vector + spec.out_size[-1], spec.out_size[-1] + vector, table

    def _make_strides(self, *strides: tuple[int, ...] | None) -> np.ndarray:
        records = []
        for steps_of in strides:
            n, *rest = steps_of or (0,) * (self.spec.ndim + 2)
            *size, c = rest if self.spec.channels_last else (*rest[1:], rest[0])
            records.append((n, c, *(0,) * (3 - self.spec.ndim), *size))
        return np.array(records, STEPS)

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
        job = np.array(
            [
                (
                    spec.n, spec.c, block, spec.channels_last, spec.kind == "max", indices is not None, self._counted,
                    self._whole, *self._sizes, *self._regular, self._space(block)[0] - spec.out_size[-1],
                )
            ],
            PROBLEM,
        )  # fmt: skip
        strides = self._strides(*[None if a is None else steps(a) for a in given])
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
