"""Copies, and sums of what padding repeats. A piece of work is some elements of the result, in order."""

from __future__ import annotations

from math import prod

import numpy as np

from ..._threads import get_num_threads
from ...spec import CopySpec
from .core import workers
from .core.arrays import addresses_of
from .core.compile import jit
from .core.intrinsics import compact, fetch_add, pointer
from .core.target import ISA

__all__ = ["CopyKernel"]

#: Elements below which waking another thread costs more than it saves, and those of a piece.
_FLOOR, _PIECE = 65536, 16384


@jit
def walk(counter, pieces, sizes, strides, firsts, begins, places, value, addresses, like, out_like):
    """Every piece that is left.

    Position i of an axis is the sum of what is at places[begins[k]] to places[begins[k + 1] - 1] of x, k being i behind
    firsts of the axis; the value where that is nothing. strides: of x and of the result.
    """
    compact()
    x, out = pointer(addresses[0], like), pointer(addresses[1], out_like)
    rank, total = len(sizes), 1
    for size in sizes:
        total *= size
    index, count = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    while True:
        piece = fetch_add(counter)
        if piece >= pieces:
            return
        for i in range(piece * _PIECE, min(total, (piece + 1) * _PIECE)):
            at, first, several, rest = 0, 0, 1, i
            for axis in range(rank - 1, -1, -1):
                position = rest % sizes[axis]
                rest //= sizes[axis]
                at += position * strides[1, axis]
                begin = begins[firsts[axis] + position]
                count[axis] = begins[firsts[axis] + position + 1] - begin
                index[axis] = begin
                several *= count[axis]
                if count[axis]:
                    first += places[begin] * strides[0, axis]
            if several == 0:
                out[at] = value
            elif several == 1:
                out[at] = x[first]
            else:
                sums = 0.0
                for number in range(several):
                    rest, place = number, 0
                    for axis in range(rank - 1, -1, -1):
                        place += places[index[axis] + rest % count[axis]] * strides[0, axis]
                        rest //= count[axis]
                    sums += x[place]
                out[at] = sums


def _sources(mode: str, size: int, before: int, after: int) -> np.ndarray:
    """For each position of the padded axis, that in x; -1 for the padding's value."""
    p = np.arange(-before, size + after)
    match mode:
        case "reflect":
            return np.where(p < 0, -p, np.where(p < size, p, 2 * (size - 1) - p))
        case "replicate":
            return np.clip(p, 0, size - 1)
        case "circular":
            return p % size
    return np.where((p >= 0) & (p < size), p, -1)


class CopyKernel:
    backend = "numba"
    isa = ISA
    workspace_bytes = 0
    algorithm = "elementwise"
    reason = "element by element"

    def __init__(self, spec: CopySpec) -> None:
        self.spec = spec
        self._sizes = spec.shape if spec.backward else spec.padded_shape
        begins, places, self._firsts = [], [], []
        entries = behind = 0
        for size, (before, after) in zip(spec.shape, spec.pads, strict=True):
            sources = _sources(spec.mode, size, before, after)
            inside = np.flatnonzero(sources >= 0)
            if spec.backward:
                inside = inside[np.argsort(sources[inside], kind="stable")]
                counts, found = np.bincount(sources[inside], minlength=size), inside
            else:
                counts, found = (sources >= 0) * 1, sources[inside]
            self._firsts.append(behind)
            begins.append(entries + np.concatenate([[0], np.cumsum(counts)]))
            places.append(found)
            entries += len(found)
            behind += len(begins[-1])
        self._tables = (
            np.array(self._firsts, np.int64),
            *(np.concatenate([[0], *parts]).astype(np.int64)[1:] for parts in (begins, places)),
        )
        self._total = prod(self._sizes)
        self._pieces = -(-self._total // _PIECE)
        self._likes = np.empty(0, spec.types.x), np.empty(0, spec.types.y)
        item = self._likes[1].itemsize
        self._value = np.frombuffer(spec.value.to_bytes(item, "little"), self._likes[1].dtype)[0]

    def pack(self, w: np.ndarray) -> np.ndarray:
        """A copy has no weights: what comes is returned."""
        return w

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        strides = np.array([[s // a.itemsize for s in a.strides] for a in (x, out)], np.int64)
        sizes, addresses, counter = np.array(self._sizes, np.int64), addresses_of(x, out), np.zeros(1, np.int64)
        threads = min(get_num_threads(), self._pieces) if self._total >= _FLOOR else 1
        workers.run(
            lambda: walk(
                counter, self._pieces, sizes, strides, *self._tables, self._value, addresses, *self._likes
            ),
            threads,
        )  # fmt: skip
