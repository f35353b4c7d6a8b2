"""Convolution of groups too small for a register tile, without a matrix product.

The input rows that a few output rows need are copied to a small buffer with zeros around them, apart by position modulo
the stride; then every tap is a shifted contiguous row. The gradient of the weights goes the same way.
"""

from __future__ import annotations

import numpy as np

from ..core.arrays import up
from ..core.compile import jit, part
from ..core.intrinsics import (
    compact,
    copy_evens,
    copy_vector,
    data_of,
    fetch_add,
    no_inline,
    plain,
    pointer,
    vector_lanes,
)
from ..core.lines import finish, turn
from ..core.target import lanes
from .tiles import COLUMNS, LINES, TOGETHER, correlate_rows, weigh_results, weigh_rows
from .walk import DirectJob, Gradients, Phases, Results, Walk

__all__ = ["Direct", "DirectWeights"]

_i8 = np.int64

#: Columns that are summed in the arrays' own type before they are added to the others.
_PIXELS = 4096

#: Elements of the row buffer that stay in the first-level cache, and in the second-level one.
_NEAR, _FAR = 6144, 40960

PROBLEM = np.dtype(
    [
        ("n", _i8), ("groups", _i8), ("channels", _i8), ("results", _i8), ("taps", _i8), ("weights_at", _i8),
        # The source: its sizes, and the steps of a coordinate from one output to the next.
        ("size_0", _i8), ("size_1", _i8), ("size_2", _i8), ("step_0", _i8), ("step_1", _i8), ("step_2", _i8),
        ("q0", _i8), ("q1", _i8), ("q2", _i8),
        # The row buffer: output rows at a time; lowest offsets of taps; its size; rows that the taps span.
        ("rows", _i8), ("low_0", _i8), ("low_1", _i8), ("low_2", _i8),
        ("depth", _i8), ("height", _i8), ("width", _i8), ("span", _i8),
        # Where it begins in the work space, behind the lines; where its offsets begin in the table.
        ("buffer", _i8), ("first_offset", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8), ("untouched", _i8),
    ]
)  # fmt: skip


@part
def _fill_row(buffer, at, src, source, every, j0, j1, width):
    """``buffer[at + j] = src[source + j every]`` for j0 <= j < j1, 0 around them up to ``width``."""
    compact()
    no_inline()
    lane, j = vector_lanes(buffer), j0
    for k in range(j0):
        buffer[at + k] = 0
    if every == 1:
        while j + lane <= j1:
            copy_vector(buffer, at + j, src, source + j)
            j += lane
    elif every == 2:
        while j + lane < j1:
            copy_evens(buffer, at + j, src, source + 2 * j)
            j += lane
    for k in range(j, j1):
        buffer[at + k] = src[source + k * every]
    for k in range(j1, width):
        buffer[at + k] = 0


