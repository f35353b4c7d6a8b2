"""Activations that can be fused into a convolution or GEMM, as functions of their own, with their gradients.

The names and parameters are those of ``fastconv.spec.ACTIVATIONS``.
"""

from __future__ import annotations

from math import erf, pi, sqrt
from typing import Any

import numpy as np

from ..spec import Activation, activation_of

_erf = np.vectorize(erf, otypes=[np.float64])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a negative number only: no overflow on either side.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def activate(x: np.ndarray, activation: Any) -> np.ndarray:
    """``activation(x)``, elementwise, in the dtype of x. ``activation`` as in ``conv2d``."""
    act = activation_of(activation)
    return x if act is None else _FORWARD[act.name](x, act).astype(x.dtype, copy=False)


def activate_backward(dy: np.ndarray, x: np.ndarray, activation: Any) -> np.ndarray:
    """``dy * activation'(x)``, where x is what the activation was applied to. At a kink the derivative is 0."""
    act = activation_of(activation)
    return dy if act is None else (dy * _DERIVATIVE[act.name](x, act)).astype(x.dtype, copy=False)


def _silu_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _gelu_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    return 0.5 * (1 + _erf(x / sqrt(2))) + x * np.exp(-0.5 * x * x) / sqrt(2 * pi)


_FORWARD = {
    "relu": lambda x, a: np.maximum(x, 0),
    "leaky_relu": lambda x, a: np.where(x > 0, x, x * x.dtype.type(a.alpha)),
    "clip": lambda x, a: np.clip(x, x.dtype.type(a.alpha), x.dtype.type(a.beta)),
    "sigmoid": lambda x, a: _sigmoid(x),
    "tanh": lambda x, a: np.tanh(x),
    "silu": lambda x, a: x * _sigmoid(x),
    "hardswish": lambda x, a: x * np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x, a: 0.5 * x * (1 + _erf(x / sqrt(2))),
}

_DERIVATIVE = {
    "relu": lambda x, a: x > 0,
    "leaky_relu": lambda x, a: np.where(x > 0, 1, a.alpha),
    "clip": lambda x, a: (x > a.alpha) & (x < a.beta),
    "sigmoid": lambda x, a: _sigmoid(x) * (1 - _sigmoid(x)),
    "tanh": lambda x, a: 1 - np.tanh(x) ** 2,
    "silu": _silu_derivative,
    "hardswish": lambda x, a: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    "gelu": _gelu_derivative,
}
