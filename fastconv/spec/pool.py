"""The spec of a pooling and of its gradient: windows are rules, whose size does not depend on the input's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ..arguments import number, shown
from .common import channels_last, check_elements, int_tuple
from .conv import conv_pads
from .types import DTYPES, INTEGERS, OfImages, Types, types_of


@dataclass(frozen=True)
class PoolSpec(OfImages):
    """One pooling problem. ``kind`` is ``"max"``, ``"avg"`` or ``"sum"``, ``direction`` ``"fwd"`` or ``"bwd"``.

    Output ``o`` of a dimension pools the input positions ``start, start + dilation, ... < end``, which are inside the
    input and at least one; an average divides by the product of the counts over the dimensions (or by ``divisor``).
    Regular, adaptive and global pooling differ in these windows only, and ``windows`` is their only definition. It
    makes them anew each time: a spec holds the rules, whose size does not depend on the input's.
    """

    kind: str
    direction: str
    types: Types
    channels_last: bool
    n: int
    c: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    count_include_pad: bool = True
    divisor: float | None = None
    adaptive: bool = False
    indices: bool = False

    @cached_property
    def empty(self) -> bool:
        return prod(self.x_shape) * prod(self.y_shape) == 0

    def overlap(self, dim: int) -> int:
        """Windows along a dimension that have one and the same position, at most."""
        size, out = self.in_size[dim], self.out_size[dim]
        if self.adaptive:
            return min(out, -(-out // size) + 1)
        k, extent = self.kernel[dim], self.dilation[dim] * (self.kernel[dim] - 1) + 1
        return min(out, k, -(-extent // self.stride[dim]))

    def windows(self, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every output along a dimension: start, end (int64), count (float64)."""
        size, out = self.in_size[dim], self.out_size[dim]
        k, s, (lo, hi), d = self.kernel[dim], self.stride[dim], self.pads[dim], self.dilation[dim]
        # Python's integers where others could overflow.
        largest = (size + 1) * (out + 1) if self.adaptive else (out - 1) * s + lo + hi + size + d * k
        o = np.arange(out, dtype=np.int64 if largest < 2**62 else object)
        if self.adaptive:
            start, end = o * size // out, -(-(o + 1) * size // out)
            count = end - start
        else:
            first = o * s - lo
            last = np.minimum(first + d * (k - 1) + 1, size + hi)
            # A window that starts in the padding starts at its first tap inside the image.
            start, end = np.where(first < 0, first % d, first), np.minimum(last, size)
            count = last - first if self.count_include_pad else -(-(end - start) // d)
        return start.astype(np.int64), end.astype(np.int64), count.astype(np.float64)


def _pool_out_size(size: int, k: int, s: int, lo: int, hi: int, d: int, ceil_mode: bool) -> int:
    span = size + lo + hi - d * (k - 1) - 1
    out = (-(-span // s) if ceil_mode else span // s) + 1
    # With ceil_mode the last window must start inside the input or the leading padding.
    return out - 1 if ceil_mode and (out - 1) * s >= size + lo else out


def _has_window_of_padding(size: int, out: int, k: int, s: int, lo: int, d: int) -> bool:
    """Whether one of the windows along a dimension has no tap inside the input."""
    if (out - 1) * s - lo >= size or d * (k - 1) < lo:
        return True
    # A window that starts in the padding, and whose taps may pass over the input.
    return d > size and any((o * s - lo) % d >= size for o in range(min(out, -(-lo // s))))


def divisor_of(value: Any, dtype: str) -> float | None:
    """``divisor_override`` as a float that is a normal number of the dtype."""
    allowed = f"allowed is None or a number other than 0 that {dtype} holds"
    if value is None:
        return None
    divisor, limits = number("divisor_override", value), np.finfo(dtype)
    if not limits.tiny <= abs(divisor) <= limits.max:
        raise ValueError(f"divisor_override={shown(value)}: {allowed}")
    return divisor


def _check_pool_sizes(spec: PoolSpec) -> PoolSpec:
    """The spec, if its arrays can be. Sizes beside an empty batch count as if it had an image."""
    for name, shape in (("x", spec.x_shape), ("the result", spec.y_shape)):
        check_elements(name, tuple(max(1, size) for size in shape))
    return spec


def _types(kind: str, direction: str, dtype: str | Types) -> Types:
    return types_of(dtype, DTYPES + INTEGERS if kind == "max" and direction == "fwd" else DTYPES)


def pool_spec(
    kind: str,
    direction: str,
    x_shape: tuple[int, ...],
    dtype: str | Types,
    ndim: int,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
    layout: str = "NCHW",
    indices: bool = False,
) -> PoolSpec:
    """The spec of a pooling with torch.nn.functional's arguments; padding also takes pairs and names, as in conv."""
    last = channels_last(layout, ndim)
    n, c, size = _split_pool_shape(x_shape, ndim, last)
    types = _types(kind, direction, dtype)
    kernel = int_tuple(kernel_size, ndim, "kernel_size", 1)
    strides = kernel if stride is None else int_tuple(stride, ndim, "stride", 1)
    dil = int_tuple(dilation, ndim, "dilation", 1)
    divisor = divisor_of(divisor_override, types.acc)
    pads = conv_pads(padding, size, kernel, strides, dil)
    for k, (lo, hi), d in zip(kernel, pads, dil, strict=True):
        half = (d * (k - 1) + 1) // 2
        named = isinstance(padding, str)
        if not named and not (0 <= lo <= half and 0 <= hi <= half):
            raise ValueError(
                f"padding={padding!r}: allowed is 0 to {half}, half of the effective kernel size "
                f"(kernel_size={kernel_size!r}, dilation={dilation!r})"
            )
    out = []
    for i, k, s, (lo, hi), d in zip(size, kernel, strides, pads, dil, strict=True):
        if i + lo + hi < d * (k - 1) + 1 and not (ceil_mode and i > 0):
            raise ValueError(
                f"kernel_size={kernel_size!r} with dilation={dilation!r} is larger than the input {size} "
                f"padded by {pads}"
            )
        o = _pool_out_size(i, k, s, lo, hi, d, ceil_mode)
        if o < 1:
            raise ValueError(f"kernel_size={kernel_size!r} is larger than the input {size} padded by {pads}")
        out.append(o)
    spec = PoolSpec(
        kind, direction, types, last, n, c, size, tuple(out), kernel, strides, pads, dil,
        bool(count_include_pad), divisor, False, indices,
    )  # fmt: skip
    if any(map(_has_window_of_padding, size, out, kernel, strides, (lo for lo, _ in pads), dil)):
        raise ValueError(
            f"padding={padding!r}: with kernel_size={kernel_size!r} and dilation={dilation!r} a window over the input "
            f"{size} would hold padding alone; each needs an element"
        )
    return _check_pool_sizes(spec)


def adaptive_pool_spec(
    kind: str,
    direction: str,
    x_shape: tuple[int, ...],
    dtype: str | Types,
    ndim: int,
    output_size: Any,
    layout: str = "NCHW",
    indices: bool = False,
) -> PoolSpec:
    """Windows ``floor(o size / out) .. ceil((o + 1) size / out)``; ``None`` in ``output_size`` keeps a size."""
    last = channels_last(layout, ndim)
    n, c, size = _split_pool_shape(x_shape, ndim, last)
    types = _types(kind, direction, dtype)
    wanted = output_size
    if isinstance(output_size, (tuple, list)) and len(output_size) == ndim:
        wanted = tuple(i if o is None else o for o, i in zip(output_size, size, strict=True))
    out = int_tuple(wanted, ndim, "output_size", 1)
    if min(size) < 1:
        raise ValueError(f"x has the spatial size {size}: every size must be >= 1")
    ones = (1,) * ndim
    spec = PoolSpec(kind, direction, types, last, n, c, size, out, ones, ones, ((0, 0),) * ndim, ones,
                    adaptive=True, indices=indices)  # fmt: skip
    return _check_pool_sizes(spec)


def _split_pool_shape(shape: tuple[int, ...], ndim: int, last: bool) -> tuple[int, int, tuple[int, ...]]:
    if len(shape) != ndim + 2:
        raise ValueError(
            f"x has shape {tuple(shape)}: {ndim}-D pooling takes {ndim + 2} dimensions, or {ndim + 1} without the batch"
        )
    n, *rest = shape
    return (n, rest[-1], tuple(rest[:-1])) if last else (n, rest[0], tuple(rest[1:]))
