"""What the kernels of all operators share: a spec as C plans, one for each pattern of strides of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from ..._c import ffi, lib
from ..._threads import MAX_THREADS, get_num_threads
from ..tables import TABLES
from .library import NULL, address_like, address_of_contiguous, address_of_copy, broadcast, check, scratch

_call = lib.fc_call

#: The library begins packed weights at a multiple of this: only from there on are they the same bytes everywhere.
_ALIGN = 64


#: Patterns of strides that a kernel keeps plans of; more are rare, and a plan is quickly made again.
_MOST_CALLS = 16

_POINTERS = ffi.typeof("void *[]")


class Packed:
    """Weights as the kernels of one form (spec, instruction set and algorithm) read them."""

    __slots__ = ("form", "memory", "pointer")

    def __init__(self, form: tuple[Any, str, str], memory: np.ndarray) -> None:
        """memory: C-contiguous; what the library packed, or the weights as they were where it packs none."""
        self.form = form
        self.memory = memory
        self.pointer = address_of_contiguous(memory)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.form, self.memory)


def _aligned(nbytes: int) -> np.ndarray:
    memory = np.empty(nbytes + _ALIGN, np.uint8)
    begin = -memory.__array_interface__["data"][0] % _ALIGN
    return memory[begin : begin + nbytes]


def _unpickled(form: tuple[Any, str, str], memory: np.ndarray) -> Packed:
    aligned = _aligned(memory.nbytes).view(memory.dtype).reshape(memory.shape)
    aligned[...] = memory
    return Packed(form, aligned)


class Plan:
    """A C plan, and what a call of it needs to know."""

    __slots__ = ("_sizes", "algorithm", "alone", "packed_bytes", "pointer")

    def __init__(self, pointer: Any) -> None:
        self.pointer = ffi.gc(pointer, lib.fc_plan_destroy)
        self.algorithm = ffi.string(lib.fc_plan_algorithm(pointer)).decode()
        self.packed_bytes = lib.fc_plan_packed_bytes(pointer)
        self._sizes: dict[tuple[int, bool], tuple[int, int]] = {}
        serial = lib.fc_plan_threads(pointer, MAX_THREADS, True) == 1
        #: For weights as they are, and packed, what ``size`` says of any number of threads; None where that matters.
        self.alone = tuple((1, self.workspace(1, packed)) if serial else None for packed in (False, True))

    def workspace(self, nthreads: int, packed: bool) -> int:
        return lib.fc_plan_workspace(self.pointer, nthreads, packed)

    def size(self, nthreads: int, packed: bool) -> tuple[int, int]:
        """The threads that a call has of so many, and the bytes of scratch that they need."""
        size = self._sizes.get((nthreads, packed))
        if size is None:
            n = lib.fc_plan_threads(self.pointer, nthreads, packed)
            size = self._sizes[nthreads, packed] = n, self.workspace(n, packed)
        return size


def made(create: Any, descriptor: Any) -> Plan | None:
    """The plan that the library makes of a descriptor; None where it refuses."""
    pointer = ffi.new("fc_plan **")
    status = create(descriptor, pointer)
    if status == lib.FC_ERROR_REFUSED:
        return None
    check(status)
    return Plan(pointer[0])


class _Bound(NamedTuple):
    """For one pattern of strides: its plan, None where arrays are to be copied, and what gives their addresses."""

    plan: Plan | None
    of_first: Callable[[Any], Any]
    of_second: Callable[[Any], Any]
    of_third: Callable[[Any], Any]
    of_fourth: Callable[[Any], Any]
    of_fifth: Callable[[Any], Any]


class CKernel:
    """A kernel is called with up to five arrays; ``slots`` are theirs in the library. A fifth is the result."""

    backend = "c"
    algorithm: str
    reason: str

    #: Whether the third array is a bias, which has no strides in a descriptor.
    _has_bias = True
    #: Whether arrays are copied rather than computed by another algorithm than contiguous ones would be.
    _forced = False
    #: Whether calls mostly come with packed weights.
    _packed = False

    def __init__(self, spec: Any, isa: str, *slots: int) -> None:
        self.spec = spec
        self.isa = isa
        self._order = slots
        self._bound: dict[Any, _Bound] = {}
        #: Whether the arrays of the last call were all contiguous; if not, what computed it.
        self._regular, self._ran = True, ""
        plan = self._contiguous = self._make_plan({})
        self.algorithm = plan.algorithm
        self._form = (spec, isa, plan.algorithm)
        packed = (slots[0], lib.FC_PACKED if plan.packed_bytes else slots[1], *slots[2:])
        self._slots = tuple(ffi.new("unsigned char[5]", list(order)) for order in (slots, packed))

    def _make_plan(self, strides: dict[int, Any]) -> Any:
        """The ``Plan`` for these byte strides of the arrays in these slots; others are contiguous, or not there.

        None where the library refuses them.
        """
        raise NotImplementedError

    @property
    def ran(self) -> str:
        """The algorithm of the last call."""
        return self.algorithm if self._regular else self._ran

    @property
    def workspace_bytes(self) -> int:
        return self._contiguous.size(get_num_threads(), self._packed)[1]

    def pack(self, w: np.ndarray) -> Packed:
        plan = self._contiguous
        if plan.packed_bytes == 0:
            return Packed(self._form, w.copy())
        packed = Packed(self._form, _aligned(plan.packed_bytes))
        threads, _ = plan.size(get_num_threads(), True)
        whole = address_of_contiguous(np.ascontiguousarray(w))
        check(lib.fc_plan_pack(plan.pointer, whole, packed.pointer, threads))
        return packed

    def step(self, arrays: Sequence[Any]) -> tuple[Plan, tuple[int, ...]]:
        """As a step of a program: the plan for contiguous arrays, and the slots of a call's arrays."""
        packed = any(type(a) is Packed for a in arrays)
        return self._contiguous, tuple(self._slots[packed])[: len(self._order)]

    def __call__(
        self, first: Any, second: Any = None, third: Any = None, fourth: Any = None, fifth: Any = None
    ) -> None:
        packed = type(second) is Packed
        if packed and second.form is not self._form and second.form != self._form:
            raise ValueError(
                f"w is packed for {second.form}: allowed are weights that this kernel packed, {self._form}"
            )
        if not self._regular:
            self._call_strided(first, second, third, fourth, fifth)
            return
        plan = self._contiguous
        nthreads = get_num_threads()
        n, nbytes = plan.alone[packed] or plan.size(nthreads, packed)
        try:
            status = _call(
                plan.pointer,
                self._slots[packed],
                address_of_contiguous(first),
                second.pointer if packed else NULL if second is None else address_of_contiguous(second),
                NULL if third is None else address_of_contiguous(third),
                NULL if fourth is None else address_of_contiguous(fourth),
                NULL if fifth is None else address_of_contiguous(fifth),
                scratch(nbytes),
                n,
            )
        except ValueError:  # not all are C-contiguous
            self._regular = False
            self._call_strided(first, second, third, fourth, fifth)
            return
        if status:
            self._fail(status)

    def _call_strided(self, first: Any, second: Any, third: Any, fourth: Any, fifth: Any) -> None:
        packed = type(second) is Packed
        if packed and not self._contiguous.packed_bytes:
            second, packed = second.memory, False  # weights as they were, which any algorithm reads
        key = (
            first.strides,
            None if second is None else packed or second.strides,
            None if third is None else third.strides,
            None if fourth is None else fourth.strides,
            None if fifth is None else fifth.strides,
        )
        bound = self._bound.get(key) or self._bind(key, first, second, third, fourth, fifth)
        plan, of_first, of_second, of_third, of_fourth, of_fifth = bound
        if plan is None:
            copies = [a if a is None or a is second else np.ascontiguousarray(a) for a in (first, third, fourth, fifth)]
            self(copies[0], second if packed else np.ascontiguousarray(second), *copies[1:])
            fifth[...] = copies[-1]
            return
        self._regular, self._ran = plan is self._contiguous, plan.algorithm
        nthreads = get_num_threads()
        n, nbytes = plan.alone[packed] or plan.size(nthreads, packed)
        status = _call(
            plan.pointer,
            self._slots[packed],
            of_first(first),
            of_second(second),
            of_third(third),
            of_fourth(fourth),
            of_fifth(fifth),
            scratch(nbytes),
            n,
        )
        if status:
            self._fail(status)

    def _bind(self, key: Any, *arrays: Any) -> _Bound:
        packed = type(arrays[1]) is Packed
        of = [attrgetter("pointer") if type(a) is Packed else address_like(a) for a in arrays]
        if self._has_bias and arrays[2] is not None and not arrays[2].flags.c_contiguous:
            of[2] = address_of_copy
        if all(a is None or type(a) is Packed or a.flags.c_contiguous for a in arrays):
            plan = self._contiguous
        else:
            given = zip(self._order, arrays, strict=False)
            plan = self._make_plan({slot: a.strides for slot, a in given if isinstance(a, np.ndarray)})
            if plan is not None and plan.algorithm != self.algorithm and (packed or self._forced):
                plan = None
        if len(self._bound) >= _MOST_CALLS:
            self._bound.clear()
        bound = self._bound[key] = _Bound(plan, *of)
        return bound

    def _fail(self, status: int) -> None:
        check(status)


