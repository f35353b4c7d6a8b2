"""Programs: many kernels that run one after another in one call of the library, on buffers that the caller planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from .kernel import CKernel, Packed, TableKernel
from .library import address_of_contiguous, check, scratch


class Place(NamedTuple):
    """Where an array lies, C-contiguous: ``offset`` bytes into buffer number ``buffer``.

    ``shape`` is that of an operand of a map or a reduction that is broadcast: all axes, of size 1 where it is. None: it
    has the shape that the kernel's own arrays have.
    """

    buffer: int
    offset: int = 0
    shape: tuple[int, ...] | None = None


Array = Place | np.ndarray | Packed | None


class Program:
    """Steps on ``nbuffers`` buffers, which are handed over at each run; what steps keep of their own is added to them.

    Two threads may run it at once, each on buffers of its own.
    """

    def __init__(self, nbuffers: int, steps: Sequence[tuple[CKernel | TableKernel, Sequence[Array]]]) -> None:
        """Each step is a kernel and its arrays, in the order of its call: where they lie, or weights that stay.

        ValueError for a buffer that there is not, and for arrays that are not those of the kernel.
        """
        self.nbuffers = nbuffers
        self._kept: list[Any] = []
        self._steps = ffi.new("fc_step[]", len(steps))
        self._plans = []
        for step, (kernel, arrays) in zip(self._steps, steps, strict=True):
            plan, slots = kernel.step(arrays)
            self._plans.append(plan)
            step.plan = plan.pointer
            step.buffer = [-1] * lib.FC_SLOTS
            for slot, array in zip(slots, arrays, strict=True):
                if array is not None:
                    step.buffer[slot], step.offset[slot], _ = self._placed(array)
        self._sizes: dict[int, int] = {}

    def _placed(self, array: Array) -> Place:
        if isinstance(array, Place):
            if not 0 <= array.buffer < self.nbuffers:
                raise ValueError(f"{array}: allowed are buffers from 0 to {self.nbuffers - 1}")
            return array
        self._kept.append(array.pointer if isinstance(array, Packed) else address_of_contiguous(array))
        return Place(self.nbuffers + len(self._kept) - 1)

    def workspace_bytes(self, nthreads: int) -> int:
        """Scratch that a run on so many threads takes, which all steps share."""
        return lib.fc_steps_workspace(self._steps, len(self._steps), nthreads)

    def __call__(self, *buffers: np.ndarray) -> None:
        """Run all steps. buffers: C-contiguous arrays, which have the bytes that the steps read and write there."""
        if len(buffers) != self.nbuffers:
            raise ValueError(f"{len(buffers)} buffers: this program has {self.nbuffers}")
        nthreads = get_num_threads()
        nbytes = self._sizes.get(nthreads)
        if nbytes is None:
            nbytes = self._sizes[nthreads] = self.workspace_bytes(nthreads)
        table = ffi.new("void *[]", [*map(address_of_contiguous, buffers), *self._kept])
        check(lib.fc_run_steps(self._steps, len(self._steps), table, len(table), scratch(nbytes), nthreads))