@part
def _fill_rows(buffer, b, src, base, step, job, q0, q1, end):
    """The input rows that the outputs (q0, q1 to end) of a group need, zero outside the image."""
    compact()
    no_inline()
    pitch = job.step_2 * job.width
    plane = job.depth * job.height * pitch
    for u in range(job.depth):
        x0 = q0 * job.step_0 + job.low_0 + u
        for h in range((end - q1 - 1) * job.step_1 + job.span):
            x1 = q1 * job.step_1 + job.low_1 + h
            inside = 0 <= x0 < job.size_0 and 0 <= x1 < job.size_1
            for phase in range(job.step_2):
                first, every = job.low_2 + phase, step.s2 * job.step_2
                j0, j1 = max(0, -(first // job.step_2)), min(job.width, -((first - job.size_2) // job.step_2))
                if not inside or j1 <= j0:
                    j0, j1 = job.width, job.width
                at = b + (u * job.height + h) * pitch + phase * job.width
                source = base + x0 * step.s0 + x1 * step.s1 + first * step.s2
                turned = step.c == 1 and job.channels > 1
                for c in range(job.channels):
                    # Where channels are contiguous, what is inside comes afterwards, of all of them at once.
                    k0 = j1 if turned else j0
                    _fill_row(buffer, at + c * plane, src, source + c * step.c, every, k0, j1, job.width)
                if turned:
                    turn(buffer, at + j0, plane, src, source + j0 * every, every, j1 - j0, job.channels)


@part
def _weigh_lines(
    line, source, panel, w, offsets, terms, by_results, some, out, o, ys, residual, r, rs, bias, b, job, scalars
):
    """LINES rows of one result, or as many results of one row: ``some`` of them exist."""
    compact()
    no_inline()
    block = COLUMNS * vector_lanes(line)
    pitch = (job.q2 + block - 1) // block * block
    o_line, r_line = (ys.c, rs.c) if by_results else (ys.s1, rs.s1)
    # Whole blocks of columns go where they belong, unless something is left to be done to them.
    whole = job.q2 // block * block if job.untouched and ys.s2 == 1 and some == LINES else 0
    for j in range(0, job.q2, block):
        to, at, step = (out, o + j, o_line) if j < whole else (line, j, pitch)
        if by_results:
            weigh_results(to, at, step, line, source + j, panel, w, terms, offsets, terms)
        else:
            apart = job.step_1 * job.step_2 * job.width
            weigh_rows(to, at, step, line, source + j, panel, w, apart, offsets, terms)
    for i in range(some if whole < job.q2 else 0):
        finish(
            line, i * pitch + whole, job.q2 - whole, bias, b + (i * job.bias_stride if by_results else 0), plain(0),
            out, o + i * o_line + whole * ys.s2, ys.s2, residual, r + i * r_line, rs.s2, job.bias, job.residual,
            job.activation, scalars,
        )  # fmt: skip


@jit
def rows(counter, pieces, jobs, strides, table, addresses, weights, scalars, work):
    """Forward: a piece is some rows of a group. ``strides``: source, result, residual of each job."""
    compact()
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    line, panel = data_of(work), data_of(weights)
    # The first job is the largest; all read the same rows.
    whole, xs = jobs[0], strides[0]
    chunks = (whole.q1 + whole.rows - 1) // whole.rows
    piece = fetch_add(counter)
    while piece < pieces:
        q1, g, n = piece % chunks * whole.rows, piece // chunks % whole.groups, piece // (chunks * whole.groups)
        first, last = g * whole.results, (g + 1) * whole.results
        # As many results at a time, if one less exists at least; of the others, as many rows.
        tiled = last - (whole.results % LINES) * (whole.results % LINES < LINES - 1)
        for q0 in range(whole.q0):
            base = xs.base + n * xs.n + g * whole.channels * xs.c
            _fill_rows(line, whole.buffer, src, base, xs, whole, q0, q1, min(whole.q1, q1 + whole.rows))
            for which in range(len(jobs)):
                job, ys, rs = jobs[which], strides[3 * which + 1], strides[3 * which + 2]
                offsets = table[job.first_offset :]
                terms, pitch = job.channels * job.taps, job.step_2 * job.width
                o, r = ys.base + n * ys.n + q0 * ys.s0, rs.base + n * rs.n + q0 * rs.s0
                end = min(job.q1, q1 + job.rows)
                for i in range(first, last if q0 < job.q0 else first, LINES):
                    for k in range(1 if i < tiled else last - i):
                        for q in range(q1, end, 1 if i < tiled else LINES):
                            _weigh_lines(
                                line, job.buffer + (q - q1) * job.step_1 * pitch, panel,
                                job.weights_at + (i + k) * terms, offsets, terms, i < tiled,
                                min(LINES, last - i if i < tiled else end - q), out, o + (i + k) * ys.c + q * ys.s1, ys,
                                residual, r + (i + k) * rs.c + q * rs.s1, rs, bias, (i + k) * job.bias_stride, job,
                                scalars,
                            )  # fmt: skip
        piece = fetch_add(counter)


@jit
def weight_rows(counter, pieces, jobs, strides, table, addresses, totals, work):
    """Gradient of the weights: a piece is one group. ``strides``: x and dy; result: groups of terms."""
    compact()
    job, xs, ys = jobs[0], strides[0], strides[1]
    src, dy, line = pointer(addresses[0], work), pointer(addresses[1], work), data_of(work)
    offsets = table[job.first_offset :]
    pitch, plane = job.step_2 * job.width, job.depth * job.height * job.step_2 * job.width
    sums, some = np.empty(TOGETHER), max(1, _PIXELS // job.q2)
    g = fetch_add(counter)
    while g < pieces:
        for k in range(g * job.results * job.channels * job.taps, (g + 1) * job.results * job.channels * job.taps):
            totals[k] = 0
        for n in range(job.n):
            for q0 in range(job.q0):
                for q1 in range(0, job.q1, job.rows):
                    end = min(job.q1, q1 + job.rows)
                    base = xs.base + n * xs.n + g * job.channels * xs.c
                    _fill_rows(line, job.buffer, src, base, xs, job, q0, q1, end)
                    for i in range(g * job.results, (g + 1) * job.results):
                        base = n * ys.n + i * ys.c + q0 * ys.s0 + q1 * ys.s1
                        y, yi, y_step = dy, base, ys.s1
                        if ys.s2 != 1:
                            y, yi, y_step = line, 0, job.q2
                            for r in range(end - q1):
                                for j in range(job.q2):
                                    line[r * job.q2 + j] = dy[base + r * ys.s1 + j * ys.s2]
                        for c in range(job.channels):
                            for t in range(0, job.taps, TOGETHER):
                                sums[:] = 0
                                for r in range(0, end - q1, some):
                                    for j in range(0, job.q2, _PIXELS):
                                        at = job.buffer + c * plane + r * job.step_1 * pitch + j
                                        correlate_rows(
                                            sums, 0, y, yi + r * y_step + j, y_step, line, at, job.step_1 * pitch,
                                            offsets, t, min(some, end - q1 - r), min(_PIXELS, job.q2 - j),
                                        )  # fmt: skip
                                for k in range(min(TOGETHER, job.taps - t)):
                                    totals[(i * job.channels + c) * job.taps + t + k] += sums[k]
        g = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------ the jobs


class _Rows(Walk):
    """Jobs with their tables: taps and places in the row buffer."""

    gradient = False

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        epilogue = phases.epilogue
        self.size_buffer()
        table: list[int] = []
        records, weights = [], 0
        for job in self.jobs:
            first_offset = len(table)
            table += self.places(job) + [0] * TOGETHER
            records.append(
                (
                    job.n, job.groups, job.channels, job.results, len(job.offsets), weights,
                    *job.image, *job.step, *job.size, self.rows, *self.low, *self.extent, self.span,
                    self.begin, first_offset, *epilogue, not any(epilogue),
                )
            )  # fmt: skip
            weights += job.groups * job.results * job.channels * len(job.offsets)
        self.table = np.array(table, np.int64)
        self.problems = np.array(records, PROBLEM)

    def size_buffer(self) -> None:
        """The row buffer, which holds what the taps of all jobs read: output rows at a time, sizes, where it begins."""
        job = self.jobs[0]
        offsets = [o for j in self.jobs for o in j.offsets] or [(0, 0, 0)]
        self.low, self.high = ([f(o[d] for o in offsets) for d in range(3)] for f in (min, max))
        columns = up(job.size[2], COLUMNS * lanes(self.dtype.name))
        width = columns + (self.high[2] - self.low[2]) // job.step[2]
        depth, self.span = self.high[0] - self.low[0] + 1, self.high[1] - self.low[1] + 1
        plane = job.channels * depth * width * job.step[2]

        def fitting(elements: int) -> int:
            return (elements // plane - self.span) // job.step[1] + 1

        # Where rows would be copied again and again, the larger cache has more of them.
        near = fitting(_NEAR) * job.step[1] >= 4 * self.span
        self.rows = max(1, min(job.size[1], fitting(_NEAR if near else _FAR)))
        height = (up(self.rows, LINES) - 1) * job.step[1] + self.span
        self.extent = depth, height, width
        self.begin = max(LINES, self.rows if self.gradient else 0) * columns
        self.work = self.begin + plane * height

    def places(self, job: DirectJob) -> list[int]:
        """Where in the row buffer the terms of the first output lie; for gradients, those of the first channel."""
        depth, height, width = self.extent
        pitch = width * job.step[2]
        return [
            ((c * depth + o0 - self.low[0]) * height + o1 - self.low[1]) * pitch
            + (o2 - self.low[2]) % job.step[2] * width
            + (o2 - self.low[2]) // job.step[2]
            for c in range(1 if self.gradient else job.channels)
            for o0, o1, o2 in job.offsets
        ]


class Direct(_Rows, Results):
    """A convolution, forward or backward-input, by rows."""

    kernel = staticmethod(rows)

    def __init__(self, phases: Phases, forward: bool) -> None:
        super().__init__(phases)
        # One piece has the rows of all jobs.
        self.pieces = self.jobs[0].n * self.jobs[0].groups * -(-self.jobs[0].size[1] // self.rows)
        self.order = self._order(forward, phases.taps)

    def _order(self, forward: bool, taps: int) -> np.ndarray:
        """Where, among the weights (groups, oc, ic, taps), the kernel's lie: by terms."""
        oc, ic = self.jobs[0].results, self.jobs[0].channels
        if not forward:
            oc, ic = ic, oc
        orders = []
        whole = np.arange(self.jobs[0].groups * oc * ic * taps).reshape(-1, oc, ic, taps)
        for job in self.jobs:
            orders.append((whole if forward else whole.swapaxes(1, 2))[..., job.taps].ravel())
        # The last results' tile may read as far as one result more.
        return np.concatenate([*orders, np.zeros(max(len(j.offsets) * j.channels for j in self.jobs), np.intp)])


class DirectWeights(_Rows, Gradients):
    """The gradient of the weights: (groups, results, channels, taps), summed over rows."""

    kernel = staticmethod(weight_rows)
    gradient = True

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        (job,) = self.jobs
        self.pieces = job.groups
        self.shape = (job.groups, job.results, job.channels, len(job.offsets))
