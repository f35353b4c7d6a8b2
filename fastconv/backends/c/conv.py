"""Convolution specs as C plans."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ...settings import Settings
from ...spec import ConvSpec
from .kernel import CKernel, Plan, made
from .library import check, five, isa_number, set_activation, spatial, steps, type_numbers

_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd_input": lib.FC_BWD_INPUT, "bwd_weight": lib.FC_BWD_WEIGHT}

#: The slots of a call's arrays.
_SLOTS = {
    "fwd": (lib.FC_X, lib.FC_W, lib.FC_BIAS, lib.FC_ADD, lib.FC_Y),
    "bwd_input": (lib.FC_Y, lib.FC_W, lib.FC_BIAS, lib.FC_ADD, lib.FC_X),
    "bwd_weight": (lib.FC_X, lib.FC_Y, lib.FC_BIAS, lib.FC_ADD, lib.FC_W),
}

#: Taps from which on transforms of whole lines would clearly be faster.
_MANY_TAPS = 1024


def _descriptor(spec: ConvSpec, settings: Settings, strides: dict[int, Any] | None = None, algorithm: int = 0) -> Any:
    """``strides``: of the arrays in these slots, in bytes; others contiguous. ``algorithm``: 1 + its number, or 0."""
    given, size = strides or {}, np.dtype(spec.dtype).itemsize

    def of(slot: int, shape: tuple[int, ...]) -> list[int]:
        return steps(given.get(slot), shape, size)

    d = ffi.new("fc_conv_desc *")
    d.types, d.direction, d.isa = type_numbers(spec.types), _DIRECTIONS[spec.direction], isa_number(settings.isa)
    d.has_bias, d.has_add, d.packed = spec.bias, spec.residual, spec.packed
    d.strict, d.algorithm, d.limit = settings.precision == "strict", algorithm, settings.limit or 0
    d.n, d.groups = spec.n, spec.groups
    d.icg, d.ocg = spec.ic // spec.groups, spec.oc // spec.groups
    d.y_size, d.ker, d.stride = spatial(spec.out_size), spatial(spec.kernel), spatial(spec.stride)
    d.x_size = spatial(spec.in_size)
    d.pad = [0] * (3 - spec.ndim) + [lo for lo, _ in spec.pads]
    d.dil = spatial(spec.dilation)
    last = spec.channels_last
    d.x_stride, d.y_stride = five(of(lib.FC_X, spec.x_shape), last), five(of(lib.FC_Y, spec.y_shape), last)
    d.w_stride = five(of(lib.FC_W, spec.w_shape), False)
    if spec.residual:
        d.add_stride = five(of(lib.FC_ADD, spec.result_shape), last)
    set_activation(d.act, spec.activation)
    return d


def _numbered(spec: ConvSpec, settings: Settings) -> dict[str, tuple[int, str | None]]:
    """The algorithms of this direction: 1 + their numbers in the library, and why they refuse."""
    descriptor, table = _descriptor(spec, settings), {}
    for number in range(lib.fc_conv_algorithm_count()):
        reason = lib.fc_conv_algorithm_refusal(descriptor, number)
        text = ffi.string(reason).decode() if reason else None
        if text != "":
            table[ffi.string(lib.fc_conv_algorithm_name(number)).decode()] = number + 1, text
    return table


def algorithms(spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
    """The algorithms of this direction, with None for one that can run here and the reason if not."""
    limit, table = settings.limit, {}
    for name, (number, reason) in _numbered(spec, settings).items():
        table[name] = reason
        if reason is None and limit is not None:
            nbytes = made(lib.fc_plan_conv, _descriptor(spec, settings, algorithm=number)).workspace(1, spec.packed)
            if nbytes > limit:
                table[name] = f"it takes {nbytes} bytes of scratch and the limit is {limit}"
    return table


class ConvKernel(CKernel):
    """The algorithm, the limit and the precision of ``settings`` hold for all of its calls; its ``isa`` is a name."""

    def __init__(self, spec: ConvSpec, settings: Settings) -> None:
        self._settings = settings
        self._forced = 0 if settings.algorithm is None else _numbered(spec, settings)[settings.algorithm][0]
        self._packed = spec.packed
        super().__init__(spec, settings.isa, *_SLOTS[spec.direction])

    def _describe(self, strides: dict[int, Any], algorithm: int) -> Any:
        return _descriptor(self.spec, self._settings, strides, algorithm)

    def _make_plan(self, strides: dict[int, Any]) -> Plan | None:
        plan = made(lib.fc_plan_conv, self._describe(strides, self._forced))
        return plan or (made(lib.fc_plan_conv, self._describe(strides, 0)) if self._forced else None)

    @cached_property
    def reason(self) -> str:
        text = ffi.new("char[]", 4096)
        check(lib.fc_conv_explain(self._describe({}, self._forced), text, len(text)))
        reason = ffi.string(text).decode()
        if prod(self.spec.kernel) >= _MANY_TAPS:
            reason += "\nso many taps would take fewer operations by Fourier transforms, of which there are none here"
        return reason
