"""The process that one contender runs in: ``python -m fastconv.bench.worker``, asked and answering over pipes."""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import repeat
from typing import Any

from .clock import Clock

__all__ = ["serve"]

#: Elements of a result that are sent to be compared.
SAMPLES = 97


class Session:
    """What the parent may ask for: the methods of this class, by name."""

    def __init__(self) -> None:
        # Before any other thread is started: the counter follows them from here on.
        self._clock = Clock()
        self._peer: Any = None
        self._variants: dict[str, Any] = {}
        self._spinners: dict[str, Callable[[], float] | None] = {}

    def open(self, module: str, threads: int, options: dict[str, Any]) -> dict[str, Any]:
        """Load a peer. Its versions, and whether cycles can be counted here."""
        self._peer = import_module(module).Peer(threads, **options)
        return {"versions": self._peer.versions, "cycles": self._clock.has_cycles}

    def prepare(self, problem: Any) -> dict[str, dict[str, Any]]:
        """Set a problem up and run it once in every way: names, what is known of them, and a sample of each result."""
        self._variants = {}
        gc.collect()
        self._variants = self._peer.prepare(problem)
        return {
            name: {"about": (variant.note, variant.warm_up), "sample": _sample_of(variant)}
            for name, variant in self._variants.items()
        }

    def time(self, name: str, calls: int) -> tuple[int, float]:
        """Cycles and seconds of so many calls."""
        return self._timed(self._variants[name].run, calls)[1:]

    def peak(self, dtype: str) -> tuple[float, int, float] | None:
        """Operations, cycles and seconds of a run of fused multiply-adds; None where none can be run."""
        if dtype not in self._spinners:
            self._spinners[dtype] = self._peer.spinner(dtype)
        spin = self._spinners[dtype]
        return None if spin is None else self._timed(spin, 1)

    def _timed(self, run: Callable[[], Any], calls: int) -> tuple[Any, int, float]:
        cycles, seconds = self._clock.read()
        for _ in repeat(None, calls):
            result = run()
        end = self._clock.read()
        return result, end[0] - cycles, end[1] - seconds


def _sample_of(variant: Any) -> Any:
    """None of what is not compared."""
    result = variant.run()
    return _sample(variant.array(result)) if variant.computes else None


def _sample(array: Any) -> Any:
    """Elements spread over the array in the order of its indices, and its size."""
    import numpy as np

    flat = np.asarray(array).reshape(-1)
    picked = flat[np.linspace(0, flat.size - 1, min(SAMPLES, flat.size)).astype(int)]
    return array.shape, picked.astype(np.float64)


def serve() -> None:
    """Answer requests, ``(method, arguments)``, with ``("ok", result)`` or ``(kind of error, text)`` until they end."""
    # Packages print; the pipe is ours alone.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    session = Session()
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = ("ok", getattr(session, method)(*arguments))
        except Exception as error:  # whatever a peer raises is the parent's to report
            answer = (type(error).__name__, str(error))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    serve()
