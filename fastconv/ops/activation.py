"""Activations that can be fused into a convolution or GEMM, as functions of their own, with their gradients.

The names and parameters are those of ``fastconv.spec.ACTIVATIONS``.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

from ..arrays import as_array
from ..spec import SELU_ALPHA, SELU_SCALE, Activation, ActivationLike, activation_of

#: ``(1 + 2 y) exp(y^2) erfc(y)`` for y >= 0 as a polynomial in ``(y - 3) / (y + 3)``, lowest power first: its Chebyshev
#: series, cut off below the rounding of float64.
_ERFC = (
    1.2530080582697296, -0.13562110612458117, -0.04756229435342038, 0.1296451587027594,
    -0.11927366341676002, 0.0683080273440099, -0.023770514891530075, 0.0025293918156939696,
    0.0018886900977441495, -0.0007798322696543306, -0.00010515831297813128, 0.0001250993424583729,
    4.944124342223658e-06, -2.0100542268525616e-05, -7.187883834404222e-07, 3.4723709449771796e-06,
    3.3669790806407023e-07, -6.166011460398858e-07, -1.2054142286488932e-07, 1.0183620603843713e-07,
    2.7843881265500237e-08, -1.3312919661042785e-08, -3.1813541434965493e-09, 9.862533510353046e-10,
)  # fmt: skip

#: Numbers at a time: the arrays of a block stay in the first caches.
_BLOCK = 4096


def erfc(x: np.ndarray) -> np.ndarray:
    """The complementary error function, in float64: within 4 units of the last place, where it is tiny, too."""
    flat = x.reshape(-1)
    result = np.empty(flat.shape)
    for begin in range(0, flat.size, _BLOCK):
        part = flat[begin : begin + _BLOCK].astype(np.float64)
        y = np.minimum(np.abs(part), 28)  # of which erfc is 0
        t = (y - 3) / (y + 3)
        value = np.full(t.shape, _ERFC[-1])
        for coefficient in _ERFC[-2::-1]:
            value *= t
            value += coefficient
        # The square of a number of 24 bits is exact: exp(-y^2) would have y^2 times the rounding of y^2.
        high = y.astype(np.float32).astype(np.float64)
        value *= np.exp(-high * high)
        value *= np.exp((high - y) * (high + y))
        value /= 1 + 2 * y
        result[begin : begin + _BLOCK] = np.where(part < 0, 2 - value, value)
    return result.reshape(x.shape)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp of a negative number only: no overflow on either side.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def activate(x: np.ndarray, activation: ActivationLike) -> np.ndarray:
    """``activation(x)``, elementwise: a new array of x's shape and dtype (float32 or float64); x itself for None.

    activation : None, the name of a function of ``torch.nn.functional``, or ``(name, parameter, ...)``: relu, relu6,
        leaky_relu (slope 0.01), clip (its limits, 0 and 6), sigmoid, tanh, silu, hardswish, hardsigmoid, gelu,
        gelu_tanh, mish, softplus (beta 1, which must not be 0, and threshold 20), logsigmoid, elu (alpha 1), selu, celu
        (alpha 1, which must be above 0), exp, softsign.

    Raises TypeError or ValueError that names the argument.
    """
    x = as_array("x", x)
    act = activation_of(activation)
    return x if act is None else np.asarray(_FORWARD[act.name](x, act)).astype(x.dtype, copy=False)


def activate_backward(dy: np.ndarray, x: np.ndarray, activation: ActivationLike) -> np.ndarray:
    """``dy * activation'(x)``, where x is what the activation was applied to. At a kink the derivative is 0,
    but leaky_relu's is its parameter, and hardswish's at 3 is 1.

    dy has the shape and dtype of x. Raises TypeError or ValueError that names the argument.
    """
    x = as_array("x", x)
    dy = as_array("dy", dy, x.dtype)
    if dy.shape != x.shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {x.shape}, the shape of x")
    act = activation_of(activation)
    return dy if act is None else np.asarray(dy * _DERIVATIVE[act.name](x, act)).astype(x.dtype, copy=False)


def _silu_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _gelu(x: np.ndarray, _: Activation) -> np.ndarray:
    # The normal distribution function by erfc keeps its digits where it is near 0; by 1 + erf it would not.
    wide = x.astype(np.float64, copy=False)
    return 0.5 * wide * erfc(wide * -sqrt(0.5))


def _gelu_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    wide = x.astype(np.float64, copy=False)
    return 0.5 * erfc(wide * -sqrt(0.5)) + wide * np.exp(-0.5 * wide * wide) / sqrt(2 * pi)


def _gelu_argument(x: np.ndarray) -> np.ndarray:
    return 2 * sqrt(2 / pi) * (x + 0.044715 * x**3)


def _gelu_tanh_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    s = _sigmoid(_gelu_argument(x))
    return s + x * s * (1 - s) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _mish_derivative(x: np.ndarray, _: Activation) -> np.ndarray:
    t = np.tanh(_softplus(x))
    return t + x * (1 - t * t) * _sigmoid(x)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


_FORWARD = {
    "relu": lambda x, a: np.maximum(x, 0),
    "leaky_relu": lambda x, a: np.where(x > 0, x, x * x.dtype.type(a.alpha)),
    "clip": lambda x, a: np.clip(x, x.dtype.type(a.alpha), x.dtype.type(a.beta)),
    "sigmoid": lambda x, a: _sigmoid(x),
    "tanh": lambda x, a: np.tanh(x),
    "silu": lambda x, a: x * _sigmoid(x),
    "hardswish": lambda x, a: x * np.clip(x + 3, 0, 6) / 6,
    "gelu": _gelu,
    "gelu_tanh": lambda x, a: x * _sigmoid(_gelu_argument(x)),
    "mish": lambda x, a: x * np.tanh(_softplus(x)),
    "softplus": lambda x, a: np.where(x * a.alpha > a.beta, x, _softplus(x * a.alpha) / a.alpha),
    "logsigmoid": lambda x, a: -_softplus(-x),
    "elu": lambda x, a: _elu(x, a.alpha),
    "selu": lambda x, a: SELU_SCALE * _elu(x, SELU_ALPHA),
    "celu": lambda x, a: np.where(x > 0, x, a.alpha * np.expm1(np.minimum(x, 0) / a.alpha)),
    "hardsigmoid": lambda x, a: np.clip(x + 3, 0, 6) / 6,
    "exp": lambda x, a: np.exp(x),
    "softsign": lambda x, a: x / (1 + np.abs(x)),
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
    "gelu_tanh": _gelu_tanh_derivative,
    "mish": _mish_derivative,
    "softplus": lambda x, a: np.where(x * a.alpha > a.beta, 1, _sigmoid(x * a.alpha)),
    "logsigmoid": lambda x, a: _sigmoid(-x),
    "elu": lambda x, a: np.where(x > 0, 1, a.alpha * np.exp(np.minimum(x, 0))),
    "selu": lambda x, a: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),
    "celu": lambda x, a: np.where(x > 0, 1, np.exp(np.minimum(x, 0) / a.alpha)),
    "hardsigmoid": lambda x, a: (np.abs(x) < 3) / 6,
    "exp": lambda x, a: np.exp(x),
    "softsign": lambda x, a: 1 / (1 + np.abs(x)) ** 2,
}
