"""Losses and their gradients: of classes, of probabilities, and of distances.

Names, argument order, defaults and rules are those of torch.nn.functional. ``NAME_backward(dy, ...)`` is the gradient
in x, the first argument; dy has the shape of the loss: that of a number, mostly.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arguments import flag, number, shown, word
from ..arrays import DTYPE_NAMES, as_array, as_gradient, as_operand, as_output, new_array
from ..dispatch import chooser
from ..spec import LossSpec, Types, check_elements
from .reduce import reduced, sums

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_backward", "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward", "cross_entropy", "cross_entropy_backward", "huber_loss",
    "huber_loss_backward", "kl_div", "kl_div_backward", "l1_loss", "l1_loss_backward", "mse_loss",
    "mse_loss_backward", "nll_loss", "nll_loss_backward", "smooth_l1_loss", "smooth_l1_loss_backward",
]  # fmt: skip

REDUCTIONS = ("none", "mean", "sum")


# ------------------------------------------------------------------------------------------------ what all share


def _array(name: str, value: Any, like: np.ndarray | None = None) -> np.ndarray:
    value = as_operand(name, value, None if like is None else like.dtype)
    if like is not None and value.shape != like.shape:
        raise ValueError(f"{name} has shape {value.shape}: allowed is {like.shape}, the shape of x")
    return value


def _reduced(loss: np.ndarray, reduction: str, count: Any) -> np.ndarray:
    """The loss of each element as it is returned: all, or their sum, divided by ``count`` for a mean."""
    if reduction == "none":
        return loss
    total = sums(loss, tuple(range(loss.ndim)))
    if reduction == "sum":
        return total
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / loss.dtype.type(count))


def _spread(dy: Any, shape: tuple[int, ...], dtype: np.dtype, reduction: str, count: Any) -> np.ndarray:
    """What dy means for the loss of each element; of that shape, or for all the same."""
    dy = as_gradient(dy, shape if reduction == "none" else (), dtype, "the loss")
    if reduction != "mean":
        return dy
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(dy / dtype.type(count))


# ------------------------------------------------------------------------------------------------------ of classes


class _Targets:
    """What the targets of a classification ask for, checked. Logits are (n, classes, *size), or (classes,).

    ``own``, of classes by their numbers: (n, 1, *size) indices, and ``single`` the factors of these classes.
    ``every``: the factors of all classes, as they broadcast to the logits. ``count``: what a mean divides by.
    """

    def __init__(
        self,
        x: np.ndarray,
        target: Any,
        weight: Any,
        ignore_index: Any,
        smoothing: float,
        numbers_alone: bool = False,
        name: str = "target",
    ) -> None:
        if not x.ndim:
            raise ValueError("x has shape (): allowed is (n, classes, *size) or (classes,)")
        self.axis = 1 if x.ndim > 1 else 0
        classes, dtype = x.shape[self.axis], x.dtype
        self.positions = (*x.shape[: self.axis], *x.shape[self.axis + 1 :])
        column = _class_weights(weight, classes, dtype)
        column = None if column is None else column.reshape(classes, *(1,) * (x.ndim - self.axis - 1))
        target = _numbers(name, target)
        ignore_index = _index("ignore_index", ignore_index)
        self.own = self.single = self.every = None
        if target.shape == self.positions and target.dtype.kind in "iu":
            counted = target != ignore_index
            check_classes(name, target[counted], classes)
            own = np.where(counted, target, 0).astype(np.intp)
            factors = counted.astype(dtype)
            if column is not None:
                factors *= column.reshape(-1)[own] if classes else 1
            self.own, self.single = np.expand_dims(own, self.axis), np.expand_dims(factors, self.axis)
            self.count = factors.sum(dtype=np.float64)
            if smoothing:
                self.every = np.expand_dims(counted, self.axis).astype(dtype) * dtype.type(smoothing / classes)
                self.single = self.single * dtype.type(1 - smoothing)
        elif target.shape == x.shape and target.dtype.kind == "f" and not numbers_alone:
            if ignore_index >= 0:
                raise ValueError(f"ignore_index={ignore_index}: allowed is a class for targets of ints only")
            self.every = target.astype(dtype, copy=False)
            if smoothing:
                self.every = self.every * dtype.type(1 - smoothing) + dtype.type(smoothing / classes)
            self.count = prod(self.positions)
        else:
            wanted = f"{self.positions} of ints, the number of each class"
            wanted += "" if numbers_alone else f", or {x.shape} of floats, the probability of each"
            fits = target.shape == self.positions or (target.shape == x.shape and not numbers_alone)
            raise (TypeError if fits else ValueError)(
                f"{name} has shape {target.shape} and dtype {target.dtype}: allowed is {wanted}"
            )
        if self.every is not None and column is not None:
            self.every = self.every * column

    def loss(self, log_p: np.ndarray) -> np.ndarray:
        """Of each position."""
        loss = np.zeros(self.positions, log_p.dtype)
        if self.own is not None and log_p.size:
            loss -= _product(self.single, np.take_along_axis(log_p, self.own, self.axis)).reshape(self.positions)
        if self.every is not None and log_p.size:
            loss -= sums(_product(np.broadcast_to(self.every, log_p.shape), log_p), (self.axis,))
        return loss

    def gradient(self, spread: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        """In the logarithms of the probabilities; spread: what dy is for each position."""
        spread = np.expand_dims(spread, self.axis) if spread.ndim else spread
        gradient = new_array(log_p.shape, log_p.dtype)
        with np.errstate(invalid="ignore"):  # where nothing counts, spread is infinite
            gradient[...] = 0 if self.every is None else -self.every * spread
            if self.own is not None and log_p.size:
                value = np.take_along_axis(gradient, self.own, self.axis) - self.single * spread
                np.put_along_axis(gradient, self.own, value, self.axis)
        return gradient


def _product(factors: np.ndarray, logs: np.ndarray) -> np.ndarray:
    # A class that cannot be, the logarithm of 0, adds nothing where its factor is 0.
    return np.multiply(factors, logs, where=factors != 0, out=np.zeros(logs.shape, logs.dtype))


def _numbers(name: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray) or value.dtype.kind not in "iuf":
        given = value.dtype if type(value) is np.ndarray else type(value).__name__
        raise TypeError(f"{name} is of {given}: allowed is a NumPy array of ints or floats")
    if type(value).__array_ufunc__ is not np.ndarray.__array_ufunc__:
        raise TypeError(f"{name} is a {type(value).__name__}: allowed is an array without arithmetic of its own")
    check_elements(name, value.shape)
    return np.asarray(value)


def _index(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={shown(value)}: allowed is an int")
    return int(value)


def check_classes(name: str, target: np.ndarray, classes: int) -> None:
    """ValueError unless each of some ints is the number of a class."""
    if target.size and (target.min() < 0 or target.max() >= classes):
        raise ValueError(f"{name} runs from {target.min()} to {target.max()}: allowed is 0 to {classes - 1}")


def _class_weights(weight: Any, classes: int, dtype: np.dtype) -> np.ndarray | None:
    if weight is None:
        return None
    weight = as_array("weight", weight, dtype)
    if weight.shape != (classes,):
        raise ValueError(f"weight has shape {weight.shape}: allowed is {(classes,)}, one a class")
    return weight


def _log_p(x: np.ndarray, axis: int) -> np.ndarray:
    log_p = new_array(x.shape, x.dtype)
    if x.size:
        reduced("log_softmax", (axis,), (x, *(None,) * 5), (log_p, None, None, None))
    return log_p


def _smoothing(value: Any) -> float:
    value = number("label_smoothing", value)
    if not 0 <= value <= 1:
        raise ValueError(f"label_smoothing={value!r}: allowed is 0 to 1")
    return value


def cross_entropy(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """``-log(softmax(x)[target])``. x (n, classes, *size), or (classes,) -> the loss of each position, or their mean.

    target: ints (n, *size), the number of each position's class; or floats of the shape of x, the probability of each
    class. ``weight`` (classes,) counts a position as often as the weight of its class says. Positions whose int is
    ``ignore_index`` do not count. ``label_smoothing`` is the share of the targets that is spread over all classes.
    ``reduction``: ``"none"`` (n, *size), ``"sum"``, or ``"mean"``: divided by the sum of the weights that count, of
    probabilities by the number of positions; where nothing counts, it is NaN. float32 or float64.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x, smoothing = _array("x", x), _smoothing(label_smoothing)
    reduction = word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, smoothing)
    return _reduced(targets.loss(_log_p(x, targets.axis)), reduction, targets.count)


