"""Losses of elements, of distances and of probabilities, and their gradients.

Names, argument order, defaults and rules are those of torch.nn.functional. ``NAME_backward(dy, ...)`` is the gradient
in x, the first argument; dy has the shape of the loss: that of a number, mostly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import flag, number, word
from ..arrays import DTYPE_NAMES, as_array, as_gradient, as_operand, as_output, new_array
from ..dispatch import chooser
from ..spec import LossSpec, Types

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_backward", "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward", "huber_loss", "huber_loss_backward", "kl_div", "kl_div_backward",
    "l1_loss", "l1_loss_backward", "mse_loss", "mse_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward",
]  # fmt: skip

REDUCTIONS = ("none", "mean", "sum")


def operand(name: str, value: Any, like: np.ndarray | None = None) -> np.ndarray:
    value = as_operand(name, value, None if like is None else like.dtype)
    if like is not None and value.shape != like.shape:
        raise ValueError(f"{name} has shape {value.shape}: allowed is {like.shape}, the shape of x")
    return value


def spread_over(dy: Any, shape: tuple[int, ...], dtype: np.dtype, reduction: str, count: Any) -> np.ndarray:
    """What dy means for the loss of each element; of that shape, or for all the same."""
    dy = as_gradient(dy, shape if reduction == "none" else (), dtype, "the loss")
    if reduction != "mean":
        return dy
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(dy / dtype.type(count))


def _make(kind: str, dtype: np.dtype, *problem: Any) -> LossSpec:
    return LossSpec(kind, Types.of(DTYPE_NAMES[dtype]), *problem)


_choose = chooser(_make)


def _pair(x: Any, target: Any, reduction: Any, more: tuple[str, ...] = ()) -> tuple[np.ndarray, np.ndarray, str]:
    x = operand("x", x)
    return x, operand("target", target, x), word("reduction", reduction, (*REDUCTIONS, *more))


def _border(name: str, value: Any) -> float:
    """``delta`` or ``beta``, of which the latter may be 0."""
    value = number(name, value)
    if not value >= 0 or (name == "delta" and value == 0):
        raise ValueError(f"{name}={value!r}: allowed is a number over 0{'' if name == 'delta' else ', or 0'}")
    return value


def _weights(name: str, value: Any, x: np.ndarray) -> np.ndarray | None:
    """Factors that broadcast to x, with all of its axes."""
    if value is None:
        return None
    value = as_array(name, value, x.dtype)
    fits = value.ndim <= x.ndim and all(s in (1, t) for s, t in zip(value.shape[::-1], x.shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"{name} has shape {value.shape}: allowed is what broadcasts to {x.shape}")
    return value.reshape(*(1,) * (x.ndim - value.ndim), *value.shape)


def _count(x: np.ndarray, reduction: str) -> int:
    """What a mean is divided by."""
    return x.shape[0] if reduction == "batchmean" and x.ndim else x.size


def run_loss(kind: str, x: np.ndarray, parameter: float, *arrays: np.ndarray | None, **problem: Any) -> None:
    """One kernel call. arrays: the target, two of factors, dy, and the result."""
    factors = arrays[1] is not None, arrays[2] is not None
    direction, reduced, divisor = problem["direction"], problem.get("reduced", False), problem.get("divisor", 1.0)
    choice = _choose(kind, x.dtype, x.shape, direction, reduced, parameter, divisor, factors)
    try:
        choice.kernel(x, *arrays)
    except ValueError:
        if kind == "binary" and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(f"x runs from {x.min()} to {x.max()}: allowed is 0 to 1") from None
        raise


def _loss(
    kind: str, x: np.ndarray, target: np.ndarray, reduction: str, parameter: float = 0.0,
    weight: np.ndarray | None = None, pos_weight: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The loss of each element, or their sum, or what is left of it divided by their number."""
    if reduction == "none":
        y = new_array(x.shape, x.dtype)
        if x.size:
            run_loss(kind, x, parameter, target, weight, pos_weight, None, y, direction="fwd")
        return y
    y = new_array((), x.dtype)
    divisor = 1.0 if reduction == "sum" else float(_count(x, reduction))
    if x.size:
        more = {"direction": "fwd", "reduced": True, "divisor": divisor}
        run_loss(kind, x, parameter, target, weight, pos_weight, None, y, **more)
    else:
        y.fill(0 if divisor else np.nan)
    return y


