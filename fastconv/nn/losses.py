"""Losses: functions ``(y, t) -> (loss, gradient of the loss in y)``, averaged over the batch."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..arrays import as_array

__all__ = ["as_numbers", "check_classes", "cross_entropy", "mse"]


def cross_entropy(
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[float, np.ndarray]:
    """Mean of ``-log(softmax(logits)[target])``: that of ``torch.nn.functional``, with the gradient in the logits.

    logits (n, classes) or (n, classes, *size). targets: ints (n, *size), the number of each position's class; or
    floats of the shape of the logits, each class's probability. ``weight`` (classes,) counts a position as often as the
    weight of its class says. Positions whose int target is ``ignore_index`` do not count at all. ``label_smoothing`` in
    0 .. 1 is the share of the targets that is spread evenly over all classes. The loss of int targets is divided by
    the sum of the weights that count, that of probabilities by the number of positions.

    The softmax is inside and cannot overflow. TypeError for another dtype, ValueError for a shape, a class outside
    0 .. classes - 1, a probability outside 0 .. 1, or if nothing counts.
    """
    logits, targets = as_array("logits", logits), as_numbers("targets", targets)
    smoothing = float(label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing={label_smoothing!r}: allowed is 0 to 1")
    if logits.ndim < 2 or not logits.size:
        raise ValueError(f"logits have shape {logits.shape}: allowed is (n, classes, *size), not empty")
    classes, dtype = logits.shape[1], logits.dtype
    weights = np.ones(classes, dtype) if weight is None else _class_weights(weight, classes, dtype)
    column = weights.reshape(classes, *(1,) * (logits.ndim - 2))

    # The loss is the sum of -log(softmax) times factors, divided by total. Of ints there is one factor a position, for
    # its own class; of probabilities, and with smoothing, there is one for every class.
    positions = (logits.shape[0], *logits.shape[2:])
    own = single = every = None
    if targets.shape == positions:
        check_classes(targets, classes, ignore_index)
        counted = (targets != ignore_index)[:, None]
        own = np.where(counted, targets[:, None], 0).astype(np.intp)
        single = np.where(counted, weights[own], 0)
        total = single.sum(dtype=np.float64)
        if smoothing:
            single *= dtype.type(1 - smoothing)
            every = counted * column * dtype.type(smoothing / classes)
    elif targets.shape == logits.shape:
        if targets.dtype.kind != "f":
            raise TypeError(f"targets have dtype {targets.dtype}: allowed are floats for probabilities of every class")
        if ignore_index >= 0:
            raise ValueError(f"ignore_index={ignore_index}: allowed is a class for int targets only")
        if not (targets.min() >= 0 and targets.max() <= 1):
            raise ValueError(f"targets run from {targets.min()} to {targets.max()}: allowed are probabilities, 0 to 1")
        every = targets.astype(dtype, copy=False) * dtype.type(1 - smoothing) + dtype.type(smoothing / classes)
        every *= column
        total = np.float64(targets.size // classes)
    else:
        raise ValueError(
            f"targets have shape {targets.shape}, logits {logits.shape}: allowed is {positions}, the number of each "
            f"class, or {logits.shape}, the probability of each"
        )
    if not total > 0:
        raise ValueError(f"no target counts: all are ignore_index={ignore_index} or of a class of weight 0")

    # In place where it can be: for many classes or positions, new memory is most of the time.
    log_p = logits - logits.max(1, keepdims=True)
    gradient = np.exp(log_p)
    sums = gradient.sum(1, keepdims=True, dtype=np.float64)
    log_p -= np.log(sums).astype(dtype)
    loss, of_position = 0.0, np.zeros_like(sums)
    if single is not None:
        loss -= _dot(single, np.take_along_axis(log_p, own, 1))
        of_position += single
    if every is not None:
        loss -= _dot(every, log_p)
        of_position += every.sum(1, keepdims=True, dtype=np.float64)
    gradient *= (of_position / sums).astype(dtype)
    if single is not None:
        np.put_along_axis(gradient, own, np.take_along_axis(gradient, own, 1) - single, 1)
    if every is not None:
        gradient -= every
    gradient /= dtype.type(total)
    return loss / float(total), gradient


def _dot(factors: np.ndarray, logs: np.ndarray) -> float:
    # A class that cannot be, the logarithm of 0, adds nothing where its factor is 0.
    return float(np.multiply(factors, logs, where=factors != 0, out=np.zeros_like(logs)).sum(dtype=np.float64))


def check_classes(targets: np.ndarray, classes: int, ignore_index: int = -100) -> None:
    """TypeError unless the targets are ints, ValueError unless each is below ``classes`` or ``ignore_index``."""
    operator.index(ignore_index)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets have dtype {targets.dtype}: allowed are ints, the number of each sample's class")
    counted = targets[targets != ignore_index]
    if counted.size and (counted.min() < 0 or counted.max() >= classes):
        raise ValueError(f"targets run from {counted.min()} to {counted.max()}: allowed is 0 to {classes - 1}")


def mse(y: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of ``(y - targets)^2`` over all elements. Two arrays of one shape -> loss, gradient of that shape.

    TypeError for another dtype of y than the operators', ValueError for another shape or an empty one.
    """
    y, targets = as_array("y", y), as_numbers("targets", targets)
    if y.shape != targets.shape or not y.size:
        raise ValueError(f"y has shape {y.shape}, targets {targets.shape}: allowed is one shape, not empty")
    difference = y - targets.astype(y.dtype, copy=False)
    loss = float(np.square(difference).mean(dtype=np.float64))
    return loss, difference * y.dtype.type(2 / y.size)


def as_numbers(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of real numbers; TypeError for what hides or is none: a masked array, objects, text."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: allowed is an array without a mask")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}: allowed are ints and floats")
    return array


def _class_weights(weight: Any, classes: int, dtype: np.dtype) -> np.ndarray:
    weight = as_array("weight", weight, dtype)
    if weight.shape != (classes,):
        raise ValueError(f"weight has shape {weight.shape}: allowed is {(classes,)}, one a class")
    if not (np.isfinite(weight).all() and weight.min() >= 0):
        raise ValueError(f"weight={weight!r}: allowed are finite numbers that are not negative")
    return weight
