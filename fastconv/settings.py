"""What a program asks for beside the problem: which backend, instruction set, algorithm, memory, precision.

The one road that settings travel: contexts and the environment make a ``Settings``; dispatch looks it up once a call
(``settings()``), searches with it, remembers what it found by it and hands it to the backend that compiles.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

from .arguments import MOST, integer, word

__all__ = [
    "ORDER",
    "PRECISIONS",
    "Settings",
    "changed",
    "of_context",
    "precision",
    "settings",
    "use_algorithm",
    "workspace_limit",
]

#: The backends, in the order in which they are asked.
ORDER = ("c", "numba", "cuda", "reference")

PRECISIONS = ("strict", "default", "fast")


class Settings(NamedTuple):
    """What holds for a search and for the kernel that it finds. None: free to choose.

    ``limit``: bytes that a convolution may take beside its arrays. ``tuning``: ``"off"``, ``"remembered"`` (what was
    measured before holds) or ``"measured"`` (what was not is measured now); see ``autotune``.
    """

    backend: str | None = None
    isa: str | None = None
    algorithm: str | None = None
    limit: int | None = None
    precision: str = "default"
    tuning: str = "remembered"


_of_context: ContextVar[Settings | None] = ContextVar("fastconv_settings", default=None)

#: What the contexts say; None where there are none, and the environment's settings hold.
of_context = _of_context.get


@cache
def _of_environment() -> Settings:
    """Read once: that takes as long as a small layer."""
    name = os.environ.get("FASTCONV_BACKEND") or None
    if name is not None and name not in ORDER:
        raise ValueError(f"FASTCONV_BACKEND={name!r}: allowed is {', '.join(ORDER)}")
    return Settings(name, os.environ.get("FASTCONV_ISA") or None)


def settings() -> Settings:
    """What holds here: what the contexts say, and the environment where there are none."""
    return of_context() or _of_environment()


@contextmanager
def changed(**changes: Any) -> Iterator[None]:
    """Within this context (of this thread or task) these settings are others."""
    token = _of_context.set(settings()._replace(**changes))
    try:
        yield
    finally:
        _of_context.reset(token)


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
    with changed(precision=word("precision", level, PRECISIONS)):
        yield
