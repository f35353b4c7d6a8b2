"""Fully connected layers, and what usually stands before them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ...arrays import as_array
from ...ops import gemm as _gemm
from ...ops.dropout import dropout
from ...ops.reduce import sums
from ..init import initial, parameter_dtype
from ..module import Module
from ..parameter import Parameter
from ..tape import record
from ._arguments import Rng, positive

__all__ = ["Dropout", "Flatten", "Linear"]


class Flatten(Module):
    """All dimensions after the batch as one. x (n, c, *size) or (n, *size, c) -> y (n, features).

    The features are in channels-first order whatever the layout, as the weights of published networks have them.
    """

    def __init__(self, *, layout: str = "NCHW") -> None:
        self._set_layout(layout)

    def forward(self, x: np.ndarray) -> np.ndarray:
        array = as_array("x", x)
        if not array.ndim:
            raise ValueError("x has shape (): allowed is (n, ...)")
        last = self.channel_axis == -1 and array.ndim > 2
        if last:
            array = np.moveaxis(array, -1, 1)
        shape = array.shape

        def backward(dy: np.ndarray) -> np.ndarray:
            dx = dy.reshape(shape)
            return np.moveaxis(dx, 1, -1) if last else dx

        return record(array.reshape(shape[0], prod(shape[1:])), (x, backward))


class Linear(Module):
    """Fully connected layer. x (n, in) -> y (n, out) = x @ weight.T + bias; weight (out, in), bias (out,)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str = "he",
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        shape = (positive(out_features, "out_features"), positive(in_features, "in_features"))
        dtype = parameter_dtype(dtype)
        self.weight = Parameter(initial(init, shape, rng, dtype))
        self.bias = Parameter(np.zeros(shape[0], dtype)) if bias else None

    def __repr__(self) -> str:
        out, inner = self.weight.value.shape
        return f"Linear({inner}, {out})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        if np.ndim(x) != 2:
            raise ValueError(f"x has shape {np.shape(x)}: a Linear layer takes (n, features); put a Flatten before it")
        w = self.weight.value
        operands = [(x, lambda dy: _gemm.matmul(dy, w)), (self.weight, lambda dy: _gemm.matmul(dy.T, x))]
        if self.bias is None:
            return record(_gemm.linear(x, w), *operands)
        return record(_gemm.linear(x, w, self.bias.value), *operands, (self.bias, lambda dy: sums(dy, (0,))))


class Dropout(Module):
    """In training each element is set to 0 with probability ``p``, the others are divided by 1 - p.

    In evaluation mode the input passes unchanged. Each call draws the seed of its ``fastconv.dropout`` from ``rng``;
    ``fit`` gives all layers one generator.
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r}: allowed is 0 <= p < 1")
        self.p = float(p)
        self.rng = np.random.default_rng(rng)

    def __repr__(self) -> str:
        return f"Dropout({self.p:g})"

    def seed(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def forward(self, x: np.ndarray) -> np.ndarray:
        if not self.training:
            return x
        seed = int(self.rng.integers(2**63))
        return record(dropout(x, self.p, seed=seed), (x, lambda dy: dropout(dy, self.p, seed=seed)))
