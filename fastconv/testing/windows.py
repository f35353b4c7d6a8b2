"""Calls of convolutions and poolings, and of their gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import fastconv as fc

from .. import spec
from .draws import CONVOLUTION, MOST, Call, Problem, image_shape, is_last

__all__ = ["bias_gradient", "convolution", "pooling"]


@dataclass
class _Geometry:
    """The sizes and windows of a convolution or pooling: in the order of the axes."""

    n: int | None
    channels: tuple[int, int, int]  # groups, of x in a group, of y in a group
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: Any
    pads: tuple[tuple[int, int], ...]


_KERNELS = (1, 2, *(3,) * 8, 4, 5, 5, 5, 6, 7, 7, 8, 9, 10, 11, 13, 16, 17, 25)


def _geometry(c: Call, pooling: bool = False) -> _Geometry:
    d, axes = c.d, range(c.ndim)
    budget = d.budget()
    # One large value harms those alone that compute by tiles: layers with enough channels and results for these.
    tiled = c.values == "spike" and not pooling
    # All axes alike, mostly: what networks have, and what the fastest algorithms are for.
    alike = d.random is not None and d.random.random() < 0.6

    def along(name: str, values: Callable[[int], Sequence[int]], first: float) -> list[int]:
        picked = [d.pick(f"{name} 0", values(0), first)]
        for i in axes[1:]:
            if alike and f"{name} 0" in d.choices:
                d.choices[f"{name} {i}"] = d.choices[f"{name} 0"]
            # The same choice, of what there is to choose here.
            same = values(i)[d.choices.get(f"{name} 0", 0)] if alike else None
            picked.append(d.pick(f"{name} {i}", values(i), first) if same is None else same)
        return picked

    kernel = along("kernel", lambda i: (3, 3, 5, 7) if tiled else _KERNELS, 0.25)
    for i in axes if d.random is not None else ():
        if (prod(kernel) > min(budget, 150) and not tiled) or (i == 0 and c.ndim == 3 and d.random.random() < 0.3):
            kernel[i] = 1
            d.choices.pop(f"kernel {i}", None)
    # Kernels of one tap along some axes; of windows that are all of the image, there are none.
    windows = not c.name.startswith(("global", "adaptive"))
    kernel = [k if windows and not one else 1 for k, one in zip(kernel, c.some("one tap", 0.8), strict=True)]
    stride = along("stride", lambda i: (1, 2) if tiled else (1, 2, 3, 4, 5, 7, 1 + kernel[i], 2 + 2 * kernel[i]), 0.65)
    dilation = along("dilation", lambda i: (1, 2, 3, 4, 7, 16), 0.85)
    groups = d.pick("groups", ("one", "depthwise", "several"), 0.9 if tiled else 0.5)
    taps = prod(kernel)
    grouped, dense = float(groups != "one" or pooling), float(groups != "depthwise" and not pooling)
    least = 12 if tiled and groups != "depthwise" else 1
    n_, groups_, in_, out_, *size_ = d.shares(budget / taps, 0.4, grouped, dense, dense, *(1.0,) * c.ndim)
    n: int | None = d.size("n", n_)
    if pooling:
        several, of_x, of_y = 1, d.size("channels in", min(groups_, 600)), 1
    else:
        several = 1 if groups == "one" else d.size("groups size", groups_)
        of_x = 1 if groups == "depthwise" else d.size("channels in", in_, least)
        of_y = 1
        if groups != "depthwise" or d.chance("multiplied", 0.35):
            of_y = d.size("channels out", 4 if groups == "depthwise" else out_, least)
    padding, pads = _padding(c, kernel, dilation, pooling)
    size = []
    one = c.some("one result", 0.7)
    for i in axes:
        fits = max(1, dilation[i] * (kernel[i] - 1) + 1 - sum(pads[i]))
        outputs = d.chance(f"size {i} by outputs", 0.5)
        if d.chance(f"size {i} too small", 0.01):
            fits = 1
        if one[i]:
            size.append(fits)
        elif outputs or tiled:
            most = d.size(f"size {i}", size_[i], 8 if tiled else 1)
            size.append(fits + (most - 1) * stride[i] + d.size(f"rest {i}", stride[i]) - 1)
        else:
            size.append(d.size(f"size {i}", size_[i] * min(stride[i], 4), fits))
        if pooling and c.ndim == 3 and i == 0 and fits == 1 and d.chance("one slice", 0.15):
            size[0] = 1
    if c.ndim == 1 and d.chance("long", 0.004):
        n, several, of_x, of_y, size = 1, 1, 1, 1, [d.size("long size", 2**20, 2**17)]
    if d.chance("empty", 0.02):
        where = d.pick("empty axis", range(3 + c.ndim))
        n, of_x, of_y = (0 if where == i else v for i, v in enumerate((n, of_x, of_y)))
        size = [0 if where == 3 + i else s for i, s in enumerate(size)]
    if d.chance("unbatched", 0.12):
        n = None
    g = _Geometry(n, (several, of_x, of_y), tuple(size), tuple(kernel), tuple(stride), tuple(dilation), padding, pads)
    return _extreme(c, g) if d.chance("extreme", 0.03) else g


def _padding(c: Call, kernel: list[int], dilation: list[int], pooling: bool) -> tuple[Any, tuple[tuple[int, int], ...]]:
    """How the padding is written, and its pairs (for a name: none, the image need not be larger then)."""
    d, axes = c.d, range(c.ndim)
    kinds = ["none", "one", "each", "pairs", "same", "same_lower", "valid"]
    if not pooling:
        kinds += ["negative", "wide", "causal"]
    kind = d.pick("padding", kinds, 0.25)
    half = [(e * (k - 1) + 1) // 2 for k, e in zip(kernel, dilation, strict=True)]
    if kind == "none":
        return 0, ((0, 0),) * c.ndim
    if kind in ("valid", "same", "same_lower", "causal"):
        reach = tuple(0 if kind == "valid" else e * (k - 1) for k, e in zip(kernel, dilation, strict=True))
        return kind, tuple((r, 0) for r in reach)
    most = half if pooling else [max(3, h) for h in half]
    if kind == "one":
        pad = d.size("pad", min(most), 0)
        return pad, ((pad, pad),) * c.ndim
    if kind == "each":
        each = tuple(d.size(f"pad {i}", most[i], 0) for i in axes)
        return each, tuple((p, p) for p in each)
    if kind == "negative":
        pairs = tuple(tuple(d.pick(f"{side} {i}", (0, -1, 1, -2, 2, -3)) for side in ("lo", "hi")) for i in axes)
    else:
        more = 20 if kind == "wide" else 0
        pairs = tuple(tuple(d.size(f"{side} {i}", most[i] + more, 0) for side in ("lo", "hi")) for i in axes)
    return pairs, pairs


def _extreme(c: Call, g: _Geometry) -> _Geometry:
    """Parameters near the ends of the numbers that hold them."""
    value, axis = c.huge(), c.d.pick("extreme axis", range(c.ndim))
    what = c.d.pick("extreme in", ("stride", "stride and pads", "dilation", "dilation and pads", "pads", "everything"))
    stride, dilation, pads, kernel = list(g.stride), list(g.dilation), list(g.pads), list(g.kernel)
    if "stride" in what or what == "everything":
        stride[axis] = value
    if "dilation" in what or what == "everything":
        dilation[axis] = value
    if what == "dilation":
        kernel[axis] = 1
    elif "pads" in what or what == "everything":
        pads[axis] = c.d.pick("extreme pads", ((value, value), (value, 0), (0, value), (-value, value)))
    padded = tuple(pads) if "pads" in what or what == "everything" else g.padding
    return replace(
        g, kernel=tuple(kernel), stride=tuple(stride), dilation=tuple(dilation), padding=padded, pads=tuple(pads)
    )


def convolution(c: Call) -> Problem | None:
    d, name, transposed = c.d, c.name, "transpose" in c.name
    g, layout = _geometry(c), c.layout()
    last, (groups, icg, ocg) = is_last(layout), g.channels
    backward, plan = "backward" in name, name.startswith("plan")
    x_shape = image_shape(g.n, groups * icg, g.size, last)
    w_shape = (groups * icg, ocg, *g.kernel) if transposed else (groups * ocg, icg, *g.kernel)
    stride, dilation = c.form("stride", g.stride), c.form("dilation", g.dilation)
    windows: dict[str, Any] = {"stride": stride, "padding": g.padding, "dilation": dilation, "groups": groups}
    if transposed:
        extra = tuple(d.size(f"output_padding {i}", max(s, e) - 1, 0) if max(s, e) < 99 else 0 for i, (s, e) in
                      enumerate(zip(g.stride, g.dilation, strict=True)))  # fmt: skip
        windows["output_padding"] = c.form("output_padding", extra)
        windows["padding"] = "valid" if isinstance(g.padding, str) else g.padding
    batched = (1, *x_shape) if g.n is None else x_shape
    problem: Any = None
    try:
        if transposed:
            problem = spec.conv_transpose_spec(batched, w_shape, c.dtype, layout=layout, **windows)
        else:
            direction = "bwd_" + name.rsplit("_", 1)[1] if name.endswith(("_input", "_weight")) else "fwd"
            problem = spec.conv_spec(direction, batched, w_shape, c.dtype, layout=layout, packed=plan, **windows)
    except (TypeError, ValueError):
        y_shape: tuple[int, ...] = batched
    else:
        y_shape = problem.x_shape if transposed else problem.y_shape
    if max(map(prod, (x_shape, y_shape, w_shape))) > MOST:
        return None
    positions = prod(y_shape) // max(1, groups * ocg)
    c.bounded(max(groups * max(icg, ocg) // groups * prod(g.kernel), prod(y_shape) if backward else 1, positions))
    y_shape = y_shape[1:] if g.n is None else y_shape
    arguments: dict[str, Any] = {}
    activation = None if name.endswith(("_input", "_weight")) else c.activation()
    bias = not name.endswith(("_input", "_weight")) and d.chance("bias", 0.5)
    residual = not transposed and not name.endswith(("_input", "_weight")) and d.chance("residual", 0.3)
    b = c.array("b", (groups * ocg,)) if bias else None
    if name.endswith("_input"):
        arguments |= {"dy": c.array("dy", y_shape), "w": c.array("w", w_shape), "input_shape": x_shape}
    elif name.endswith("_weight"):
        arguments |= {"x": c.array("x", x_shape), "dy": c.array("dy", y_shape), "weight_shape": w_shape}
    else:
        arguments |= {"dy": c.array("dy", y_shape)} if backward else {}
        arguments |= {"x_shape": x_shape} if plan else {"x": c.array("x", x_shape)}
        arguments["w"] = c.array("w", w_shape)
        arguments |= {"b": b} if bias else {}
    arguments |= c.given(layout=layout, activation=activation, **windows)
    then = None
    added = {"residual": c.array("residual", y_shape)} if residual else {}
    result = x_shape if name.endswith("_input") else w_shape if name.endswith("_weight") else y_shape
    if plan:
        arguments |= {"residual": True} if residual else {}
        then = {"x": c.array("x", x_shape), **added, **c.out(y_shape)}
    else:
        arguments |= added
        arguments |= c.out(result) if "out" in inspect.signature(getattr(fc, name)).parameters else {}
    length = max(icg, ocg) * prod(g.kernel) if not backward or name.endswith("_input") else positions
    if problem is not None and not name.endswith("_backward"):
        arguments[CONVOLUTION] = problem
    return Problem(name, arguments, then, max(length, max(icg, ocg) * prod(g.kernel)))


def bias_gradient(c: Call) -> Problem:
    c.ndim = c.d.pick("rank", (1, 2, 3))
    layout = c.layout()
    n, channels, *size = c.d.shares(c.d.budget() * 3, *(1.0,) * (2 + c.ndim))
    sizes = [c.d.size(f"size {i}", most, int(not c.d.chance(f"size {i} empty", 0.01))) for i, most in enumerate(size)]
    n, channels = c.d.size("n", n), c.d.size("channels", channels)
    length = c.bounded(n * prod(sizes))
    dy = c.array("dy", image_shape(n, channels, sizes, is_last(layout)))
    return Problem(c.name, {"dy": dy} | c.given(layout=layout), None, length)


def pooling(c: Call) -> Problem | None:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    g, layout = _geometry(c, pooling=True), c.layout()
    x_shape = image_shape(g.n, g.channels[1], g.size, is_last(layout))
    batched = (1, *x_shape) if g.n is None else x_shape
    maximum = "max_pool" in name
    if maximum and not backward and d.chance("integers", 0.05):
        c.dtype, c.values = d.pick("which integers", ("int8", "uint8", "int16", "int32", "int64")), "whole"
    kind, direction = name.split("_pool")[0].split("_")[-1], "bwd" if backward else "fwd"
    parameters: dict[str, Any] = {}
    problem: Any = None
    try:
        if "adaptive" in name or "global" in name:
            size: Any = 1
            if "adaptive" in name:
                one = c.some("one window", 0.5)
                wanted = [1 if one[i] else d.size(f"output_size {i}", 2 * s + 2) for i, s in enumerate(g.size)]
                if d.chance("extreme output", 0.01):
                    wanted[0] = c.huge()
                size = c.form("output_size", tuple(wanted))
                if isinstance(size, tuple) and d.chance("size kept", 0.3):
                    size = (None, *size[1:])
                parameters["output_size"] = size
            problem = spec.adaptive_pool_spec(kind, direction, batched, c.dtype, c.ndim, size, layout)
        else:
            stride = None if d.chance("stride of the kernel", 0.2) else c.form("stride", g.stride)
            parameters |= {"kernel_size": c.form("kernel_size", g.kernel), "stride": stride, "padding": g.padding}
            if maximum:
                parameters["dilation"] = c.form("dilation", g.dilation)
            parameters["ceil_mode"] = d.chance("ceil_mode", 0.3)
            if kind == "avg":
                parameters["count_include_pad"] = not d.chance("count_exclude_pad", 0.3)
                if d.chance("divisor", 0.15):
                    parameters["divisor_override"] = d.pick("divisor_override", (1, 2, 3, -2, 0.5, 7.5))
            extreme = max(*g.kernel, *g.stride, *g.dilation) > 2**15
            if not extreme or prod(g.size) * max(map(sum, g.pads)) < 2**20:
                problem = spec.pool_spec(kind, direction, batched, c.dtype, c.ndim, layout=layout, **parameters)
    except (TypeError, ValueError, OverflowError):
        pass
    y_shape = batched if problem is None else problem.y_shape
    if max(map(prod, (x_shape, y_shape))) > MOST:
        return None
    y_shape = y_shape[1:] if g.n is None else y_shape
    length = c.bounded(prod(g.kernel) if "kernel_size" in parameters else prod(g.size))
    if backward and maximum:
        length = c.bounded(prod(y_shape))
    arguments = {"dy": c.array("dy", y_shape)} if backward else {}
    arguments["x"] = c.array("x", x_shape)
    arguments |= c.given(layout=layout, **parameters)
    takes = inspect.signature(getattr(fc, name)).parameters
    if "return_indices" in takes and d.chance("return_indices", 0.4):
        arguments["return_indices"] = True
    if "indices" in takes and d.chance("indices", 0.6):
        c.bound, values = prod(g.size), d.pick("index values", ("near", "index"))
        arguments["indices"] = c.array("indices", y_shape, values, "int64")
    return Problem(name, arguments | c.out(x_shape if backward else y_shape), None, length)
