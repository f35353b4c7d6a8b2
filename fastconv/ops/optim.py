"""Steps of optimizers, in place: one pass over a parameter, its gradient and what is remembered of earlier steps.

Names, formulas and defaults are those of torch.optim.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import numpy as np

from ..arguments import flag, integer, number, shown
from ..arrays import DTYPE_NAMES, as_array, as_updated, check_apart
from ..dispatch import chooser
from ..spec import UPDATES, Types, UpdateNumbers, UpdateSpec, check_elements

__all__ = ["adam_step", "adamw_step", "checked_betas", "rmsprop_step", "sgd_step", "within"]


def _make(rule: str, dtype: np.dtype, *problem: Any) -> UpdateSpec:
    return UpdateSpec(rule, Types.of(DTYPE_NAMES[dtype]), *problem)


_choose = chooser(_make)


def within(name: str, value: Any, below: float = inf) -> float:
    """``value`` as a number from 0 on, below another one; TypeError or ValueError names it."""
    value = number(name, value)
    if not 0 <= value < below:
        raise ValueError(f"{name}={value!r}: allowed is 0 <= {name} < {below}")
    return value


def _step(rule: str, param: Any, grad: Any, remembered: tuple[Any, ...], nesterov: bool, *numbers: float) -> None:
    """One kernel call. remembered: the arrays of ``UPDATES``, None where the rule does without."""
    param = as_updated("param", param)
    shape, dtype = param.shape, param.dtype
    check_elements("param", shape)
    grad = as_array("grad", grad, dtype)
    if grad.shape != shape:
        raise ValueError(f"grad has shape {grad.shape}: allowed is {shape}, the shape of param")
    names = UPDATES[rule]
    arrays = [
        None if array is None else as_updated(name, array, shape, dtype)
        for name, array in zip(names, remembered, strict=True)
    ]
    check_apart(param=param, grad=grad, **dict(zip(names, arrays, strict=True)))
    if param.size:
        there = tuple([array is not None for array in arrays])
        kernel = _choose(rule, dtype, shape, there, nesterov).kernel
        kernel(param, grad, *arrays, *(None,) * (3 - len(arrays)), np.array(UpdateNumbers(*numbers), np.float64))


def sgd_step(
    param: np.ndarray,
    grad: np.ndarray,
    momentum_buffer: np.ndarray | None = None,
    lr: float = 1e-3,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """A step of stochastic gradient descent: ``param`` and ``momentum_buffer`` change in place, nothing is returned.

    ``grad += weight_decay * param``; ``momentum_buffer = momentum * momentum_buffer + grad``;
    ``param -= lr * momentum_buffer``, with ``nesterov`` ``param -= lr * (grad + momentum * momentum_buffer)``; without
    a buffer ``param -= lr * grad``. The caller's ``grad`` is only read.

    All arrays have one shape and dtype, float32 or float64, any strides, and share no memory; those that change are
    writeable. The buffer is zeros before the first step, and is needed where ``momentum`` is not 0, which ``nesterov``
    needs. ``lr``, ``weight_decay``: 0 or more; ``momentum``: below 1. Raises TypeError or ValueError, before any work,
    that names the argument, its value and what is allowed.
    """
    lr, momentum, weight_decay = _rates(lr, weight_decay, momentum=momentum)
    nesterov = flag("nesterov", nesterov)
    if nesterov and not momentum:
        raise ValueError("nesterov=True: allowed only with momentum > 0")
    _needs(momentum_buffer, momentum)
    _step("sgd", param, grad, (momentum_buffer,), nesterov, lr, weight_decay, 1.0, momentum)


def _rates(lr: Any, weight_decay: Any, **fraction: Any) -> tuple[float, float, float]:
    ((name, value),) = fraction.items()
    return within("lr", lr), within(name, value, 1), within("weight_decay", weight_decay)


def _needs(momentum_buffer: Any, momentum: float) -> None:
    if momentum and momentum_buffer is None:
        raise TypeError(f"momentum_buffer is None: allowed is an array, with momentum={momentum}")


def _adam(
    param: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, step: Any, lr: Any, betas: Any, eps: Any, weight_decay: Any,
    decoupled: bool,
) -> None:  # fmt: skip
    step = integer("step", step, 1, 2**53)
    lr, eps, weight_decay = within("lr", lr), within("eps", eps), within("weight_decay", weight_decay)
    first, second = checked_betas(betas)
    for name, array in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        if array is None:
            raise TypeError(f"{name} is None: allowed is an array")
    decay, kept = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    numbers = (lr / (1 - first**step), decay, kept, 1 - first, 1 - second, eps, 1 / sqrt(1 - second**step))
    _step("adam", param, grad, (exp_avg, exp_avg_sq), False, *numbers)


def checked_betas(betas: Any) -> tuple[float, float]:
    """A pair of numbers from 0 on, below 1; TypeError or ValueError names it."""
    allowed = f"betas={shown(betas)}: allowed is a pair of numbers, 0 <= beta < 1"
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(allowed)
    try:
        return within("betas", betas[0], 1), within("betas", betas[1], 1)
    except (TypeError, ValueError) as error:
        raise type(error)(allowed) from None


def adam_step(
    param: np.ndarray,
    grad: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """A step of Adam: ``param``, ``exp_avg`` and ``exp_avg_sq`` change in place, nothing is returned.

    ``grad += weight_decay * param``; ``exp_avg += (1 - betas[0]) * (grad - exp_avg)``; ``exp_avg_sq += (1 - betas[1]) *
    (grad**2 - exp_avg_sq)``; ``param -= lr * m / (sqrt(v) + eps)``, where m and v are these two divided by
    ``1 - betas[0]**step`` and ``1 - betas[1]**step``. Both means are zeros before the first step, whose number ``step``
    is 1. ``betas``: two numbers below 1; ``eps``: 0 or more. The other arguments and errors are those of ``sgd_step``.
    """
    _adam(param, grad, exp_avg, exp_avg_sq, step, lr, betas, eps, weight_decay, False)


def adamw_step(
    param: np.ndarray,
    grad: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    step: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """A step of AdamW: as ``adam_step``, with ``param *= 1 - lr * weight_decay`` first, and the gradient as it is."""
    _adam(param, grad, exp_avg, exp_avg_sq, step, lr, betas, eps, weight_decay, True)


def rmsprop_step(
    param: np.ndarray,
    grad: np.ndarray,
    square_avg: np.ndarray,
    grad_avg: np.ndarray | None = None,
    momentum_buffer: np.ndarray | None = None,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> None:
    """A step of RMSprop: ``param`` and the arrays behind ``grad`` change in place, nothing is returned.

    ``grad += weight_decay * param``; ``square_avg += (1 - alpha) * (grad**2 - square_avg)``;
    ``move = grad / (sqrt(square_avg) + eps)``; ``param -= lr * move``. With ``grad_avg`` (centered) ``grad_avg += (1 -
    alpha) * (grad - grad_avg)``, and its square is taken off square_avg under the root. With ``momentum_buffer``
    ``momentum_buffer = momentum * momentum_buffer + move``, which then is the move. All three are zeros before the
    first step. ``alpha``: below 1. The other arguments and errors are those of ``adam_step`` and ``sgd_step``.
    """
    lr, momentum, weight_decay = _rates(lr, weight_decay, momentum=momentum)
    alpha, eps = within("alpha", alpha, 1), within("eps", eps)
    _needs(momentum_buffer, momentum)
    if square_avg is None:
        raise TypeError("square_avg is None: allowed is an array")
    numbers = (lr, weight_decay, 1.0, momentum, 1 - alpha, eps)
    _step("rmsprop", param, grad, (square_avg, grad_avg, momentum_buffer), False, *numbers)
