"""Results as tables, on the terminal or in Markdown: layers, geometric means, claims, and what a change did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import exp, log
from statistics import median
from typing import Any

__all__ = [
    "COPY",
    "Table",
    "as_markdown",
    "as_rich",
    "best_ratio",
    "comparison",
    "geometric_mean",
    "heading",
    "rate",
    "tables",
]

#: What tells two measurements of one layer apart.
_SETTINGS = ("direction", "n", "dtype", "threads", "cores", "weights", "precision")
_KEY = ("op", "network", "layer", *_SETTINGS)

#: A layer whose ratio to the best peer is less than this is listed.
BEHIND = 0.9

#: What has a peak of operations to be compared with.
_PEAKED = ("conv", "gemm")

#: A contender that only moves as many bytes.
COPY = "copy"

#: Worth a column even if all rows have the same.
_ALWAYS = ("direction", "n")


@dataclass(frozen=True)
class Table:
    title: str
    header: list[str]
    rows: list[list[str]]


def as_rich(table: Table) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left")
    for i, name in enumerate(table.header):
        shown.add_column(Text(name), justify="left" if i == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown


def as_markdown(table: Table) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    ruler = line(["---", *["---:"] * (len(table.header) - 1)])
    return "\n".join([f"**{table.title}**", "", line(table.header), ruler, *map(line, table.rows)])


def heading(result: dict[str, Any]) -> list[str]:
    """The lines that a reader needs to repeat the run."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    clocks = {row["clock"] for row in result["rows"]}
    lines = [
        f"command: {result['command']}",
        f"machine: {machine['cpu']}, {machine['cpus']} CPUs, {machine['platform']}",
        f"versions: {versions}",
        f"date: {result['date']}",
    ]
    if "cycles" in clocks:
        lines.append(f"clock: {result.get('cycles', 'cycles of each process')}; GFLOP/s as at {result['ghz']:.2f} GHz")
    if "wall" in clocks:
        lines.append("clock: wall time" + (" with several threads" if len(clocks) > 1 else ""))
    for dtype, threads, peak in _peaks(result):
        lines.append(f"peak of fused multiply-adds, {dtype}, {threads} thread{'s' * (threads > 1)}: {peak}")
    lines += [f"left out: {label}: {reason}" for label, reason in result["missing"].items()]
    return lines


