"""Calls of reductions over axes, and how far rounding may carry their results. See ``drawing`` and ``judge``."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from . import drawing

if TYPE_CHECKING:
    from .drawing import Problem, _Call

__all__ = ["FAMILIES", "NAMES", "magnitude", "rounded"]

_OVER_AXES = r"(sum|mean|var|amax|amin|argmax|argmin)(_backward)?$"

#: The functions that are drawn here.
NAMES = _OVER_AXES


def _shape(c: _Call, most: int = 9) -> tuple[int, ...]:
    d = c.d
    ndim = d.pick("rank", (1, 2, 2, 2, 3, 3, 4, 4, 5, 0, 6, 7, 9)[: 13 if most > 6 else 9])
    sizes = [d.size(f"size {i}", size) for i, size in enumerate(d.shares(d.budget() / 3, *(1.0,) * ndim))]
    if ndim and d.chance("empty", 0.02):
        sizes[d.pick("empty axis", range(ndim))] = 0
    return tuple(sizes)


def _axis(c: _Call, ndim: int) -> int:
    axis = c.d.pick("dim", range(ndim)) if ndim else 0
    return axis - max(ndim, 1) if c.d.chance("dim from the end", 0.3) else axis


def _over_axes(c: _Call) -> Problem:
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
    return drawing.Problem(name, x | arguments, None, length)


FAMILIES = {_OVER_AXES: _over_axes}


def magnitude(problem: Problem) -> np.ndarray:
    """Of each element of the result, what it may be off by, in roundings of the result's type."""
    name, given = problem.function, problem.arguments
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
    return re.match(r"mean|var|amax_b|amin_b", problem.function) is not None
