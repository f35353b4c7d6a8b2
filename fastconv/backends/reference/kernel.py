"""What the three kernels share: their common attributes and the activations."""

from __future__ import annotations

from math import erf, erfc, pi, sqrt

import numpy as np

from ...spec import SELU_ALPHA, SELU_SCALE, Activation

#: One number after the other: slow, and nobody else's code.
_erf = np.vectorize(erf, otypes=[np.float64])
complement_of_erf = np.vectorize(erfc, otypes=[np.float64])


class ReferenceKernel:
    backend = "reference"
    isa = "numpy"
    workspace_bytes = 0
    algorithm: str
    reason = "plain NumPy in float64"

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()


def activated(x: np.ndarray, activation: Activation | None) -> np.ndarray:
    """``activation(x)``; x is float64."""
    if activation is None:
        return x
    alpha, beta = activation.alpha, activation.beta
    with np.errstate(all="ignore"):
        match activation.name:
            case "relu":
                return np.maximum(x, 0)
            case "leaky_relu":
                return np.where(x > 0, x, alpha * x)
            case "clip":
                return np.minimum(np.maximum(x, alpha), beta)
            case "sigmoid":
                return 1 / (1 + np.exp(-x))
            case "tanh":
                return np.tanh(x)
            case "silu":
                return x / (1 + np.exp(-x))
            case "hardswish":
                return x * np.minimum(np.maximum(x + 3, 0), 6) / 6
            case "gelu":
                return x * complement_of_erf(-x / sqrt(2)) / 2
            case "gelu_tanh":
                return x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2
            case "mish":
                return x * np.tanh(np.logaddexp(0, x))
            case "softplus":
                return np.where(alpha * x > beta, x, np.logaddexp(0, alpha * x) / alpha)
            case "logsigmoid":
                return -np.logaddexp(0, -x)
            case "elu":
                return np.where(x > 0, x, alpha * np.expm1(x))
            case "selu":
                return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))
            case "celu":
                return np.where(x > 0, x, alpha * np.expm1(x / alpha))
            case "hardsigmoid":
                return np.minimum(np.maximum(x + 3, 0), 6) / 6
            case "exp":
                return np.exp(x)
            case "softsign":
                return x / (1 + np.abs(x))
            case "abs" | "sqrt" | "log" as name:
                return getattr(np, name)(x)
            case "erf":
                return _erf(x)
    raise NotImplementedError(f"activation {activation.name!r}")
