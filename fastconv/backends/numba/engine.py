"""The one packed GEMM that convolutions, their gradients and matrix products run on.

An ``OPERAND`` describes a matrix that is nowhere stored: one axis runs over *pixels* (n, q0, q1, q2), the other over
*features* (tap, channel). The element lies at pixel address + tap address + channel address, or is 0 where the pixel's
coordinate plus the tap's offset falls outside the image. A plain matrix is the case of one row of pixels and one tap.
Either axis may be the one that is summed over; packing reads the elements where they are as the panels need them.

Packed left panels are rows of PITCH elements, contiguous in k; packed right panels are [k][NR]. The sum over k is cut
into blocks of KC, always at the same places, so that an element of the result has the same bits whichever piece of
the result, and whichever thread, computes it. Of many blocks some at a time are summed, then these sums: the rounding
error does not grow with all of k.
"""

from __future__ import annotations

import math

import numpy as np

from .elementwise import activated
from .simd import (
    KC,
    MR,
    NV,
    PITCH,
    compact,
    copy_evens,
    copy_lanes,
    copy_vector,
    data_of,
    fetch_add,
    inlined,
    jit,
    merge_lanes,
    no_inline,
    part,
    plain,
    pointer,
    tile_columns,
    transpose_vectors,
    vector_lanes,
    zero_vector,
)
from .tiles import micro_kernel
from .windows import accumulate

_i8 = np.int64

OPERAND = np.dtype(
    [
        # The pixel axis: sizes of its rows, then the address steps, and per step the coordinate's increments.
        ("q0", _i8), ("q1", _i8), ("q2", _i8),
        ("address_n", _i8), ("address_0", _i8), ("address_1", _i8), ("address_2", _i8),
        ("step_0", _i8), ("step_1", _i8), ("step_2", _i8),
        # The image: a coordinate is inside from 0 to its size.
        ("size_0", _i8), ("size_1", _i8), ("size_2", _i8),
        # The feature axis: number = tap tap_stride + channel channel_stride; the taps begin at first_tap of the table.
        ("first_tap", _i8), ("taps", _i8), ("channels", _i8), ("address_c", _i8),
        ("tap_stride", _i8), ("channel_stride", _i8),
        # Where matrix number i of the batch starts: base + i address_batch.
        ("base", _i8), ("address_batch", _i8),
        # Whether no element falls outside the image, in one tap; how many taps' channels lie side by side.
        ("plain", _i8), ("adjoining", _i8),
    ]
)  # fmt: skip

PROBLEM = np.dtype(
    [
        ("m", _i8), ("n", _i8), ("k", _i8), ("batch", _i8),
        # The result is computed in pieces of mb x nb; blocks of k that are summed before they are added to the others.
        ("mb", _i8), ("nb", _i8), ("first_piece", _i8), ("together", _i8),
        # Which axis of a, b and the result is the one of pixels.
        ("a_pixels_inner", _i8), ("b_pixels_inner", _i8), ("rows_are_pixels", _i8),
        # Operands that lie packed already: where they start (-1: they do not), and the size of one matrix.
        ("a_packed", _i8), ("a_packed_size", _i8), ("b_packed", _i8), ("b_packed_size", _i8),
        # Bias: 0 none, 1 an element a row, 2 a column; its start for matrix number i is i bias_batch.
        ("bias", _i8), ("bias_stride", _i8), ("bias_batch", _i8), ("residual", _i8), ("activation", _i8),
    ]
)  # fmt: skip

