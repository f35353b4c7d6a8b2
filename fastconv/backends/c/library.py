"""What every C kernel object needs: addresses, strides, scratch memory, status codes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import ACTIVATIONS, Activation, Types

_TYPES = {"float32": lib.FC_F32, "float64": lib.FC_F64}

_ACTIVATION_NUMBERS = {
    name: getattr(lib, f"FC_ACT_{'NONE' if name == 'identity' else name.upper()}") for name in ACTIVATIONS
}


@cache
def isas() -> dict[str, str | None]:
    """Every instruction set compiled in, best first, with None if this CPU runs it and the reason if not."""
    table = {}
    for number in range(lib.fc_isa_count()):
        reason = lib.fc_isa_reason(number)
        table[ffi.string(lib.fc_isa_name(number)).decode()] = ffi.string(reason).decode() if reason else None
    return table


def type_numbers(types: Types) -> tuple[int, ...]:
    """As an ``fc_types``."""
    return tuple(_TYPES[name] for name in (types.x, types.w, types.acc, types.y))


def isa_number(name: str) -> int:
    return list(isas()).index(name)


#: ``address`` of an array that is C-contiguous; ValueError if it is not.
address_of_contiguous = ffi.from_buffer

NULL = ffi.NULL


#: The first element of an array of so many dimensions, as one of its kind.
_FIRST = tuple((slice(0, 1),) * ndim for ndim in range(65))


def _address_of_transposed(array: np.ndarray) -> Any:
    return address_of_contiguous(array.T)


def _address_of_strided(array: np.ndarray) -> Any:
    return address_of_contiguous(array[_FIRST[array.ndim]])


def address_of_copy(array: np.ndarray) -> Any:
    return address_of_contiguous(array.copy())


def _address_of_nothing(array: None) -> Any:
    return NULL


def address_like(array: np.ndarray | None) -> Callable[[Any], Any]:
    """What gives a pointer to the first element of any array of the shape and the strides of this one.

    The pointer keeps the array alive.
    """
    if array is None:
        return _address_of_nothing
    flags = array.flags
    if flags.c_contiguous:
        return address_of_contiguous
    return _address_of_transposed if flags.f_contiguous else _address_of_strided


def spatial(values: tuple[int, ...]) -> list[int]:
    """Sizes over (d, h, w): lower ranks have ones in front."""
    return [1] * (3 - len(values)) + list(values)


def steps(strides: tuple[int, ...] | None, shape: tuple[int, ...], size: int) -> list[int]:
    """Byte strides of elements of ``size`` bytes, in elements; None are those of an array whose elements lie in order.

    Of an axis with one position NumPy may say anything: it has the step of a contiguous array here.
    """
    steps, step = [0] * len(shape), 1
    for i in reversed(range(len(shape))):
        steps[i] = step if strides is None or shape[i] == 1 else strides[i] // size
        step *= shape[i]
    return steps


def broadcast(shape: tuple[int, ...], to: tuple[int, ...]) -> list[int]:
    """Strides, in elements, of a contiguous array with all axes of another shape, of size 1 where it is broadcast.

    ValueError for a shape that is none of this kind.
    """
    if len(shape) != len(to) or any(n not in (1, size) for n, size in zip(shape, to, strict=True)):
        raise ValueError(f"an array has shape {shape}: allowed is {to}, with size 1 along axes where it stays the same")
    return [0 if n == 1 else step for n, step in zip(shape, steps(None, shape, 1), strict=True)]


def five(strides: Any, channels_last: bool) -> list[int]:
    """Strides over (n, c, d, h, w); a dimension that the array does not have is never stepped along."""
    strides = list(strides)
    if channels_last:
        strides = [strides[0], strides[-1], *strides[1:-1]]
    return strides[:2] + [0] * (5 - len(strides)) + strides[2:]


#: A thread keeps this much scratch memory from one call to the next: fresh pages cost as much as many a layer.
_KEPT_BYTES = 64 * 2**20

_kept = threading.local()


def scratch(nbytes: int) -> Any:
    """Memory for one call of this thread, its contents undefined."""
    try:
        if _kept.nbytes >= nbytes:
            return _kept.memory
    except AttributeError:  # the first call of this thread
        pass
    memory = ffi.from_buffer(np.empty(nbytes, np.uint8))
    if nbytes <= _KEPT_BYTES:
        _kept.memory, _kept.nbytes = memory, nbytes
    return memory


def set_activation(target: Any, activation: Activation | None) -> None:
    if activation is not None:
        target.kind = _ACTIVATION_NUMBERS[activation.name]
        target.p0, target.p1 = activation.alpha, activation.beta


def check(status: int) -> None:
    if status == lib.FC_ERROR_MEMORY:
        raise MemoryError("fastconv: not enough memory for a plan")
    if status != lib.FC_OK:
        raise ValueError(f"fastconv: the C library refused its arguments (status {status})")
