"""From a spec to a compiled kernel: an ordered search over the backends, each of which may refuse with a reason."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from .backends.base import Backend, Kernel, Spec

__all__ = ["ORDER", "Choice", "Explanation", "backend", "backends", "explain", "precision", "use_backend", "use_isa"]

#: The search order.
ORDER = ("c", "numba", "cuda", "reference")

PRECISIONS = ("strict", "default", "fast")

_forced: ContextVar[str | None] = ContextVar("fastconv_backend", default=None)
_isa: ContextVar[str | None] = ContextVar("fastconv_isa", default=None)
_precision: ContextVar[str] = ContextVar("fastconv_precision", default="default")
_record: ContextVar[list[Choice] | None] = ContextVar("fastconv_explain", default=None)


@dataclass(frozen=True)
class Choice:
    """Which kernel a spec got, and why: ``refusals`` are the (backend, reason) pairs before it."""

    spec: Spec
    kernel: Kernel
    refusals: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        k = self.kernel
        lines = [f"{self.spec}"]
        lines += [f"  {name}: refused, {reason}" for name, reason in self.refusals]
        lines += [f"  {k.backend}: {k.algorithm} on {k.isa}, workspace {k.workspace_bytes} bytes"]
        lines += [f"    {line}" for line in k.reason.splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Absent:
    """Stands for a backend that this installation does not contain."""

    name: str

    def available(self) -> str:
        return "it is not part of this installation"

    def refuse(self, spec: Spec) -> str:
        return self.available()

    def compile(self, spec: Spec) -> Kernel:
        raise RuntimeError(self.available())


@cache
def backend(name: str) -> Backend:
    """The backend of this name, imported on first use. ValueError lists the names."""
    if name not in ORDER:
        raise ValueError(f"backend={name!r}: allowed is {', '.join(ORDER)}")
    module = f"{__package__}.backends.{name}"
    try:
        return importlib.import_module(module).BACKEND
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return _Absent(name)


def backends() -> dict[str, str | None]:
    """Every backend in search order, with None if it can run here and the reason if not."""
    return {name: backend(name).available() for name in ORDER}


def _usable(name: str) -> Backend:
    chosen = backend(name)
    if reason := chosen.available():
        raise RuntimeError(f"backend={name!r} cannot run here: {reason}")
    return chosen


@cache
def _environment(name: str) -> str | None:
    """A variable of the environment, read once: that takes as long as a small layer."""
    return os.environ.get(name) or None


def _from_environment() -> str | None:
    name = _environment("FASTCONV_BACKEND")
    if name is not None and name not in ORDER:
        raise ValueError(f"FASTCONV_BACKEND={name!r}: allowed is {', '.join(ORDER)}")
    return name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context every call runs on backend ``name`` (of this thread or task), or raises.

    ValueError for an unknown name, RuntimeError for one that cannot run here. The environment variable
    ``FASTCONV_BACKEND`` does the same for a whole process.
    """
    _usable(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Within this context the C backend runs on instruction set ``name`` (``fastconv info`` lists them), or raises.

    ValueError for an unknown name, RuntimeError for one that this CPU does not run. The environment variable
    ``FASTCONV_ISA`` does the same for a whole process.
    """
    token = _isa.set(name)
    try:
        importlib.import_module(".backends.c", __package__).current_isa()
        yield
    finally:
        _isa.reset(token)


@contextmanager
def precision(level: str) -> Iterator[None]:
    """Within this context algorithms keep this much accuracy.

    ``"strict"``: direct algorithms only. ``"default"``: float32 algorithms whose relative L2 error stays below 5e-6.
    ``"fast"``: whatever is fastest in the dtype of the arrays.
    """
    if level not in PRECISIONS:
        raise ValueError(f"precision={level!r}: allowed is {', '.join(PRECISIONS)}")
    token = _precision.set(level)
    try:
        yield
    finally:
        _precision.reset(token)


def current_precision() -> str:
    return _precision.get()


def forced_backend() -> str | None:
    """The backend that this context or the environment forces; None where the search is free."""
    return _forced.get() or _from_environment()


def forced_isa() -> str | None:
    """The instruction set that this context or the environment forces; None where the best one is taken."""
    return _isa.get() or _environment("FASTCONV_ISA")


@lru_cache(maxsize=512)
def _search(spec: Spec, forced: str | None, isa: str | None) -> Choice:
    """``isa`` is what the kernel is compiled for (backends ask ``forced_isa``): a key of the cache, no more."""
    if forced is not None:
        chosen = _usable(forced)
        if reason := chosen.refuse(spec):
            raise NotImplementedError(f"backend={forced!r} does not compute this: {reason}")
        return Choice(spec, chosen.compile(spec), ())
    refusals = []
    for name in ORDER:
        candidate = backend(name)
        reason = candidate.available() or candidate.refuse(spec)
        if reason is None:
            return Choice(spec, candidate.compile(spec), tuple(refusals))
        refusals.append((name, reason))
    raise NotImplementedError(f"no backend computes {spec}: {refusals}")


def choose(spec: Spec) -> Choice:
    """The kernel for ``spec`` in this context (found once, then remembered in a bounded cache)."""
    # Where nothing is to be multiplied there is nothing to be fast at: the reference settles it.
    choice = _search(spec, "reference" if spec.empty else forced_backend(), forced_isa())
    record = _record.get()
    if record is not None:
        record.append(choice)
    return choice


def kernel_for(spec: Spec) -> Kernel:
    return choose(spec).kernel


class Explanation(list[Choice]):
    """What ran during one call, in order; print it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Call ``function(*args, **kwargs)`` and say which backends, algorithms and instruction sets it ran on, and why.

    >>> print(fastconv.explain(fastconv.conv2d, x, w, padding="same"))
    """
    record = Explanation()
    token = _record.set(record)
    try:
        function(*args, **kwargs)
    finally:
        _record.reset(token)
    return record