#: Panels of the left block that stay in the second-level cache while the right panels pass.
_PANELS = max(1, 192 // MR)


# ------------------------------------------------------------------------------------------- virtual matrices


@part
def _up(count, step):
    return (count + step - 1) // step * step


@inlined
def _fill_pixels_inner(dst, d0, chunk, pitch, src, op, base, taps, cuts, p0, count, f0, f1):
    """``dst[d0 + (f - f0) pitch + (j // NR) chunk + j % NR] = V[p0 + j, f]``; lanes up to a multiple of NR become 0."""
    width = vector_lanes(dst)
    nr = NV * width
    q2 = p0 % op.q2
    rest = p0 // op.q2
    q1 = rest % op.q1
    rest //= op.q1
    q0 = rest % op.q0
    n = rest // op.q0
    j = 0
    while j < count:
        lane0 = j % nr
        length = min(nr - lane0, count - j, op.q2 - q2)
        row = base + n * op.address_n + q0 * op.address_0 + q1 * op.address_1 + q2 * op.address_2
        column = d0 + (j // nr) * chunk
        # Vectors before this one hold lanes of the pixels before these, which must stay.
        first_own = (lane0 + width - 1) // width
        last_vector = (lane0 + length + width - 1) // width
        for t in range(op.taps):
            tap = taps[op.first_tap + t]
            c0, c1 = cuts[2 * t], cuts[2 * t + 1]
            if c0 == c1:
                continue
            x0, x1, x2 = q0 * op.step_0 + tap[1], q1 * op.step_1 + tap[2], q2 * op.step_2 + tap[3]
            lo, hi = 0, 0
            if 0 <= x0 < op.size_0 and 0 <= x1 < op.size_1:
                if op.step_2 == 1:
                    lo, hi = max(0, -x2), min(length, op.size_2 - x2)
                else:
                    lo, hi = max(0, -(x2 // op.step_2)), min(length, -((x2 - op.size_2) // op.step_2))
            lo = min(lo, length)
            hi = max(hi, lo)
            source = row + tap[0] + c0 * op.address_c
            target = column + (t * op.tap_stride + c0 * op.channel_stride - f0) * pitch
            target_step, source_step = op.channel_stride * pitch, op.address_c
            for v in range(lane0 // width, last_vector):
                shift = v * width - lane0
                d, s = target + v * width, source + shift
                if op.address_2 == 2 and lo <= shift and shift + width < hi:
                    for c in range(c1 - c0):
                        copy_evens(dst, d + c * target_step, src, source + 2 * shift + c * source_step)
                elif op.address_2 != 1:
                    for c in range(c1 - c0):
                        if v >= first_own:
                            zero_vector(dst, d + c * target_step)
                        for lane in range(max(lo, shift), min(hi, shift + width)):
                            dst[target + c * target_step + lane0 + lane] = src[
                                source + c * source_step + lane * op.address_2
                            ]
                elif lo <= shift and shift + width <= hi:
                    for c in range(c1 - c0):
                        copy_vector(dst, d + c * target_step, src, s + c * source_step)
                elif v >= first_own:
                    for c in range(c1 - c0):
                        copy_lanes(dst, d + c * target_step, src, s + c * source_step, lo - shift, hi - shift)
                else:
                    for c in range(c1 - c0):
                        merge_lanes(dst, d + c * target_step, src, s + c * source_step, lo - shift, hi - shift)
        j += length
        q2 += length
        if q2 == op.q2:
            q2 = 0
            q1 += 1
            if q1 == op.q1:
                q1 = 0
                q0 += 1
                if q0 == op.q0:
                    q0 = 0
                    n += 1
    for v in range((count % nr + width - 1) // width if count % nr else NV, NV):
        for f in range(f1 - f0):
            zero_vector(dst, d0 + (count // nr) * chunk + f * pitch + v * width)


@part
def _copy_pixels(dst, d0, chunk, pitch, i, src, s, step, n, first, last):
    """``n`` contiguous elements of each of the pixels ``first`` to ``last`` to the inner positions i, i + 1, ..."""
    compact()
    no_inline()
    nr, width = tile_columns(dst), vector_lanes(dst)
    while n > 0:
        part = n if chunk == nr else min(n, nr - i % nr)
        d = d0 + (i // nr) * chunk + i % nr
        if part >= width:
            for j in range(first, last):
                for v in range(0, part - width, width):
                    copy_vector(dst, d + j * pitch + v, src, s + j * step + v)
                # The last vector may begin inside the one before it.
                copy_vector(dst, d + j * pitch + part - width, src, s + j * step + part - width)
        else:
            for j in range(first, last):
                for e in range(part):
                    dst[d + j * pitch + e] = src[s + j * step + e]
        i += part
        s += part
        n -= part


@part
def _fill_features(dst, d0, chunk, pitch, i, src, s, op, n, first, last, lo, hi):
    """``n`` features from number i on, of the pixels ``first`` to ``last``: from lo to hi they lie in the image."""
    compact()
    no_inline()
    nr = tile_columns(dst)
    lo = min(last, max(first, lo))
    hi = min(last, max(lo, hi))
    if op.channel_stride == 1 and op.address_c == 1:
        _copy_pixels(dst, d0, chunk, pitch, i, src, s, op.address_2, n, lo, hi)
    else:
        for c in range(n):
            k = i + c * op.channel_stride
            for j in range(lo, hi):
                dst[d0 + (k // nr) * chunk + k % nr + j * pitch] = src[s + c * op.address_c + j * op.address_2]
    if lo > first or hi < last:
        for c in range(n):
            k = i + c * op.channel_stride
            d = d0 + (k // nr) * chunk + k % nr
            for j in range(first, lo):
                dst[d + j * pitch] = 0
            for j in range(hi, last):
                dst[d + j * pitch] = 0


@inlined
def _fill_features_inner(dst, d0, chunk, pitch, src, op, base, taps, cuts, p0, count, f0, f1):
    """``dst[d0 + j pitch + (i // NR) chunk + i % NR] = V[p0 + j, f0 + i]``; lanes up to a multiple of NR become 0."""
    nr = tile_columns(dst)
    for i in range(f1 - f0, _up(f1 - f0, nr)):
        for j in range(count):
            dst[d0 + j * pitch + (i // nr) * chunk + i % nr] = 0
    q2 = p0 % op.q2
    rest = p0 // op.q2
    q1 = rest % op.q1
    rest //= op.q1
    q0 = rest % op.q0
    n = rest // op.q0
    while count > 0:
        length = min(count, op.q2 - q2)
        row = base + n * op.address_n + q0 * op.address_0 + q1 * op.address_1 + q2 * op.address_2
        t = 0
        while t < op.taps:
            # Taps whose channels adjoin are copied together, where all of them lie in the image.
            together = op.adjoining if t % op.adjoining == 0 else 1
            for k in range(t, t + together):
                if cuts[2 * k] > 0 or cuts[2 * k + 1] < op.channels:
                    together = 1
            tap, step = taps[op.first_tap + t], op.step_2
            x2 = q2 * step + tap[3]
            x3 = q2 * step + taps[op.first_tap + t + together - 1, 3]
            inside = 0 <= q0 * op.step_0 + tap[1] < op.size_0 and 0 <= q1 * op.step_1 + tap[2] < op.size_1
            lo, hi = (max(0, -(x2 // step)), -((x3 - op.size_2) // step)) if inside else (length, length)
            lo = min(lo, length)
            hi = max(lo, min(hi, length))
            c0 = cuts[2 * t]
            i, s = t * op.tap_stride + c0 * op.channel_stride - f0, row + tap[0] + c0 * op.address_c
            if together == 1:
                _fill_features(dst, d0, chunk, pitch, i, src, s, op, cuts[2 * t + 1] - c0, plain(0), length, lo, hi)
            else:
                _copy_pixels(dst, d0, chunk, pitch, i, src, s, op.address_2, together * op.channels, lo, hi)
                for k in range(t, t + together if lo > 0 or hi < length else t):
                    x2 = q2 * step + taps[op.first_tap + k, 3]
                    from_, to = (max(0, -(x2 // step)), -((x2 - op.size_2) // step)) if inside else (length, length)
                    for side in range(2):
                        first, last = (0, lo) if side == 0 else (hi, length)
                        _fill_features(
                            dst, d0, chunk, pitch, k * op.tap_stride - f0, src, row + taps[op.first_tap + k, 0], op,
                            op.channels, first, last, from_, to,
                        )  # fmt: skip
            t += together
        d0 += length * pitch
        count -= length
        q2 = 0
        q1 += 1
        if q1 == op.q1:
            q1 = 0
            q0 += 1
            if q0 == op.q0:
                q0 = 0
                n += 1


@part
def turn(dst, d, pitch, src, s, step, inner, outer):
    """``dst[d + o pitch + i] = src[s + i step + o]``"""
    compact()
    no_inline()
    width = vector_lanes(dst)
    # The last vectors of either side may begin inside the ones before.
    for i in range(0, inner if inner >= width else 0, width):
        i0 = min(i, inner - width)
        for o in range(0, outer, width):
            o0 = max(0, min(o, outer - width))
            transpose_vectors(dst, d + o0 * pitch + i0, pitch, src, s + i0 * step + o0, step, min(width, outer))
    if inner < width:
        for o in range(outer):
            for i in range(inner):
                dst[d + o * pitch + i] = src[s + i * step + o]


@inlined
def _fill_turned(dst, d0, chunk, pitch, src, op, base, taps, pixels_inner, p0, count, f0, f1):
    """What the other two do, for a plain operand whose outer axis is the contiguous one."""
    width, nr = vector_lanes(dst), tile_columns(dst)
    features = f1 - f0
    inner, outer = (count, features) if pixels_inner else (features, count)
    for i in range(inner // width * width, _up(inner, nr), width):
        for o in range(outer):
            zero_vector(dst, d0 + (i // nr) * chunk + i % nr + o * pitch)
    j = 0
    while j < count:
        p = p0 + j
        q2 = p % op.q2
        length = min(op.q2 - q2, count - j)
        p //= op.q2
        q1 = p % op.q1
        p //= op.q1
        row = base + q2 * op.address_2 + q1 * op.address_1 + (p % op.q0) * op.address_0 + (p // op.q0) * op.address_n
        row += f0 * op.address_c + taps[op.first_tap, 0]
        if pixels_inner:
            length = min(length, nr - j % nr)
            turn(dst, d0 + (j // nr) * chunk + j % nr, pitch, src, row, op.address_2, length, features)
        else:
            for i in range(0, features, nr):
                turn(
                    dst, d0 + (i // nr) * chunk + j * pitch, pitch, src, row + i * op.address_c, op.address_c,
                    min(nr, features - i), length,
                )  # fmt: skip
        j += length


@part
def _fill(dst, d0, chunk, pitch, src, op, batch, taps, cuts, pixels_inner, outer0, outer1, outer_unit, inner0, inner1):
    """``dst[d0 + (o - outer0) pitch + (i // NR) chunk + i % NR]``, i from inner0 on: the elements [o, i] of a matrix.

    Zeros complete the inner axis to a multiple of NR and the outer one to a multiple of ``outer_unit``.
    """
    compact()
    no_inline()
    # cuts[2 t], cuts[2 t + 1]: from and to which channel of tap t the feature's number lies in f0 .. f1.
    f0, f1 = (outer0, outer1) if pixels_inner else (inner0, inner1)
    for t in range(op.taps):
        first, stride = t * op.tap_stride, op.channel_stride
        cuts[2 * t] = min(op.channels, max(0, -((first - f0) // stride)))
        cuts[2 * t + 1] = max(cuts[2 * t], min(op.channels, -((first - f1) // stride)))
    base = op.base + batch * op.address_batch
    along, across = (op.address_2, op.address_c) if pixels_inner else (op.address_c, op.address_2)
    count = inner1 - inner0 if pixels_inner else outer1 - outer0
    if op.plain and across == 1 and along != 1:
        _fill_turned(
            dst, d0, chunk, pitch, src, op, base, taps, pixels_inner, inner0 if pixels_inner else outer0, count, f0, f1
        )
    elif pixels_inner:
        _fill_pixels_inner(dst, d0, chunk, pitch, src, op, base, taps, cuts, inner0, inner1 - inner0, f0, f1)
    else:
        _fill_features_inner(dst, d0, chunk, pitch, src, op, base, taps, cuts, outer0, outer1 - outer0, f0, f1)
    count, nr = outer1 - outer0, tile_columns(dst)
    for o in range(count, _up(count, outer_unit)):
        for i in range(0, inner1 - inner0, vector_lanes(dst)):
            zero_vector(dst, d0 + o * pitch + (i // nr) * chunk + i % nr)


@inlined
def _place(op, batch, taps, pixels_are_rows, m0, m1, n0, n1, table, mb):
    """Addresses of rows m0 .. m1 of the result to ``table``, and of columns n0 .. n1 to ``table[mb:]``."""
    base = op.base + batch * op.address_batch
    p0, p1, p_at, f0, f1, f_at = (m0, m1, 0, n0, n1, mb) if pixels_are_rows else (n0, n1, mb, m0, m1, 0)
    for p in range(p0, p1):
        q2 = p % op.q2
        rest = p // op.q2
        q1 = rest % op.q1
        rest //= op.q1
        address = base + q2 * op.address_2 + q1 * op.address_1
        table[p_at + p - p0] = address + (rest % op.q0) * op.address_0 + (rest // op.q0) * op.address_n
    for f in range(f0, f1):
        if op.channel_stride == 1:
            t, c = f // op.tap_stride, f % op.tap_stride
        else:
            c, t = f // op.channel_stride, f % op.channel_stride
        table[f_at + f - f0] = taps[op.first_tap + t, 0] + c * op.address_c


# ---------------------------------------------------------------------------------------------- the epilogue


@part
def activate(tile, at, count, kind, alpha, beta):
    """The activation number ``kind`` of ``spec.ACTIVATIONS`` on ``tile[at : at + count]``. NaN stays NaN."""
    no_inline()
    zero = alpha * 0
    one, six = zero + 1, zero + 6
    if kind == 1:
        for i in range(at, at + count):
            tile[i] = zero if tile[i] < zero else tile[i]
    elif kind == 2:
        for i in range(at, at + count):
            tile[i] = tile[i] if tile[i] > zero else tile[i] * alpha
    elif kind == 3:
        for i in range(at, at + count):
            x = alpha if tile[i] < alpha else tile[i]
            tile[i] = beta if x > beta else x
    elif kind == 7:
        for i in range(at, at + count):
            x = tile[i] + 3
            x = zero if x < zero else x
            tile[i] *= (six if x > six else x) / six
    elif kind:
        for i in range(at, at + count):
            x = tile[i]
            if kind == 5:
                tile[i] = math.tanh(x)
            elif kind > 7:
                tile[i] = activated(kind, x, alpha, beta)
            else:
                e = math.exp(-abs(x))
                y = (one if x >= zero else e) / (one + e)
                tile[i] = x * y if kind == 6 else y


@part
def _write_tile(
    tile, at, out, residual, bias, column_bias, tables, row, column, bias_row, rows, columns, unit, job, scalars
):
    """The epilogue on one tile, and its elements to their places.

    ``tables``: addresses of the result's rows and columns, then the residual's; ``row`` and ``column``: where the tile
    begins in them.
    """
    no_inline()
    nr = tile_columns(tile)
    mb, nb = job.mb, job.nb
    alpha, beta = scalars[0], scalars[1]
    for i in range(rows):
        line = at + i * nr
        if alpha != 1:
            for j in range(nr):
                tile[line + j] *= alpha
        if job.bias == 1:
            b = bias[bias_row + i * job.bias_stride]
            for j in range(nr):
                tile[line + j] += b
        elif job.bias == 2:
            for j in range(nr):
                tile[line + j] += tile[column_bias + j]
        if job.residual:
            r = tables[mb + nb + row + i]
            for j in range(columns):
                tile[line + j] += beta * residual[r + tables[2 * mb + nb + column + j]]
        activate(tile, line, columns, job.activation, scalars[2], scalars[3])
        o = tables[row + i]
        if unit and columns == nr:
            o += tables[mb + column]
            for v in range(NV):
                copy_vector(out, o + v * vector_lanes(tile), tile, line + v * vector_lanes(tile))
        else:
            for j in range(columns):
                out[o + tables[mb + column + j]] = tile[line + j]


# ------------------------------------------------------------------------------------------------ the product


@part
def _add_tile(work, total, tile, first):
    """One tile to its total, or as the first of it."""
    compact()
    no_inline()
    count = MR * tile_columns(work)
    if first:
        for i in range(0, count, vector_lanes(work)):
            copy_vector(work, total + i, work, tile + i)
    else:
        accumulate(work, total, work, tile, count)


@part
def _typed(addresses, like):
    return (
        pointer(addresses[0], like), pointer(addresses[1], like), pointer(addresses[2], like),
        pointer(addresses[3], like), pointer(addresses[4], like),
    )  # fmt: skip


@part
def _first_aligned(array):
    """The first element that begins a cache line."""
    return (-array.ctypes.data % 64) // array.itemsize


@part
def _even_steps(table, first, last):
    """What ``table[first:last]`` grows by from number to number; 0 where that varies, 1 for a single one."""
    no_inline()
    step = table[first + 1] - table[first] if last - first > 1 else 1
    for i in range(first + 2, last):
        if table[i] - table[i - 1] != step:
            step = 0
    return step


@jit
def multiply(counter, pieces, jobs, operands, taps, addresses, scalars, packed, work, tables):
    """Take pieces from the counter and compute them until none is left.

    ``jobs`` share one numbering of their pieces; ``operands`` has four a job. ``addresses``: of a, b, the result, the
    residual and the bias. ``packed`` holds the packed operands, ``work`` and ``tables`` are this thread's.
    """
    compact()
    pointers = _typed(addresses, work)
    start = _first_aligned(work)
    work, packed, nr = data_of(work), data_of(packed), tile_columns(work)
    number = fetch_add(counter)
    while number < pieces:
        which, behind = 0, len(jobs)
        while behind - which > 1:
            half = (which + behind) // 2
            if jobs[half].first_piece > number:
                behind = half
            else:
                which = half
        job = jobs[which]
        piece = number - job.first_piece
        m_blocks, n_blocks = (job.m + job.mb - 1) // job.mb, (job.n + job.nb - 1) // job.nb
        m0, n0 = piece % m_blocks * job.mb, piece // m_blocks % n_blocks * job.nb
        batch = piece // (m_blocks * n_blocks)
        m1, n1 = min(job.m, m0 + job.mb), min(job.n, n0 + job.nb)
        row_panels, column_panels = (m1 - m0 + MR - 1) // MR, (n1 - n0 + nr - 1) // nr

        mb, nb = job.mb, job.nb
        for r in range(1 + job.residual):
            _place(
                operands[4 * which + 2 + r],
                batch,
                taps,
                job.rows_are_pixels,
                m0,
                m1,
                n0,
                n1,
                tables[r * (mb + nb) :],
                mb,
            )
        units = tables[2 * (mb + nb) :]
        apart = units[column_panels:]
        cuts = apart[row_panels:]
        for panel in range(column_panels):
            units[panel] = _even_steps(tables, mb + panel * nr, min(mb + panel * nr + nr, mb + n1 - n0)) == 1
        for panel in range(row_panels):
            apart[panel] = _even_steps(tables, panel * MR, panel * MR + MR) if panel * MR + MR <= m1 - m0 else 0
        untouched = scalars[0] == 1 and not (job.bias or job.residual or job.activation)

        # Work space: rows, columns, tiles of the result, their totals, bias of the columns.
        columns_at = start + (0 if job.a_packed >= 0 else _up(mb, MR) * PITCH)
        tiles_at = columns_at + (0 if job.b_packed >= 0 else _up(nb, nr) * (min(job.k, KC) + 1))
        tile_step, is_long = (MR * nr if job.k > KC else 0), job.k > job.together * KC
        totals = _up(mb, MR) * _up(nb, nr) if job.k > KC else MR * nr
        bias_at = tiles_at + totals + (totals if is_long else 0)
        if job.bias == 2:
            for j in range(n1 - n0):
                work[bias_at + j] = pointers[4][batch * job.bias_batch + (n0 + j) * job.bias_stride]

        for k0 in range(0, max(job.k, 1), KC):
            # Right panels lie one row more than they need apart: no power of two.
            k1 = min(job.k, k0 + KC)
            left, right, left_at, right_at, right_step = work, work, start, columns_at, (k1 - k0 + 1) * nr
            if job.a_packed >= 0:
                left = packed
                left_at = job.a_packed + batch * job.a_packed_size + (k0 // KC * _up(job.m, MR) + m0) * PITCH
            else:
                _fill(
                    left, left_at, nr, plain(PITCH), pointers[0], operands[4 * which], batch, taps, cuts,
                    job.a_pixels_inner, m0, m1, plain(MR), k0, k1,
                )  # fmt: skip
            if job.b_packed >= 0:
                right, right_step = packed, job.k * nr
                right_at = job.b_packed + batch * job.b_packed_size + n0 * job.k + k0 * nr
            else:
                _fill(
                    right, right_at, right_step, nr, pointers[1], operands[4 * which + 1], batch, taps, cuts,
                    job.b_pixels_inner, k0, k1, plain(1), n0, n1,
                )  # fmt: skip
            for block in range(0, row_panels, _PANELS):
                for j in range(column_panels):
                    for i in range(block, min(block + _PANELS, row_panels)):
                        tile, row, column = tiles_at + (i * column_panels + j) * tile_step, i * MR, j * nr
                        # Whole tiles go where they belong, unless something is left to be done to them.
                        straight = untouched and units[j] and apart[i] != 0 and n1 - n0 - column >= nr and not is_long
                        to, at, step = work, tile, nr
                        if straight:
                            to, at, step = pointers[2], tables[row] + tables[mb + column], apart[i]
                        micro_kernel(
                            left,
                            left_at + row * PITCH,
                            1,
                            right,
                            right_at + j * right_step,
                            nr,
                            to,
                            at,
                            step,
                            k1 - k0,
                            k0 // KC % job.together > 0,
                        )
                        if is_long and ((k0 // KC + 1) % job.together == 0 or k1 == job.k):
                            _add_tile(work, tile + totals, tile, k0 < job.together * KC)
                            tile += totals
                        if k1 == job.k and not straight:
                            _write_tile(
                                work, tile, pointers[2], pointers[3], pointers[4], bias_at + column, tables, row,
                                column, batch * job.bias_batch + (m0 + row) * job.bias_stride,
                                min(MR, m1 - m0 - row), min(nr, n1 - n0 - column), units[j], job, scalars,
                            )  # fmt: skip
        number = fetch_add(counter)


@jit
def pack(counter, jobs, operands, taps, addresses, packed, cuts):
    """Pack the operands that are to be packed beforehand; a piece is one block of k of one matrix."""
    compact()
    pointers = _typed(addresses, packed)
    dst = data_of(packed)
    nr = tile_columns(dst)
    wanted, first = fetch_add(counter), 0
    for i in range(len(jobs)):
        job = jobs[i]
        blocks = (job.k + KC - 1) // KC
        while wanted < first + job.batch * blocks:
            batch, block = (wanted - first) // blocks, (wanted - first) % blocks
            k0 = block * KC
            k1 = min(job.k, k0 + KC)
            if job.a_packed >= 0:
                at = job.a_packed + batch * job.a_packed_size + block * _up(job.m, MR) * PITCH
                _fill(
                    dst, at, nr, plain(PITCH), pointers[0], operands[4 * i], batch, taps, cuts, job.a_pixels_inner,
                    plain(0), job.m, plain(MR), k0, k1,
                )  # fmt: skip
            if job.b_packed >= 0:
                at = job.b_packed + batch * job.b_packed_size + k0 * nr
                _fill(
                    dst, at, job.k * nr, nr, pointers[1], operands[4 * i + 1], batch, taps, cuts, job.b_pixels_inner,
                    k0, k1, plain(1), plain(0), job.n,
                )  # fmt: skip
            wanted = fetch_add(counter)
        first += job.batch * blocks
