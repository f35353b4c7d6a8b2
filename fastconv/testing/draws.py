"""Choices, the problems that are made of them, and what the calls of all families have in common."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import isqrt, prod
from random import Random
from typing import Any

import numpy as np

import fastconv as fc

from ..spec import ACTIVATIONS
from .arrays import Array, Lie, extent

__all__ = ["CONVOLUTION", "MOST", "PARAMETERS_OF", "Alias", "Call", "Draws", "Problem", "image_shape", "is_last"]

#: Elements of an array; a call with a larger one is not drawn.
MOST = 2**22

#: Under this name a call carries its spec, for the choice of an algorithm.
CONVOLUTION = " convolution"

#: Where tiles, vectors and blocks end.
_BORDERS = sorted(
    {n + d for n in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 144, 192, 256, 384, 512) for d in (-1, 0, 1)} | {1, 2, 6}
)

#: Which of them are fused: the others' slopes know no bounds, so neither do errors.
_FUSED = tuple(name for name in ACTIVATIONS if name not in ("abs", "sqrt", "log", "exp", "erf"))

#: What activations that have parameters are given.
PARAMETERS_OF: dict[str, tuple[tuple[float, ...], ...]] = {
    "leaky_relu": ((0.25,),),
    "clip": ((-2.0, 3.0), (0.0, 6.0), (1, 1)),
    # (No whole number is near the threshold, where the function jumps.)
    "softplus": ((2.0,), (0.5, 3.3), (-1.0, 1.7)),
    "elu": ((0.5,), (-1,)),
    "celu": ((2.0,), (0.25,)),
}


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
        several = {f"{k}[{i}]": a for k, v in given.items() if isinstance(v, tuple) for i, a in enumerate(v)}
        return {name: a for name, a in {**given, **several}.items() if isinstance(a, Array)}

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
        if isinstance(value, tuple) and any(isinstance(part, Array) for part in value):
            text = f"[{', '.join(map(str, value))}]"
        text = value.of if isinstance(value, Alias) else text
        if name in aliases:
            text = f"({name} := {text})"
        required = defaults.get(name) is inspect.Parameter.empty
        named = named or not required
        parts.append(text if not named else f"{name}={text}")
    return ", ".join(parts)


#: Kinds of values, the simplest first; mostly whole numbers, whose sums are exact.
_VALUES = ("ones", "count", *("whole",) * 20, "real", "real", "positive", "special", "special", "spike", "spike")


class Call:
    """What the arguments of one call have in common: its name, dtype, kind of values; and the arrays' recipes."""

    def __init__(self, d: Draws, name: str, ndim: int) -> None:
        self.d, self.name, self.ndim = d, name, ndim
        self.dtype = d.pick("dtype", ("float32", "float64"), 0.5)
        self.bound = 3
        self.values = d.pick("values", _VALUES)
        self.seed = d.pick("seed", range(1000))

    def array(
        self,
        name: str,
        shape: Sequence[int],
        values: str | None = None,
        dtype: str | None = None,
        changes: bool = False,
    ) -> Array:
        shape = tuple(int(s) for s in shape)
        kind = self.values if values is None else values
        # In one array alone; and not where they meet the zeros of padding: that makes NaN, or leaves them out.
        spoilt = ("dy",) if self.name.endswith(("_input", "_bias")) else ("x", "a")
        if self.name.startswith("conv") and self.name.endswith("d_backward"):
            spoilt = ()
        if kind in ("special", "spike") and name not in spoilt:
            kind = "whole"
        seed = 0 if kind in ("ones", "count", "empty") else self.seed * 16 + sum(map(ord, name)) % 16
        lie = self._lie(name, shape, values, changes or values == "empty")
        return Array(shape, dtype or self.dtype, kind, self.bound, seed, lie)

    def _lie(self, name: str, shape: tuple[int, ...], values: str | None, out: bool) -> Lie:
        d, ndim, given = self.d, len(shape), {}
        if not d.chance(f"{name} lies", 0.45) or ndim > 6:
            return Lie()
        if ndim > 1:
            orders = list(permutations(range(ndim)))
            if (order := d.pick(f"{name} order", orders, 0.7)) != orders[0]:
                given["order"] = order
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
        names = ACTIVATIONS if self.name.startswith("activate") else _FUSED
        name = self.d.pick("which activation", ("relu", *names, "relu6"))
        if name in PARAMETERS_OF and self.d.chance("its parameters", 0.8):
            return (name, *self.d.pick(name, PARAMETERS_OF[name]))
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


def image_shape(n: int | None, c: int, size: Sequence[int], last: bool) -> tuple[int, ...]:
    batch = () if n is None else (n,)
    return (*batch, *size, c) if last else (*batch, c, *size)


def is_last(layout: str) -> bool:
    return layout.endswith("C")
