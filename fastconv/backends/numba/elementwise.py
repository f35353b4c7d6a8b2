"""Functions of one number, which compiled loops call."""

from __future__ import annotations

import math

from ...spec import SELU_ALPHA, SELU_SCALE
from .simd import part


@part
def _log1p_exp(x):
    """log(1 + exp(-|x|))."""
    return math.log1p(math.exp(-abs(x)))


@part
def activated(kind, number, alpha, beta):
    """The activation number ``kind`` of ``spec.ACTIVATIONS``, from 8 on, in float64."""
    x = float(number)
    if kind == 8:
        return x * math.erfc(-x * math.sqrt(0.5)) / 2
    if kind == 9:
        return x / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    if kind == 10:
        e = math.exp(min(x, 40.0)) if x == x else x
        return x * (e * (e + 2) / (e * (e + 2) + 2))
    if kind == 11:
        v = x * alpha
        return x if v > beta else (max(v, 0.0) + _log1p_exp(v)) / alpha
    if kind == 12:
        return (x if x < 0 else 0.0) - _log1p_exp(x)
    if kind == 13:
        return x if x > 0 else alpha * math.expm1(x)
    if kind == 14:
        return SELU_SCALE * (x if x > 0 else SELU_ALPHA * math.expm1(x))
    if kind == 15:
        return x if x > 0 else alpha * math.expm1(x / alpha)
    if kind == 16:
        return (0.0 if x < -3 else 6.0 if x > 3 else x + 3) / 6
    if kind == 17:
        return math.exp(x)
    return x / (1 + abs(x))
