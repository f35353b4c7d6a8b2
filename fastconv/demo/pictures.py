"""The demo's pictures."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from .. import nn
from .photos import EDGES, SHARPEN, Photo, filtered, pooled

__all__ = ["confusion", "features", "filters", "learning", "photo"]

DPI = 120


def photo(picture: Photo, path: Path) -> None:
    """The photograph, its edges, and a sharpened version, both pooled too."""
    figure = Figure(figsize=(11, 7.4), layout="constrained")
    axes = figure.subplots(2, 3)
    edges, sharp = filtered(picture.gray, EDGES), filtered(picture.gray, SHARPEN)
    panels = [
        ("photograph", picture.original, None),
        ("edge detection, ReLU", edges, float(np.quantile(edges, 0.995))),
        ("edges, 2x2 max-pooling", pooled(edges), float(np.quantile(edges, 0.995))),
        ("gray square", picture.gray, 1),
        ("sharpening, ReLU", sharp, 1),
        ("sharpened, 2x2 max-pooling", pooled(sharp), 1),
    ]
    for ax, (title, image, white) in zip(axes.flat, panels, strict=True):
        image = image.squeeze()
        ax.set_title(f"{title}\n{image.shape[1]} x {image.shape[0]} pixels")
        _image(ax, image, cmap="gray", vmin=0, vmax=white)
    figure.suptitle(f"{picture.name}.jpg, convolved with 3x3 kernels", fontsize=15)
    figure.savefig(path, dpi=DPI)


def learning(history: nn.History, path: Path) -> None:
    """Loss and accuracy of both parts, by epoch."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(history.loss) + 1)
    for ax, name, train, validation in (
        (left, "cross-entropy loss", history.loss, history.val_loss),
        (right, "accuracy in %", _percent(history.accuracy), _percent(history.val_accuracy)),
    ):
        ax.plot(epochs, train, "o-", markersize=4, label="training (images shifted, features dropped)")
        ax.plot(epochs, validation, "s-", markersize=4, label="validation")
        ax.set(xlabel="epoch", ylabel=name, title=name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    left.set_yscale("log")
    figure.suptitle("LeNet on handwritten digits: learning curves", fontsize=14)
    figure.savefig(path, dpi=DPI)


def confusion(targets: np.ndarray, predictions: np.ndarray, path: Path) -> None:
    """True digits by predicted digits, on the held-out part."""
    figure = Figure(figsize=(7, 6.4), layout="constrained")
    ax = figure.subplots()
    display = ConfusionMatrixDisplay(confusion_matrix(targets, predictions)).plot(ax=ax, cmap="Blues", colorbar=False)
    figure.colorbar(display.im_, label="images", shrink=0.8)
    correct = int((targets == predictions).sum())
    ax.set(
        title=f"held-out digits: {correct} of {len(targets)} correct ({correct / len(targets):.1%})",
        xlabel="predicted digit",
        ylabel="true digit",
    )
    figure.savefig(path, dpi=DPI)


def filters(weights: np.ndarray, path: Path) -> None:
    """The kernels of the first layer. weights (oc, 1, kh, kw)."""
    figure, axes = _grid(len(weights), "first layer: the learned kernels")
    bound = float(abs(weights).max())
    for i, (ax, kernel) in enumerate(zip(axes, weights[:, 0], strict=True)):
        shown = _image(ax, kernel, cmap="RdBu_r", vmin=-bound, vmax=bound)
        ax.set_title(f"kernel {i}", fontsize=9)
    figure.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    figure.savefig(path, dpi=DPI)


def features(image: np.ndarray, digit: int, maps: np.ndarray, path: Path) -> None:
    """What the first layer makes of one digit. image (h, w), maps (oc, h, w) after ReLU."""
    figure, axes = _grid(len(maps) + 1, f"first layer: the feature maps of a {digit}, after ReLU")
    _image(axes[0], image, cmap="gray")
    axes[0].set_title("input", fontsize=9)
    for i, (ax, feature) in enumerate(zip(axes[1:], maps, strict=True)):
        shown = _image(ax, feature, cmap="viridis", vmin=0, vmax=float(maps.max()))
        ax.set_title(f"map {i}", fontsize=9)
    figure.colorbar(shown, ax=axes, label="activation", shrink=0.8)
    figure.savefig(path, dpi=DPI)


def _image(ax: Axes, image: np.ndarray, **options: object) -> object:
    ax.set_xticks([])
    ax.set_yticks([])
    return ax.imshow(image, **options)


def _grid(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = 6 if count > 16 else 4
    rows = ceil(count / columns)
    figure = Figure(figsize=(1.5 * columns + 1.5, 1.55 * rows + 0.8), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    figure.suptitle(title, fontsize=13)
    return figure, axes[:count]


def _percent(values: list[float]) -> list[float]:
    return [100 * value for value in values]
