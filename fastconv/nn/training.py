"""Fit a network to data, evaluate it, predict with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite, nan
from time import perf_counter
from typing import Any

import numpy as np

from ..ops.cross_entropy import check_classes
from ..spec import int_tuple
from .losses import as_numbers, cross_entropy
from .module import Module
from .optim import Optimizer
from .parameter import Parameter
from .tape import evaluating

__all__ = ["History", "evaluate", "fit", "predict"]

Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


@dataclass
class History:
    """What ``fit`` saw, one number an epoch.

    ``accuracy`` and ``val_accuracy`` are as in ``evaluate``, empty for targets that are no classes; ``val_...`` are
    empty without validation data. ``loss`` and ``accuracy`` are means over the epoch's batches, each before its step,
    with dropout at work.
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
    drop_last: bool = False,
    seed: int | np.random.Generator = 0,
    progress: bool = True,
) -> History:
    """Train ``model`` on x (n, ...) and targets t (n, ...) by back-propagation; returns the history.

    ``seed`` settles the order of the samples, dropout and augmentation: the same seed on the same network gives the
    same bits. A generator is drawn from as it is, so that two calls with one generator do what one call does for all
    the epochs. ``augment(batch, generator)`` returns a changed copy of each batch of x. ``schedule(progress)``, such as
    ``cosine``, scales the learning rate of each epoch, progress running from 0 to below 1. ``drop_last`` leaves out the
    samples behind the last full batch of an epoch, other ones each time. With ``progress=True`` there is a bar on
    standard error if the rich package is installed, else one line an epoch.

    A model in evaluation mode is switched to training mode, with all inside, and left so; modules that alone were
    switched to evaluation mode stay as they are. ``loss(y, t)`` returns the loss and its gradient in y.

    Before the first step: ValueError for sizes that do not fit, a last batch of one sample that the network refuses, or
    (with ``cross_entropy``) a class that is none. FloatingPointError as soon as the loss is no longer finite, or after
    an epoch the parameters.
    """
    _check_types(model, optimizer)
    x, t = _pair("x", "t", x, t)
    (epochs,) = int_tuple(epochs, 1, "epochs", 0)
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    if validation_data is not None:
        if len(validation_data) != 2:
            raise ValueError(f"validation_data has length {len(validation_data)}: allowed is (x, t)")
        validation_data = _pair("validation_data[0]", "validation_data[1]", *validation_data)
    used = len(x) - len(x) % batch_size if drop_last else len(x)
    if not used:
        raise ValueError(f"drop_last=True leaves nothing of {len(x)} samples: allowed is batch_size <= {len(x)}")
    if not model.training:
        model.train()
    if epochs and used % batch_size == 1 and used > batch_size:
        _try_one(model, x[:1].copy(), augment, f"{used} samples in batches of {batch_size}")
    rng = np.random.default_rng(seed)
    model.seed(rng)
    parameters = model.parameters()
    _bind(optimizer, parameters)
    history = History()
    with _reporter(progress, epochs) as report, _restored_rates(optimizer) as rates:
        for epoch in range(epochs):
            start = perf_counter()
            if schedule is not None:
                scale = schedule(epoch / epochs)
                for group, lr in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = lr * scale
            measures = _Measures()
            order = rng.permutation(len(x))
            for first in range(0, used, batch_size):
                batch = order[first : first + batch_size]
                xb = x[batch] if augment is None else augment(x[batch], rng)
                y = model(xb)
                if epoch == first == 0:
                    for targets in (t,) if validation_data is None else (t, validation_data[1]):
                        _check_targets(loss, targets, y)
                value, gradient = loss(y, t[batch])
                if not isfinite(value):
                    raise FloatingPointError(f"loss is {value} in epoch {epoch + 1}: try a smaller learning rate")
                for parameter in parameters.values():
                    parameter.grad = None
                model.backward(gradient, need_dx=False)
                optimizer.step()
                measures.add(value, y, t[batch])
            for name, parameter in parameters.items():
                if not np.isfinite(parameter.value).all():
                    raise FloatingPointError(
                        f"{name} is not finite after epoch {epoch + 1}: try a smaller learning rate"
                    )
            history._add("", measures.means())
            if validation_data is not None:
                history._add("val_", evaluate(model, *validation_data, loss=loss, batch_size=batch_size))
            history.seconds.append(perf_counter() - start)
            report(epoch + 1, history)
    return history


