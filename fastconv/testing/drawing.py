"""Calls of every public function, drawn from the whole space of arguments, from a seed and a number.

A problem is made of named choices, each a number whose 0 is the simplest. They are drawn at random, or given: what
``check`` shrinks are these numbers, so that a smaller problem fits together as the first one did.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import prod
from random import Random
from typing import Any

import numpy as np

import fastconv as fc

from .. import spec
from ..backends import backend
from ..settings import settings as settings_that_hold
from . import copies, elementwise, products, reductions, resampling, updates, windows
from .arrays import Array, Lie
from .draws import CONVOLUTION, MOST, Alias, Call, Draws, Problem
from .elementwise import BROADCAST, DROPOUTS, UNARY
from .helpers import backends_here, isas_here

__all__ = ["FUNCTIONS", "again", "problem", "problems", "settings_here"]

#: Every public function that computes.
FUNCTIONS = tuple(
    name
    for name in fc.__all__
    if re.match(r"(plan_)?conv|(max|avg|sum)_pool|global_|adaptive_|gemm|matmul|linear|empty", name)
    or name.removesuffix("_backward") in (*BROADCAST, *UNARY, *DROPOUTS, "prelu")
    or re.match(f"{reductions.NAMES}|{resampling.NAMES}|{copies.NAMES}", name)
    or name in updates.CHANGED
)

#: So many problems are the same call under other settings: the reference computes it once.
VARIANTS = 4


def settings_here(backends: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Who can run here, as settings: the free choice, each backend and instruction set. ``backends`` narrows it.

    The reference is not among them, as it is what the others are compared with, unless it is all that there is.
    Raises ValueError for a backend that there is not, RuntimeError for one that cannot run here.
    """
    for name in backends:
        if reason := backend(name).available():
            raise RuntimeError(f"backend {name!r} cannot run here: {reason}")
        if name not in backends_here():
            raise RuntimeError(f"backend {name!r} cannot run here: FASTCONV_BACKEND={settings_that_hold().backend}")
    named = [
        {"use_backend": name} | ({} if isa is None else {"use_isa": isa})
        for name in backends_here()
        if name != "reference"
        for isa in isas_here(name) or [None]
    ]
    free = [] if settings_that_hold().backend else [{}]
    return [s for s in [*named, *free] if not backends or s.get("use_backend") in backends] or [
        {"use_backend": "reference"}
    ]


def problem(
    seed: int, number: int, functions: Sequence[str] = FUNCTIONS, settings: Sequence[dict[str, Any]] | None = None
) -> Problem:
    """Problem ``number`` of ``seed``: the same whenever it is asked for, among the same functions and settings."""
    random, call = Random(f"{seed} {number // VARIANTS}"), None
    while call is None:
        choices: dict[str, int] = {}
        call = _call(Draws(random, choices), functions)
    return _under(call, Draws(Random(f"{seed} {number} settings"), choices), settings)


def again(
    choices: dict[str, int], functions: Sequence[str], settings: Sequence[dict[str, Any]] | None
) -> Problem | None:
    """The problem that these choices make; None where an array would be too large."""
    draws = Draws(None, choices)
    call = _call(draws, functions)
    return None if call is None else _under(call, draws, settings)


def problems(seed: int, count: int, start: int = 0, **only: Any) -> Iterator[Problem]:
    """``problem(seed, number, **only)`` for ``count`` numbers from ``start`` on."""
    return (problem(seed, number, **only) for number in range(start, start + count))


def _call(d: Draws, functions: Sequence[str]) -> Problem | None:
    name = d.pick("function", [name for name in functions for _ in range(_weight(name))])
    stem = re.sub(r"\d", "{n}", name)
    ndim = next((int(c) for c in name if c.isdigit()), 0)
    drawn = next(draw for start, draw in _FAMILIES.items() if re.match(start, stem))(Call(d, name, ndim))
    if drawn is None or any(prod(a.shape) > MOST for a in drawn.arrays().values()):
        return None
    return _wrong(d, drawn) if d.chance("wrong", 0.05) else drawn


