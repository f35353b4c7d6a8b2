"""Two classical filters on real photographs: convolution, ReLU, max-pooling, with TensorFlow's layout and padding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..ops.conv import conv2d
from ..ops.pool import max_pool2d

__all__ = ["EDGES", "SHARPEN", "SIZE", "Photo", "filtered", "load", "pooled"]

SIZE = 300

# TensorFlow's kernel layout: (kh, kw, in channels, out channels).
EDGES = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32).reshape(3, 3, 1, 1)
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32).reshape(3, 3, 1, 1)


class Photo(NamedTuple):
    name: str
    original: np.ndarray
    """(h, w, 3) bytes."""
    gray: np.ndarray
    """(1, SIZE, SIZE, 1) float32 between 0 and 1."""


def load() -> list[Photo]:
    """The photographs that scikit-learn ships, also cut to a gray square."""
    from PIL import Image, ImageOps
    from sklearn.datasets import load_sample_image

    photos = []
    for name in ("china", "flower"):
        original = load_sample_image(f"{name}.jpg")
        square = ImageOps.fit(Image.fromarray(original).convert("L"), (SIZE, SIZE))
        gray = np.asarray(square, np.float32)[None, :, :, None] / 255
        photos.append(Photo(name, original, gray))
    return photos


def filtered(gray: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """``relu(conv(gray, kernel))`` of the size of the photo. gray (n, h, w, 1), kernel (kh, kw, 1, 1)."""
    weights = kernel.transpose(3, 2, 0, 1)  # a view: no data moves
    return conv2d(gray, weights, padding="same", activation="relu", layout="NHWC")


def pooled(image: np.ndarray) -> np.ndarray:
    """The largest of every 2x2 pixels. (n, h, w, c) -> (n, ceil(h / 2), ceil(w / 2), c)."""
    return max_pool2d(image, 2, padding="same", layout="NHWC")
