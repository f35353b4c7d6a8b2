"""Problem descriptors: what is to be computed, in one explicit, hashable form.

Everything that a caller may write in several ways (an int or a tuple, ``"same"`` or pads, a kernel size
without a stride) is settled here, once, and every shape error is raised here, before any work starts.
From here on a spec is the only description of a problem: dispatch looks it up, backends compile it.

Sizes and tuples run over the spatial dimensions in the order d, h, w (the last ones for lower ranks).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from math import isnan, prod
from typing import Any

import numpy as np

from .arguments import MOST, index, number, shown

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "ConvSpec",
    "GemmSpec",
    "PoolSpec",
    "activation_of",
    "adaptive_pool_spec",
    "channels_last",
    "check_elements",
    "conv_out_size",
    "conv_spec",
    "conv_transpose_spec",
    "divisor_of",
    "int_tuple",
    "pool_spec",
]

DTYPES = ("float32", "float64")

#: What a maximum may be taken of besides.
INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))

#: More elements than this in one array are refused: offsets inside a kernel stay below 2^31 by design.
MAX_ELEMENTS = 2**31 - 1

#: Compiled backends copy and tabulate the padded input of a convolution, if it has no more positions than these and 16
#: times as many as both arrays; and of a strided backward-input they treat by itself each remainder of positions.
MAX_PADDED, MAX_PHASES = 2**18, 2**18

_LAYOUTS = {
    1: {"NCL": False, "NCHW": False, "NLC": True, "NHWC": True},
    2: {"NCHW": False, "NHWC": True},
    3: {"NCDHW": False, "NCHW": False, "NDHWC": True, "NHWC": True},
}


# ---------------------------------------------------------------------------------------------- arguments


def int_tuple(value: Any, ndim: int, name: str, minimum: int) -> tuple[int, ...]:
    """An int or a sequence of ``ndim`` ints as a tuple; ValueError or TypeError names the argument."""
    allowed = f"an int >= {minimum} or {ndim} of them, below 2^63"
    try:
        items = (index(value),) * ndim
    except TypeError:
        try:
            items = tuple(map(index, value if isinstance(value, (tuple, list, np.ndarray)) else (value,)))
        except TypeError:
            raise TypeError(f"{name}={shown(value)}: allowed is {allowed}") from None
    if len(items) != ndim or not all(minimum <= item <= MOST for item in items):
        raise ValueError(f"{name}={shown(value)}: allowed is {allowed}")
    return items


def channels_last(layout: str, ndim: int) -> bool:
    """Whether ``layout`` puts the channels last; ValueError lists the layouts of this rank."""
    table = _LAYOUTS[ndim]
    if not isinstance(layout, str) or layout not in table:
        raise ValueError(f"layout={shown(layout)}: allowed is {' or '.join(map(repr, table))}")
    return table[layout]


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise function with its two parameters (``alpha``, ``beta``; 0 where it has none)."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


#: name -> the defaults of its parameters.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "identity": (),
    "relu": (),
    "leaky_relu": (0.01,),
    "clip": (0.0, 6.0),
    "sigmoid": (),
    "tanh": (),
    "silu": (),
    "hardswish": (),
    "gelu": (),
}


#: By their names alone, as they mostly are given.
_NAMED = {name: Activation(name, *defaults) for name, defaults in ACTIVATIONS.items() if name != "identity"}


def activation_of(value: Any) -> Activation | None:
    """``None``, a name, ``(name, parameter, ...)`` or an ``Activation`` as an ``Activation`` (None: none)."""
    if value is None:
        return None
    if type(value) is str and value in _NAMED:
        return _NAMED[value]
    allowed = f"allowed is None, {', '.join([*ACTIVATIONS, 'relu6'])}, or (name, parameter, ...)"
    parts = (value,) if isinstance(value, str) else value
    if isinstance(value, Activation):
        parts = (value.name, value.alpha, value.beta)[: 1 + len(ACTIVATIONS.get(value.name, ()))]
    if not isinstance(parts, (tuple, list)) or not parts or not isinstance(parts[0], str):
        raise TypeError(f"activation={shown(value)}: {allowed}")
    name, *params = ("clip", 0.0, 6.0) if parts[0] == "relu6" else parts
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={shown(value)}: {allowed}")
    try:
        params = [number("activation", p) for p in params]
    except (TypeError, ValueError):
        raise TypeError(f"activation={shown(value)}: {allowed}") from None
    if any(isnan(p) for p in params):
        raise ValueError(f"activation={shown(value)}: allowed are parameters that are numbers, not NaN")
    defaults = ACTIVATIONS[name]
    if len(params) > len(defaults):
        raise ValueError(f"activation={shown(value)}: {name} takes at most {len(defaults)} parameters")
    if name == "identity":
        return None
    return Activation(name, *params, *defaults[len(params) :])


# -------------------------------------------------------------------------------------------- convolution


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
class ConvSpec:
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
    dtype: str
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
    precision: str = "default"
    packed: bool = False

    @cached_property
    def _hash(self) -> int:
        return _hash_of_fields(self)

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        return _fields_alone(self)

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


def _hash_of_fields(spec: Any) -> int:
    """Computed once a spec: it takes as long as a small layer."""
    return hash(tuple(getattr(spec, field.name) for field in fields(spec)))


def _fields_alone(spec: Any) -> dict[str, Any]:
    """What a pickle or a copy of a spec holds: hashes of strings, and so of a spec, are others in another process."""
    return {field.name: getattr(spec, field.name) for field in fields(spec)}


def check_elements(name: str, shape: tuple[int, ...]) -> None:
    """ValueError for an array of more elements than are allowed; an empty one's other sizes are held to the same."""
    elements = prod(size or 1 for size in shape)
    if elements > MAX_ELEMENTS:
        raise ValueError(f"{name} of shape {shape} spans {elements} elements; at most {MAX_ELEMENTS} are allowed")


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise TypeError(f"dtype {dtype}: allowed is {' or '.join(DTYPES)}")


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
    dtype: str,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    layout: str = "NCHW",
    bias: bool = False,
    residual: bool = False,
    activation: Activation | None = None,
    precision: str = "default",
    packed: bool = False,
) -> ConvSpec:
    """The spec of a convolution, from raw arguments. Raises ValueError or TypeError that names the argument."""
    ndim = len(w_shape) - 2
    last = channels_last(layout, ndim)
    n, ic, in_size = _split_shape("x", x_shape, ndim, last)
    _check_dtype(dtype)
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
        direction, dtype, last, n, ic, oc, groups, in_size, tuple(out_size), kernel, stride, pads, dilation,
        bias, residual, activation, precision, packed,
    )  # fmt: skip
    for name, shape in (("x", spec.x_shape), ("w", spec.w_shape), ("the result", spec.y_shape)):
        check_elements(name, shape)
    return spec


