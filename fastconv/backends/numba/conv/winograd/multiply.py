"""Convolution by Winograd's minimal filtering, compiled: fewer products, of transformed patches and filters.

A piece of work is a number of tiles of results, or a block of filters: patches are transformed, multiplied for each of
the transformed filters' values, and transformed back, all in cache. Vectors run over channels, outside and inside.
Where taps are apart the results with the same remainder have tiles of their own; taps along a third axis are more of
the products' reduction.
"""

from __future__ import annotations

import numpy as np

from ...core.arrays import round_up
from ...core.compile import jit, part
from ...core.intrinsics import (
    compact,
    data_of,
    fetch_add,
    no_inline,
    plain,
    pointer,
    tile_columns,
    vector_lanes,
    zero_vector,
)
from ...core.lines import accumulate, finish, turn
from ...core.target import KC, MR, PITCH
from ...gemm.tiles import micro_kernel, outer_kernel
from ..strips import fill_strip
from .schemes import patch_at, place_of
from .transforms import filters_to_values, patches_to_values, results_to_values, values_to_filter, values_to_results

__all__ = ["APART", "PROBLEM", "multiply", "multiply_weights", "pack"]

#: Values lie by a line of the cache further apart: no power of two.
APART = 16

_i8 = np.int64

PROBLEM = np.dtype(
    [
        # Channels a group of the source and the result, and their sizes.
        ("channels", _i8), ("results", _i8), ("depth", _i8), ("height", _i8), ("width", _i8),
        ("out_depth", _i8), ("out_height", _i8), ("out_width", _i8),
        # The transforms: which; values along a side; the one axis is the width; taps; where tap 1 is of two.
        ("scheme", _i8), ("values", _i8), ("along", _i8), ("taps", _i8), ("down", _i8), ("right", _i8),
        # Pixels of a patch, results of a tile, pixels from patch to patch; how far apart pixels and results are; where
        # the first patch begins.
        ("patch_1", _i8), ("patch_2", _i8), ("side_1", _i8), ("side_2", _i8), ("hop_1", _i8), ("hop_2", _i8),
        ("apart_1", _i8), ("apart_2", _i8), ("low_1", _i8), ("low_2", _i8),
        # Slices of the source that a result's slice is made of: how many, the first, from one to the next.
        ("slices", _i8), ("first_slice", _i8), ("slice_step", _i8),
        # Tiles of a slice of an image, of all, at a time; filters and values; elements of the filters of one value.
        ("high", _i8), ("wide", _i8), ("tiles", _i8), ("piece", _i8),
        ("blocks", _i8), ("all_values", _i8), ("filters", _i8),
        # Channels of a block of gradients of filters: of the result, and of the source; pieces that are summed before
        # they are added to the others.
        ("rows", _i8), ("columns", _i8), ("together", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8),
    ]
)  # fmt: skip


@jit
def pack(counter, pieces, jobs, steps, addresses, matrix, packed, buffer):
    """Transform the filters of NR results at a time. ``steps``: of groups, results, channels, taps; the first tap. The
    reduction is over slices, then channels, of which those that fill up the last vector are 0."""
    compact()
    job, step = jobs[0], steps
    w, dst, lines, table = pointer(addresses[0], packed), data_of(packed), data_of(buffer), data_of(matrix)
    nr, width = tile_columns(dst), vector_lanes(dst)
    panels, apart = (job.results + nr - 1) // nr, job.filters
    channels = round_up(job.channels, width) if job.slices > 1 else job.channels
    # Taps of channels that follow one another are turned together.
    size = job.taps * job.slices
    together = width if step[2] == size else 1
    piece = fetch_add(counter)
    while piece < pieces:
        group, panel = piece // panels, piece % panels
        count = min(nr, job.results - panel * nr)
        for j in range(0, size * together * nr, width):
            zero_vector(lines, j)
        base = group * job.blocks * apart + panel * channels * job.slices * nr
        for c0 in range(0, job.channels, together):
            some = min(together, job.channels - c0)
            at = group * step[0] + panel * nr * step[1] + c0 * step[2]
            turn(lines, plain(0), nr, w, at, step[1], count, size * some)
            for c in range(some):
                for z in range(job.slices):
                    for v in range(0, nr, width):
                        source = (size * c + z * job.taps * step[3] + step[4]) * nr + v
                        filters_to_values(
                            dst, base + (z * channels + c0 + c) * nr + v, apart, lines, source, step[3] * nr, table, job
                        )  # fmt: skip
        for c in range(job.channels, channels):
            for z in range(job.slices):
                for f in range(job.blocks):
                    for v in range(0, nr, width):
                        zero_vector(dst, base + f * apart + (z * channels + c) * nr + v)
        piece = fetch_add(counter)


