"""The oracle: plain NumPy in float64, written to be read. It computes every spec and shares no helper."""

from __future__ import annotations

from ...settings import Settings
from ...spec import INTEGERS, ConvSpec, CopySpec, LossSpec, MapSpec, PoolSpec, ReduceSpec, ResizeSpec, UpdateSpec
from ..base import Kernel, Spec
from .conv import ConvKernel
from .copy import CopyKernel
from .gemm import GemmKernel
from .loss import LossKernel
from .map import MapKernel
from .pool import PoolKernel
from .reduce import ReduceKernel
from .resize import ResizeKernel
from .update import UpdateKernel

#: Sums are made in float64, whichever of these is asked for.
_FLOATS = ("float16", "float32", "float64")


class _Reference:
    name = "reference"

    def available(self) -> None:
        return None

    def isas(self) -> dict[str, str | None]:
        return {}

    def refuse(self, spec: Spec, settings: Settings) -> str | None:
        types = spec.types
        if isinstance(spec, CopySpec):
            return None
        if {types.x, types.w, types.acc, types.y} <= {*_FLOATS}:
            return None
        if isinstance(spec, PoolSpec) and (spec.kind, spec.direction) == ("max", "fwd"):
            return None if types.alike and types.x in INTEGERS else f"it takes a maximum of one type, not of {types}"
        return f"it computes {', '.join(_FLOATS)} and mixtures of them, not {types}"

    def algorithms(self, spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
        return {self.compile(spec, settings).algorithm: None}

    def compile(self, spec: Spec, settings: Settings) -> Kernel:
        if isinstance(spec, ConvSpec):
            return ConvKernel(spec)
        if isinstance(spec, CopySpec):
            return CopyKernel(spec)
        if isinstance(spec, MapSpec):
            return MapKernel(spec)
        if isinstance(spec, LossSpec):
            return LossKernel(spec)
        if isinstance(spec, ReduceSpec):
            return ReduceKernel(spec)
        if isinstance(spec, ResizeSpec):
            return ResizeKernel(spec)
        if isinstance(spec, UpdateSpec):
            return UpdateKernel(spec)
        return PoolKernel(spec) if isinstance(spec, PoolSpec) else GemmKernel(spec)


BACKEND = _Reference()
