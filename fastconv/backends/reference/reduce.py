"""Reductions, and what is made of each element: the formulas, in float64, over whole arrays."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ...spec import REDUCTIONS, ReduceSpec
from .kernel import ReferenceKernel


class ReduceKernel(ReferenceKernel):
    algorithm = "whole arrays"

    def __init__(self, spec: ReduceSpec) -> None:
        self.spec = spec

    def __call__(self, *arrays: np.ndarray | None) -> None:
        names = REDUCTIONS[self.spec.kind]
        given = {name: a.astype(np.float64) for name, a in zip(names[:6], arrays[:6], strict=True) if a is not None}
        with np.errstate(all="ignore"):
            results = getattr(self, "_" + self.spec.kind)(**given)
            for name, out in zip(names[6:], arrays[6:], strict=True):
                if out is not None:
                    out[...] = results[name]

    def _over(self, x: np.ndarray) -> np.ndarray:
        """The sum over the axes that are reduced: of rows, which NumPy adds in pairs, so that long ones stay right."""
        kept = [i for i in range(len(self.spec.shape)) if i not in self.spec.axes]
        rows = np.broadcast_to(x, self.spec.shape).transpose(*kept, *self.spec.axes)
        rows = rows.reshape(prod(rows.shape[: len(kept)]), self.spec.count)
        return np.sum(np.ascontiguousarray(rows), -1).reshape(self.spec.kept_shape)

    def _sum(self, x: np.ndarray) -> dict[str, Any]:
        return {"sum": self._over(x) / self.spec.parameter}

    def _moments(self, x: np.ndarray) -> dict[str, Any]:
        mean = self._over(x) / self.spec.count
        squares = self._over((x - mean) ** 2)
        return {"mean": mean, "var": squares / np.maximum(self.spec.count - self.spec.parameter, 0)}

    def _max(self, x: np.ndarray) -> dict[str, Any]:
        kept = tuple(i for i in range(x.ndim) if i not in self.spec.axes)
        rows = x.transpose(*kept, *self.spec.axes).reshape(*[x.shape[i] for i in kept], -1)
        place = np.argmax(rows, -1)
        value = np.take_along_axis(rows, place[..., None], -1)
        return {"value": value.reshape(self.spec.kept_shape), "place": place.reshape(self.spec.kept_shape)}

    def _min(self, x: np.ndarray) -> dict[str, Any]:
        found = self._max(-x)
        return {"value": -found["value"], "place": found["place"]}

    def _affine(self, x: np.ndarray, m: Any = 0.0, s: Any = 1.0, w: Any = 1.0, b: Any = 0.0) -> dict[str, Any]:
        return {"y": (x - m) * s * w + b}

    def _normalize(self, x: np.ndarray, w: Any = 1.0, b: Any = 0.0) -> dict[str, Any]:
        mean = self._over(x) / self.spec.count if not self.spec.root_mean_square else np.zeros(self.spec.kept_shape)
        var = self._over((x - mean) ** 2) / self.spec.count
        rstd = 1 / np.sqrt(var + self.spec.parameter)
        return {"y": (x - mean) * rstd * w + b, "mean": mean, "rstd": rstd, "var": var}

    def _normalize_sums(
        self, dy: np.ndarray, x: np.ndarray, m: Any = 0.0, s: Any = 1.0, w: Any = 1.0
    ) -> dict[str, Any]:
        g, h = dy * w, (x - m) * s
        return {"sum_g": self._over(g), "sum_gh": self._over(g * h)}

    def _normalize_backward(
        self, dy: np.ndarray, x: np.ndarray, m: Any = 0.0, s: Any = 1.0, w: Any = 1.0, v: Any = 1.0
    ) -> dict[str, Any]:
        sums = self._normalize_sums(dy, x, m, s, w)
        of_mean = 0.0 if self.spec.root_mean_square else sums["sum_g"] / self.spec.count
        h = (x - m) * s
        return {"dx": (dy * w - of_mean - h * (sums["sum_gh"] / self.spec.count)) * s * v, **sums}

    def _softmax(self, x: np.ndarray) -> dict[str, Any]:
        e = np.exp(x - np.max(x, self.spec.axes, keepdims=True))
        return {"y": e / self._over(e)}

    def _log_softmax(self, x: np.ndarray) -> dict[str, Any]:
        most = np.max(x, self.spec.axes, keepdims=True)
        log_sum = np.log(self._over(np.exp(x - most)))
        return {"y": x - most - log_sum, "most": most, "log_sum": log_sum}

    def _softmax_backward(self, dy: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        return {"dx": y * (dy - self._over(dy * y))}

    def _log_softmax_backward(self, dy: np.ndarray, y: np.ndarray) -> dict[str, Any]:
        return {"dx": dy - np.exp(y) * self._over(dy)}
