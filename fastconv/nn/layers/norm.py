"""Normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...arrays import as_array
from ...ops.batch_norm import batch_norm, batch_norm_backward
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
        w, b = (None if p is None else p.value for p in (self.weight, self.bias))
        arguments = (self.running_mean, self.running_var, w, b, self.training, self.momentum, self.eps)
        layout = "NCHW" if axis == 1 else "NHWC"  # of any rank
        y, *statistics = batch_norm(array, *arguments, layout=layout, return_statistics=True)
        gradients = _last_result(
            lambda dy: batch_norm_backward(dy, array, *arguments, layout=layout, statistics=statistics)
        )
        operands = (x, self.weight, self.bias)
        return record(y, *((o, lambda dy, i=i: gradients(dy)[i]) for i, o in enumerate(operands) if o is not None))


def _last_result(function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """The function, which for the same array as at the last call returns what it returned then."""
    last: list[Any] = [None, None]

    def call(array: np.ndarray) -> Any:
        if last[0] is not array:
            last[:] = array, function(array)
        return last[1]

    return call
