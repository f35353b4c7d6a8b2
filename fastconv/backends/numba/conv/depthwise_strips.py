"""Depthwise convolution: some rows at a time are copied to strips, in which a pixel is a vector of channels, with zeros
around; every tap is a shifted strip. What comes out is copied to where it belongs. The same for any layout.

The gradient of the weights multiplies strips of both arrays, tap by tap.
"""

from __future__ import annotations

import numpy as np

from ..core.activations import activate
from ..core.compile import jit, part
from ..core.intrinsics import compact, data_of, fetch_add, no_inline, plain, pointer, vector_lanes, zero_vector
from ..core.lines import accumulate
from ..core.target import lanes
from .strips import empty_strip, fill_strip
from .tiles import PIXELS, TOGETHER, correlate_strip, weigh_strip, weigh_strip_1, weigh_strip_2
from .walk import Gradients, Phases, Results, Walk

__all__ = ["StripWeights", "Strips"]

_i8 = np.int64

#: Bytes of the source's strip, where that leaves enough rows for each to be read seldom.
_BYTES = 64 * 1024

#: Pixels whose gradients are summed at a time; pixels of a row whose sums are added before they are to the others in
#: float64.
_PIXELS, _SUMMED = 256, 32 * 1024

PROBLEM = np.dtype(
    [
        ("n", _i8), ("groups", _i8), ("taps", _i8), ("first_offset", _i8), ("weights_at", _i8),
        # The source, and the steps of a coordinate from one result to the next.
        ("size_0", _i8), ("size_1", _i8), ("size_2", _i8), ("step_0", _i8), ("step_1", _i8), ("step_2", _i8),
        # Results of the job, where the first is among all, and how far they are apart there.
        ("q0", _i8), ("q1", _i8), ("q2", _i8), ("begin_0", _i8), ("begin_1", _i8), ("begin_2", _i8),
        ("every_0", _i8), ("every_1", _i8), ("every_2", _i8), ("full_0", _i8), ("full_1", _i8), ("full_2", _i8),
        # Rows of results at a time; where what all the jobs' taps read begins, its slices, rows for one row, columns.
        ("rows", _i8), ("low_0", _i8), ("low_1", _i8), ("low_2", _i8), ("depth", _i8), ("span", _i8), ("width", _i8),
        # Elements of a slice of the source's strip; where the results' begins.
        ("slice", _i8), ("results", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8), ("untouched", _i8),
    ]
)  # fmt: skip


@part
def _fill_source(strip, src, base, step, job, q0, q1, end, count):
    """What the results (q0, q1 to end) read."""
    for u in range(job.depth):
        x0 = q0 * job.step_0 + job.low_0 + u
        fill_strip(
            strip, u * job.slice, src, base + x0 * step.s0, step, q1 * job.step_1 + job.low_1, job.low_2, plain(1),
            plain(1),
            (end - q1 - 1) * job.step_1 + job.span, job.width, job.size_1 if 0 <= x0 < job.size_0 else 0, job.size_2,
            count,
        )  # fmt: skip


@part
def _weigh(to, d, d_line, d_step, strip, s, s_line, s_step, weights, w, bias_at, offsets, job, rows):
    """Rows of results."""
    compact()
    no_inline()
    for i in range(rows):
        # The last pixels may begin among those before.
        for q in range(0, job.q2, PIXELS):
            j = max(0, min(q, job.q2 - PIXELS))
            at, source, many = d + i * d_line + j * d_step, s + i * s_line + j * s_step, min(PIXELS, job.q2)
            if job.step_2 == 1:
                weigh_strip_1(to, at, d_step, strip, source, s_step, weights, w, bias_at, offsets, job.taps, many)
            elif job.step_2 == 2:
                weigh_strip_2(to, at, d_step, strip, source, s_step, weights, w, bias_at, offsets, job.taps, many)
            else:
                weigh_strip(to, at, d_step, strip, source, s_step, weights, w, bias_at, offsets, job.taps, many)


