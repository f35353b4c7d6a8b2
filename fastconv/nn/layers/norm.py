"""Normalisation."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ...arrays import as_array
from ...ops.reduce import sums
from ..init import parameter_dtype
from ..module import Module
from ..parameter import Parameter
from ..tape import record
from ._arguments import positive

__all__ = ["BatchNorm"]


class BatchNorm(Module):
    """Batch normalisation of any rank. x (n, c, *size) -> y of the same shape; c = ``num_features``.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` a channel. In training, mean and (biased) variance are those
    of the batch, and ``running = (1 - momentum) running + momentum batch`` keeps both (the variance unbiased) for
    evaluation mode. Without ``affine`` there are no weight and bias. ``layout`` is one of any operator: "NCHW" and
    "NHWC" stand for any rank, and in (n, c) all are the same.
    """

    buffers = ("running_mean", "running_var")
    ignored = ("num_batches_tracked",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        layout: str = "NCHW",
        dtype: Any = np.float32,
    ) -> None:
        c, dtype = positive(num_features, "num_features"), parameter_dtype(dtype)
        if not eps > 0:
            raise ValueError(f"eps={eps!r}: allowed is more than 0")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum!r}: allowed is 0 to 1")
        self._set_layout(layout)
        self.eps, self.momentum = float(eps), float(momentum)
        self.weight = Parameter(np.ones(c, dtype)) if affine else None
        self.bias = Parameter(np.zeros(c, dtype)) if affine else None
        self.running_mean = np.zeros(c, dtype)
        self.running_var = np.ones(c, dtype)

    def __repr__(self) -> str:
        return f"BatchNorm({len(self.running_mean)})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        array = as_array("x", x, self.running_mean.dtype)
        c, axis = len(self.running_mean), self.channel_axis
        rank = len(self.layout)
        if array.ndim < 2 or array.shape[axis] != c or (rank != 4 and array.ndim not in (2, rank)):
            raise ValueError(f"x has shape {array.shape}: allowed is {c} channels on axis {axis} ({self.layout})")
        channel = axis % array.ndim
        axes = tuple(a for a in range(array.ndim) if a != channel)
        shape = [1] * array.ndim
        shape[channel] = c
        training = self.training
        mean, var = self._statistics(array, axes) if training else (self.running_mean, self.running_var)
        inverse = (1 / np.sqrt(var + self.eps)).astype(array.dtype).reshape(shape)
        normal = (array - mean.astype(array.dtype).reshape(shape)) * inverse
        scale = inverse if self.weight is None else inverse * self.weight.value.reshape(shape)
        totals = _last_result(lambda dy: (sums(dy, axes), sums(dy * normal, axes)))

        def backward_input(dy: np.ndarray) -> np.ndarray:
            if training:  # mean and variance depend on x
                of_dy, of_product = (total.reshape(shape) / (array.size // c) for total in totals(dy))
                dy = dy - of_dy - normal * of_product
            return dy * scale

        if self.weight is None:
            return record(normal, (x, backward_input))
        y = normal * self.weight.value.reshape(shape) + self.bias.value.reshape(shape)
        return record(
            y, (x, backward_input), (self.weight, lambda dy: totals(dy)[1]), (self.bias, lambda dy: totals(dy)[0])
        )

    def _statistics(self, x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        count = prod(x.shape[a] for a in axes)
        if count < 2:
            raise ValueError(f"x has shape {x.shape}: in training a batch needs more than one value a channel")
        # Sums in float64: a float32 variance of many values loses digits.
        mean = x.mean(axes, dtype=np.float64)
        var = x.var(axes, dtype=np.float64)
        for running, batch in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
            running += self.momentum * (batch - running)
        return mean, var


def _last_result(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """The function, which for the same array as at the last call returns what it returned then."""
    last: list[Any] = [None, None]

    def call(array: np.ndarray) -> Any:
        if last[0] is not array:
            last[:] = array, function(array)
        return last[1]

    return call