@part
def _read(
    dst, d, t, pitch, apart, src, base, step, job, matrix, of_results, inside, h, w, height, width, tiles, count, strip
):
    """Transform the patches of tiles that adjoin in a row, or their results' gradients, from (h, w) on: ``count``
    channels of them, at most a vector. Where the slice is not ``inside`` the image they are 0."""
    compact()
    no_inline()
    lane = vector_lanes(dst)
    rows, columns, hop = job.patch_1, job.patch_2, job.hop_2
    if of_results:
        rows, columns, hop = job.side_1, job.side_2, job.side_2
    pixels = hop * (tiles - 1) + columns
    whole = h >= 0 and w >= 0 and h + (rows - 1) * job.apart_1 < height and w + (pixels - 1) * job.apart_2 < width
    lines, s, s_row, s_column = strip, 0, pixels * lane, lane
    if step.c == 1 and count == lane and whole and inside:
        lines, s, s_row, s_column = src, base + h * step.s1 + w * step.s2, job.apart_1 * step.s1, job.apart_2 * step.s2
    else:
        fill_strip(
            strip, plain(0), src, base, step, h, w, job.apart_1, job.apart_2, rows, pixels, height if inside else 0,
            width, count,
        )  # fmt: skip
    if of_results:
        results_to_values(dst, d, t, pitch, apart, lines, s, s_row, s_column, hop * s_column, tiles, matrix, job)
    else:
        patches_to_values(dst, d, t, pitch, apart, lines, s, s_row, s_column, hop * s_column, tiles, matrix, job)


@part
def _write_pixel(line, at, count, by_channels, channel, out, o, ys, residual, r, rs, bias, job, scalars):
    """The epilogue on ``count`` channels of one pixel, or on as many pixels of a channel's row."""
    compact()
    o += channel * ys.c
    r += channel * rs.c
    o_step, r_step, b_step = job.apart_2 * ys.s2, job.apart_2 * rs.s2, 0
    if by_channels:
        o_step, r_step, b_step = ys.c, rs.c, job.bias_stride
    finish(
        line, at, count, bias, channel * job.bias_stride, b_step, out, o, o_step, residual, r, r_step, job.bias,
        job.residual, job.activation, scalars,
    )  # fmt: skip


