"""From operands to packed panels: elements are read where they are as the panels need them.

Packed left panels are rows of PITCH elements, contiguous in k; packed right panels are [k][NR].
"""

from __future__ import annotations

from ..core.arrays import round_up
from ..core.compile import inlined, part
from ..core.intrinsics import (
    compact,
    copy_evens,
    copy_lanes,
    copy_vector,
    merge_lanes,
    no_inline,
    plain,
    tile_columns,
    vector_lanes,
    zero_vector,
)
from ..core.lines import turn
from ..core.target import NV

__all__ = ["coordinates", "fill", "next_row"]


@inlined
def coordinates(op, p):
    """Of pixel number p: (n, q0, q1, q2)."""
    rest = p // op.q2
    n = rest // op.q1
    return n // op.q0, n % op.q0, rest % op.q1, p % op.q2


@inlined
def next_row(op, n, q0, q1):
    """The row of pixels behind this one."""
    q1 += 1
    if q1 == op.q1:
        q1 = 0
        q0 += 1
        if q0 == op.q0:
            q0 = 0
            n += 1
    return n, q0, q1


@inlined
def _fill_pixels_inner(dst, d0, chunk, pitch, src, op, base, taps, cuts, p0, count, f0, f1):
    """``dst[d0 + (f - f0) pitch + (j // NR) chunk + j % NR] = V[p0 + j, f]``; lanes up to a multiple of NR become 0."""
    width = vector_lanes(dst)
    nr = NV * width
    n, q0, q1, q2 = coordinates(op, p0)
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
            n, q0, q1 = next_row(op, n, q0, q1)
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
    for i in range(f1 - f0, round_up(f1 - f0, nr)):
        for j in range(count):
            dst[d0 + j * pitch + (i // nr) * chunk + i % nr] = 0
    n, q0, q1, q2 = coordinates(op, p0)
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
        n, q0, q1 = next_row(op, n, q0, q1)


@inlined
def _fill_turned(dst, d0, chunk, pitch, src, op, base, taps, pixels_inner, p0, count, f0, f1):
    """What the other two do, for a plain operand whose outer axis is the contiguous one."""
    width, nr = vector_lanes(dst), tile_columns(dst)
    features = f1 - f0
    inner, outer = (count, features) if pixels_inner else (features, count)
    for i in range(inner // width * width, round_up(inner, nr), width):
        for o in range(outer):
            zero_vector(dst, d0 + (i // nr) * chunk + i % nr + o * pitch)
    j = 0
    while j < count:
        n, q0, q1, q2 = coordinates(op, p0 + j)
        length = min(op.q2 - q2, count - j)
        row = base + n * op.address_n + q0 * op.address_0 + q1 * op.address_1 + q2 * op.address_2
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
def fill(dst, d0, chunk, pitch, src, op, batch, taps, cuts, pixels_inner, outer0, outer1, outer_unit, inner0, inner1):
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
    for o in range(count, round_up(count, outer_unit)):
        for i in range(0, inner1 - inner0, vector_lanes(dst)):
            zero_vector(dst, d0 + o * pitch + (i // nr) * chunk + i % nr)
