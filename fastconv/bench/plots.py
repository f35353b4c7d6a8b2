"""Pictures of a result: speeds beside the peak, and ratios to the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import report

__all__ = ["draw"]


def draw(result: dict[str, Any], directory: Path) -> list[Path]:
    """Write ``<op>-speed.png`` and, with peers, ``<op>-ratio.png`` into the directory; the files written."""
    from matplotlib.figure import Figure

    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for op in dict.fromkeys(row["op"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["op"] == op]
        for name in ("speed", "ratio"):
            # Direction by direction: its rows, and who has something to show in them.
            parts = []
            for direction in dict.fromkeys(row["direction"] for row in rows):
                chosen = [row for row in rows if row["direction"] == direction]
                labels = dict.fromkeys(
                    label
                    for row in chosen
                    for label, figures in row["contenders"].items()
                    if name == "speed" or "ratio" in figures
                )
                if labels:
                    parts.append((direction, chosen, list(labels)))
            if not parts:
                continue
            width = max(8.0, 3 + max(0.12 * len(chosen) * (len(labels) + 1) for _, chosen, labels in parts))
            figure = Figure(figsize=(width, 4.2 * len(parts)), layout="constrained")
            for axes, part in zip(figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True):
                direction, chosen, labels = part
                _bars(axes, result, chosen, labels, name)
                axes.set_title(f"{op}, {direction}")
            path = directory / f"{op}-{name}.png"
            figure.savefig(path, dpi=120)
            written.append(path)
    return written


def _bars(axes: Any, result: dict[str, Any], rows: list[dict[str, Any]], labels: list[str], name: str) -> None:
    width = 0.8 / len(labels)
    for i, label in enumerate(labels):
        values = [_value(result, row, row["contenders"].get(label), name) for row in rows]
        axes.bar([x + (i - (len(labels) - 1) / 2) * width for x in range(len(rows))], values, width, label=label)
    if name == "ratio":
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_ylabel(f"speed of {result['ours'][0]} over the contender's")
    else:
        axes.set_ylabel("GFLOP/s" if rows[0]["op"] != "pool" else "10⁹ windows' elements/s")
        peaks = [report.peak_rate(row, result["ghz"]) for row in rows]
        if rows[0]["op"] != "pool" and None not in peaks:
            axes.step(range(len(rows)), peaks, where="mid", color="black", linestyle="--", linewidth=0.8, label="peak")
    axes.set_xticks(range(len(rows)), [f"{r['layer']} N={r['n']}" for r in rows], rotation=90, fontsize=7)
    axes.margins(x=0.01)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _value(result: dict[str, Any], row: dict[str, Any], figures: dict[str, Any] | None, name: str) -> float:
    if figures is None:
        return float("nan")
    return figures.get("ratio", float("nan")) if name == "ratio" else report.rate(row, figures, result["ghz"])
