"""3x3 convolution of stride 1 by Winograd's F(4x4, 3x3): 36 products in the place of 144, forward and backward-input.

The points are 0, +-1/sqrt 2, +-sqrt 2 and infinity. With g a filter and d a patch of 6 x 6, the 4 x 4 results are
A' [(G g G') o (B' d B)] A. A piece of work is a number of these tiles: their patches are transformed, multiplied by the
filters of each frequency, and transformed back, all in cache. Vectors run over channels, outside and inside.
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
from .product import WORK_FLOOR, Packed, activation_number, address_of, aligned
from .simd import (
    KC,
    MR,
    NV,
    PITCH,
    Emit,
    copy_lanes,
    data_of,
    fetch_add,
    jit,
    lanes,
    micro_kernel,
    no_inline,
    pointer,
    tile_columns,
    vector_lanes,
    zero_vector,
)

__all__ = ["ALGORITHM", "Winograd", "refuse"]

ALGORITHM = "winograd_4x4_3x3"

#: Fewer channels than this, and the transforms cost more than they save; fewer tiles, and those of the filters do.
_CHANNELS, _TILES = 24, 12

#: Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters.
_BYTES, _FEWEST = 1024 * 1024, 36

#: Frequencies lie by a line of the cache further apart: no power of two.
_APART = 16

_i8 = np.int64

PROBLEM = np.dtype(
    [
        # Channels a group of the source and the result, their sizes, and where the patch of the first result begins.
        ("channels", _i8), ("results", _i8), ("height", _i8), ("width", _i8), ("out_height", _i8), ("out_width", _i8),
        ("top", _i8), ("left", _i8),
        # Tiles of an image, of all images, of a piece; of these the filters of one frequency.
        ("high", _i8), ("wide", _i8), ("tiles", _i8), ("piece", _i8), ("filters", _i8),
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


def _result(e: Emit, m: _Vectors) -> _Vectors:
    """A' of six vectors."""
    s, u = e.b.fadd(m[1], m[2]), e.b.fadd(m[3], m[4])
    p, q = e.b.fsub(m[1], m[2]), e.b.fsub(m[3], m[4])
    return [
        e.b.fadd(e.b.fadd(m[0], s), u),
        e.fma(e.constant(_A), p, e.b.fmul(e.constant(_B), q)),
        e.fma(e.constant(0.5), s, e.b.fmul(e.constant(2.0), u)),
        e.fma(e.constant(_A / 2), p, e.fma(e.constant(2 * _B), q, m[5])),
    ]


def _filter(e: Emit, g: _Vectors) -> _Vectors:
    """G of three vectors."""

    def pair(by: float, scale: float, root: float) -> _Vectors:
        even = e.b.fmul(e.constant(scale), e.fma(e.constant(by), g[2], g[0]))
        odd = e.b.fmul(e.constant(scale * root), g[1])
        return [e.b.fadd(even, odd), e.b.fsub(even, odd)]

    return [g[0], *pair(0.5, -1 / 1.5, _A), *pair(2.0, 1 / 6, _B), g[2]]


