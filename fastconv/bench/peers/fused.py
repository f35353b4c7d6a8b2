"""1x1 layers of fastconv with one activation, so that several can be timed in turns."""

from __future__ import annotations

from functools import partial

import fastconv as fc

from ..layers import Problem
from . import Variant
from .ours import laid_out


class Peer:
    def __init__(self, threads: int, activation: str) -> None:
        fc.set_num_threads(threads)
        self._activation = activation
        self.versions: dict[str, str] = {}

    def prepare(self, problem: Problem) -> dict[str, Variant]:
        operands = problem.operands()
        variants = {}
        for layout in ("NCHW", "NHWC"):
            x = laid_out(operands["x"], layout)
            plan = fc.plan_conv2d(x.shape, operands["w"], activation=self._activation, layout=layout)
            run = partial(plan, x, out=fc.empty(plan.y_shape))
            variants[layout] = Variant(run, note=plan.algorithm, computes=False)
        return variants
