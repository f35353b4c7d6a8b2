"""Checks on array arguments that every operator shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Any

import numpy as np

from .arguments import number, plain, shown
from .spec import DTYPES, INTEGERS, MAX_ELEMENTS, check_elements

#: The names of the dtypes that are allowed (native byte order). ``dtype.name`` is computed anew at every access.
DTYPE_NAMES = {np.dtype(name): name for name in DTYPES}
ALL_NAMES = {np.dtype(name): name for name in DTYPES + INTEGERS}

#: Axes that an array may have.
_MOST_AXES = 64 if int(np.__version__.split(".")[0]) >= 2 else 32

#: Bytes of a cache line, and elements that are too few for it to be worth the time to begin at one.
_LINE, _FEW_ELEMENTS = 64, 4096


def as_array(
    name: str, value: Any, dtype: np.dtype | None = None, allowed: Mapping[np.dtype, str] = DTYPE_NAMES
) -> np.ndarray:
    """``value`` as an aligned array of a dtype that is ``allowed`` (of ``dtype`` where given); TypeError names it.

    Nothing is converted: objects and mixed dtypes are refused, integers too by default. Lists are refused too, and the
    subclasses of ``numpy.ndarray`` that ``_elements`` names.
    """
    if type(value) is not np.ndarray:
        value = _elements(name, value, "a NumPy array")
    own = value.dtype
    if own is not dtype and own not in allowed:
        raise TypeError(f"{name} has dtype {value.dtype}: allowed is {' or '.join(allowed.values())}")
    if dtype is not None and own is not dtype and own != dtype:
        raise TypeError(f"{name} has dtype {value.dtype}: allowed is {dtype}, as the other arrays have")
    flags = value.flags
    if flags.carray or (flags.c_contiguous and flags.aligned):
        return value
    if not flags.aligned or any(s % value.itemsize for s in value.strides):
        return value.copy()
    return value


def as_operand(name: str, value: Any, dtype: np.dtype | None = None, least: int = 0) -> np.ndarray:
    """The same, of at least so many dimensions and at most 2^31 - 1 elements; ValueError names it."""
    array = as_array(name, value, dtype)
    check_elements(name, array.shape)
    if array.ndim < least:
        raise ValueError(f"{name} has shape {array.shape}: allowed are {least} dimensions or more")
    return array


def as_gradient(dy: Any, shape: tuple[int, ...], dtype: np.dtype, of: str = "") -> np.ndarray:
    """``dy``, an array of that shape, which is the one of ``of``, and dtype; TypeError or ValueError names it."""
    dy = as_array("dy", dy, dtype)
    if dy.shape != shape:
        raise ValueError(f"dy has shape {dy.shape}: allowed is {shape}{f', the shape of {of}' if of else ''}")
    return dy


def _elements(name: str, value: Any, allowed: str) -> np.ndarray:
    """An instance of a subclass of ``numpy.ndarray`` as the plain array of its elements.

    Where a subclass means more than its elements, as a masked array does, and arrays with units, whose arithmetic is
    their own (``__array_ufunc__``), a result without that would be wrong: TypeError. ``numpy.memmap``,
    ``numpy.matrix`` and the like are their elements.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array: allowed is {allowed} without a mask, such as filled() gives")
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is a {type(value).__name__}: allowed is {allowed}")
    if type(value).__array_ufunc__ is not np.ndarray.__array_ufunc__:
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}, which has arithmetic of its own: allowed is {allowed}")
    return value.view(np.ndarray)


def dtype_among(dtype: Any, allowed: dict[np.dtype, str]) -> np.dtype:
    """``dtype`` as NumPy's; TypeError that names it if it is none of the ``allowed``, which have their names."""
    try:
        kind = None if dtype is None else np.dtype(dtype)
    except Exception:  # of several kinds
        kind = None
    if kind not in allowed:
        given = shown(dtype) if kind is None else kind
        raise TypeError(f"dtype is {given}: allowed is {' or '.join(allowed.values())}")
    return kind


