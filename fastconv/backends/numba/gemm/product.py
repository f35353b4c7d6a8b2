"""From matrices described by strides to runs of the packed GEMM: blocking, work space, threads."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np

from ...._threads import get_num_threads
from ....spec import Activation
from ..core import workers
from ..core.activations import activation_number
from ..core.arrays import Packed, addresses_of, aligned, up
from ..core.target import KC, MR, NV, PITCH, lanes
from .multiply import PROBLEM, multiply, pack
from .operands import OPERAND, Operand

__all__ = ["Job", "Product", "together"]

#: Blocks of a sum that are added one after another at least.
_SUMMED = 32


def together(blocks: int) -> int:
    """How many of so many blocks of a sum are added one after another: then their sums are."""
    return max(_SUMMED, isqrt(blocks))


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
        return get_num_threads() if self.macs >= workers.WORK_FLOOR else 1

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
