"""Strips: rows of pixels copied from an image, each a vector of channels, with zeros around."""

from __future__ import annotations

from ..core.compile import part
from ..core.intrinsics import compact, copy_vector, no_inline, vector_lanes, zero_vector
from ..core.lines import turn

__all__ = ["empty_strip", "fill_strip"]


@part
def fill_strip(strip, at, src, base, step, h, w, apart_1, apart_2, rows, pixels, height, width, count):
    """Rows of pixels from (h, w) of an image on, some apart, each a vector of which ``count`` channels exist; 0 for all
    others."""
    compact()
    no_inline()
    lane = vector_lanes(strip)
    first, last = min(pixels, max(0, -(w // apart_2))), min(pixels, -((w - width) // apart_2))
    s2 = apart_2 * step.s2
    for i in range(rows):
        line = at + i * pixels * lane
        y = h + i * apart_1
        inside = 0 <= y < height and first < last
        for j in range(first if inside and count == lane else pixels):
            zero_vector(strip, line + j * lane)
        if inside:
            for j in range(last, pixels):
                zero_vector(strip, line + j * lane)
            line += first * lane
            source = base + y * step.s1 + w * step.s2 + first * s2
            if s2 == 1:
                turn(strip, line, lane, src, source, step.c, count, last - first)
            elif step.c == 1 and count == lane:
                for j in range(last - first):
                    copy_vector(strip, line + j * lane, src, source + j * s2)
            else:
                for j in range(last - first):
                    for c in range(count):
                        strip[line + j * lane + c] = src[source + j * s2 + c * step.c]


@part
def empty_strip(out, base, step, strip, at, rows, pixels, count):
    """The inverse of ``fill_strip``, without anything around."""
    compact()
    no_inline()
    lane = vector_lanes(strip)
    # Rows that follow one another are one.
    dense = step.s2 == 1 and step.s1 == pixels
    length = pixels * rows if dense else pixels
    for i in range(1 if dense else rows):
        o, line = base + i * step.s1, at + i * pixels * lane
        if step.s2 == 1:
            turn(out, o, step.c, strip, line, lane, length, count)
        elif step.c == 1 and count == lane:
            for j in range(pixels):
                copy_vector(out, o + j * step.s2, strip, line + j * lane)
        else:
            for j in range(pixels):
                for c in range(count):
                    out[o + j * step.s2 + c * step.c] = strip[line + j * lane + c]
