"""Values of options of the command line, checked where argparse reads them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

__all__ = ["at_least", "positive"]


def at_least(minimum: int) -> Callable[[str], int]:
    """A ``type`` of integers from ``minimum`` on."""

    def integer(text: str) -> int:
        value = int(text)
        if value < minimum:
            raise ArgumentTypeError(f"{text}: allowed are integers >= {minimum}")
        return value

    return integer


def positive(text: str) -> float:
    """A ``type`` of finite numbers above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r}: allowed is a number > 0")
    return value
