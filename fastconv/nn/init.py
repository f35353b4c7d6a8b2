"""First values of weights, drawn from a generator, so that a seed gives the same network everywhere."""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from ..spec import DTYPES

__all__ = ["INITIALIZERS", "initial", "parameter_dtype"]


def _he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    return rng.standard_normal(shape) * sqrt(2 / fan_in)


def _glorot(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
    limit = sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


#: ``"he"``: normal with variance 2 / fan_in, for ReLU networks. ``"glorot"``: uniform with variance
#: 2 / (fan_in + fan_out), for tanh and sigmoid.
INITIALIZERS: dict[str, Callable[..., np.ndarray]] = {"he": _he, "glorot": _glorot}


def parameter_dtype(dtype: Any) -> np.dtype:
    """``dtype`` as a NumPy dtype; TypeError unless it is float32 or float64."""
    result = np.dtype(dtype)
    if result.name not in DTYPES:
        raise TypeError(f"dtype={dtype!r}: allowed is {' or '.join(DTYPES)}")
    return result


def initial(
    init: str, shape: tuple[int, ...], rng: int | np.random.Generator | None, dtype: np.dtype, groups: int = 1
) -> np.ndarray:
    """Weights of ``shape`` (out, in / groups, *kernel). The same ``rng`` draws the same numbers in both dtypes."""
    if init not in INITIALIZERS:
        raise ValueError(f"init={init!r}: allowed is {' or '.join(map(repr, INITIALIZERS))}")
    taps = prod(shape[2:])
    draw = INITIALIZERS[init](np.random.default_rng(rng), shape, shape[1] * taps, shape[0] // groups * taps)
    return draw.astype(dtype)
