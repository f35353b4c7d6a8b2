"""Convolution of stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 5x5): 36 products in the place of 144, or of 100.

The points are 0, +-1/sqrt 2, +-sqrt 2 and infinity. With g a filter and d a patch of 6 x 6, a tile of results is
A' [(G g G') o (B' d B)] A; with z the gradient of that tile, the filter's is G' [(A z A') o (B' d B)] G, and the sum
of all tiles is transformed. A piece of work is a number of tiles, or a block of filters: patches are transformed,
multiplied for each frequency, and transformed back, all in cache. Vectors run over channels, outside and inside.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod, sqrt

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...spec import ConvSpec
from ...threads import get_num_threads
from . import workers
from .direct import STEPS, finish
from .engine import turn
from .product import WORK_FLOOR, Packed, activation_number, address_of, aligned, up
from .simd import (
    KC,
    MR,
    NV,
    PITCH,
    Emit,
    compact,
    copy_lanes,
    data_of,
    fetch_add,
    jit,
    lanes,
    micro_kernel,
    no_inline,
    outer_kernel,
    part,
    pointer,
    tile_columns,
    vector_lanes,
    zero_vector,
)

__all__ = ["NAMES", "Winograd", "WinogradWeights", "refuse"]

#: What it is called, by the filters' size; results of a tile along a side are 7 less this.
NAMES = {3: "winograd_4x4_3x3", 5: "winograd_2x2_5x5"}

#: Fewer channels than this, and the transforms cost more than they save; fewer tiles, and those of the filters do.
_CHANNELS, _TILES = 12, 4

#: Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters.
_BYTES, _FEWEST = 1024 * 1024, 36

#: Channels of a block of filters' gradients, at most; what is transformed for it at a time stays within the bytes.
_BLOCK, _WEIGHT_BYTES = 128, 1536 * 1024

#: Frequencies lie by a line of the cache further apart: no power of two.
_APART = 16

_i8 = np.int64

PROBLEM = np.dtype(
    [
        # Channels a group of the source and the result, their sizes, and where the patch of the first result begins.
        ("channels", _i8), ("results", _i8), ("height", _i8), ("width", _i8), ("out_height", _i8), ("out_width", _i8),
        ("top", _i8), ("left", _i8),
        # Tiles: their side, those of an image, of all images, at a time; elements of the filters of one frequency.
        ("side", _i8), ("high", _i8), ("wide", _i8), ("tiles", _i8), ("piece", _i8), ("filters", _i8),
        # Channels of a block of gradients of filters: of the result, and of the source.
        ("rows", _i8), ("columns", _i8),
        ("bias", _i8), ("bias_stride", _i8), ("residual", _i8), ("activation", _i8),
    ]
)  # fmt: skip


# ------------------------------------------------------------------------------------------------- the transforms

_A, _B = sqrt(0.5), sqrt(2.0)
_Vectors = list[ir.Value]


def _patch(e: Emit, d: _Vectors) -> _Vectors:
    """B' of six vectors."""
    minus = e.constant(-2.5)

    def pair(by: float, scale: float) -> _Vectors:
        even, odd = (e.fma(e.constant(by), d[i], d[i + 2]) for i in (2, 1))
        return [e.fma(e.constant(s), odd, even) for s in (scale, -scale)]

    ends = [e.fma(minus, d[i + 2], e.b.fadd(d[i], d[i + 4])) for i in (0, 1)]
    return [ends[0], *pair(-2.0, _A), *pair(-0.5, _B), ends[1]]


def _result(e: Emit, m: _Vectors, side: int) -> _Vectors:
    """A' of six vectors."""
    s, u = e.b.fadd(m[1], m[2]), e.b.fadd(m[3], m[4])
    p, q = e.b.fsub(m[1], m[2]), e.b.fsub(m[3], m[4])
    first = e.b.fadd(e.b.fadd(m[0], s), u)
    second = e.fma(e.constant(_A), p, e.b.fmul(e.constant(_B), q))
    if side == 2:
        return [first, e.b.fadd(second, m[5])]
    third = e.fma(e.constant(0.5), s, e.b.fmul(e.constant(2.0), u))
    return [first, second, third, e.fma(e.constant(_A / 2), p, e.fma(e.constant(2 * _B), q, m[5]))]