def conv_transpose_spec(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dtype: str,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    layout: str = "NCHW",
    bias: bool = False,
    activation: Activation | None = None,
    precision: str = "default",
) -> ConvSpec:
    """The spec of a transposed convolution: the ``bwd_input`` direction of the convolution that it is adjoint to.

    Here x (n, in channels, *size) is that convolution's y, and w is (in channels, out channels / groups, *kernel).
    Output size: ``(size - 1) stride - lo - hi + dilation (kernel - 1) + output_padding + 1``.
    """
    ndim = len(w_shape) - 2
    last = channels_last(layout, ndim)
    n, channels, size = _split_shape("x", x_shape, ndim, last)
    _check_dtype(dtype)
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
        "bwd_input", dtype, last, n, ocg * groups, channels, groups, big, size, kernel, stride, pads, dilation,
        bias, False, activation, precision,
    )  # fmt: skip
    for name, shape in (("x", spec.y_shape), ("w", spec.w_shape), ("the result", spec.x_shape)):
        check_elements(name, shape)
    return spec


# ------------------------------------------------------------------------------------------------ pooling


@dataclass(frozen=True)
class PoolSpec:
    """One pooling problem. ``kind`` is ``"max"``, ``"avg"`` or ``"sum"``, ``direction`` ``"fwd"`` or ``"bwd"``.

    Output ``o`` of a dimension pools the input positions ``start, start + dilation, ... < end``, which are inside the
    input and at least one; an average divides by the product of the counts over the dimensions (or by ``divisor``).
    Regular, adaptive and global pooling differ in these windows only, and ``windows`` is their only definition. It
    makes them anew each time: a spec holds the rules, whose size does not depend on the input's.
    """

    kind: str
    direction: str
    dtype: str
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
    def _hash(self) -> int:
        return _hash_of_fields(self)

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        return _fields_alone(self)

    @property
    def ndim(self) -> int:
        return len(self.in_size)

    def _shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (self.n, *size, self.c) if self.channels_last else (self.n, self.c, *size)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        return self._shape(self.in_size)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        return self._shape(self.out_size)

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