def cross_entropy_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """Gradient of ``cross_entropy(x, ...)`` in x: dy, of the shape of the loss -> dx, of the shape of x."""
    x, smoothing = _array("x", x), _smoothing(label_smoothing)
    reduction = word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, smoothing)
    spread = _spread(dy, targets.positions, x.dtype, reduction, targets.count)
    return _gradient_of_logits(targets, spread, _log_p(x, targets.axis))


def _gradient_of_logits(targets: _Targets, spread: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    dx = new_array(log_p.shape, log_p.dtype)
    if dx.size:
        operands = (targets.gradient(spread, log_p), log_p, *(None,) * 4)
        reduced("log_softmax_backward", (targets.axis,), operands, (dx, None, None, None))
    return dx


def mean_cross_entropy(
    x: np.ndarray, target: Any, weight: Any, ignore_index: Any, label_smoothing: Any, name: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of ``cross_entropy``, its gradient in x, and what it is divided by. ``name``: the target's, for errors.

    The softmax of both is computed once.
    """
    targets = _Targets(x, target, weight, ignore_index, _smoothing(label_smoothing), name=name)
    log_p, count = _log_p(x, targets.axis), float(targets.count)
    spread = _spread(np.ones((), x.dtype), targets.positions, x.dtype, "mean", count)
    return _reduced(targets.loss(log_p), "mean", count), _gradient_of_logits(targets, spread, log_p), count


def nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> np.ndarray:
    """``-x[target]``, of x that are logarithms of probabilities: ``cross_entropy`` without its softmax."""
    x, reduction = _array("x", x), word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, 0.0, True)
    return _reduced(targets.loss(x), reduction, targets.count)


def nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> np.ndarray:
    """Gradient of ``nll_loss(x, ...)`` in x: dy, of the shape of the loss -> dx, of the shape of x."""
    x, reduction = _array("x", x), word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, 0.0, True)
    return targets.gradient(_spread(dy, targets.positions, x.dtype, reduction, targets.count), x)


# ------------------------------------------------------------------------------------------------------ of elements


def _make(kind: str, dtype: np.dtype, *problem: Any) -> LossSpec:
    return LossSpec(kind, Types.of(DTYPE_NAMES[dtype]), *problem)


_choose = chooser(_make)


def _pair(x: Any, target: Any, reduction: Any, more: tuple[str, ...] = ()) -> tuple[np.ndarray, np.ndarray, str]:
    x = _array("x", x)
    return x, _array("target", target, x), word("reduction", reduction, (*REDUCTIONS, *more))


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


def _run(kind: str, x: np.ndarray, parameter: float, *arrays: np.ndarray | None, **problem: Any) -> None:
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
            _run(kind, x, parameter, target, weight, pos_weight, None, y, direction="fwd")
        return y
    y = new_array((), x.dtype)
    divisor = 1.0 if reduction == "sum" else float(_count(x, reduction))
    if x.size:
        more = {"direction": "fwd", "reduced": True, "divisor": divisor}
        _run(kind, x, parameter, target, weight, pos_weight, None, y, **more)
    else:
        y.fill(0 if divisor else np.nan)
    return y


def _gradient(
    kind: str, dy: Any, out: Any, x: np.ndarray, target: np.ndarray, reduction: str, parameter: float = 0.0,
    weight: np.ndarray | None = None, pos_weight: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    mean = "mean" if reduction == "batchmean" else reduction
    spread = _spread(dy, x.shape, x.dtype, mean, _count(x, reduction))
    dx = as_output(out, x.shape, x.dtype, spread, x, target, weight, pos_weight)
    if x.size:
        spread = spread if spread.ndim else spread.reshape((1,) * x.ndim)
        _run(kind, x, parameter, target, weight, pos_weight, spread, dx, direction="bwd_input")
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
