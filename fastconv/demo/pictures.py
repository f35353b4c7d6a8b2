"""The demo's pictures."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from .. import nn
from .photos import EDGES, SHARPEN, Photo, filtered, pooled

__all__ = ["confusion", "features", "filters", "learning", "photo"]

DPI = 120
COLUMNS = 8


def photo(picture: Photo, path: Path) -> None:
    """The photograph, its edges, and a sharpened version, both pooled too."""
    figure = _figure(11, 7.4)
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
    figure = _figure(10, 4.2)
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
    figure = _figure(7, 6.4)
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
    figure = _figure(11, 1.3 * ceil(len(weights) / COLUMNS) + 0.7)
    bound = float(abs(weights).max())
    _grid(figure, weights[:, 0], "kernel", "weight", cmap="RdBu_r", vmin=-bound, vmax=bound)
    figure.suptitle("first layer: the learned kernels", fontsize=14)
    figure.savefig(path, dpi=DPI)


def features(image: np.ndarray, digit: int, maps: np.ndarray, path: Path) -> None:
    """What the first layer makes of one digit. image (h, w), maps (oc, h, w) after ReLU."""
    figure = _figure(13, 1.3 * ceil(len(maps) / COLUMNS) + 0.7)
    left, right = figure.subfigures(1, 2, width_ratios=(2, 9))
    ax = left.subplots()
    _image(ax, image, cmap="gray")
    ax.set_title("input")
    _grid(right, maps, "map", "activation", cmap="viridis", vmin=0, vmax=float(maps.max()))
    figure.suptitle(f"first layer: the feature maps of a {digit}, after ReLU", fontsize=14)
    figure.savefig(path, dpi=DPI)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure


def _image(ax: Axes, image: np.ndarray, **options: object) -> object:
    ax.set_xticks([])
    ax.set_yticks([])
    return ax.imshow(image, **options)


def _grid(figure: FigureBase, images: np.ndarray, name: str, meaning: str, **options: object) -> None:
    """Small images (count, h, w) in rows, with one scale of colours."""
    axes = figure.subplots(ceil(len(images) / COLUMNS), COLUMNS, squeeze=False)
    for ax in axes.flat[len(images) :]:
        ax.set_axis_off()
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        shown = _image(ax, image, **options)
        ax.set_title(f"{name} {i}", fontsize=9)
    figure.colorbar(shown, ax=axes, label=meaning, shrink=0.9)


def _percent(values: list[float]) -> list[float]:
    return [100 * value for value in values]
