"""Resizing, row by row of the result: the rows of the source that it is the sum of are added, in float64, then pixels
are sums of those of that line."""

from __future__ import annotations

from math import prod

import numpy as np

from ..._threads import get_num_threads
from ...spec import ResizeSpec
from ..tables import LIGHT, TABLES
from .core import workers
from .core.arrays import addresses_of
from .core.compile import jit
from .core.intrinsics import compact, fetch_add, pointer
from .core.target import ISA

__all__ = ["ResizeKernel"]

#: Elements below which waking another thread costs more than it saves, those of a piece, and those of a line of pixels.
_FLOOR, _PIECE, _LINE = 65536, 16384, 2**17


@jit
def walk(
    counter, rows, together, sizes, steps, first0, index0, weight0, first1, index1, weight1, first2, index2, weight2,
    addresses, like, line,
):  # fmt: skip
    """Takes so many rows together, until none is left. sizes: outer channels, lanes, source's width, d, h, w of the
    result; lanes are neighbours, and so are pixels if there are several lanes. steps: of x, of the result, over n, c,
    d, h, w."""
    compact()
    x, out = pointer(addresses[0], like), pointer(addresses[1], like)
    channels, lanes, width, depth, height, columns = sizes
    row = fetch_add(counter) * together
    while row < rows:
        for r in range(row, min(rows, row + together)):
            h, rest = r % height, r // height
            d, rest = rest % depth, rest // depth
            c, n = rest % channels, rest // channels
            for i in range(width * lanes):
                line[i] = 0.0
            for a in range(first0[d], first0[d + 1]):
                for b in range(first1[h], first1[h + 1]):
                    by = weight0[a] * weight1[b]
                    at = n * steps[0, 0] + c * steps[0, 1] + index0[a] * steps[0, 2] + index1[b] * steps[0, 3]
                    if lanes > 1:
                        for i in range(width * lanes):
                            line[i] += by * float(x[at + i])
                    else:
                        for i in range(width):
                            line[i] += by * float(x[at + i * steps[0, 4]])
            at = n * steps[1, 0] + c * steps[1, 1] + d * steps[1, 2] + h * steps[1, 3]
            for o in range(columns):
                for lane in range(lanes):
                    total = 0.0
                    for t in range(first2[o], first2[o + 1]):
                        total += weight2[t] * line[index2[t] * lanes + lane]
                    out[at + o * steps[1, 4] + lane] = total
        row = fetch_add(counter) * together


class ResizeKernel:
    backend = "numba"
    isa = ISA
    algorithm = "rows"
    reason = "rows are added first, then their pixels, in float64"

    def __init__(self, spec: ResizeSpec) -> None:
        self.spec = spec
        fill = (1,) * (3 - spec.ndim)
        self._source, self._target = (*fill, *spec.source_size), (*fill, *spec.target_size)
        self._dtype = np.dtype(spec.dtype)
        self._total = spec.n * spec.c * prod(spec.target_size)
        self._light = self._make_tables() if spec.table_bytes <= LIGHT else None

    @property
    def workspace_bytes(self) -> int:
        return get_num_threads() * 8 * max(_LINE, self._source[2])

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w

    def _make_tables(self) -> list[np.ndarray]:
        """Of each of three dimensions: where the terms of each result begin, their positions, their weights."""
        one = (np.array([0, 1]), np.array([0]), np.array([1.0]))
        tables = [*[one] * (3 - self.spec.ndim), *map(self.spec.table, range(self.spec.ndim))]
        return [np.ascontiguousarray(part) for table in tables for part in table]

    def _tables(self) -> list[np.ndarray]:
        if self._light is not None:
            return self._light
        return TABLES.get((self.spec, self.backend), 2 * self.spec.table_bytes, self._make_tables)

    def _steps(self, a: np.ndarray) -> list[int]:
        """Strides in elements over n, c, d, h, w."""
        n, *rest = [stride // a.itemsize for stride in a.strides]
        if self.spec.channels_last:
            rest = [rest[-1], *rest[:-1]]
        return [n, rest[0], *[0] * (3 - self.spec.ndim), *rest[1:]]

    def __call__(self, x: np.ndarray, out: np.ndarray) -> None:
        spec, steps = self.spec, np.array([self._steps(x), self._steps(out)], np.int64)
        width, lanes = self._source[2], spec.c
        neighbours = steps[0, 1] == steps[1, 1] == 1 and (width == 1 or steps[0, 4] == lanes)
        if not neighbours or width * lanes > _LINE:
            lanes = 1
        depth, height, columns = self._target
        sizes = (spec.c // lanes, lanes, width, depth, height, columns)
        rows = self._total // (columns * lanes)
        together = 1 + _PIECE // (columns * lanes)
        tables, addresses, counter = self._tables(), addresses_of(x, out), np.zeros(1, np.int64)
        like = np.empty(0, self._dtype)

        def work() -> None:
            walk(counter, rows, together, sizes, steps, *tables, addresses, like, np.empty(width * lanes))

        threads = min(get_num_threads(), -(-rows // together)) if self._total >= _FLOOR else 1
        workers.run(work, threads)
