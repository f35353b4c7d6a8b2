"""The backends, one folder each; ``base.py`` is their contract. Each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from ..arguments import word
from ..settings import ORDER, Settings, changed
from ..spec import ConvSpec
from .base import Backend, Kernel, Spec, isa_of

__all__ = ["ORDER", "backend", "backends", "usable", "use_backend", "use_isa"]


@dataclass(frozen=True)
class _Absent:
    """Stands for a backend that this installation does not contain."""

    name: str

    def available(self) -> str:
        return "it is not part of this installation"

    def isas(self) -> dict[str, str | None]:
        return {}

    def refuse(self, spec: Spec, settings: Settings) -> str:
        return self.available()

    def algorithms(self, spec: ConvSpec, settings: Settings) -> dict[str, str | None]:
        return {}

    def compile(self, spec: Spec, settings: Settings) -> Kernel:
        raise RuntimeError(self.available())


def backend(name: str) -> Backend:
    """The backend of this name, imported on first use. ValueError lists the names."""
    return _imported(word("backend", name, ORDER))


@cache
def _imported(name: str) -> Backend:
    module = f"{__package__}.{name}"
    try:
        return importlib.import_module(module).BACKEND
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return _Absent(name)


def backends() -> dict[str, str | None]:
    """Every backend in search order, with None if it can run here and the reason if not."""
    return {name: backend(name).available() for name in ORDER}


def usable(name: str) -> Backend:
    """The backend of this name. ValueError for an unknown name, RuntimeError for one that cannot run here."""
    found = backend(name)
    if reason := found.available():
        raise RuntimeError(f"backend={name!r} cannot run here: {reason}")
    return found


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within this context every call runs on backend ``name`` (of this thread or task), or raises.

    ValueError for an unknown name, RuntimeError for one that cannot run here. The environment variable
    ``FASTCONV_BACKEND`` does the same for a whole process.
    """
    usable(name)
    with changed(backend=name):
        yield


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Within this context the C backend runs on instruction set ``name`` (``fastconv info`` lists them), or raises.

    ValueError for an unknown name, RuntimeError for one that this CPU does not run. The environment variable
    ``FASTCONV_ISA`` does the same for a whole process.
    """
    name = word("isa", name)
    isa_of(usable("c").isas(), name)
    with changed(isa=name):
        yield
