"""LeNet-5: two convolutions, each with pooling, then three fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn
from ..spec import int_tuple

__all__ = ["lenet5"]


def lenet5(
    input_shape: tuple[int, int, int] = (1, 28, 28),
    classes: int = 10,
    *,
    channels: tuple[int, int] = (6, 16),
    dropout: float = 0.0,
    rng: int | np.random.Generator | None = None,
    dtype: Any = np.float32,
) -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling. x (n, *input_shape) -> scores (n, classes); input_shape is (c, h, w).

    Kernels are 5x5 without padding for 32x32 and larger; the first convolution pads smaller images, and below
    16x16 the kernels are 3x3 with padding. ``channels`` are those of the two convolutions; ``dropout`` is the
    probability with which training drops each of their features. ValueError for images smaller than 4x4 or a size that
    is not positive.
    """
    c, h, w = int_tuple(input_shape, 3, "input_shape", 1)
    first, second = int_tuple(channels, 2, "channels", 1)
    (classes,) = int_tuple(classes, 1, "classes", 1)
    size = min(h, w)
    if size < 4:
        raise ValueError(f"input_shape={input_shape!r}: allowed are images of at least 4x4")
    kernel = 5 if size >= 16 else 3
    options = {"rng": np.random.default_rng(rng), "dtype": dtype}
    features = nn.Sequential(
        nn.Conv2d(c, first, kernel, padding="valid" if size >= 32 else "same", **options),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, kernel, padding="valid" if kernel == 5 else "same", **options),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    (flat,) = features.output_shape((c, h, w))
    return nn.Sequential(
        *features,
        *([nn.Dropout(dropout)] if dropout else []),
        nn.Linear(flat, 120, **options),
        nn.ReLU(),
        nn.Linear(120, 84, **options),
        nn.ReLU(),
        nn.Linear(84, classes, **options),
    )
