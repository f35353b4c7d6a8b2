"""Pooling. Windows come as tables, so regular, adaptive and global pooling are one and the same.

In a plane of one channel the rows of a window are reduced first, side by side over the width, then the columns; where
the channels are last, those of a block are reduced side by side. A piece of work is a block of channels of one image,
forward and backward, so no two pieces write the same element and every sum has one order.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ...spec import PoolSpec
from ...threads import get_num_threads
from . import workers
from .product import WORK_FLOOR, address_of, steps
from .simd import ISA, data_of, fetch_add, jit, part, pointer

__all__ = ["PoolKernel"]

_i8 = np.int64

PROBLEM = np.dtype(
    [
        ("n", _i8), ("c", _i8), ("block", _i8), ("channels_inside", _i8),
        ("maximum", _i8), ("indexed", _i8), ("counted", _i8),
        ("in0", _i8), ("in1", _i8), ("in2", _i8), ("out0", _i8), ("out1", _i8), ("out2", _i8),
        ("dilation0", _i8), ("dilation1", _i8), ("dilation2", _i8),
    ]
)  # fmt: skip

#: Address steps of an array, in elements: image, channel, three spatial dimensions.
STEPS = np.dtype([("n", _i8), ("c", _i8), ("s0", _i8), ("s1", _i8), ("s2", _i8)])


@part
def _at(step, p0, p1, p2):
    return p0 * step.s0 + p1 * step.s1 + p2 * step.s2


@part
def _spread(step, flat, job):
    """The address of a flat position inside a channel plane."""
    rest = flat // job.in2
    return _at(step, rest // job.in1, rest % job.in1, flat % job.in2)


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


@part
def _reduce(buffer, b, x, s, step, count, maximum):
    """``buffer[b + i]`` and ``x[s + i step]``, for i below count, to their maximum or sum in the buffer."""
    if step == 1:
        if maximum:
            for i in range(count):
                v, m = x[s + i], buffer[b + i]
                buffer[b + i] = v if v > m or v != v else m
        else:
            for i in range(count):
                buffer[b + i] += x[s + i]
    else:
        for i in range(count):
            v, m = x[s + i * step], buffer[b + i]
            if maximum:
                buffer[b + i] = v if v > m or v != v else m
            else:
                buffer[b + i] = m + v


# ------------------------------------------------------------------------------------------------ one plane at a time


@part
def _plane_forward(x, xb, xs, y, yb, ys, indices, ib, js, buffer, job, windows, start, divisor):
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            for p2 in range(job.in2):
                buffer[p2] = start
            for p0 in range(w0[0], w0[1], job.dilation0):
                for p1 in range(w1[0], w1[1], job.dilation1):
                    _reduce(buffer, 0, x, xb + _at(xs, p0, p1, 0), xs.s2, job.in2, job.maximum)
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                total = start
                for p2 in range(w2[0], w2[1], job.dilation2):
                    v = buffer[p2]
                    if job.maximum:
                        total = v if v > total or v != v else total
                    else:
                        total += v
                if job.counted:
                    divisor = start + w0[2] * w1[2] * w2[2]
                y[yb + _at(ys, o0, o1, o2)] = total / divisor
                if job.indexed:
                    indices[ib + _at(js, o0, o1, o2)] = _argmax(x, xb, xs, job, w0, w1, w2)


@part
def _plane_backward(dy, yb, ys, x, xb, xs, indices, ib, js, dx, db, ds, buffer, job, windows, divisor):
    for p0 in range(job.in0):
        for p1 in range(job.in1):
            row = db + _at(ds, p0, p1, 0)
            for p2 in range(job.in2):
                dx[row + p2 * ds.s2] = 0
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            if not job.maximum:
                for p2 in range(job.in2):
                    buffer[p2] = 0
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                share = dy[yb + _at(ys, o0, o1, o2)]
                if job.maximum:
                    at = ib + _at(js, o0, o1, o2)
                    position = indices[at] if job.indexed else _argmax(x, xb, xs, job, w0, w1, w2)
                    if position >= 0:
                        dx[db + _spread(ds, position, job)] += share
                else:
                    if job.counted:
                        divisor = w0[2] * w1[2] * w2[2]
                    for p2 in range(w2[0], w2[1], job.dilation2):
                        buffer[p2] += share / divisor
            if not job.maximum:
                for p0 in range(w0[0], w0[1], job.dilation0):
                    for p1 in range(w1[0], w1[1], job.dilation1):
                        row = db + _at(ds, p0, p1, 0)
                        for p2 in range(job.in2):
                            dx[row + p2 * ds.s2] += buffer[p2]


# -------------------------------------------------------------------------------------- a block of channels at a time


@part
def _argmax_block(x, xb, xs, count, buffer, positions, job, w0, w1, w2):
    """``_argmax`` for ``count`` channels at once."""
    for c in range(count):
        positions[c] = -1
    for p0 in range(w0[0], w0[1], job.dilation0):
        for p1 in range(w1[0], w1[1], job.dilation1):
            for p2 in range(w2[0], w2[1], job.dilation2):
                source = xb + _at(xs, p0, p1, p2)
                position = (p0 * job.in1 + p1) * job.in2 + p2
                for c in range(count):
                    value = x[source + c * xs.c]
                    if positions[c] < 0 or value > buffer[c] or value != value:
                        buffer[c] = value
                        positions[c] = position


@part
def _block_forward(x, xb, xs, y, yb, ys, indices, ib, js, count, buffer, positions, job, windows, start, divisor):
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                if job.indexed:
                    _argmax_block(x, xb, xs, count, buffer, positions, job, w0, w1, w2)
                    for c in range(count):
                        indices[ib + _at(js, o0, o1, o2) + c * js.c] = positions[c]
                for c in range(count):
                    buffer[c] = start
                for p0 in range(w0[0], w0[1], job.dilation0):
                    for p1 in range(w1[0], w1[1], job.dilation1):
                        for p2 in range(w2[0], w2[1], job.dilation2):
                            _reduce(buffer, 0, x, xb + _at(xs, p0, p1, p2), xs.c, count, job.maximum)
                if job.counted:
                    divisor = start + w0[2] * w1[2] * w2[2]
                target = yb + _at(ys, o0, o1, o2)
                for c in range(count):
                    y[target + c * ys.c] = buffer[c] / divisor


@part
def _block_backward(
    dy, yb, ys, x, xb, xs, indices, ib, js, dx, db, ds, count, buffer, positions, job, windows, divisor
):
    for p0 in range(job.in0):
        for p1 in range(job.in1):
            for p2 in range(job.in2):
                target = db + _at(ds, p0, p1, p2)
                for c in range(count):
                    dx[target + c * ds.c] = 0
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(job.out1):
            w1 = windows[job.out0 + o1]
            for o2 in range(job.out2):
                w2 = windows[job.out0 + job.out1 + o2]
                source = yb + _at(ys, o0, o1, o2)
                if job.maximum:
                    if job.indexed:
                        for c in range(count):
                            positions[c] = indices[ib + _at(js, o0, o1, o2) + c * js.c]
                    else:
                        _argmax_block(x, xb, xs, count, buffer, positions, job, w0, w1, w2)
                    for c in range(count):
                        if positions[c] >= 0:
                            dx[db + _spread(ds, positions[c], job) + c * ds.c] += dy[source + c * ys.c]
                else:
                    if job.counted:
                        divisor = w0[2] * w1[2] * w2[2]
                    for c in range(count):
                        buffer[c] = dy[source + c * ys.c] / divisor
                    for p0 in range(w0[0], w0[1], job.dilation0):
                        for p1 in range(w1[0], w1[1], job.dilation1):
                            for p2 in range(w2[0], w2[1], job.dilation2):
                                target = db + _at(ds, p0, p1, p2)
                                for c in range(count):
                                    dx[target + c * ds.c] += buffer[c]


# ---------------------------------------------------------------------------------------------------- the workers


@jit
def forward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions):
    """x, y and indices (addresses and strides in this order): take pieces until none is left."""
    job, xs, ys, js = jobs[0], strides[0], strides[1], strides[2]
    x, y, indices = pointer(addresses[0], buffer), pointer(addresses[1], buffer), pointer(addresses[2], windows)
    line, start, divisor = data_of(buffer), scalars[0], scalars[1]
    blocks = (job.c + job.block - 1) // job.block
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        xb, yb, ib = n * xs.n + c * xs.c, n * ys.n + c * ys.c, n * js.n + c * js.c
        if job.channels_inside:
            _block_forward(x, xb, xs, y, yb, ys, indices, ib, js, count, line, positions, job, windows, start, divisor)
        else:
            for i in range(count):
                _plane_forward(
                    x, xb + i * xs.c, xs, y, yb + i * ys.c, ys, indices, ib + i * js.c, js, line, job, windows, start,
                    divisor,
                )  # fmt: skip
        piece = fetch_add(counter)


@jit
def backward(counter, pieces, jobs, strides, windows, addresses, scalars, buffer, positions):
    """dy, x, indices and dx (addresses and strides in this order): take pieces until none is left."""
    job, ys, xs, js, ds = jobs[0], strides[0], strides[1], strides[2], strides[3]
    dy, x = pointer(addresses[0], buffer), pointer(addresses[1], buffer)
    indices, dx = pointer(addresses[2], windows), pointer(addresses[3], buffer)
    line, divisor = data_of(buffer), scalars[1]
    blocks = (job.c + job.block - 1) // job.block
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        yb, xb = n * ys.n + c * ys.c, n * xs.n + c * xs.c
        ib, db = n * js.n + c * js.c, n * ds.n + c * ds.c
        if job.channels_inside:
            _block_backward(
                dy, yb, ys, x, xb, xs, indices, ib, js, dx, db, ds, count, line, positions, job, windows, divisor
            )
        else:
            for i in range(count):
                _plane_backward(
                    dy, yb + i * ys.c, ys, x, xb + i * xs.c, xs, indices, ib + i * js.c, js, dx, db + i * ds.c, ds,
                    line, job, windows, divisor,
                )  # fmt: skip
        piece = fetch_add(counter)


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
        self._sizes = (*fill, *spec.in_size, *fill, *spec.out_size, *fill, *(() if spec.adaptive else spec.dilation))
        if spec.adaptive:
            self._sizes += (1,) * spec.ndim
        tables = [((0, 1, 1),)] * (3 - spec.ndim) + list(spec.windows)
        self._windows = np.array([window for table in tables for window in table], np.int64)
        average = spec.kind == "avg"
        start = -np.inf if spec.kind == "max" else 0.0
        divisor = spec.divisor if average and spec.divisor is not None else 1.0
        self._scalars = np.array([start, divisor], self.dtype)
        self._counted = average and spec.divisor is None
        self._work = (
            spec.n * spec.c * prod(spec.out_size) * prod(len(t) and max(e - s for s, e, _ in t) for t in tables)
        )
        self._strides = lru_cache(maxsize=8)(self._make_strides)

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
        return threads * self._line(self._block(threads)) * (self.dtype.itemsize + 8)

    def _line(self, block: int) -> int:
        return block if self.spec.channels_last else self.spec.in_size[-1]

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
        threads = self._threads()
        block = self._block(threads)
        pieces = spec.n * -(-spec.c // block)
        threads = min(threads, pieces)
        indexed = arrays[2] is not None
        job = np.array(
            [(spec.n, spec.c, block, spec.channels_last, spec.kind == "max", indexed, self._counted, *self._sizes)],
            PROBLEM,
        )
        strides = self._strides(*[None if a is None else steps(a) for a in arrays])
        addresses = np.array([address_of(a) for a in arrays], np.int64)
        counter = np.zeros(1, np.int64)
        run = forward if spec.direction == "fwd" else backward

        def work() -> None:
            line = self._line(block)
            buffer, positions = np.empty(line, self.dtype), np.empty(line, np.int64)
            run(counter, pieces, job, strides, self._windows, addresses, self._scalars, buffer, positions)

        workers.run(work, threads)