@jit
def multiply(counter, pieces, jobs, strides, table, addresses, weights, scalars, work):
    """Take pieces, some rows of a vector of channels each, until none is left. ``strides``: of source, result and
    residual."""
    compact()
    whole, xs, ys, rs = jobs[0], strides[0], strides[1], strides[2]
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    strip, panel = data_of(work), data_of(weights)
    lane = vector_lanes(strip)
    blocks, chunks = (whole.groups + lane - 1) // lane, (whole.q1 + whole.rows - 1) // whole.rows
    results = whole.rows * whole.every_1 * whole.full_2 * lane
    bias_at = whole.results + 2 * results
    piece = fetch_add(counter)
    while piece < pieces:
        # Where channels are contiguous the blocks of a chunk share the lines of the cache.
        block, chunk, n = piece % blocks, piece // blocks % chunks, piece // (chunks * blocks)
        q1, c = chunk * whole.rows, block * lane
        count, end = min(lane, whole.groups - c), min(whole.q1, q1 + whole.rows)
        zero_vector(strip, bias_at)
        for k in range(count if whole.bias else 0):
            strip[bias_at + k] = bias[(c + k) * whole.bias_stride]
        y0 = q1 * whole.every_1
        lines = min(whole.full_1, end * whole.every_1) - y0
        for z in range(whole.full_0):
            q0 = z // whole.every_0
            _fill_source(strip, src, xs.base + n * xs.n + c * xs.c, xs, whole, q0, q1, end, count)
            o = ys.base + n * ys.n + c * ys.c + z * ys.s0 + y0 * ys.s1
            straight = whole.untouched and ys.c == 1 and count == lane
            for which in range(len(jobs)):
                job = jobs[which]
                if z % whole.every_0 != job.begin_0:
                    continue
                to, at, line, step = strip, whole.results, whole.full_2 * lane, lane
                if straight:
                    to, at, line, step = out, o, ys.s1, ys.s2
                _weigh(
                    to, at + job.begin_1 * line + job.begin_2 * step, job.every_1 * line, job.every_2 * step, strip,
                    plain(0), job.step_1 * job.width * lane, job.step_2 * lane, panel,
                    job.weights_at + block * job.taps * lane, bias_at, table[job.first_offset :], job,
                    min(end, job.q1) - q1,
                )  # fmt: skip
            if straight:
                continue
            if whole.residual:
                r = rs.base + n * rs.n + c * rs.c + z * rs.s0 + y0 * rs.s1
                other = whole.results + results
                fill_strip(
                    strip, other, residual, r, rs, plain(0), plain(0), plain(1), plain(1), lines, whole.full_2, lines,
                    whole.full_2, count,
                )  # fmt: skip
                accumulate(strip, whole.results, strip, other, lines * whole.full_2 * lane)
            activate(strip, whole.results, lines * whole.full_2 * lane, whole.activation, scalars[0], scalars[1])
            empty_strip(out, o, ys, strip, whole.results, lines, whole.full_2, count)
        piece = fetch_add(counter)


