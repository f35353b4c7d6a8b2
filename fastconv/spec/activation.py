"""The elementwise function at the end of an operator: its name and parameters, as callers write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from ..arguments import number, shown


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise function with its two parameters (``alpha``, ``beta``; 0 where it has none)."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


#: What ``activation_of`` takes: a name, ``(name, parameter, ...)``, or None for none.
ActivationLike = str | Sequence[Any] | Activation | None

#: name -> the defaults of its parameters, in the order of the C library's and Numba's numbers.
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
    "gelu_tanh": (),
    "mish": (),
    "softplus": (1.0, 20.0),
    "logsigmoid": (),
    "elu": (1.0,),
    "selu": (),
    "celu": (1.0,),
    "hardsigmoid": (),
    "exp": (),
    "softsign": (),
    "abs": (),
    "sqrt": (),
    "log": (),
    "erf": (),
}

#: Klambauer et al., Self-Normalizing Neural Networks, 2017: with these, activations keep mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


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
    params = [*params, *defaults[len(params) :]]
    if (name == "softplus" and not params[0]) or (name == "celu" and not params[0] > 0):
        limit = "a beta that is not 0" if name == "softplus" else "an alpha above 0"
        raise ValueError(f"activation={shown(value)}: allowed is {limit}")
    return Activation(name, *params)
