"""Optimizers: ``step(parameters)`` changes every parameter by its gradient.

The memory of an optimizer (momentum) belongs to the parameter objects that it has seen: one optimizer may serve
several calls of ``fit``, or several networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sqrt
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .module import Parameter

__all__ = ["SGD", "Adam", "Optimizer", "cosine"]


def cosine(progress: float) -> float:
    """A schedule for ``fit``: from 1 at progress 0 along half a cosine to 0 at progress 1."""
    return 0.5 * (1 + cos(pi * progress))


class Optimizer:
    """A rule that moves parameters; ``lr`` and ``weight_decay`` (L2, added to the gradient) may change at any time."""

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        self.lr = _number(lr, "lr")
        self.weight_decay = _number(weight_decay, "weight_decay")
        self._state: WeakKeyDictionary[Parameter, Any] = WeakKeyDictionary()

    def step(self, parameters: Mapping[str, Parameter]) -> None:
        """Move every parameter. RuntimeError if one has no gradient."""
        for name, parameter in parameters.items():
            if parameter.grad is None:
                raise RuntimeError(f"parameter {name!r} has no gradient: call backward before step")
        for parameter in parameters.values():
            gradient = parameter.grad
            if self.weight_decay:
                gradient = gradient + parameter.value.dtype.type(self.weight_decay) * parameter.value
            self._move(parameter, gradient)

    def _move(self, parameter: Parameter, gradient: np.ndarray) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v + g``, ``w -= lr v`` (nesterov: ``w -= lr (g + momentum v)``)."""

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = _number(momentum, "momentum", below=1)
        if nesterov and not self.momentum:
            raise ValueError("nesterov=True: allowed only with momentum > 0")
        self.nesterov = bool(nesterov)

    def _move(self, parameter: Parameter, gradient: np.ndarray) -> None:
        value = parameter.value
        if self.momentum:
            velocity = self._state.setdefault(parameter, np.zeros_like(value))
            velocity *= self.momentum
            velocity += gradient
            gradient = gradient + self.momentum * velocity if self.nesterov else velocity
        value -= self.lr * gradient


class Adam(Optimizer):
    """Adam: ``w -= lr m / (sqrt(v) + eps)`` with bias-corrected running means m of g and v of g^2."""

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        beta1, beta2 = betas
        self.betas = (_number(beta1, "betas[0]", below=1), _number(beta2, "betas[1]", below=1))
        self.eps = _number(eps, "eps")

    def _move(self, parameter: Parameter, gradient: np.ndarray) -> None:
        value, (beta1, beta2) = parameter.value, self.betas
        count, m, v = self._state.get(parameter) or (0, np.zeros_like(value), np.zeros_like(value))
        count += 1
        m += (1 - beta1) * (gradient - m)
        v += (1 - beta2) * (gradient * gradient - v)
        self._state[parameter] = count, m, v
        size = self.lr / (1 - beta1**count)
        value -= size * m / (np.sqrt(v) / sqrt(1 - beta2**count) + self.eps)


def _number(value: float, name: str, below: float = float("inf")) -> float:
    if not 0 <= value < below:
        raise ValueError(f"{name}={value!r}: allowed is 0 <= {name} < {below}")
    return float(value)
