"""Convolution in its three directions: one matrix product a kernel tap, over the part of x that the tap meets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from ...spec import ConvSpec
from .kernel import ReferenceKernel, activated

_ALL = (slice(None), slice(None))


class ConvKernel(ReferenceKernel):
    algorithm = "one matrix product a tap"

    def __init__(self, spec: ConvSpec) -> None:
        self.spec = spec

    def __call__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        first = first.astype(np.float64)
        second = second.astype(np.float64)
        match self.spec.direction:
            case "fwd":
                result = self._forward(self._channels_first(first), second)
            case "bwd_input":
                result = self._backward_input(self._channels_first(first), second)
            case "bwd_weight":
                with np.errstate(over="ignore"):
                    out[...] = self._backward_weight(self._channels_first(first), self._channels_first(second))
                return
        if bias is not None:
            result += bias.reshape(-1, *(1,) * self.spec.ndim)
        if residual is not None:
            result += self._channels_first(residual)
        with np.errstate(over="ignore"):
            self._channels_first(out)[...] = activated(result, self.spec.activation)

    def _channels_first(self, x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, -1, 1) if self.spec.channels_last else x

    def _taps(self) -> Iterator[tuple[tuple, tuple, tuple]]:
        """For each kernel tap: its index in w, what it reads of x, and which outputs it reads that for."""
        spec = self.spec
        for tap in product(*map(range, spec.kernel)):
            x_part, y_part = [], []
            for dim, t in enumerate(tap):
                stride, lo, size = spec.stride[dim], spec.pads[dim][0], spec.in_size[dim]
                # Output o reads x at o stride + shift.
                shift = t * spec.dilation[dim] - lo
                first = max(0, -(shift // stride))
                last = min(spec.out_size[dim] - 1, (size - 1 - shift) // stride)
                if first > last:
                    break
                x_part.append(slice(first * stride + shift, last * stride + shift + 1, stride))
                y_part.append(slice(first, last + 1))
            else:
                yield _ALL + tap, _ALL + tuple(x_part), _ALL + tuple(y_part)

    def _grouped(self, x: np.ndarray) -> np.ndarray:
        """(n, c, *size) as (n, groups, c / groups, points)."""
        n, c, *size = x.shape
        groups = self.spec.groups
        return x.reshape(n, groups, c // groups, int(np.prod(size)))

    def _grouped_weights(self, w: np.ndarray) -> np.ndarray:
        """(oc, ic / groups), the weights of one tap, as (groups, oc / groups, ic / groups)."""
        groups = self.spec.groups
        return w.reshape(groups, self.spec.oc // groups, self.spec.ic // groups)

    def _forward(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        y = np.zeros((self.spec.n, self.spec.oc, *self.spec.out_size))
        for tap, x_part, y_part in self._taps():
            target = y[y_part]
            target += (self._grouped_weights(w[tap]) @ self._grouped(x[x_part])).reshape(target.shape)
        return y

    def _backward_input(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        dx = np.zeros((self.spec.n, self.spec.ic, *self.spec.in_size))
        for tap, x_part, y_part in self._taps():
            target = dx[x_part]
            transposed = self._grouped_weights(w[tap]).swapaxes(1, 2)
            target += (transposed @ self._grouped(dy[y_part])).reshape(target.shape)
        return dx

    def _backward_weight(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        dw = np.zeros(self.spec.w_shape)
        for tap, x_part, y_part in self._taps():
            images = self._grouped(dy[y_part]) @ self._grouped(x[x_part]).swapaxes(2, 3)
            dw[tap] = images.sum(axis=0).reshape(dw[tap].shape)
        return dw