def _apart_by(e: Emit, even: ir.Value, odd: ir.Value) -> _Vectors:
    return [e.b.fadd(even, odd), e.b.fsub(even, odd)]


def _sum(e: Emit, vectors: _Vectors, point: float) -> ir.Value:
    """``vectors[0] + vectors[1] point + vectors[2] point^2``"""
    total = vectors[-1]
    for vector in vectors[-2::-1]:
        total = e.fma(e.constant(point), total, vector)
    return total


def _at_points(e: Emit, v: _Vectors, scales: tuple[float, float]) -> _Vectors:
    """The polynomial with these coefficients at all points, at the finite ones but 0 times a scale."""
    found = [v[0]]
    for root, scale in zip((_A, _B), scales, strict=True):
        even, odd = (_sum(e, v[i::2], root * root) for i in (0, 1))
        even = even if scale == 1 else e.b.fmul(e.constant(scale), even)
        found += _apart_by(e, even, e.b.fmul(e.constant(scale * root), odd))
    return [*found, v[-1]]


_SCALES = (-1 / 1.5, 1 / 6)


def _filter(e: Emit, g: _Vectors) -> _Vectors:
    """G of three vectors, or of five."""
    return _at_points(e, g, _SCALES)


def _result_gradient(e: Emit, z: _Vectors) -> _Vectors:
    """A of four vectors, or of two."""
    return _at_points(e, z, (1, 1))


