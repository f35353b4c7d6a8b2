"""Every operator in every direction, on every backend, instruction set and dtype, on a few layers of real networks.

pytest benchmarks --benchmark-only
pytest benchmarks --benchmark-only -k "conv2d and c-avx2 and float32" --benchmark-autosave --benchmark-compare
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import pytest

import fastconv as fc
from fastconv.bench.layers import Conv, Gemm, Pool, Problem, select
from fastconv.testing import on, targets

#: One layer of each kind that has kernels of its own: (operator, network, layer).
LAYERS = [
    ("conv", "resnet50_v1_5", "res4b_branch2b_3x3"),
    ("conv", "resnet50_v1_5", "res4b_branch2a_1x1"),
    ("conv", "mobilenet_v1", "dw7"),
    ("conv", "resnext_101", "conv24"),
    ("conv", "googlenet_v1", "inception_3a/5x5"),
    ("conv", "conv1d", "conv1d_7"),
    ("conv", "video", "unet3d_down"),
    ("gemm", "squares", "256"),
    ("pool", "resnet50_v1_5", "maxpool"),
    ("pool", "googlenet_v3", "inception_a"),
    ("pool", "sums", "sum3@112"),
    ("pool", "yolo_spp", "pool13"),
    ("pool", "boxes", "avg15@56"),
    ("pool", "mobilenet_v1", "avgpool"),
]

#: At least one round, as many as there is time for, and no more than that.
SECONDS, ROUNDS = 0.1, 7


@dataclass(frozen=True)
class Case:
    """A public function and a layer; ``make(x=..., w=..., dy=...)`` binds its arguments."""

    function: str
    layer: Conv | Gemm | Pool
    make: Callable[..., Callable[[], Any]]

    def __str__(self) -> str:
        return f"{self.function}-{self.layer.network}-{self.layer.layer}"


def _bound(name: str, *operands: str, **more: Any) -> Callable[..., Callable[[], Any]]:
    """What binds these of x, w, dy, and of their shapes (``"x.shape"``), to ``fastconv.<name>``, in this order."""

    def make(**arrays: np.ndarray) -> Callable[[], Any]:
        values = {**arrays, **{f"{key}.shape": array.shape for key, array in arrays.items()}}
        return partial(getattr(fc, name), *(values[operand] for operand in operands), **more)

    return make


def _convolutions(layer: Conv) -> Iterator[tuple[str, Callable[..., Callable[[], Any]]]]:
    d = len(layer.size)
    steps = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
    for name, operands in {
        f"conv{d}d": ("x", "w"),
        f"conv{d}d_backward_input": ("dy", "w", "x.shape"),
        f"conv{d}d_backward_weight": ("x", "dy", "w.shape"),
        f"conv{d}d_backward": ("dy", "x", "w"),
    }.items():
        yield name, _bound(name, *operands, **steps)
    # Transposed, from the output back to the size of the input, whose end the steps may not reach.
    sizes = zip(layer.size, layer.out, layer.stride, layer.padding, layer.dilation, layer.kernel, strict=True)
    rest = tuple(i - ((o - 1) * s - 2 * p + e * (k - 1) + 1) for i, o, s, p, e, k in sizes)
    for name, operands in {
        f"conv_transpose{d}d": ("dy", "w"),
        f"conv_transpose{d}d_backward": ("x", "dy", "w"),
    }.items():
        yield name, _bound(name, *operands, **steps, output_padding=rest)
    yield "conv_backward_bias", _bound("conv_backward_bias", "dy")
    yield f"plan_conv{d}d", lambda x, w, dy: partial(getattr(fc, f"plan_conv{d}d")(x.shape, w, **steps), x)


def _products(layer: Gemm) -> Iterator[tuple[str, Callable[..., Callable[[], Any]]]]:
    for name in ("matmul", "gemm", "linear"):
        yield name, _bound(name, "x", "w")
        # Of a square, the result has the shape of an operand.
        yield f"{name}_backward", _bound(f"{name}_backward", "x", "x", "w")
    yield "activate", _bound("activate", "x", activation="gelu")
    yield "activate_backward", _bound("activate_backward", "x", "x", activation="gelu")
    for name in ("silu", "sum"):
        yield name, _bound(name, "x")
    yield "silu_backward", _bound("silu_backward", "x", "x")
    yield "dropout", _bound("dropout", "x", seed=1)
    yield "multiply", _bound("multiply", "x", "w")
    yield "multiply_backward", _bound("multiply_backward", "x", "x", "w")
    yield "softmax", _bound("softmax", "x", dim=1)
    yield "softmax_backward", _bound("softmax_backward", "x", "x", dim=1)
    norm = {"running_mean": None, "running_var": None, "training": True}
    yield "batch_norm", _bound("batch_norm", "x", **norm)
    yield "batch_norm_backward", _bound("batch_norm_backward", "x", "x", **norm)


def _poolings(layer: Pool) -> Iterator[tuple[str, Callable[..., Callable[[], Any]]]]:
    if layer.is_global:
        names = {f"global_{how}_pool2d": {} for how in ("max", "avg", "sum")}
        names |= {f"adaptive_{how}_pool2d": {"output_size": 1} for how in ("max", "avg")}
    else:
        window = {"kernel_size": layer.kernel, "stride": layer.stride, "padding": layer.padding}
        names = {f"{layer.how}_pool2d": window}
    for name, more in names.items():
        yield name, _bound(name, "x", **more)
        yield f"{name}_backward", _bound(f"{name}_backward", "dy", "x", **more)
    if layer.layer == "maxpool":  # of an even size
        for name, arguments in _COPIES.items():
            yield name, _copying(name, arguments, False)
            yield f"{name}_backward", _copying(name, arguments, True)
        # From the size after the pooling to the one before, as where features are added up; and the gradient of that.
        more = {"size": layer.size, "mode": "bilinear"}
        yield "interpolate", _bound("interpolate", "dy", **more)
        yield "interpolate_backward", _bound("interpolate_backward", "x", "dy", **more)


#: What copies of an image are called with; ``concat`` has it twice.
_COPIES: dict[str, tuple[Any, ...]] = {
    "cast": ("float64",), "channel_shuffle": (2,), "concat": (1,), "pad": ((1, 1, 1, 1), "reflect"),
    "pixel_shuffle": (2,), "pixel_unshuffle": (2,), "split": (8, 1), "to_layout": ("NCHW", "NHWC"),
}  # fmt: skip


def _copying(name: str, arguments: tuple[Any, ...], backward: bool) -> Callable[..., Callable[[], Any]]:
    def make(x: np.ndarray, **others: Any) -> Callable[[], Any]:
        given = (x, x) if name == "concat" else x
        forward = partial(getattr(fc, name), given, *arguments)
        return partial(getattr(fc, f"{name}_backward"), forward(), given, *arguments) if backward else forward

    return make


def _cases() -> Iterator[Case]:
    makers = {"conv": _convolutions, "gemm": _products, "pool": _poolings}
    for op, network, name in LAYERS:
        (layer,) = select(op, [network], name)
        for function, make in makers[op](layer):
            yield Case(function, layer, make)


CASES = list(_cases())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", targets(), ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_speed(benchmark, case, target, dtype):
    benchmark.group = f"{case} {dtype}"
    benchmark.extra_info["operations"] = case.layer.operations(1)
    with on(target):
        run = case.make(**Problem(case.layer, 1, dtype=dtype).operands())
        run()  # which may compile
        start = perf_counter()
        run()
        rounds = SECONDS / (perf_counter() - start)
        benchmark.pedantic(run, rounds=int(min(max(rounds, 1), ROUNDS)))
