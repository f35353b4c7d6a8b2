"""Fit a network to data, evaluate it, predict with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np

from ..spec import int_tuple
from .losses import cross_entropy
from .module import Module, evaluating
from .optim import Optimizer

__all__ = ["History", "evaluate", "fit", "predict"]

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


@dataclass
class History:
    """What ``fit`` saw, one number an epoch.

    ``accuracy`` and ``val_accuracy`` are empty for targets that are no classes, ``val_...`` without validation data.
    ``loss`` and ``accuracy`` are means over the epoch's batches, each before its step, with dropout at work.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, compare=False)

    def _add(self, prefix: str, measures: dict[str, float]) -> None:
        for name, value in measures.items():
            getattr(self, prefix + name).append(value)

    def __str__(self) -> str:
        """The last epoch in one line."""
        parts = []
        for name, values, validation, style in (
            ("loss", self.loss, self.val_loss, ".4f"),
            ("acc", self.accuracy, self.val_accuracy, ".1%"),
        ):
            if values:
                watched = f" (val {validation[-1]:{style}})" if validation else ""
                parts.append(f"{name} {values[-1]:{style}}{watched}")
        return "  ".join(parts)


def fit(
    model: Module,
    x: np.ndarray,
    t: np.ndarray,
    *,
    optimizer: Optimizer,
    epochs: int,
    loss: Loss = cross_entropy,
    batch_size: int = 64,
    validation_data: tuple[np.ndarray, np.ndarray] | None = None,
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    schedule: Callable[[float], float] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train ``model`` on x (n, ...) and targets t (n, ...) by back-propagation; returns the history.

    ``seed`` settles the order of the samples, dropout and augmentation: the same seed on the same network gives the
    same bits. ``augment(batch, generator)`` returns a changed copy of each batch of x. ``schedule(progress)``, such as
    ``cosine``, scales the learning rate of each epoch, progress running from 0 to below 1. With ``progress=True`` there
    is a bar on standard error if the rich package is installed, else one line an epoch. The model is left in training
    mode.

    ValueError for sizes that do not fit; FloatingPointError as soon as the loss is no longer finite.
    """
    x, t = _pair("x and t", x, t)
    (epochs,) = int_tuple(epochs, 1, "epochs", 0)
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    if validation_data is not None:
        validation_data = _pair("validation_data", *validation_data)
    rng = np.random.default_rng(seed)
    model.seed(rng)
    model.train()
    parameters = model.parameters()
    history = History()
    with _reporter(progress, epochs) as report, _restored(optimizer) as lr:
        for epoch in range(epochs):
            start = perf_counter()
            if schedule is not None:
                optimizer.lr = lr * schedule(epoch / epochs)
            measures = _Measures()
            order = rng.permutation(len(x))
            for first in range(0, len(x), batch_size):
                batch = order[first : first + batch_size]
                xb = x[batch] if augment is None else augment(x[batch], rng)
                y = model(xb)
                value, gradient = loss(y, t[batch])
                if not isfinite(value):
                    raise FloatingPointError(f"loss is {value} in epoch {epoch + 1}: try a smaller learning rate")
                model.backward(gradient, need_dx=False)
                optimizer.step(parameters)
                measures.add(value, y, t[batch])
            history._add("", measures.means())
            if validation_data is not None:
                history._add("val_", evaluate(model, *validation_data, loss=loss, batch_size=batch_size))
            history.seconds.append(perf_counter() - start)
            report(epoch + 1, history)
    return history


def evaluate(
    model: Module, x: np.ndarray, t: np.ndarray, *, loss: Loss = cross_entropy, batch_size: int = 256
) -> dict[str, float]:
    """``{"loss": ..., "accuracy": ...}`` of ``model`` in evaluation mode; accuracy for classes (int targets) only."""
    x, t = _pair("x and t", x, t)
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    measures = _Measures()
    with evaluating(model):
        for first in range(0, len(x), batch_size):
            y, tb = model(x[first : first + batch_size]), t[first : first + batch_size]
            measures.add(loss(y, tb)[0], y, tb)
    return measures.means()


def predict(model: Module, x: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """The model's results for x (n, ...) in evaluation mode, computed ``batch_size`` samples at a time."""
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    with evaluating(model):
        return np.concatenate([model(x[first : first + batch_size]) for first in range(0, max(len(x), 1), batch_size)])


class _Measures:
    """Sums of loss and accuracy over batches, weighted by their sizes."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, loss: float, y: np.ndarray, t: np.ndarray) -> None:
        values = {"loss": loss}
        if t.dtype.kind in "iu" and t.ndim == 1 and y.ndim == 2:
            values["accuracy"] = float((y.argmax(1) == t).mean())
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * len(t)
        self.count += len(t)

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self.sums.items()}


def _pair(name: str, x: Any, t: Any) -> tuple[np.ndarray, np.ndarray]:
    x, t = np.asarray(x), np.asarray(t)
    if not x.ndim or not t.ndim or len(x) != len(t) or not len(x):
        raise ValueError(
            f"{name} have shapes {x.shape} and {t.shape}: allowed is one target a sample, 1 sample or more"
        )
    return x, t


@contextmanager
def _restored(optimizer: Optimizer) -> Iterator[float]:
    """The optimizer's learning rate, which it has again afterwards."""
    lr = optimizer.lr
    try:
        yield lr
    finally:
        optimizer.lr = lr


@contextmanager
def _reporter(progress: bool, epochs: int) -> Iterator[Callable[[int, History], None]]:
    """A function to call after each epoch: it moves a bar, prints a line, or does nothing."""
    if not progress:
        yield lambda epoch, history: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda epoch, history: print(f"epoch {epoch}/{epochs}  {history}", file=sys.stderr)
        return
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(8),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=epochs)
        yield lambda epoch, history: bar.update(task, completed=epoch, description=str(history))
