"""How far ahead of the best peer each class of layers is meant to be, and is: ``fastconv bench --goals``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from .layers import DIRECTIONS, OPS, table
from .report import BEHIND, Table, best_ratio

__all__ = ["GOALS", "Goal", "reached"]


@dataclass(frozen=True)
class Goal:
    """``ratios`` to the best peer, one for each direction, that the median of a class of layers is to reach."""

    name: str
    ratios: tuple[float, ...]
    includes: Callable[[dict[str, Any], Any], bool]


def _wide(layer: Any) -> bool:
    return layer.kind == "3x3s1" and 64 <= min(layer.ic, layer.oc) <= max(layer.ic, layer.oc) <= 512


#: The first that includes a measurement is the one that it counts for.
GOALS = (
    Goal("pooling", (1.5, 1.5), lambda row, layer: layer.op == "pool"),
    Goal("matrix products", (1.0,), lambda row, layer: layer.op == "gemm"),
    Goal("float64, all of these", (2.0, 2.0, 2.0), lambda row, layer: row["dtype"] == "float64"),
    Goal(
        "3x3, stride 1, 64 to 512 channels, outputs of 28 and more, N >= 8",
        (2.5, 2.5, 1.7),
        lambda row, layer: _wide(layer) and row["n"] >= 8 and min(layer.out) >= 28,
    ),
    Goal("the same at 14 and 7", (1.8, 1.8, 1.3), lambda row, layer: _wide(layer) and row["n"] >= 8),
    Goal("3x3, stride 1, N = 1", (1.15, 2.0, 1.3), lambda row, layer: layer.kind == "3x3s1" and row["n"] == 1),
    Goal("1x1", (1.05, 1.1, 1.1), lambda row, layer: layer.kind == "1x1"),
    Goal("depthwise", (1.3, 1.5, 2.0), lambda row, layer: layer.kind == "depthwise"),
    Goal(
        "grouped, dilated, 1-D, 3-D",
        (1.3, 1.5, 1.5),
        lambda row, layer: layer.kind in ("grouped", "dilated", "1-D", "3-D"),
    ),
    Goal(
        "3x3 of stride 2, 5x5, 7x7, 11x11, stems",
        (1.15, 1.5, 1.2),
        lambda row, layer: layer.kind == "stem" or layer.kind not in ("3x3s1", "1x1"),
    ),
)


def reached(results: Iterable[dict[str, Any]], threads: Collection[int] = (1,)) -> Table:
    """Of the measurements on so many threads, in the default precision and with a peer, the median of each class.

    ValueError if there are none.
    """
    layers = {(op, layer.network, layer.layer): layer for op in OPS for layer in table(op)}
    found: dict[tuple[int, int], list[float]] = {}
    for result in results:
        for row in result["rows"]:
            layer, ratio = layers.get((row["op"], row["network"], row["layer"])), best_ratio(row, result["ours"])
            if layer is None or ratio is None or row["threads"] not in threads or row["precision"] != "default":
                continue
            for i, goal in enumerate(GOALS):
                if goal.includes(row, layer):
                    found.setdefault((i, DIRECTIONS.index(row["direction"])), []).append(ratio)
                    break
    if not found:
        raise ValueError("these results compare no layer of a class that has a goal with a peer")
    lines = []
    for (i, direction), ratios in sorted(found.items()):
        goal, middle = GOALS[i].ratios[direction], median(ratios)
        behind = sum(ratio < BEHIND for ratio in ratios)
        figures = [str(len(ratios)), f"{middle:.2f}", f"{goal:.2f}", "yes" if middle >= goal else "no", str(behind)]
        lines.append([GOALS[i].name, DIRECTIONS[direction], *figures])
    header = ["class", "direction", "layers", "median to the best peer", "goal", "met", f"layers below {BEHIND}"]
    return Table("goals", header, lines)
