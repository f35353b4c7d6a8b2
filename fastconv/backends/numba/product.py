"""From matrices described by strides to runs of the packed GEMM: blocking, work space, threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import gcd, isqrt
from typing import Any

import numpy as np
from cffi import FFI

from ..._threads import get_num_threads
from ...spec import ACTIVATIONS, Activation
from . import workers
from .engine import OPERAND, PROBLEM, multiply, pack
from .simd import KC, MR, NV, PITCH, lanes

__all__ = [
    "Job",
    "Operand",
    "Packed",
    "Product",
    "activation_number",
    "addresses_of",
    "aligned",
    "merge_pixels",
    "steps",
    "together",
    "up",
]

#: Multiply-adds below which waking another thread costs more than it saves.
WORK_FLOOR = 2_000_000

#: Blocks of a sum that are added one after another at least.
_SUMMED = 32

_ffi = FFI()
_POINTER, _POINTERS, _ADDRESS = (_ffi.typeof(name) for name in ("void *", "void *[]", "intptr_t"))

_NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}


def activation_number(activation: Activation | None) -> tuple[int, float, float]:
    """An activation as the kernels know it: number, alpha, beta."""
    return (_NUMBERS[activation.name], activation.alpha, activation.beta) if activation else (0, 0.0, 0.0)


def steps(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements. That of an axis of one element, which may be any number, is as in a contiguous array."""
    return _steps(array.strides, array.shape, array.itemsize)


