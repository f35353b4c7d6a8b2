"""A convolution as its kernels take it: of three spatial dimensions, its arrays by address steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ....spec import ConvSpec

__all__ = ["STEPS", "Image", "Layer", "Steps", "Triple", "Weights"]

_i8 = np.int64
Triple = tuple[int, int, int]

#: Address steps of an image array, and where it begins.
STEPS = np.dtype([("n", _i8), ("c", _i8), ("s0", _i8), ("s1", _i8), ("s2", _i8), ("base", _i8)])


class Steps(NamedTuple):
    """Address steps of the arrays of a call, a number a dimension; that of the bias."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    out: tuple[int, ...]
    residual: tuple[int, ...] | None = None
    bias: int | None = None


def _triple(values: Any, fill: Any) -> Any:
    """One value a spatial dimension as three, the missing leading ones being ``fill``."""
    return (fill,) * (3 - len(values)) + tuple(values)


class Image:
    """Address steps of an image array: batch, channel and three spatial dimensions."""

    def __init__(self, strides: tuple[int, ...], channels_last: bool) -> None:
        self.n, *rest = strides
        *size, self.c = rest if channels_last else (*rest[1:], rest[0])
        self.size: Triple = _triple(size, 0)

    def record(self, begin: Triple = (0, 0, 0), every: Triple = (1, 1, 1)) -> tuple[int, ...]:
        """As ``STEPS`` has it, for every so many positions from ``begin`` on."""
        base = sum(b * s for b, s in zip(begin, self.size, strict=True))
        return (self.n, self.c, *(s * e for s, e in zip(self.size, every, strict=True)), base)


class Weights:
    """Address steps of the weights."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        self.oc, self.ic, *kernel = strides
        self.kernel: Triple = _triple(kernel, 0)

    def at(self, tap: Triple) -> int:
        return sum(k * s for k, s in zip(tap, self.kernel, strict=True))


@dataclass(frozen=True)
class Layer:
    """A convolution of three spatial dimensions, in this order."""

    spec: ConvSpec
    order: Triple
    kernel: Triple
    stride: Triple
    dilation: Triple
    lo: Triple
    in_size: Triple
    out_size: Triple

    @classmethod
    def of(cls, spec: ConvSpec, order: Triple = (0, 1, 2)) -> Layer:
        def ordered(values: Any, fill: int = 1) -> Triple:
            whole = _triple(values, fill)
            return tuple(whole[i] for i in order)

        return cls(
            spec, order, ordered(spec.kernel), ordered(spec.stride), ordered(spec.dilation),
            ordered([lo for lo, _ in spec.pads], 0), ordered(spec.in_size), ordered(spec.out_size),
        )  # fmt: skip

    @property
    def backward(self) -> bool:
        return self.spec.direction == "bwd_input"

    @property
    def channels(self) -> tuple[int, int]:
        """Of a group: of the source and the result; of a gradient of weights those of x and dy."""
        forward = self.spec.ic // self.spec.groups, self.spec.oc // self.spec.groups
        return forward[::-1] if self.backward else forward

    @property
    def sizes(self) -> tuple[Triple, Triple]:
        """Of the source and the result; of a gradient of weights those of x and dy."""
        return (self.out_size, self.in_size) if self.backward else (self.in_size, self.out_size)

    @property
    def axis(self) -> int:
        """That of the only taps; 0 if there are two of them."""
        return 2 if self.kernel[1] == 1 else 1 if self.kernel[2] == 1 else 0

    @property
    def every(self) -> Triple:
        """How far results of one phase are apart."""
        return self.stride if self.backward else (1, 1, 1)

    @property
    def step(self) -> Triple:
        """The steps of a coordinate of the source from one result of a phase to the next."""
        return (1, 1, 1) if self.backward else self.stride

    def phases(self, with_taps: bool) -> list[tuple[Triple, Triple, list[tuple[Triple, Triple]]]]:
        """Dense convolutions that together make the result: (its size, where it begins, [(tap, offset)]).

        Forward is one. The gradient of the input is one for each input position modulo the stride, or for those that
        taps reach: position ``q stride + begin`` receives from outputs ``q + offset``. A tap that meets the padding
        alone is left out.
        """
        axes = [self._phases_along(dim, with_taps) for dim in range(3)]
        phases = []
        for along in product(*axes):
            size, begin, *_ = zip(*along, strict=True)
            taps = product(*(taps for _, _, taps in along))
            phases.append((size, begin, [tuple(zip(*pairs, strict=True)) for pairs in taps]))
        return phases

    def _phases_along(self, dim: int, with_taps: bool) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """Those of one axis alone."""
        step, size, out = self.stride[dim], self.in_size[dim], self.out_size[dim]
        shifts = [tap * self.dilation[dim] - self.lo[dim] for tap in range(self.kernel[dim])]
        if self.spec.direction == "bwd_weight":
            return [(out, 0, list(enumerate(shifts)))]
        if self.spec.direction == "fwd":
            # The first output that does not read in front of the image.
            first = [max(0, -(shift // step)) for shift in shifts]
            reached = [o < out and o * step + shift < size for o, shift in zip(first, shifts, strict=True)]
            return [(out, 0, [pair for pair, inside in zip(enumerate(shifts), reached, strict=True) if inside])]
        found: dict[int, list[tuple[int, int]]] = {}
        if not with_taps:
            found = {begin: [] for begin in range(min(step, size))}
        for tap, shift in enumerate(shifts):
            begin, offset = shift % step, -(shift // step)
            if begin < size and -((begin - size) // step) > -offset and offset < out:
                found.setdefault(begin, []).append((tap, offset))
        return [(-((begin - size) // step), begin, taps) for begin, taps in sorted(found.items())]
