"""Arrays as recipes: what is in them, and how they lie in memory. A recipe is plain data; its ``str`` is Python."""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import dataclass, fields
from math import prod
from typing import Any

import numpy as np

__all__ = ["Array", "Laid", "Lie", "drawn", "extent", "laid"]

#: Elements around an array that are watched.
_MARGIN = 64

#: mmap.MAP_NORESERVE, which Python names from 3.13 on.
_NORESERVE = 0x4000


# ------------------------------------------------------------------------------------------------- what is in it


def drawn(values: str, shape: tuple[int, ...], dtype: Any, bound: int = 3, seed: int = 0) -> np.ndarray:
    """An array of ``shape`` and ``dtype`` with values of a kind, the same for the same ``seed``.

    ``"ones"``, ``"count"`` (1, 2, ... ``bound``, 1, ...), ``"whole"`` (whole numbers from -bound to bound), ``"real"``
    (standard normal), ``"positive"`` (from 0 to 1), ``"special"`` (whole numbers among NaN, infinities and zeros),
    ``"spike"`` (whole numbers and one of 1e10), ``"index"`` (from 0 to ``bound`` - 1), ``"near"`` (likewise, and
    rising), ``"empty"`` (NaN).
    """
    rng, size = np.random.default_rng(seed), prod(shape)
    if values == "ones":
        flat = np.ones(size)
    elif values == "count":
        flat = np.arange(size) % bound + 1
    elif values == "real":
        flat = rng.standard_normal(size)
    elif values == "positive":
        flat = rng.random(size)
    elif values == "index":
        flat = rng.integers(0, max(bound, 1), size)
    elif values == "near":
        plane = np.arange(size) * bound // max(size, 1) + rng.integers(-2, 3, size)
        flat = np.clip(plane, 0, max(bound - 1, 0))
    elif values == "empty":
        flat = np.full(size, np.nan if np.dtype(dtype).kind == "f" else 0)
    else:
        flat = rng.integers(-bound, bound + 1, size).astype(np.float64)
        if values == "special" and size:
            places = rng.integers(0, size, 1 + size // 50)
            flat[places] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], places.size)
        elif values == "spike" and size:
            flat[rng.integers(0, size)] = 1e10
    return flat.astype(dtype).reshape(shape)


# ----------------------------------------------------------------------------------------------- how it lies there


@dataclass(frozen=True)
class Lie:
    """How an array lies in memory. The default is contiguous, in the order of its axes.

    order: the axes from the outermost to the innermost in memory. steps: for each axis, its distance between elements
    in elements that lie between them, negative for backwards, 0 for the same element all along. lap: the axis that
    steps as its inner neighbour does, so that elements overlap. far: the axis whose elements are over 2^31 apart.
    shift: bytes by which it is off. writeable. place: "heap", or "start" or "end" of memory that nothing may touch
    beyond. kind: "array", or a subclass: "masked", "matrix", "subclass"; or "list".
    """

    order: tuple[int, ...] | None = None
    steps: tuple[int, ...] | None = None
    lap: int | None = None
    far: int | None = None
    shift: int = 0
    writeable: bool = True
    place: str = "heap"
    kind: str = "array"

    def arguments(self) -> str:
        """Those that are not the defaults, as Python."""
        given = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]
        return ", ".join(f"{name}={value!r}" for name, value, default in given if value != default)


class _Subclass(np.ndarray):
    pass


@dataclass
class Laid:
    """An array and the memory that it lies in: bytes, all ones where nothing of the array is (NaN, or -1)."""

    array: Any
    view: np.ndarray
    memory: np.ndarray | None

    def remember(self) -> None:
        self._before = None if self.memory is None else self.memory.copy()

    def unchanged(self) -> bool:
        """Whether every byte of the memory is what it was when ``remember`` was called."""
        return self.memory is None or np.array_equal(self.memory, self._before)

    def nothing_around(self) -> bool:
        """Whether nothing has written around the array, whose elements this overwrites."""
        if self.memory is None or not self.view.flags.writeable:
            return True
        self.view.view(f"u{self.view.itemsize}")[...] = 2 ** (8 * self.view.itemsize) - 1
        return bool((self.memory == 255).all())


