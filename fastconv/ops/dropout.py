"""Dropout with random numbers that are a function of a seed, an offset and the element's place: nothing is remembered.

So the same elements are dropped whatever backend, threads and strides there are, and a gradient drops them again.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arguments import MOST, flag, integer, number, shown
from ..arrays import as_array, as_output
from ..spec import channel_axis, check_elements
from .elementwise import choose, run

__all__ = ["dropout", "dropout_backward", "feature_dropout", "feature_dropout_backward"]


def _dropped(
    x: np.ndarray, places: tuple[int, ...], p: Any, training: Any, seed: Any, offset: Any, out: Any, *inputs: np.ndarray
) -> np.ndarray:
    """``x`` without some elements; ``places`` as in ``MapSpec``; ``inputs`` must not overlap ``out`` either."""
    check_elements("x", x.shape)
    p, training = number("p", p), flag("training", training)
    if not 0 <= p <= 1:
        raise ValueError(f"p={shown(p)}: allowed is a probability, from 0 to 1")
    numbers = [integer(name, value, 0, MOST) for name, value in (("seed", seed), ("offset", offset))]
    y = as_output(out, x.shape, x.dtype, x, *inputs)
    if not training or p == 0:
        run("activate", y, x)
    elif y.size:
        choice = choose("dropout", x.dtype, x.shape, None, p, places)
        choice.kernel(x, np.array(numbers, np.uint64), y)
    return y if out is None else out


def _of_elements(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of elements in row-major order, as steps along the axes."""
    return tuple([prod(shape[i + 1 :]) for i in range(len(shape))])


def _of_channels(shape: tuple[int, ...], layout: Any) -> tuple[int, ...]:
    """The same for channels, each of an image."""
    if len(shape) < 2:
        raise ValueError(f"x has shape {shape}: allowed are 2 dimensions or more, a batch and channels")
    axis = channel_axis(layout, len(shape))
    return tuple([shape[axis] if i == 0 else int(i == axis) for i in range(len(shape))])


def _gradient(dy: Any, x: Any) -> tuple[np.ndarray, np.ndarray]:
    x = as_array("x", x)
    dy = as_array("dy", dy, x.dtype)
    if dy.shape != x.shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {x.shape}, the shape of x")
    return dy, x


def dropout(
    x: np.ndarray, p: float = 0.5, training: bool = True, *, seed: int, offset: int = 0, out: np.ndarray | None = None
) -> np.ndarray:
    """x with elements set to 0, each with probability ``p``, and the others divided by 1 - p; without ``training``, x.

    x: float32 or float64, any shape and strides -> a new array of this shape, or ``out``, which shares no memory with
    x. ``seed`` and ``offset``, from 0 to 2^63 - 1, say which: the same elements on every backend, with any number of
    threads, and however x lies in memory; another offset, as the number of a layer or a step, gives others.

    Element i in row-major order is 0 where word i % 4 of Philox4x32-10 (Salmon et al., Parallel random numbers: as easy
    as 1, 2, 3, 2011) of the counter (i // 4, 0, offset, offset >> 32) and the key (seed, seed >> 32) is below 2^32 p.

    Raises TypeError or ValueError, before any work, that names the argument, its value and what is allowed.
    """
    x = as_array("x", x)
    return _dropped(x, _of_elements(x.shape), p, training, seed, offset, out)


def dropout_backward(
    dy: np.ndarray,
    x: np.ndarray,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: int,
    offset: int = 0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``dropout(x, ...)`` in x: dy -> dx, both of the shape of x. It is the same function of dy."""
    dy, x = _gradient(dy, x)
    return _dropped(dy, _of_elements(x.shape), p, training, seed, offset, out, x)


def feature_dropout(
    x: np.ndarray,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: int,
    offset: int = 0,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """``dropout`` of whole channels: what ``torch.nn.functional`` calls dropout1d, dropout2d and dropout3d.

    x (n, c, ...) or, by ``layout``, (n, ..., c). Channel c of image n is channel n c' + c of all, of c' channels each,
    and is dropped as element of that number is by ``dropout``. Otherwise as ``dropout``.
    """
    x = as_array("x", x)
    return _dropped(x, _of_channels(x.shape, layout), p, training, seed, offset, out)


def feature_dropout_backward(
    dy: np.ndarray,
    x: np.ndarray,
    p: float = 0.5,
    training: bool = True,
    *,
    seed: int,
    offset: int = 0,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of ``feature_dropout(x, ...)`` in x: dy -> dx, both of the shape of x. It is the same function of dy."""
    dy, x = _gradient(dy, x)
    return _dropped(dy, _of_channels(x.shape, layout), p, training, seed, offset, out, x)