def _transform(of: Callable[[Emit, _Vectors], _Vectors], size: int) -> Callable[..., ir.Value]:
    """``dst[d + i d_row + j d_column] = of(of(src)')'`` with src[i, j] at ``src[s + i s_row + j s_column]``."""

    def codegen(context, builder, signature, args):
        dst, d, d_row, d_column, src, s, s_row, s_column = args
        e = Emit(builder, signature.args[0])
        dst, src = e.at(dst, d), e.at(src, s)

        def at(base: ir.Value, row: ir.Value, column: ir.Value, i: int, j: int) -> ir.Value:
            i64 = ir.IntType(64)
            return e.at(base, builder.add(builder.mul(row, i64(i)), builder.mul(column, i64(j))))

        columns = [of(e, [e.load(at(src, s_row, s_column, i, j)) for i in range(size)]) for j in range(size)]
        for i, line in enumerate(zip(*columns, strict=True)):
            for j, value in enumerate(of(e, list(line))):
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
def transform_result(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """6 x 6 frequencies to 4 x 4 vectors."""
    return _signature(dst, src), _transform(_result, 6)


@intrinsic
def transform_filter(typingctx, dst, d, d_row, d_column, src, s, s_row, s_column):
    """3 x 3 vectors to 6 x 6 frequencies."""
    return _signature(dst, src), _transform(_filter, 3)


# ---------------------------------------------------------------------------------------------------- the filters


@jit
def pack(counter, pieces, jobs, steps, addresses, packed, buffer):
    """Transform the filters of NR results at a time. ``steps``: of groups, results, channels, taps; the first tap."""
    job, step = jobs[0], steps
    w, dst, lines = pointer(addresses[0], packed), data_of(packed), data_of(buffer)
    nr, width = tile_columns(dst), vector_lanes(dst)
    panels, apart = (job.results + nr - 1) // nr, job.filters
    # Taps of channels that follow one another are turned together.
    together = width if step[2] == 9 else 1
    piece = fetch_add(counter)
    while piece < pieces:
        group, panel = piece // panels, piece % panels
        count = min(nr, job.results - panel * nr)
        for j in range(0, 9 * together * nr, width):
            zero_vector(lines, j)
        for c0 in range(0, job.channels, together):
            some = min(together, job.channels - c0)
            base = group * step[0] + panel * nr * step[1] + c0 * step[2]
            turn(lines, 0, nr, w, base, step[1], count, 9 * some)
            for c in range(some):
                for v in range(0, nr, width):
                    to = group * 36 * apart + (panel * job.channels + c0 + c) * nr + v
                    source = (9 * c + step[4]) * nr + v
                    transform_filter(dst, to, 6 * apart, apart, lines, source, 3 * step[3] * nr, step[3] * nr)
        piece = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------ the tiles


@jit
def _read_patches(dst, d, apart, src, base, step, job, row, column, tiles, count, strip):
    """Transform the patches of tiles that adjoin in a row, ``count`` channels of them, at most a vector."""
    no_inline()
    lane, pixels = vector_lanes(dst), 4 * tiles + 2
    h, w = 4 * row + job.top, 4 * column + job.left
    inside = h >= 0 and w >= 0 and h + 6 <= job.height and w + pixels <= job.width
    if inside and step.c == 1 and count == lane:
        for t in range(tiles):
            source = base + h * step.s1 + (w + 4 * t) * step.s2
            transform_patch(dst, d + t * PITCH, 6 * apart, apart, src, source, step.s1, step.s2)
        return
    first, last = min(pixels, max(0, -w)), min(pixels, job.width - w)
    for i in range(6):
        line = i * pixels * lane
        if not (inside and count == lane):
            for j in range(pixels):
                zero_vector(strip, line + j * lane)
        if 0 <= h + i < job.height and first < last:
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
    for t in range(tiles):
        transform_patch(dst, d + t * PITCH, 6 * apart, apart, strip, 4 * t * lane, pixels * lane, lane)


@jit
def _write_pixel(line, at, count, by_channels, channel, i, j, out, o, ys, residual, r, rs, bias, job, scalars):
    """The epilogue on ``count`` channels of one pixel, or on as many pixels of a channel's row, from (i, j) on."""
    o += channel * ys.c + i * ys.s1 + j * ys.s2
    r += channel * rs.c + i * rs.s1 + j * rs.s2
    o_step, r_step, b_step = (ys.c, rs.c, job.bias_stride) if by_channels else (ys.s2, rs.s2, 0)
    finish(line, at, count, bias, channel * job.bias_stride, b_step, out, o, o_step, residual, r, r_step, job, scalars)


@jit
def multiply(counter, pieces, jobs, strides, addresses, packed, scalars, work):
    """Take pieces from the counter until none is left. ``strides``: of the source, the result and the residual."""
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
                    v, (c // KC * 36 * job.piece + t - t0) * PITCH + c % KC, a_apart, src, base + c * xs.c, xs, job,
                    row, column, tiles, min(lane, job.channels - c), strip,
                )  # fmt: skip
            t += tiles
        for f in range(36):
            for panel in range(panels):
                for block in range(blocks):
                    right = (group * 36 + f) * job.filters + (panel * job.channels + block * KC) * nr
                    for i in range(0, t1 - t0, MR):
                        micro_kernel(
                            v, (block * 36 + f) * a_apart + i * PITCH, filters, right,
                            v, products + f * c_apart + (i // MR * panels + panel) * tile, nr,
                            min(KC, job.channels - block * KC), block > 0,
                        )  # fmt: skip
        t = t0
        while t < t1:
            column, row, n = t % job.wide, t // job.wide % job.high, t // (job.wide * job.high)
            tiles = 1 if by_channels else min(job.wide - column, t1 - t)
            height, width = min(4, job.out_height - 4 * row), min(4 * tiles, job.out_width - 4 * column)
            channel = group * job.results
            pitch = panels * nr if by_channels else lane
            o = ys.base + n * ys.n + 4 * row * ys.s1 + 4 * column * ys.s2
            r = rs.base + n * rs.n + 4 * row * rs.s1 + 4 * column * rs.s2
            turned = (4 * tiles + lane - 1) // lane * lane
            for c in range(0, job.results, lane):
                for k in range(tiles):
                    place = t - t0 + k
                    source = (place // MR * panels + c // nr) * tile + place % MR * nr + c % nr
                    transform_result(
                        strip, (c if by_channels else 4 * k * lane), tiles * 4 * pitch, pitch,
                        v, products + source, 6 * c_apart, c_apart,
                    )  # fmt: skip
                if not by_channels:
                    # Rows of channels become rows of pixels, behind the strip.
                    line = 16 * tiles * lane + lane * lane
                    for i in range(height):
                        turn(strip, line, turned, strip, i * 4 * tiles * lane, lane, turned, lane)
                        for j in range(min(lane, job.results - c)):
                            _write_pixel(
                                strip, line + j * turned, width, False, channel + c + j, i, 0, out, o, ys, residual, r,
                                rs, bias, job, scalars,
                            )  # fmt: skip
            if by_channels:
                for i in range(height):
                    for j in range(width):
                        _write_pixel(
                            strip, (4 * i + j) * pitch, job.results, True, channel, i, j, out, o, ys, residual, r, rs,
                            bias, job, scalars,
                        )  # fmt: skip
            t += tiles
        number = fetch_add(counter)


# ------------------------------------------------------------------------------------------------------- the plan


def _sides(spec: ConvSpec) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Channels a group of source and result, and their sizes."""
    forward = (spec.ic // spec.groups, spec.oc // spec.groups, spec.in_size, spec.out_size)
    return forward if spec.direction == "fwd" else (forward[1], forward[0], forward[3], forward[2])


def refuse(spec: ConvSpec) -> str | None:
    """Why not, or None if it computes this convolution and should. The gradient of the weights has no reason."""
    if spec.direction == "bwd_weight":
        return ""
    channels, results, _, size = _sides(spec)
    flat = all(
        (k, i, o, lo) == (1, 1, 1, 0)
        for k, i, o, (lo, _) in zip(
            spec.kernel[:-2], spec.in_size[:-2], spec.out_size[:-2], spec.pads[:-2], strict=True
        )
    )
    if spec.kernel[-2:] != (3, 3) or not flat:
        return "the kernel is not 3x3"
    if {*spec.stride[-2:], *spec.dilation[-2:]} != {1}:
        return "stride or dilation is not 1"
    if spec.precision == "strict":
        return "strict precision takes direct algorithms only"
    if min(channels, results) < _CHANNELS:
        return "too few channels to pay for the transforms"
    if spec.n * prod(-(-s // 4) for s in size[-2:]) < _TILES:
        return "too few tiles to pay for transforming the filters"
    return None


class Winograd:
    """A convolution for one set of strides. ``strides``: of source, result and residual, as ``direct.STEPS``."""

    def __init__(self, spec: ConvSpec, strides: list[tuple[int, ...]], bias_step: int | None, residual: bool) -> None:
        self.spec = spec
        self.dtype = np.dtype(spec.dtype)
        self.channels, self.results, source, result = _sides(spec)
        self.source, self.result = source[-2:], result[-2:]
        self.lanes = lanes(spec.dtype)
        self.panels = -(-self.results // (NV * self.lanes))
        self.filters = self.panels * NV * self.lanes * self.channels + _APART
        number, *parameters = activation_number(spec.activation)
        self.epilogue = (bias_step is not None, bias_step or 0, residual, number)
        self.scalars = np.array(parameters, self.dtype)
        self.strides = np.array(strides, STEPS)
        self.schedule = lru_cache(maxsize=8)(self._schedule)

    def threads(self) -> int:
        return get_num_threads() if self.spec.macs >= WORK_FLOOR else 1

    def _schedule(self, threads: int) -> tuple[np.ndarray, int, int]:
        """(the problem, its pieces, elements of a thread's work space) for a number of threads."""
        high, wide = (-(-s // 4) for s in self.result)
        tiles = self.spec.n * high * wide
        columns = self.panels * NV * self.lanes
        depth = -(-self.channels // KC) * PITCH
        fitting = _BYTES // (36 * (self.channels + columns) * self.dtype.itemsize)
        share = -(-tiles * self.spec.groups // (3 * threads if threads > 1 else 1))
        piece = max(MR, min(max(fitting // MR * MR, -(-_FEWEST // MR) * MR), -(-share // MR) * MR))
        los = [lo for lo, _ in self.spec.pads[-2:]]
        corner = [-lo for lo in los] if self.spec.direction == "fwd" else [lo - 2 for lo in los]
        job = (
            self.channels, self.results, *self.source, *self.result, *corner, high, wide, tiles, piece, self.filters,
            *self.epilogue,
        )  # fmt: skip
        run = 4 * min(wide, piece)
        # A strip: patches of a vector of channels; results of one, and turned; or a tile's results of all channels.
        strip = max((6 * run + 12) * self.lanes, (8 * run + 8 * self.lanes) * self.lanes, 16 * columns)
        work = 36 * piece * depth + 36 * (piece * columns + _APART) + strip
        return np.array([job], PROBLEM), self.spec.groups * -(-tiles // piece), work

    @property
    def workspace_bytes(self) -> int:
        threads = self.threads()
        _, pieces, work = self.schedule(threads)
        return (min(threads, pieces) * work + self.spec.groups * 36 * self.filters) * self.dtype.itemsize

    def pack(self, w: np.ndarray) -> Packed:
        """The filters, transformed."""
        w = np.ascontiguousarray(w)
        inputs, outputs = 9, 9 * w.shape[1]
        group = self.spec.oc // self.spec.groups * outputs
        forward = self.spec.direction == "fwd"
        # Backward the filters are turned by half: the last tap comes first.
        order = [group, outputs, inputs, 1, 0] if forward else [group, inputs, outputs, -1, 8]
        threads, nr = self.threads(), NV * self.lanes
        job, _, _ = self.schedule(threads)
        packed = aligned(self.spec.groups * 36 * self.filters, self.dtype)
        steps, addresses = np.array(order, np.int64), np.array([address_of(w)], np.int64)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            buffer = np.empty(9 * self.lanes * nr, self.dtype)
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
