"""Convolutions as products of virtual matrices: no patch matrix is stored."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ..gemm.operands import Operand, merge_pixels
from ..gemm.product import Job, Product
from .layer import Image, Layer, Steps, Triple, Weights

__all__ = ["product_of"]


def product_of(layer: Layer, pixels_are_rows: bool, steps: Steps) -> Product:
    """The product that is a layer, of arrays with these steps. ``pixels_are_rows``: of the result, else its columns."""
    matrices, spec = _Matrices(layer, pixels_are_rows, steps), layer.spec
    if spec.direction == "bwd_weight":
        return Product(spec.dtype, [matrices.weight_job()])
    phases = layer.phases(with_taps=True)
    jobs, rest = [matrices.job(*phase, layer.every) for phase in phases], None
    if len(jobs) < prod(map(min, layer.every, layer.in_size)):
        # No tap reaches some of the result: all of it is written as if so, before what has taps is.
        empty = matrices.job(layer.in_size, (0, 0, 0), [], (1, 1, 1))
        rest = Product(spec.dtype, [replace(empty, pack_a=False, pack_b=False)], spec.activation)
    return Product(spec.dtype, jobs, spec.activation, before=rest)


class _Matrices:
    """The operands of a layer."""

    def __init__(self, layer: Layer, pixels_are_rows: bool, steps: Steps) -> None:
        self.layer, self.spec, self.rows, self.steps = layer, layer.spec, pixels_are_rows, steps
        self.channels, self.results = layer.channels
        self.source = self._image(steps.first)

    def _image(self, strides: tuple[int, ...]) -> Image:
        return Image(strides, self.spec.channels_last)

    def job(self, size: Triple, begin: Triple, taps: list[tuple[Triple, Triple]], every: Triple) -> Job:
        """A phase."""
        spec, rows, weights, results = self.spec, self.rows, Weights(self.steps.second), self.results
        patches = self._patches(size, taps)
        w_result, w_channel = (weights.ic, weights.oc) if self.layer.backward else (weights.oc, weights.ic)
        panels = Operand(
            size=(1, 1, results),
            address=(0, 0, w_result),
            image=(1, 1, results),
            taps=[(weights.at(tap), 0, 0, 0) for tap, _ in taps],
            channels=self.channels,
            address_c=w_channel,
            channel_major=not rows,
            address_batch=spec.oc // spec.groups * weights.oc,
        ).joined()
        images = [self._image(strides) for strides in (self.steps.out, self.steps.residual) if strides is not None]
        results_at = [self._results(size, begin, every, image) for image in images]
        merge_pixels([patches, *results_at])
        bias_step = self.steps.bias or 0
        return Job(
            m=spec.n * prod(size) if rows else results,
            n=results if rows else spec.n * prod(size),
            k=self.channels * len(taps),
            batch=spec.groups,
            a=patches if rows else panels,
            b=panels if rows else patches,
            result=results_at[0],
            residual=results_at[1] if len(images) > 1 else None,
            a_pixels_inner=False,
            b_pixels_inner=True,
            rows_are_pixels=rows,
            pack_a=not rows,
            pack_b=rows,
            bias_axis=(2 if rows else 1) if spec.bias else 0,
            bias_step=bias_step,
            bias_batch=results * bias_step,
        )

    def weight_job(self) -> Job:
        """The gradient of the weights."""
        spec, rows, dw, size = self.spec, self.rows, Weights(self.steps.out), self.layer.out_size
        ((_, _, taps),) = self.layer.phases(with_taps=False)
        patches = self._patches(size, taps)
        gradient = self._results(size, (0, 0, 0), (1, 1, 1), self._image(self.steps.second))
        merge_pixels([patches, gradient])
        result = Operand(
            size=(1, 1, self.results),
            address=(0, 0, dw.oc),
            image=(1, 1, self.results),
            taps=[(dw.at(tap), 0, 0, 0) for tap, _ in taps],
            channels=self.channels,
            address_c=dw.ic,
            channel_major=not rows,
            address_batch=self.results * dw.oc,
        )
        features = self.channels * len(taps)
        # The operand that each tap reads again is the one whose packing copies runs: x along its contiguous axis.
        return Job(
            m=self.results if rows else features,
            n=features if rows else self.results,
            k=spec.n * prod(size),
            batch=spec.groups,
            a=gradient if rows else patches,
            b=patches if rows else gradient,
            result=result,
            residual=None,
            a_pixels_inner=True,
            b_pixels_inner=False,
            rows_are_pixels=rows,
        )

    def _patches(self, size: Triple, taps: list[tuple[Triple, Triple]]) -> Operand:
        source, step = self.source, self.layer.step
        return Operand(
            size=size,
            address_n=source.n,
            address=tuple(a * s for a, s in zip(source.size, step, strict=True)),
            step=step,
            image=self.layer.sizes[0],
            taps=[(sum(o * a for o, a in zip(offset, source.size, strict=True)), *offset) for _, offset in taps],
            channels=self.channels,
            address_c=source.c,
            channel_major=not self.rows,
            address_batch=self.channels * source.c,
        )

    def _results(self, size: Triple, begin: Triple, every: Triple, image: Image) -> Operand:
        return Operand(
            size=size,
            address_n=image.n,
            address=tuple(a * e for a, e in zip(image.size, every, strict=True)),
            image=size,
            channels=self.results,
            address_c=image.c,
            base=sum(b * a for b, a in zip(begin, image.size, strict=True)),
            address_batch=self.results * image.c,
        )
