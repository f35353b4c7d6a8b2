"""Matrices that are nowhere stored, as ``Operand`` describes them and ``OPERAND`` has them for compiled code.

One axis runs over *pixels* (n, q0, q1, q2), the other over *features* (tap, channel). The element lies at pixel address
+ tap address + channel address, or is 0 where the pixel's coordinate plus the tap's offset falls outside the image. A
plain matrix is the case of one row of pixels and one tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd

import numpy as np

__all__ = ["OPERAND", "Operand", "merge_pixels"]

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


@dataclass
class Operand:
    """A matrix of pixels and features, as ``engine.OPERAND`` has it. The default is one pixel, one feature."""

    size: tuple[int, int, int] = (1, 1, 1)
    address_n: int = 0
    address: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int, int] = (1, 1, 1)
    image: tuple[int, int, int] = (1, 1, 1)
    taps: Sequence[tuple[int, int, int, int]] = ((0, 0, 0, 0),)
    channels: int = 1
    address_c: int = 0
    channel_major: bool = False
    base: int = 0
    address_batch: int = 0

    @classmethod
    def matrix(cls, rows: int, row_step: int, columns: int, column_step: int, batch_step: int = 0) -> Operand:
        """A plain matrix: rows as pixels, columns as features."""
        return cls(
            size=(1, 1, rows), address=(0, 0, row_step), image=(1, 1, rows), channels=columns, address_c=column_step,
            address_batch=batch_step,
        )  # fmt: skip

    def joined(self) -> Operand:
        """The same matrix, its features as the channels of one tap where they lie one after the other."""
        run = [(i, 0, 0, 0) for i in range(len(self.taps))]
        if not (self.channel_major and self.address_c == len(run) and list(self.taps) == run):
            return self
        return replace(self, taps=run[:1], channels=self.channels * len(run), address_c=1, channel_major=False)

    def _rows_follow(self, dim: int) -> bool:
        """Whether a row in ``dim`` begins where the one before ends, and none is cut off by the image's edge."""
        return self.address[dim] == self.address[2] * self.size[2] and all(
            self.step[d] == 1 and self.image[d] == self.size[d] and not any(tap[d + 1] for tap in self.taps)
            for d in (dim, 2)
        )

    def _plain(self) -> bool:
        whole = self.image == self.size and self.step == (1, 1, 1)
        return whole and len(self.taps) == 1 and tuple(self.taps[0][1:]) == (0, 0, 0)

    def _adjoining(self) -> int:
        """How many taps at a time have their channels one after another, all in one row, and from its start on: of a
        flipped image, whose addresses rise where its columns fall, none have."""
        if self.address_c != 1 or self.channel_major or not self.taps:
            return 1
        breaks = [
            i
            for i, (a, b) in enumerate(pairwise(self.taps), 1)
            if b[0] - a[0] != self.channels or b[1:3] != a[1:3] or b[3] < a[3]
        ]
        return gcd(len(self.taps), *breaks)

    def record(self, first_tap: int) -> tuple[int, ...]:
        order = (1, len(self.taps)) if self.channel_major and len(self.taps) > 1 else (self.channels, 1)
        return (
            *self.size, self.address_n, *self.address, *self.step, *self.image, first_tap, len(self.taps),
            self.channels, self.address_c, *order, self.base, self.address_batch, self._plain(), self._adjoining(),
        )  # fmt: skip


def merge_pixels(operands: list[Operand]) -> None:
    """Rows that follow one another in all the operands, which share their pixels, become one long row."""
    for dim in (1, 0):
        if not all(o.size[1] == 1 or dim == 1 for o in operands) or not all(o._rows_follow(dim) for o in operands):
            return
        for o in operands:
            long = o.size[dim] * o.size[2]
            o.size = (*[1 if d == dim else o.size[d] for d in (0, 1)], long)
            o.image = (*[1 if d == dim else o.image[d] for d in (0, 1)], long)
