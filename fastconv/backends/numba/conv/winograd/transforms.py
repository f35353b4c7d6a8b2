"""Winograd's transforms of any scheme: what maps patches, filters and results to values that are multiplied, and back.

``job``: a problem of ``multiply.PROBLEM``. A line's values are the vectors along its one axis.
"""

from __future__ import annotations

from ...core.compile import part
from ...core.intrinsics import compact, no_inline, plain
from .line import FILTERS, PATCHES, POINTS, RESULTS, line_from_values, line_to_values
from .schemes import SQUARE, STRIDED, TURNS
from .square import (
    filter_3,
    filter_5,
    filter_gradient_3,
    filter_gradient_5,
    filter_gradient_strided,
    filter_strided,
    input_turns,
    patch_6,
    patch_strided,
    patch_turns,
    result_2,
    result_4,
    result_gradient_2,
    result_gradient_4,
    result_gradient_strided,
    result_strided,
)

__all__ = ["filters_to_values", "patches_to_values", "results_to_values", "values_to_filter", "values_to_results"]


@part
def patches_to_values(dst, d, t, pitch, apart, src, s, s_row, s_column, hop, tiles, matrix, job):
    """The patches of ``tiles`` tiles from number t on, ``hop`` elements apart."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == SQUARE:
            patch_6(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == STRIDED:
            patch_strided(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == TURNS:
            patch_turns(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column, job.down, job.right)
        else:
            step = s_column if job.along else s_row
            at = plain(PATCHES * POINTS * POINTS)
            line_to_values(dst, d + (t + i) * pitch, apart, src, s + i * hop, step, matrix, at, job.values, job.values)


@part
def results_to_values(dst, d, t, pitch, apart, src, s, s_row, s_column, hop, tiles, matrix, job):
    """The gradients of tiles of results likewise."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == STRIDED:
            result_gradient_strided(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == SQUARE and job.side_1 == 4:
            result_gradient_4(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        elif job.scheme == SQUARE:
            result_gradient_2(dst, d, t + i, pitch, apart, src, s + i * hop, s_row, s_column)
        else:
            step, count = (s_column, job.side_2) if job.along else (s_row, job.side_1)
            at = RESULTS * POINTS * POINTS
            line_to_values(dst, d + (t + i) * pitch, apart, src, s + i * hop, step, matrix, at, job.values, count)


@part
def values_to_results(dst, d, d_row, d_column, hop, src, s, t, pitch, apart, tiles, matrix, job):
    """The results of ``tiles`` tiles from number t on, ``hop`` elements apart."""
    compact()
    no_inline()
    for i in range(tiles):
        if job.scheme == STRIDED:
            result_strided(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        elif job.scheme == TURNS:
            input_turns(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart, job.down, job.right)
        elif job.scheme == SQUARE and job.side_1 == 4:
            result_4(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        elif job.scheme == SQUARE:
            result_2(dst, d + i * hop, d_row, d_column, src, s, t + i, pitch, apart)
        else:
            step, count = (d_column, job.side_2) if job.along else (d_row, job.side_1)
            at = RESULTS * POINTS * POINTS
            line_from_values(
                dst, d + i * hop, step, src, s + (t + i) * pitch, apart, matrix, at, job.values, count
            )  # fmt: skip


@part
def filters_to_values(dst, d, apart, src, s, s_tap, matrix, job):
    """A vector of filters, whose taps lie ``s_tap`` elements apart."""
    compact()
    no_inline()
    if job.scheme == STRIDED or job.scheme == TURNS:
        filter_strided(dst, d, 0, 0, apart, src, s, 3 * s_tap, s_tap)
    elif job.scheme == SQUARE and job.taps == 9:
        filter_3(dst, d, 0, 0, apart, src, s, 3 * s_tap, s_tap)
    elif job.scheme == SQUARE:
        filter_5(dst, d, 0, 0, apart, src, s, 5 * s_tap, s_tap)
    else:
        at = FILTERS * POINTS * POINTS
        line_to_values(dst, d, apart, src, s, s_tap, matrix, at, job.values, job.taps)


@part
def values_to_filter(dst, d, d_tap, src, s, apart, matrix, job):
    """The gradient of such a vector."""
    compact()
    no_inline()
    if job.scheme == STRIDED:
        filter_gradient_strided(dst, d, 3 * d_tap, d_tap, src, s, 0, 0, apart)
    elif job.scheme == SQUARE and job.taps == 9:
        filter_gradient_3(dst, d, 3 * d_tap, d_tap, src, s, 0, 0, apart)
    elif job.scheme == SQUARE:
        filter_gradient_5(dst, d, 5 * d_tap, d_tap, src, s, 0, 0, apart)
    else:
        at = FILTERS * POINTS * POINTS
        line_from_values(dst, d, d_tap, src, s, apart, matrix, at, job.values, job.taps)
