"""What is measured: layers of real networks, read from shapes/*.csv, and the problems made of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..arrays import empty
from ..spec import conv_out_size

__all__ = ["DIRECTIONS", "OPS", "Conv", "Gemm", "Layer", "Pool", "Problem", "select", "table"]

SHAPES = Path(__file__).parent / "shapes"


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x"))


def _times(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


@dataclass(frozen=True)
class Conv:
    """A convolution layer for one image; ``count`` is how often its network has it."""

    network: str
    layer: str
    ic: int
    oc: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    count: int = 1
    op: ClassVar[str] = "conv"

    @property
    def kind(self) -> str:
        """The class that geometric means are taken over: ``3x3s1``, ``1x1``, ``depthwise``, ..."""
        ndim = len(self.size)
        if ndim != 2:
            return f"{ndim}-D"
        if self.groups > 1:
            return "depthwise" if self.groups == self.ic else "grouped"
        if max(self.dilation) > 1:
            return "dilated"
        if self.ic <= 4:
            return "stem"
        kernel = _times(self.kernel)
        return kernel if kernel == "1x1" else f"{kernel}s{max(self.stride)}"

    @property
    def out(self) -> tuple[int, ...]:
        sizes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(conv_out_size(i, k, s, (p, p), d) for i, k, s, p, d in sizes)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.oc, self.ic // self.groups, *self.kernel)

    def operations(self, n: int) -> int:
        """Multiplications and additions of the direct algorithm, those with padding included."""
        return 2 * n * prod(self.w_shape) * prod(self.out)

    def arrays(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"x": (n, self.ic, *self.size), "w": self.w_shape, "dy": (n, self.oc, *self.out)}

    def __str__(self) -> str:
        text = f"{self.ic}->{self.oc} {_times(self.kernel)} @{_times(self.size)}"
        for sign, values in (("/", self.stride), ("d", self.dilation)):
            if max(values) > 1:
                text += f" {sign}{max(values)}"
        return text + (f" g{self.groups}" if self.groups > 1 else "")


@dataclass(frozen=True)
class Gemm:
    """A matrix product (m, k) by (k, n); with ``per_image`` m rows for every image of the batch."""

    network: str
    layer: str
    m: int
    n: int
    k: int
    per_image: bool = False
    count: int = 1
    op: ClassVar[str] = "gemm"

    @property
    def kind(self) -> str:
        if not self.per_image:
            return self.network
        return "linear" if self.m == 1 else "1x1"

    def rows(self, n: int) -> int:
        return self.m * n if self.per_image else self.m

    def operations(self, n: int) -> int:
        return 2 * self.rows(n) * self.n * self.k

    def arrays(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"x": (self.rows(n), self.k), "w": (self.k, self.n)}

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}"


@dataclass(frozen=True)
class Pool:
    """A pooling layer for one image, with padding counted in averages."""

    network: str
    layer: str
    how: str
    channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    count: int = 1
    op: ClassVar[str] = "pool"

    @property
    def is_global(self) -> bool:
        return self.kernel == self.size and not any(self.padding)

    @property
    def kind(self) -> str:
        return f"{self.how} global" if self.is_global else f"{self.how} {_times(self.kernel)}"

    @property
    def out(self) -> tuple[int, ...]:
        sizes = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        return tuple(conv_out_size(i, k, s, (p, p)) for i, k, s, p in sizes)

    def operations(self, n: int) -> int:
        """Elements of all windows."""
        return n * self.channels * prod(self.out) * prod(self.kernel)

    def arrays(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"x": (n, self.channels, *self.size), "dy": (n, self.channels, *self.out)}

    def __str__(self) -> str:
        return f"{self.how} {self.channels} {_times(self.kernel)} @{_times(self.size)} /{max(self.stride)}"


Layer = Conv | Gemm | Pool

DIRECTIONS = ("fwd", "bwd_input", "bwd_weight")

#: operator -> its layers' class, its files, its directions.
_TABLES: dict[str, tuple[type, tuple[str, ...], tuple[str, ...]]] = {
    "conv": (Conv, ("networks", "others"), DIRECTIONS),
    "gemm": (Gemm, ("gemm",), DIRECTIONS[:1]),
    "pool": (Pool, ("pool",), DIRECTIONS[:2]),
}
OPS = tuple(_TABLES)


@dataclass(frozen=True)
class Problem:
    """One thing to be timed. ``fresh``: each call makes a new result instead of filling one given array. Operands begin
    ``behind`` bytes, a multiple of 8, behind a cache line."""

    layer: Layer
    n: int
    direction: str = "fwd"
    dtype: str = "float32"
    weights: str = "changing"
    precision: str = "default"
    fresh: bool = False
    behind: int = 0

    @property
    def operations(self) -> int:
        return self.layer.operations(self.n)

    def operands(self) -> dict[str, np.ndarray]:
        """The arrays: the same in every process."""
        rng = np.random.default_rng(0)
        arrays = {}
        for name, shape in self.layer.arrays(self.n).items():
            start = self.behind // np.dtype(self.dtype).itemsize
            arrays[name] = empty(start + prod(shape), self.dtype)[start:].reshape(shape)
        for array in arrays.values():
            np.subtract(rng.random(array.shape, self.dtype), 0.5, out=array)
        return arrays


def _converted(kind: type, row: dict[str, str]) -> Layer:
    types: dict[str, Any] = {"str": str, "int": int, "bool": lambda text: text == "1", "tuple[int, ...]": _sizes}
    fields = kind.__dataclass_fields__
    names = {"kind": "how"}
    return kind(**{(name := names.get(key, key)): types[fields[name].type](text) for key, text in row.items()})


@cache
def table(op: str) -> tuple[Layer, ...]:
    """Every layer of an operator."""
    kind, files, _ = _TABLES[op]
    return tuple(_converted(kind, row) for name in files for row in _rows(SHAPES / f"{name}.csv"))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def directions(op: str) -> tuple[str, ...]:
    return _TABLES[op][2]


def select(
    op: str, networks: list[str] | None = None, layers: str | None = None, kinds: list[str] | None = None
) -> list[Layer]:
    """The layers of these networks (None: all) whose name matches the pattern and whose class is one of ``kinds``.

    ValueError if a network or a class does not exist, or if nothing is left.
    """
    known = table(op)
    for name, chosen, allowed in (
        ("network", networks, {layer.network for layer in known}),
        ("class", kinds, {layer.kind for layer in known}),
    ):
        for value in chosen or ():
            if value not in allowed:
                raise ValueError(f"{name} {value!r}: allowed for {op} is {', '.join(sorted(allowed))}")
    found = [
        layer
        for layer in known
        if (networks is None or layer.network in networks)
        and (layers is None or fnmatchcase(layer.layer, layers))
        and (kinds is None or layer.kind in kinds)
    ]
    if not found:
        raise ValueError(f"layers {layers!r}: no layer of this choice has such a name")
    return found