def _check_pool_dtype(kind: str, direction: str, dtype: str) -> None:
    if not (kind == "max" and direction == "fwd" and dtype in INTEGERS):
        _check_dtype(dtype)


def pool_spec(
    kind: str,
    direction: str,
    x_shape: tuple[int, ...],
    dtype: str,
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
    _check_pool_dtype(kind, direction, dtype)
    kernel = int_tuple(kernel_size, ndim, "kernel_size", 1)
    strides = kernel if stride is None else int_tuple(stride, ndim, "stride", 1)
    dil = int_tuple(dilation, ndim, "dilation", 1)
    divisor = divisor_of(divisor_override, dtype)
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
        kind, direction, dtype, last, n, c, size, tuple(out), kernel, strides, pads, dil,
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
    dtype: str,
    ndim: int,
    output_size: Any,
    layout: str = "NCHW",
    indices: bool = False,
) -> PoolSpec:
    """Windows ``floor(o size / out) .. ceil((o + 1) size / out)``; ``None`` in ``output_size`` keeps a size."""
    last = channels_last(layout, ndim)
    n, c, size = _split_pool_shape(x_shape, ndim, last)
    _check_pool_dtype(kind, direction, dtype)
    wanted = output_size
    if isinstance(output_size, (tuple, list)) and len(output_size) == ndim:
        wanted = tuple(i if o is None else o for o, i in zip(output_size, size, strict=True))
    out = int_tuple(wanted, ndim, "output_size", 1)
    if min(size) < 1:
        raise ValueError(f"x has the spatial size {size}: every size must be >= 1")
    ones = (1,) * ndim
    spec = PoolSpec(kind, direction, dtype, last, n, c, size, out, ones, ones, ((0, 0),) * ndim, ones,
                    adaptive=True, indices=indices)  # fmt: skip
    return _check_pool_sizes(spec)


def _split_pool_shape(shape: tuple[int, ...], ndim: int, last: bool) -> tuple[int, int, tuple[int, ...]]:
    if len(shape) != ndim + 2:
        raise ValueError(
            f"x has shape {tuple(shape)}: {ndim}-D pooling takes {ndim + 2} dimensions, or {ndim + 1} without the batch"
        )
    n, *rest = shape
    return (n, rest[-1], tuple(rest[:-1])) if last else (n, rest[0], tuple(rest[1:]))


# --------------------------------------------------------------------------------------------------- GEMM


@dataclass(frozen=True)
class GemmSpec:
    """``out = activation(alpha a @ b + beta c + bias)`` for ``batch`` matrices a (m, k), b (k, n), out (m, n).

    ``bias`` has n elements, one a column. ``c`` (where ``use_c``) has the shape of out and is read only then.
    """

    dtype: str
    batch: int
    m: int
    n: int
    k: int
    bias: bool = False
    use_c: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    activation: Activation | None = None

    @cached_property
    def _hash(self) -> int:
        return _hash_of_fields(self)

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        return _fields_alone(self)

    @cached_property
    def empty(self) -> bool:
        return self.batch * self.m * self.n * self.k == 0