class LongKernel:
    """A kernel along so long a dimension that its plan's tables are not kept for every length that comes by."""

    backend = "c"

    def __init__(self, kind: Callable[[Any, str], CKernel], spec: Any, isa: str, nbytes: int) -> None:
        """kind: what makes it, with tables of so many bytes at most."""
        self.spec = spec
        self.isa = isa
        self._kind, self._nbytes = kind, nbytes
        self.algorithm, self.reason = self._kernel.algorithm, self._kernel.reason

    @property
    def _kernel(self) -> CKernel:
        return TABLES.get((self.spec, self.isa), self._nbytes, self._make)

    def _make(self) -> CKernel:
        kernel = self._kind(self.spec, self.isa)
        kernel._most_bound = 1
        return kernel

    @property
    def workspace_bytes(self) -> int:
        return self._kernel.workspace_bytes

    def pack(self, w: np.ndarray) -> Any:
        return self._kernel.pack(w)

    def __call__(self, *arrays: Any) -> None:
        self._kernel(*arrays)


#: Axes that a descriptor has room for.
_MOST_AXES = 8


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """Those along which there is more than one element."""
    return [axis for axis, size in enumerate(shape) if size != 1]


def refuse_axes(shape: tuple[int, ...]) -> str | None:
    """Why a ``TableKernel`` cannot have arrays of this shape; None if it can."""
    return f"it has over {_MOST_AXES} axes" if len(_long_axes(shape)) > _MOST_AXES else None


