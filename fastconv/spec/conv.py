"""The spec of a convolution in its three directions, and the rules of its shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from ..arguments import MOST, index, shown
from .activation import Activation
from .common import MAX_ELEMENTS, channels_last, check_elements, int_tuple
from .types import Typed, Types, types_of

#: Compiled backends copy and tabulate the padded input of a convolution, if it has no more positions than these and 16
#: times as many as both arrays; and of a strided backward-input they treat by itself each remainder of positions.
MAX_PADDED, MAX_PHASES = 2**18, 2**18


#: What ``conv_pads`` takes.
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]


def conv_out_size(size: int, kernel: int, stride: int = 1, pads: tuple[int, int] = (0, 0), dilation: int = 1) -> int:
    """Output length of one dimension: ``floor((size + lo + hi - (dilation (kernel - 1) + 1)) / stride) + 1``."""
    return (size + pads[0] + pads[1] - (dilation * (kernel - 1) + 1)) // stride + 1


def _same_pads(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
    small, big = total // 2, total - total // 2
    return (big, small) if lower else (small, big)


def conv_pads(
    padding: Any,
    in_size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Every way to write padding as explicit (lo, hi) pairs, one a spatial dimension.

    ``"same"`` is TensorFlow's SAME (ONNX SAME_UPPER): output ``ceil(size / stride)``, an odd pad goes to the end.
    ``"same_lower"`` puts it at the start. ``"causal"`` (1-D) pads the start only. Pairs may be negative: they crop.
    """
    ndim = len(in_size)
    allowed = f"an int >= 0, {ndim} of them, {ndim} (lo, hi) pairs, all below 2^63, 'valid', 'same', 'same_lower'" + (
        " or 'causal'" if ndim == 1 else ""
    )
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * ndim
        if padding in ("same", "same_lower"):
            lower = padding == "same_lower"
            return tuple(_same_pads(*dims, lower) for dims in zip(in_size, kernel, stride, dilation, strict=True))
        if padding == "causal" and ndim == 1:
            return ((dilation[0] * (kernel[0] - 1), 0),)
        raise ValueError(f"padding={shown(padding)}: allowed is {allowed}")
    try:
        pairs = tuple((index(lo), index(hi)) for lo, hi in padding)
    except (TypeError, ValueError):
        try:
            return tuple((p, p) for p in int_tuple(padding, ndim, "padding", 0))
        except (TypeError, ValueError) as error:
            raise type(error)(f"padding={shown(padding)}: allowed is {allowed}") from None
    if len(pairs) != ndim or not all(-MOST <= pad <= MOST for pair in pairs for pad in pair):
        raise ValueError(f"padding={shown(padding)}: allowed is {allowed}")
    return pairs