def _filter_gradient(e: Emit, u: _Vectors, taps: int) -> _Vectors:
    """G' of six vectors."""
    sums, differences = [], []
    for i, (root, scale) in enumerate(zip((_A, _B), _SCALES, strict=True)):
        both = u[1 + 2 * i : 3 + 2 * i]
        sums.append(e.b.fmul(e.constant(scale), e.b.fadd(*both)))
        differences.append(e.b.fmul(e.constant(scale * root), e.b.fsub(*both)))
    found = []
    for t in range(taps):
        first, second = differences if t % 2 else sums
        near, far = (e.constant(square ** (t // 2)) for square in (0.5, 2.0))
        found.append(e.fma(near, first, e.b.fmul(far, second)))
    return [e.b.fadd(found[0], u[0]), *found[1:-1], e.b.fadd(found[-1], u[5])]


def _transform(of: Callable[..., _Vectors], size: int, *more: int) -> Callable[..., ir.Value]:
    """``dst[d + i d_row + j d_column] = of(of(src)')'`` with src[i, j] at ``src[s + i s_row + j s_column]``."""

    def codegen(context, builder, signature, args):
        dst, d, d_row, d_column, src, s, s_row, s_column = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)

        def at(base: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
            i64 = ir.IntType(64)
            return e.at(base, builder.add(builder.mul(row, i64(i)), builder.mul(column, i64(j))))

        columns = [of(e, [e.load(at(src, s_row, s_column, i, j)) for i in range(size)], *more) for j in range(size)]
        for i, line in enumerate(zip(*columns, strict=True)):
            for j, value in enumerate(of(e, list(line), *more)):
                e.store(value, at(dst, d_row, d_column, i, j))
        return context.get_dummy_value()

    return codegen


def _signature(dst: types.Type, src: types.Type) -> types.Type:
    i64 = types.int64
    return types.void(dst, i64, i64, i64, src, i64, i64, i64)


@intrinsic
def transform_patch(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 vectors to as many frequencies."""
    return _signature(dst, src), _transform(_patch, 6)


@intrinsic
def transform_result_4(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 frequencies to 4 x 4 vectors."""
    return _signature(dst, src), _transform(_result, 6, 4)


@intrinsic
def transform_result_2(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 frequencies to 2 x 2 vectors."""
    return _signature(dst, src), _transform(_result, 6, 2)


@intrinsic
def transform_filter_3(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """3 x 3 vectors to 6 x 6 frequencies."""
    return _signature(dst, src), _transform(_filter, 3)


@intrinsic
def transform_filter_5(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """5 x 5 vectors to 6 x 6 frequencies."""
    return _signature(dst, src), _transform(_filter, 5)


@intrinsic
def transform_result_gradient_4(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """4 x 4 vectors to 6 x 6 frequencies."""
    return _signature(dst, src), _transform(_result_gradient, 4)


@intrinsic
def transform_result_gradient_2(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """2 x 2 vectors to 6 x 6 frequencies."""
    return _signature(dst, src), _transform(_result_gradient, 2)


@intrinsic
def transform_filter_gradient_3(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 frequencies to 3 x 3 vectors."""
    return _signature(dst, src), _transform(_filter_gradient, 6, 3)


@intrinsic
def transform_filter_gradient_5(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 frequencies to 5 x 5 vectors."""
    return _signature(dst, src), _transform(_filter_gradient, 6, 5)


# ---------------------------------------------------------------------------------------------------- the filters


@jit
def pack(counter, pieces, jobs, steps, addresses, packed, buffer):
    """Transform the filters of NR results at a time. ``steps``: of groups, results, channels, taps; the first tap."""
    compact()
    job, step, taps = jobs[0], steps, 7 - jobs[0].side
    filter_size = taps * taps
    w, dst, lines = pointer(addresses[0], packed), data_of(packed), data_of(buffer)
    nr, width = tile_columns(dst), vector_lanes(dst)
    panels, apart = (job.results + nr - 1) // nr, job.filters
    # Taps of channels that follow one another are turned together.
    together = width if step[2] == filter_size else 1
    piece = fetch_add(counter)
    while piece < pieces:
        group, panel = piece // panels, piece % panels
        count = min(nr, job.results - panel * nr)
        for j in range(0, filter_size * together * nr, width):
            zero_vector(lines, j)
        for c0 in range(0, job.channels, together):
            some = min(together, job.channels - c0)
            base = group * step[0] + panel * nr * step[1] + c0 * step[2]
            turn(lines, 0, nr, w, base, step[1], count, filter_size * some)
            for c in range(some):
                for v in range(0, nr, width):
                    to = group * 36 * apart + (panel * job.channels + c0 + c) * nr + v
                    source = (filter_size * c + step[4]) * nr + v
                    if taps == 3:
                        transform_filter_3(dst, to, 6 * apart, apart, lines, source, 3 * step[3] * nr, step[3] * nr)
                    else:
                        transform_filter_5(dst, to, 6 * apart, apart, lines, source, 5 * step[3] * nr, step[3] * nr)
        piece = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------ the tiles


@part
def _fill_strip(strip, src, base, step, h, w, rows, pixels, height, width, count):
    """Rows of pixels from (h, w) of an image, each a vector of which ``count`` channels exist; 0 for all others."""
    compact()
    no_inline()
    lane = vector_lanes(strip)
    first, last = min(pixels, max(0, -w)), min(pixels, width - w)
    for i in range(rows):
        line = i * pixels * lane
        inside = 0 <= h + i < height and first < last
        if not inside or first > 0 or last < pixels or count < lane:
            for j in range(pixels):
                zero_vector(strip, line + j * lane)
        if inside:
            line += first * lane
            source = base + (h + i) * step.s1 + (w + first) * step.s2
            if step.s2 == 1:
                turn(strip, line, lane, src, source, step.c, count, last - first)
            elif step.c == 1:
                for j in range(last - first):
                    copy_lanes(strip, line + j * lane, src, source + j * step.s2, 0, count)
            else:
                for j in range(last - first):
                    for c in range(count):
                        strip[line + j * lane + c] = src[source + j * step.s2 + c * step.c]


@part
def _read_patches(dst, d, pitch, apart, src, base, step, job, row, column, tiles, count, strip):
    """Transform the patches of tiles that adjoin in a row, ``count`` channels of them, at most a vector."""
    compact()
    no_inline()
    lane, pixels = vector_lanes(dst), job.side * (tiles - 1) + 6
    h, w = job.side * row + job.top, job.side * column + job.left
    if step.c == 1 and count == lane and h >= 0 and w >= 0 and h + 6 <= job.height and w + pixels <= job.width:
        lines, s, s_row, s_column = src, base + h * step.s1 + w * step.s2, step.s1, step.s2
    else:
        _fill_strip(strip, src, base, step, h, w, 6, pixels, job.height, job.width, count)
        lines, s, s_row, s_column = strip, 0, pixels * lane, lane
    for t in range(tiles):
        transform_patch(dst, d + t * pitch, 6 * apart, apart, lines, s + job.side * t * s_column, s_row, s_column)


@part
def _read_results(dst, d, pitch, apart, src, base, step, job, row, column, tiles, count, strip):
    """Transform the gradients of such tiles of results."""
    compact()
    no_inline()
    lane, side, pixels = vector_lanes(dst), job.side, job.side * tiles
    h, w = side * row, side * column
    if step.c == 1 and count == lane and h + side <= job.out_height and w + pixels <= job.out_width:
        lines, s, s_row, s_column = src, base + h * step.s1 + w * step.s2, step.s1, step.s2
    else:
        _fill_strip(strip, src, base, step, h, w, side, pixels, job.out_height, job.out_width, count)
        lines, s, s_row, s_column = strip, 0, pixels * lane, lane
    for t in range(tiles):
        to, source = d + t * pitch, s + side * t * s_column
        if side == 4:
            transform_result_gradient_4(dst, to, 6 * apart, apart, lines, source, s_row, s_column)
        else:
            transform_result_gradient_2(dst, to, 6 * apart, apart, lines, source, s_row, s_column)


@part
def _write_pixel(line, at, count, by_channels, channel, i, j, out, o, ys, residual, r, rs, bias, job, scalars):
    """The epilogue on ``count`` channels of one pixel, or on as many pixels of a channel's row, from (i, j) on."""
    compact()
    o += channel * ys.c + i * ys.s1 + j * ys.s2
    r += channel * rs.c + i * rs.s1 + j * rs.s2
    o_step, r_step, b_step = (ys.c, rs.c, job.bias_stride) if by_channels else (ys.s2, rs.s2, 0)
    finish(line, at, count, bias, channel * job.bias_stride, b_step, out, o, o_step, residual, r, r_step, job, scalars)


@jit
def multiply(counter, pieces, jobs, strides, addresses, packed, scalars, work):
    """Take pieces from the counter until none is left. ``strides``: of the source, the result and the residual."""
    compact()
    job, xs, ys, rs = jobs[0], strides[0], strides[1], strides[2]
    src, out = pointer(addresses[0], work), pointer(addresses[1], work)
    residual, bias = pointer(addresses[2], work), pointer(addresses[3], work)
    v, filters = data_of(work), data_of(packed)
    nr, lane = tile_columns(v), vector_lanes(v)
    panels, blocks = (job.results + nr - 1) // nr, (job.channels + KC - 1) // KC
    tile, by_channels = MR * nr, ys.c == 1
    a_apart, c_apart = job.piece * PITCH, job.piece * panels * nr + _APART
    products = blocks * 36 * a_apart
    strip_at = products + 36 * c_apart
    number = fetch_add(counter)
    per_group = (job.tiles + job.piece - 1) // job.piece
    while number < pieces:
        group, t0 = number // per_group, number % per_group * job.piece
        t1 = min(job.tiles, t0 + job.piece)
        strip = data_of(work[strip_at:])
        t = t0
        while t < t1:
            column, row, n = t % job.wide, t // job.wide % job.high, t // (job.wide * job.high)
            # Where channels are contiguous most patches are read where they lie.
            tiles = 1 if xs.c == 1 else min(job.wide - column, t1 - t)
            base = xs.base + n * xs.n + group * job.channels * xs.c
            for c in range(0, job.channels, lane):
                _read_patches(
                    v, (c // KC * 36 * job.piece + t - t0) * PITCH + c % KC, PITCH, a_apart, src, base + c * xs.c, xs,
                    job, row, column, tiles, min(lane, job.channels - c), strip,
                )  # fmt: skip
            t += tiles
        for f in range(36):
            for panel in range(panels):
                for block in range(blocks):
                    right = (group * 36 + f) * job.filters + (panel * job.channels + block * KC) * nr
                    for i in range(0, t1 - t0, MR):
                        micro_kernel(
                            v, (block * 36 + f) * a_apart + i * PITCH, 1, filters, right, nr,
                            v, products + f * c_apart + (i // MR * panels + panel) * tile, nr,
                            min(KC, job.channels - block * KC), block > 0,
                        )  # fmt: skip
        t = t0
        while t < t1:
            column, row, n = t % job.wide, t // job.wide % job.high, t // (job.wide * job.high)
            tiles = 1 if by_channels else min(job.wide - column, t1 - t)
            h, w, side = job.side * row, job.side * column, job.side
            height, width = min(side, job.out_height - h), min(side * tiles, job.out_width - w)
            channel = group * job.results
            pitch = panels * nr if by_channels else lane
            o = ys.base + n * ys.n + h * ys.s1 + w * ys.s2
            r = rs.base + n * rs.n + h * rs.s1 + w * rs.s2
            turned = (side * tiles + lane - 1) // lane * lane
            for c in range(0, job.results, lane):
                for k in range(tiles):
                    place = t - t0 + k
                    source = (place // MR * panels + c // nr) * tile + place % MR * nr + c % nr
                    to = c if by_channels else side * k * lane
                    if side == 4:
                        transform_result_4(
                            strip, to, 4 * tiles * pitch, pitch, v, products + source, 6 * c_apart, c_apart
                        )
                    else:
                        transform_result_2(
                            strip, to, 2 * tiles * pitch, pitch, v, products + source, 6 * c_apart, c_apart
                        )
                if not by_channels:
                    # Rows of channels become rows of pixels, behind the strip.
                    line = side * side * tiles * lane + lane * lane
                    for i in range(height):
                        turn(strip, line, turned, strip, i * side * tiles * lane, lane, turned, lane)
                        for j in range(min(lane, job.results - c)):
                            _write_pixel(
                                strip, line + j * turned, width, False, channel + c + j, i, 0, out, o, ys, residual, r,
                                rs, bias, job, scalars,
                            )  # fmt: skip
            if by_channels:
                for i in range(height):
                    for j in range(width):
                        _write_pixel(
                            strip, (side * i + j) * pitch, job.results, True, channel, i, j, out, o, ys, residual, r,
                            rs, bias, job, scalars,
                        )  # fmt: skip
            t += tiles
        number = fetch_add(counter)


@jit
def multiply_weights(counter, pieces, jobs, strides, addresses, work):
    """Gradients of filters. ``strides``: of x and dy; the result is contiguous."""
    compact()
    job, xs, ys = jobs[0], strides[0], strides[1]
    x, dy, dw = pointer(addresses[0], work), pointer(addresses[1], work), pointer(addresses[2], work)
    v = data_of(work)
    nr, lane = tile_columns(v), vector_lanes(v)
    taps = 7 - job.side
    size, tile, panels = taps * taps, MR * nr, (job.columns + nr - 1) // nr
    # Rows of channels of a tile: of patches, and of gradients.
    x_pitch, y_pitch = panels * nr + _APART, (job.rows + nr - 1) // nr * nr + MR
    x_apart, y_apart = job.piece * x_pitch + _APART, job.piece * y_pitch + _APART
    y_at = 36 * x_apart
    sums_at, sums_apart = y_at + 36 * y_apart, (job.rows + MR - 1) // MR * panels * tile + _APART
    row_blocks, column_blocks = -(-job.results // job.rows), -(-job.channels // job.columns)
    number = fetch_add(counter)
    while number < pieces:
        strip = data_of(work[sums_at + 36 * sums_apart :])
        o0, c0 = number % row_blocks * job.rows, number // row_blocks % column_blocks * job.columns
        group = number // (row_blocks * column_blocks)
        rows, columns = min(job.rows, job.results - o0), min(job.columns, job.channels - c0)
        for t0 in range(0, job.tiles, job.piece):
            t = t0
            t1 = min(job.tiles, t0 + job.piece)
            while t < t1:
                column, row, n = t % job.wide, t // job.wide % job.high, t // (job.wide * job.high)
                tiles = 1 if xs.c == 1 else min(job.wide - column, t1 - t)
                base = xs.base + n * xs.n + (group * job.channels + c0) * xs.c
                for c in range(0, columns, lane):
                    _read_patches(
                        v, (t - t0) * x_pitch + c, x_pitch, x_apart, x, base + c * xs.c, xs, job, row, column, tiles,
                        min(lane, columns - c), strip,
                    )  # fmt: skip
                base = ys.base + n * ys.n + (group * job.results + o0) * ys.c
                for c in range(0, rows, lane):
                    _read_results(
                        v, y_at + (t - t0) * y_pitch + c, y_pitch, y_apart, dy, base + c * ys.c, ys, job, row, column,
                        tiles, min(lane, rows - c), strip,
                    )  # fmt: skip
                t += tiles
            for f in range(36):
                for j in range(0, columns, nr):
                    for i in range(0, rows, MR):
                        outer_kernel(
                            v, y_at + f * y_apart + i, y_pitch, v, f * x_apart + j, x_pitch,
                            v, sums_at + f * sums_apart + (i // MR * panels + j // nr) * tile, nr, t1 - t0, t0 > 0,
                        )  # fmt: skip
        for o in range(rows):
            to = ((group * job.results + o0 + o) * job.channels + c0) * size
            for c in range(0, columns, lane):
                source = sums_at + (o // MR * panels + c // nr) * tile + o % MR * nr + c % nr
                if taps == 3:
                    transform_filter_gradient_3(strip, 0, 3 * lane, lane, v, source, 6 * sums_apart, sums_apart)
                else:
                    transform_filter_gradient_5(strip, 0, 5 * lane, lane, v, source, 6 * sums_apart, sums_apart)
                turn(dw, to + c * size, size, strip, 0, lane, size, min(lane, columns - c))
        number = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------- the plan


def _sides(spec: ConvSpec) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Channels a group of source and result, and their sizes."""
    forward = (spec.ic // spec.groups, spec.oc // spec.groups, spec.in_size, spec.out_size)
    return forward if spec.direction != "bwd_input" else (forward[1], forward[0], forward[3], forward[2])


def refuse(spec: ConvSpec, taps: int) -> str | None:
    """Why filters of ``taps`` by ``taps`` are not what is to be computed, or should not be so; None if they should."""
    channels, results, _, size = _sides(spec)
    flat = all(
        (k, i, o, lo) == (1, 1, 1, 0)
        for k, i, o, (lo, _) in zip(
            spec.kernel[:-2], spec.in_size[:-2], spec.out_size[:-2], spec.pads[:-2], strict=True
        )
    )
    if spec.kernel[-2:] != (taps, taps) or not flat:
        return "the kernel is not 3x3" if taps == 3 else ""
    if {*spec.stride[-2:], *spec.dilation[-2:]} != {1}:
        return "stride or dilation is not 1"
    if spec.precision == "strict":
        return "strict precision takes direct algorithms only"
    if min(channels, results) < (_CHANNELS if spec.groups == 1 else 2 * _CHANNELS):
        return "too few channels to pay for the transforms"
    if spec.n * prod(-(-s // (7 - taps)) for s in size[-2:]) < _TILES:
        return "too few tiles to pay for transforming the filters"
    return None


class _Plan:
    """What both directions share. ``strides``: of two images, or three, as ``direct.STEPS``."""

    def __init__(self, spec: ConvSpec, strides: list[tuple[int, ...]]) -> None:
        self.spec = spec
        self.dtype = np.dtype(spec.dtype)
        self.lanes = lanes(spec.dtype)
        self.nr = NV * self.lanes
        self.channels, self.results, source, result = _sides(spec)
        self.taps = spec.kernel[-1]
        self.side = 7 - self.taps
        self.grid = [-(-s // self.side) for s in result[-2:]]
        self.tiles = spec.n * prod(self.grid)
        los = [lo for lo, _ in spec.pads[-2:]]
        corner = [lo - self.taps + 1 for lo in los] if spec.direction == "bwd_input" else [-lo for lo in los]
        self.sizes = (self.channels, self.results, *source[-2:], *result[-2:], *corner, self.side, *self.grid)
        self.strides = np.array(strides, STEPS)
        self.schedule = lru_cache(maxsize=8)(self._schedule)

    def threads(self) -> int:
        return get_num_threads() if self.spec.macs >= WORK_FLOOR else 1

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        """(the problem, its pieces, elements of a thread's work space) for a number of threads."""
        raise NotImplementedError

    @property
    def workspace_bytes(self) -> int:
        threads = self.threads()
        _, pieces, work = self.schedule(threads)
        return min(threads, pieces) * work * self.dtype.itemsize


class Winograd(_Plan):
    """A convolution, forward or backward-input, for one set of strides: of source, result and residual."""

    def __init__(self, spec: ConvSpec, strides: list[tuple[int, ...]], bias_step: int | None, residual: bool) -> None:
        super().__init__(spec, strides)
        self.panels = -(-self.results // self.nr)
        self.filters = self.panels * self.nr * self.channels + _APART
        number, *parameters = activation_number(spec.activation)
        self.epilogue = (bias_step is not None, bias_step or 0, residual, number)
        self.scalars = np.array(parameters, self.dtype)

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        columns = self.panels * self.nr
        fitting = _BYTES // (36 * (self.channels + columns) * self.dtype.itemsize)
        share = -(-self.tiles * self.spec.groups // (3 * threads if threads > 1 else 1))
        piece = max(MR, min(max(fitting // MR * MR, up(_FEWEST, MR)), up(share, MR)))
        job = (*self.sizes, self.tiles, piece, self.filters, 0, 0, *self.epilogue)
        run = self.side * min(self.grid[1], piece)
        # A strip: patches of a vector of channels; results of one, and turned; or a tile's results of all channels.
        strip = max(
            6 * (run + 6) * self.lanes,
            ((self.side + 1) * run + 3 * self.lanes) * self.lanes,
            self.side * self.side * columns,
        )
        work = 36 * piece * up(self.channels, KC) // KC * PITCH + 36 * (piece * columns + _APART) + strip
        return np.array([job], PROBLEM), self.spec.groups * -(-self.tiles // piece), work

    @property
    def workspace_bytes(self) -> int:
        return super().workspace_bytes + self.spec.groups * 36 * self.filters * self.dtype.itemsize

    def pack(self, w: np.ndarray) -> Packed:
        """The filters, transformed."""
        w = np.ascontiguousarray(w)
        size = self.taps**2
        inputs, outputs = size, size * w.shape[1]
        group = self.spec.oc // self.spec.groups * outputs
        forward = self.spec.direction == "fwd"
        # Backward the filters are turned by half: the last tap comes first.
        order = [group, outputs, inputs, 1, 0] if forward else [group, inputs, outputs, -1, size - 1]
        threads = self.threads()
        job, _, _ = self.schedule(threads)
        packed = aligned(self.spec.groups * 36 * self.filters, self.dtype)
        steps, addresses = np.array(order, np.int64), np.array([address_of(w)], np.int64)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            buffer = np.empty(size * self.lanes * self.nr, self.dtype)
            pack(counter, self.spec.groups * self.panels, job, steps, addresses, packed, buffer)

        workers.run(work, threads)
        return Packed(packed)

    def run(
        self,
        source: np.ndarray,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: Packed,
    ) -> None:
        threads = self.threads()
        job, pieces, size = self.schedule(threads)
        addresses = np.array([address_of(a) for a in (source, out, residual, bias)], np.int64)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            space = aligned(size, self.dtype)
            multiply(counter, pieces, job, self.strides, addresses, packed.data, self.scalars, space)

        workers.run(work, min(threads, pieces))


class WinogradWeights(_Plan):
    """The gradient of the filters, for one set of strides: of x and dy."""

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        rows, columns = (min(up(c, t), up(_BLOCK, t)) for c, t in ((self.results, MR), (self.channels, self.nr)))
        # Tiles at a time follow from the layer alone, as they decide on rounding.
        tiles = max(32, _WEIGHT_BYTES // (36 * (rows + columns) * self.dtype.itemsize) // 8 * 8)
        tiles = -(-self.tiles // -(-self.tiles // tiles))

        def pieces() -> int:
            return self.spec.groups * -(-self.results // rows) * -(-self.channels // columns)

        while threads > 1 and pieces() < 2 * threads and max(rows, columns) >= 4 * _CHANNELS:
            if rows > columns:
                rows = up(rows // 2, MR)
            else:
                columns = up(columns // 2, self.nr)
        job = (*self.sizes, self.tiles, tiles, 0, rows, columns, 0, 0, 0, 0)
        wide, run = up(columns, self.nr) + _APART, self.side * min(self.grid[1], tiles)
        strip = max(6 * (run + 6), self.taps**2) * self.lanes
        gradients = tiles * (up(rows, self.nr) + MR) + _APART
        work = 36 * (tiles * wide + _APART + gradients + rows * up(columns, self.nr) + _APART) + strip
        return np.array([job], PROBLEM), pieces(), work

    def run(self, x: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
        threads = self.threads()
        job, pieces, size = self.schedule(threads)
        dw = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        addresses = np.array([address_of(a) for a in (x, dy, dw)], np.int64)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            multiply_weights(counter, pieces, job, self.strides, addresses, aligned(size, self.dtype))

        workers.run(work, min(threads, pieces))
        if dw is not out:
            out[...] = dw
