"""Calls of every public function, drawn from the whole space of arguments, from a seed and a number.

A problem is made of named choices, each a number whose 0 is the simplest. They are drawn at random, or given: what
``check`` shrinks are these numbers, so that a smaller problem fits together as the first one did.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import permutations
from math import isqrt, prod
from random import Random
from typing import Any

import numpy as np

import fastconv as fc

from .. import spec
from ..backends import backend
from ..settings import settings as settings_that_hold
from ..spec import ACTIVATIONS
from . import reductions
from .arrays import Array, Lie, extent
from .helpers import backends_here, isas_here

__all__ = ["FUNCTIONS", "Draws", "Problem", "problem", "problems", "settings_here"]

#: Elementwise functions of two or three arrays that are broadcast, and all of one.
BROADCAST = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "scale_shift")
UNARY = (
    *("activate", "relu", "relu6", "leaky_relu", "hardtanh", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"),
    *("softsign", "hardswish", "hardsigmoid", "sigmoid", "tanh", "logsigmoid", "exp", "log", "sqrt", "abs", "erf"),
)

#: Every public function that computes.
FUNCTIONS = tuple(
    name
    for name in fc.__all__
    if re.match(r"(plan_)?conv|(max|avg|sum)_pool|global_|adaptive_|gemm|matmul|linear|empty", name)
    or name.removesuffix("_backward") in (*BROADCAST, *UNARY, "prelu")
    or re.match(reductions.NAMES, name)
)

#: So many problems are the same call under other settings: the reference computes it once.
VARIANTS = 4

#: Where tiles, vectors and blocks end.
_BORDERS = sorted(
    {n + d for n in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 144, 192, 256, 384, 512) for d in (-1, 0, 1)} | {1, 2, 6}
)


#: Which of them are fused: the others' slopes know no bounds, so neither do errors.
_FUSED = tuple(name for name in ACTIVATIONS if name not in ("abs", "sqrt", "log", "erf"))

#: What activations that have parameters are given.
_PARAMETERS_OF: dict[str, tuple[tuple[float, ...], ...]] = {
    "leaky_relu": ((0.25,),),
    "clip": ((-2.0, 3.0), (0.0, 6.0), (1, 1)),
    # (No whole number is near the threshold, where the function jumps.)
    "softplus": ((2.0,), (0.5, 3.3), (-1.0, 1.7)),
    "elu": ((0.5,), (-1,)),
    "celu": ((2.0,), (0.25,)),
}


# ------------------------------------------------------------------------------------------------------- choices


class Draws:
    """Named choices: drawn, and remembered where they are not the simplest, or given."""

    def __init__(self, random: Random | None = None, choices: dict[str, int] | None = None) -> None:
        self.random = random
        self.choices: dict[str, int] = {} if choices is None else choices

    def pick(self, name: str, values: Sequence[Any], first: float = 0.0) -> Any:
        """One of ``values``: the first with at least the probability ``first``, else any."""
        if self.random is None:
            return values[min(self.choices.get(name, 0), len(values) - 1)]
        if first and self.random.random() < first:
            return values[0]
        index = int(self.random.random() * len(values))
        if index:
            self.choices[name] = index
        return values[index]

    def chance(self, name: str, probability: float) -> bool:
        if self.random is None:
            return self.choices.get(name, 0) > 0
        if self.random.random() >= probability:
            return False
        self.choices[name] = 1
        return True

    def size(self, name: str, most: float, least: int = 1) -> int:
        """A size from ``least`` on: at a border, or of any magnitude. ``most`` binds only what is drawn."""
        if self.random is None:
            return least + self.choices.get(name, 0)
        most = max(int(most), least)
        size = least
        if most > least:
            borders = [b for b in _BORDERS if least <= b <= most]
            if borders and self.random.random() < 0.55:
                size = borders[int(self.random.random() * len(borders))]
            else:
                size = int((least + 1) * ((most + 2) / (least + 1)) ** self.random.random()) - 1
        if size != least:
            self.choices[name] = size - least
        return size

    def shares(self, budget: float, *weights: float) -> list[float]:
        """How large sizes may be so that their product is about ``budget``; those of more weight have more of it."""
        if self.random is None:
            return [1.0] * len(weights)
        parts = [w * (self.random.random() + 0.1) for w in weights]
        # Sizes of any magnitude up to this are, in the mean, the root of it.
        return [3 * max(budget, 1.0) ** (p / max(sum(parts), 1e-9)) if p else 1.0 for p in parts]

    def budget(self) -> float:
        """How much a call may compute: mostly little; sometimes enough for several threads."""
        if self.random is None:
            return 1.0
        least, most = self.random.choices(((1, 4), (4, 6), (6, 7)), (0.5, 0.47, 0.03))[0]
        return 10 ** self.random.uniform(least, most)


# ------------------------------------------------------------------------------------------------------ problems


@dataclass(frozen=True)
class Problem:
    """A call, and the settings to run it under.

    ``then``: what the plan that ``function`` makes is called with. ``length``: of the longest sum. ``invalid``: why it
    must be refused; None where it may be valid. ``choices`` make it again.
    """

    function: str
    arguments: dict[str, Any]
    then: dict[str, Any] | None = None
    length: int = 1
    invalid: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, int] = field(default_factory=dict)

    @property
    def values(self) -> str:
        """What kind of values its arrays hold."""
        kinds = {a.values for a in self.arrays().values()}
        return next((k for k in ("special", "spike", "positive", "real", "whole", "count") if k in kinds), "ones")

    def arrays(self) -> dict[str, Array]:
        given = {**self.arguments, **(self.then or {})}
        return {name: a for name, a in given.items() if isinstance(a, Array)}

    def __str__(self) -> str:
        """A line of Python; it needs ``numpy as np``, ``fastconv as fc`` and what it names of ``fastconv.testing``."""
        contexts = [f"fc.{k}({v!r})" for k, v in self.settings.items() if k != "adjoint"]
        first = self.arguments
        defaults = {p.name: p.default for p in inspect.signature(getattr(fc, self.function)).parameters.values()}
        aliases = {v.of for v in {**first, **(self.then or {})}.values() if isinstance(v, Alias)}
        call = f"fc.{self.function}({_arguments(first, defaults, aliases)})"
        if self.then is not None:
            call += f"({_arguments(self.then, {}, aliases)})"
        return f"with {', '.join(contexts)}: {call}" if contexts else call


@dataclass(frozen=True)
class Alias:
    """Stands for the very array that argument ``of`` is."""

    of: str


def _arguments(arguments: dict[str, Any], defaults: dict[str, Any], aliases: set[str]) -> str:
    parts, named = [], False
    for name, value in arguments.items():
        text = str(value) if isinstance(value, Array) else repr(value)
        text = value.of if isinstance(value, Alias) else text
        if name in aliases:
            text = f"({name} := {text})"
        required = defaults.get(name) is inspect.Parameter.empty
        named = named or not required
        parts.append(text if not named else f"{name}={text}")
    return ", ".join(parts)


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
    drawn = next(draw for start, draw in _FAMILIES.items() if re.match(start, stem))(_Call(d, name, ndim))
    if drawn is None or any(prod(a.shape) > _MOST for a in drawn.arrays().values()):
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
    convolution = call.arguments.get(_CONVOLUTION)
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
    arguments = {k: v for k, v in call.arguments.items() if k != _CONVOLUTION}
    return replace(call, arguments=arguments, settings=chosen, choices=d.choices)


#: Elements of an array; a call with a larger one is not drawn.
_MOST = 2**22

#: Under this name a call carries its spec, for the choice of an algorithm.
_CONVOLUTION = " convolution"


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


# ------------------------------------------------------------------------------------------- what families share


#: Kinds of values, the simplest first; mostly whole numbers, whose sums are exact.
_VALUES = ("ones", "count", *("whole",) * 20, "real", "real", "positive", "special", "special", "spike", "spike")


class _Call:
    """What the arguments of one call have in common: its name, dtype, kind of values; and the arrays' recipes."""

    def __init__(self, d: Draws, name: str, ndim: int) -> None:
        self.d, self.name, self.ndim = d, name, ndim
        self.dtype = d.pick("dtype", ("float32", "float64"), 0.5)
        self.bound = 3
        self.values = d.pick("values", _VALUES)
        self.seed = d.pick("seed", range(1000))

    def array(self, name: str, shape: Sequence[int], values: str | None = None, dtype: str | None = None) -> Array:
        shape = tuple(int(s) for s in shape)
        kind = self.values if values is None else values
        # In one array alone; and not where they meet the zeros of padding: that makes NaN, or leaves them out.
        spoilt = ("dy",) if self.name.endswith(("_input", "_bias")) else ("x", "a")
        if self.name.startswith("conv") and self.name.endswith("d_backward"):
            spoilt = ()
        if kind in ("special", "spike") and name not in spoilt:
            kind = "whole"
        seed = 0 if kind in ("ones", "count", "empty") else self.seed * 16 + sum(map(ord, name)) % 16
        lie = self._lie(name, shape, values)
        return Array(shape, dtype or self.dtype, kind, self.bound, seed, lie)

    def _lie(self, name: str, shape: tuple[int, ...], values: str | None) -> Lie:
        d, ndim, given = self.d, len(shape), {}
        if not d.chance(f"{name} lies", 0.45) or ndim > 6:
            return Lie()
        if ndim > 1:
            orders = list(permutations(range(ndim)))
            if (order := d.pick(f"{name} order", orders, 0.7)) != orders[0]:
                given["order"] = order
        out = values == "empty"
        steps = (1, -1, -1, -1, 2, -2, 3) if out else (1, -1, -1, -1, 2, -2, 3, 0, 0)
        if ndim and d.chance(f"{name} steps", 0.65):
            # Along one axis, mostly.
            only = d.pick(f"{name} axis", range(ndim)) if not d.chance(f"{name} steps anywhere", 0.3) else None
            axes = range(ndim) if only is None else [only]
            chosen = [1] * ndim
            for axis in axes:
                chosen[axis] = d.pick(f"{name} step {axis}", steps, 0.4 if only is None else 0.0)
            if any(step != 1 for step in chosen):
                given["steps"] = tuple(chosen)
        if not out and ndim > 1 and d.chance(f"{name} laps", 0.06):
            given["lap"] = d.pick(f"{name} lap", range(ndim))
        if prod(shape) <= 4096 and ndim and d.chance(f"{name} is far", 0.02):
            axis = d.pick(f"{name} far", range(ndim))
            if shape[axis] <= 4 and extent(shape, Lie(**given, far=axis)) < 2**35:
                given["far"] = axis
        item = 8 if values in ("index", "near") else np.dtype(self.dtype).itemsize
        if d.chance(f"{name} is shifted", 0.2):
            given["shift"] = d.pick(f"{name} shift", (item, 2 * item, 3 * item, 5 * item, *(() if out else (1, 2))))
        if d.chance(f"{name} is of a subclass", 0.05):
            given["kind"] = d.pick(f"{name} subclass", ("subclass", "matrix"))
        if not out and d.chance(f"{name} is read-only", 0.1):
            given["writeable"] = False
        if "far" not in given and (place := d.pick(f"{name} place", ("heap", "end", "start"), 0.7)) != "heap":
            given["place"] = place
        return Lie(**given)

    def out(self, shape: Sequence[int]) -> dict[str, Array]:
        return {"out": self.array("out", shape, "empty")} if self.d.chance("out", 0.5) else {}

    def layout(self) -> str:
        first = {1: ("NCL", "NCHW"), 2: ("NCHW",), 3: ("NCDHW", "NCHW")}[self.ndim]
        last = {1: ("NLC", "NHWC"), 2: ("NHWC",), 3: ("NDHWC", "NHWC")}[self.ndim]
        return self.d.pick("alias", last if self.d.chance("channels last", 0.5) else first)

    def given(self, **arguments: Any) -> dict[str, Any]:
        """Those of the arguments that the function takes and that are not its defaults."""
        defaults = {p.name: p.default for p in inspect.signature(getattr(fc, self.name)).parameters.values()}
        return {
            k: v
            for k, v in arguments.items()
            if k in defaults and (not isinstance(v, type(defaults[k])) or v != defaults[k])
        }

    def form(self, name: str, sizes: tuple[int, ...]) -> Any:
        """A tuple of ints, as callers may write it."""
        if len(set(sizes)) == 1 and not self.d.chance(f"{name} as a tuple", 0.3):
            return self.d.pick(f"{name} as", (int, np.int64), 0.95)(sizes[0]) if abs(sizes[0]) < 2**63 else sizes[0]
        return self.d.pick(f"{name} as", (tuple, list), 0.8)(sizes)

    def activation(self) -> Any:
        if not self.d.chance("activation", 0.4):
            return None
        names = list(ACTIVATIONS if self.name.startswith("activate") else _FUSED)
        if "_backward" in self.name and not self.name.startswith("activate"):
            names.remove("exp")  # of sums: sooner infinite in float32 than in the reference's float64
        name = self.d.pick("which activation", ("relu", *names, "relu6"))
        if name in _PARAMETERS_OF and self.d.chance("its parameters", 0.8):
            return (name, *self.d.pick(name, _PARAMETERS_OF[name]))
        return name

    def bounded(self, length: int) -> int:
        """Sets how large whole numbers are, so that sums of ``length`` products of two are exact in float32."""
        self.bound = max(1, min(7, isqrt(2**22 // max(length, 1))))
        if length > 4000 and self.d.chance("a long sum", 0.3):
            self.values = "positive"  # which shows in what order they are added
        return length

    def some(self, name: str, none: float) -> list[bool]:
        """Some of the axes: with at least the probability ``none``, none; mostly the plane, or those around it."""
        plane = 2**self.ndim - 2
        chosen = self.d.pick(name, (0, *(plane, 1) * 3, *range(2**self.ndim)), none)
        return [bool(chosen >> i & 1) for i in range(self.ndim)]

    def huge(self) -> int:
        """A number near a power of two that something may be kept in."""
        power = self.d.pick("power", (31, 32, 33, 62, 63, 64, 34, 16, 20))
        return 2**power + self.d.pick("beside", (0, 1, -1))


def _shape(n: int | None, c: int, size: Sequence[int], last: bool) -> tuple[int, ...]:
    batch = () if n is None else (n,)
    return (*batch, *size, c) if last else (*batch, c, *size)


def _is_last(layout: str) -> bool:
    return layout.endswith("C")


# --------------------------------------------------------------------------------------------------- convolution


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


def _geometry(c: _Call, pooling: bool = False) -> _Geometry:
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


def _padding(
    c: _Call, kernel: list[int], dilation: list[int], pooling: bool
) -> tuple[Any, tuple[tuple[int, int], ...]]:
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


def _extreme(c: _Call, g: _Geometry) -> _Geometry:
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


def _convolution(c: _Call) -> Problem | None:
    d, name, transposed = c.d, c.name, "transpose" in c.name
    g, layout = _geometry(c), c.layout()
    last, (groups, icg, ocg) = _is_last(layout), g.channels
    backward, plan = "backward" in name, name.startswith("plan")
    x_shape = _shape(g.n, groups * icg, g.size, last)
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
    if max(map(prod, (x_shape, y_shape, w_shape))) > _MOST:
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
        arguments[_CONVOLUTION] = problem
    return Problem(name, arguments, then, max(length, max(icg, ocg) * prod(g.kernel)))


def _bias_gradient(c: _Call) -> Problem:
    c.ndim = c.d.pick("rank", (1, 2, 3))
    layout = c.layout()
    n, channels, *size = c.d.shares(c.d.budget() * 3, *(1.0,) * (2 + c.ndim))
    sizes = [c.d.size(f"size {i}", most, int(not c.d.chance(f"size {i} empty", 0.01))) for i, most in enumerate(size)]
    n, channels = c.d.size("n", n), c.d.size("channels", channels)
    length = c.bounded(n * prod(sizes))
    dy = c.array("dy", _shape(n, channels, sizes, _is_last(layout)))
    return Problem(c.name, {"dy": dy} | c.given(layout=layout), None, length)


# ------------------------------------------------------------------------------------------------------- pooling


def _pooling(c: _Call) -> Problem | None:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    g, layout = _geometry(c, pooling=True), c.layout()
    x_shape = _shape(g.n, g.channels[1], g.size, _is_last(layout))
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
    if max(map(prod, (x_shape, y_shape))) > _MOST:
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


# ------------------------------------------------------------------------------------------------------ products


def _batches(c: _Call, budget: float) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Two batch shapes that broadcast, and their broadcast."""
    d = c.d
    ndim = d.pick("batch axes", (0, 1, 2, 3), 0.5)
    sizes = [d.size(f"batch {i}", most) for i, most in enumerate(d.shares(budget, *(1.0,) * ndim))]
    pair = []
    for name in ("a", "b"):
        shape = [1 if d.chance(f"{name} broadcast {i}", 0.25) else s for i, s in enumerate(sizes)]
        pair.append(tuple(shape[d.pick(f"{name} lacks", range(ndim + 1), 0.7) :]))
    return pair[0], pair[1], np.broadcast_shapes(*pair)


def _matrix_product(c: _Call) -> Problem:
    d, name, backward = c.d, c.name, c.name.endswith("_backward")
    budget = d.budget()
    batch_, m_, n_, k_ = d.shares(budget, 0.5, 1.0, 1.0, 1.0)
    m, n, k = (d.size(axis, most) for axis, most in (("m", m_), ("n", n_), ("k", k_)))
    if d.chance("empty", 0.02):
        m, n, k = (0 if d.pick("empty axis", (0, 1, 2)) == i else v for i, v in enumerate((m, n, k)))
    parameters: dict[str, Any] = {}
    added: dict[str, Any] = {}
    activation = None if name.startswith("gemm") else c.activation()
    if name.startswith("gemm"):
        c.bounded(4 * max(k, m, n))
        parameters |= {"trans_a": d.chance("trans_a", 0.5), "trans_b": d.chance("trans_b", 0.5)}
        a, b = (k, m) if parameters["trans_a"] else (m, k), (n, k) if parameters["trans_b"] else (k, n)
        parameters |= {
            "alpha": d.pick("alpha", (1.0, 2, -0.5, 0.0), 0.4),
            "beta": d.pick("beta", (1.0, 0.0, 2, -1), 0.4),
        }
        if d.chance("c", 0.6):
            shape = tuple(1 if d.chance(f"c {i}", 0.2) else s for i, s in enumerate((m, n)))
            added["c"] = c.array("c", shape[d.pick("c lacks", (0, 1, 2), 0.7) :])
        y: tuple[int, ...] = (m, n)
        first, second = "a", "b"
    elif name.startswith("linear"):
        batch, _, _ = _batches(c, batch_)
        lead = batch if d.chance("one row", 0.1) else (*batch, m)
        if d.chance("many axes", 0.01):
            lead = (*(1,) * 36, *lead)
        c.bounded(max(k, n, prod(lead)))
        a, b, y, first, second = (*lead, k), (n, k), (*lead, n), "x", "w"
        added |= {"b": c.array("b", (n,))} if d.chance("bias", 0.5) else {}
    else:
        left, right, batch = _batches(c, batch_)
        c.bounded(max(k, n * prod(batch), m * prod(batch)))
        a, b, y, first, second = (*left, m, k), (*right, k, n), (*batch, m, n), "a", "b"
        if d.chance("a is a row", 0.08):
            a, y = (k,), (*right, n)
        if d.chance("b is a column", 0.08):
            b, y = (k,), a[:-1]
        if len(b) > 1 and d.chance("bias", 0.5):
            added["bias"] = c.array("bias", (n,))
    arguments = {"dy": c.array("dy", y)} if backward else {}
    arguments |= {first: c.array(first, a), second: c.array(second, b), **added}
    arguments |= c.given(activation=activation, **parameters)
    arguments |= c.out(y) if "out" in inspect.signature(getattr(fc, name)).parameters else {}
    return Problem(name, arguments, None, max(k, m * prod(y[:-2]), n) if backward else k)


# --------------------------------------------------------------------------------------------------- elementwise


def _elementwise(c: _Call) -> Problem:
    ndim = c.d.pick("rank", range(7), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    if ndim and c.d.chance("empty", 0.02):
        shape[0] = 0
    if c.name == "empty":
        given = shape[0] if ndim == 1 and c.d.chance("as an int", 0.5) else tuple(shape)
        return Problem("empty", {"shape": given} | ({} if c.dtype == "float32" else {"dtype": c.dtype}))
    arguments = {"dy": c.array("dy", shape)} if "backward" in c.name else {}
    arguments["x"] = c.array("x", shape)
    if c.name.startswith("activate"):
        arguments["activation"] = c.activation()
    name = {"hardtanh": "clip"}.get(stem := c.name.removesuffix("_backward"), stem)
    parameters = [
        p for p in inspect.signature(getattr(fc, c.name)).parameters if p not in ("dy", "x", "activation", "out")
    ]
    if name in _PARAMETERS_OF and c.d.chance("parameters", 0.7):
        arguments |= dict(zip(parameters, c.d.pick(name, _PARAMETERS_OF[name]), strict=False))
    if stem == "gelu" and c.d.chance("approximate", 0.5):
        arguments["approximate"] = "tanh"
    return Problem(c.name, arguments | c.out(shape))


def _broadcast(c: _Call) -> Problem:
    """Operands of one shape, of which each may lack axes, or have ones instead."""
    ndim = c.d.pick("rank", range(7), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    if ndim and c.d.chance("empty", 0.02):
        shape[0] = 0
    names = ["a", "b"] if c.name.removesuffix("_backward") != "scale_shift" else ["x", "s", "t"]
    shapes = []
    for name in names:
        less = c.d.pick(f"axes that {name} lacks", range(ndim + 1)) if c.d.chance(f"{name} lacks axes", 0.3) else 0
        ones = [c.d.chance(f"{name} has one at {i}", 0.3) for i in range(ndim)]
        shapes.append([1 if one else size for one, size in zip(ones, shape, strict=True)][less:])
    whole = np.broadcast_shapes(*map(tuple, shapes))
    backward = "backward" in c.name
    arguments = {"dy": c.array("dy", whole)} if backward else {}
    arguments |= {name: c.array(name, own) for name, own in zip(names, shapes, strict=True)}
    length = max(prod(whole) // max(prod(own), 1) for own in shapes) if backward else 1
    return Problem(c.name, arguments | ({} if backward else c.out(whole)), None, c.bounded(length))


def _prelu(c: _Call) -> Problem:
    ndim = c.d.pick("rank", range(6), 0.1)
    shape = [c.d.size(f"size {i}", most) for i, most in enumerate(c.d.shares(c.d.budget() / 30, *(1.0,) * ndim))]
    each = ndim > 1 and c.d.chance("a slope for each channel", 0.7)
    length = prod(shape) // (shape[1] if each else 1)
    backward = "backward" in c.name
    arguments = {"dy": c.array("dy", shape)} if backward else {}
    arguments |= {"x": c.array("x", shape), "weight": c.array("weight", [shape[1] if each else 1])}
    return Problem(c.name, arguments | ({} if backward else c.out(shape)), None, c.bounded(length) if backward else 1)


_FAMILIES: dict[str, Callable[[_Call], Problem | None]] = {
    "conv_backward_bias": _bias_gradient,
    "(plan_)?conv": _convolution,
    ".*_pool": _pooling,
    "matmul|linear|gemm": _matrix_product,
    **reductions.FAMILIES,
    "|".join(f"{name}(_backward)?$" for name in BROADCAST): _broadcast,
    "prelu": _prelu,
    "": _elementwise,
}


# ------------------------------------------------------------------------------------------------- wrong arguments

_PARAMETERS = (-1, 0, 1.5, "abacus", None, (), (1,) * 7, [2, "a"], float("nan"), True, 2**31, 2**63, 2**64, b"x")


def _wrong(d: Draws, p: Problem) -> Problem:
    """``p`` with one argument changed, mostly to what must be refused."""
    arguments = dict(p.arguments)
    arguments.pop(_CONVOLUTION, None)
    name = d.pick("wrong argument", sorted(arguments))
    value, invalid = arguments[name], None
    if isinstance(value, Array):
        value, invalid = _wrong_array(d, name, value)
        if "max_pool" in p.function and name == "x" and isinstance(value, Array) and np.dtype(value.dtype).kind in "iu":
            invalid = None  # maxima are of integers, too
        if name == "out" and d.chance("out is an input", 0.3):
            inputs = [k for k, v in arguments.items() if isinstance(v, Array) and k != "out"]
            value, invalid = Alias(d.pick("which input", inputs)), "out is an input"
            if prod(arguments[value.of].shape) == 0:
                invalid = None
    elif name != "shape" and not name.endswith("_shape"):
        value = d.pick("wrong value", _PARAMETERS)
    elif isinstance(value, tuple):
        value = d.pick(
            "wrong shape", ((), value[:-1], (*value, 1), (-1, *value[1:]), None, 3, (2**40, *value[1:]), "ab")
        )
    arguments[name] = value
    return replace(p, arguments=arguments, invalid=invalid)


def _wrong_array(d: Draws, name: str, a: Array) -> tuple[Any, str | None]:
    kinds = ("int32", "float16", "complex64", "bool", ">f4", "uint64", "object", "float64", "float32",
             "masked", "matrix", "subclass", "list", "None", "axis more", "axis less", "size more", "size less",
             "number", "overlapping", "read-only", "beyond")  # fmt: skip
    kind = d.pick("wrong array", kinds)
    if kind in kinds[:9]:
        allowed = ("int64",) if name == "indices" else ("float32", "float64")
        if a.dtype == kind:
            return a, None
        invalid = f"{name} is {kind}" if kind not in allowed else None
        return replace(a, dtype=kind, lie=Lie(), values=a.values if a.values != "special" else "whole"), invalid
    if kind in ("masked", "list"):
        return replace(a, lie=replace(a.lie, kind=kind)), f"{name} is a {kind} array" if a.shape else None
    if kind in ("matrix", "subclass"):
        return replace(a, lie=replace(a.lie, kind=kind)), None
    if kind == "None":
        optional = name in ("b", "bias", "residual", "c", "out", "indices")
        return None, None if optional else f"{name} is None"
    if kind == "number":
        return 1.0, f"{name} is a number"
    if kind == "overlapping":
        steps = tuple(0 if i == 0 else 1 for i in range(len(a.shape)))
        overlaps = name == "out" and a.shape and a.shape[0] > 1 and prod(a.shape) > 0
        return replace(a, lie=Lie(steps=steps)), "out overlaps itself" if overlaps else None
    if kind == "read-only":
        return replace(a, lie=replace(a.lie, writeable=False)), "out is read-only" if name == "out" else None
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