class _Call(NamedTuple):
    """For one combination of shapes and strides: its plan, and what gives the arrays' addresses."""

    plan: Plan
    address: list[Callable[[np.ndarray], Any] | None]


class TableKernel:
    """A kernel of more arrays than a ``CKernel`` has, some of which are None; ``slots`` are theirs in the library.

    Along an axis, each array has the spec's size or 1.
    """

    backend = "c"
    slots: tuple[int, ...]
    #: Those of the first arrays, as they are where nothing is broadcast; the others have no strides in a descriptor.
    shapes: Sequence[tuple[int, ...]]
    axes = staticmethod(_long_axes)

    def __init__(self, spec: Any, isa: str) -> None:
        self.spec = spec
        self.isa = isa
        self._calls: dict[Any, _Call] = {}

    def _plan(self, strides: Sequence[Sequence[int] | None]) -> Plan:
        """Of arrays with these strides in elements along all axes, 0 where they stay the same; None: there is none."""
        raise NotImplementedError

    def step(self, arrays: Sequence[Any]) -> tuple[Plan, tuple[int, ...]]:
        """As a step of a program: the plan for contiguous arrays, and their slots."""
        strides = [
            None if a is None else broadcast(shape if a.shape is None else a.shape, self.spec.shape)
            for a, shape in zip(arrays, self.shapes, strict=False)
        ]
        return self._plan(strides), self.slots

    def _make(self, arrays: tuple[Any, ...]) -> _Call:
        strides = [
            None if a is None else [0 if n == 1 else s // a.itemsize for n, s in zip(a.shape, a.strides, strict=True)]
            for a in arrays[: len(self.shapes)]
        ]
        return _Call(self._plan(strides), [None if a is None else address_like(a) for a in arrays])

    def pack(self, w: np.ndarray) -> np.ndarray:
        return w.copy()

    def __call__(self, *arrays: Any) -> None:
        key = tuple([None if a is None else (a.shape, a.strides) for a in arrays])
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= _MOST_CALLS:
                self._calls.clear()
            call = self._calls[key] = self._make(arrays)
        table = [NULL] * lib.FC_SLOTS
        for slot, of, a in zip(self.slots, call.address, arrays, strict=True):
            if of is not None:
                table[slot] = of(a)
        n, nbytes = call.plan.alone[0] or call.plan.size(get_num_threads(), False)
        status = lib.fc_run(call.plan.pointer, ffi.new(_POINTERS, table), scratch(nbytes), n)
        if status:
            check(status)
