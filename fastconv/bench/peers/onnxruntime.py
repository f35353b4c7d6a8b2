"""ONNX Runtime: a model of one node, its arrays bound; constant weights are initializers, which it packs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ..layers import Conv, Pool, Problem
from . import Refused, Variant

_OPSET = 17
_TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_POOLS = {"max": ("MaxPool", {}), "avg": ("AveragePool", {"count_include_pad": 1})}


class Peer:
    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.versions = {"onnxruntime": ort.__version__}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        if problem.direction != "fwd":
            raise Refused("ONNX Runtime has no gradients of its own")
        operands = problem.operands()
        operands.pop("dy", None)
        model = _model(problem, operands).SerializeToString()
        levels = {"extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED}
        if problem.weights == "constant":
            # Blocked layouts need weights that are known beforehand, and pay only sometimes.
            levels["blocked"] = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        try:
            return {name: self._variant(model, level, operands) for name, level in levels.items()}
        except Exception as error:  # its exceptions have no common base
            raise Refused(str(error).splitlines()[0]) from error

    def _variant(self, model: bytes, level: Any, operands: dict[str, np.ndarray]) -> Variant:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = level
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs = {argument.name: operands[argument.name] for argument in session.get_inputs()}
        y = session.run(None, inputs)[0]
        result = ort.OrtValue.ortvalue_from_numpy(y)
        binding = session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        binding.bind_ortvalue_output("y", result)
        return Variant(partial(session.run_with_iobinding, binding), lambda _: result.numpy())


def _model(problem: Problem, operands: dict[str, np.ndarray]) -> onnx.ModelProto:
    layer = problem.layer
    names = list(operands)
    if isinstance(layer, Conv | Pool):
        settings = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.padding * 2}
        if isinstance(layer, Conv):
            node = helper.make_node("Conv", names, ["y"], **settings, dilations=layer.dilation, group=layer.groups)
        elif layer.how in _POOLS:
            kind, more = _POOLS[layer.how]
            node = helper.make_node(kind, names, ["y"], **settings, **more)
        else:
            raise Refused(f"ONNX has no {layer.how} pooling")
    else:
        node = helper.make_node("MatMul", names, ["y"])
    constants = ["w"] if problem.weights == "constant" and "w" in operands else []
    kind = _TYPES[problem.dtype]
    inputs = [helper.make_tensor_value_info(n, kind, a.shape) for n, a in operands.items() if n not in constants]
    initializers = [numpy_helper.from_array(operands[n], n) for n in constants]
    output = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph([node], "layer", inputs, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
