"""Matrix products as C plans."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...spec import GemmSpec
from .kernel import CKernel, Plan, made
from .library import isa_number, set_activation, steps, type_numbers


class GemmKernel(CKernel):
    reason = "operands are packed block by block; next to a few rows or columns, read where they are"

    def __init__(self, spec: GemmSpec, isa: str) -> None:
        super().__init__(spec, isa, lib.FC_A, lib.FC_B, lib.FC_BIAS, lib.FC_C, lib.FC_OUT)

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        spec, size = self.spec, np.dtype(self.spec.dtype).itemsize
        d = ffi.new("fc_gemm_desc *")
        d.types, d.isa, d.has_bias, d.has_c = type_numbers(spec.types), isa_number(self.isa), spec.bias, spec.use_c
        d.batch, d.m, d.n, d.k = spec.batch, spec.m, spec.n, spec.k
        shapes = {"a": (spec.m, spec.k), "b": (spec.k, spec.n), "c": (spec.m, spec.n), "out": (spec.m, spec.n)}
        for (name, shape), slot in zip(shapes.items(), (lib.FC_A, lib.FC_B, lib.FC_C, lib.FC_OUT), strict=True):
            given = strides.get(slot)
            if given is None or len(given) == 3:
                shape = (spec.batch, *shape)
            setattr(d, f"{name}_stride", [0] * (3 - len(shape)) + steps(given, shape, size))
        d.alpha, d.beta = spec.alpha, spec.beta
        set_activation(d.act, spec.activation)
        return made(lib.fc_plan_gemm, d)
