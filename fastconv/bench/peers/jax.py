"""JAX on the CPU: compiled functions in both layouts, gradients by its own transposition."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..layers import Conv, Gemm, Pool, Problem
from . import Variant


class Peer:
    def __init__(self, threads: int) -> None:
        # XLA starts a thread for every CPU of the process: this is the one way to have fewer.
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        import jax

        jax.config.update("jax_enable_x64", True)
        self.versions = {"jax": jax.__version__}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        operands = problem.operands()
        if isinstance(problem.layer, Gemm):
            return {"matmul": _variant(problem, lambda x, w: x @ w, operands)}
        if isinstance(problem.layer, Pool):
            return {layout: _pool(problem, problem.layer, layout, operands) for layout in ("NCHW", "NHWC")}
        return {layout: _conv(problem, problem.layer, layout, operands) for layout in ("NCHW", "NHWC")}


def _conv(problem: Problem, layer: Conv, layout: str, operands: dict[str, np.ndarray]) -> Variant:
    from jax import lax

    ndim = len(layer.size)
    spatial = "DHW"[-ndim:]
    names = (f"NC{spatial}", f"OI{spatial}", f"NC{spatial}")
    # Where an axis of ours goes, and the way back.
    axes = {"x": tuple(range(ndim + 2)), "w": tuple(range(ndim + 2))}
    if layout == "NHWC":
        names = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
        axes = {"x": (0, *range(2, ndim + 2), 1), "w": (*range(2, ndim + 2), 1, 0)}
    operands = {name: value.transpose(axes["w" if name == "w" else "x"]) for name, value in operands.items()}
    back = np.argsort(axes["w" if problem.direction == "bwd_weight" else "x"])

    def convolve(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x,
            w,
            layer.stride,
            [(p, p) for p in layer.padding],
            rhs_dilation=layer.dilation,
            dimension_numbers=names,
            feature_group_count=layer.groups,
        )

    return _variant(problem, convolve, operands, lambda result: np.asarray(result).transpose(back))


def _pool(problem: Problem, layer: Pool, layout: str, operands: dict[str, np.ndarray]) -> Variant:
    import jax
    from jax import lax

    last = layout == "NHWC"
    ndim = len(layer.size)
    axes = (0, *range(2, ndim + 2), 1) if last else tuple(range(ndim + 2))

    def around(values: Any, other: Any) -> tuple[Any, ...]:
        return (other, *values, other) if last else (other, other, *values)

    window = (around(layer.kernel, 1), around(layer.stride, 1), around([(p, p) for p in layer.padding], (0, 0)))

    def pool(x: Any) -> Any:
        if layer.how == "max":
            return lax.reduce_window(x, -np.inf, lax.max, *window)
        total = lax.reduce_window(x, 0.0, lax.add, *window)
        return total if layer.how == "sum" else total / prod(layer.kernel)

    arrays = {name: jax.device_put(np.ascontiguousarray(value.transpose(axes))) for name, value in operands.items()}
    if problem.direction == "fwd":
        compiled, arguments = jax.jit(pool), (arrays["x"],)
    else:
        compiled = jax.jit(lambda x, dy: jax.vjp(pool, x)[1](dy)[0])
        arguments = (arrays["x"], arrays["dy"])
    back = np.argsort(axes)
    return Variant(lambda: compiled(*arguments).block_until_ready(), lambda result: np.asarray(result).transpose(back))


def _variant(
    problem: Problem,
    function: Callable[..., Any],
    operands: dict[str, np.ndarray],
    array: Callable[[Any], np.ndarray] = np.asarray,
) -> Variant:
    import jax

    operands = {name: jax.device_put(np.ascontiguousarray(value)) for name, value in operands.items()}
    x, w, dy = operands["x"], operands["w"], operands.get("dy")
    if problem.direction == "bwd_input":
        compiled = jax.jit(lambda w, dy: jax.linear_transpose(lambda x: function(x, w), x)(dy)[0])
        arguments = (w, dy)
    elif problem.direction == "bwd_weight":
        compiled = jax.jit(lambda x, dy: jax.linear_transpose(lambda w: function(x, w), w)(dy)[0])
        arguments = (x, dy)
    elif problem.weights == "constant":
        compiled, arguments = jax.jit(lambda x: function(x, w)), (x,)
    else:
        compiled, arguments = jax.jit(function), (x, w)
    return Variant(lambda: compiled(*arguments).block_until_ready(), array)
