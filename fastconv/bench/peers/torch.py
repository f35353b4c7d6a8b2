"""PyTorch on the CPU (oneDNN): both layouts, and weights packed beforehand where they are constant."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch.nn import functional as F

from ..layers import Conv, Gemm, Pool, Problem
from ..maps import ENTRIES, Map, arrays_of
from . import Variant, first

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class Peer:
    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.versions = {"torch": torch.__version__}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        layer = problem.layer
        if isinstance(layer, Map):
            run = ENTRIES[layer.layer].theirs(torch, arrays_of(problem, torch.from_numpy))
            run()  # as ours has run once, which shows where it changes its arrays
            return {"call": Variant(run, lambda y: first(y).numpy())}
        operands = {name: torch.from_numpy(array) for name, array in problem.operands().items()}
        if isinstance(layer, Gemm):
            y = torch.empty(operands["x"].shape[0], layer.n, dtype=operands["x"].dtype)
            return {"mm": _variant(partial(torch.mm, operands["x"], operands["w"], out=y))}
        layouts = {"NCHW": torch.contiguous_format}
        if len(layer.size) in _CHANNELS_LAST:
            layouts["NHWC"] = _CHANNELS_LAST[len(layer.size)]
        make = _conv if isinstance(layer, Conv) else _pool
        variants = {}
        for name, memory in layouts.items():
            local = {key: tensor.contiguous(memory_format=memory) for key, tensor in operands.items()}
            variants |= make(problem, layer, name, **local)
        return variants


def _variant(run: Callable[[], Any]) -> Variant:
    return Variant(run, lambda y: y.numpy())


def _conv(
    problem: Problem, layer: Conv, name: str, x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor
) -> dict[str, Variant]:
    ndim = len(layer.size)
    settings = (layer.stride, layer.padding, layer.dilation)
    if problem.direction != "fwd":
        which = [problem.direction == "bwd_input", problem.direction == "bwd_weight", False]
        nothing = [0] * ndim
        backward = partial(
            torch.ops.aten.convolution_backward, dy, x, w, None, *settings, False, nothing, layer.groups, which
        )
        return {name: Variant(backward, lambda gradients: gradients[which.index(True)].numpy())}
    conv = getattr(F, f"conv{ndim}d")
    variants = {name: _variant(partial(conv, x, w, None, *settings, layer.groups))}
    if problem.weights == "constant" and ndim == 2 and problem.dtype == "float32":
        # What a frozen, compiled model of PyTorch calls.
        packed = torch.ops.mkldnn._reorder_convolution_weight(
            w, layer.padding, layer.stride, layer.dilation, layer.groups, list(x.shape)
        )
        call = partial(
            torch.ops.mkldnn._convolution_pointwise,
            x,
            packed,
            None,
            layer.padding,
            layer.stride,
            layer.dilation,
            layer.groups,
            "none",
            [],
            "",
        )
        variants[f"{name}, packed"] = _variant(call)
    return variants


def _pool(problem: Problem, layer: Pool, name: str, x: torch.Tensor, dy: torch.Tensor) -> dict[str, Variant]:
    window = (layer.kernel, layer.stride, layer.padding)
    aten = torch.ops.aten
    if layer.how == "max":
        if problem.direction == "fwd":
            return {name: _variant(partial(F.max_pool2d, x, *window))}
        _, indices = aten.max_pool2d_with_indices(x, *window)
        backward = partial(aten.max_pool2d_with_indices_backward, dy, x, *window, [1, 1], False, indices)
        return {name: _variant(backward)}
    divisor = 1 if layer.how == "sum" else prod(layer.kernel)
    if problem.direction == "fwd":
        return {name: _variant(partial(F.avg_pool2d, x, *window, divisor_override=divisor))}
    return {name: _variant(partial(aten.avg_pool2d_backward, dy, x, *window, False, True, divisor))}
