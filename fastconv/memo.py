"""Bounded caches of choices, all emptied at once when something that choices depend on has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["forget", "remember"]

_caches: list[Any] = []


def remember(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose last results are kept by its arguments until ``forget``."""
    cached = lru_cache(maxsize=512)(function)
    _caches.append(cached)
    return cached


def forget() -> None:
    """Search anew from now on: what choices depend on has changed."""
    for cached in _caches:
        cached.cache_clear()
