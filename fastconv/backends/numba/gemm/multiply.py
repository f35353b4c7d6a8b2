"""The one packed GEMM that convolutions, their gradients and matrix products run on.

Either axis of an operand may be the one that is summed over. The sum over k is cut into blocks of KC, always at the
same places, so that an element of the result has the same bits whichever piece of the result, and whichever thread,
computes it. Of many blocks some at a time are summed, then these sums: the rounding error does not grow with all of k.
"""

from __future__ import annotations

import numpy as np

from ..core.activations import activate
from ..core.arrays import round_up
from ..core.compile import inlined, jit, part
from ..core.intrinsics import (
    compact,
    copy_vector,
    data_of,
    fetch_add,
    no_inline,
    plain,
    pointer,
    tile_columns,
    vector_lanes,
)
from ..core.lines import accumulate
from ..core.target import KC, MR, NV, PITCH
from .packing import coordinates, fill, next_row
from .tiles import micro_kernel

__all__ = ["PROBLEM", "multiply", "pack"]

_i8 = np.int64

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


@inlined
def _place(op, batch, taps, pixels_are_rows, m0, m1, n0, n1, table, mb):
    """Addresses of rows m0 .. m1 of the result to ``table``, and of columns n0 .. n1 to ``table[mb:]``."""
    base = op.base + batch * op.address_batch
    p0, p1, p_at, f0, f1, f_at = (m0, m1, 0, n0, n1, mb) if pixels_are_rows else (n0, n1, mb, m0, m1, 0)
    n, q0, q1, q2 = coordinates(op, p0)
    row = base + n * op.address_n + q0 * op.address_0 + q1 * op.address_1
    for p in range(p0, p1):
        table[p_at + p - p0] = row + q2 * op.address_2
        q2 += 1
        if q2 == op.q2:
            q2 = 0
            n, q0, q1 = next_row(op, n, q0, q1)
            row = base + n * op.address_n + q0 * op.address_0 + q1 * op.address_1
    for f in range(f0, f1):
        if op.channel_stride == 1:
            t, c = f // op.tap_stride, f % op.tap_stride
        else:
            c, t = f // op.channel_stride, f % op.channel_stride
        table[f_at + f - f0] = taps[op.first_tap + t, 0] + c * op.address_c


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
            op, table = operands[4 * which + 2 + r], tables[r * (mb + nb) :]
            _place(op, batch, taps, job.rows_are_pixels, m0, m1, n0, n1, table, mb)
        units = tables[2 * (mb + nb) :]
        apart = units[column_panels:]
        cuts = apart[row_panels:]
        for panel in range(column_panels):
            units[panel] = _even_steps(tables, mb + panel * nr, min(mb + panel * nr + nr, mb + n1 - n0)) == 1
        for panel in range(row_panels):
            apart[panel] = _even_steps(tables, panel * MR, panel * MR + MR) if panel * MR + MR <= m1 - m0 else 0
        untouched = scalars[0] == 1 and not (job.bias or job.residual or job.activation)

        # Work space: rows, columns, tiles of the result, their totals, bias of the columns.
        columns_at = start + (0 if job.a_packed >= 0 else round_up(mb, MR) * PITCH)
        tiles_at = columns_at + (0 if job.b_packed >= 0 else round_up(nb, nr) * (min(job.k, KC) + 1))
        tile_step, is_long = (MR * nr if job.k > KC else 0), job.k > job.together * KC
        totals = round_up(mb, MR) * round_up(nb, nr) if job.k > KC else MR * nr
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
                left_at = job.a_packed + batch * job.a_packed_size + (k0 // KC * round_up(job.m, MR) + m0) * PITCH
            else:
                fill(
                    left, left_at, nr, plain(PITCH), pointers[0], operands[4 * which], batch, taps, cuts,
                    job.a_pixels_inner, m0, m1, plain(MR), k0, k1,
                )  # fmt: skip
            if job.b_packed >= 0:
                right, right_step = packed, job.k * nr
                right_at = job.b_packed + batch * job.b_packed_size + n0 * job.k + k0 * nr
            else:
                fill(
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
                            left, left_at + row * PITCH, 1, right, right_at + j * right_step, nr, to, at, step, k1 - k0,
                            k0 // KC % job.together > 0,
                        )  # fmt: skip
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
                at = job.a_packed + batch * job.a_packed_size + block * round_up(job.m, MR) * PITCH
                fill(
                    dst, at, nr, plain(PITCH), pointers[0], operands[4 * i], batch, taps, cuts, job.a_pixels_inner,
                    plain(0), job.m, plain(MR), k0, k1,
                )  # fmt: skip
            if job.b_packed >= 0:
                at = job.b_packed + batch * job.b_packed_size + k0 * nr
                fill(
                    dst, at, job.k * nr, nr, pointers[1], operands[4 * i + 1], batch, taps, cuts, job.b_pixels_inner,
                    k0, k1, plain(1), plain(0), job.n,
                )  # fmt: skip
            wanted = fetch_add(counter)
        first += job.batch * blocks
