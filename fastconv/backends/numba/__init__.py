"""Kernels that Numba compiles on first use and keeps on disk: one packed GEMM with vector code for this CPU."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any

from ...settings import Settings
from ...spec import DTYPES, ConvSpec, CopySpec, LossSpec, MapSpec, PoolSpec, ReduceSpec, ResizeSpec, UpdateSpec
from ..base import COMPILED, Spec, refuse_types


@cache
def _reason() -> str | None:
    """Why Numba cannot be used here, as with a NumPy that it does not know; None if it can."""
    if find_spec("numba") is None:
        return "the package numba is not installed"
    try:
        import_module("numba")
    except ImportError as error:
        return f"the package numba cannot be loaded: {error}"
    return None


class _Numba:
    name = "numba"

    def available(self) -> str | None:
        if reason := _reason():
            return reason
        if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
            return "NUMBA_DISABLE_JIT is set"
        return None

    def isas(self) -> dict[str, str | None]:
        return {}

    def refuse(self, spec: Spec, settings: Settings) -> str | None:
        if isinstance(spec, CopySpec):
            return f"{spec.types} has no kernels" if {spec.types.x, spec.types.y} - {*DTYPES} else None
        if reason := refuse_types(spec.types, COMPILED):
            return reason
        if isinstance(spec, PoolSpec) and spec.kind == "avg" and prod(spec.kernel) > 2**53:
            return "windows count more elements than float64 holds"
        return spec.beyond if isinstance(spec, ConvSpec) else None

    def algorithms(self, spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
        return dict(self.compile(spec, settings).algorithms)

    def compile(self, spec: Spec, settings: Settings) -> Any:
        # Numba takes half a second to import: not before it is wanted.
        if isinstance(spec, ConvSpec):
            from .conv import ConvKernel

            return ConvKernel(spec, settings)
        if isinstance(spec, PoolSpec):
            from .pool import pool_kernel as Kernel
        elif isinstance(spec, MapSpec):
            from .map import MapKernel as Kernel
        elif isinstance(spec, LossSpec):
            from .loss import LossKernel as Kernel
        elif isinstance(spec, CopySpec):
            from .copy import CopyKernel as Kernel
        elif isinstance(spec, ReduceSpec):
            from .reduce import ReduceKernel as Kernel
        elif isinstance(spec, ResizeSpec):
            from .resize import ResizeKernel as Kernel
        elif isinstance(spec, UpdateSpec):
            from .update import UpdateKernel as Kernel
        else:
            from .gemm import GemmKernel as Kernel
        return Kernel(spec)


BACKEND = _Numba()