def _peaks(result: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        if "peak" in row:
            groups.setdefault((row["dtype"], row["threads"]), []).append(row)
    for key, rows in groups.items():
        text = f"{median(peak_rate(row, result['ghz']) for row in rows):.1f} GFLOP/s"
        if rows[0]["clock"] == "cycles":
            text += f", {median(row['peak']['per_cycle'] for row in rows):.1f} a cycle"
        yield *key, text


def peak_rate(row: dict[str, Any], ghz: float | None) -> float | None:
    """GFLOP/s of the peak by the row's clock; None where it was not measured."""
    if "peak" not in row:
        return None
    return row["peak"]["per_cycle"] * ghz if row["clock"] == "cycles" else row["peak"]["per_second"] / 1e9


def rate(row: dict[str, Any], figures: dict[str, Any], ghz: float | None) -> float:
    """10^9 operations a second, by the row's clock."""
    if row["clock"] == "cycles":
        return row["operations"] / figures["cycles"] * ghz
    return row["operations"] / figures["seconds"] / 1e9


def geometric_mean(values: Iterable[float]) -> float:
    logs = [log(value) for value in values]
    return exp(sum(logs) / len(logs))


def best_ratio(row: dict[str, Any], ours: list[str]) -> float | None:
    """The ratio to the fastest peer; None without any. A copy is none."""
    labels = row["contenders"].keys() - {*ours, COPY}
    return min((f["ratio"] for label, f in row["contenders"].items() if label in labels and "ratio" in f), default=None)


def tables(result: dict[str, Any]) -> list[Table]:
    """Everything worth showing of a result."""
    found = [_claims(result["claims"])] if result.get("claims") else []
    for op in dict.fromkeys(row["op"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["op"] == op]
        if op == "fused":
            found.append(_fused(rows))
            continue
        found += [_layers(result, op, rows), *_means(result, op, rows), *_scaling(op, rows), *_behind(result, op, rows)]
    return found


def _fused(rows: list[dict[str, Any]]) -> Table:
    """What activations cost that are fused, beside the first one."""
    first, *others = _labels(rows)
    lines = []
    for row in rows:
        ratios = [row["contenders"].get(label, {}).get("ratio") for label in others]
        time = row["contenders"][first]["seconds"]
        lines.append([row["shape"], str(row["n"]), str(row["threads"]), _milliseconds(time), *map(_number, ratios)])
    header = ["layer", "n", "threads", f"{first}, ms", *others]
    return Table(f"fused: as many times as long as with {first}", header, lines)


def _varying(rows: list[dict[str, Any]]) -> list[str]:
    def values(name: str) -> set[Any]:
        # Backward, weights are never constant: that alone is not worth a column.
        return {row[name] for row in rows if name != "weights" or row["direction"] == "fwd"}

    return [name for name in _SETTINGS if name in _ALWAYS or len(values(name)) > 1]


def _labels(rows: list[dict[str, Any]], leave_out: Iterable[str] = ()) -> list[str]:
    return [label for label in dict.fromkeys(k for row in rows for k in row["contenders"]) if label not in leave_out]


def _layers(result: dict[str, Any], op: str, rows: list[dict[str, Any]]) -> Table:
    ours = result["ours"]
    peers = _labels(rows, [*ours, COPY])
    unit = {"pool": "G windows' elements/s", "map": "GB/s"}.get(op, "GFLOP/s")
    settings = _varying(rows)
    networks = {row["network"] for row in rows}
    header = ["layer", "shape", *settings]
    for label in _labels(rows):
        if label in ours:
            header += [f"{label} {unit}", *(["of peak"] if op in _PEAKED else []), "how", "warm-up"]
        if label != ours[0]:
            header.append(f"to {label}")
    header += ["to the best"] if len(peers) > 1 else []
    lines = []
    for row in rows:
        layer = row["layer"] if len(networks) == 1 else f"{row['network']} {row['layer']}"
        line = [layer, row["shape"], *(str(row[name]) for name in settings)]
        for label in _labels(rows):
            figures = row["contenders"].get(label)
            if label in ours:
                line += _own(result, row, figures)
            if label != ours[0]:
                line.append(_ratio(result, row, figures, label in ours))
        if len(peers) > 1:
            line.append(_number(best_ratio(row, ours)))
        lines.append(line)
    title = (
        f"{op}{f' of {networks.pop()}' if len(networks) == 1 else ''}: a ratio above 1 means that {ours[0]} is faster; "
        f"in brackets the peer's own {unit} and its best way"
    )
    return Table(title, header, lines)


def _own(result: dict[str, Any], row: dict[str, Any], figures: dict[str, Any] | None) -> list[str]:
    cells = 4 if row["op"] in _PEAKED else 3
    if figures is None:
        return ["-"] * cells
    how = f"{figures['how']}: {figures['note']}"
    peak = [] if row["op"] not in _PEAKED else [f"{figures['of_peak']:.0%}" if "of_peak" in figures else "-"]
    warm_up = f"{figures['warm_up']:.2f} s" if figures.get("warm_up") else "-"
    return [_speed(result, row, figures), *peak, how, warm_up]


def _ratio(result: dict[str, Any], row: dict[str, Any], figures: dict[str, Any] | None, own: bool) -> str:
    if figures is None or "ratio" not in figures:
        return "-"
    text = _number(figures["ratio"])
    return text if own else f"{text} ({_speed(result, row, figures)} {figures['how']})"


def _speed(result: dict[str, Any], row: dict[str, Any], figures: dict[str, Any]) -> str:
    value = rate(row, figures, result["ghz"])
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _means(result: dict[str, Any], op: str, rows: list[dict[str, Any]]) -> list[Table]:
    ours = result["ours"]
    others = _labels(rows, ours[:1])
    peers = _labels(rows, [*ours, COPY])
    if not others:
        return []
    rows = [row for row in rows if any(label in row["contenders"] for label in others)]
    settings = [name for name in _varying(rows) if name != "n"]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        for kind in (row["class"], "all"):
            groups.setdefault((kind, *(row[name] for name in settings)), []).append(row)
    lines = []
    for key in sorted(groups, key=lambda key: (key[0] == "all", *map(str, key))):
        group = groups[key]
        means = []
        for label in others:
            means.append(_mean(row["contenders"].get(label, {}).get("ratio") for row in group))
        if len(peers) > 1:
            means.append(_mean(best_ratio(row, ours) for row in group))
        lines.append([str(key[0]), *map(str, key[1:]), str(len(group)), *means])
    header = ["class", *settings, "layers", *(f"to {label}" for label in others)]
    return [Table(f"{op}: geometric means", header + (["to the best"] if len(peers) > 1 else []), lines)]


def _scaling(op: str, rows: list[dict[str, Any]]) -> list[Table]:
    """What more threads, and a busy core, did to each contender's times."""
    how = list(dict.fromkeys((row["threads"], row["cores"]) for row in rows))
    if len(how) < 2:
        return []
    layers: dict[tuple[Any, ...], dict[tuple[int, str], dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in _KEY if name not in ("threads", "cores"))
        layers.setdefault(key, {})[row["threads"], row["cores"]] = row["contenders"]
    first, *others = how
    lines = []
    for key, found in layers.items():
        for label in found.get(first, {}):
            times = [found.get(h, {}).get(label, {}).get("seconds") for h in how]
            line = [f"{key[1]} {key[2]}", key[3], str(key[4]), label, _milliseconds(times[0])]
            for h, time in zip(others, times[1:], strict=True):
                # A busy core is compared with the same threads on idle ones, more threads with the fewest.
                longer = h[1] != first[1]
                before = times[how.index((h[0], first[1]))] if longer else times[0]
                known = None not in (time, before)
                line += [_milliseconds(time), _number((time / before if longer else before / time) if known else None)]
            lines.append(line)
    header = ["layer", "direction", "n", "contender", f"{_conditions(*first)}, ms"]
    for h in others:
        header += [f"{_conditions(*h)}, ms", "times as long" if h[1] != first[1] else "times as fast"]
    return [Table(f"{op}: threads", header, lines)]


def _conditions(threads: int, cores: str) -> str:
    return f"{threads} thread{'s' * (threads > 1)}, {cores}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3f}"


def _behind(result: dict[str, Any], op: str, rows: list[dict[str, Any]]) -> list[Table]:
    """The layers where the best peer is clearly faster, the worst first."""
    ours = result["ours"]
    found = [(ratio, row) for row in rows if (ratio := best_ratio(row, ours)) is not None and ratio < BEHIND]
    if not found:
        return []
    lines = []
    for ratio, row in sorted(found, key=lambda pair: pair[0]):
        peers = {k: f for k, f in row["contenders"].items() if k not in (*ours, COPY) and "ratio" in f}
        best = min(peers, key=lambda label: peers[label]["ratio"])
        own = row["contenders"][ours[0]]
        lines.append(
            [
                f"{row['network']} {row['layer']}",
                row["shape"],
                *(str(row[name]) for name in _SETTINGS),
                f"{ratio:.2f}",
                f"{best} {peers[best]['how']}",
                f"{own['how']}: {own['note']}",
            ]
        )
    header = ["layer", "shape", *_SETTINGS, "ratio", "the best peer", "how"]
    return [Table(f"{op}: {len(lines)} of {len(rows)} below {BEHIND} of the best peer", header, lines)]


def _mean(ratios: Iterable[float | None]) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    return f"{geometric_mean(known):.2f}" if known else "-"


def _claims(claims: list[dict[str, Any]]) -> Table:
    rows = [
        [
            c["claim"],
            f"{c['measured']:{c['format']}}",
            f"{c['relation']} {c['goal']:{c['format']}}",
            "yes" if c["met"] else "no",
        ]
        for c in claims
    ]
    return Table("claims", ["claim", "measured", "goal", "met"], rows)


def comparison(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """What changed between two results: above 1, the second one is faster. ValueError if they share no layer."""
    old, new = ({_key(row): row for row in result["rows"]} for result in (before, after))
    lines, changes = [], []
    for key, row in new.items():
        for label in after["ours"]:
            figures = [r["contenders"].get(label) for r in (old.get(key, {"contenders": {}}), row)]
            if None in figures:
                continue
            # Cycles where both runs counted them: those of another process are not among them.
            clock = "cycles" if row["clock"] == old[key]["clock"] == "cycles" else "seconds"
            change = figures[0][clock] / figures[1][clock]
            changes.append(change)
            unit = {"cycles": (1e6, "Mcycles"), "seconds": (1e-3, "ms")}[clock]
            times = [f"{f[clock] / unit[0]:.3f} {unit[1]}" for f in figures]
            lines.append(
                [
                    f"{row['network']} {row['layer']}",
                    *(str(row[name]) for name in _SETTINGS),
                    label,
                    *times,
                    f"{change:.2f}",
                ]
            )
    if not lines:
        raise ValueError("the two results share no layer that was measured in the same way")
    lines.append(["geometric mean", *[""] * (len(_SETTINGS) + 3), f"{geometric_mean(changes):.2f}"])
    header = ["layer", *_SETTINGS, "contender", "before", "after", "speed-up"]
    return Table(
        f"{len(changes)} measurements in both: a speed-up above 1 means that the second is faster", header, lines
    )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)