def _weight(name: str) -> int:
    """How many times as often as others a function is drawn: those with many kernels more often."""
    if "conv" in name or name.startswith(("matmul", "linear", "gemm")):
        return 6
    return 4 if "_pool" in name[:8] else 2 if name.startswith(("activate", "empty", "multiply")) else 1


def _under(call: Problem, d: Draws, settings: Sequence[dict[str, Any]] | None) -> Problem:
    """The call under drawn settings."""
    chosen = dict(d.pick("target", settings_here() if settings is None else settings))
    if d.chance("threads", 0.6):
        chosen["threads"] = d.pick("thread count", (2, 1, 3, 8))
    if (level := d.pick("precision", ("default", "strict", "fast"), 0.75)) != "default":
        chosen["precision"] = level
    if d.chance("limited", 0.06):
        chosen["workspace_limit"] = 2 ** d.size("limit", 24)
    convolution = call.arguments.get(CONVOLUTION)
    if (
        convolution is not None
        and "use_backend" in chosen
        and d.chance("forced", 0.8 if call.values == "spike" else 0.4)
    ):
        names = _algorithms(chosen["use_backend"], convolution)
        tiled = [name for name in names if "winograd" in name] if call.values == "spike" else []
        chosen["use_algorithm"] = d.pick("algorithm", tiled or names)
    if d.chance("adjoint", 0.12):
        chosen["adjoint"] = True
    arguments = {k: v for k, v in call.arguments.items() if k != CONVOLUTION}
    return replace(call, arguments=arguments, settings=chosen, choices=d.choices)


@cache
def _named(name: str, direction: str) -> tuple[str, ...]:
    """The names of the algorithms of a direction."""
    problem = spec.conv_spec(direction, (1, 8, 9, 9), (8, 8, 3, 3), "float32")
    return tuple(backend(name).algorithms(problem, settings_that_hold()))


def _algorithms(of: str, problem: spec.ConvSpec) -> list[str]:
    """Those that may compute the problem, by their names: to ask would be to run what is tested."""
    plane, strided = problem.kernel[-2:], any(s > 1 for s in problem.stride)
    possible = []
    for name in _named(of, problem.direction):
        size = re.search(r"_(\d)x\1(?=_|$)(?!.*\dx\d)", name)
        fits = size is None or plane == (int(size[1]),) * 2
        fits &= "depthwise" not in name or problem.groups == problem.ic == problem.oc
        fits &= "winograd" not in name or strided == name.endswith("stride2")
        possible += [name] * fits
    return possible


_FAMILIES: dict[str, Callable[[Call], Problem | None]] = {
    "conv_backward_bias": windows.bias_gradient,
    "(plan_)?conv": windows.convolution,
    ".*_pool": windows.pooling,
    "matmul|linear|gemm": products.matrix_product,
    **reductions.FAMILIES,
    resampling.NAMES: resampling.resizing,
    ".*_step$": updates.update,
    **copies.FAMILIES,
    "|".join(f"{name}(_backward)?$" for name in BROADCAST): elementwise.broadcast,
    "prelu": elementwise.prelu,
    "|".join(f"{name}(_backward)?$" for name in DROPOUTS): elementwise.dropout,
    "": elementwise.elementwise,
}


# ------------------------------------------------------------------------------------------------- wrong arguments

_PARAMETERS = (-1, 0, 1.5, "abacus", None, (), (1,) * 7, [2, "a"], float("nan"), True, 2**31, 2**63, 2**64, b"x")


#: Arrays that plans are called with, or without.
_OF_PLANS = ("b", "residual", "out")

#: Arrays that calls write.
_WRITTEN = {"out", *(name for names in updates.CHANGED.values() for name in names)}


