"""fastconv itself, on one backend and instruction set and by one algorithm, or those that it chooses."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import fastconv as fc

from ...backends import backend
from ...backends.base import isa_of
from ...settings import settings
from ..layers import Conv, Gemm, Pool, Problem
from ..maps import ENTRIES, Map, arrays_of
from . import Variant, first

#: A run of the peak: some milliseconds.
PEAK_STEPS = 1_500_000


class Peer:
    def __init__(
        self,
        threads: int,
        backend: str | None = None,
        isa: str | None = None,
        algorithm: str | None = None,
        layouts: tuple[str, ...] = ("NCHW", "NHWC"),
    ) -> None:
        fc.set_num_threads(threads)
        self._threads = threads
        self._layouts = layouts
        self._precision = ExitStack()
        always = ExitStack()
        if backend is not None:
            always.enter_context(fc.use_backend(backend))
        if isa is not None:
            always.enter_context(fc.use_isa(isa))
        if algorithm is not None:
            always.enter_context(fc.use_algorithm(algorithm))
        self._always = always
        self.versions = {"fastconv": fc.__version__}
        if backend == "numba":
            import numba

            self.versions["numba"] = numba.__version__

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        self._precision.close()
        self._precision.enter_context(fc.precision(problem.precision))
        layer = problem.layer
        if isinstance(layer, Map):
            return {"call": _explained(ENTRIES[layer.layer].ours(fc, arrays_of(problem)), first)}
        operands = problem.operands()
        if isinstance(layer, Gemm):
            return {"rows": self._gemm(**operands)}
        make = self._conv if isinstance(layer, Conv) else self._pool
        variants = {}
        for layout in self._layouts:
            local = {name: laid_out(array, layout) if name != "w" else array for name, array in operands.items()}
            variants |= make(problem, layer, layout, **local)
        return variants

    def _gemm(self, x: np.ndarray, w: np.ndarray) -> Variant:
        y = fc.empty((x.shape[0], w.shape[1]), x.dtype)
        return _explained(partial(fc.matmul, x, w, out=y))

    def _conv(
        self, problem: Problem, layer: Conv, layout: str, x: np.ndarray, w: np.ndarray, dy: np.ndarray
    ) -> dict[str, Variant]:
        name = f"conv{len(layer.size)}d"
        rest = (layer.stride, layer.padding, layer.dilation, layer.groups)
        if problem.direction == "bwd_weight":
            backward_weight = getattr(fc, f"{name}_backward_weight")
            dw = fc.empty(w.shape, w.dtype)
            return {layout: _explained(partial(backward_weight, x, dy, w.shape, *rest, layout=layout, out=dw))}
        array = _READ[layout]
        if problem.direction == "bwd_input":
            backward_input = getattr(fc, f"{name}_backward_input")
            dx = fc.empty(x.shape, x.dtype)
            return {layout: _explained(partial(backward_input, dy, w, x.shape, *rest, layout=layout, out=dx), array)}
        y = None if problem.fresh else fc.empty(dy.shape, dy.dtype)
        if problem.weights == "constant":
            start = perf_counter()
            plan = getattr(fc, f"plan_{name}")(x.shape, w, None, *rest, layout=layout)
            run = partial(plan, x, out=y)
            run()
            return {layout: Variant(run, array, f"{plan.algorithm}, {plan.isa}", perf_counter() - start)}
        conv = getattr(fc, name)
        return {layout: _explained(partial(conv, x, w, None, *rest, layout=layout, out=y), array)}

    def _pool(self, problem: Problem, layer: Pool, layout: str, x: np.ndarray, dy: np.ndarray) -> dict[str, Variant]:
        name = f"{layer.how}_pool{len(layer.size)}d"
        window = (layer.kernel, layer.stride, layer.padding)
        array = _READ[layout]
        pool = getattr(fc, name)
        if problem.direction == "fwd":
            y = fc.empty(dy.shape, dy.dtype)
            return {layout: _explained(partial(pool, x, *window, layout=layout, out=y), array)}
        backward = getattr(fc, f"{name}_backward")
        dx = fc.empty(x.shape, x.dtype)
        variants = {layout: _explained(partial(backward, dy, x, *window, layout=layout, out=dx), array)}
        if layer.how == "max":
            _, indices = pool(x, *window, return_indices=True, layout=layout)
            run = partial(backward, dy, x, *window, layout=layout, indices=indices, out=dx)
            variants[f"{layout}, indices"] = _explained(run, array)
        return variants

    def spinner(self, dtype: str) -> Callable[[], float] | None:
        """What runs fused multiply-adds in registers, on every thread, and returns how many operations they were.

        None without the C backend.
        """
        if fc.backends()["c"] is not None:
            return None
        from ..._c import ffi, lib

        isas = backend("c").isas()
        number = list(isas).index(isa_of(isas, settings().isa))
        kind = ("float32", "float64").index(dtype)

        def spin(_: int = 0) -> float:
            operations = ffi.new("double *")
            lib.fc_fma_peak(number, kind, PEAK_STEPS, operations)
            return operations[0]

        if self._threads == 1:
            return spin
        pool = self._always.enter_context(ThreadPoolExecutor(self._threads))
        return lambda: sum(pool.map(spin, range(self._threads)))


#: How to look at an array of a layout with its channels first.
_READ = {"NCHW": np.asarray, "NHWC": lambda array: np.moveaxis(array, -1, 1)}


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    if layout == "NCHW":
        return array
    moved = np.moveaxis(array, 1, -1)
    result = fc.empty(moved.shape, array.dtype)
    result[...] = moved
    return result


def _explained(run: Callable[[], Any], array: Callable[[Any], np.ndarray] = np.asarray) -> Variant:
    start = perf_counter()
    kernel = fc.explain(run)[-1].kernel
    return Variant(run, array, f"{kernel.algorithm}, {kernel.isa}", perf_counter() - start)
