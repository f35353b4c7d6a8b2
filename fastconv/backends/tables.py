"""What the backends share: tables that are long to make and to keep, and sums that float32 is too short for."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from .base import Kernel

__all__ = ["ADDITIONS", "LIGHT", "TABLES", "Widened"]

#: Bytes that anyone may keep for as long as a kernel lives.
LIGHT = 64 * 2**10

#: So many numbers are added one after the other in float32; where there are more, in float64. Each addition rounds by
#: 2^-24 of the sum at most, so the error of a sum stays below 2^-16 of the sum of the absolute values.
ADDITIONS = 256


class _Kept:
    """What the last keys got, as long as all of it together takes no more than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, nbytes: int, make: Callable[[], Any]) -> Any:
        """What ``make`` made of this key, which takes at most ``nbytes``. More than the limit is not kept at all."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key][0]
        made = make()
        if nbytes <= self._limit:
            with self._lock:
                if key not in self._found:
                    self._found[key] = made, nbytes
                    self._bytes += nbytes
                while self._bytes > self._limit:
                    self._bytes -= self._found.popitem(last=False)[1][1]
        return made

    def renew_lock(self) -> None:
        self._lock = threading.Lock()


#: The tables of all kernels that are not light.
TABLES = _Kept(64 * 2**20)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TABLES.renew_lock)


class Widened:
    """A problem of float32, computed by the float64 kernel of the same one."""

    def __init__(self, kernel: Kernel, result: int) -> None:
        """result: which argument of a call is the result."""
        self._kernel, self._result = kernel, result
        self.backend, self.isa = kernel.backend, kernel.isa
        self.algorithm = f"{kernel.algorithm} in float64"
        self.reason = f"{kernel.reason}; over {ADDITIONS} numbers are added one after the other"

    @property
    def workspace_bytes(self) -> int:
        """Without the copies of the arrays in float64."""
        return self._kernel.workspace_bytes

    def pack(self, w: np.ndarray) -> Any:
        return self._kernel.pack(w)

    def __call__(self, *arrays: np.ndarray | None) -> None:
        result = arrays[self._result]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            wide = [
                a.astype(np.float64) if a is not None and a.dtype == np.float32 else a
                for a in arrays
                if a is not result
            ]
            wide.insert(self._result, np.empty(result.shape))
            self._kernel(*wide)
            result[...] = wide[self._result]
