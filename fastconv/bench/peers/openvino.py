"""OpenVINO's CPU plugin: a model of one operation, on the caller's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from ..layers import Conv, Gemm, Pool, Problem
from . import Refused, Variant


class Peer:
    def __init__(self, threads: int) -> None:
        self.versions = {"openvino": ov.__version__.split("-")[0]}
        self._core = ov.Core()
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        if problem.direction != "fwd":
            raise Refused("OpenVINO has no gradients")
        if problem.dtype != "float32":
            raise Refused("OpenVINO computes in float32")
        operands = problem.operands()
        operands.pop("dy", None)
        if isinstance(problem.layer, Conv) and problem.layer.groups > 1:
            groups = problem.layer.groups
            w = operands["w"]
            operands["w"] = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        constant = ["w"] if problem.weights == "constant" else []
        nodes = {
            name: opset.constant(array) if name in constant else opset.parameter(array.shape, np.float32, name)
            for name, array in operands.items()
        }
        inputs = [name for name in operands if name not in constant]
        model = ov.Model([_operation(problem.layer, **nodes)], [nodes[name] for name in inputs], "layer")
        request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        for index, name in enumerate(inputs):
            request.set_input_tensor(index, ov.Tensor(operands[name], shared_memory=True))
        # The request does not keep the arrays alive that it works on.
        alive = (model, operands)
        return {"own layout": Variant(request.infer, lambda _, alive=alive: request.get_output_tensor().data)}


def _operation(layer: Any, x: Any, w: Any = None) -> Any:
    if isinstance(layer, Gemm):
        return opset.matmul(x, w, False, False)
    pads = (list(layer.padding),) * 2
    if isinstance(layer, Conv):
        conv = opset.convolution if layer.groups == 1 else opset.group_convolution
        return conv(x, w, list(layer.stride), *pads, list(layer.dilation))
    assert isinstance(layer, Pool)
    if layer.how == "max":
        ones = [1] * len(layer.size)
        return opset.max_pool(x, list(layer.stride), ones, *pads, list(layer.kernel)).output(0)
    if layer.how == "avg":
        return opset.avg_pool(x, list(layer.stride), *pads, list(layer.kernel), exclude_pad=False)
    raise Refused(f"OpenVINO has no {layer.how} pooling")
