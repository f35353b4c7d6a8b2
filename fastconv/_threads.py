"""How many threads a call may use, and how they treat denormals.

The number is, first found first taken: the innermost ``with threads(n)`` of this context, ``set_num_threads``, the
environment variable ``FASTCONV_NUM_THREADS``, then ``OMP_NUM_THREADS``, else the CPUs that this process may use (its
affinity and its cgroup's quota). Results do not depend on it, bit by bit.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from .arguments import flag, integer

__all__ = [
    "get_flush_denormals",
    "get_num_threads",
    "register_threadpoolctl",
    "set_flush_denormals",
    "set_num_threads",
    "threads",
]

MAX_THREADS = 256

_of_context: ContextVar[int | None] = ContextVar("fastconv_threads", default=None)
_of_process: int | None = None
_registered = False


def get_num_threads() -> int:
    """The number of threads that a call made here and now may use.

    ValueError if an environment variable that decides it holds no number from 1 to 256.
    """
    if not _registered and "threadpoolctl" in sys.modules and f"{__package__}._c" in sys.modules:
        register_threadpoolctl()
    return _of_context.get() or _of_process or _default()


def set_num_threads(n: int) -> None:
    """Let every call in this process use up to ``n`` threads, from 1 to 256; ``with threads(n)`` goes before it."""
    global _of_process
    _of_process = _checked(n, "n")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Within this context (of this thread or task) calls use up to ``n`` threads, from 1 to 256."""
    token = _of_context.set(_checked(n, "n"))
    try:
        yield
    finally:
        _of_context.reset(token)


def set_flush_denormals(on: bool) -> None:
    """Whether compiled C kernels take denormal numbers for zero (they do, unless told otherwise: denormals are slow).

    The floating-point mode of the calling thread is the same after a call as before it. Without the C library there
    is nothing to set: RuntimeError. TypeError where ``on`` is not a bool.
    """
    on = flag("on", on)
    _library().fc_set_flush_denormals(on)


def get_flush_denormals() -> bool:
    """Whether compiled C kernels take denormal numbers for zero."""
    return bool(_library().fc_get_flush_denormals())


def _library() -> Any:
    try:
        from ._c import lib
    except ImportError as error:
        raise RuntimeError(f"the C library cannot be loaded: {error}") from error
    return lib


# ------------------------------------------------------------------------------------------------------ defaults


def _checked(value: Any, name: str) -> int:
    return integer(name, value, 1, MAX_THREADS)


@cache
def _default() -> int:
    for name in ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS"):
        if text := os.environ.get(name, "").strip():
            # OpenMP has a list, one number a level of nesting, and no upper limit.
            first = text.split(",")[0].strip() if name == "OMP_NUM_THREADS" else text
            if not (first.isascii() and first.isdigit()):
                raise ValueError(f"{name}={text!r}: allowed is an int from 1 to {MAX_THREADS}")
            return _checked(min(int(first), MAX_THREADS) if name == "OMP_NUM_THREADS" else int(first), name)
    return min(_usable_cpus(), MAX_THREADS)


def _usable_cpus() -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def cgroup_quota(membership: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> float | None:
    """The CPUs' worth of time that this process's control groups (version 1 or 2) grant it; None: no limit."""
    quotas = []
    for line in _read(Path(membership)).splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if names == [""]:
            roots, quota_of = [Path(mount), Path(mount, "unified")], _quota_v2
        elif "cpu" in names:
            roots, quota_of = [Path(mount, "cpu"), Path(mount, controllers)], _quota_v1
        else:
            continue
        # A group's limit binds all below it. In a container the path may be the host's: then only its root is there.
        group = PurePosixPath(path.lstrip("/"))
        quotas += [quota_of(root / g) for root in roots for g in (group, *group.parents)]
    return min((q for q in quotas if q is not None), default=None)


def _quota_v2(group: Path) -> float | None:
    return _ratio(*_read(group / "cpu.max").split())


def _quota_v1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str = "max", period: str = "") -> float | None:
    try:
        microseconds, every = int(quota), int(period)
    except ValueError:  # "max", or no such file
        return None
    return microseconds / every if microseconds > 0 and every > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# ------------------------------------------------------------------------------------------------- threadpoolctl


def register_threadpoolctl() -> None:
    """Make ``threadpoolctl.threadpool_limits`` and ``threadpool_info`` know this package's threads.

    Done without being asked in the first call after both packages are loaded. ImportError if threadpoolctl is not
    installed, RuntimeError if the C library, by which it recognises the package, cannot be loaded.
    """
    global _registered
    if _registered:
        return
    import threadpoolctl

    _library()

    class FastconvController(threadpoolctl.LibController):
        user_api = "fastconv"
        internal_api = "fastconv"
        filename_prefixes = ("_c.",)
        check_symbols = ("fc_worker_count",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            # Where a context has its own number, that is the one to limit.
            if _of_context.get() is None:
                set_num_threads(min(num_threads, MAX_THREADS))
            else:
                _of_context.set(_checked(min(num_threads, MAX_THREADS), "num_threads"))

        def get_version(self) -> None:
            return None

    _registered = True
    threadpoolctl.register(FastconvController)
