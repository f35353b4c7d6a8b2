"""Copies, and what padding repeats, by NumPy's indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...spec import CopySpec
from .kernel import ReferenceKernel

#: numpy.pad's words.
_MODES: dict[str, Any] = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class CopyKernel(ReferenceKernel):
    algorithm = "NumPy's indices"
    reason = "plain NumPy"

    def __init__(self, spec: CopySpec) -> None:
        self.spec = spec

    def _places(self) -> np.ndarray:
        """Of each element of the padded array, which of x it is, as they are numbered; -1 where it is the value."""
        spec = self.spec
        numbers = np.arange(np.prod(spec.shape, dtype=np.int64)).reshape(spec.shape)
        grown = np.maximum(np.array(spec.pads, np.int64).reshape(-1, 2), 0)
        if grown.any():
            how = {} if spec.mode != "constant" else {"constant_values": -1}
            numbers = np.pad(numbers, grown, _MODES[spec.mode], **how)
        kept = [
            slice(max(-before, 0), max(before, 0) + size + after)
            for size, (before, after) in zip(spec.shape, spec.pads, strict=True)
        ]
        return numbers[tuple(kept)]

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        spec, places = self.spec, self._places()
        if spec.backward:
            sums = np.zeros(np.prod(spec.shape, dtype=np.int64) + 1)  # the last one of what was no element of x
            np.add.at(sums, places.reshape(-1), x.reshape(-1).astype(np.float64))
            with np.errstate(over="ignore"):
                out[...] = sums[:-1].reshape(spec.shape)
            return
        with np.errstate(over="ignore"):
            values = np.append(x.reshape(-1).astype(out.dtype), np.empty(1, out.dtype))
        values[-1:] = np.frombuffer(spec.value.to_bytes(out.itemsize, "little"), out.dtype)
        out[...] = values[places]
