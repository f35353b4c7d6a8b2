"""What the three kernels share: their common attributes and the activations."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np

from ...spec import Activation

#: One number after the other: slow, and nobody else's code.
_erfc = np.vectorize(erfc, otypes=[np.float64])


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
    with np.errstate(over="ignore", invalid="ignore"):
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
                return x * _erfc(-x / sqrt(2)) / 2
    raise NotImplementedError(f"activation {activation.name!r}")
