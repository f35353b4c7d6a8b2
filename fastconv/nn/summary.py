"""The layers of a network as a table."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Row", "Summary"]


class Row(NamedTuple):
    """One layer in a summary."""

    name: str
    layer: str
    output_shape: tuple[int, ...]
    parameters: int


class Summary(tuple[Row, ...]):
    """The layers of a network with output shapes (without the batch) and parameter counts; print it."""

    __slots__ = ()

    @property
    def parameters(self) -> int:
        """Number of learnable elements."""
        return sum(row.parameters for row in self)

    def __str__(self) -> str:
        head = ("", "layer", "output shape", "parameters")
        lines = [head, *((r.name, r.layer, str(r.output_shape), f"{r.parameters:,}") for r in self)]
        lines.append(("", "total", "", f"{self.parameters:,}"))
        a, b, c, d = (max(map(len, column)) for column in zip(*lines, strict=True))
        return "\n".join(f"{n:<{a}}  {layer:<{b}}  {shape:<{c}}  {count:>{d}}" for n, layer, shape, count in lines)
