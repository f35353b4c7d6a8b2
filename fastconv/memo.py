"""Bounded caches of choices, all emptied at once when something that choices depend on has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Memo", "forget"]

#: Results that one cache keeps. It is emptied when they are more: a program that has so many has ever new ones.
_MOST = 512

_caches: list[Memo] = []


class Memo(dict[Any, Any]):
    """``memo[arguments]`` is ``make(*arguments)``, computed once, until ``forget``; arguments can be hashed."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        _caches.append(self)

    def __missing__(self, arguments: tuple[Any, ...]) -> Any:
        made = self._make(*arguments)
        if len(self) >= _MOST:
            self.clear()
        self[arguments] = made
        return made


def forget() -> None:
    """Search anew from now on: what choices depend on has changed."""
    for cache in _caches:
        cache.clear()