def _try_one(model: Module, x: np.ndarray, augment: Callable[..., np.ndarray] | None, what: str) -> None:
    """ValueError if the model in training mode refuses one sample; leaves the state as it was."""
    state = model.state_dict()
    try:
        model(x if augment is None else augment(x, np.random.default_rng(0)))
    except ValueError as error:
        raise ValueError(
            f"{what} leave a last batch of one, which the network refuses ({error}): allowed is another batch_size, or "
            "drop_last=True"
        ) from error
    finally:
        model.load_state_dict(state)


def _check_targets(loss: Loss, t: np.ndarray, y: np.ndarray) -> None:
    """Of ``cross_entropy``, also as a ``functools.partial``: raise if a target is no class of the scores ``y``."""
    if getattr(loss, "func", loss) is cross_entropy and t.ndim == y.ndim - 1:
        options = getattr(loss, "keywords", {})
        check_classes("targets", t[t != options.get("ignore_index", -100)], y.shape[1])


def evaluate(
    model: Module, x: np.ndarray, t: np.ndarray, *, loss: Loss = cross_entropy, batch_size: int = 256
) -> dict[str, float]:
    """``{"loss": ..., "accuracy": ...}`` of ``model`` in evaluation mode, whatever mode it is in.

    The loss is the mean over the batches, weighted by their sizes. Accuracy is there for int targets (n, *size) and
    scores (n, classes, *size): the share of right ones, leaving out targets that are no class, such as -100.
    """
    _check_types(model)
    x, t = _pair("x", "t", x, t)
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    measures = _Measures()
    with evaluating():
        for first in range(0, len(x), batch_size):
            y, tb = model(x[first : first + batch_size]), t[first : first + batch_size]
            measures.add(loss(y, tb)[0], y, tb)
    return measures.means()


def predict(model: Module, x: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """The model's results for x (n, ...), ``batch_size`` samples at a time, in evaluation mode, whatever its own is."""
    _check_types(model)
    (batch_size,) = int_tuple(batch_size, 1, "batch_size", 1)
    with evaluating():
        return np.concatenate([model(x[first : first + batch_size]) for first in range(0, max(len(x), 1), batch_size)])


class _Measures:
    """Means over batches: of the loss, weighted by their sizes, and of accuracy."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, loss: float, y: np.ndarray, t: np.ndarray) -> None:
        self._add("loss", loss * len(t), len(t))
        if t.dtype.kind in "iu" and t.ndim == y.ndim - 1:
            classes = (t >= 0) & (t < y.shape[1])
            self._add("accuracy", float(((y.argmax(1) == t) & classes).sum()), int(classes.sum()))

    def _add(self, name: str, value: float, count: int) -> None:
        total, counted = self._sums.get(name, (0.0, 0))
        self._sums[name] = total + value, counted + count

    def means(self) -> dict[str, float]:
        return {name: total / count if count else nan for name, (total, count) in self._sums.items()}


def _check_types(model: Any, optimizer: Any = None) -> None:
    for name, value, kind in (("model", model, Module), ("optimizer", optimizer, Optimizer)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"{name} is {value!r}: allowed is a {kind.__name__}")


def _pair(x_name: str, t_name: str, x: Any, t: Any) -> tuple[np.ndarray, np.ndarray]:
    x, t = as_numbers(x_name, x), as_numbers(t_name, t)
    if not x.ndim or not t.ndim or len(x) != len(t) or not len(x):
        raise ValueError(
            f"{x_name} and {t_name} have shapes {x.shape} and {t.shape}: allowed is one target a sample, 1 sample or "
            "more"
        )
    return x, t


def _bind(optimizer: Optimizer, parameters: dict[str, Parameter]) -> None:
    """Give an optimizer that has no parameters these; ValueError if it has none of them."""
    if not optimizer.param_groups:
        optimizer.add_param_group({"params": parameters})
    moved = {p for group in optimizer.param_groups for p in group["params"].values()}
    if parameters and moved.isdisjoint(parameters.values()):
        raise ValueError(
            f"the {type(optimizer).__name__} optimizer has no parameter of the network: allowed is one made for it, or "
            "copied or pickled together with it, as in copy.deepcopy((net, optimizer))"
        )


@contextmanager
def _restored_rates(optimizer: Optimizer) -> Iterator[list[float]]:
    """The learning rates of the optimizer's groups, which these have again afterwards."""
    groups = list(optimizer.param_groups)
    rates = [group["lr"] for group in groups]
    try:
        yield rates
    finally:
        for group, lr in zip(groups, rates, strict=True):
            group["lr"] = lr


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
