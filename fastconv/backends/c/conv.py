"""Convolution specs as C plans: one plan for each combination of strides that is called with."""

from __future__ import annotations

from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..._c import ffi, lib
from ..._threads import get_num_threads
from ...settings import Settings
from ...spec import ConvSpec
from .library import (
    DTYPES,
    NULL,
    address,
    address_of_contiguous,
    check,
    contiguous,
    five,
    isa_number,
    scratch,
    set_activation,
    spatial,
)

_DIRECTIONS = {"fwd": lib.FC_FWD, "bwd_input": lib.FC_BWD_INPUT, "bwd_weight": lib.FC_BWD_WEIGHT}

#: Plans of one spec that are kept; more stride patterns than this are rare, and a plan is quickly made again.
_MOST_PLANS = 16


#: The library begins packed weights at a multiple of this: only from there on are they the same bytes everywhere.
_ALIGN = 64

#: Taps from which on transforms of whole lines would clearly be faster.
_MANY_TAPS = 1024


class PackedWeights:
    """Weights as the kernels of one form (spec, instruction set and algorithm) read them."""

    __slots__ = ("form", "memory", "pointer")

    def __init__(self, form: tuple[ConvSpec, str, str], nbytes: int) -> None:
        memory = np.empty(nbytes + _ALIGN, np.uint8)
        begin = -memory.__array_interface__["data"][0] % _ALIGN
        self.form = form
        self.memory = memory[begin : begin + nbytes]
        self.pointer = ffi.from_buffer(self.memory)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.form, self.memory)


def _unpickled(form: tuple[ConvSpec, str, str], memory: np.ndarray) -> PackedWeights:
    packed = PackedWeights(form, memory.size)
    packed.memory[...] = memory
    return packed


class _Plan:
    """A C plan for one set of strides, and what a call of it needs to know."""

    __slots__ = ("algorithm", "limit", "pointer", "sized")

    def __init__(self, pointer: Any, limit: int | None) -> None:
        self.pointer = pointer
        self.limit = limit
        self.algorithm = ffi.string(lib.fc_conv_plan_algorithm(pointer)).decode()
        self.sized: dict[tuple[int, bool], tuple[int, int]] = {}

    def workspace(self, nthreads: int, packed: bool) -> int:
        return lib.fc_conv_plan_workspace(self.pointer, nthreads, packed)

    def size(self, nthreads: int, packed: bool) -> tuple[int, int]:
        """The threads that are worth waking and that the limit has room for, at least one; the scratch they need."""
        n = lib.fc_conv_plan_threads(self.pointer, nthreads)
        while n > 1 and self.limit is not None and self.workspace(n, packed) > self.limit:
            n -= 1
        size = self.sized[nthreads, packed] = n, self.workspace(n, packed)
        return size


#: Stands for a plan where the library takes arrays of these strides by no algorithm.
_NO_PLAN = SimpleNamespace(algorithm=None)


def _order(strides: list[int], spec: ConvSpec) -> list[int]:
    return five(strides, spec.channels_last)