def lay(values: np.ndarray, lie: Lie) -> Laid:
    """``values`` in memory as ``lie`` says."""
    if values.dtype.hasobject:  # whose memory is Python's
        return Laid(values, values, None)
    if lie == _PLAIN:
        reach, strides, low = values.size, _contiguous(values.shape), 0
    else:
        strides, low, reach = _strides(values.shape, lie)
    size, item = values.dtype.itemsize, values.dtype.itemsize
    nbytes = reach * size + lie.shift
    memory: np.ndarray | None
    if lie.far is not None:
        memory, buffer, offset = None, mmap.mmap(-1, nbytes + mmap.PAGESIZE, _NORESERVE | mmap.MAP_PRIVATE), 0
    elif lie.place == "heap":
        memory = np.full(nbytes + 2 * _MARGIN * item, 255, np.uint8)
        buffer, offset = memory, _MARGIN * item
    else:
        buffer, offset, body = _between_guards(nbytes, lie.place)
        memory = np.frombuffer(buffer, np.uint8, body, mmap.PAGESIZE)
        memory[...] = 255
    view = np.ndarray(values.shape, values.dtype, buffer, offset + lie.shift - low * size, [s * size for s in strides])
    view[...] = values
    view.flags.writeable = lie.writeable
    array: Any = view
    if lie.kind == "masked":
        array = np.ma.masked_array(view, mask=np.arange(view.size).reshape(view.shape) % 2 == 1)
    elif lie.kind == "matrix":
        array = view.view(np.matrix) if view.ndim == 2 else view.view(_Subclass)
    elif lie.kind == "subclass":
        array = view.view(_Subclass)
    elif lie.kind == "list":
        array = view.tolist()
    return Laid(array, view, memory)


def laid(values: np.ndarray, **lie: Any) -> np.ndarray:
    """``values`` in memory that lies as the arguments say, which are those of ``Lie``."""
    return lay(values, Lie(**lie)).array


def extent(shape: tuple[int, ...], lie: Lie) -> int:
    """Elements from the first in memory to the last."""
    return _strides(shape, lie)[2]


def _contiguous(shape: tuple[int, ...]) -> list[int]:
    return [prod(shape[i + 1 :]) for i in range(len(shape))]


def _strides(shape: tuple[int, ...], lie: Lie) -> tuple[list[int], int, int]:
    """The strides in elements, the lowest element's place, and the number of elements from it to the highest."""
    order = lie.order or tuple(range(len(shape)))
    steps = lie.steps or (1,) * len(shape)
    strides, reach, inner = [0] * len(shape), 1, 1
    for axis in reversed(order):
        step = steps[axis]
        if axis == lie.lap and axis != order[-1]:
            strides[axis] = inner
            reach += inner * shape[axis]
            continue
        if axis == lie.far:
            reach = max(reach, 2**31 + 5)
        inner = strides[axis] = step * reach
        inner = abs(inner)
        reach = reach * max(abs(step) * shape[axis], 1)
    if prod(shape) == 0:
        return strides, 0, 0
    ends = [s * (n - 1) for s, n in zip(strides, shape, strict=True)]
    low = sum(min(0, e) for e in ends)
    return strides, low, sum(max(0, e) for e in ends) - low + 1


def _between_guards(nbytes: int, side: str) -> tuple[mmap.mmap, int, int]:
    """Memory whose outer pages nothing may touch, where to put ``nbytes`` against one, and the bytes between."""
    page = mmap.PAGESIZE
    body = -(-max(1, nbytes) // page) * page
    memory = mmap.mmap(-1, body + 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (address, address + page + body):
        if _mprotect(guard, page, 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    return memory, page if side == "start" else page + body - nbytes, body


if sys.platform.startswith("linux"):
    _mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    _mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

_PLAIN = Lie()


# ----------------------------------------------------------------------------------------------------- the recipe


@dataclass(frozen=True)
class Array:
    """An array that can be made again and again: ``drawn`` values that lie in memory as ``lie`` says."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    values: str = "ones"
    bound: int = 3
    seed: int = 0
    lie: Lie = _PLAIN

    def make(self) -> Laid:
        return lay(drawn(self.values, self.shape, self.dtype, self.bound, self.seed), self.lie)

    def plain(self) -> np.ndarray:
        """Its elements, contiguous, in memory of their own."""
        if self.lie.lap is None and (self.lie.steps is None or 0 not in self.lie.steps):
            return drawn(self.values, self.shape, self.dtype, self.bound, self.seed)
        return np.array(self.make().view)

    def __str__(self) -> str:
        shape, dtype, size = self.shape, f'"{self.dtype}"', prod(self.shape)
        if self.values == "ones":
            text = f"np.ones({shape}, {dtype})"
        elif self.values == "count" and size <= self.bound:
            text = f"np.arange(1, {size + 1}, dtype={dtype}).reshape({shape})"
        elif self.values == "whole":
            text = f"np.random.default_rng({self.seed}).integers({-self.bound}, {self.bound + 1}, {shape})"
            text += f".astype({dtype})"
        elif self.values == "empty":
            text = f"np.full({shape}, np.nan, {dtype})"
        else:
            text = f"drawn({self.values!r}, {shape}, {dtype}, {self.bound}, {self.seed})"
        return text if self.lie == _PLAIN else f"laid({text}, {self.lie.arguments()})"
