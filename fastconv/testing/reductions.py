"""Calls of reductions over axes, and how far rounding may carry their results. See ``drawing`` and ``judge``."""

from __future__ import annotations

import inspect
import re
from math import prod
from typing import Any

import numpy as np

import fastconv as fc

from .draws import Call, Problem

__all__ = ["FAMILIES", "NAMES", "magnitude", "rounded"]

_OVER_AXES = r"(sum|mean|var|amax|amin|argmax|argmin)(_backward)?$"
_NORMS = r"(batch|instance|layer|group|rms|local_response)_norm|normalize"
_SOFTMAX = r"(log_)?softmax"
_LOSSES = r".*(cross_entropy|_loss|kl_div)"
_DISTANCES = r"(mse|l1|smooth_l1|huber)_loss"

#: The functions that are drawn here.
NAMES = "|".join((_OVER_AXES, _NORMS, _SOFTMAX, _LOSSES))


def _shape(c: Call, most: int = 9) -> tuple[int, ...]:
    d = c.d
    ndim = d.pick("rank", (1, 2, 2, 2, 3, 3, 4, 4, 5, 0, 6, 7, 9)[: 13 if most > 6 else 9])
    sizes = [d.size(f"size {i}", size) for i, size in enumerate(d.shares(d.budget() / 3, *(1.0,) * ndim))]
    if ndim and d.chance("empty", 0.02):
        sizes[d.pick("empty axis", range(ndim))] = 0
    return tuple(sizes)


def _axis(c: Call, ndim: int) -> int:
    axis = c.d.pick("dim", range(ndim)) if ndim else 0
    return axis - max(ndim, 1) if c.d.chance("dim from the end", 0.3) else axis


def _over_axes(c: Call) -> Problem:
    d, name = c.d, c.name
    shape = _shape(c)
    ndim, arguments = len(shape), {}
    dim: Any = None
    if not d.chance("all axes", 0.15):
        several = ndim > 1 and not name.startswith("arg") and d.chance("several axes", 0.6)
        dim = tuple(i for i in range(ndim) if d.chance(f"axis {i}", 0.5)) if several else _axis(c, ndim)
        if dim == ():
            dim = ndim - 1
        arguments["dim"] = dim
    axes = {i % max(ndim, 1) for i in (range(ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,))}
    if d.chance("keepdim", 0.4):
        arguments["keepdim"] = True
    if name.startswith("var") and d.chance("another correction", 0.4):
        arguments["correction"] = d.pick("correction", (0, 2, 0.5, 7))
    length = c.bounded(prod(size for i, size in enumerate(shape) if i in axes))
    x = {"x": c.array("x", shape)}
    if name.endswith("_backward"):
        kept = [1 if i in axes else size for i, size in enumerate(shape)]
        y = kept if "keepdim" in arguments else [size for i, size in enumerate(kept) if i not in axes]
        x = {"dy": c.array("dy", y)} | x
    return Problem(name, x | arguments, None, length)


