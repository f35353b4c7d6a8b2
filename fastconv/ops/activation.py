"""Elementwise functions of one array, with their gradients: those that can be fused into a convolution or a product.

The names and parameters of the functions are those of ``torch.nn.functional``, those that ``activate`` takes are those
of ``fastconv.spec.ACTIVATIONS``.
"""

from __future__ import annotations

from math import isnan
from typing import Any, Protocol

import numpy as np

from ..arguments import number, word
from ..arrays import as_array, as_gradient
from ..spec import Activation, ActivationLike, activation_of
from .elementwise import run_into


def _activated(x: Any, act: Activation | None, out: Any) -> np.ndarray:
    x = as_array("x", x)
    return run_into(out, x.shape, "activate", x, activation=act)


def _gradient(dy: Any, x: Any, act: Activation | None, out: Any) -> np.ndarray:
    x = as_array("x", x)
    dy = as_gradient(dy, x.shape, x.dtype, "x")
    return run_into(out, x.shape, "activate_backward", dy, x, activation=act)


def activate(x: np.ndarray, activation: ActivationLike, *, out: np.ndarray | None = None) -> np.ndarray:
    """``activation(x)``, elementwise, in the shape and dtype of x (float32 or float64); without one, and without
    ``out``, it is x itself.

    activation : None, a name, or ``(name, parameter, ...)``: relu, relu6, leaky_relu (slope 0.01), clip (its limits, 0
        and 6), sigmoid, tanh, silu, hardswish, hardsigmoid, gelu, gelu_tanh, mish, softplus (beta 1, which must not be
        0, and threshold 20), logsigmoid, elu (alpha 1), selu, celu (alpha 1, which must be above 0), exp, softsign,
        abs, sqrt, log, erf. They are the functions of these names.
    out : an array for the result, which shares no memory with x; it is returned.

    Raises TypeError or ValueError that names the argument.
    """
    act = activation_of(activation)
    return as_array("x", x) if act is None and out is None else _activated(x, act, out)


def activate_backward(
    dy: np.ndarray, x: np.ndarray, activation: ActivationLike, *, out: np.ndarray | None = None
) -> np.ndarray:
    """``dy * activation'(x)``, where x is what the activation was applied to. At a kink the derivative is 0,
    but leaky_relu's is its parameter, and hardswish's at 3 is 1. Without an activation, and without ``out``, it is dy.

    dy has the shape and dtype of x. Raises TypeError or ValueError that names the argument.
    """
    act = activation_of(activation)
    if act is None and out is None:
        x = as_array("x", x)
        return as_gradient(dy, x.shape, x.dtype, "x")
    return _gradient(dy, x, act, out)


_FORWARD = """{text}, elementwise, in the shape and dtype of x (float32 or float64).

    ``out``: an array for the result, which shares no memory with x; it is returned. Raises TypeError or ValueError
    that names the argument.
    """

_BACKWARD = """``dy`` times the derivative of ``{call}`` by x: dy has the shape of x, so has the result.

    ``out``: an array for it, which shares no memory with dy and x. Raises TypeError or ValueError that names the
    argument.
    """


