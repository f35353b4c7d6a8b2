"""Calls of copies: joined, split, padded, shuffled and turned arrays, casts, and their gradients. See ``drawing``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..spec import PAD_MODES
from .arrays import Array
from .draws import Call, Problem, image_shape, is_last

__all__ = ["FAMILIES", "NAMES"]


def _shape(c: Call, least: int = 0) -> tuple[int, ...]:
    d = c.d
    ndim = d.pick("rank", range(least, 7), 0.1)
    sizes = [d.size(f"size {i}", size) for i, size in enumerate(d.shares(d.budget() / 3, *(1.0,) * ndim))]
    if ndim and d.chance("empty", 0.02):
        sizes[d.pick("empty axis", range(ndim))] = 0
    return tuple(sizes)


def _call(c: Call, shape: tuple[int, ...], y: tuple[int, ...], **more: Any) -> Problem:
    """Of x of ``shape``, whose result has shape ``y``."""
    backward = c.name.endswith("_backward")
    arrays = {"dy": c.array("dy", y)} if backward else {}
    return Problem(c.name, arrays | {"x": c.array("x", shape)} | more | c.out(shape if backward else y))


def _axis(c: Call, shape: tuple[int, ...]) -> int:
    axis = c.d.pick("dim", range(len(shape)))
    return axis - len(shape) if c.d.chance("dim from the end", 0.3) else axis


def _parts(c: Call, size: int) -> list[int]:
    """Sizes that add up to ``size``."""
    parts = []
    while size and len(parts) < 6:
        parts.append(c.d.pick(f"part {len(parts)}", range(size + 1)))
        size -= parts[-1]
    return [*parts, size]


def _along(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if i == axis % len(shape) else n for i, n in enumerate(shape))


def _concat(c: Call) -> Problem:
    shape = _shape(c, 1)
    axis = _axis(c, shape)
    sizes = _parts(c, shape[axis])
    arrays = tuple(c.array(f"array {i}", _along(shape, axis, n)) for i, n in enumerate(sizes))
    if c.name.endswith("_backward"):
        return Problem(c.name, {"dy": c.array("dy", shape), "arrays": arrays, "dim": axis})
    return Problem(c.name, {"arrays": arrays, "dim": axis} | c.out(shape))


def _split(c: Call) -> Problem:
    shape = _shape(c, 1)
    axis = _axis(c, shape)
    size = shape[axis]
    sizes = _parts(c, size)
    given: Any = sizes
    if c.d.chance("equal parts", 0.5):
        given = c.d.size("part", size + 1)
        sizes = [min(given, size - i) for i in range(0, size, given)] or [0]
    arguments: dict[str, Any] = {"x": c.array("x", shape), "split_size_or_sections": given, "dim": axis}
    if c.name.endswith("_backward"):
        dy = tuple(c.array(f"dy {i}", _along(shape, axis, n)) for i, n in enumerate(sizes))
        arguments = {"dy": dy} | arguments
    return Problem(c.name, arguments)


def _pad(c: Call) -> Problem:
    d = c.d
    shape = _shape(c)
    mode = d.pick("mode", PAD_MODES)
    last = 3 <= len(shape) <= 5 and d.chance("channels last", 0.4)
    axes = list(reversed(range(len(shape) - last)))
    pads, padded = [], list(shape)
    for axis in axes[: d.pick("axes", range(len(axes) + 1))]:
        most = {"reflect": shape[axis] - 1, "circular": shape[axis], "replicate": 9 * (shape[axis] > 0)}.get(mode, 9)
        for side in "before", "after":
            pad = d.size(f"{side} {axis}", min(most, 9) if d.chance("few", 0.8) else most, 0) if most > 0 else 0
            if d.chance(f"crop {side} {axis}", 0.1) and padded[axis] > 1:
                pad = -d.size(f"{side} {axis}", min(padded[axis] - 1, 3))
            pads.append(pad)
            padded[axis] += pad
    more: dict[str, Any] = {"pad": tuple(pads), "mode": mode}
    if mode == "constant" and d.chance("a value", 0.5):
        more["value"] = d.pick("value", (1.5, -3, float("inf")))
    if last:
        more["layout"] = "NHWC"
    c.bounded(9 ** len(pads))
    return _call(c, shape, tuple(padded), **more)


def _pixels(c: Call) -> Problem:
    d = c.d
    c.ndim = d.pick("dimensions", (2, 1, 3))
    layout = d.pick("layout", {1: ("NCL", "NLC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}[c.ndim])
    sizes = d.shares(d.budget() / 30, *(1.0,) * (2 + c.ndim))
    n, channels, *size = (d.size(f"size {i}", most) for i, most in enumerate(sizes))
    factor = d.pick("factor", (2, 3, 1, 4, 5))
    batch = None if d.chance("without batch", 0.2) else 0 if d.chance("empty", 0.02) else n
    small = image_shape(batch, channels * factor**c.ndim, size, is_last(layout))
    large = image_shape(batch, channels, [s * factor for s in size], is_last(layout))
    up = c.name.startswith("pixel_shuffle")
    name = "upscale_factor" if up else "downscale_factor"
    return _call(c, *((small, large) if up else (large, small)), **{name: factor, "layout": layout})


def _channels(c: Call) -> Problem:
    d = c.d
    c.ndim = d.pick("dimensions", (2, 1, 3))
    layout = c.layout()
    sizes = d.shares(d.budget() / 3, *(1.0,) * (2 + c.ndim))
    n, channels, *size = (d.size(f"size {i}", most) for i, most in enumerate(sizes))
    groups = d.pick("groups", (2, 3, 1, 4, 8))
    shape = image_shape(0 if d.chance("empty", 0.02) else n, channels * groups, size, is_last(layout))
    return _call(c, shape, shape, groups=groups, layout=layout)


def _layouts(c: Call) -> Problem:
    shape = _shape(c)
    order = sorted(range(len(shape)), key=lambda axis: c.d.pick(f"axis {axis} goes", range(8)))
    letters = "NCDHWG"[: len(shape)]
    destination = "".join(letters[axis] for axis in order)
    return _call(c, shape, tuple(shape[axis] for axis in order), source=letters, destination=destination)


def _cast(c: Call) -> Problem:
    shape = _shape(c)
    dtype = c.d.pick("to", ("float64", "float32", "float16"))
    c.values = c.d.pick("kind", ("whole", "special", "count"))
    backward = c.name.endswith("_backward")
    arrays = {"dy": c.array("dy", shape, None, dtype)} if backward else {}
    arrays |= {"x": c.array("x", shape)}
    more: dict[str, Array] = c.out(shape)
    if more and not backward:
        more = {"out": c.array("out", shape, "empty", dtype)}
    return Problem(c.name, arrays | {"dtype": dtype} | more)


FAMILIES: dict[str, Callable[[Call], Problem]] = {
    r"concat": _concat,
    r"split": _split,
    r"pad": _pad,
    r"pixel_(un)?shuffle": _pixels,
    r"channel_shuffle": _channels,
    r"to_layout": _layouts,
    r"cast": _cast,
}

#: The functions that are drawn here.
NAMES = rf"({'|'.join(FAMILIES)})(_backward)?$"
