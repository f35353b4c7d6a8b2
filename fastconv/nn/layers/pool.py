"""Pooling over windows: maxima, means, sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import pool as _pool
from ...spec import channels_last, conv_pads, int_tuple
from ..module import Module
from ..tape import record
from ._arguments import times

__all__ = [f"{kind}Pool{n}d" for kind in ("Max", "Avg", "Sum") for n in (1, 2, 3)]


class _PoolNd(Module):
    """Pooling: nothing is learned. Arguments as in the operator of the same name."""

    kind: str
    ndim: int

    def __init_subclass__(cls, *, kind: str | None = None, ndim: int | None = None) -> None:
        super().__init_subclass__()
        if kind is not None:
            cls.kind = kind
        if ndim is not None:
            cls.ndim = ndim
            cls._forward = staticmethod(getattr(_pool, f"{cls.kind}_pool{ndim}d"))
            cls._backward = staticmethod(getattr(_pool, f"{cls.kind}_pool{ndim}d_backward"))

    def _configure(self, kernel_size: Any, stride: Any, padding: Any, layout: str, **options: Any) -> None:
        kernel = int_tuple(kernel_size, self.ndim, "kernel_size", 1)
        strides = kernel if stride is None else int_tuple(stride, self.ndim, "stride", 1)
        conv_pads(padding, kernel, kernel, strides, (1,) * self.ndim)
        self._set_layout(layout)
        self._arguments = {"kernel_size": kernel, "stride": strides, "padding": padding, **options}

    def _check_layout(self, layout: str) -> None:
        channels_last(layout, self.ndim)

    def __repr__(self) -> str:
        kernel, stride, padding = (self._arguments[name] for name in ("kernel_size", "stride", "padding"))
        parts = [times(kernel)]
        parts += [f"stride {times(stride)}"] if stride != kernel else []
        parts += [f"padding {padding}"] if padding else []
        return f"{type(self).__name__}({', '.join(parts)})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        arguments = {**self._arguments, "layout": self.layout}
        return record(self._forward(x, **arguments), (x, lambda dy: self._backward(dy, x, **arguments)))


class _MaxPoolNd(_PoolNd, kind="max"):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
    ) -> None:
        dilation = int_tuple(dilation, self.ndim, "dilation", 1)
        self._configure(kernel_size, stride, padding, layout, dilation=dilation, ceil_mode=ceil_mode)


class _AvgPoolNd(_PoolNd, kind="avg"):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: float | None = None,
        *,
        layout: str = "NCHW",
    ) -> None:
        options = {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
        self._configure(kernel_size, stride, padding, layout, ceil_mode=ceil_mode, **options)


class _SumPoolNd(_PoolNd, kind="sum"):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
    ) -> None:
        self._configure(kernel_size, stride, padding, layout, ceil_mode=ceil_mode)


class MaxPool1d(_MaxPoolNd, ndim=1):
    """1-D max-pooling. x (n, c, iw) -> y (n, c, ow)."""


class MaxPool2d(_MaxPoolNd, ndim=2):
    """2-D max-pooling. x (n, c, ih, iw) -> y (n, c, oh, ow)."""


class MaxPool3d(_MaxPoolNd, ndim=3):
    """3-D max-pooling. x (n, c, id, ih, iw) -> y (n, c, od, oh, ow)."""


class AvgPool1d(_AvgPoolNd, ndim=1):
    """1-D average pooling. x (n, c, iw) -> y (n, c, ow)."""


class AvgPool2d(_AvgPoolNd, ndim=2):
    """2-D average pooling. x (n, c, ih, iw) -> y (n, c, oh, ow)."""


class AvgPool3d(_AvgPoolNd, ndim=3):
    """3-D average pooling. x (n, c, id, ih, iw) -> y (n, c, od, oh, ow)."""


class SumPool1d(_SumPoolNd, ndim=1):
    """1-D sum pooling. x (n, c, iw) -> y (n, c, ow)."""


class SumPool2d(_SumPoolNd, ndim=2):
    """2-D sum pooling. x (n, c, ih, iw) -> y (n, c, oh, ow)."""


class SumPool3d(_SumPoolNd, ndim=3):
    """3-D sum pooling. x (n, c, id, ih, iw) -> y (n, c, od, oh, ow)."""