def empty(shape: int | Sequence[int], dtype: Any = "float32") -> np.ndarray:
    """A new array with arbitrary contents, as ``numpy.empty`` makes it, whose memory begins at a cache line if it has
    some of them: what reads and writes it is up to a third faster. All results of this package are such arrays.

    shape: not negative, at most 2^31 - 1 elements; dtype: float32 or float64. Raises TypeError or ValueError that names
    the argument.
    """
    kind = dtype_among(dtype, DTYPE_NAMES)
    sizes = plain("shape", shape)
    sizes = sizes if isinstance(sizes, tuple) else (sizes,)
    if len(sizes) > _MOST_AXES or not all(isinstance(size, int) and 0 <= size <= MAX_ELEMENTS for size in sizes):
        allowed = f"up to {_MOST_AXES} sizes that are not negative, and at most {MAX_ELEMENTS}"
        raise ValueError(f"shape={shown(shape)}: allowed are {allowed}")
    check_elements("shape: an array", sizes)
    return new_array(sizes, kind)


def new_array(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """``empty`` without its checks."""
    elements = prod(shape)
    if elements < _FEW_ELEMENTS:
        return np.empty(shape, dtype)
    nbytes = elements * dtype.itemsize
    memory = np.empty(nbytes + _LINE, np.uint8)
    return np.ndarray(shape, dtype, memory, -memory.__array_interface__["data"][0] % _LINE)


def as_output(out: Any, shape: tuple[int, ...], dtype: np.dtype, *inputs: np.ndarray | None) -> np.ndarray:
    """``out`` checked, as a plain array, or a new one.

    Refused: wrong shape, dtype, read-only, self-overlapping, sharing memory with an input.
    """
    if out is None:
        return new_array(shape, dtype)
    if type(out) is not np.ndarray:
        out = _elements("out", out, "None or a NumPy array")
    if out.dtype is not dtype and out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}: allowed is {dtype}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}: allowed is {shape}")
    _check_memory("out", out)
    for array in inputs:
        if array is not None and _shared(out, array):
            raise ValueError("out overlaps an input: allowed is memory of its own")
    return out


def as_updated(name: str, value: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> np.ndarray:
    """``value``, of that shape and dtype, as a plain array that is changed in place.

    TypeError or ValueError, which name it, for what ``as_array`` refuses, another shape, and what cannot be written.
    """
    if type(value) is not np.ndarray:
        value = _elements(name, value, "a NumPy array")
    as_array(name, value, dtype)
    if shape is not None and value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}: allowed is {shape}, the shape of param")
    _check_memory(name, value)
    return value


def check_apart(**arrays: np.ndarray | None) -> None:
    """ValueError, which names two, if any of the arrays share memory."""
    given = [(name, array) for name, array in arrays.items() if array is not None]
    for i, (name, array) in enumerate(given):
        for other, before in given[:i]:
            if _shared(array, before):
                raise ValueError(f"{name} overlaps {other}: allowed is memory of its own")


def _check_memory(name: str, out: np.ndarray) -> None:
    flags = out.flags
    if flags.carray:  # C-contiguous, aligned and writeable, as it mostly is
        return
    if not flags.writeable:
        raise ValueError(f"{name} is read-only: allowed is a writeable array")
    if not flags.aligned or any(s % out.itemsize for s in out.strides):
        raise ValueError(f"{name} is not aligned to its dtype {out.dtype}")
    if _overlaps_itself(out):
        raise ValueError(f"{name} has strides {out.strides}: its elements overlap each other")


def _shared(a: np.ndarray, b: np.ndarray) -> bool:
    # An array that owns its memory overlaps its views alone. To compare addresses takes longer than to ask for those.
    if b.base is None and a is not b and a.flags.owndata:
        return False
    return np.may_share_memory(a, b) and _overlap(a, b)


def _overlaps_itself(a: np.ndarray) -> bool:
    """Whether two elements may share memory: whether a dimension steps less far than those inside it reach."""
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True)):
        if n > 1 and stride < reach:
            return a.size > 0
        reach += stride * (n - 1)
    return False


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True


def number_of(name: str, value: Any, dtype: np.dtype) -> float:
    """``value`` as a float that ``dtype`` can hold: ValueError for what it makes infinite."""
    factor = value if type(value) is float else number(name, value)
    if 3e38 < abs(factor) < inf and abs(factor) > float(np.finfo(dtype).max):
        raise ValueError(f"{name}={factor!r}: allowed is a number that {dtype} can hold")
    return factor
