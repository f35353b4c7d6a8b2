"""Small networks, data and numerical gradients for the tests of ``fastconv.nn``."""

import numpy as np

from fastconv import nn


def distinct(shape, seed=0):
    """Values that all differ by far more than a finite-difference step, so that no maximum changes hands."""
    n = int(np.prod(shape))
    return (np.random.default_rng(seed).permutation(n).reshape(shape) - n / 2 + 0.25) * (4 / n)


def numerical(f, array, step=1e-5):
    gradient = np.empty_like(array)
    for i in np.ndindex(array.shape):
        value = array[i]
        array[i] = value + step
        above = f()
        array[i] = value - step
        below = f()
        array[i] = value
        gradient[i] = (above - below) / (2 * step)
    return gradient


class Net(nn.Module):
    """A network from its forward function and the members that it uses, by name."""

    def __init__(self, function, **members):
        self.function = function
        vars(self).update(members)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def two_classes(n=200, seed=0):
    """Images with a bright upper or lower half, in noise."""
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 2, n)
    x = rng.random((n, 1, 6, 6), np.float32)
    x[t == 0, :, :3] += 0.5
    x[t == 1, :, 3:] += 0.5
    return x, t


def small_network(rng=0):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=rng), nn.BatchNorm(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16, 2, rng=rng),
    )  # fmt: skip


def noisy(x, rng):
    return x + rng.standard_normal(x.shape, np.float32) * np.float32(0.01)


class Watched(nn.Module):
    """The identity, which calls a function before it returns."""

    def __init__(self, function):
        self.function = function

    def forward(self, x):
        self.function(self)
        return x


def without(state, name):
    return {key: value for key, value in state.items() if key != name}
