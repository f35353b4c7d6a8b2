"""Elementwise functions as NumPy has them, in float64."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

import numpy as np

from ...spec import SELU_ALPHA, SELU_SCALE, Activation, MapSpec
from .kernel import ReferenceKernel, activated, complement_of_erf


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slope(x: np.ndarray, activation: Activation) -> np.ndarray:
    """The derivative of an activation at x, in float64; where there is none, that from below."""
    alpha, beta = activation.alpha, activation.beta
    # Where x is so far from 0, all derivatives that have a factor of x are at their limits.
    near = np.clip(x, -800, 800)
    match activation.name:
        case "relu":
            return (x > 0) * 1.0
        case "leaky_relu":
            return np.where(x > 0, 1, alpha)
        case "clip":
            return ((x > alpha) & (x < beta)) * 1.0
        case "sigmoid":
            return _sigmoid(x) * _sigmoid(-x)
        case "tanh":
            return 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)
        case "silu":
            return _sigmoid(x) + near * _sigmoid(x) * _sigmoid(-x)
        case "hardswish":
            return np.where(x < 3, np.where(x > -3, x / 3 + 0.5, 0), 1)
        case "gelu":
            return complement_of_erf(-x / sqrt(2)) / 2 + near * np.exp(-x * x / 2) / sqrt(2 * pi)
        case "gelu_tanh":
            u, du = near + 0.044715 * near**3, 1 + 3 * 0.044715 * near**2
            s, rest = (_sigmoid(sign * 2 * sqrt(2 / pi) * u) for sign in (1, -1))
            return s + near * s * rest * 2 * sqrt(2 / pi) * du
        case "mish":
            t = np.tanh(np.logaddexp(0, x))
            return t + near * _sigmoid(x) / np.cosh(np.logaddexp(0, near)) ** 2
        case "softplus":
            return np.where(alpha * x > beta, 1, _sigmoid(alpha * x))
        case "logsigmoid":
            return _sigmoid(-x)
        case "elu":
            return np.where(x > 0, 1, alpha * np.exp(x))
        case "selu":
            return SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(x))
        case "celu":
            return np.where(x > 0, 1, np.exp(x / alpha))
        case "hardsigmoid":
            return (np.abs(x) < 3) / 6
        case "exp":
            return np.exp(x)
        case "softsign":
            return 1 / (1 + np.abs(x)) ** 2
        case "abs":
            return 1.0 * (x > 0) - (x < 0)
        case "sqrt":
            return 0.5 / np.sqrt(x)
        case "log":
            return 1 / x
        case "erf":
            return 2 / sqrt(pi) * np.exp(-x * x)
    raise NotImplementedError(f"activation {activation.name!r}")


#: Where the derivative is 0 because the function is constant, so is the gradient, whatever dy is.
_CONSTANT_IN_PARTS = ("relu", "clip", "hardswish", "hardsigmoid", "abs")


def _gradient(dy: np.ndarray, x: np.ndarray, activation: Activation | None) -> np.ndarray:
    if activation is None:
        return dy
    by = slope(x, activation)
    return np.where(by == 0, 0, dy * by) if activation.name in _CONSTANT_IN_PARTS else dy * by


_OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "scale_shift": lambda x, s, t: x * s + t,
    "prelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "prelu_backward": lambda dy, x, slope: np.where(x > 0, dy, slope * dy),
    "prelu_slope": lambda dy, x: np.where(x > 0, 0, dy * x),
    "divide_backward": lambda dy, a, b: -dy * (a / b / b),
    "maximum_backward": lambda dy, a, b: np.where(a < b, 0, np.where(a == b, dy / 2, dy)),
    "minimum_backward": lambda dy, a, b: np.where(a > b, 0, np.where(a == b, dy / 2, dy)),
}


def philox(counter: list[np.ndarray], key: tuple[int, int]) -> list[np.ndarray]:
    """Philox4x32-10 (Salmon et al., 2011) of counters of four words of 32 bits, held in uint64: four words."""
    c0, c1, c2, c3 = counter
    for turn in range(10):
        k0, k1 = ((k + turn * step) % 2**32 for k, step in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True))
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # below 2^64
        c0, c1, c2, c3 = b >> 32 ^ c1 ^ k0, b % 2**32, a >> 32 ^ c3 ^ k1, a % 2**32
    return [c0, c1, c2, c3]


def _dropout(spec: MapSpec, x: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    place = np.zeros(spec.shape, np.uint64)
    for axis, step in enumerate(spec.places):
        along = np.arange(spec.shape[axis], dtype=np.uint64) * np.uint64(step)
        place += along.reshape(-1, *(1,) * (len(spec.shape) - 1 - axis))
    seed, offset = map(int, numbers)
    place, zeros = place.reshape(-1), np.zeros(place.size, np.uint64)
    counter = [place // 4, zeros, zeros + offset % 2**32, zeros + (offset >> 32)]
    word = np.choose((place % 4).astype(np.intp), philox(counter, (seed % 2**32, seed >> 32))).reshape(spec.shape)
    kept = x.astype(np.float64) * (1 / (1 - spec.p) if spec.p < 1 else 0.0)
    return np.where(word < np.ceil(spec.p * 2**32), 0, kept)


class MapKernel(ReferenceKernel):
    algorithm = "NumPy's functions"

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec

    def __call__(self, *arrays: np.ndarray) -> None:
        *operands, out = arrays
        if self.spec.operation == "dropout":
            with np.errstate(all="ignore"):
                out[...] = _dropout(self.spec, *operands)
            return
        wide = [a.astype(np.float64) for a in operands]
        with np.errstate(all="ignore"):
            match self.spec.operation:
                case "activate":
                    out[...] = activated(wide[0], self.spec.activation)
                case "activate_backward":
                    out[...] = _gradient(*wide, self.spec.activation)
                case name:
                    out[...] = _OPERATIONS[name](*wide)
