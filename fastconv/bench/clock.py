"""Clocks: wall time and, on Linux, the cycles that the processor spent on this process.

On a shared or virtual machine other people's work makes wall times swing, even by a factor of two; cycles spent for
this process do not contain it. What the kernel does for the process, such as fresh pages for a new result, belongs to
them; where the system does not let that be counted, they are those of the process's own code.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from io import FileIO
from time import perf_counter

__all__ = ["Clock"]

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTE_BYTES = 64
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6


class Clock:
    """Reads both. Made before a process starts threads, it counts their cycles too."""

    def __init__(self) -> None:
        self._counter = _open_counter(0)
        self._with_kernel = self._counter is not None
        if not self._with_kernel:
            self._counter = _open_counter(_EXCLUDE_KERNEL)

    @property
    def counts(self) -> str:
        """Which cycles are counted, in words."""
        return f"cycles of each process, the kernel's for it {'included' if self._with_kernel else 'left out'}"

    @property
    def has_cycles(self) -> bool:
        return self._counter is not None

    def read(self) -> tuple[int, float]:
        """Cycles (0 where they cannot be counted) and seconds."""
        cycles = 0 if self._counter is None else struct.unpack("=Q", self._counter.read(8))[0]
        return cycles, perf_counter()


def _open_counter(excluded: int) -> FileIO | None:
    """The file of perf_event_open for the cycles of this process on any CPU; None where that is refused.

    Left open it would go on counting, in all children too, and a processor has few counters.
    """
    number = _SYSCALL.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return None
    # struct perf_event_attr: type (hardware), size, config (cycles), period, sample_type, read_format, flags, zeros.
    flags = _INHERIT | _EXCLUDE_HYPERVISOR | excluded
    attribute = struct.pack("=IIQQQQQ", 0, _ATTRIBUTE_BYTES, 0, 0, 0, 0, flags).ljust(_ATTRIBUTE_BYTES, b"\0")
    descriptor = ctypes.CDLL(None).syscall(number, attribute, 0, -1, -1, 0)
    return FileIO(descriptor) if descriptor >= 0 else None
