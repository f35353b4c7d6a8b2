"""Compiling functions, and where compiled code is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numba
import numpy as np
from numba.core import caching, config

from ....machine import cache_directory, private_directory

__all__ = ["inlined", "jit", "part"]


def jit(function: Callable[..., Any], **more: Any) -> Any:
    """Compile without the GIL and without Python's division checks; keep the code on disk where that is possible."""
    compiled = numba.jit(nopython=True, nogil=True, error_model="numpy", **more)(function)
    with suppress(RuntimeError):  # no directory for it
        compiled._cache = _Cache(function)
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """Compile what only compiled functions call."""
    return jit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: Callable[..., Any]) -> Any:
    """Part of the one compiled function that calls it: there is no code of its own to make."""
    return numba.jit(nopython=True, error_model="numpy", inline="always")(function)


class _Place(caching._CacheLocator):
    """Where compiled code is kept: with the user's caches. It is out of date when any file of the backend changes,
    not only that of the function, as Numba has it; and it is kept for each processor apart, as Numba has it."""

    def __init__(self, function: Callable[..., Any], directory: str) -> None:
        self._room = function.__module__.rpartition(".")[0].rpartition(".")[2]
        self._line = function.__code__.co_firstlineno
        self._directory = directory

    def get_cache_path(self) -> str:
        return self._directory

    def get_source_stamp(self) -> str:
        return _sources()

    def get_disambiguator(self) -> str:
        """Beside the names of the function and its file, which may be the same in two rooms."""
        return f"{self._room}-{self._line}"

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Place | None:
        directory = _code_directory()
        return directory and cls(function, directory)


@cache
def _code_directory() -> str | None:
    """Where compiled code is kept; None where it is not to be kept (``FASTCONV_CACHE=off``), or cannot be.

    What lies there is loaded as code: so the directory must be this user's alone. One that ``NUMBA_CACHE_DIR`` names is
    Numba's affair.
    """
    root = cache_directory()
    if root is None:
        return None
    directory = Path(config.CACHE_DIR) if config.CACHE_DIR else root / "numba"
    try:
        if config.CACHE_DIR:
            directory.mkdir(parents=True, exist_ok=True)
        else:
            private_directory(directory)
        with TemporaryFile(dir=directory):
            return str(directory)
    except OSError as error:
        warnings.warn(f"compiled code is not kept for later processes: {error}", stacklevel=2)
        return None


class _Cache(caching.FunctionCache):
    class _impl_class(caching.CompileResultCacheImpl):
        _locator_classes = (_Place,)


@cache
def _sources() -> str:
    """A digest of what compiled code is made of."""
    digest = sha256(f"{numba.__version__} {np.__version__}".encode())
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
