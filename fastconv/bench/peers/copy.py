"""Copies of as many bytes as a function reads and writes: what memory, or a cache, allows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

import fastconv as fc

from ..maps import Map
from . import Refused, Variant


class Peer:
    def __init__(self, threads: int) -> None:
        fc.set_num_threads(threads)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self.versions: dict[str, str] = {}

    def prepare(self, problem: object) -> dict[str, Variant]:
        layer = getattr(problem, "layer", None)
        if not isinstance(layer, Map):
            raise Refused("only maps are compared with copies")
        x, y = (fc.empty(layer.operations(1) // 8) for _ in range(2))
        x.fill(1)
        parts = list(zip(np.array_split(y, self._threads), np.array_split(x, self._threads), strict=True))

        def by_numpy() -> None:
            if self._threads == 1:
                np.copyto(y, x)
            else:
                list(self._pool.map(lambda pair: np.copyto(*pair), parts))

        return {
            "NumPy": Variant(by_numpy, computes=False),
            "fastconv": Variant(partial(fc.activate, x, None, out=y), computes=False),
        }
