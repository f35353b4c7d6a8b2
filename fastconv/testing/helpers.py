"""What a backend is tested with: who can run here, exact data, computed tolerances, arrays with watched surroundings.

The tests of this package are written with these helpers; a new backend can test itself with them too.

>>> for target in targets():
...     with on(target):
...         y = proven(target, fastconv.conv2d, x, w)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import dispatch
from ..backends import backend, backends, use_backend, use_isa
from ..backends.base import Spec
from ..dispatch import Choice
from ..settings import settings
from .arrays import laid

__all__ = [
    "MEMORY_ORDERS",
    "Target",
    "adjoint_gap",
    "assert_close",
    "assert_exact",
    "backends_here",
    "error_bound",
    "guarded",
    "integers",
    "isas_here",
    "nan_filled",
    "on",
    "proven",
    "ran",
    "relative_l2",
    "surrounded",
    "targets",
]


# ------------------------------------------------------------------------------------------- who can run here


@dataclass(frozen=True)
class Target:
    """A backend, and one of its instruction sets where it has several."""

    backend: str
    isa: str | None = None

    def __str__(self) -> str:
        return self.backend if self.isa is None else f"{self.backend}-{self.isa}"


def backends_here() -> list[str]:
    """The backends that can run on this machine, in search order; the one that the environment forces, if any."""
    forced = settings().backend
    return [name for name, reason in backends().items() if reason is None and forced in (None, name)]


def isas_here(name: str) -> list[str]:
    """The instruction sets of a backend that this machine can run; empty where it does not choose among any.

    One that the environment forces is the only one.
    """
    forced = settings().isa
    return [isa for isa, reason in backend(name).isas().items() if reason is None and forced in (None, isa)]


def targets(spec: Spec | None = None) -> list[Target]:
    """Every backend on every instruction set that can run on this machine, without those that refuse ``spec``."""
    names = [name for name in backends_here() if spec is None or backend(name).refuse(spec, settings()) is None]
    return [Target(name, isa) for name in names for isa in isas_here(name) or [None]]


@contextmanager
def on(target: Target) -> Iterator[None]:
    """Everything inside runs on ``target``, or raises."""
    isa = nullcontext() if target.isa is None else use_isa(target.isa)
    with isa, use_backend(target.backend):
        yield


def ran(target: Target, function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, list[Choice]]:
    """``function(*args, **kwargs)`` and what ran: AssertionError if that is not a kernel of ``target``, or is none."""
    results = []
    choices = dispatch.explain(lambda: results.append(function(*args, **kwargs)))
    assert choices, f"no kernel ran in {function}"
    for choice in choices:
        kernel = choice.kernel
        if not choice.spec.empty:
            assert kernel.backend == target.backend, f"{target} was asked for, but this ran:\n{choice}"
            assert target.isa in (None, kernel.isa), f"{target} was asked for, but this ran:\n{choice}"
    return results[0], choices


def proven(target: Target, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``; AssertionError if a kernel ran that is not ``target``'s, or none at all."""
    return ran(target, function, *args, **kwargs)[0]


# ------------------------------------------------------------------------------------------------------- data


def integers(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, length: int = 1, bound: int = 3
) -> np.ndarray:
    """Whole numbers from -bound to bound, whose sums of ``length`` products of two are exact in float32.

    With them every correct algorithm gives the same bits, whatever its order of summation.
    """
    assert length * bound * bound < 2**24, f"{length} products of numbers up to {bound} may exceed 2^24"
    return rng.integers(-bound, bound + 1, shape).astype(dtype)


def nan_filled(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An ``out`` that shows when something reads it or leaves an element unwritten."""
    return np.full(shape, np.nan, dtype)


def _backwards(x: np.ndarray) -> np.ndarray:
    return x[(slice(None, None, -1),) * x.ndim].copy()[(slice(None, None, -1),) * x.ndim]


def _spaced(x: np.ndarray) -> np.ndarray:
    spaced = np.full([2 * n + 1 for n in x.shape], np.nan, x.dtype)
    view = spaced[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)]
    view[...] = x
    return view


#: name -> the same array with other strides.
MEMORY_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "reversed axes": lambda x: x.copy(order="F"),
    "every second element": _spaced,
    "negative strides": _backwards,
}


# ------------------------------------------------------------------------------------------------- tolerances


def error_bound(magnitude: np.ndarray, length: int, dtype: Any) -> np.ndarray:
    """What rounding can add to sums of ``length`` products, whose sums of absolute values are ``magnitude``.

    The bound of any order of summation, with or without fused multiply-adds, and a few roundings more for an
    epilogue. AssertionError where it would be too loose to show a mistake.
    """
    eps = np.finfo(dtype).eps
    factor = (length + 8) * eps
    assert factor < 2e-3, f"a bound of {factor:.1e} of the magnitude shows nothing: take a shorter sum"
    return factor * magnitude + 8 * np.finfo(dtype).tiny


def relative_l2(actual: np.ndarray, expected: np.ndarray) -> float:
    """``|actual - expected| / |expected|`` in float64."""
    difference = np.linalg.norm((actual.astype(np.float64) - expected).ravel())
    return float(difference / max(np.linalg.norm(np.ravel(expected)), np.finfo(np.float64).tiny))


def assert_exact(actual: np.ndarray, expected: np.ndarray, what: str = "") -> None:
    """Equal in shape and in every element (NaN equals NaN)."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    wrong = ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    if wrong.any():
        first = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements differ, the first at {first}: "
            f"{actual[first]}, expected {expected[first]}"
        )


def assert_close(actual: np.ndarray, expected: np.ndarray, bound: Any, what: str = "") -> None:
    """Equal in shape, and no element further off than ``bound`` (a number or one an element)."""
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    error = np.abs(actual.astype(np.float64) - expected)
    wrong = ~(error <= bound)
    if wrong.any():
        first = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements are too far off, the first at {first}: "
            f"{actual[first]}, expected {expected[first]} within {np.broadcast_to(bound, error.shape)[first]}"
        )


def adjoint_gap(y: np.ndarray, dy: np.ndarray, *pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest difference between <y, dy> and <x, dx> over the pairs (x, dx): 0 for an adjoint, on whole numbers."""
    product = np.vdot(y.astype(np.float64), dy.astype(np.float64))
    return max(abs(product - np.vdot(x.astype(np.float64), dx.astype(np.float64))) for x, dx in pairs)


# ----------------------------------------------------------------------------------------- watched surroundings


def surrounded(x: np.ndarray, margin: int = 64) -> tuple[np.ndarray, Callable[[], None]]:
    """A copy of x inside a buffer of NaN, and a check that the NaN still surround it.

    A read outside the array then shows as NaN in a result, a write in the check.
    """
    buffer = np.full(x.size + 2 * margin, np.nan, x.dtype)
    inner = buffer[margin : margin + x.size].reshape(x.shape)
    inner[...] = x

    def check() -> None:
        around = np.concatenate([buffer[:margin], buffer[margin + x.size :]])
        assert np.isnan(around).all(), "something wrote outside the array"

    return inner, check


def guarded(x: np.ndarray, side: str = "end") -> np.ndarray:
    """A copy of x that starts (``side="start"``) or ends (``"end"``) at a page that nothing may touch. Linux only.

    A read or write outside the array on that side ends the process: use it in one of its own.
    """
    if not sys.platform.startswith("linux"):
        raise RuntimeError("guard pages are made on Linux only")
    return laid(x, place=side)