def _canonical(
    in_size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(stride, dilation) that say the same without numbers that mean nothing, which may be of any size.

    Longer than the padded input are only strides by which no step is taken; a single tap has no dilation.
    """
    padded = (max(1, size + lo + hi) for size, (lo, hi) in zip(in_size, pads, strict=True))
    return tuple(map(min, stride, padded)), tuple(d if k > 1 else 1 for k, d in zip(kernel, dilation, strict=True))


@dataclass(frozen=True)
class ConvSpec(Typed):
    """One convolution problem, in one of its three directions.

    ``x`` is always the side with ``ic`` channels and ``in_size``, ``y`` the side with ``oc`` and ``out_size``, and
    ``w`` is (oc, ic/groups, *kernel), whatever the direction:

    * ``"fwd"``: (x, w) -> y. ``y[o] = sum_t w[t] x[o stride - lo + t dilation]`` (cross-correlation, no flip).
    * ``"bwd_input"``: (dy, w) -> dx, the adjoint of the above. A transposed convolution is this, with an epilogue.
    * ``"bwd_weight"``: (x, dy) -> dw.

    The epilogue, on the array that the direction produces: ``activation(result + bias[channel] + residual)``.
    ``channels_last`` says how x and y lie in memory's logical axes: (n, c, *size) or (n, *size, c).
    ``packed``: the weights are packed once, for many calls.
    """

    direction: str
    types: Types
    channels_last: bool
    n: int
    ic: int
    oc: int
    groups: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    bias: bool = False
    residual: bool = False
    activation: Activation | None = None
    packed: bool = False

    @property
    def ndim(self) -> int:
        return len(self.kernel)

    def _shape(self, c: int, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.n, *size, c) if self.channels_last else (self.n, c, *size)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return self._shape(self.ic, self.in_size)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return self._shape(self.oc, self.out_size)

    @cached_property
    def w_shape(self) -> tuple[int, ...]:
        return (self.oc, self.ic // self.groups, *self.kernel)

    @cached_property
    def result_shape(self) -> tuple[int, ...]:
        return {"fwd": self.y_shape, "bwd_input": self.x_shape, "bwd_weight": self.w_shape}[self.direction]

    @cached_property
    def empty(self) -> bool:
        """Whether nothing is to be multiplied (a size is zero)."""
        return self.macs == 0 or prod(self.x_shape) == 0

    @cached_property
    def beyond(self) -> str | None:
        """Why no compiled backend takes this: numbers too large, or out of proportion to the arrays; None if they do.

        Along an axis, ``size + |lo| + (out - 1) stride + dilation (kernel - 1)`` is more than any position in the
        padded input, any offset of a tap and any sum of two of these.
        """
        axes = zip(self.in_size, self.out_size, self.kernel, self.stride, self.pads, self.dilation, strict=True)
        padded = phases = 1
        for axis, (size, out, k, s, (lo, _), d) in enumerate(axes):
            reach = (out - 1) * s + d * (k - 1)
            if max(s, size + abs(lo) + reach) > MAX_ELEMENTS:
                return f"stride, padding or dilation reach beyond 32 bits along spatial axis {axis}"
            padded *= reach + 1
            phases *= min(s, size)
        if padded > MAX_PADDED + 16 * (prod(self.in_size) + prod(self.out_size)):
            return f"stride, padding and dilation make {padded} positions of {self.in_size}"
        if self.direction == "bwd_input" and phases > MAX_PHASES:
            return f"the strides part the input, padding aside, into {phases} sets of results"
        return None

    @property
    def macs(self) -> int:
        """Multiply-adds of the direct algorithm, padding counted."""
        return self.n * self.oc * (self.ic // self.groups) * prod(self.kernel) * prod(self.out_size)


def _split_shape(name: str, shape: tuple[int, ...], ndim: int, last: bool) -> tuple[int, int, tuple[int, ...]]:
    if len(shape) != ndim + 2:
        raise ValueError(
            f"{name} has shape {tuple(shape)}: a {ndim}-D convolution takes {ndim + 2} dimensions, "
            f"or {ndim + 1} without the batch"
        )
    n, *rest = shape
    return (n, rest[-1], tuple(rest[:-1])) if last else (n, rest[0], tuple(rest[1:]))


def conv_spec(
    direction: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: str | Types,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    bias: bool = False,
    residual: bool = False,
    activation: Activation | None = None,
    packed: bool = False,
) -> ConvSpec:
    """The spec of a convolution, from raw arguments. Raises ValueError or TypeError that names the argument.

    ``dtype``: float32 or float64 for all numbers, or their ``Types``.
    """
    ndim = len(w_shape) - 2
    last = channels_last(layout, ndim)
    n, ic, in_size = _split_shape("x", x_shape, ndim, last)
    types = types_of(dtype)
    oc, icg, *kernel = w_shape
    kernel = tuple(kernel)
    if min(kernel) < 1:
        raise ValueError(f"w has shape {tuple(w_shape)}: every kernel size must be >= 1")
    stride = int_tuple(stride, ndim, "stride", 1)
    dilation = int_tuple(dilation, ndim, "dilation", 1)
    (groups,) = int_tuple(groups, 1, "groups", 1)
    if ic != icg * groups:
        raise ValueError(
            f"x of shape {tuple(x_shape)} has {ic} channels, but w of shape {tuple(w_shape)} with groups={groups} "
            f"takes {icg * groups} (w is (out channels, in channels / groups, *kernel))"
        )
    if oc % groups:
        raise ValueError(f"groups={groups}: the {oc} output channels of w must be a multiple of it")
    pads = conv_pads(padding, in_size, kernel, stride, dilation)
    out_size = []
    for size, k, s, (lo, hi), d in zip(in_size, kernel, stride, pads, dilation, strict=True):
        if size + lo + hi < d * (k - 1) + 1:
            raise ValueError(
                f"kernel size {kernel} with dilation {dilation} is larger than the input {in_size} padded by {pads}"
            )
        out_size.append(conv_out_size(size, k, s, (lo, hi), d))
    stride, dilation = _canonical(in_size, kernel, stride, pads, dilation)
    spec = ConvSpec(
        direction, types, last, n, ic, oc, groups, in_size, tuple(out_size), kernel, stride, pads, dilation,
        bias, residual, activation, packed,
    )  # fmt: skip
    for name, shape in (("x", spec.x_shape), ("w", spec.w_shape), ("the result", spec.y_shape)):
        check_elements(name, shape)
    return spec


def conv_transpose_spec(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: str | Types,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    layout: str = "NCHW",
    bias: bool = False,
    activation: Activation | None = None,
) -> ConvSpec:
    """The spec of a transposed convolution: the ``bwd_input`` direction of the convolution that it is adjoint to.

    Here x (n, in channels, *size) is that convolution's y, and w is (in channels, out channels / groups, *kernel).
    The type of x is ``y`` of ``Types`` then, too.
    Output size: ``(size - 1) stride - lo - hi + dilation (kernel - 1) + output_padding + 1``.
    """
    ndim = len(w_shape) - 2
    last = channels_last(layout, ndim)
    n, channels, size = _split_shape("x", x_shape, ndim, last)
    types = types_of(dtype)
    wc, ocg, *kernel = w_shape
    kernel = tuple(kernel)
    if min(kernel) < 1:
        raise ValueError(f"w has shape {tuple(w_shape)}: every kernel size must be >= 1")
    stride = int_tuple(stride, ndim, "stride", 1)
    dilation = int_tuple(dilation, ndim, "dilation", 1)
    extra = int_tuple(output_padding, ndim, "output_padding", 0)
    (groups,) = int_tuple(groups, 1, "groups", 1)
    if wc != channels:
        raise ValueError(
            f"x of shape {tuple(x_shape)} has {channels} channels, but w of shape {tuple(w_shape)} takes {wc} "
            f"(w is (in channels, out channels / groups, *kernel))"
        )
    if channels % groups:
        raise ValueError(f"groups={groups}: the {channels} input channels must be a multiple of it")
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise ValueError(f"output_padding={output_padding!r}: allowed is less than the stride or the dilation")
    if isinstance(padding, str) and padding != "valid":
        raise ValueError(f"padding={padding!r}: a transposed convolution takes ints, (lo, hi) pairs or 'valid'")
    pads = conv_pads(padding, size, kernel, stride, dilation)
    big = tuple(
        (i - 1) * s - lo - hi + d * (k - 1) + e + 1
        for i, k, s, (lo, hi), d, e in zip(size, kernel, stride, pads, dilation, extra, strict=True)
    )
    if min(big) < 1:
        raise ValueError(f"padding={padding!r} leaves an output of size {big}; every size must be >= 1")
    # An output_padding of a stride or more leaves room for outputs that are not there: the convolution does not see it.
    pads = tuple((lo, hi - e if e >= s else hi) for (lo, hi), e, s in zip(pads, extra, stride, strict=True))
    stride, dilation = _canonical(big, kernel, stride, pads, dilation)
    spec = ConvSpec(
        "bwd_input", types, last, n, ocg * groups, channels, groups, big, size, kernel, stride, pads, dilation,
        bias, False, activation,
    )  # fmt: skip
    for name, shape in (("x", spec.y_shape), ("w", spec.w_shape), ("the result", spec.x_shape)):
        check_elements(name, shape)
    return spec
