"""A learnable array with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import as_array

__all__ = ["Parameter"]


class Parameter:
    """A learnable array, ``value`` (float32 or float64, writeable), and its gradient, ``grad``.

    ``grad`` is None, or the sum over the backward calls since ``Module.zero_grad`` or the last step of an optimizer.
    With ``requires_grad = False`` it is frozen: no gradient of it is computed, and no optimizer moves it. Between a
    forward and its backward call, an assignment to ``value`` (also ``value -= ...``) is noticed; writing into the array
    is not. TypeError or ValueError for another value.
    """

    # ``version`` counts the changes of value, so that backward notices one that came after its forward call.
    __slots__ = ("__weakref__", "_value", "grad", "requires_grad", "version")

    def __init__(self, value: np.ndarray, *, requires_grad: bool = True) -> None:
        self.version = 0
        self.value = value
        self.grad: np.ndarray | None = None
        self.requires_grad = requires_grad

    @property
    def value(self) -> np.ndarray:
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        value = as_array("value", value)
        if not value.flags.writeable:
            raise ValueError("value is read-only: allowed is a writeable array")
        self._value = value
        self.version += 1

    def __repr__(self) -> str:
        return f"Parameter({self.value.shape}, {self.value.dtype}{'' if self.requires_grad else ', frozen'})"
