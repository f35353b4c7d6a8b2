"""The operator: which algorithm a layer is computed by, and its calls."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np

from ....settings import Settings
from ....spec import ConvSpec
from ...heuristics import HEURISTICS
from ..core.arrays import Packed, steps
from ..core.target import ISA, MR, NV, lanes
from .depthwise_pixels import Pixels, PixelWeights, serves
from .depthwise_strips import Strips, StripWeights
from .direct import Direct, DirectWeights
from .implicit_gemm import product_of
from .layer import Image, Layer, Steps
from .walk import Gradients, Phases, Results, jobs_of
from .winograd.plan import Winograd, WinogradWeights
from .winograd.schemes import NAMES as WINOGRAD
from .winograd.schemes import refuse, slow

__all__ = ["ConvKernel"]


#: Direct algorithms go through so many positions modulo the stride at most; a thread's scratch memory has so many
#: elements, or so many times those of all images.
_PHASES, _SCRATCH, _IMAGES = 256, 2**20, 16


def _is_dense(array: np.ndarray | None) -> bool:
    """Whether the last two dimensions lie without gaps."""
    if array is None:
        return True
    row = array.shape[-1] * array.itemsize
    return array.strides[-1] == array.itemsize and (array.shape[-2] == 1 or array.strides[-2] == row)


class ConvKernel:
    """One convolution spec, compiled: the matrices are described anew for each set of strides, and remembered."""

    backend = "numba"
    isa = ISA

    def __init__(self, spec: ConvSpec, settings: Settings) -> None:
        self.spec, self._settings = spec, settings
        layer = Layer.of(spec)
        # Beyond a single output there is nothing that a step leads to.
        strides = zip(layer.stride, layer.in_size, layer.out_size, strict=True)
        stride = tuple(s if out > 1 else min(s, size) for s, size, out in strides)
        self.layer = layer = replace(layer, stride=stride)
        # The vectors of the tile run along what is contiguous in the result, unless a group has too few channels.
        few = layer.channels[1] <= NV * lanes(spec.dtype) // 2
        self.pixels_are_rows = spec.channels_last and (not few or spec.direction == "bwd_weight")
        if spec.direction == "bwd_weight" and prod(spec.kernel) == 1:
            # Of one tap both operands are packed alike: let the result be written in whole vectors.
            self.pixels_are_rows = True
        # Strips have whole vectors of channels.
        depthwise = spec.groups > 1 and layer.channels == (1, 1)
        filled = 4 * spec.groups >= HEURISTICS.STRIPS_QUARTERS * lanes(spec.dtype)
        filled = filled and layer.kernel[0] == layer.in_size[0] == 1
        self.is_strips = depthwise and (spec.channels_last or filled)
        is_flat = layer.in_size[0] == layer.out_size[0] == 1
        self.is_in_place = self.is_strips and spec.channels_last and is_flat and self._are_few_phases()
        if self.is_in_place:
            self.is_in_place = serves(jobs_of(layer)[0], spec.dtype, spec.direction == "bwd_weight")
        #: Every algorithm for it, with the reason why one is not to run.
        self.algorithms = {n: why for n in WINOGRAD if (why := refuse(spec, n, settings.precision)) != ""}
        direct = "direct"
        if self.is_strips:
            direct = "depthwise_channels" if spec.channels_last else "depthwise_strips"
        self.algorithms[direct] = self._refuse_direct()
        self.algorithms["implicit_gemm"] = None
        tried: dict[str, str | None] = {}
        for name, why in self.algorithms.items():
            tried[name] = why or (slow(spec, name) if name in WINOGRAD else self._slow_direct(name))
        asked = settings.algorithm
        if asked is not None and self.algorithms.get(asked, "") is None:
            tried = {asked: None}
        self.algorithm = next(name for name, why in tried.items() if why is None)
        self.is_winograd = self.algorithm in WINOGRAD
        self.is_direct = not (self.is_winograd or self.algorithm == "implicit_gemm")
        self.is_in_place = self.is_in_place and self.is_direct
        refused = list(tried.items())[: list(tried).index(self.algorithm)]
        self.reason = "".join(f"{name}: refused, {why}\n" for name, why in refused) + self.algorithm
        make: Any = self._make_product
        if self.algorithm != "implicit_gemm":
            make = self._make_winograd if self.is_winograd else self._make_direct
        # By the fields of ``Steps``: a tuple of them would cost small layers a tenth.
        self._made = lru_cache(maxsize=8)(lambda *given: make(Steps(*given)))

    def _refuse_direct(self) -> str | None:
        """Why the direct algorithm cannot compute it, or would be slower than a product; None if it is to."""
        if not self._are_few_phases():
            return "the positions modulo the stride are too many"
        if not self.is_strips and (reason := self._few_channels_lack()):
            return reason
        anywhere = (0,) * (self.spec.ndim + 2)
        elements = self._make_direct(Steps(anywhere, anywhere, anywhere)).work
        fitting = max(_SCRATCH, _IMAGES * prod(self.spec.x_shape), _IMAGES * prod(self.spec.y_shape))
        return "what a few results read is much larger than the image" if elements > fitting else None

    def _slow_direct(self, name: str) -> str | None:
        """Why another algorithm is faster, where this one is the direct one and can; None if it is not."""
        plane = prod(self.layer.sizes[1])
        small = name == "direct" and self.spec.groups == 1 and plane < lanes(self.spec.dtype)
        return "a plane of the result does not fill a vector" if small else None

    def _are_few_phases(self) -> bool:
        return prod(map(min, self.layer.every, self.layer.in_size)) <= _PHASES

    def _few_channels_lack(self) -> str | None:
        """Why a product would be faster than rows of taps; None if it would not."""
        spec, (channels, results) = self.spec, self.layer.channels
        if spec.direction == "bwd_weight":
            few = spec.groups > 1 and max(channels, results) <= HEURISTICS.DIRECT_CHANNELS
            return None if few else "the channels of a group fill register tiles"
        if results <= HEURISTICS.DIRECT_RESULTS:
            few = spec.groups > 1 or results < MR
            return None if few else "the result's channels fill register tiles"
        # The first layer of a network: its few source rows serve every channel of the result, without packing.
        if channels > HEURISTICS.DIRECT_CHANNELS or prod(spec.kernel) < HEURISTICS.DIRECT_TAPS:
            return "there are more than a few channels"
        return "the channels of the result are contiguous" if spec.channels_last else None

    # ------------------------------------------------------------------------------------------ the interface

    @property
    def workspace_bytes(self) -> int:
        s = self.spec

        def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))

        first = s.y_shape if s.direction == "bwd_input" else s.x_shape
        second = s.y_shape if s.direction == "bwd_weight" else s.w_shape
        return self._made(dense(first), dense(second), dense(s.result_shape), None, None).workspace_bytes

    def pack(self, w: np.ndarray) -> Packed:
        """The weights as the kernel reads them."""
        anywhere = (0,) * (self.spec.ndim + 2)
        made = self._made(anywhere, steps(w), anywhere, None, None)
        if self.is_winograd or self.is_direct:
            packed = made.pack(w)
            if self.is_winograd:
                # For what is computed directly.
                packed.plain, packed.trusted = w.copy(), made.range.trusts(w)
            return packed
        return made.pack(*((None, w) if self.pixels_are_rows else (w, None)))

    def __call__(
        self,
        first: np.ndarray,
        second: np.ndarray | Packed,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        gradient = self.spec.direction == "bwd_weight"
        if self.is_in_place and not all(map(_is_dense, (first, *([second] if gradient else [out]), residual))):
            # What is read where it is has contiguous channels, in lines without gaps.
            result = np.empty(out.shape, out.dtype)
            first, second, residual = (
                np.ascontiguousarray(a) if isinstance(a, np.ndarray) else a for a in (first, second, residual)
            )
            self(first, second, bias, residual, result)
            out[...] = result
            return
        made = self._made(
            steps(first),
            steps(second) if gradient else (0,) * first.ndim,
            steps(out),
            None if residual is None else steps(residual),
            None if bias is None else steps(bias)[0],
        )
        if self.is_winograd:
            self._run_winograd(made, first, second, bias, residual, out)
            return
        packed = None
        if not gradient:
            packed = second if isinstance(second, Packed) else self.pack(second)
            second = None
        if not self.is_direct:
            a, b = (second, first) if self.pixels_are_rows == gradient else (first, second)
            made.run(a, b, out, residual, bias, packed)
        elif gradient:
            out[...] = made.run(first, second).reshape(out.shape)
        else:
            made.run(first, out, residual, bias, packed)

    def _run_winograd(
        self,
        made: Any,
        first: np.ndarray,
        second: np.ndarray | Packed,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Where its tiles can be trusted; what they cannot be trusted with is computed directly."""
        if self.spec.direction == "bwd_weight":
            if made.range.trusts(first, second, made.strides, made.threads()):
                made.run(first, second, out)
            else:
                self._direct(first, second, None, None, out)
            return
        ready = isinstance(second, Packed)
        weights = second.plain if ready else second
        trusted = second.trusted if ready else made.range.trusts(second)
        flags = made.range.look(first, made.strides[0], made.threads()) if trusted else None
        if not trusted or (flags is not None and made.range.too_many(flags)):
            self._direct(first, weights, bias, residual, out)
            return
        made.run(first, out, residual, bias, second if ready else made.pack(second))
        if flags is not None:
            made.range.compute(flags, first, weights, bias, residual, out)

    @cached_property
    def _direct(self) -> ConvKernel:
        return ConvKernel(replace(self.spec, packed=False), self._settings._replace(algorithm="implicit_gemm"))

    # ------------------------------------------------------------------------------- algorithms for steps of arrays

    def _make_product(self, given: Steps) -> Any:
        return product_of(self.layer, self.pixels_are_rows, given)

    def _make_winograd(self, given: Steps) -> Winograd | WinogradWeights:
        if self.spec.direction == "bwd_weight":
            return WinogradWeights(self.spec, self.algorithm, self._records(given.first, given.second))
        strides = self._records(given.first, given.out, given.residual or given.out)
        return Winograd(self.spec, self.algorithm, strides, given.bias, given.residual is not None)

    def _make_direct(self, given: Steps) -> Results | Gradients:
        spec, layer = self.spec, self.layer
        jobs, begins = jobs_of(layer)
        strides = self._records(given.first, given.out, given.residual or given.out)
        phases = Phases(spec.dtype, jobs, strides, begins, layer.every, layer.sizes[1], prod(layer.kernel))
        if spec.direction == "bwd_weight":
            phases.strides = self._records(given.first, given.second)
            kind: Any = PixelWeights if self.is_in_place else StripWeights if self.is_strips else DirectWeights
            return kind(phases)
        phases.bias_step, phases.residual, phases.activation = given.bias, given.residual is not None, spec.activation
        if self.is_strips:
            return (Pixels if self.is_in_place else Strips)(phases)
        # Of each phase the source, and where its own results and residuals are.
        phases.strides = []
        for begin in begins:
            phases.strides += self._records(given.first)
            phases.strides += self._records(given.out, given.residual or given.out, begin=begin, every=layer.every)
        return Direct(phases, not layer.backward)

    def _records(self, *arrays: tuple[int, ...], **positions: Any) -> list[tuple[int, ...]]:
        """As ``STEPS`` has them."""
        return [Image(strides, self.spec.channels_last).record(**positions) for strides in arrays]
