"""Calls that make images of another size. See ``drawing``."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import spec
from .draws import MOST, Call, Problem, image_shape, is_last

__all__ = ["NAMES", "magnitude", "mode_of", "resizing"]

#: The functions that are drawn here.
NAMES = r"(interpolate|resize)(_backward)?$"

_FACTORS = (2.0, 0.5, 1.0, 3.0, 1.5, 0.75, 4.0, 0.25, 1.3, 2.7, 0.3, 7.0, 0.1, 13.0)


def resizing(c: Call) -> Problem | None:
    d, name = c.d, c.name
    interpolates, backward = name.startswith("interpolate"), name.endswith("_backward")
    c.ndim = d.pick("rank", (2, 1, 3))
    layout = c.layout()
    # Images and results share the budget; sizes of results are factors of the images', or any.
    parts = d.shares(d.budget() / 8, *(1.0,) * (2 + c.ndim))
    n, channels, *size = (d.size(f"size {i}", most) for i, most in enumerate(parts))
    if d.chance("empty", 0.02):
        n, channels = (0, channels) if d.chance("no images", 0.5) else (n, 0)
    shape = image_shape(n, channels, size, is_last(layout))
    word, scale_word = ("size", "scale_factor") if interpolates else ("sizes", "scales")
    arguments: dict[str, Any] = {}
    if d.chance("by scales", 0.4):
        factors = tuple(d.pick(f"scale {i}", _FACTORS) for i in range(c.ndim))
        arguments[scale_word] = factors[0] if len(set(factors)) == 1 else factors
    else:
        wanted = []
        for i, s in enumerate(size):
            factor = d.pick(f"factor {i}", _FACTORS) if d.chance(f"a factor {i}", 0.6) else None
            wanted.append(d.size(f"out {i}", 2 * s + 2) if factor is None else max(1, int(s * factor)))
        arguments[word] = c.form(word, tuple(wanted))
    if interpolates:
        between = {1: ("linear",), 2: ("bilinear", "bicubic"), 3: ("trilinear",)}[c.ndim]
        mode = d.pick("mode", ("nearest", *between, *between, "nearest-exact"))
        arguments["mode"] = mode
        if not mode.startswith("nearest") and d.chance("align_corners given", 0.6):
            arguments["align_corners"] = d.chance("align_corners", 0.7)
        if mode.startswith("bi") and not arguments.get("align_corners") and d.chance("antialias", 0.3):
            arguments["antialias"] = True
        if scale_word in arguments and d.chance("recompute_scale_factor", 0.3):
            arguments["recompute_scale_factor"] = True
    else:
        arguments["mode"] = mode = d.pick("mode", ("nearest", "linear", "cubic"))
        arguments["coordinate_transformation_mode"] = d.pick("transformation", tuple(spec.TRANSFORMATIONS))
        arguments["nearest_mode"] = d.pick("rounding", tuple(spec.ROUNDINGS))
        if d.chance("antialias", 0.3):
            arguments["antialias"] = d.chance("antialiased", 0.9)
        if d.chance("exclude_outside", 0.3):
            arguments["exclude_outside"] = d.chance("outside excluded", 0.9)
        if mode == "cubic" and d.chance("another coefficient", 0.3):
            arguments["cubic_coeff_a"] = -0.5
    try:
        y_shape = _result(c, shape, arguments, layout)
    except (TypeError, ValueError):
        y_shape = shape
    if max(prod(shape), prod(y_shape)) > MOST:
        return None
    # A position of x is in as many results as lie between it and the next, and as far away as a rule reaches.
    pairs = list(zip(size, _spatial(y_shape, layout), strict=True))
    shrunk = [4 * (1 + i // max(o, 1)) if arguments.get("antialias") else 4 for i, o in pairs]
    grown = [max(s, 4 + 4 * (o // max(i, 1))) for s, (i, o) in zip(shrunk, pairs, strict=True)]
    length = c.bounded(prod(grown if backward else shrunk))
    arrays = {"dy": c.array("dy", y_shape)} if backward else {}
    arrays["x"] = c.array("x", shape)
    return Problem(
        name, arrays | arguments | c.given(layout=layout) | c.out(shape if backward else y_shape), None, length
    )


def _spatial(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return shape[1:-1] if is_last(layout) else shape[2:]


def _result(c: Call, shape: tuple[int, ...], arguments: dict[str, Any], layout: str) -> tuple[int, ...]:
    """The shape of the result."""
    size = arguments.get("size", arguments.get("sizes"))
    scales = spec.scales_of("scales", arguments.get("scale_factor", arguments.get("scales")))
    rule = ("nearest", "asymmetric", "floor", True, layout)
    return spec.resize_spec("fwd", shape, c.dtype, c.ndim, size, scales, ("size", "scales"), *rule).y_shape


def mode_of(problem: Problem) -> str:
    """``"nearest"``, ``"linear"`` or ``"cubic"``."""
    mode = str(problem.arguments.get("mode", "nearest"))
    return "cubic" if "cubic" in mode else "nearest" if mode.startswith("nearest") else "linear"


def magnitude(problem: Problem) -> float:
    """What weights of both signs add up at most."""
    backward = "dy" in problem.arguments
    values = np.abs(problem.arguments["dy" if backward else "x"].plain().astype(np.float64))
    return float(values.max(initial=1, where=np.isfinite(values))) * (problem.length if backward else 4)