@jit
def multiply_weights(counter, pieces, jobs, strides, table, addresses, totals, work):
    """Gradients: a piece is a vector of channels. ``strides``: of x and dy; the result: channels of taps, float64."""
    compact()
    job, xs, ys = jobs[0], strides[0], strides[1]
    src, dy, strip = pointer(addresses[0], work), pointer(addresses[1], work), data_of(work)
    lane, offsets = vector_lanes(strip), table[job.first_offset :]
    sums_at = job.results + job.rows * job.q2 * lane
    row, some = job.step_1 * job.width * lane, max(1, _PIXELS // job.q2)
    piece = fetch_add(counter)
    while piece < pieces:
        c = piece * lane
        count = min(lane, job.groups - c)
        for k in range(c * job.taps, (c + count) * job.taps):
            totals[k] = 0
        for n in range(job.n):
            for q0 in range(job.q0):
                for q1 in range(0, job.q1, job.rows):
                    end = min(job.q1, q1 + job.rows)
                    _fill_source(strip, src, xs.base + n * xs.n + c * xs.c, xs, job, q0, q1, end, count)
                    y = ys.base + n * ys.n + c * ys.c + q0 * ys.s0
                    fill_strip(
                        strip, job.results, dy, y, ys, q1, plain(0), plain(1), plain(1), end - q1, job.q2, job.q1,
                        job.q2, count,
                    )  # fmt: skip
                    for t in range(0, job.taps, TOGETHER):
                        for j0 in range(0, job.q2, _SUMMED):
                            j1 = min(job.q2, j0 + _SUMMED)
                            for k in range(TOGETHER):
                                zero_vector(strip, sums_at + k * lane)
                            # Sums of sums: their error grows with the length of either.
                            for i in range(0, end - q1, some):
                                for j in range(j0, j1, _PIXELS):
                                    correlate_strip(
                                        strip, sums_at, strip, i * row + j * job.step_2 * lane, row,
                                        job.step_2 * lane, strip, job.results + (i * job.q2 + j) * lane, job.q2 * lane,
                                        offsets, t, min(some, end - q1 - i), min(_PIXELS, j1 - j),
                                    )  # fmt: skip
                            for k in range(min(TOGETHER, job.taps - t)):
                                for i in range(count):
                                    totals[(c + i) * job.taps + t + k] += strip[sums_at + k * lane + i]
        piece = fetch_add(counter)


class _Strips(Walk):
    """Phases with their tables."""

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        jobs, every, full, epilogue = phases.jobs, phases.every, phases.full, phases.epilogue
        self.lanes = lanes(phases.dtype)
        whole = jobs[0]
        self.blocks = -(-whole.groups // self.lanes)
        offsets = [o for j in jobs for o in j.offsets] or [(0, 0, 0)]
        low, high = ([f(o[d] for o in offsets) for d in range(3)] for f in (min, max))
        depth, span = high[0] - low[0] + 1, high[1] - low[1] + 1
        width = (whole.size[2] - 1) * whole.step[2] + high[2] - low[2] + 1
        line = depth * width * self.lanes
        # Rows that are read once more for the next ones are a fourth of all, at most.
        fitting = max(_BYTES // self.dtype.itemsize // line, 4 * span)
        self.rows = max(1, min(whole.size[1], (fitting - span) // whole.step[1] + 1))
        slice_ = ((self.rows - 1) * whole.step[1] + span) * width * self.lanes
        # A last pixel's neighbours are read, too.
        results = depth * slice_ + PIXELS * whole.step[2] * self.lanes
        table: list[int] = []
        records, weights = [], 0
        for job, begin in zip(jobs, phases.begins, strict=True):
            first = len(table)
            places = [[o - lo for o, lo in zip(offset, low, strict=True)] for offset in job.offsets]
            table += [z * slice_ + (y * width + x) * self.lanes for z, y, x in places] + [0] * TOGETHER
            records.append(
                (
                    job.n, job.groups, len(job.offsets), first, weights, *job.image, *job.step, *job.size, *begin,
                    *every, *full, self.rows, *low, depth, span, width, slice_, results, *epilogue, not any(epilogue),
                )
            )  # fmt: skip
            weights += self.blocks * len(job.offsets) * self.lanes
        self.table, self.problems = np.array(table, np.int64), np.array(records, PROBLEM)
        # The results' strip, as much for a residual, and a vector of bias or the sums.
        rows = self.rows * every[1] * full[2] * self.lanes
        self.work = results + 2 * rows + TOGETHER * self.lanes


class Strips(_Strips, Results):
    """A convolution, forward or backward-input."""

    kernel = staticmethod(multiply)

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        jobs, taps = self.jobs, phases.taps
        self.pieces = jobs[0].n * self.blocks * -(-jobs[0].size[1] // self.rows)
        # Where, among the weights, the kernel's lie: by blocks of channels, taps and channels. Of the channels that
        # fill up the last block nothing is kept; so any weights will do.
        whole = np.arange(jobs[0].groups * taps).reshape(-1, taps)
        whole = np.pad(whole, ((0, -len(whole) % self.lanes), (0, 0))).reshape(-1, self.lanes, taps)
        self.order = np.concatenate([whole[..., job.taps].swapaxes(1, 2).ravel() for job in jobs])


class StripWeights(_Strips, Gradients):
    """The gradient of the weights: (channels, taps), summed over strips."""

    kernel = staticmethod(multiply_weights)

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        self.pieces = self.blocks
        self.shape = (self.jobs[0].groups, len(self.jobs[0].offsets))
