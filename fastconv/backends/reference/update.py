"""Steps of optimizers as papers have them, in float64."""

from __future__ import annotations

import numpy as np

from ...spec import UpdateNumbers, UpdateSpec
from .kernel import ReferenceKernel


class UpdateKernel(ReferenceKernel):
    algorithm = "NumPy's functions"

    def __init__(self, spec: UpdateSpec) -> None:
        self.spec = spec

    def __call__(self, *arrays: np.ndarray | None) -> None:
        *given, numbers = arrays
        w, g, *remembered = [None if a is None else a.astype(np.float64) for a in given]
        n = UpdateNumbers(*numbers)
        with np.errstate(all="ignore"):
            w = n.kept * w
            if n.decay:
                g = g + n.decay * w
            move, *remembered = getattr(self, "_" + self.spec.rule)(n, g, *remembered)
            for out, value in zip((given[0], *given[2:]), (w - n.rate * move, *remembered), strict=True):
                if out is not None:
                    out[...] = value

    def _sgd(self, n: UpdateNumbers, g: np.ndarray, v: np.ndarray | None, *_: None) -> tuple[np.ndarray | None, ...]:
        if v is None:
            return g, None, None, None
        v = n.a * v + g
        return g + n.a * v if self.spec.nesterov else v, v, None, None

    def _adam(
        self, n: UpdateNumbers, g: np.ndarray, m: np.ndarray, s: np.ndarray, *_: None
    ) -> tuple[np.ndarray | None, ...]:
        m, s = (1 - n.a) * m + n.a * g, (1 - n.b) * s + n.b * g**2
        return m / (np.sqrt(s) * n.per_root + n.eps), m, s, None

    def _rmsprop(
        self, n: UpdateNumbers, g: np.ndarray, s: np.ndarray, m: np.ndarray | None, v: np.ndarray | None
    ) -> tuple[np.ndarray | None, ...]:
        s = (1 - n.b) * s + n.b * g**2
        m = None if m is None else (1 - n.b) * m + n.b * g
        move = g / (np.sqrt(s if m is None else np.maximum(s - m**2, 0)) + n.eps)
        if v is None:
            return move, s, m, None
        v = n.a * v + move
        return v, s, m, v
