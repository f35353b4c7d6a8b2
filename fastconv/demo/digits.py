"""A LeNet learns to read scikit-learn's handwritten digits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import nn
from ..models import lenet5

__all__ = ["CLASSES", "EPOCHS", "REQUIRED_ACCURACY", "Split", "load", "network", "shifted", "train"]

CLASSES = 10
EPOCHS = 30
REQUIRED_ACCURACY = 0.98
INPUT_SHAPE = (1, 8, 8)


class Split(NamedTuple):
    """Images (n, 1, 8, 8) between 0 and 1 with their classes (n,), in three parts that share no image."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def load(seed: int) -> Split:
    """A quarter is held out for the test; of the rest 15 % watch the training. All parts are stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x, t = (digits.images[:, None] / 16).astype(np.float32), digits.target
    x, x_test, t, t_test = train_test_split(x, t, test_size=0.25, stratify=t, random_state=seed)
    x, x_watch, t, t_watch = train_test_split(x, t, test_size=0.15, stratify=t, random_state=seed)
    return Split((x, t), (x_watch, t_watch), (x_test, t_test))


def network(seed: int | None = None) -> nn.Sequential:
    return lenet5(INPUT_SHAPE, CLASSES, channels=(32, 64), dropout=0.3, rng=seed)


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the images as they are, the others moved by up to one pixel along both axes, zeros moving in."""
    n, _, h, w = x.shape
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (h, w), (2, 3))
    down, right = np.where(rng.random(n) < 0.5, 1, rng.integers(0, 3, (2, n)))
    return frames[np.arange(n), :, down, right]


def train(split: Split, seed: int, epochs: int) -> tuple[nn.Sequential, nn.History]:
    """A trained network with the history of its training."""
    net = network(seed)
    history = nn.fit(
        net,
        *split.train,
        optimizer=nn.Adam(lr=2e-3),
        epochs=epochs,
        batch_size=32,
        validation_data=split.validation,
        augment=shifted,
        schedule=nn.cosine,
        seed=seed,
    )
    return net, history
