"""What the constructors of several layers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...spec import int_tuple

__all__ = ["Rng", "positive", "times"]

#: What fixes the first weights: a seed, or a generator that is drawn from.
Rng = int | np.random.Generator | None


def positive(value: Any, name: str) -> int:
    return int_tuple(value, 1, name, 1)[0]


def times(sizes: Any) -> str:
    return "x".join(map(str, sizes))