def _steps(strides: tuple[int, ...] | None, shape: tuple[int, ...], size: int) -> list[int]:
    """In elements. Of an axis with one position NumPy may say anything: it has the step of a contiguous array here."""
    steps = contiguous(shape)
    if strides is None:
        return steps
    return [s // size if n > 1 else step for s, n, step in zip(strides, shape, steps, strict=True)]


def _make_plan(spec: ConvSpec, settings: Settings, key: Any = None, algorithm: int = 0) -> _Plan | None:
    """The plan for these byte strides of (x, w, y, add); None stands for contiguous arrays, and for those not there.

    ``algorithm`` is 1 + its number in the library, or 0. None where the library refuses these strides.
    """
    pointer = ffi.new("fc_conv_plan **")
    status = lib.fc_conv_plan_create(_descriptor(spec, settings, key, algorithm), pointer)
    if status == lib.FC_ERROR_REFUSED:
        return None
    check(status)
    return _Plan(ffi.gc(pointer[0], lib.fc_conv_plan_destroy), settings.limit)


def _descriptor(spec: ConvSpec, settings: Settings, key: Any = None, algorithm: int = 0) -> Any:
    size = np.dtype(spec.dtype).itemsize
    d = ffi.new("fc_conv_desc *")
    d.dtype, d.direction, d.isa = DTYPES[spec.dtype], _DIRECTIONS[spec.direction], isa_number(settings.isa)
    d.has_bias, d.has_add, d.packed = spec.bias, spec.residual, spec.packed
    d.strict, d.algorithm, d.limit = settings.precision == "strict", algorithm, settings.limit or 0
    d.n, d.groups = spec.n, spec.groups
    d.icg, d.ocg = spec.ic // spec.groups, spec.oc // spec.groups
    d.y_size, d.ker, d.stride = spatial(spec.out_size), spatial(spec.kernel), spatial(spec.stride)
    d.x_size = spatial(spec.in_size)
    d.pad = [0] * (3 - spec.ndim) + [lo for lo, _ in spec.pads]
    d.dil = spatial(spec.dilation)
    shapes = spec.x_shape, spec.w_shape, spec.y_shape, spec.result_shape
    x, w, y, add = map(_steps, key or (None,) * 4, shapes, [size] * 4)
    d.x_stride, d.y_stride, d.w_stride = _order(x, spec), _order(y, spec), five(w, False)
    if spec.residual:
        d.add_stride = _order(add, spec)
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
            nbytes = _make_plan(spec, settings, algorithm=number).workspace(1, spec.packed)
            if nbytes > limit:
                table[name] = f"it takes {nbytes} bytes of scratch and the limit is {limit}"
    return table


class ConvKernel:
    """The algorithm, the limit and the precision of ``settings`` hold for all of its calls; its ``isa`` is a name."""

    backend = "c"

    def __init__(self, spec: ConvSpec, settings: Settings) -> None:
        self.spec = spec
        self.isa = settings.isa
        self._settings = settings
        self._forced = 0 if settings.algorithm is None else _numbered(spec, settings)[settings.algorithm][0]
        self._plans: dict[Any, _Plan] = {}
        self._contiguous = self._plan(None)
        self.algorithm = self._contiguous.algorithm
        self._form = (spec, self.isa, self.algorithm)
        self.reason = ffi.string(lib.fc_conv_plan_reason(self._contiguous.pointer)).decode()
        if prod(spec.kernel) >= _MANY_TAPS:
            self.reason += (
                "\nso many taps would take fewer operations by Fourier transforms, of which there are none here"
            )

    @property
    def workspace_bytes(self) -> int:
        return self._contiguous.size(get_num_threads(), self.spec.packed)[1]

    def _plan(self, key: Any) -> _Plan:
        plan = _make_plan(self.spec, self._settings, key, self._forced)
        plan = plan or _make_plan(self.spec, self._settings, key) or _NO_PLAN
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def pack(self, w: np.ndarray) -> Any:
        nbytes = lib.fc_conv_plan_packed_bytes(self._contiguous.pointer)
        if nbytes == 0:
            return w.copy()
        packed = PackedWeights(self._form, nbytes)
        plan = self._plan(self._key(None, w, None, None))
        if plan.algorithm != self.algorithm:
            plan, w = self._contiguous, np.ascontiguousarray(w)
        threads, _ = plan.size(get_num_threads(), True)
        check(lib.fc_conv_pack(plan.pointer, address(w), packed.pointer, threads))
        return packed

    def __call__(self, first: Any, second: Any, b: Any, residual: Any, out: Any) -> None:
        packed = type(second) is PackedWeights
        if packed and second.form is not self._form and second.form != self._form:
            raise ValueError(
                f"w is packed for {second.form}: allowed are weights that this kernel packed, {self._form}"
            )
        if (
            first.flags.c_contiguous
            and out.flags.c_contiguous
            and (packed or second.flags.c_contiguous)
            and (residual is None or residual.flags.c_contiguous)
        ):
            plan, pointer = self._contiguous, address_of_contiguous
        else:
            key = self._key(first, None if packed else second, residual, out)
            plan, pointer = self._plans.get(key) or self._plan(key), address
        if plan.algorithm != self.algorithm and (packed or self._forced or plan is _NO_PLAN):
            # Arrays with these strides take another algorithm: not the one that was asked for, or packed for.
            result = np.empty(out.shape, out.dtype)
            residual = None if residual is None else np.ascontiguousarray(residual)
            second = second if packed else np.ascontiguousarray(second)
            self(np.ascontiguousarray(first), second, b, residual, result)
            out[...] = result
            return
        nthreads = get_num_threads()
        n, nbytes = plan.sized.get((nthreads, packed)) or plan.size(nthreads, packed)
        if b is not None and not b.flags.c_contiguous:
            b = b.copy()
        status = lib.fc_conv_run(
            plan.pointer,
            pointer(first),
            NULL if packed else pointer(second),
            second.pointer if packed else NULL,
            NULL if b is None else address_of_contiguous(b),
            NULL if residual is None else pointer(residual),
            pointer(out),
            scratch(nbytes),
            n,
        )
        if status:
            check(status)

    def _key(self, first: Any, second: Any, residual: Any, out: Any) -> Any:
        """Of the arrays of a call, None for one that is not there, as ``_make_plan`` wants it."""
        f, s, r, o = (None if a is None else a.strides for a in (first, second, residual, out))
        return {"fwd": (f, s, o, r), "bwd_input": (o, s, f, r), "bwd_weight": (f, o, s, None)}[self.spec.direction]