def _wrong(d: Draws, p: Problem) -> Problem:
    """``p`` with one argument changed, mostly to what must be refused."""
    arguments = dict(p.arguments)
    arguments.pop(CONVOLUTION, None)
    name = d.pick("wrong argument", sorted(arguments))
    value, invalid = arguments[name], None
    if isinstance(value, Array):
        parameter = inspect.signature(getattr(fc, p.function)).parameters.get(name)
        optional = name in _OF_PLANS or (parameter is not None and parameter.default is None)
        value, invalid = _wrong_array(d, p.function, name, value, optional)
        if "max_pool" in p.function and name == "x" and isinstance(value, Array) and np.dtype(value.dtype).kind in "iu":
            invalid = None  # maxima are of integers, too
        if re.match(copies.NAMES, p.function) and isinstance(value, Array):
            invalid = None if value.dtype in (*spec.INTEGERS, "float16") else invalid  # copies, too; casts, of half
        inputs = [k for k, v in arguments.items() if isinstance(v, Array) and k != "out"]
        if name == "out" and inputs and d.chance("out is an input", 0.3):
            value, invalid = Alias(d.pick("which input", inputs)), "out is an input"
            if prod(arguments[value.of].shape) == 0:
                invalid = None
    elif name != "shape" and not name.endswith("image_shape"):
        value = d.pick("wrong value", _PARAMETERS)
    elif isinstance(value, tuple):
        value = d.pick(
            "wrong shape", ((), value[:-1], (*value, 1), (-1, *value[1:]), None, 3, (2**40, *value[1:]), "ab")
        )
    arguments[name] = value
    return replace(p, arguments=arguments, invalid=invalid)


def _wrong_array(d: Draws, function: str, name: str, a: Array, optional: bool) -> tuple[Any, str | None]:
    kinds = ("int32", "float16", "complex64", "bool", ">f4", "uint64", "object", "float64", "float32",
             "masked", "matrix", "subclass", "list", "None", "axis more", "axis less", "size more", "size less",
             "number", "overlapping", "read-only", "beyond")  # fmt: skip
    kind = d.pick("wrong array", kinds)
    if kind in kinds[:9]:
        allowed = ("int64",) if name == "indices" else ("float32", "float64")
        if name == "target" and a.dtype == "int64":  # classes, by any kind of integer
            allowed = ("int32", "uint64")
        elif name == "target" and function.startswith("cross_entropy"):  # probabilities, of any kind of float
            allowed = (*allowed, "float16", ">f4")
        if a.dtype == kind:
            return a, None
        invalid = f"{name} is {kind}" if kind not in allowed else None
        return replace(a, dtype=kind, lie=Lie(), values=a.values if a.values != "special" else "whole"), invalid
    if kind in ("masked", "list"):
        return replace(a, lie=replace(a.lie, kind=kind)), f"{name} is a {kind} array" if a.shape else None
    if kind in ("matrix", "subclass"):
        return replace(a, lie=replace(a.lie, kind=kind)), None
    if kind == "None":
        return None, None if optional else f"{name} is None"
    if kind == "number":
        return 1.0, f"{name} is a number"
    if kind == "overlapping":
        steps = tuple(0 if i == 0 else 1 for i in range(len(a.shape)))
        overlaps = name in _WRITTEN and a.shape and a.shape[0] > 1 and prod(a.shape) > 0
        return replace(a, lie=Lie(steps=steps)), f"{name} overlaps itself" if overlaps else None
    if kind == "read-only":
        return replace(a, lie=replace(a.lie, writeable=False)), f"{name} is read-only" if name in _WRITTEN else None
    if kind == "beyond":
        return (replace(a, bound=2 * a.bound + 40) if name == "indices" else a), None
    shape = list(a.shape)
    if kind == "axis more" or not shape:
        shape.insert(0, 1)
    elif kind == "axis less":
        shape.pop()
    else:
        axis = d.pick("wrong axis", range(len(shape)))
        shape[axis] = shape[axis] + 1 if kind == "size more" else max(0, shape[axis] - 1)
    return replace(a, shape=tuple(shape), lie=Lie()), None
