"""What every C kernel object needs: addresses, strides, scratch memory, status codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import ACTIVATIONS, Activation
from . import isas

DTYPES = {"float32": lib.FC_F32, "float64": lib.FC_F64}

_ACTIVATION_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


def isa_number(name: str) -> int:
    return list(isas()).index(name)


def address(array: np.ndarray | None) -> Any:
    """A pointer to the first element (NULL for None). The caller keeps the array alive."""
    if array is None:
        return ffi.NULL
    if array.flags.c_contiguous:
        return ffi.from_buffer(array)
    return ffi.cast("void *", array.ctypes.data)


def scratch(nbytes: int) -> Any:
    """Fresh memory for one call: allocators keep it warm, and nothing is shared between threads."""
    return ffi.from_buffer(np.empty(nbytes, np.uint8))


def set_activation(target: Any, activation: Activation | None) -> None:
    if activation is not None:
        target.kind = _ACTIVATION_NUMBERS[activation.name]
        target.p0, target.p1 = activation.alpha, activation.beta


def check(status: int) -> None:
    if status == lib.FC_ERROR_MEMORY:
        raise MemoryError("fastconv: not enough memory for a plan")
    if status != lib.FC_OK:
        raise ValueError(f"fastconv: the C library refused its arguments (status {status})")
