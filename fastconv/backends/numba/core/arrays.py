"""Arrays as compiled functions take them: addresses, steps, scratch memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from cffi import FFI

from .compile import part

__all__ = ["Packed", "addresses_of", "aligned", "round_up", "steps", "up"]

_ffi = FFI()
_POINTER, _POINTERS, _ADDRESS = (_ffi.typeof(name) for name in ("void *", "void *[]", "intptr_t"))


def steps(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements. That of an axis of one element, which may be any number, is as in a contiguous array."""
    return _steps(array.strides, array.shape, array.itemsize)


@lru_cache(maxsize=256)
def _steps(strides: tuple[int, ...], shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    found: list[int] = []
    inside = 1
    for stride, many in zip(reversed(strides), reversed(shape), strict=True):
        found.append(stride // size if many > 1 else inside)
        inside = found[-1] * many
    return tuple(reversed(found))


def addresses_of(*arrays: np.ndarray | None) -> np.ndarray:
    """Where the first element of each lies, as int64; 0 for None. The arrays must be kept."""
    return np.frombuffer(_ffi.buffer(_ffi.new(_POINTERS, [_pointer_to(array) for array in arrays])), np.int64)


def _pointer_to(array: np.ndarray | None) -> Any:
    if array is None:
        return _ffi.NULL
    if array.flags.c_contiguous and array.size:
        # NumPy's own answer takes three times as long.
        return _ffi.from_buffer(array)
    return _ffi.cast(_POINTER, array.__array_interface__["data"][0])


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that starts on a cache line."""
    raw = np.empty(count + 64 // dtype.itemsize, dtype)
    start = -int(_ffi.cast(_ADDRESS, _ffi.from_buffer(raw))) % 64 // dtype.itemsize
    return raw[start : start + count]


def up(count: int, step: int) -> int:
    """The next multiple of ``step``."""
    return -(-count // step) * step


#: The same in compiled functions.
round_up = part(up)


@dataclass
class Packed:
    """Weights in the form that a kernel reads fastest. ``plain``: as they were, for results that it is not to compute;
    ``trusted``: whether there are others."""

    data: np.ndarray
    plain: np.ndarray | None = None
    trusted: bool = True
