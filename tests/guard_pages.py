"""Runs cases on one target (arguments: backend, instruction set or "") with every array against a guard page."""

from __future__ import annotations

import sys

import layouts
import numpy as np
from cases.conv import CONVS, conv
from cases.gemm import PRODUCTS
from cases.pool import A_POOLING, POOLS

import fastconv as fc
from fastconv import testing

_NAMES = {
    *(f"{c} channels 3x3" for c in (1, 7, 8, 17, 33)), *(f"{c} channels 1x1" for c in (3, 16, 31)),
    *(f"depthwise {c}" for c in (1, 7, 8, 17, 33)), *(f"kernel {k}x{k}" for k in range(1, 8)),
    "stride 2", "stride 2 7x7", "stride over kernel", "asymmetric pads stride 2", "negative pads", "pad over kernel",
    "cropped away on one side", "dilation 2", "dilation 2 stride 2", "2 groups", "depthwise stride 2", "one pixel",
    "depthwise multiplier 2", "deep 3x3", "deep 3x3 dilation 3", "deep 3x3x3", "deep 3x3 stride 2", "deep 1x1",
    "deep 1x7", "deep 5x1", "deep 7x7", "1-D deep", "wide", "tall", "1-D causal",
    "1-D long", "3-D", "3-D groups",
}  # fmt: skip


#: Taps that are not gone through in whole numbers of those that a kernel of weights' gradients takes at a time.
_MORE = [conv("2 groups of 3 5x5", 1, 6, 4, (7, 9), 5, 2, padding=2)]


def _guard_scratch_of_numba() -> None:
    """What kernels read beyond their scratch memory and packed weights changes no result: let it end the process."""
    from fastconv.backends.numba.conv import walk
    from fastconv.backends.numba.conv.winograd import plan
    from fastconv.backends.numba.gemm import product

    for module in (product, walk, plan):
        module.aligned = lambda count, dtype: testing.guarded(np.empty(count, dtype))


def _convolutions(dtype: str, last: bool, side: str) -> None:
    rng = np.random.default_rng(0)
    for case in [case for case in CONVS if case.name in _NAMES] + _MORE:
        print(case, dtype, last, side, flush=True)
        n, kw = case.ndim, {**case.arguments, "layout": layouts.name(last, case.ndim)}
        x = layouts.to(rng.standard_normal(case.x_shape).astype(dtype), last)
        w, b = rng.standard_normal(case.w_shape).astype(dtype), rng.standard_normal(case.oc).astype(dtype)
        x, w, b = (testing.guarded(a, side) for a in (x, w, b))
        forward, to_input, to_weight = (
            getattr(fc, f"conv{n}d{t}") for t in ("", "_backward_input", "_backward_weight")
        )
        y = forward(x, w, **kw)
        residual, out, dx, dw = (testing.guarded(a, side) for a in (y, y, x, w))
        forward(x, w, b, **kw, residual=residual, activation="relu", out=out)
        to_input(out, w, x.shape, **kw, out=dx)
        to_weight(x, out, w.shape, **kw, out=dw)


def _pools(dtype: str, last: bool, side: str) -> None:
    rng = np.random.default_rng(0)
    for case in POOLS:
        for kind in case.kinds:
            print(kind, case, dtype, last, side, flush=True)
            n, kw = case.ndim, {**case.arguments, "layout": layouts.name(last, case.ndim)}
            x = testing.guarded(layouts.to(rng.standard_normal(case.x_shape).astype(dtype), last), side)
            forward, backward = (getattr(fc, f"{kind}_pool{n}d{t}") for t in ("", "_backward"))
            y = testing.guarded(forward(x, **kw), side)
            forward(x, **kw, out=y)
            backward(y, x, **kw, out=testing.guarded(x, side))
            if kind.endswith("max") and "return_indices" in forward.__code__.co_varnames:
                indices = testing.guarded(forward(x, **kw, return_indices=True)[1], side)
                backward(y, x, **kw, indices=indices, out=testing.guarded(x, side))


def _products(dtype: str, side: str) -> None:
    rng = np.random.default_rng(0)
    for shapes in PRODUCTS:
        print(shapes, dtype, side, flush=True)
        a, b = (testing.guarded(rng.standard_normal(s).astype(dtype), side) for s in shapes)
        y = testing.guarded(a @ b, side)
        fc.matmul(a, b, out=y)
        fc.matmul_backward(y, a, b)
        transposed = testing.guarded(np.ascontiguousarray(a.T), side).T
        if a.ndim == 2:
            fc.matmul(transposed, b, out=y)


def main(backend: str, isa: str) -> None:
    target = testing.Target(backend, isa or None)
    if backend == "numba":
        _guard_scratch_of_numba()
    with testing.on(target):
        for dtype in ("float32", "float64"):
            for side in ("start", "end"):
                for last in (False, True):
                    _convolutions(dtype, last, side)
                    if target in testing.targets(A_POOLING):
                        _pools(dtype, last, side)
                _products(dtype, side)
    print("every case ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
