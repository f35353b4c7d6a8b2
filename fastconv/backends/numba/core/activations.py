"""Activations: of one number, which compiled loops call, and of a line."""

from __future__ import annotations

import math

from ....spec import ACTIVATIONS, SELU_ALPHA, SELU_SCALE, Activation
from .compile import part
from .intrinsics import no_inline

__all__ = ["activate", "activated", "activation_number", "slope"]

_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


def activation_number(activation: Activation | None) -> tuple[int, float, float]:
    """An activation as the kernels know it: number, alpha, beta."""
    return (_NUMBERS[activation.name], activation.alpha, activation.beta) if activation else (0, 0.0, 0.0)


@part
def _log1p_exp(x):
    """log(1 + exp(-|x|))."""
    return math.log1p(math.exp(-abs(x)))


@part
def _sigmoid(x):
    e = math.exp(-abs(x))
    return (1 if x >= 0 else e) / (1 + e) if x == x else x


@part
def _sigmoid_slope(x):
    e = math.exp(-abs(x))
    return e / ((1 + e) * (1 + e))


@part
def _gelu_argument(x):
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)


@part
def activated(kind, number, alpha, beta):
    """The activation number ``kind`` of ``spec.ACTIVATIONS``, in float64. NaN stays NaN."""
    x = float(number)
    if kind == 0:
        return x
    if kind == 1:
        return 0.0 if x < 0 else x
    if kind == 2:
        return x if x > 0 else alpha * x
    if kind == 3:
        low = alpha if x < alpha else x
        return beta if low > beta else low
    if kind == 4:
        return _sigmoid(x)
    if kind == 5:
        return math.tanh(x)
    if kind == 6:
        return x * _sigmoid(x)
    if kind == 7:
        return x * (0.0 if x < -3 else 6.0 if x > 3 else x + 3) / 6
    if kind == 8:
        return x * math.erfc(-x * math.sqrt(0.5)) / 2
    if kind == 9:
        return x / (1 + math.exp(-_gelu_argument(x)))
    if kind == 10:
        e = math.exp(min(x, 40.0)) if x == x else x
        return x * (e * (e + 2) / (e * (e + 2) + 2))
    if kind == 11:
        v = x * alpha
        return x if v > beta else ((0.0 if v < 0 else v) + _log1p_exp(v)) / alpha
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
    if kind == 18:
        return x / (1 + abs(x))
    if kind == 19:
        return abs(x)
    if kind == 20:
        return math.sqrt(x) if not x < 0 else math.nan
    if kind == 21:
        return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan
    return math.erf(x)


@part
def slope(kind, number, alpha, beta):
    """Its derivative; where there is none, that from below."""
    x = float(number)
    near = x if abs(x) < 800 or x != x else (800.0 if x > 0 else -800.0)
    if kind == 0:
        return 1.0
    if kind == 1:
        return 1.0 if x > 0 else 0.0
    if kind == 2:
        return 1.0 if x > 0 else alpha
    if kind == 3:
        return 1.0 if x > alpha and x < beta else 0.0
    if kind == 4:
        return _sigmoid_slope(x)
    if kind == 5:
        return 4 * _sigmoid_slope(2 * x)
    if kind == 6:
        return _sigmoid(x) + near * _sigmoid_slope(x)
    if kind == 7:
        return 0.0 if x <= -3 else x / 3 + 0.5 if x < 3 else 1.0
    if kind == 8:
        return math.erfc(-x * math.sqrt(0.5)) / 2 + near * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    if kind == 9:
        u = _gelu_argument(near)
        du = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * near * near)
        return _sigmoid(u) + near * _sigmoid_slope(u) * du
    if kind == 10:
        e = math.exp(min(near, 40.0)) if x == x else x
        n = e * (e + 2)
        return (n * (n + 2) + 4 * min(near, 40.0) * e * (1 + e)) / ((n + 2) * (n + 2))
    if kind == 11:
        return 1.0 if x * alpha > beta else _sigmoid(x * alpha)
    if kind == 12:
        return _sigmoid(-x)
    if kind == 13:
        return 1.0 if x > 0 else alpha * math.exp(x)
    if kind == 14:
        return SELU_SCALE if x > 0 else SELU_SCALE * SELU_ALPHA * math.exp(x)
    if kind == 15:
        return 1.0 if x > 0 else math.exp(x / alpha)
    if kind == 16:
        return 1 / 6 if abs(x) < 3 else 0.0
    if kind == 17:
        return math.exp(x)
    if kind == 18:
        return 1 / ((1 + abs(x)) * (1 + abs(x)))
    if kind == 19:
        return 1.0 if x > 0 else -1.0 if x < 0 else 0.0
    if kind == 20:
        return 0.5 / math.sqrt(x) if x >= 0 else math.nan
    if kind == 21:
        return 1 / x
    return 2 / math.sqrt(math.pi) * math.exp(-x * x)


@part
def activate(tile, at, count, kind, alpha, beta):
    """The activation number ``kind`` of ``spec.ACTIVATIONS`` on ``tile[at : at + count]``. NaN stays NaN."""
    no_inline()
    zero = alpha * 0
    one, six = zero + 1, zero + 6
    if kind == 1:
        for i in range(at, at + count):
            tile[i] = zero if tile[i] < zero else tile[i]
    elif kind == 2:
        for i in range(at, at + count):
            tile[i] = tile[i] if tile[i] > zero else tile[i] * alpha
    elif kind == 3:
        for i in range(at, at + count):
            x = alpha if tile[i] < alpha else tile[i]
            tile[i] = beta if x > beta else x
    elif kind == 7:
        for i in range(at, at + count):
            x = tile[i] + 3
            x = zero if x < zero else x
            tile[i] *= (six if x > six else x) / six
    elif kind:
        for i in range(at, at + count):
            x = tile[i]
            if kind == 5:
                tile[i] = math.tanh(x)
            elif kind > 7:
                tile[i] = activated(kind, x, alpha, beta)
            else:
                e = math.exp(-abs(x))
                y = (one if x >= zero else e) / (one + e)
                tile[i] = x * y if kind == 6 else y
