"""Checks on single arguments that are no arrays: each gives the value in one form, or an error that names the argument.

Nothing is converted without a word: a bool is no number, a string is no sequence, and any object is not a truth value.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["MOST", "flag", "index", "integer", "number", "plain", "shown", "word"]

#: Integers beyond this, on either side, are refused: no size, stride or pad of an array that fits is near it.
MOST = 2**63 - 1

#: Characters of a value that a message quotes.
_QUOTED = 200


def shown(value: Any) -> str:
    """``repr(value)`` for a message, shortened where it is long; Python refuses to write out integers that are."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<a {type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 20]} ... {text[-15:]}"


def index(value: Any) -> int:
    """``operator.index(value)``, which is what says that a value is an integer; but a bool is none: TypeError."""
    if isinstance(value, bool):
        raise TypeError("a bool")
    return operator.index(value)


def integer(name: str, value: Any, low: int, high: int, allowed: str = "") -> int:
    """``value`` as an int from ``low`` to ``high``: TypeError if it is none (a bool is none), ValueError outside."""
    allowed = allowed or f"an int from {low} to {high}"
    try:
        found = index(value)
    except TypeError:
        raise TypeError(f"{name}={shown(value)}: allowed is {allowed}") from None
    if not low <= found <= high:
        raise ValueError(f"{name}={shown(value)}: allowed is {allowed}")
    return found


def number(name: str, value: Any) -> float:
    """``value`` as a float: TypeError for what is no real number, ValueError for an integer beyond all floats."""
    if type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}={shown(value)}: allowed is a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}={shown(value)}: allowed is a number that a float can hold") from None


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool: True, False, 1 or 0; TypeError for anything else, whatever its truth."""
    if value is True or value is False:
        return value
    if isinstance(value, (int, np.integer, np.bool_)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name}={shown(value)}: allowed is True or False")


def word(name: str, value: Any, allowed: Iterable[str] = ()) -> str:
    """``value``, one of the strings ``allowed``, or any if none are named; TypeError or ValueError if it is not."""
    known = list(allowed)
    if not isinstance(value, str) or (known and value not in known):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name}={shown(value)}: allowed is {', '.join(known) if known else 'a string'}")
    return value


def plain(name: str, value: Any) -> Any:
    """A hashable form of an argument made of ints, strings and sequences of them; TypeError names the argument."""
    kind = type(value)
    if kind is int or kind is str or value is None:
        return value
    if kind is tuple:
        for part in value:
            if type(part) is not int:
                break
        else:
            return value
    return _plain(name, value, value, 2)


def _plain(name: str, part: Any, whole: Any, depth: int) -> Any:
    """Sequences may hold sequences, ``depth`` deep."""
    if part is None or isinstance(part, str):
        return part
    listed = isinstance(part, (Sequence, np.ndarray)) and not isinstance(part, (bytes, bytearray, memoryview))
    if listed and depth and getattr(part, "ndim", 1):
        return tuple([_plain(name, item, whole, depth - 1) for item in part])
    try:
        return index(part)
    except TypeError:
        raise TypeError(f"{name}={shown(whole)}: allowed are ints, strings and sequences of them") from None