@jit
def multiply(counter, pieces, jobs, strides, blocks, addresses, matrix, packed, scalars, work):
    """Take pieces from the counter until none is left.

    ``strides``: of the source, the result and the residual. ``blocks``: of each filter its first value, and how many
    there are.
    """
    compact()
    job, xs, ys, rs = jobs[0], strides[0], strides[1], strides[2]
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    v, filters, table = data_of(work), data_of(packed), data_of(matrix)
    nr, lane = tile_columns(v), vector_lanes(v)
    panels = (job.results + nr - 1) // nr
    # The reduction: whole vectors of channels of each slice.
    channels = round_up(job.channels, lane) if job.slices > 1 else job.channels
    terms = channels * job.slices
    parts = (terms + KC - 1) // KC
    columns, by_channels = panels * nr, ys.c == 1
    a_part, a_apart, c_apart = job.all_values * job.piece * PITCH, job.piece * PITCH, job.piece * columns + APART
    products = parts * a_part
    strip_at = products + job.all_values * c_apart
    number = fetch_add(counter)
    per_group = (job.tiles + job.piece - 1) // job.piece
    while number < pieces:
        group, t0 = number // per_group, number % per_group * job.piece
        t1 = min(job.tiles, t0 + job.piece)
        strip = data_of(work[strip_at:])
        t = t0
        while t < t1:
            n, z, h, w, adjoin = place_of(job, t)
            # Where channels are contiguous most patches are read where they lie.
            tiles = 1 if xs.c == 1 else min(adjoin, t1 - t)
            h, w = patch_at(job, h, w)
            for k in range(job.slices):
                y = z + job.first_slice + k * job.slice_step
                base = xs.base + n * xs.n + y * xs.s0 + group * job.channels * xs.c
                for c in range(0, job.channels, lane):
                    term = k * channels + c
                    _read(
                        v, term // KC * a_part + term % KC, t - t0, PITCH, a_apart, src, base + c * xs.c, xs, job,
                        table, False, 0 <= y < job.depth, h, w, job.height, job.width, tiles,
                        min(lane, job.channels - c), strip,
                    )  # fmt: skip
            t += tiles
        for f in range(job.blocks):
            for panel in range(panels):
                for k in range(parts):
                    right = (group * job.blocks + f) * job.filters + (panel * terms + k * KC) * nr
                    left = k * a_part + blocks[f, 0] * a_apart
                    to = products + blocks[f, 0] * c_apart + panel * nr
                    for i in range(0, (t1 - t0) * blocks[f, 1], MR):
                        micro_kernel(
                            v, left + i * PITCH, 1, filters, right, nr, v, to + i * columns, columns,
                            min(KC, terms - k * KC), k > 0,
                        )  # fmt: skip
        t = t0
        while t < t1:
            n, z, h, w, adjoin = place_of(job, t)
            tiles = 1 if by_channels else min(adjoin, t1 - t)
            height = min(job.side_1, -((h - job.out_height) // job.apart_1))
            width = min(job.side_2 * tiles, -((w - job.out_width) // job.apart_2))
            channel = group * job.results
            pitch = columns if by_channels else lane
            o = ys.base + n * ys.n + z * ys.s0 + h * ys.s1 + w * ys.s2
            r = rs.base + n * rs.n + z * rs.s0 + h * rs.s1 + w * rs.s2
            pixels = job.side_2 * tiles
            turned = round_up(pixels, lane)
            for c in range(0, job.results, lane):
                values_to_results(
                    strip, c if by_channels else 0, pixels * pitch, pitch, job.side_2 * pitch, v, products + c, t - t0,
                    columns, c_apart, tiles, table, job,
                )  # fmt: skip
                if not by_channels:
                    # Rows of channels become rows of pixels, behind the strip.
                    line = job.side_1 * pixels * lane + lane * lane
                    for i in range(height):
                        turn(strip, line, turned, strip, i * pixels * lane, lane, turned, lane)
                        at, from_ = o + i * job.apart_1 * ys.s1, r + i * job.apart_1 * rs.s1
                        for j in range(min(lane, job.results - c)):
                            _write_pixel(
                                strip, line + j * turned, width, by_channels, channel + c + j, out, at, ys, residual,
                                from_, rs, bias, job, scalars,
                            )  # fmt: skip
            if by_channels:
                for i in range(height):
                    for j in range(width):
                        y, x = i * job.apart_1, j * job.apart_2
                        _write_pixel(
                            strip, (pixels * i + j) * pitch, job.results, by_channels, channel, out,
                            o + y * ys.s1 + x * ys.s2, ys, residual, r + y * rs.s1 + x * rs.s2, rs, bias, job, scalars,
                        )  # fmt: skip
            t += tiles
        number = fetch_add(counter)


@jit
def multiply_weights(counter, pieces, jobs, strides, blocks, addresses, matrix, work):
    """Gradients of filters. ``strides``: of x and dy; the result is contiguous. A piece is of one slice."""
    compact()
    job, xs, ys = jobs[0], strides[0], strides[1]
    x, dy, dw = pointer(addresses[0], work), pointer(addresses[1], work), pointer(addresses[2], work)
    v, table = data_of(work), data_of(matrix)
    nr, lane = tile_columns(v), vector_lanes(v)
    size, tile, panels = job.taps, MR * nr, (job.columns + nr - 1) // nr
    # Rows of channels of a value: of patches, and of gradients.
    x_pitch, y_pitch = panels * nr + APART, (job.rows + nr - 1) // nr * nr + MR
    x_apart, y_apart = job.piece * x_pitch + APART, job.piece * y_pitch + APART
    y_at = job.all_values * x_apart
    sums_at, sums_apart = y_at + job.all_values * y_apart, (job.rows + MR - 1) // MR * panels * tile + APART
    all_sums, is_long = job.blocks * sums_apart, job.tiles > job.piece * job.together
    totals_at = sums_at + (all_sums if is_long else 0)
    row_blocks, column_blocks = -(-job.results // job.rows), -(-job.channels // job.columns)
    number = fetch_add(counter)
    while number < pieces:
        strip = data_of(work[totals_at + all_sums :])
        o0, c0 = number % row_blocks * job.rows, number // row_blocks % column_blocks * job.columns
        group = number // (row_blocks * column_blocks * job.slices)
        k = number // (row_blocks * column_blocks) % job.slices
        rows, columns = min(job.rows, job.results - o0), min(job.columns, job.channels - c0)
        for t0 in range(0, job.tiles, job.piece):
            t = t0
            t1 = min(job.tiles, t0 + job.piece)
            while t < t1:
                n, z, h, w, adjoin = place_of(job, t)
                tiles = 1 if xs.c == 1 else min(adjoin, t1 - t)
                y = z + job.first_slice + k * job.slice_step
                patch_h, patch_w = patch_at(job, h, w)
                base = xs.base + n * xs.n + y * xs.s0 + (group * job.channels + c0) * xs.c
                for c in range(0, columns, lane):
                    _read(
                        v, c, t - t0, x_pitch, x_apart, x, base + c * xs.c, xs, job, table, False, 0 <= y < job.depth,
                        patch_h, patch_w, job.height, job.width, tiles, min(lane, columns - c), strip,
                    )  # fmt: skip
                base = ys.base + n * ys.n + z * ys.s0 + (group * job.results + o0) * ys.c
                for c in range(0, rows, lane):
                    _read(
                        v, y_at + c, t - t0, y_pitch, y_apart, dy, base + c * ys.c, ys, job, table, True, True,
                        h, w, job.out_height, job.out_width, tiles, min(lane, rows - c), strip,
                    )  # fmt: skip
                t += tiles
            for f in range(job.blocks):
                for j in range(0, columns, nr):
                    for i in range(0, rows, MR):
                        outer_kernel(
                            v, y_at + blocks[f, 0] * y_apart + i, y_pitch, v, blocks[f, 0] * x_apart + j, x_pitch,
                            v, sums_at + f * sums_apart + (i // MR * panels + j // nr) * tile, nr,
                            (t1 - t0) * blocks[f, 1], t0 // job.piece % job.together > 0,
                        )  # fmt: skip
            if is_long and ((t0 // job.piece + 1) % job.together == 0 or t1 == job.tiles):
                if t0 < job.piece * job.together:
                    for i in range(0, all_sums, lane):
                        zero_vector(v, totals_at + i)
                accumulate(v, totals_at, v, sums_at, all_sums)
        for o in range(rows):
            for c in range(0, columns, lane):
                source = totals_at + (o // MR * panels + c // nr) * tile + o % MR * nr + c % nr
                values_to_filter(strip, 0, lane, v, source, sums_apart, table, job)
                to = (((group * job.results + o0 + o) * job.channels + c0 + c) * job.slices + k) * size
                turn(dw, to, size * job.slices, strip, plain(0), lane, size, min(lane, columns - c))
        number = fetch_add(counter)
