"""Losses as papers have them, in float64, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...spec import LossSpec
from .kernel import ReferenceKernel


def _loss(kind: str, border: float, x: np.ndarray, t: np.ndarray, positive: Any) -> np.ndarray:
    match kind:
        case "mse":
            return (x - t) ** 2
        case "l1":
            return np.abs(x - t)
        case "smooth_l1":
            apart = np.abs(x - t)
            return np.where(apart < border, apart**2 / (2 * border), apart - border / 2)
        case "huber":
            apart = np.abs(x - t)
            return np.where(apart <= border, apart**2 / 2, border * (apart - border / 2))
        case "binary":
            logs = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
            return (t - 1) * logs[1] - t * logs[0]
        case "binary_logits":
            factor = (positive - 1) * t + 1
            return (1 - t) * x + factor * np.maximum(-x, 0) + factor * np.log1p(np.exp(-np.abs(x)))
        case "kl":
            return np.where(t == 0, 0, t * np.log(t)) - t * x
        case "kl_log":
            return np.exp(t) * (t - x)
    raise NotImplementedError(f"loss {kind!r}")


def _slope(kind: str, border: float, x: np.ndarray, t: np.ndarray, positive: Any) -> np.ndarray:
    match kind:
        case "mse":
            return 2 * (x - t)
        case "l1":
            return np.sign(x - t)
        case "smooth_l1":
            return np.where(np.abs(x - t) < border, (x - t) / border, np.sign(x - t))
        case "huber":
            return np.clip(x - t, -border, border)
        case "binary":
            return (x - t) / np.maximum(x * (1 - x), 1e-12)
        case "binary_logits":
            return (1 - t) / (1 + np.exp(-x)) - positive * t / (1 + np.exp(x))
        case "kl":
            return -t
        case "kl_log":
            return -np.exp(t)
        case "classes":
            return np.exp(x - t - positive)
    raise NotImplementedError(f"loss {kind!r}")


class LossKernel(ReferenceKernel):
    algorithm = "NumPy's functions"

    def __init__(self, spec: LossSpec) -> None:
        self.spec = spec

    def __call__(self, *arrays: np.ndarray | None) -> None:
        spec, (*operands, out) = self.spec, arrays
        x, t, weight, positive, dy = [1.0 if a is None else a.astype(np.float64) for a in operands]
        if spec.kind == "binary" and not np.all((x >= 0) & (x <= 1)):
            raise ValueError("x is not from 0 to 1")
        formula = _loss if spec.direction == "fwd" else _slope
        with np.errstate(all="ignore"):
            made = formula(spec.kind, spec.parameter, x, t, positive) * weight * dy
            # Of rows, which NumPy adds in pairs, so that long sums stay right.
            out[...] = np.sum(np.ascontiguousarray(made)) / spec.divisor if spec.reduced else made
