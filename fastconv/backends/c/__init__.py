"""The C backend: csrc/ behind cffi. ``isas()`` lists its instruction sets, ``FASTCONV_ISA`` forces one."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from ...dispatch import forced_isa
from ...spec import ConvSpec, GemmSpec, PoolSpec, ReduceSpec
from ..base import Kernel, Spec


@cache
def isas() -> dict[str, str | None]:
    """Every instruction set compiled in, best first, with None if this CPU runs it and the reason if not."""
    from ..._c import ffi, lib

    table = {}
    for number in range(lib.fc_isa_count()):
        reason = lib.fc_isa_reason(number)
        table[ffi.string(lib.fc_isa_name(number)).decode()] = ffi.string(reason).decode() if reason else None
    return table


def current_isa() -> str:
    """The instruction set that kernels compiled now get: the forced one, else the best that this CPU runs."""
    name = forced_isa()
    if name is None:
        return next(name for name, reason in isas().items() if reason is None)
    if name not in isas():
        raise ValueError(f"isa={name!r}: allowed is {', '.join(isas())}")
    if reason := isas()[name]:
        raise RuntimeError(f"isa={name!r} cannot run here: {reason}")
    return name


@cache
def _reason() -> str | None:
    """Why the extension cannot be used here; None if it can."""
    try:
        importlib.import_module("fastconv._c")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "fastconv._c":
            return "the extension fastconv._c was not built (pip install builds it)"
        return f"the extension fastconv._c cannot be loaded: {error}"
    return None


class _C:
    name = "c"

    def available(self) -> str | None:
        return _reason()

    def refuse(self, spec: Spec) -> str | None:
        if isinstance(spec, PoolSpec):
            from .pool import refuse

            return refuse(spec)
        if isinstance(spec, ReduceSpec):
            from .reduce import refuse as refuse_reduction

            return refuse_reduction(spec)
        return spec.beyond if isinstance(spec, ConvSpec) else None

    def algorithms(self, spec: ConvSpec) -> dict[str, str | None]:
        from .conv import algorithms

        return algorithms(spec, current_isa())

    def compile(self, spec: Spec) -> Kernel:
        # Imported here, so that the extension is loaded by the first call and not by ``import fastconv``.
        kind: Any
        if isinstance(spec, ConvSpec):
            from .conv import ConvKernel as kind
        elif isinstance(spec, GemmSpec):
            from .gemm import GemmKernel as kind
        elif isinstance(spec, ReduceSpec):
            from .reduce import ReduceKernel as kind
        else:
            from .pool import pool_kernel as kind
        return kind(spec, current_isa())


BACKEND = _C()
