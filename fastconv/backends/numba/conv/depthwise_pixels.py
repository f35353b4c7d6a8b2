"""Depthwise convolution of two-dimensional images whose channels are contiguous, read where they are: a tile is a
vector of channels of one column of a few lines, whose rows of taps overlap. Padding is a row of zeros like any other,
found by a table of addresses. The gradient of the weights goes the same way.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from ...._threads import get_num_threads
from ..core.activations import activate
from ..core.compile import jit, part
from ..core.intrinsics import address_in, compact, data_of, fetch_add, no_inline, pointer, vector_lanes, zero_vector
from ..core.lines import accumulate
from ..core.target import lanes
from .tiles import (
    correlate_3,
    correlate_3_1,
    correlate_3_2,
    correlate_5,
    correlate_5_1,
    correlate_5_2,
    lines_of,
    weigh_1_1,
    weigh_2_1,
    weigh_3_1,
    weigh_3_2,
    weigh_5_1,
    weigh_5_2,
)
from .walk import DirectJob, Gradients, Phases, Results, Walk

__all__ = ["PixelWeights", "Pixels", "serves"]

_i8 = np.int64

#: Lines of results of a piece, at least two tiles.
_LINES = 8

#: Bytes of weights that stay near.
_NEAR = 12 * 1024

#: Channels of a piece of the gradient: as many as have their sums near, or fewer for several threads, but so many.
_CHANNELS, _FEWEST = 256, 64

#: Pixels whose gradients are summed before they are added to those of the others.
_PIXELS = 512

#: Rows of taps and steps that there is a tile for.
_FORWARD = ((1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (5, 2))
_GRADIENT = ((3, 1), (3, 2), (5, 1), (5, 2))

PROBLEM = np.dtype(
    [
        ("n", _i8), ("channels", _i8), ("height", _i8), ("taps", _i8), ("spacing", _i8), ("weights_at", _i8),
        # The source, the steps of a coordinate from one result to the next, the first row and column of taps.
        ("size_1", _i8), ("size_2", _i8), ("step_1", _i8), ("step_2", _i8), ("low_1", _i8), ("low_2", _i8),
        # Results of the job, where the first is among all, and how far they are apart there.
        ("q1", _i8), ("q2", _i8), ("begin_1", _i8), ("begin_2", _i8), ("every_1", _i8), ("every_2", _i8),
        ("full_1", _i8), ("full_2", _i8),
        # Lines of a tile, chunks of them; the rows that a tile reads; shares of the channels.
        ("lines", _i8), ("chunks", _i8), ("rows", _i8), ("shares", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8),
    ]
)  # fmt: skip


@part
def _find_rows(places, job, base, s1, s2, size, line, lines, zeros):
    """The rows that ``lines`` lines of results from ``line`` on read: where they begin, how far pixels are apart."""
    compact()
    no_inline()
    rows = (lines - 1) * job.step_1 + job.height
    for row in range(rows):
        y = line * job.step_1 + job.low_1 + row
        inside = 0 <= y < job.size_1
        places[row] = base + y * s1 * size if inside else zeros
        places[rows + row] = s2 if inside else 0


@part
def _next_run(job, q, end, s2):
    """A ``tiles.RUN`` from pixel q to ``end``: those of which the same columns of taps are inside."""
    x, low, high, count = job.low_2 + q * job.step_2, 0, job.taps, 1
    behind = job.size_2 - x - (job.taps - 1) * job.spacing
    if x >= 0 and behind > 0:
        count = min(end - q, (behind - 1) // job.step_2 + 1)
    else:
        high = 0
        for t in range(job.taps):
            low += x + t * job.spacing < 0
            high += x + t * job.spacing < job.size_2
    return count, x, job.step_2, low, max(low, high), job.spacing * s2, job.taps


@part
def _weigh(job, dst, d, d_line, d_pixel, panel, w, start, places, s2, count):
    """Lines of results."""
    compact()
    no_inline()
    q = 0
    while q < job.q2:
        run = _next_run(job, q, job.q2, s2)
        if job.step_1 == 1:
            if job.height == 1:
                weigh_1_1(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
            elif job.height == 2:
                weigh_2_1(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
            elif job.height == 3:
                weigh_3_1(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
            else:
                weigh_5_1(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
        elif job.height == 3:
            weigh_3_2(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
        else:
            weigh_5_2(dst, d, d_line, d_pixel, panel, w, start, places, run, count)
        q += run[0]
        d += run[0] * d_pixel


@part
def _correlate(job, sums, dy, d, d_line, d_pixel, places, s2, lines, q, end, count):
    """The products of pixels q to ``end`` of as many lines, added to the sums."""
    compact()
    no_inline()
    d += q * d_pixel
    while q < end:
        run = _next_run(job, q, end, s2)
        if lines == 1:
            if job.height == 3:
                correlate_3(sums, dy, d, d_line, d_pixel, places, run, count)
            else:
                correlate_5(sums, dy, d, d_line, d_pixel, places, run, count)
        elif job.step_1 == 1:
            if job.height == 3:
                correlate_3_1(sums, dy, d, d_line, d_pixel, places, run, count)
            else:
                correlate_5_1(sums, dy, d, d_line, d_pixel, places, run, count)
        elif job.height == 3:
            correlate_3_2(sums, dy, d, d_line, d_pixel, places, run, count)
        else:
            correlate_5_2(sums, dy, d, d_line, d_pixel, places, run, count)
        q += run[0]
        d += run[0] * d_pixel


@part
def _most_rows(jobs):
    most = 0
    for which in range(len(jobs)):
        most = max(most, jobs[which].rows)
    return most


@jit
def multiply(counter, pieces, jobs, strides, table, addresses, weights, scalars, work):
    """Forward and backward-input: take pieces, some lines of an image each, until none is left. ``strides``: of source,
    result and residual. ``work``: zeros, and a pixel of the bias."""
    compact()
    whole, xs, ys, rs = jobs[0], strides[0], strides[1], strides[2]
    out, residual, bias = pointer(addresses[1], work), pointer(addresses[2], work), pointer(addresses[3], work)
    space, panel, size = data_of(work), data_of(weights), work.itemsize
    start = len(work) - whole.channels
    for k in range(start):
        work[k] = 0
    for c in range(whole.channels):
        work[start + c] = bias[c * whole.bias_stride] if whole.bias else 0
    # A row of zeros is as long as the taps of a pixel reach, if there is more than one pixel.
    s2 = xs.s2 if whole.size_2 > 1 else whole.channels
    places, zeros = np.empty(2 * _most_rows(jobs), np.int64), address_in(space)
    tiles, lane = (whole.q1 + whole.lines - 1) // whole.lines, vector_lanes(space)
    blocks = (whole.channels + lane - 1) // lane
    piece = fetch_add(counter)
    while piece < pieces:
        chunk, n = piece % whole.chunks, piece // whole.chunks
        begin = tiles * chunk // whole.chunks * whole.lines
        end = min(whole.q1, tiles * (chunk + 1) // whole.chunks * whole.lines)
        base, o = addresses[0] + (xs.base + n * xs.n) * size, ys.base + n * ys.n
        # A tile of each phase before the next lines: what they write lies between each other. The last one may go over
        # lines that are there already.
        for tile in range(begin, end, whole.lines):
            for which in range(len(jobs)):
                job = jobs[which]
                line = min(tile, min(end, job.q1) - job.lines)
                to = o + (job.begin_1 + line * job.every_1) * ys.s1 + job.begin_2 * ys.s2
                for share in range(whole.shares):
                    c = blocks * share // whole.shares * lane
                    count = min(whole.channels, blocks * (share + 1) // whole.shares * lane) - c
                    _find_rows(places, job, base + c * size, xs.s1, s2, size, line, job.lines, zeros)
                    _weigh(
                        job, out, to + c, job.every_1 * ys.s1, job.every_2 * ys.s2, panel,
                        job.weights_at + c * job.taps * job.height, zeros + (start + c) * size, places, s2, count,
                    )  # fmt: skip
        y0, y1 = begin * whole.every_1, min(whole.full_1, end * whole.every_1)
        for y in range(y0, y1 if whole.residual or whole.activation else y0):
            at, count = o + y * ys.s1, whole.full_2 * whole.channels
            if whole.residual:
                accumulate(out, at, residual, rs.base + n * rs.n + y * rs.s1, count)
            activate(out, at, count, whole.activation, scalars[0], scalars[1])
        piece = fetch_add(counter)


@part
def _add_sums(job, sums, c, count, order, totals):
    """The sums of ``count`` channels from c on to the totals, and zeros in their place."""
    compact()
    no_inline()
    lane, taps = vector_lanes(sums), job.taps * job.height
    for k in range(0, count, lane):
        # The last vector begins among the channels before it.
        first, block = min(k, count - lane), k * taps
        for t in range(taps):
            for i in range(k - first, lane):
                totals[(c + first + i) * taps + order[t]] += sums[block + t * lane + i]
            zero_vector(sums, block + t * lane)


@jit
def multiply_weights(counter, pieces, jobs, strides, table, addresses, totals, work):
    """Gradients: a piece is some channels. ``strides``: of x and dy; the result: channels of taps, float64."""
    compact()
    job, xs, ys = jobs[0], strides[0], strides[1]
    dy, sums, size = pointer(addresses[1], work), data_of(work), work.itemsize
    lane, taps, s2 = vector_lanes(sums), job.taps * job.height, xs.s2 if job.size_2 > 1 else job.channels
    together = (job.channels + pieces - 1) // pieces
    zeros = address_in(sums) + (together + lane) * taps * size
    for k in range(len(work)):
        work[k] = 0
    places = np.empty(2 * job.rows, np.int64)
    piece = fetch_add(counter)
    while piece < pieces:
        c = job.channels * piece // pieces
        count = job.channels * (piece + 1) // pieces - c
        for k in range(c * taps, (c + count) * taps):
            totals[k] = 0
        summed = 0
        for n in range(job.n):
            base = addresses[0] + (xs.base + n * xs.n + c) * size
            line = 0
            while line < job.q1:
                lines = job.lines if line + job.lines <= job.q1 else 1
                _find_rows(places, job, base, xs.s1, s2, size, line, lines, zeros)
                d = ys.base + n * ys.n + line * ys.s1 + c
                for q in range(0, job.q2, _PIXELS):
                    end = min(job.q2, q + _PIXELS)
                    _correlate(job, sums, dy, d, ys.s1, ys.s2, places, s2, lines, q, end, count)
                    summed += lines * (end - q)
                    # Sums of sums: their error grows with the length of either.
                    if summed >= _PIXELS:
                        _add_sums(job, sums, c, count, table, totals)
                        summed = 0
                line += lines
        _add_sums(job, sums, c, count, table, totals)
        piece = fetch_add(counter)


def _grid(job: DirectJob) -> tuple[list[int], list[int]] | None:
    """The rows and the columns of taps, if they are the whole of a grid of which the rows adjoin."""
    rows, columns = (sorted({offset[axis] for offset in job.offsets}) for axis in (1, 2))
    if not rows or set(job.offsets) != set(product([0], rows, columns)):
        return None
    spacing = columns[1] - columns[0] if len(columns) > 1 else 1
    even = columns == list(range(columns[0], columns[-1] + 1, spacing))
    return (rows, columns) if even and rows == list(range(rows[0], rows[-1] + 1)) else None


def serves(jobs: list[DirectJob], dtype: str, gradient: bool) -> bool:
    """Whether there are tiles for these jobs of flat images: a vector of channels at least, enough lines."""
    if not jobs or jobs[0].groups < lanes(dtype):
        return False
    for job in jobs:
        grid = _grid(job)
        form = grid and (len(grid[0]), job.step[1])
        if form not in (_GRADIENT if gradient else _FORWARD) or job.size[1] < lines_of(job.step[1]):
            return False
    return True


class _Tiled(Walk):
    """Phases with their tables."""

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        jobs, every, full, epilogue = phases.jobs, phases.every, phases.full, phases.epilogue
        self.lanes = lanes(phases.dtype)
        whole = jobs[0]
        # Chunks, of whole tiles, have a line more than one at least: phases may have one less than the first.
        self.chunks = max(1, -(-whole.size[1] // lines_of(whole.step[1])) * lines_of(whole.step[1]) // _LINES)
        self.blocks = -(-whole.groups // self.lanes)
        taps = sum(len(job.offsets) for job in jobs)
        # Each has two blocks at least: the last block may begin among the channels before it.
        fitting = -(-self.blocks * self.lanes * taps * self.dtype.itemsize // _NEAR)
        shares = max(1, min(fitting, self.blocks // 2))
        self.order_of_taps: list[np.ndarray] = []
        records, weights, self.zeros = [], 0, 0
        for job, begin in zip(jobs, phases.begins, strict=True):
            rows, columns = _grid(job) or ([0], [0])
            spacing = columns[1] - columns[0] if len(columns) > 1 else 1
            lines = lines_of(job.step[1])
            records.append(
                (
                    job.n, job.groups, len(rows), len(columns), spacing, weights, *job.image[1:], *job.step[1:],
                    rows[0], columns[0], *job.size[1:], *begin[1:], *every[1:], *full[1:], lines, self.chunks,
                    (lines - 1) * job.step[1] + len(rows), shares, *epilogue,
                )
            )  # fmt: skip
            self.zeros = max(self.zeros, (columns[-1] - columns[0] + 1) * job.groups)
            numbers = {offset: number for number, offset in enumerate(job.offsets)}
            self.order_of_taps.append(np.array([numbers[0, row, column] for column in columns for row in rows]))
            weights += self.blocks * len(job.offsets) * self.lanes
        self.problems = np.array(records, PROBLEM)
        self.table = self.order_of_taps[0].astype(np.int64)


class Pixels(_Tiled, Results):
    """A convolution, forward or backward-input."""

    kernel = staticmethod(multiply)

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        jobs, taps = self.jobs, phases.taps
        self.pieces = jobs[0].n * self.chunks
        self.work = self.zeros + jobs[0].groups
        # By blocks of channels, of which the last one may begin among those before, then columns and rows of taps.
        groups = jobs[0].groups
        starts = np.minimum(np.arange(self.blocks) * self.lanes, groups - self.lanes)
        channels = starts[:, None, None] + np.arange(self.lanes)
        orders = [np.array(job.taps)[order] for job, order in zip(jobs, self.order_of_taps, strict=True)]
        self.order = np.concatenate([(channels * taps + order[None, :, None]).ravel() for order in orders])


class PixelWeights(_Tiled, Gradients):
    """The gradient of the weights: (channels, taps), summed over pixels."""

    kernel = staticmethod(multiply_weights)

    def __init__(self, phases: Phases) -> None:
        super().__init__(phases)
        (job,) = self.jobs
        self.shape = (job.groups, len(job.offsets))
        self.fewest = max(1, job.groups // _CHANNELS)
        self.work = (-(-job.groups // self.fewest) + self.lanes) * len(job.offsets) + self.zeros

    @property
    def pieces(self) -> int:
        return max(self.fewest, min(get_num_threads(), self.shape[0] // _FEWEST))
