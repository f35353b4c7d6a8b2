"""Losses of classes, by their numbers or by probabilities, and their gradients. Rules are those of ``ops.loss``."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arguments import number, shown, word
from ..arrays import as_array, new_array
from ..spec import check_elements, kept_shape
from .loss import REDUCTIONS, operand, run_loss, spread_over
from .reduce import reduced, sums

__all__ = ["cross_entropy", "cross_entropy_backward", "nll_loss", "nll_loss_backward"]


def _reduced(loss: np.ndarray, reduction: str, count: Any) -> np.ndarray:
    """The loss of each element as it is returned: all, or their sum, divided by ``count`` for a mean."""
    if reduction == "none":
        return loss
    total = sums(loss, tuple(range(loss.ndim)))
    if reduction == "sum":
        return total
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / loss.dtype.type(count))


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
                self.every = np.expand_dims(counted, self.axis).astype(dtype) * dtype.type(smoothing / max(classes, 1))
                self.single = self.single * dtype.type(1 - smoothing)
        elif target.shape == x.shape and target.dtype.kind == "f" and not numbers_alone:
            if ignore_index >= 0:
                raise ValueError(f"ignore_index={ignore_index}: allowed is a class for targets of ints only")
            self.every = target.astype(dtype, copy=False)
            if smoothing:
                self.every = self.every * dtype.type(1 - smoothing) + dtype.type(smoothing / max(classes, 1))
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

    def loss(self, logs: _Logs) -> np.ndarray:
        """Of each position."""
        loss = np.zeros(self.positions, logs.x.dtype)
        if self.own is not None and logs.x.size:
            loss -= _product(self.single, logs.of(self.own)).reshape(self.positions)
        if self.every is not None and logs.x.size:
            log_p = logs.every()
            loss -= sums(_product(np.broadcast_to(self.every, log_p.shape), log_p), (self.axis,))
        return loss

    def gradient(self, spread: np.ndarray, x: np.ndarray) -> np.ndarray:
        """In the logarithms of the probabilities, of the shape of x; spread: what dy is for each position."""
        spread = np.expand_dims(spread, self.axis) if spread.ndim else spread
        gradient = new_array(x.shape, x.dtype)
        with np.errstate(invalid="ignore"):  # where nothing counts, spread is infinite
            gradient[...] = 0 if self.every is None else -self.every * spread
            if self.own is not None and x.size:
                value = np.take_along_axis(gradient, self.own, self.axis) - self.single * spread
                np.put_along_axis(gradient, self.own, value, self.axis)
        return gradient

    def gradient_of_logits(self, spread: np.ndarray, logits: _Logits) -> np.ndarray:
        """The same in what the softmax is of."""
        x = logits.x
        dx = new_array(x.shape, x.dtype)
        if x.size and self.every is None:
            spread = np.expand_dims(spread, self.axis) if spread.ndim else spread
            with np.errstate(invalid="ignore"):
                factors = self.single * spread
                # The class's own probability less 1, with its digits where it is near 1.
                own = np.expm1(logits.of(self.own)) * factors
            run_loss("classes", x, 0.0, logits.most, None, logits.log_sum, factors, dx, direction="bwd_input")
            np.put_along_axis(dx, self.own, own, self.axis)
        elif x.size:
            operands = (self.gradient(spread, x), logits.every(), *(None,) * 4)
            reduced("log_softmax_backward", (self.axis,), operands, (dx, None, None, None))
        return dx


class _Logs:
    """Logarithms of probabilities along an axis."""

    def __init__(self, x: np.ndarray, axis: int) -> None:
        self.x, self.axis = x, axis

    def of(self, classes: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.x, classes, self.axis)

    def every(self) -> np.ndarray:
        return self.x


class _Logits(_Logs):
    """Those of the softmax of x: in two numbers a position, as long as not all are asked for."""

    def __init__(self, x: np.ndarray, axis: int) -> None:
        super().__init__(x, axis)
        shape = kept_shape(x.shape, (axis,))
        self.most, self.log_sum = new_array(shape, x.dtype), new_array(shape, x.dtype)
        if x.size:
            reduced("log_softmax", (axis,), (x, *(None,) * 5), (None, self.most, self.log_sum, None))

    def of(self, classes: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # of infinite ones
            return np.asarray(super().of(classes) - self.most - self.log_sum)

    def every(self) -> np.ndarray:
        log_p = new_array(self.x.shape, self.x.dtype)
        if self.x.size:
            reduced("log_softmax", (self.axis,), (self.x, *(None,) * 5), (log_p, None, None, None))
        return log_p


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
    x, smoothing = operand("x", x), _smoothing(label_smoothing)
    reduction = word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, smoothing)
    return _reduced(targets.loss(_Logits(x, targets.axis)), reduction, targets.count)


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
    x, smoothing = operand("x", x), _smoothing(label_smoothing)
    reduction = word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, smoothing)
    spread = spread_over(dy, targets.positions, x.dtype, reduction, targets.count)
    return targets.gradient_of_logits(spread, _Logits(x, targets.axis))


def mean_cross_entropy(
    x: np.ndarray, target: Any, weight: Any, ignore_index: Any, label_smoothing: Any, name: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """The mean of ``cross_entropy``, its gradient in x, and what it is divided by. ``name``: the target's, for errors.

    The softmax of both is computed once.
    """
    targets = _Targets(x, target, weight, ignore_index, _smoothing(label_smoothing), name=name)
    logits, count = _Logits(x, targets.axis), float(targets.count)
    spread = spread_over(np.ones((), x.dtype), targets.positions, x.dtype, "mean", count)
    return _reduced(targets.loss(logits), "mean", count), targets.gradient_of_logits(spread, logits), count


def nll_loss(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> np.ndarray:
    """``-x[target]``, of x that are logarithms of probabilities: ``cross_entropy`` without its softmax."""
    x, reduction = operand("x", x), word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, 0.0, True)
    return _reduced(targets.loss(_Logs(x, targets.axis)), reduction, targets.count)


def nll_loss_backward(
    dy: np.ndarray,
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> np.ndarray:
    """Gradient of ``nll_loss(x, ...)`` in x: dy, of the shape of the loss -> dx, of the shape of x."""
    x, reduction = operand("x", x), word("reduction", reduction, REDUCTIONS)
    targets = _Targets(x, target, weight, ignore_index, 0.0, True)
    return targets.gradient(spread_over(dy, targets.positions, x.dtype, reduction, targets.count), x)
