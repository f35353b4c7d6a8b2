"""Activations, each an elementwise function, and softmax."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ...arrays import as_array
from ...ops.activation import activate, activate_backward
from ...ops.softmax import softmax, softmax_backward
from ..module import CHANNEL_AXIS, Module
from ..tape import record

__all__ = ["LeakyReLU", "ReLU", "Sigmoid", "Softmax", "Tanh"]


class _Activation(Module):
    """An elementwise function; ``activation`` is what the operators call it."""

    activation: Any

    def forward(self, x: np.ndarray) -> np.ndarray:
        activation = self.activation
        return record(activate(as_array("x", x), activation), (x, lambda dy: activate_backward(dy, x, activation)))


class ReLU(_Activation):
    """``max(x, 0)``."""

    activation = "relu"


class LeakyReLU(_Activation):
    """``x`` where it is positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.activation = ("leaky_relu", float(negative_slope))

    def __repr__(self) -> str:
        return f"LeakyReLU({self.activation[1]:g})"


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``."""

    activation = "sigmoid"


class Tanh(_Activation):
    """``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``."""

    activation = "tanh"


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` over the channels of x (n, c, *size): numbers between 0 and 1 that sum to 1.

    ``axis`` names another axis. For training, feed the scores before it to ``cross_entropy``, which contains it.
    """

    def __init__(self, axis: int | None = None, *, layout: str = "NCHW") -> None:
        self.axis = None
        self._set_layout(layout)
        self.axis = None if axis is None else operator.index(axis)

    def __repr__(self) -> str:
        return "Softmax()" if self.axis is None else f"Softmax(axis {self.axis})"

    def _check_layout(self, layout: str) -> None:
        super()._check_layout(layout)
        if self.axis is not None and CHANNEL_AXIS[layout] != self.channel_axis:
            raise ValueError(f"{self!r} has an axis of its own: allowed is Softmax(), over the channels of any layout")

    def forward(self, x: np.ndarray) -> np.ndarray:
        if self.axis is None and as_array("x", x).ndim < 2:
            raise ValueError(f"x has shape {x.shape}: allowed is (n, c, *size), or give Softmax an axis")
        axis = self.channel_axis if self.axis is None else self.axis
        y = softmax(x, axis)
        return record(y, (x, lambda dy: softmax_backward(dy, x, axis, y=y)))
