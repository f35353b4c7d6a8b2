"""ncnn: a network of one layer, one image, weights packed when it is loaded."""

from __future__ import annotations

import ncnn
import numpy as np

from ..layers import Conv, Problem
from . import Refused, Variant


class Peer:
    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.versions = {"ncnn": ncnn.__version__}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        layer = problem.layer
        if not isinstance(layer, Conv):
            raise Refused("with ncnn only convolutions are compared")
        if problem.direction != "fwd" or problem.dtype != "float32":
            raise Refused("ncnn infers in float32")
        if problem.n != 1 or problem.weights != "constant":
            raise Refused("ncnn takes one image at a time and weights that are constant")
        operands = problem.operands()
        return {"Winograd": self._variant(layer, operands, True), "direct": self._variant(layer, operands, False)}

    def _variant(self, layer: Conv, operands: dict[str, np.ndarray], winograd: bool) -> Variant:
        net = ncnn.Net()
        net.opt.num_threads = self._threads
        net.opt.use_winograd_convolution = winograd
        for switch in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
            if hasattr(net.opt, f"use_{switch}"):
                setattr(net.opt, f"use_{switch}", False)
        kind = "Convolution" if layer.groups == 1 else "ConvolutionDepthWise"
        kind += {1: "1D", 2: "", 3: "3D"}[len(layer.size)]
        numbers = {6: operands["w"].size, 0: layer.oc, 5: 0, 7: layer.groups}
        # 1 to 4 along the width; ten more along the height, twenty along the depth.
        for first, values in enumerate((layer.kernel, layer.dilation, layer.stride, layer.padding), 1):
            numbers |= {first + 10 * i: value for i, value in enumerate(reversed(values))}
        settings = " ".join(f"{key}={value}" for key, value in sorted(numbers.items()))
        net.load_param_mem(f"7767517\n2 2\nInput x 0 1 x\n{kind} conv 1 1 x y {settings}\n")
        # A tag (plain float32), then the weights.
        model = bytes(4) + operands["w"].tobytes()
        net.load_model_mem(model)
        image = operands["x"][0]
        x = ncnn.Mat(image)

        def run(alive: object = (net, model, image)) -> ncnn.Mat:  # ncnn keeps pointers into them
            extractor = net.create_extractor()
            extractor.input("x", x)
            return extractor.extract("y")[1]

        return Variant(run, lambda y: np.array(y)[None])