class _Forward(Protocol):
    __name__: str
    __qualname__: str

    def __call__(self, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray: ...


class _Backward(Protocol):
    __name__: str
    __qualname__: str

    def __call__(self, dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray: ...


def _pair(name: str, text: str) -> tuple[_Forward, _Backward]:
    """A function without parameters and its gradient."""
    act = activation_of(name)

    def forward(x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _activated(x, act, out)

    def backward(dy: np.ndarray, x: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        return _gradient(dy, x, act, out)

    forward.__doc__ = _FORWARD.format(text=text)
    backward.__doc__ = _BACKWARD.format(call=f"{name}(x)")
    for function, own in ((forward, name), (backward, f"{name}_backward")):
        function.__name__ = function.__qualname__ = own
    return forward, backward


relu, relu_backward = _pair("relu", "max(x, 0)")
relu6, relu6_backward = _pair("relu6", "min(max(x, 0), 6)")
sigmoid, sigmoid_backward = _pair("sigmoid", "1 / (1 + exp(-x))")
tanh, tanh_backward = _pair("tanh", "The hyperbolic tangent of x")
silu, silu_backward = _pair("silu", "x sigmoid(x)")
mish, mish_backward = _pair("mish", "x tanh(softplus(x))")
logsigmoid, logsigmoid_backward = _pair("logsigmoid", "log(sigmoid(x))")
selu, selu_backward = _pair("selu", "1.0507 x where x is above 0, else 1.0507 1.6733 (exp(x) - 1)")
hardswish, hardswish_backward = _pair("hardswish", "x min(max(x + 3, 0), 6) / 6")
hardsigmoid, hardsigmoid_backward = _pair("hardsigmoid", "min(max(x + 3, 0), 6) / 6")
softsign, softsign_backward = _pair("softsign", "x / (1 + |x|)")
exp, exp_backward = _pair("exp", "e to the power of x")
log, log_backward = _pair("log", "The natural logarithm of x")
sqrt, sqrt_backward = _pair("sqrt", "The square root of x")
erf, erf_backward = _pair("erf", "The error function of x")
abs, abs_backward = _pair("abs", "|x|")


def _of(activation: str, **parameters: Any) -> Activation:
    """With parameters by their names, which an error says."""
    values = {name: number(name, value) for name, value in parameters.items()}
    for name, value in values.items():
        if isnan(value):
            raise ValueError(f"{name}=nan: allowed is a number")
    if activation == "softplus" and values["beta"] == 0:
        raise ValueError("beta=0: allowed is a number that is not 0")
    if activation == "celu" and not values["alpha"] > 0:
        raise ValueError(f"alpha={values['alpha']}: allowed is a number above 0")
    return Activation(activation, *values.values())


def leaky_relu(x: np.ndarray, negative_slope: float = 0.01, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where it is above 0, else ``negative_slope`` x, otherwise as ``relu``."""
    return _activated(x, _of("leaky_relu", negative_slope=negative_slope), out)


def leaky_relu_backward(
    dy: np.ndarray, x: np.ndarray, negative_slope: float = 0.01, *, out: np.ndarray | None = None
) -> np.ndarray:
    """``dy`` times the derivative of ``leaky_relu(x, negative_slope)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _of("leaky_relu", negative_slope=negative_slope), out)


def hardtanh(
    x: np.ndarray, min_val: float = -1.0, max_val: float = 1.0, *, out: np.ndarray | None = None
) -> np.ndarray:
    """min(max(x, min_val), max_val), otherwise as ``relu``."""
    return _activated(x, _of("clip", min_val=min_val, max_val=max_val), out)


def hardtanh_backward(
    dy: np.ndarray, x: np.ndarray, min_val: float = -1.0, max_val: float = 1.0, *, out: np.ndarray | None = None
) -> np.ndarray:
    """``dy`` times the derivative of ``hardtanh(x, min_val, max_val)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _of("clip", min_val=min_val, max_val=max_val), out)


def elu(x: np.ndarray, alpha: float = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where it is above 0, else ``alpha`` (exp(x) - 1), otherwise as ``relu``."""
    return _activated(x, _of("elu", alpha=alpha), out)


def elu_backward(dy: np.ndarray, x: np.ndarray, alpha: float = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """``dy`` times the derivative of ``elu(x, alpha)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _of("elu", alpha=alpha), out)


def celu(x: np.ndarray, alpha: float = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """x where it is above 0, else ``alpha`` (exp(x / alpha) - 1), alpha being above 0; otherwise as ``relu``."""
    return _activated(x, _of("celu", alpha=alpha), out)


def celu_backward(dy: np.ndarray, x: np.ndarray, alpha: float = 1.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """``dy`` times the derivative of ``celu(x, alpha)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _of("celu", alpha=alpha), out)


def softplus(x: np.ndarray, beta: float = 1.0, threshold: float = 20.0, *, out: np.ndarray | None = None) -> np.ndarray:
    """log(1 + exp(beta x)) / beta, or x where beta x is above ``threshold``; beta is not 0. Otherwise as ``relu``."""
    return _activated(x, _of("softplus", beta=beta, threshold=threshold), out)


def softplus_backward(
    dy: np.ndarray, x: np.ndarray, beta: float = 1.0, threshold: float = 20.0, *, out: np.ndarray | None = None
) -> np.ndarray:
    """``dy`` times the derivative of ``softplus(x, beta, threshold)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _of("softplus", beta=beta, threshold=threshold), out)


_GELU = {"none": Activation("gelu"), "tanh": Activation("gelu_tanh")}


def gelu(x: np.ndarray, approximate: str = "none", *, out: np.ndarray | None = None) -> np.ndarray:
    """x Phi(x), Phi being the normal distribution; ``approximate="tanh"``: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715
    x^3))). Otherwise as ``relu``."""
    return _activated(x, _GELU[word("approximate", approximate, _GELU)], out)


def gelu_backward(
    dy: np.ndarray, x: np.ndarray, approximate: str = "none", *, out: np.ndarray | None = None
) -> np.ndarray:
    """``dy`` times the derivative of ``gelu(x, approximate)``, otherwise as ``relu_backward``."""
    return _gradient(dy, x, _GELU[word("approximate", approximate, _GELU)], out)
