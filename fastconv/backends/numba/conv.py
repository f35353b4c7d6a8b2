"""Convolution in its three directions, as products of virtual matrices (implicit GEMM): no patch matrix is stored."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ...settings import Settings
from ...spec import ConvSpec
from ..heuristics import HEURISTICS
from .direct import Direct, DirectWeights
from .pixels import Pixels, PixelWeights, serves
from .product import Job, Operand, Packed, Product, merge_pixels, steps
from .schemes import NAMES as WINOGRAD
from .schemes import refuse, slow
from .simd import ISA, MR, NV, lanes
from .strips import Strips, StripWeights
from .walk import DirectJob, Gradients, Phases, Results, Triple
from .winograd import Winograd, WinogradWeights

__all__ = ["ConvKernel"]


#: Direct algorithms go through so many positions modulo the stride at most; a thread's scratch memory has so many
#: elements, or so many times those of all images.
_PHASES, _SCRATCH, _IMAGES = 256, 2**20, 16


def _triple(values: Any, fill: Any) -> Any:
    """One value a spatial dimension as three, the missing leading ones being ``fill``."""
    return (fill,) * (3 - len(values)) + tuple(values)


def _is_dense(array: np.ndarray | None) -> bool:
    """Whether the last two dimensions lie without gaps."""
    if array is None:
        return True
    row = array.shape[-1] * array.itemsize
    return array.strides[-1] == array.itemsize and (array.shape[-2] == 1 or array.strides[-2] == row)


class _Image:
    """Address steps of an image array: batch, channel and three spatial dimensions."""

    def __init__(self, strides: tuple[int, ...], channels_last: bool) -> None:
        self.n, *rest = strides
        *size, self.c = rest if channels_last else (*rest[1:], rest[0])
        self.size: Triple = _triple(size, 0)

    def record(self, begin: Triple = (0, 0, 0), every: Triple = (1, 1, 1)) -> tuple[int, ...]:
        """As ``walk.STEPS`` has it, for every so many positions from ``begin`` on."""
        base = sum(b * s for b, s in zip(begin, self.size, strict=True))
        return (self.n, self.c, *(s * e for s, e in zip(self.size, every, strict=True)), base)


class _Weights:
    """Address steps of the weights."""

    def __init__(self, strides: tuple[int, ...]) -> None:
        self.oc, self.ic, *kernel = strides
        self.kernel: Triple = _triple(kernel, 0)

    def at(self, tap: Triple) -> int:
        return sum(k * s for k, s in zip(tap, self.kernel, strict=True))


class ConvKernel:
    """One convolution spec, compiled: the matrices are described anew for each set of strides, and remembered."""

    backend = "numba"
    isa = ISA

    def __init__(self, spec: ConvSpec, settings: Settings) -> None:
        self.spec = spec
        self._settings = settings
        self.kernel: Triple = _triple(spec.kernel, 1)
        self.dilation: Triple = _triple(spec.dilation, 1)
        self.lo: Triple = _triple([lo for lo, _ in spec.pads], 0)
        self.in_size: Triple = _triple(spec.in_size, 1)
        self.out_size: Triple = _triple(spec.out_size, 1)
        # Beyond a single output there is nothing that a step leads to.
        strides = zip(_triple(spec.stride, 1), self.in_size, self.out_size, strict=True)
        self.stride: Triple = tuple(s if out > 1 else min(s, size) for s, size, out in strides)
        self.icg, self.ocg = spec.ic // spec.groups, spec.oc // spec.groups
        # The vectors of the tile run along what is contiguous in the result, unless a group has too few channels.
        results = self.icg if spec.direction == "bwd_input" else self.ocg
        few = results <= NV * lanes(spec.dtype) // 2
        self.pixels_are_rows = spec.channels_last and (not few or spec.direction == "bwd_weight")
        if spec.direction == "bwd_weight" and prod(spec.kernel) == 1:
            # Of one tap both operands are packed alike: let the result be written in whole vectors.
            self.pixels_are_rows = True
        # Strips have whole vectors of channels.
        depthwise = spec.groups > 1 and self.icg == self.ocg == 1
        filled = 4 * spec.groups >= HEURISTICS.STRIPS_QUARTERS * lanes(spec.dtype)
        filled = filled and self.kernel[0] == self.in_size[0] == 1
        self.is_strips = depthwise and (spec.channels_last or filled)
        is_flat = self.in_size[0] == self.out_size[0] == 1
        self.is_in_place = self.is_strips and spec.channels_last and is_flat and self._are_few_phases()
        if self.is_in_place:
            self.is_in_place = serves(self._direct_jobs()[0], spec.dtype, spec.direction == "bwd_weight")
        #: Every algorithm for it, with the reason why one is not to run.
        self.algorithms = {n: why for n in WINOGRAD if (why := refuse(spec, n, settings.precision)) != ""}
        direct = "direct"
        if self.is_strips:
            direct = "depthwise_channels" if spec.channels_last else "depthwise_strips"
        self.algorithms[direct] = self._refuse_direct()
        self.algorithms["implicit_gemm"] = None
        tried: dict[str, str | None] = {}
        for name, why in self.algorithms.items():
            tried[name] = why or (slow(spec, name) if name in WINOGRAD else None)
        asked = settings.algorithm
        if asked is not None and self.algorithms.get(asked, "") is None:
            tried = {asked: None}
        self.algorithm = next(name for name, why in tried.items() if why is None)
        self.is_winograd = self.algorithm in WINOGRAD
        self.is_direct = not (self.is_winograd or self.algorithm == "implicit_gemm")
        self.is_in_place = self.is_in_place and self.is_direct
        refused = list(tried.items())[: list(tried).index(self.algorithm)]
        self.reason = "".join(f"{name}: refused, {why}\n" for name, why in refused) + self.algorithm
        make: Any = self._make_winograd if self.is_winograd else self._make_direct if self.is_direct else self._make
        self._made = lru_cache(maxsize=8)(make)

    def _refuse_direct(self) -> str | None:
        """Why the direct algorithm cannot compute it, or would be slower than a product; None if it is to."""
        if not self._are_few_phases():
            return "the positions modulo the stride are too many"
        if not self.is_strips and (reason := self._few_channels_lack()):
            return reason
        anywhere = (0,) * (self.spec.ndim + 2)
        elements = self._make_direct(anywhere, anywhere, anywhere, None, None).work
        fitting = max(_SCRATCH, _IMAGES * prod(self.spec.x_shape), _IMAGES * prod(self.spec.y_shape))
        return "what a few results read is much larger than the image" if elements > fitting else None

    def _are_few_phases(self) -> bool:
        phases = prod(min(s, i) for s, i in zip(self.stride, self.in_size, strict=True))
        return self.spec.direction != "bwd_input" or phases <= _PHASES

    def _few_channels_lack(self) -> str | None:
        """Why a product would be faster than rows of taps; None if it would not."""
        spec, forward = self.spec, self.spec.direction == "fwd"
        channels, results = (self.icg, self.ocg) if forward else (self.ocg, self.icg)
        if spec.direction == "bwd_weight":
            few = spec.groups > 1 and max(self.icg, self.ocg) <= HEURISTICS.DIRECT_CHANNELS
            return None if few else "the channels of a group fill register tiles"
        if spec.groups == 1 and prod(self.out_size if forward else self.in_size) < lanes(spec.dtype):
            return "a plane of the result does not fill a vector"
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
        if self.is_winograd:
            self._run_winograd(first, second, bias, residual, out)
            return
        packed = None
        if not gradient:
            packed = second if isinstance(second, Packed) else self.pack(second)
            second = None
        made = self._made(
            steps(first),
            (0,) * first.ndim if second is None else steps(second),
            steps(out),
            None if residual is None else steps(residual),
            None if bias is None else steps(bias)[0],
        )
        if not self.is_direct:
            a, b = (second, first) if self.pixels_are_rows == gradient else (first, second)
            made.run(a, b, out, residual, bias, packed)
        elif gradient:
            out[...] = made.run(first, second).reshape(out.shape)
        else:
            made.run(first, out, residual, bias, packed)

    def _run_winograd(
        self,
        first: np.ndarray,
        second: np.ndarray | Packed,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Where its tiles can be trusted; what they cannot be trusted with is computed directly."""
        gradient, ready = self.spec.direction == "bwd_weight", isinstance(second, Packed)
        made = self._made(
            steps(first),
            steps(second) if gradient else (0,) * first.ndim,
            steps(out),
            None if residual is None else steps(residual),
            None if bias is None else steps(bias)[0],
        )
        if gradient:
            if made.range.trusts(first, second, made.strides, made.threads()):
                made.run(first, second, out)
            else:
                self._direct(first, second, None, None, out)
            return
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

    # --------------------------------------------------------------------------------------------- the matrices

    def _make(
        self,
        first: tuple[int, ...],
        second: tuple[int, ...],
        out: tuple[int, ...],
        residual: tuple[int, ...] | None,
        bias_step: int | None,
    ) -> Product:
        last = self.spec.channels_last
        if self.spec.direction == "bwd_weight":
            return Product(
                self.spec.dtype, [self._weight_job(_Image(first, last), _Image(second, last), _Weights(out))]
            )
        images = _Image(out, last), None if residual is None else _Image(residual, last), bias_step or 0
        every = self.stride if self.spec.direction == "bwd_input" else (1, 1, 1)
        phases, positions = self._phases(with_taps=True), prod(map(min, every, self.in_size))
        jobs = [self._job(*phase, every, _Image(first, last), _Weights(second), *images) for phase in phases]
        rest = None
        if len(jobs) < positions:
            # No tap reaches some of the result: all of it is written as if so, before what has taps is.
            empty = self._job(self.in_size, (0, 0, 0), [], (1, 1, 1), _Image(first, last), _Weights(second), *images)
            rest = Product(self.spec.dtype, [replace(empty, pack_a=False, pack_b=False)], self.spec.activation)
        return Product(self.spec.dtype, jobs, self.spec.activation, before=rest)

    def _make_winograd(
        self,
        first: tuple[int, ...],
        second: tuple[int, ...],
        out: tuple[int, ...],
        residual: tuple[int, ...] | None,
        bias_step: int | None,
    ) -> Winograd | WinogradWeights:
        if self.spec.direction == "bwd_weight":
            strides = [_Image(a, self.spec.channels_last).record() for a in (first, second)]
            return WinogradWeights(self.spec, self.algorithm, strides)
        strides = [_Image(a, self.spec.channels_last).record() for a in (first, out, residual or out)]
        return Winograd(self.spec, self.algorithm, strides, bias_step, residual is not None)

    def _make_direct(
        self,
        first: tuple[int, ...],
        second: tuple[int, ...],
        out: tuple[int, ...],
        residual: tuple[int, ...] | None,
        bias_step: int | None,
    ) -> Results | Gradients:
        spec, last = self.spec, self.spec.channels_last
        forward = spec.direction != "bwd_input"
        jobs, begins = self._direct_jobs()
        every, full = ((1, 1, 1), self.out_size) if forward else (self.stride, self.in_size)
        strides = [_Image(a or out, last).record() for a in (first, out, residual)]
        phases = Phases(spec.dtype, jobs, strides, begins, every, full, prod(self.kernel))
        if spec.direction == "bwd_weight":
            phases.strides = [_Image(a, last).record() for a in (first, second)]
            kind: Any = PixelWeights if self.is_in_place else StripWeights if self.is_strips else DirectWeights
            return kind(phases)
        phases.bias_step, phases.residual, phases.activation = bias_step, residual is not None, spec.activation
        if self.is_strips:
            return (Pixels if self.is_in_place else Strips)(phases)
        # Of each phase the source, and where its own results and residuals are.
        phases.strides = []
        for begin in begins:
            phases.strides.append(_Image(first, last).record())
            phases.strides += [_Image(a or out, last).record(begin, every) for a in (out, residual)]
        return Direct(phases, forward)

    def _direct_jobs(self) -> tuple[list[DirectJob], list[Triple]]:
        """The phases as jobs, and where each one's results begin."""
        spec, forward = self.spec, self.spec.direction != "bwd_input"
        channels, results = (self.icg, self.ocg) if forward else (self.ocg, self.icg)
        step, image = (self.stride, self.in_size) if forward else ((1, 1, 1), self.out_size)
        jobs, begins = [], []
        for size, begin, taps in self._phases(with_taps=False):
            numbers = [(a * self.kernel[1] + b) * self.kernel[2] + c for (a, b, c), _ in taps]
            offsets = [o for _, o in taps]
            jobs.append(DirectJob(spec.n, spec.groups, channels, results, size, step, image, offsets, numbers))
            begins.append(begin)
        return jobs, begins

    def _phases(self, with_taps: bool) -> list[tuple[Triple, Triple, list[tuple[Triple, Triple]]]]:
        """Dense convolutions that together make the result: (its size, where it begins, [(tap, offset)]).

        Forward is one. The gradient of the input is one for each input position modulo the stride, or for those that
        taps reach: position ``q stride + begin`` receives from outputs ``q + offset``. A tap that meets the padding
        alone is left out.
        """
        axes = [self._phases_along(dim, with_taps) for dim in range(3)]
        phases = []
        for along in product(*axes):
            size, begin, *_ = zip(*along, strict=True)
            taps = product(*(taps for _, _, taps in along))
            phases.append((size, begin, [tuple(zip(*pairs, strict=True)) for pairs in taps]))
        return phases

    def _phases_along(self, dim: int, with_taps: bool) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """Those of one axis alone."""
        step, size, out = self.stride[dim], self.in_size[dim], self.out_size[dim]
        shifts = [tap * self.dilation[dim] - self.lo[dim] for tap in range(self.kernel[dim])]
        if self.spec.direction == "bwd_weight":
            return [(out, 0, list(enumerate(shifts)))]
        if self.spec.direction == "fwd":
            # The first output that does not read in front of the image.
            first = [max(0, -(shift // step)) for shift in shifts]
            reached = [o < out and o * step + shift < size for o, shift in zip(first, shifts, strict=True)]
            return [(out, 0, [pair for pair, inside in zip(enumerate(shifts), reached, strict=True) if inside])]
        found: dict[int, list[tuple[int, int]]] = {}
        if not with_taps:
            found = {begin: [] for begin in range(min(step, size))}
        for tap, shift in enumerate(shifts):
            begin, offset = shift % step, -(shift // step)
            if begin < size and -((begin - size) // step) > -offset and offset < out:
                found.setdefault(begin, []).append((tap, offset))
        return [(-((begin - size) // step), begin, taps) for begin, taps in sorted(found.items())]

    def _job(
        self,
        size: Triple,
        begin: Triple,
        taps: list[tuple[Triple, Triple]],
        every: Triple,
        source: _Image,
        weights: _Weights,
        out: _Image,
        residual: _Image | None,
        bias_step: int,
    ) -> Job:
        spec, rows = self.spec, self.pixels_are_rows
        forward = spec.direction == "fwd"
        channels, results = (self.icg, self.ocg) if forward else (self.ocg, self.icg)
        step = self.stride if forward else (1, 1, 1)
        patches = self._patches(size, step, self.in_size if forward else self.out_size, taps, source, channels)
        w_result, w_channel = (weights.oc, weights.ic) if forward else (weights.ic, weights.oc)
        panels = Operand(
            size=(1, 1, results),
            address=(0, 0, w_result),
            image=(1, 1, results),
            taps=[(weights.at(tap), 0, 0, 0) for tap, _ in taps],
            channels=channels,
            address_c=w_channel,
            channel_major=not rows,
            address_batch=self.ocg * weights.oc,
        ).joined()
        results_at = [self._results(size, begin, every, image, results) for image in (out, residual) if image]
        merge_pixels([patches, *results_at])
        return Job(
            m=spec.n * prod(size) if rows else results,
            n=results if rows else spec.n * prod(size),
            k=channels * len(taps),
            batch=spec.groups,
            a=patches if rows else panels,
            b=panels if rows else patches,
            result=results_at[0],
            residual=results_at[1] if residual else None,
            a_pixels_inner=False,
            b_pixels_inner=True,
            rows_are_pixels=rows,
            pack_a=not rows,
            pack_b=rows,
            bias_axis=(2 if rows else 1) if spec.bias else 0,
            bias_step=bias_step,
            bias_batch=results * bias_step,
        )

    def _weight_job(self, x: _Image, dy: _Image, dw: _Weights) -> Job:
        spec, pixels_last = self.spec, self.pixels_are_rows
        ((_, _, taps),) = self._phases(with_taps=False)
        patches = self._patches(self.out_size, self.stride, self.in_size, taps, x, self.icg)
        gradient = self._results(self.out_size, (0, 0, 0), (1, 1, 1), dy, self.ocg)
        merge_pixels([patches, gradient])
        result = Operand(
            size=(1, 1, self.ocg),
            address=(0, 0, dw.oc),
            image=(1, 1, self.ocg),
            taps=[(dw.at(tap), 0, 0, 0) for tap, _ in taps],
            channels=self.icg,
            address_c=dw.ic,
            channel_major=not pixels_last,
            address_batch=self.ocg * dw.oc,
        )
        features = self.icg * len(taps)
        # The operand that each tap reads again is the one whose packing copies runs: x along its contiguous axis.
        return Job(
            m=self.ocg if pixels_last else features,
            n=features if pixels_last else self.ocg,
            k=spec.n * prod(self.out_size),
            batch=spec.groups,
            a=gradient if pixels_last else patches,
            b=patches if pixels_last else gradient,
            result=result,
            residual=None,
            a_pixels_inner=True,
            b_pixels_inner=False,
            rows_are_pixels=pixels_last,
        )

    def _patches(
        self,
        size: Triple,
        step: Triple,
        image: Triple,
        taps: list[tuple[Triple, Triple]],
        source: _Image,
        channels: int,
    ) -> Operand:
        return Operand(
            size=size,
            address_n=source.n,
            address=tuple(a * s for a, s in zip(source.size, step, strict=True)),
            step=step,
            image=image,
            taps=[(sum(o * a for o, a in zip(offset, source.size, strict=True)), *offset) for _, offset in taps],
            channels=channels,
            address_c=source.c,
            channel_major=not self.pixels_are_rows,
            address_batch=channels * source.c,
        )

    def _results(self, size: Triple, begin: Triple, every: Triple, image: _Image, channels: int) -> Operand:
        return Operand(
            size=size,
            address_n=image.n,
            address=tuple(a * e for a, e in zip(image.size, every, strict=True)),
            image=size,
            channels=channels,
            address_c=image.c,
            base=sum(b * a for b, a in zip(begin, image.size, strict=True)),
            address_batch=channels * image.c,
        )