@lru_cache(maxsize=256)
def _steps(strides: tuple[int, ...], shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    found: list[int] = []
    inside = 1
    for stride, many in zip(reversed(strides), reversed(shape), strict=True):
        found.append(stride // size if many > 1 else inside)
        inside = found[-1] * many
    return tuple(reversed(found))


def up(count: int, step: int) -> int:
    return -(-count // step) * step


def together(blocks: int) -> int:
    """How many of so many blocks of a sum are added one after another: then their sums are."""
    return max(_SUMMED, isqrt(blocks))


@dataclass
class Operand:
    """A matrix of pixels and features, as ``engine.OPERAND`` has it. The default is one pixel, one feature."""

    size: tuple[int, int, int] = (1, 1, 1)
    address_n: int = 0
    address: tuple[int, int, int] = (0, 0, 0)
    step: tuple[int, int, int] = (1, 1, 1)
    image: tuple[int, int, int] = (1, 1, 1)
    taps: Sequence[tuple[int, int, int, int]] = ((0, 0, 0, 0),)
    channels: int = 1
    address_c: int = 0
    channel_major: bool = False
    base: int = 0
    address_batch: int = 0

    @classmethod
    def matrix(cls, rows: int, row_step: int, columns: int, column_step: int, batch_step: int = 0) -> Operand:
        """A plain matrix: rows as pixels, columns as features."""
        return cls(
            size=(1, 1, rows), address=(0, 0, row_step), image=(1, 1, rows), channels=columns, address_c=column_step,
            address_batch=batch_step,
        )  # fmt: skip

    def joined(self) -> Operand:
        """The same matrix, its features as the channels of one tap where they lie one after the other."""
        run = [(i, 0, 0, 0) for i in range(len(self.taps))]
        if not (self.channel_major and self.address_c == len(run) and list(self.taps) == run):
            return self
        return replace(self, taps=run[:1], channels=self.channels * len(run), address_c=1, channel_major=False)

    def _rows_follow(self, dim: int) -> bool:
        """Whether a row in ``dim`` begins where the one before ends, and none is cut off by the image's edge."""
        return self.address[dim] == self.address[2] * self.size[2] and all(
            self.step[d] == 1 and self.image[d] == self.size[d] and not any(tap[d + 1] for tap in self.taps)
            for d in (dim, 2)
        )

    def _plain(self) -> bool:
        whole = self.image == self.size and self.step == (1, 1, 1)
        return whole and len(self.taps) == 1 and tuple(self.taps[0][1:]) == (0, 0, 0)

    def _adjoining(self) -> int:
        """How many taps at a time have their channels one after another, all in one row, and from its start on: of a
        flipped image, whose addresses rise where its columns fall, none have."""
        if self.address_c != 1 or self.channel_major or not self.taps:
            return 1
        breaks = [
            i
            for i, (a, b) in enumerate(pairwise(self.taps), 1)
            if b[0] - a[0] != self.channels or b[1:3] != a[1:3] or b[3] < a[3]
        ]
        return gcd(len(self.taps), *breaks)

    def record(self, first_tap: int) -> tuple[int, ...]:
        order = (1, len(self.taps)) if self.channel_major and len(self.taps) > 1 else (self.channels, 1)
        return (
            *self.size, self.address_n, *self.address, *self.step, *self.image, first_tap, len(self.taps),
            self.channels, self.address_c, *order, self.base, self.address_batch, self._plain(), self._adjoining(),
        )  # fmt: skip


def merge_pixels(operands: list[Operand]) -> None:
    """Rows that follow one another in all the operands, which share their pixels, become one long row."""
    for dim in (1, 0):
        if not all(o.size[1] == 1 or dim == 1 for o in operands) or not all(o._rows_follow(dim) for o in operands):
            return
        for o in operands:
            long = o.size[dim] * o.size[2]
            o.size = (*[1 if d == dim else o.size[d] for d in (0, 1)], long)
            o.image = (*[1 if d == dim else o.image[d] for d in (0, 1)], long)


@dataclass
class Job:
    """One product of a batch of matrices: ``result[m, n] = epilogue(sum over k of a[m, k] b[k, n])``."""

    m: int
    n: int
    k: int
    batch: int
    a: Operand
    b: Operand
    result: Operand
    residual: Operand | None
    a_pixels_inner: bool
    b_pixels_inner: bool
    rows_are_pixels: bool
    pack_a: bool = False
    pack_b: bool = False
    bias_axis: int = 0
    bias_step: int = 0
    bias_batch: int = 0


@dataclass
class Packed:
    """Weights in the form that a kernel reads fastest. ``plain``: as they were, for results that it is not to compute;
    ``trusted``: whether there are others."""

    data: np.ndarray
    plain: np.ndarray | None = None
    trusted: bool = True


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised array that starts on a cache line."""
    raw = np.empty(count + 64 // dtype.itemsize, dtype)
    start = -int(_ffi.cast(_ADDRESS, _ffi.from_buffer(raw))) % 64 // dtype.itemsize
    return raw[start : start + count]


def _blocks(job: Job, nr: int, threads: int) -> tuple[int, int]:
    """Sizes of the pieces: large enough to pay for their packing, small enough for the caches and for the threads."""
    # What lies packed already is read in place: then the other operand's block alone has to fit the cache.
    mb = min(up(job.m, MR), up(768 if job.pack_a else 240 if job.pack_b else 384, MR))
    nb = min(up(job.n, nr), up(768 if job.pack_b else 240 if job.pack_a else 512, nr))
    if threads > 1:
        while -(-job.m // mb) * -(-job.n // nb) * job.batch < 3 * threads:
            wide = nb * (job.m if job.pack_a else 1) >= mb * (job.n if job.pack_b else 1)
            if nb > 2 * nr and (wide or mb <= 2 * MR):
                nb = up(nb // 2, nr)
            elif mb > 2 * MR:
                mb = up(mb // 2, MR)
            else:
                break
    return mb, nb


@dataclass
class _Schedule:
    """The jobs cut into pieces for a number of threads."""

    jobs: np.ndarray
    pieces: int
    work: int
    table: int


class Product:
    """Jobs that write disjoint parts of one result. They share their arrays, the bias and the activation. Another
    product may come ``before``, whose results are overwritten in part."""

    def __init__(
        self,
        dtype: str,
        jobs: list[Job],
        activation: Activation | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        before: Product | None = None,
    ) -> None:
        self.before = before
        self.dtype = np.dtype(dtype)
        self.jobs = jobs
        self.nr = NV * lanes(dtype)
        number, *parameters = activation_number(activation)
        self.activation = number
        self.scalars = np.array([alpha, beta, *parameters], self.dtype)
        taps, records = [], []
        for job in jobs:
            for operand in (job.a, job.b, job.result, job.residual or Operand()):
                records.append(operand.record(len(taps)))
                taps += operand.taps
        self.operands = np.array(records, OPERAND)
        self.taps = np.array(taps or [(0, 0, 0, 0)], np.int64).reshape(-1, 4)
        self.macs = sum(j.batch * j.m * j.n * max(1, j.k) for j in jobs)
        self.packed_size = sum(j.batch * (self._a_size(j) + self._b_size(j)) for j in jobs)
        self._schedules: dict[int, _Schedule] = {}

    def _a_size(self, job: Job) -> int:
        return max(1, -(-job.k // KC)) * up(job.m, MR) * PITCH if job.pack_a else 0

    def _b_size(self, job: Job) -> int:
        return up(job.n, self.nr) * job.k if job.pack_b else 0

    def threads(self) -> int:
        return get_num_threads() if self.macs >= WORK_FLOOR else 1

    def schedule(self, threads: int) -> _Schedule:
        if threads not in self._schedules:
            self._schedules[threads] = self._schedule(threads)
        return self._schedules[threads]

    def _schedule(self, threads: int) -> _Schedule:
        records, pieces, packed, work, table = [], 0, 0, 0, 0
        for job in self.jobs:
            mb, nb = _blocks(job, self.nr, threads)
            a_size, b_size = self._a_size(job), self._b_size(job)
            a_at, b_at = packed if job.pack_a else -1, packed + job.batch * a_size if job.pack_b else -1
            packed += job.batch * (a_size + b_size)
            records.append(
                (
                    job.m, job.n, job.k, job.batch, mb, nb, pieces, together(-(-job.k // KC)),
                    job.a_pixels_inner, job.b_pixels_inner, job.rows_are_pixels, a_at, a_size, b_at, b_size,
                    job.bias_axis, job.bias_step, job.bias_batch, job.residual is not None, self.activation,
                )
            )  # fmt: skip
            pieces += -(-job.m // mb) * -(-job.n // nb) * job.batch
            space = (
                (0 if job.pack_a else mb * PITCH)
                + (0 if job.pack_b else nb * (min(job.k, KC) + 1))
                + (mb * nb if job.k > KC else MR * self.nr) * (1 + (job.k > together(-(-job.k // KC)) * KC))
                + nb
            )
            work = max(work, space)
            table = max(table, 2 * (mb + nb) + nb // self.nr + mb // MR + 2 * max(len(job.a.taps), len(job.b.taps)))
        return _Schedule(np.array(records, PROBLEM), pieces, work + 64 // self.dtype.itemsize, table)

    @property
    def workspace_bytes(self) -> int:
        threads = self.threads()
        schedule = self.schedule(threads)
        threads = min(threads, schedule.pieces)
        return self.packed_size * self.dtype.itemsize + threads * (
            schedule.work * self.dtype.itemsize + schedule.table * 8
        )

    def pack(self, a: np.ndarray | None = None, b: np.ndarray | None = None) -> Packed:
        """Pack the operand that the jobs want packed beforehand."""
        threads = self.threads()
        schedule = self.schedule(threads)
        packed = aligned(self.packed_size, self.dtype)
        addresses = addresses_of(a, b, None, None, None)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            cuts = np.empty(schedule.table, np.int64)
            pack(counter, schedule.jobs, self.operands, self.taps, addresses, packed, cuts)

        workers.run(work, threads)
        return Packed(packed)

    def run(
        self,
        a: np.ndarray | None,
        b: np.ndarray | None,
        out: np.ndarray,
        residual: np.ndarray | None,
        bias: np.ndarray | None,
        packed: Packed | None,
    ) -> None:
        if self.before is not None:
            self.before.run(a, b, out, residual, bias, None)
        threads = self.threads()
        schedule = self.schedule(threads)
        threads = min(threads, schedule.pieces)
        ready = packed.data if packed is not None else self.scalars
        addresses = addresses_of(a, b, out, residual, bias)
        counter = np.zeros(1, np.int64)

        def work() -> None:
            space = np.empty(schedule.work, self.dtype)
            table = np.empty(schedule.table, np.int64)
            multiply(
                counter, schedule.pieces, schedule.jobs, self.operands, self.taps, addresses, self.scalars, ready,
                space, table,
            )  # fmt: skip

        workers.run(work, threads)


def addresses_of(*arrays: np.ndarray | None) -> np.ndarray:
    """Where the first element of each lies, as int64; 0 for None. The arrays must be kept."""
    return np.frombuffer(_ffi.buffer(_ffi.new(_POINTERS, [_pointer_to(array) for array in arrays])), np.int64)


def _pointer_to(array: np.ndarray | None) -> Any:
    if array is None:
        return _ffi.NULL
    if array.flags.c_contiguous and array.size:
        # NumPy's own answer takes three times as long.
        return _ffi.from_buffer(array)
    return _ffi.cast(_POINTER, array.__array_interface__["data"][0])
