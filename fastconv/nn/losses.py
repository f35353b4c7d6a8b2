"""Losses: functions ``(y, t) -> (loss, gradient of the loss in y)``, averaged over the batch."""

from __future__ import annotations

import numpy as np

__all__ = ["cross_entropy", "mse"]


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of ``-log(softmax(logits)[target])``. logits (n, classes), targets (n,) ints -> loss, gradient (n, classes).

    The softmax is inside and cannot overflow. TypeError for targets that are no ints, ValueError for a shape, an
    empty batch or a class outside 0 .. classes - 1.
    """
    targets = np.asarray(targets)
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or not logits.size:
        raise ValueError(
            f"logits have shape {logits.shape}, targets {targets.shape}: allowed is (n, classes) and (n,), n >= 1"
        )
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets have dtype {targets.dtype}: allowed are ints, the number of each sample's class")
    n, classes = logits.shape
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"targets run from {targets.min()} to {targets.max()}: allowed is 0 to {classes - 1}")
    shifted = logits - logits.max(1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    own = np.arange(n), targets
    loss = -float(log_probability[own].mean(dtype=np.float64))
    gradient = np.exp(log_probability)
    gradient[own] -= 1
    return loss, gradient / n


def mse(y: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean of ``(y - targets)^2`` over all elements. Two arrays of one shape -> loss, gradient of that shape."""
    targets = np.asarray(targets)
    if y.shape != targets.shape or not y.size:
        raise ValueError(f"y has shape {y.shape}, targets {targets.shape}: allowed is one shape, not empty")
    difference = y - targets.astype(y.dtype, copy=False)
    loss = float(np.square(difference).mean(dtype=np.float64))
    return loss, difference * y.dtype.type(2 / y.size)
