"""Who is measured: one module each, with a class ``Peer``, which runs in a process of its own.

``Peer(threads, **options)`` raises ImportError where its package is missing; ``versions`` names what it runs on;
``prepare(problem)`` returns the ways in which it can solve a problem, or raises ``Refused``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["NAMES", "Refused", "Variant", "first"]

#: Everybody but us.
NAMES = ("torch", "onnxruntime", "openvino", "ncnn", "jax", "numpy")


class Refused(Exception):
    """This problem is not for this peer; the message says why."""


@dataclass(frozen=True)
class Variant:
    """One way to solve a problem: a layout, a mode. ``array`` makes an array, channels first, of ``run``'s result.

    ``warm_up``: seconds until the first result, with what is compiled, loaded or packed for it; None where unknown.
    """

    run: Callable[[], Any]
    array: Callable[[Any], np.ndarray] = np.asarray
    note: str = ""
    warm_up: float | None = None
    #: Whether the result is that of the problem, and is compared.
    computes: bool = True


def first(result: Any) -> Any:
    """The first of several results, or the only one."""
    return result[0] if isinstance(result, (tuple, list)) else result