def _gradient(
    kind: str, dy: Any, out: Any, x: np.ndarray, target: np.ndarray, reduction: str, parameter: float = 0.0,
    weight: np.ndarray | None = None, pos_weight: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    mean = "mean" if reduction == "batchmean" else reduction
    spread = spread_over(dy, x.shape, x.dtype, mean, _count(x, reduction))
    dx = as_output(out, x.shape, x.dtype, spread, x, target, weight, pos_weight)
    if x.size:
        spread = spread if spread.ndim else spread.reshape((1,) * x.ndim)
        run_loss(kind, x, parameter, target, weight, pos_weight, spread, dx, direction="bwd_input")
    return dx if out is None else out


# ------------------------------------------------------------------------------------------------------ of distances


def mse_loss(x: np.ndarray, target: np.ndarray, reduction: str = "mean") -> np.ndarray:
    """``(x - target)^2``: of each element, their ``"sum"`` or ``"mean"``. Two arrays of one shape and dtype.

    float32 or float64; sums are added in double precision and rounded once. Raises TypeError or ValueError, before any
    work, that names the argument, its value and what is allowed.
    """
    return _loss("mse", *_pair(x, target, reduction))


def mse_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, reduction: str = "mean", *, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``mse_loss(x, target, reduction)`` in x: dy, of the shape of the loss -> dx, of the shape of x.

    ``out``: an array for dx, which shares no memory with the others; it is returned.
    """
    return _gradient("mse", dy, out, *_pair(x, target, reduction))


def l1_loss(x: np.ndarray, target: np.ndarray, reduction: str = "mean") -> np.ndarray:
    """``abs(x - target)``. Arguments and errors are those of ``mse_loss``."""
    return _loss("l1", *_pair(x, target, reduction))


def l1_loss_backward(
    dy: np.ndarray, x: np.ndarray, target: np.ndarray, reduction: str = "mean", *, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of ``l1_loss(x, target, reduction)`` in x, 0 where both are equal: as ``mse_loss_backward``."""
    return _gradient("l1", dy, out, *_pair(x, target, reduction))


def huber_loss(x: np.ndarray, target: np.ndarray, reduction: str = "mean", delta: float = 1.0) -> np.ndarray:
    """``d^2 / 2`` where d, which is ``abs(x - target)``, is at most ``delta``, else ``delta (d - delta / 2)``.

    Arguments and errors are those of ``mse_loss``.
    """
    return _loss("huber", *_pair(x, target, reduction), _border("delta", delta))


def huber_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    reduction: str = "mean",
    delta: float = 1.0,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``huber_loss(x, target, reduction, delta)`` in x: as ``mse_loss_backward``."""
    return _gradient("huber", dy, out, *_pair(x, target, reduction), _border("delta", delta))


def smooth_l1_loss(x: np.ndarray, target: np.ndarray, reduction: str = "mean", beta: float = 1.0) -> np.ndarray:
    """``d^2 / (2 beta)`` where d, which is ``abs(x - target)``, is less than ``beta``, else ``d - beta / 2``.

    Arguments and errors are those of ``mse_loss``.
    """
    return _loss("smooth_l1", *_pair(x, target, reduction), _border("beta", beta))


def smooth_l1_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    reduction: str = "mean",
    beta: float = 1.0,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``smooth_l1_loss(x, target, reduction, beta)`` in x: as ``mse_loss_backward``."""
    return _gradient("smooth_l1", dy, out, *_pair(x, target, reduction), _border("beta", beta))


# -------------------------------------------------------------------------------------------------- of probabilities


def binary_cross_entropy(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, reduction: str = "mean"
) -> np.ndarray:
    """``-weight (target log(x) + (1 - target) log(1 - x))`` of probabilities x; a logarithm counts as -100 at least.

    ``weight`` broadcasts to x. The other arguments and errors are those of ``mse_loss``; ValueError also where x is
    not from 0 to 1.
    """
    x, target, reduction = _pair(x, target, reduction)
    return _loss("binary", x, target, reduction, weight=_weights("weight", weight, x))


def binary_cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``binary_cross_entropy(x, ...)`` in x: as ``mse_loss_backward``. x (1 - x) is 1e-12 at least.

    That x is not from 0 to 1 is found out while ``out`` is written.
    """
    x, target, reduction = _pair(x, target, reduction)
    return _gradient("binary", dy, out, x, target, reduction, weight=_weights("weight", weight, x))


def binary_cross_entropy_with_logits(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
    pos_weight: np.ndarray | None = None,
) -> np.ndarray:
    """``binary_cross_entropy(sigmoid(x), ...)``, without an overflow. ``pos_weight``, a factor of the part with target.

    ``weight`` and ``pos_weight`` broadcast to x. The other arguments and errors are those of ``mse_loss``.
    """
    x, target, reduction = _pair(x, target, reduction)
    factors = _weights("weight", weight, x), _weights("pos_weight", pos_weight, x)
    return _loss("binary_logits", x, target, reduction, 0.0, *factors)


def binary_cross_entropy_with_logits_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    reduction: str = "mean",
    pos_weight: np.ndarray | None = None,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``binary_cross_entropy_with_logits(x, ...)`` in x: as ``mse_loss_backward``."""
    x, target, reduction = _pair(x, target, reduction)
    factors = _weights("weight", weight, x), _weights("pos_weight", pos_weight, x)
    return _gradient("binary_logits", dy, out, x, target, reduction, 0.0, *factors)


def kl_div(x: np.ndarray, target: np.ndarray, reduction: str = "mean", log_target: bool = False) -> np.ndarray:
    """``target (log(target) - x)``, of x that are logarithms of probabilities; of ``log_target`` the targets, too.

    ``reduction`` may also be ``"batchmean"``: the sum divided by the first size of x. A target of 0 gives 0. The other
    arguments and errors are those of ``mse_loss``.
    """
    problem = _pair(x, target, reduction, ("batchmean",))
    return _loss("kl_log" if flag("log_target", log_target) else "kl", *problem)


def kl_div_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    reduction: str = "mean",
    log_target: bool = False,
    *,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``kl_div(x, ...)`` in x: as ``mse_loss_backward``."""
    problem = _pair(x, target, reduction, ("batchmean",))
    return _gradient("kl_log" if flag("log_target", log_target) else "kl", dy, out, *problem)
