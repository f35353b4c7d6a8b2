"""Pooling of a block of channels of one image: the compiled functions.

Windows that share few pixels are reduced one by one; of others the rows first, side by side over the width and the
channels, then the columns. Where channels come first a vector of them is turned beforehand, band by band of the plane,
and the result is turned back. A piece of work is a block of channels of one image, forward and backward, so no two
pieces write the same element and every sum has one order.
"""

from __future__ import annotations

import numpy as np

from ..core.compile import jit, part
from ..core.intrinsics import compact, data_of, fetch_add, no_inline, plain, pointer, vector_lanes
from ..core.lines import accumulate, fill_line, turn
from .windows import (
    add_to_maxima,
    add_to_windows,
    arg_max,
    max_of_windows,
    put_in_indices,
    put_in_maxima,
    put_in_windows,
    reduce_max,
    reduce_sum,
    spread_lines,
    sum_of_windows,
    total_max,
    total_sum,
)

__all__ = ["PROBLEM", "STEPS", "backward", "forward"]

_i8 = np.int64

PROBLEM = np.dtype(
    [
        ("n", _i8), ("c", _i8), ("block", _i8), ("channels_inside", _i8),
        ("maximum", _i8), ("indexed", _i8), ("counted", _i8), ("whole", _i8),
        ("in0", _i8), ("in1", _i8), ("in2", _i8), ("out0", _i8), ("out1", _i8), ("out2", _i8),
        ("dilation0", _i8), ("dilation1", _i8), ("dilation2", _i8),
        # Where vectors of channels lie that were planes: those of x, behind them those of y, or of dx and dy.
        ("vectors", _i8),
        # Pixels of the largest band: planes become vectors band by band.
        ("band_pixels", _i8),
        # Windows are reduced each by itself, so many rows at once; none has a pixel of another; every pixel is in one.
        ("separate", _i8), ("at_once", _i8), ("apart", _i8), ("covered", _i8),
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
    for i in range(w0[3]):
        for j in range(w1[3]):
            offsets[i * w1[3] + j] = _at(step, w0[0] + i * job.dilation0, w1[0] + j * job.dilation1, 0)
    return w0[3] * w1[3]


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
def _fill_pixels(dx, d, step, plane, count):
    """Zeros to the channels of all pixels."""
    compact()
    no_inline()
    dense = step.s2 == count
    for p in range(1 if dense else plane):
        fill_line(dx, d + p * step.s2, plane * count if dense else count, 0)


@part
def _taps(step, job, w0, w1, w2, offsets):
    """Where the elements of a window are, to the table; how many they are."""
    taps = 0
    for i in range(w0[3]):
        for j in range(w1[3]):
            for k in range(w2[3]):
                offsets[taps] = _at(
                    step, w0[0] + i * job.dilation0, w1[0] + j * job.dilation1, w2[0] + k * job.dilation2
                )  # fmt: skip
                taps += 1
    return taps


@part
def _arg_max_forward(
    x, xb, xs, y, yb, ys, indices, ib, js, count, job, windows, offsets, numbers, begin
):  # fmt: skip
    """The maxima of all windows, and where they are."""
    compact()
    columns = job.out0 + job.out1
    for o0 in range(job.out0):
        for o1 in range(job.out1):
            for o2 in range(job.out2):
                taps = _taps(xs, job, windows[o0], windows[job.out0 + o1], windows[columns + o2], offsets)
                for t in range(taps):
                    numbers[t] = offsets[t] // xs.s2
                arg_max(
                    indices, ib + _at(js, o0, o1, o2), y, yb + _at(ys, o0, o1, o2), x, xb, offsets, numbers, taps,
                    begin, numbers[0], 0, count,
                )  # fmt: skip


@part
def _reduce_windows(maximum, more, y, at, y_step, x, xb, divisor, counted, offsets, windows, row):
    compact()
    no_inline()
    if maximum:
        max_of_windows(more, y, at, y_step, x, xb, divisor, counted, offsets, windows, row)
    else:
        sum_of_windows(more, y, at, y_step, x, xb, divisor, counted, offsets, windows, row)


@part
def _row(job, step, rows, count):
    """The ``windows.ROW`` of a row of results."""
    return step, rows, job.out0 + job.out1, job.dilation2, job.out2, count


@part
def _block_forward(x, xb, xs, y, yb, ys, count, line, job, windows, first, last, divisors, offsets, zero):
    """Rows ``first`` to ``last`` of the results. ``divisors``: of the windows, and 1."""
    compact()
    # Where pixels adjoin a row is one line.
    dense = xs.s2 == count
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(first, last):
            w1, at = windows[job.out0 + o1], yb + _at(ys, o0, o1, 0)
            rows, counted = _rows_of(xs, job, w0, w1, offsets), w0[2] * w1[2] if job.counted else 0
            if job.separate:
                for r in range(0, rows, job.at_once):
                    behind = min(job.at_once, rows - r)
                    goes_on = int(r + behind < rows)
                    _reduce_windows(
                        job.maximum, r, y, at, ys.s2, x, xb, divisors[goes_on], 0 if goes_on else counted, offsets[r:],
                        windows, _row(job, xs.s2, behind, count),
                    )  # fmt: skip
                continue
            # The columns of several windows have the same rows.
            for p2 in range(1 if dense else job.in2):
                length = job.in2 * count if dense else count
                _reduce(job.maximum, line, p2 * count, x, xb + p2 * xs.s2, offsets, 0, rows, length)
            _reduce_windows(
                job.maximum, plain(0), y, at, ys.s2, line, plain(0), divisors[0], counted, zero, windows,
                _row(job, count, plain(1), count),
            )  # fmt: skip


@part
def _give_windows(apart, dx, db, dy, at, y_step, divisor, counted, offsets, windows, row):
    compact()
    no_inline()
    if apart:
        put_in_windows(dx, db, dy, at, y_step, divisor, counted, offsets, windows, row)
    else:
        add_to_windows(dx, db, dy, at, y_step, divisor, counted, offsets, windows, row)


@part
def _give_maxima(apart, dx, db, x, xb, dy, at, y_step, offsets, windows, row):
    compact()
    no_inline()
    if apart:
        put_in_maxima(dx, db, x, xb, dy, at, y_step, offsets, windows, row)
    else:
        add_to_maxima(dx, db, x, xb, dy, at, y_step, offsets, windows, row)


@part
def _give_indices(dx, db, ds, indices, ib, js, dy, yb, ys, count, job, windows, offsets, numbers):
    """dy to the indices of windows apart, if each is of its own; else not 0 comes back."""
    compact()
    no_inline()
    strange = 0
    for o0 in range(job.out0):
        for o1 in range(job.out1):
            rows = _rows_of(ds, job, windows[o0], windows[job.out0 + o1], offsets)
            for r in range(rows):
                numbers[r] = offsets[r] // ds.s2
            i, y, row = ib + _at(js, o0, o1, 0), yb + _at(ys, o0, o1, 0), _row(job, ds.s2, rows, count)
            strange |= put_in_indices(dx, db, indices, i, js.s2, dy, y, ys.s2, numbers, offsets, windows, row)
    return strange


@part
def _block_backward(dy, yb, ys, x, xb, dx, db, ds, count, line, job, windows, first, last, divisor, offsets, zero):
    """What rows ``first`` to ``last`` of dy give."""
    compact()
    dense = ds.s2 == count
    for o0 in range(job.out0):
        w0 = windows[o0]
        for o1 in range(first, last):
            w1, at = windows[job.out0 + o1], yb + _at(ys, o0, o1, 0)
            rows, counted = _rows_of(ds, job, w0, w1, offsets), w0[2] * w1[2] if job.counted else 0
            if job.maximum:
                row = _row(job, ds.s2, rows, count)
                _give_maxima(job.apart, dx, db, x, xb, dy, at, ys.s2, offsets, windows, row)
            elif job.apart:
                for r in range(0, rows, job.at_once):
                    row = _row(job, ds.s2, min(job.at_once, rows - r), count)
                    _give_windows(True, dx, db, dy, at, ys.s2, divisor, counted, offsets[r:], windows, row)
            else:
                fill_line(line, 0, job.in2 * count, divisor * 0)
                row = _row(job, count, plain(1), count)
                _give_windows(False, line, plain(0), dy, at, ys.s2, divisor, counted, zero, windows, row)
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
def forward(counter, pieces, jobs, strides, windows, bands, addresses, scalars, buffer, positions, tables):
    """x, y and indices (addresses and strides in this order): take pieces until none is left."""
    job, xs, ys, js = jobs[0], strides[0], strides[1], strides[2]
    x, y, indices = pointer(addresses[0], buffer), pointer(addresses[1], buffer), pointer(addresses[2], windows)
    line, places, divisor = data_of(buffer), data_of(positions), scalars[0]
    blocks, lane = (job.c + job.block - 1) // job.block, vector_lanes(line)
    plane, outs = job.in0 * job.in1 * job.in2, job.out0 * job.out1 * job.out2
    results = job.vectors + job.band_pixels * lane
    tables[1, 0] = 0
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        xb, yb, ib = n * xs.n + c * xs.c, n * ys.n + c * ys.c, n * js.n + c * js.c
        if job.whole:
            if job.maximum:
                total_max(y, yb, ys.c, x, xb, xs.c, divisor, count, job.in2)
            else:
                total_sum(y, yb, ys.c, x, xb, xs.c, divisor, count, job.in2)
        elif job.indexed and job.channels_inside:
            _arg_max_forward(
                x, xb, xs, y, yb, ys, indices, ib, js, count, job, windows, tables[0], tables[1], positions[1]
            )  # fmt: skip
        elif job.indexed:
            _turn_planes(line, job.vectors, x, xb, xs.c, plane, count)
            _arg_max_forward(
                line, job.vectors, strides[3], line, results, strides[4], places, plain(0), strides[4], lane, job,
                windows, tables[0], tables[1], positions[1],
            )  # fmt: skip
            turn(y, yb, ys.c, line, results, lane, outs, count)
            for i in range(count):
                for p in range(outs):
                    indices[ib + i * js.c + p] = places[p * lane + i]
        elif job.channels_inside:
            _block_forward(
                x, xb, xs, y, yb, ys, count, line, job, windows, plain(0), job.out1, scalars, tables[0], tables[1]
            )  # fmt: skip
        else:
            vs, rs = strides[3], strides[4]
            for band in range(len(bands)):
                first, last, low, high = bands[band]
                _turn_planes(line, job.vectors, x, xb + low * job.in2, xs.c, job.in0 * (high - low) * job.in2, count)
                _block_forward(
                    line, job.vectors - low * vs.s1, vs, line, results - first * rs.s1, rs, lane, line, job, windows,
                    first, last, scalars, tables[0], tables[1],
                )  # fmt: skip
                turn(y, yb + first * job.out2, ys.c, line, results, lane, job.out0 * (last - first) * job.out2, count)
        piece = fetch_add(counter)


@jit
def backward(counter, pieces, jobs, strides, windows, bands, addresses, scalars, buffer, positions, tables):
    """dy, x, indices and dx (addresses and strides in this order): take pieces until none is left.

    Returns how many indices are no positions of dx."""
    job, ys, xs, js, ds = jobs[0], strides[0], strides[1], strides[2], strides[3]
    dy, x = pointer(addresses[0], buffer), pointer(addresses[1], buffer)
    indices, dx = pointer(addresses[2], windows), pointer(addresses[3], buffer)
    line, divisor = data_of(buffer), scalars[0]
    blocks, lane = (job.c + job.block - 1) // job.block, vector_lanes(line)
    plane, outs, wrong = job.in0 * job.in1 * job.in2, job.out0 * job.out1 * job.out2, 0
    results = job.vectors + job.band_pixels * lane
    shares = results + job.band_pixels * lane
    tables[1, 0] = 0
    piece = fetch_add(counter)
    while piece < pieces:
        n, c = piece // blocks, piece % blocks * job.block
        count = min(job.block, job.c - c)
        yb, xb = n * ys.n + c * ys.c, n * xs.n + c * xs.c
        ib, db = n * js.n + c * js.c, n * ds.n + c * ds.c
        if job.channels_inside:
            if not job.covered:
                _fill_pixels(dx, db, ds, plane, count)
            if not job.indexed:
                _block_backward(
                    dy, yb, ys, x, xb, dx, db, ds, count, line, job, windows, plain(0), job.out1, divisor, tables[0],
                    tables[1],
                )  # fmt: skip
            elif not job.apart or _give_indices(
                dx, db, ds, indices, ib, js, dy, yb, ys, count, job, windows, tables[0], tables[1]
            ):  # fmt: skip
                if job.apart:
                    _fill_pixels(dx, db, ds, plane, count)
                for p in range(outs):
                    wrong += _scatter(
                        dx, db, ds.s2, plain(1), indices, ib + p * js.s2, dy, yb + p * ys.s2, count, plane
                    )  # fmt: skip
        elif job.indexed:
            for i in range(count):
                fill_line(dx, db + i * ds.c, plane, divisor * 0)
                wrong += _scatter(
                    dx, db + i * ds.c, plain(1), plain(0), indices, ib + i * js.c, dy, yb + i * ys.c, outs, plane
                )  # fmt: skip
        elif job.whole and not job.maximum:
            spread_lines(dx, db, ds.c, dy, yb, ys.c, divisor, count, plane)
        else:
            vs, rs = strides[4], strides[5]
            for band in range(len(bands)):
                first, last, low, high = bands[band]
                pixels, given = job.in0 * (high - low) * job.in2, job.out0 * (last - first) * job.out2
                if job.maximum:
                    _turn_planes(line, job.vectors, x, xb + low * job.in2, xs.c, pixels, count)
                _turn_planes(line, shares, dy, yb + first * job.out2, ys.c, given, count)
                if not job.covered:
                    fill_line(line, results, pixels * lane, divisor * 0)
                _block_backward(
                    line, shares - first * rs.s1, rs, line, job.vectors - low * vs.s1, line, results - low * vs.s1, vs,
                    lane, line, job, windows, first, last, divisor, tables[0], tables[1],
                )  # fmt: skip
                turn(dx, db + low * job.in2, ds.c, line, results, lane, pixels, count)
        piece = fetch_add(counter)
    return wrong
