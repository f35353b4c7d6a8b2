"""From a spec to a compiled kernel: an ordered search over the backends, each of which may refuse with a reason."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from typing import Any, NamedTuple

from .arguments import MOST, integer, shown, word
from .backends.base import Backend, Kernel, Spec
from .spec import ConvSpec

__all__ = [
    "ORDER",
    "Choice",
    "Explanation",
    "backend",
    "backends",
    "explain",
    "precision",
    "use_algorithm",
    "use_backend",
    "use_isa",
    "workspace_limit",
]

#: The search order.
ORDER = ("c", "numba", "cuda", "reference")

PRECISIONS = ("strict", "default", "fast")


class Settings(NamedTuple):
    """What contexts and the environment say of a search; a key of its cache. ``tuning``: see ``autotune``."""

    backend: str | None = None
    isa: str | None = None
    algorithm: str | None = None
    limit: int | None = None
    tuning: str = "remembered"


_settings: ContextVar[Settings | None] = ContextVar("fastconv_settings", default=None)
_precision: ContextVar[str] = ContextVar("fastconv_precision", default="default")
_record: ContextVar[list[Choice] | None] = ContextVar("fastconv_explain", default=None)


@dataclass(frozen=True)
class Choice:
    """Which kernel a spec got, and why: ``refusals`` are the (backend, reason) pairs before it.

    ``tuned`` says how it came out where ``autotune`` measured it; else it is empty.
    """

    spec: Spec
    kernel: Kernel
    refusals: tuple[tuple[str, str], ...]
    tuned: str = ""

    def __str__(self) -> str:
        k = self.kernel
        lines = [f"{self.spec}"]
        lines += [f"  {name}: refused, {reason}" for name, reason in self.refusals]
        lines += [f"  {k.backend}: {k.algorithm} on {k.isa}, workspace {k.workspace_bytes} bytes"]
        lines += [f"    {line}" for line in (self.tuned or k.reason).splitlines()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Absent:
    """Stands for a backend that this installation does not contain."""

    name: str

    def available(self) -> str:
        return "it is not part of this installation"

    def refuse(self, spec: Spec) -> str:
        return self.available()

    def algorithms(self, spec: ConvSpec) -> dict[str, str | None]:
        return {}

    def compile(self, spec: Spec) -> Kernel:
        raise RuntimeError(self.available())


def backend(name: str) -> Backend:
    """The backend of this name, imported on first use. ValueError lists the names."""
    return _imported(word("backend", name, ORDER))


@cache
def _imported(name: str) -> Backend:
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
def _of_environment() -> Settings:
    """Read once: that takes as long as a small layer."""
    name = os.environ.get("FASTCONV_BACKEND") or None
    if name is not None and name not in ORDER:
        raise ValueError(f"FASTCONV_BACKEND={name!r}: allowed is {', '.join(ORDER)}")
    return Settings(name, os.environ.get("FASTCONV_ISA") or None)


def settings() -> Settings:
    """What holds here: what the contexts say, and the environment where there are none."""
    return _settings.get() or _of_environment()


@contextmanager
def changed(**changes: Any) -> Iterator[None]:
    """Within this context (of this thread or task) these settings are others."""
    token = _settings.set(settings()._replace(**changes))
    try:
        yield
    finally:
        _settings.reset(token)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context every call runs on backend ``name`` (of this thread or task), or raises.

    ValueError for an unknown name, RuntimeError for one that cannot run here. The environment variable
    ``FASTCONV_BACKEND`` does the same for a whole process.
    """
    _usable(name)
    with changed(backend=name):
        yield


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Within this context the C backend runs on instruction set ``name`` (``fastconv info`` lists them), or raises.

    ValueError for an unknown name, RuntimeError for one that this CPU does not run. The environment variable
    ``FASTCONV_ISA`` does the same for a whole process.
    """
    with changed(isa=word("isa", name)):
        importlib.import_module(".backends.c", __package__).current_isa()
        yield


@contextmanager
def use_algorithm(name: str) -> Iterator[None]:
    """Within this context every convolution is computed by algorithm ``name``, however slow it is there, or raises.

    ``explain`` names algorithms. NotImplementedError, where a convolution is called, if no backend has such an
    algorithm for it, or it would exceed the ``workspace_limit``.
    """
    with changed(algorithm=word("algorithm", name)):
        yield


@contextmanager
def workspace_limit(nbytes: int | None) -> Iterator[None]:
    """Within this context a convolution of the C backend takes at most ``nbytes`` of memory beside its arrays.

    Algorithms that would take more on one thread are refused, and no more threads work than their scratch memory has
    room for; so results depend on the limit, not on the threads. Where every algorithm would take more, the one that
    can compute everything runs all the same. None: no limit. TypeError or ValueError for what is no int from 1 to
    2^63 - 1.
    """
    if nbytes is not None:
        nbytes = integer("nbytes", nbytes, 1, MOST, "None or an int from 1 to 2^63 - 1")
    with changed(limit=nbytes):
        yield


@contextmanager
def precision(level: str) -> Iterator[None]:
    """Within this context algorithms keep this much accuracy.

    ``"strict"``: direct algorithms only. ``"default"``: float32 algorithms whose error's L2 norm stays below 5e-6 of
    that of the sums of ``abs(x) * abs(w)``; results whose windows hold values that are too small for that beside their
    neighbours are computed directly.
    ``"fast"``: whatever is fastest in the dtype of the arrays.
    """
    token = _precision.set(word("precision", level, PRECISIONS))
    try:
        yield
    finally:
        _precision.reset(token)


def current_precision() -> str:
    return _precision.get()


def forced_backend() -> str | None:
    """The backend that this context or the environment forces; None where the search is free."""
    return settings().backend


def forced_isa() -> str | None:
    """The instruction set that this context or the environment forces; None where the best one is taken."""
    return settings().isa


def refusal(name: str, spec: Spec, algorithm: str | None) -> str | None:
    """Why backend ``name`` does not compute ``spec``, or not by ``algorithm``; None if it does."""
    candidate = backend(name)
    reason = candidate.available() or candidate.refuse(spec)
    if reason is None and algorithm is not None and isinstance(spec, ConvSpec):
        table = candidate.algorithms(spec)
        reason = table.get(algorithm, f"it has {', '.join(table)} for this, not {algorithm}")
    return reason


@lru_cache(maxsize=512)
def _search(spec: Spec, given: Settings) -> Choice:
    """``given`` are the settings that hold here: backends ask for those that they compile for."""
    if given.tuning != "off" and given.algorithm is None and isinstance(spec, ConvSpec) and not spec.empty:
        # It searches, too: imported here.
        from .tuning import tuned

        if choice := tuned(spec, given):
            return choice
    if given.backend is not None:
        chosen = _usable(given.backend)
        if reason := refusal(given.backend, spec, given.algorithm):
            raise NotImplementedError(f"backend={given.backend!r} does not compute this: {reason}")
        return Choice(spec, chosen.compile(spec), ())
    refusals = []
    for name in ORDER:
        reason = refusal(name, spec, given.algorithm)
        if reason is None:
            return Choice(spec, backend(name).compile(spec), tuple(refusals))
        refusals.append((name, reason))
    by = "" if given.algorithm is None else f" by {given.algorithm}"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals)
    raise NotImplementedError(f"no backend computes this{by}: {reasons} ({spec})")


def chooser(make: Callable[..., Spec]) -> Callable[..., Choice]:
    """``choose(make(...))`` as a function of the positional arguments of ``make``.

    What it finds is remembered, in a bounded cache, by the arguments: next to a small layer, making a spec is slow.
    """

    @lru_cache(maxsize=512)
    def found(given: Settings, *args: Any) -> Choice:
        spec = make(*args)
        # Where nothing is to be multiplied there is nothing to be fast at: the reference settles it.
        return _search(spec, given._replace(backend="reference", algorithm=None) if spec.empty else given)

    _remembered.append(found)

    @wraps(make)
    def choose(*args: Any) -> Choice:
        try:
            choice = found(_settings.get() or _of_environment(), *args)
        except TypeError:
            # Perhaps an argument cannot be looked up. If so it is a wrong one, and ``make`` says which.
            make(*args)
            raise
        record = _record.get()
        if record is not None:
            record.append(choice)
        return choice

    return choose


#: The caches that hold choices.
_remembered = [_search]


def forget() -> None:
    """Search anew from now on: what choices depend on has changed."""
    for found in _remembered:
        found.cache_clear()


def _given(spec: Spec) -> Spec:
    return spec


choose = chooser(_given)
choose.__doc__ = "The kernel for a spec in this context (found once, then remembered in a bounded cache)."


class Explanation(list[Choice]):
    """What ran during one call, in order; print it."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Call ``function(*args, **kwargs)`` and say which backends, algorithms and instruction sets it ran on, and why.

    >>> print(fastconv.explain(fastconv.conv2d, x, w, padding="same"))
    """
    if not callable(function):
        raise TypeError(f"function={shown(function)}: allowed is what can be called, such as fastconv.conv2d")
    record = Explanation()
    token = _record.set(record)
    try:
        function(*args, **kwargs)
    finally:
        _record.reset(token)
    return record
