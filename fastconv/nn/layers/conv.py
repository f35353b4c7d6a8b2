"""Convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops import conv as _conv
from ...spec import channels_last, conv_pads, int_tuple
from ..init import initial, parameter_dtype
from ..module import Module
from ..parameter import Parameter
from ..tape import record
from ._arguments import Rng, positive, times

__all__ = ["Conv1d", "Conv2d", "Conv3d"]


class _ConvNd(Module):
    """Convolution with a learned kernel ``weight`` (oc, ic / groups, *kernel) and ``bias`` (oc,)."""

    ndim: int

    def __init_subclass__(cls, ndim: int | None = None) -> None:
        super().__init_subclass__()
        if ndim is not None:
            cls.ndim = ndim
            cls._forward = staticmethod(getattr(_conv, f"conv{ndim}d"))
            cls._backward_input = staticmethod(getattr(_conv, f"conv{ndim}d_backward_input"))
            cls._backward_weight = staticmethod(getattr(_conv, f"conv{ndim}d_backward_weight"))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        layout: str = "NCHW",
        init: str = "he",
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        ic, oc = positive(in_channels, "in_channels"), positive(out_channels, "out_channels")
        self.groups = positive(groups, "groups")
        for name, channels in (("in_channels", ic), ("out_channels", oc)):
            if channels % self.groups:
                raise ValueError(f"{name}={channels}: allowed is a multiple of groups={groups}")
        kernel = int_tuple(kernel_size, self.ndim, "kernel_size", 1)
        self.stride = int_tuple(stride, self.ndim, "stride", 1)
        self.dilation = int_tuple(dilation, self.ndim, "dilation", 1)
        self.padding = padding
        conv_pads(padding, kernel, kernel, self.stride, self.dilation)
        self._set_layout(layout)
        dtype = parameter_dtype(dtype)
        self.weight = Parameter(initial(init, (oc, ic // self.groups, *kernel), rng, dtype, self.groups))
        self.bias = Parameter(np.zeros(oc, dtype)) if bias else None

    def __repr__(self) -> str:
        oc, icg, *kernel = self.weight.value.shape
        return f"{type(self).__name__}({icg * self.groups}, {oc}, {times(kernel)}{self._options()})"

    def _options(self) -> str:
        ones = (1,) * self.ndim
        options = {
            "stride": times(self.stride) if self.stride != ones else None,
            "padding": self.padding or None,
            "dilation": times(self.dilation) if self.dilation != ones else None,
            "groups": self.groups if self.groups > 1 else None,
        }
        return "".join(f", {name} {value}" for name, value in options.items() if value is not None)

    def _check_layout(self, layout: str) -> None:
        channels_last(layout, self.ndim)

    @property
    def _geometry(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": self.layout,
        }

    def forward(self, x: np.ndarray) -> np.ndarray:
        w, geometry = self.weight.value, self._geometry
        operands = [
            (x, lambda dy: self._backward_input(dy, w, x.shape, **geometry)),
            (self.weight, lambda dy: self._backward_weight(x, dy, w.shape, **geometry)),
        ]
        if self.bias is None:
            return record(self._forward(x, w, None, **geometry), *operands)
        operands.append((self.bias, lambda dy: _conv.conv_backward_bias(dy, layout=geometry["layout"])))
        return record(self._forward(x, w, self.bias.value, **geometry), *operands)


class Conv1d(_ConvNd, ndim=1):
    """1-D convolution. x (n, ic, iw) -> y (n, oc, ow); arguments as in ``fastconv.conv1d``."""


class Conv2d(_ConvNd, ndim=2):
    """2-D convolution. x (n, ic, ih, iw) -> y (n, oc, oh, ow); arguments as in ``fastconv.conv2d``."""


class Conv3d(_ConvNd, ndim=3):
    """3-D convolution. x (n, ic, id, ih, iw) -> y (n, oc, od, oh, ow); arguments as in ``fastconv.conv3d``."""
