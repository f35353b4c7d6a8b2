"""Clocks: wall time and, on Linux, the cycles that the processor spent on this process.

On a shared or virtual machine other people's work makes wall times swing, even by a factor of two; cycles spent in this
process's own code do not contain it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from time import perf_counter

__all__ = ["Clock"]

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTE_BYTES = 64
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class Clock:
    """Reads both. Made before a process starts threads, it counts their cycles too; time in the kernel it does not."""

    def __init__(self) -> None:
        self._counter = _open_counter()

    @property
    def has_cycles(self) -> bool:
        return self._counter is not None

    def read(self) -> tuple[int, float]:
        """Cycles (0 where they cannot be counted) and seconds."""
        cycles = 0 if self._counter is None else struct.unpack("=Q", os.read(self._counter, 8))[0]
        return cycles, perf_counter()


def _open_counter() -> int | None:
    """A file descriptor of perf_event_open for the cycles of this process on any CPU; None where that is refused."""
    number = _SYSCALL.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return None
    # struct perf_event_attr: type (hardware), size, config (cycles), period, sample_type, read_format, flags, zeros.
    flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
    attribute = struct.pack("=IIQQQQQ", 0, _ATTRIBUTE_BYTES, 0, 0, 0, 0, flags).ljust(_ATTRIBUTE_BYTES, b"\0")
    descriptor = ctypes.CDLL(None).syscall(number, attribute, 0, -1, -1, 0)
    return descriptor if descriptor >= 0 else None