def _normalization(c: Call) -> Problem:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    c.ndim = d.pick("rank", (2, 1, 3))
    last, layout = "layout" in inspect.signature(getattr(fc, name)).parameters, c.layout()
    sizes = d.shares(d.budget() / 3, *(1.0,) * (2 + c.ndim))
    n, channels, *size = (d.size(f"size {i}", most) for i, most in enumerate(sizes))
    if d.chance("empty", 0.02):
        n = 0
    shape = (n, *size, channels) if last and layout.endswith("C") else (n, channels, *size)
    arguments: dict[str, Any] = {"eps": d.pick("eps", (1e-5, 0.1, 1, 1e-3))}
    of_channels: tuple[int, ...] = (channels,)
    training = d.chance("training", 0.5)
    if name.startswith(("batch", "instance")):
        # In training they would be inputs that change.
        for key in ("running_mean", "running_var"):
            arguments[key] = None if training else c.array(key, of_channels, "positive")
        arguments["training" if name.startswith("batch") else "use_input_stats"] = training
    elif name.startswith(("layer", "rms")):
        axes = d.pick("last axes", range(1, len(shape)))
        of_channels = shape[-axes:]
        arguments["normalized_shape"] = of_channels
    elif name.startswith("group"):
        arguments["num_groups"] = d.pick("num_groups", [g for g in range(1, channels + 1) if channels % g == 0])
    elif name.startswith("normalize"):
        arguments |= {"p": d.pick("p", (2.0, 1, 3, np.inf), 0.5), "dim": _axis(c, len(shape))}
    else:
        arguments.pop("eps")
        arguments |= {"size": d.size("window", 9), "alpha": d.pick("alpha", (1e-4, 1.0)), "k": 2.0}
    for key in ("weight", "bias"):
        if key in inspect.signature(getattr(fc, name)).parameters and d.chance(key, 0.6):
            arguments[key] = c.array(key, of_channels)
    if last:
        arguments["layout"] = layout
    arrays = {"dy": c.array("dy", shape)} if backward else {}
    arrays["x"] = c.array("x", shape)
    length = c.bounded(prod(shape) // max(1, channels))
    return drawn(c, arrays | arguments, shape, length)


def _along_an_axis(c: Call) -> Problem:
    shape = _shape(c, 4)
    arguments: dict[str, Any] = {"dy": c.array("dy", shape)} if c.name.endswith("_backward") else {}
    axis = _axis(c, len(shape))
    arguments |= {"x": c.array("x", shape), "dim": axis}
    return drawn(c, arguments, shape, c.bounded(shape[axis] if shape else 1))


def _loss(c: Call) -> Problem:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    shape = _shape(c, 4)
    arguments: dict[str, Any] = {}
    loss_shape = shape
    if name.startswith(("cross", "nll")):
        shape = shape if len(shape) > 1 else (*shape, 7)
        loss_shape = (shape[0], *shape[2:])
        c.values = "real"
        arguments["x"] = c.array("x", shape)
        c.bound = max(shape[1], 1)
        if name.startswith("cross") and d.chance("probabilities", 0.3):
            arguments["target"] = c.array("target", shape, "positive")
        else:
            arguments["target"] = c.array("target", loss_shape, "index", "int64")
        if name.startswith("cross") and d.chance("smoothing", 0.3):
            arguments["label_smoothing"] = 0.25
        if d.chance("weight", 0.4):
            arguments["weight"] = c.array("weight", shape[1:2], "positive")
    else:
        probable = name.startswith(("binary_cross_entropy", "kl")) and not d.chance("of any values", 0.3)
        kind = "positive" if probable else None
        arguments["x"] = c.array("x", shape, "real" if probable and ("logits" in name or name[:2] == "kl") else kind)
        arguments["target"] = c.array("target", shape, kind)
        for key in ("weight", "pos_weight"):
            if key in inspect.signature(getattr(fc, name)).parameters and d.chance(key, 0.4):
                less = d.pick(f"axes that {key} lacks", range(len(shape) + 1))
                ones = [d.chance(f"{key} has one at {i}", 0.3) for i in range(len(shape))]
                own = [1 if one else size for one, size in zip(ones, shape, strict=True)][less:]
                arguments[key] = c.array(key, own, kind)
        if name.startswith("kl") and d.chance("log_target", 0.4):
            arguments["log_target"] = True
        for key, values in (("delta", (2.0, 0.5, 1e9)), ("beta", (0.5, 0.0, 4.0))):
            if key in inspect.signature(getattr(fc, name)).parameters and d.chance(key, 0.6):
                arguments[key] = d.pick(f"which {key}", values)
    reduction = d.pick("reduction", ("mean", "sum", "none", *(("batchmean",) if name.startswith("kl") else ())))
    arguments["reduction"] = reduction
    if backward:
        kind = None if re.match(_DISTANCES, name) else "real"
        arguments = {"dy": c.array("dy", loss_shape if reduction == "none" else (), kind)} | arguments
    return drawn(c, arguments, shape, prod(shape))


def drawn(c: Call, arguments: dict[str, Any], shape: tuple[int, ...], length: int) -> Problem:
    """A call with ``out`` where the function takes it."""
    out = c.out(shape) if "out" in inspect.signature(getattr(fc, c.name)).parameters else {}
    return Problem(c.name, arguments | out, None, length)


FAMILIES = {_OVER_AXES: _over_axes, _NORMS: _normalization, _SOFTMAX: _along_an_axis, _LOSSES: _loss}


def magnitude(problem: Problem, result: np.ndarray) -> np.ndarray:
    """Of each element of the result, what it may be off by, in roundings of the result's type."""
    name, given = problem.function, problem.arguments
    if not re.match(_OVER_AXES, name):
        # What cancels in it is no larger than what comes out elsewhere, or goes in.
        arrays = [array.plain() for array in problem.arrays().values() if array.values != "empty"]
        largest = [np.abs(a[np.isfinite(a)].astype(np.float64)).max(initial=1) for a in (result, *arrays)]
        return np.full(result.shape, 4 * np.prod(largest))
    with np.errstate(all="ignore"):
        x = np.abs(given["x"].plain().astype(np.float64))
        dim, keepdim = given.get("dim"), given.get("keepdim", False)
        if not name.endswith("_backward"):
            if name.startswith("var"):
                x = x * x * _per_element(problem, x)
            elif name.startswith("mean"):
                x = x / max(_count(x, dim), 1)
            return np.asarray(np.sum(x, dim, keepdims=keepdim))
        dy = np.abs(given["dy"].plain().astype(np.float64))
        dy = dy.reshape(_kept(x, dim))
        if name.startswith("var"):
            return np.asarray(2 * dy * _per_element(problem, x) * (x + np.mean(x, dim, keepdims=True)))
        return np.broadcast_to(dy, x.shape)


def _kept(x: np.ndarray, dim: Any) -> tuple[int, ...]:
    axes = {i % max(x.ndim, 1) for i in (range(x.ndim) if dim is None else np.atleast_1d(dim))}
    return tuple(1 if i in axes else size for i, size in enumerate(x.shape))


def _count(x: np.ndarray, dim: Any) -> int:
    return x.size // max(prod(_kept(x, dim)), 1)


def _per_element(problem: Problem, x: np.ndarray) -> float:
    rest = _count(x, problem.arguments.get("dim")) - problem.arguments.get("correction", 1)
    return 1 / rest if rest > 0 else np.inf


def rounded(problem: Problem) -> bool:
    """Whether rounding may show: sums of whole numbers, and largest elements, are exact."""
    if re.match(_DISTANCES, problem.function):
        return problem.values not in ("whole", "ones")
    return not re.match(_OVER_AXES, problem.function) or bool(re.match(r"mean|var|amax_b|amin_b", problem.function))
