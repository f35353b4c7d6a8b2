"""Losses: functions ``(y, t) -> (loss, gradient of the loss in y)``, averaged over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import as_array
from ..ops import loss as _loss
from ..ops.cross_entropy import mean_cross_entropy

__all__ = ["as_numbers", "cross_entropy", "mse"]


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
    if logits.ndim < 2 or not logits.size:
        raise ValueError(f"logits have shape {logits.shape}: allowed is (n, classes, *size), not empty")
    if weight is not None:
        weight = as_array("weight", weight, logits.dtype)
        if not (np.isfinite(weight).all() and weight.min(initial=0) >= 0):
            raise ValueError(f"weight={weight!r}: allowed are finite numbers that are not negative")
    if targets.dtype.kind == "f" and targets.size and not (targets.min() >= 0 and targets.max() <= 1):
        raise ValueError(f"targets run from {targets.min()} to {targets.max()}: allowed are probabilities, 0 to 1")
    loss, gradient, count = mean_cross_entropy(logits, targets, weight, ignore_index, label_smoothing, "targets")
    if not count > 0:
        raise ValueError(f"no target counts: all are ignore_index={ignore_index} or of a class of weight 0")
    return float(loss), gradient


def mse(y: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of ``(y - targets)^2`` over all elements. Two arrays of one shape -> loss, gradient of that shape.

    TypeError for another dtype of y than the operators', ValueError for another shape or an empty one.
    """
    y, targets = as_array("y", y), as_numbers("targets", targets)
    if y.shape != targets.shape or not y.size:
        raise ValueError(f"y has shape {y.shape}, targets {targets.shape}: allowed is one shape, not empty")
    targets = targets.astype(y.dtype, copy=False)
    loss, one = _loss.mse_loss(y, targets), np.ones((), y.dtype)
    return float(loss), _loss.mse_loss_backward(one, y, targets)


def as_numbers(name: str, value: Any) -> np.ndarray:
    """``value`` as an array of real numbers; TypeError for what hides or is none: a masked array, objects, text."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: allowed is an array without a mask")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}: allowed are ints and floats")
    return array
