"""Networks of modules in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import overload

import numpy as np

from .module import Module, join
from .parameter import Parameter
from .summary import Row

__all__ = ["Sequential"]


class Sequential(Module):
    """Modules one after the other: ``Sequential(Conv2d(1, 8, 3), ReLU(), Flatten())``. Index and iterate it.

    A dict names them, also in ``state_dict``: ``Sequential({"conv": Conv2d(1, 8, 3), "relu": ReLU()})``; else they are
    "0", "1" and so on.
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            self.layers = dict(layers[0])
        else:
            self.layers = {str(i): layer for i, layer in enumerate(layers)}
        for name, layer in self.layers.items():
            if not isinstance(name, str) or not name or "." in name:
                raise ValueError(f"a layer is named {name!r}: allowed is text without dots")
            if not isinstance(layer, Module):
                raise TypeError(f"layers[{name}] is a {type(layer).__name__}: allowed is a Module")

    def _members(self) -> dict[str, Module | Parameter]:
        return {name.removeprefix("layers."): member for name, member in super()._members().items()}

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers.values())

    @overload
    def __getitem__(self, index: int | str) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | str | slice) -> Module:
        """A layer by number or name; for a slice a ``Sequential`` that shares those layers and their names, in the mode
        and layout that this one is in."""
        if isinstance(index, str):
            return self.layers[index]
        if not isinstance(index, slice):
            return list(self.layers.values())[index]
        part = Sequential(dict(list(self.layers.items())[index]))
        part._training, part.layout = self._training, self.layout
        return part

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self))})"

    def forward(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers.values():
            x = layer(x)
        return x

    def _rows(self, path: str, shape: tuple[int, ...], counted: set[Parameter]) -> list[Row]:
        rows = []
        for name, layer in self.layers.items():
            rows += layer._rows(join(path, name), shape, counted)
            shape = rows[-1].output_shape
        return rows
