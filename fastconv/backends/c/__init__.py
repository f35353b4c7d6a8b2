"""The C backend: csrc/ behind cffi."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from ...settings import Settings
from ...spec import ConvSpec, CopySpec, GemmSpec, LossSpec, MapSpec, PoolSpec, ReduceSpec, ResizeSpec, UpdateSpec
from ..base import COMPILED, Kernel, Spec, isa_of, refuse_types


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

    def isas(self) -> dict[str, str | None]:
        if self.available():
            return {}
        from .library import isas

        return isas()

    def refuse(self, spec: Spec, settings: Settings) -> str | None:
        if isinstance(spec, CopySpec):
            from .copy import refuse as refuse_copy

            return refuse_copy(spec)
        if reason := refuse_types(spec.types, COMPILED):
            return reason
        if isinstance(spec, PoolSpec):
            from .pool import refuse

            return refuse(spec)
        if isinstance(spec, MapSpec):
            from .map import refuse as refuse_map

            return refuse_map(spec)
        if isinstance(spec, (LossSpec, ReduceSpec, UpdateSpec)):
            from .kernel import refuse_axes

            return refuse_axes(spec.shape)
        if isinstance(spec, ResizeSpec):
            from .resize import refuse as refuse_resizing

            return refuse_resizing(spec)
        return spec.beyond if isinstance(spec, ConvSpec) else None

    def algorithms(self, spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
        from .conv import algorithms

        return algorithms(spec, self._settled(settings))

    def compile(self, spec: Spec, settings: Settings) -> Kernel:
        # Imported here, so that the extension is loaded by the first call and not by ``import fastconv``.
        settings = self._settled(settings)
        if isinstance(spec, ConvSpec):
            from .conv import ConvKernel

            return ConvKernel(spec, settings)
        kind: Any
        if isinstance(spec, GemmSpec):
            from .gemm import GemmKernel as kind
        elif isinstance(spec, MapSpec):
            from .map import MapKernel as kind
        elif isinstance(spec, LossSpec):
            from .loss import LossKernel as kind
        elif isinstance(spec, CopySpec):
            from .copy import CopyKernel as kind
        elif isinstance(spec, ReduceSpec):
            from .reduce import ReduceKernel as kind
        elif isinstance(spec, ResizeSpec):
            from .resize import resize_kernel as kind
        elif isinstance(spec, UpdateSpec):
            from .update import UpdateKernel as kind
        else:
            from .pool import pool_kernel as kind
        return kind(spec, settings.isa)

    def _settled(self, settings: Settings) -> Settings:
        """With the name of the instruction set that kernels get."""
        return settings._replace(isa=isa_of(self.isas(), settings.isa))


BACKEND = _C()
