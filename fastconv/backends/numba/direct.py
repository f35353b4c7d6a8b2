"""Convolution of groups too small for a register tile (depthwise, above all), without a matrix product.

Channels first: the input rows that a few output rows need are copied to a small buffer with zeros around them, apart
by position modulo the stride; then every tap is a shifted contiguous row. Channels last: some vectors of channels are
weighed at a time, tap by tap, where the input lies. The gradient of the weights goes the same two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...spec import Activation
from ...threads import get_num_threads
from . import workers
from .engine import activate
from .product import WORK_FLOOR, Packed, activation_number, address_of
from .simd import (
    ABREAST,
    copy_vector,
    correlate_channels,
    data_of,
    dot,
    fetch_add,
    jit,
    lanes,
    no_inline,
    pointer,
    vector_lanes,
    weigh_channels,
    weigh_row,
)

__all__ = ["Direct", "DirectJob", "DirectWeights"]

_i8 = np.int64
Triple = tuple[int, int, int]

#: Elements of the row buffer that stay in the first-level cache.
_BUFFER = 6144

PROBLEM = np.dtype(
    [
        ("n", _i8), ("groups", _i8), ("channels", _i8), ("results", _i8), ("taps", _i8), ("first_tap", _i8),
        ("first_piece", _i8), ("weights_at", _i8),
        # The source: its sizes, and the steps of a coordinate from one output to the next.
        ("size_0", _i8), ("size_1", _i8), ("size_2", _i8), ("step_0", _i8), ("step_1", _i8), ("step_2", _i8),
        ("q0", _i8), ("q1", _i8), ("q2", _i8),
        # The row buffer: output rows at a time; lowest offsets of taps; its size; where its offsets are in the table.
        ("rows", _i8), ("low_0", _i8), ("low_1", _i8), ("low_2", _i8), ("high_2", _i8),
        ("depth", _i8), ("height", _i8), ("width", _i8),
        ("first_offset", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8),
    ]
)  # fmt: skip

#: Address steps of an image array, and where it begins.
STEPS = np.dtype([("n", _i8), ("c", _i8), ("s0", _i8), ("s1", _i8), ("s2", _i8), ("base", _i8)])


@jit
def _fill_rows(buffer, b, src, base, step, job, q0, q1):
    """The input rows that the outputs (q0, q1 ...) of one channel need, zero outside the image."""
    no_inline()
    pitch = job.step_2 * job.width
    for u in range(job.depth):
        x0 = q0 * job.step_0 + job.low_0 + u
        for h in range(job.height):
            x1 = q1 * job.step_1 + job.low_1 + h
            line = b + (u * job.height + h) * pitch
            for j in range(pitch):
                buffer[line + j] = 0
            if not (0 <= x0 < job.size_0 and 0 <= x1 < job.size_1):
                continue
            row = base + x0 * step.s0 + x1 * step.s1
            for phase in range(job.step_2):
                first = job.low_2 + phase
                j0, j1 = max(0, -(first // job.step_2)), min(job.width, -((first - job.size_2) // job.step_2))
                source, stride = row + first * step.s2, step.s2 * job.step_2
                if stride == 1:
                    for j in range(j0, j1):
                        buffer[line + j] = src[source + j]
                else:
                    for j in range(j0, j1):
                        buffer[line + phase * job.width + j] = src[source + j * stride]


@jit
def _finish(line, count, bias, b, b_step, out, o, o_step, residual, r, r_step, job, scalars):
    """The epilogue on ``line[:count]``, and its elements to their places."""
    if job.bias:
        for j in range(count):
            line[j] += bias[b + j * b_step]
    if job.residual:
        for j in range(count):
            line[j] += residual[r + j * r_step]
    activate(line, 0, count, job.activation, scalars[0], scalars[1])
    if o_step == 1:
        width = vector_lanes(line)
        whole = count // width * width
        for j in range(0, whole, width):
            copy_vector(out, o + j, line, j)
        for j in range(whole, count):
            out[o + j] = line[j]
    else:
        for j in range(count):
            out[o + j * o_step] = line[j]


@jit
def _find(jobs, number):
    which = len(jobs) - 1
    while jobs[which].first_piece > number:
        which -= 1
    return which


@jit
def rows(counter, pieces, jobs, strides, table, addresses, weights, scalars, work, pairs):
    """Forward, channels first: a piece is a group of an image. ``strides``: source, result, residual of each job."""
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    line, panel = data_of(work), data_of(weights)
    step = ABREAST * vector_lanes(line)
    number = fetch_add(counter)
    while number < pieces:
        which = _find(jobs, number)
        job = jobs[which]
        xs, ys, rs = strides[3 * which], strides[3 * which + 1], strides[3 * which + 2]
        n, g = (number - job.first_piece) // job.groups, (number - job.first_piece) % job.groups
        offsets = table[job.first_offset :]
        terms, pitch = job.channels * job.taps, job.step_2 * job.width
        buffer = (job.q2 + step - 1) // step * step
        for q0 in range(job.q0):
            for q1 in range(0, job.q1, job.rows):
                for c in range(job.channels):
                    base = xs.base + n * xs.n + (g * job.channels + c) * xs.c
                    _fill_rows(line, buffer + c * job.depth * job.height * pitch, src, base, xs, job, q0, q1)
                for r in range(q1, min(job.q1, q1 + job.rows)):
                    for i in range(g * job.results, (g + 1) * job.results):
                        source = buffer + (r - q1) * job.step_1 * pitch
                        for j in range(0, job.q2, step):
                            weigh_row(line, j, line, source + j, panel, job.weights_at + i * terms, offsets, terms)
                        _finish(
                            line, job.q2, bias, i * job.bias_stride, 0,
                            out, ys.base + n * ys.n + i * ys.c + q0 * ys.s0 + r * ys.s1, ys.s2,
                            residual, rs.base + n * rs.n + i * rs.c + q0 * rs.s0 + r * rs.s1, rs.s2, job, scalars,
                        )  # fmt: skip
        number = fetch_add(counter)


@jit
def channels(counter, pieces, jobs, strides, table, addresses, weights, scalars, work, pairs):
    """Forward, channels last, one channel a group: a piece is one row of pixels."""
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    line, panel = data_of(work), data_of(weights)
    step = ABREAST * vector_lanes(line)
    number = fetch_add(counter)
    while number < pieces:
        which = _find(jobs, number)
        job = jobs[which]
        xs, ys, rs = strides[3 * which], strides[3 * which + 1], strides[3 * which + 2]
        row = number - job.first_piece
        q1, q0, n = row % job.q1, row // job.q1 % job.q0, row // (job.q1 * job.q0)
        pitch = (job.groups + step - 1) // step * step
        taps, whole = 0, False
        for q2 in range(job.q2):
            begin = q2 * job.step_2
            # Between the margins the taps of a pixel are those of the one before it.
            inner = begin + job.low_2 >= 0 and begin + job.high_2 < job.size_2
            if not (inner and whole):
                taps = 0
                for t in range(job.taps):
                    tap = job.first_tap + 3 * t
                    x0, x1 = q0 * job.step_0 + table[tap], q1 * job.step_1 + table[tap + 1]
                    x2 = begin + table[tap + 2]
                    if 0 <= x0 < job.size_0 and 0 <= x1 < job.size_1 and 0 <= x2 < job.size_2:
                        pairs[2 * taps] = x0 * xs.s0 + x1 * xs.s1 + table[tap + 2] * xs.s2
                        pairs[2 * taps + 1] = t
                        taps += 1
            whole = inner
            o = ys.base + n * ys.n + q0 * ys.s0 + q1 * ys.s1 + q2 * ys.s2
            r = rs.base + n * rs.n + q0 * rs.s0 + q1 * rs.s1 + q2 * rs.s2
            for c in range(0, job.groups, step):
                count = min(step, job.groups - c)
                base = xs.base + n * xs.n + begin * xs.s2 + c
                weigh_channels(line, 0, src, base, panel, job.weights_at + c, pitch, pairs, taps, count)
                _finish(
                    line, count, bias, c * job.bias_stride, job.bias_stride, out, o + c * ys.c, ys.c,
                    residual, r + c * rs.c, rs.c, job, scalars,
                )  # fmt: skip
        number = fetch_add(counter)


@jit
def weight_rows(counter, pieces, jobs, strides, table, addresses, totals, work):
    """Gradient of the weights, channels first: a piece is one group. ``strides``: x and dy; result: groups of terms."""
    job, xs, ys = jobs[0], strides[0], strides[1]
    src, dy, line = pointer(addresses[0], work), pointer(addresses[1], work), data_of(work)
    offsets = table[job.first_offset :]
    terms, pitch, width = job.channels * job.taps, job.step_2 * job.width, vector_lanes(line)
    vectors = (job.q2 + width - 1) // width
    buffer = vectors * width
    g = fetch_add(counter)
    while g < pieces:
        for k in range(g * job.results * terms, (g + 1) * job.results * terms):
            totals[k] = 0
        for j in range(job.q2, buffer):
            line[j] = 0
        for n in range(job.n):
            for q0 in range(job.q0):
                for q1 in range(0, job.q1, job.rows):
                    for c in range(job.channels):
                        base = xs.base + n * xs.n + (g * job.channels + c) * xs.c
                        _fill_rows(line, buffer + c * job.depth * job.height * pitch, src, base, xs, job, q0, q1)
                    for r in range(q1, min(job.q1, q1 + job.rows)):
                        source = buffer + (r - q1) * job.step_1 * pitch
                        for i in range(g * job.results, (g + 1) * job.results):
                            base = n * ys.n + i * ys.c + q0 * ys.s0 + r * ys.s1
                            for j in range(job.q2):
                                line[j] = dy[base + j * ys.s2]
                            for k in range(terms):
                                totals[i * terms + k] += dot(line, 0, line, source + offsets[k], vectors)
        g = fetch_add(counter)


@jit
def weight_channels(counter, pieces, jobs, strides, table, addresses, totals, work):
    """Gradient of the weights, channels last, one channel a group: a piece is as many as are weighed at a time."""
    job, xs, ys = jobs[0], strides[0], strides[1]
    src, dy, line = pointer(addresses[0], work), pointer(addresses[1], work), data_of(work)
    step = ABREAST * vector_lanes(line)
    piece = fetch_add(counter)
    while piece < pieces:
        c = piece * step
        count = min(step, job.groups - c)
        for k in range(c * job.taps, (c + count) * job.taps):
            totals[k] = 0
        for n in range(job.n):
            for j in range(job.taps * step):
                line[j] = 0
            for q0 in range(job.q0):
                for q1 in range(job.q1):
                    for t in range(job.taps):
                        tap = job.first_tap + 3 * t
                        x0, x1 = q0 * job.step_0 + table[tap], q1 * job.step_1 + table[tap + 1]
                        if not (0 <= x0 < job.size_0 and 0 <= x1 < job.size_1):
                            continue
                        first = table[tap + 2]
                        j0 = max(0, -(first // job.step_2))
                        j1 = max(j0, min(job.q2, -((first - job.size_2) // job.step_2)))
                        x = n * xs.n + x0 * xs.s0 + x1 * xs.s1 + (j0 * job.step_2 + first) * xs.s2 + c
                        y = n * ys.n + q0 * ys.s0 + q1 * ys.s1 + j0 * ys.s2 + c
                        correlate_channels(line, t * step, src, x, job.step_2 * xs.s2, dy, y, ys.s2, j1 - j0, count)
            for i in range(count):
                for t in range(job.taps):
                    totals[(c + i) * job.taps + t] += line[t * step + i]
        piece = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------ the jobs


@dataclass
class DirectJob:
    """Outputs ``q`` of ``results`` channels a group from ``channels``: taps are offsets to ``q step`` in ``image``."""

    n: int
    groups: int
    channels: int
    results: int
    size: Triple
    step: Triple
    image: Triple
    offsets: list[Triple]

    def buffer(self, dtype: str) -> tuple[tuple[int, ...], list[int], int]:
        """(fields rows to width, the terms' places in the row buffer, its elements)."""
        offsets = self.offsets or [(0, 0, 0)]
        low, high = ([f(o[d] for o in offsets) for d in range(3)] for f in (min, max))
        abreast = ABREAST * lanes(dtype)
        width = -(-self.size[2] // abreast) * abreast + (high[2] - low[2]) // self.step[2]
        depth, pitch = high[0] - low[0] + 1, width * self.step[2]
        span = high[1] - low[1] + 1
        fitting = (_BUFFER // (self.channels * depth * pitch) - span) // self.step[1] + 1
        count = max(1, min(self.size[1], fitting))
        height = (count - 1) * self.step[1] + span
        places = [
            ((c * depth + o0 - low[0]) * height + o1 - low[1]) * pitch
            + (o2 - low[2]) % self.step[2] * width
            + (o2 - low[2]) // self.step[2]
            for c in range(self.channels)
            for o0, o1, o2 in self.offsets
        ]
        return (count, *low, high[2], depth, height, width), places, self.channels * depth * height * pitch


class _Jobs:
    """Jobs with their tables: taps and places in the row buffer."""

    def __init__(self, dtype: str, jobs: list[DirectJob], by_rows: bool) -> None:
        self.dtype = np.dtype(dtype)
        self.jobs = jobs
        self.by_rows = by_rows
        self.macs = sum(j.n * j.groups * j.results * j.channels * len(j.offsets) * prod(j.size) for j in jobs)
        self.step = ABREAST * lanes(dtype)

    def records(self, pieces_of: Callable[[DirectJob], int], epilogue: tuple[int, ...]) -> None:
        table: list[int] = []
        records, self.pieces, weights, self.work = [], 0, 0, self.step
        for job in self.jobs:
            fields, places, size = job.buffer(self.dtype.name)
            first_tap = len(table)
            table += [x for offset in job.offsets for x in offset]
            first_offset = len(table)
            table += places
            records.append(
                (
                    job.n, job.groups, job.channels, job.results, len(job.offsets), first_tap, self.pieces, weights,
                    *job.image, *job.step, *job.size, *fields, first_offset, *epilogue,
                )
            )  # fmt: skip
            weights += self.panel_size(job)
            self.pieces += pieces_of(job)
            if self.by_rows:
                self.work = max(self.work, size + -(-job.size[2] // self.step) * self.step)
        self.table = np.array(table or [0], np.int64)
        self.problems = np.array(records, PROBLEM)

    def panel_size(self, job: DirectJob) -> int:
        if self.by_rows:
            return job.groups * job.results * job.channels * len(job.offsets)
        return len(job.offsets) * -(-job.groups // self.step) * self.step

    def threads(self) -> int:
        return min(get_num_threads(), self.pieces) if self.macs >= WORK_FLOOR else 1


class Direct(_Jobs):
    """Jobs that write disjoint parts of one result."""

    def __init__(
        self,
        dtype: str,
        jobs: list[DirectJob],
        by_rows: bool,
        strides: list[tuple[int, ...]],
        bias_step: int | None,
        residual: bool,
        activation: Activation | None,
    ) -> None:
        super().__init__(dtype, jobs, by_rows)
        number, *parameters = activation_number(activation)
        pieces = (lambda j: j.n * j.groups) if by_rows else (lambda j: j.n * j.size[0] * j.size[1])
        self.records(pieces, (bias_step is not None, bias_step or 0, residual, number))
        self.scalars = np.array(parameters, self.dtype)
        self.strides = np.array(strides, STEPS)
        self.most_taps = max(len(j.offsets) for j in jobs)

    @property
    def workspace_bytes(self) -> int:
        panels = sum(map(self.panel_size, self.jobs)) * self.dtype.itemsize
        return panels + self.threads() * (self.work * self.dtype.itemsize + 16 * self.most_taps)

    def pack(self, parts: list[np.ndarray]) -> Packed:
        """The weights of each job (groups, results, channels, taps) as the kernel reads them."""
        panels = []
        for part in parts:
            if not self.by_rows:
                part = np.pad(part[:, 0, 0].T, ((0, 0), (0, -len(part) % self.step)))
            panels.append(part.ravel())
        return Packed(np.concatenate([*panels, np.zeros(1, self.dtype)]))

    def run(
        self,
        source: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: Packed,
    ) -> None:
        addresses = np.array([address_of(a) for a in (source, out, residual, bias)], np.int64)
        counter = np.zeros(1, np.int64)
        kernel: Any = rows if self.by_rows else channels

        def work() -> None:
            space, pairs = np.empty(self.work, self.dtype), np.empty(2 * self.most_taps + 2, np.int64)
            kernel(
                counter, self.pieces, self.problems, self.strides, self.table, addresses, packed.data, self.scalars,
                space, pairs,
            )  # fmt: skip

        workers.run(work, self.threads())


class DirectWeights(_Jobs):
    """The gradient of the weights: (groups, results, channels, taps), summed in float64 over rows or images."""

    def __init__(self, dtype: str, job: DirectJob, by_rows: bool, strides: list[tuple[int, ...]]) -> None:
        super().__init__(dtype, [job], by_rows)
        self.records(lambda j: j.groups if by_rows else -(-j.groups // self.step), (0, 0, 0, 0))
        if not by_rows:
            self.work = self.step * len(job.offsets)
        self.strides = np.array(strides, STEPS)
        self.shape = (job.groups, job.results, job.channels, len(job.offsets))

    @property
    def workspace_bytes(self) -> int:
        return self.threads() * self.work * self.dtype.itemsize + 8 * prod(self.shape)

    def run(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        totals = np.empty(self.shape)
        addresses = np.array([address_of(x), address_of(dy)], np.int64)
        counter = np.zeros(1, np.int64)
        kernel: Any = weight_rows if self.by_rows else weight_channels

        def work() -> None:
            space = np.empty(self.work, self.dtype)
            kernel(counter, self.pieces, self.problems, self.strides, self.table, addresses, totals.reshape(-1), space)

        workers.run(work, self.threads())
        return totals
