"""``fastconv bench --suite``: what the project promises, each as a claim that holds or does not.

``slice``: speeds on one thread. ``threads``: what a second thread brings, and what it loses to a busy core. ``maps``:
what is between convolutions.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from . import peers
from .layers import DIRECTIONS, Conv, Gemm, Problem
from .maps import ACTIVATIONS, ENTRIES, SIZES, Fused, Map
from .measure import OURS, Contender, Settings, clock_rate, measure_all
from .report import COPY, geometric_mean

__all__ = ["SUITES"]

_SQUARE = Gemm("squares", "1024", 1024, 1024, 1024)
_DIRECT = [
    Conv("direct", f"{c}@{size}", c, c, (size,) * 2, (3, 3), (1, 1), (1, 1), (1, 1))
    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7))
]
_TINY = Conv("call", "1x1x8x8", 1, 1, (8, 8), (3, 3), (1, 1), (0, 0), (1, 1))

_C = Contender("fastconv:c", OURS, {"backend": "c"})
_NUMBA = Contender("fastconv:numba", OURS, {"backend": "numba"})
_TORCH = Contender("torch", f"{peers.__name__}.torch")

_OURS = Contender("fastconv", OURS)
_COPY = Contender(COPY, f"{peers.__name__}.copy")

#: Every function at every size; 1x1 layers with an activation.
_MAPPED = [Problem(Map(size, name, shape), shape[0]) for size, shape in SIZES.items() for name in ENTRIES]
_FUSED = [Problem(Fused(channels), 8) for channels in (16, 24, 32, 48, 64, 96)]
_MAP_THREADS = (1, 2)

_PRECISIONS = ("strict", "default")
_IMPORTS = 9

#: Small and middling layers, of milliseconds at the most; of eight images their gradients, too.
_THREADED = [
    Problem(layer, n, direction)
    for layer in (
        Conv("threads", f"{ic}->{oc} {k}x{k} @{size}", ic, oc, (size,) * 2, (k,) * 2, (1, 1), (k // 2,) * 2, (1, 1))
        for ic, oc, k, size in ((64, 64, 1, 28), (32, 32, 3, 28), (64, 64, 3, 56), (256, 256, 1, 28), (128, 128, 3, 28))
    )
    for n, direction in ((1, "fwd"), *((8, direction) for direction in DIRECTIONS))
]


def _slice(seconds: float, clock: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure on one thread in float32; what ``measure_all`` returns, and the ``claims``. ValueError without torch."""
    settings = Settings(1, clock, seconds)
    products = measure_all([Problem(_SQUARE, 1)], [_C, _NUMBA], settings, progress)
    problems = [Problem(layer, 8, d, precision=p) for p in _PRECISIONS for d in DIRECTIONS for layer in _DIRECT]
    convolutions = measure_all(problems, [_C, _TORCH], settings, progress)
    calls = measure_all([Problem(_TINY, 1, fresh=True)], [_C], settings, progress)
    parts = (products, convolutions, calls)
    rows = [row for part in parts for row in part["rows"]]
    claims = []
    for label, goal in ((_C.label, 0.90), (_NUMBA.label, 0.75)):
        for row in products["rows"]:
            if label in row["contenders"]:
                share = row["contenders"][label]["of_peak"]
                claims.append(_claim(f"{label}: GEMM {row['shape']}, of the peak", share, goal, True, ".1%"))
    for row in convolutions["rows"]:
        if _TORCH.label in row["contenders"]:
            name = f"3x3 {row['layer']}, N=8, {row['direction']}, {row['precision']}: speed over torch's better layout"
            claims.append(_claim(name, row["contenders"][_TORCH.label]["ratio"], 0.9, True, ".2f"))
    ghz = clock_rate(rows)
    for row in calls["rows"]:
        figures = row["contenders"][_C.label]
        cost = figures["cycles"] / ghz / 1e3 if row["clock"] == "cycles" else figures["seconds"] * 1e6
        claims.append(_claim("microseconds of a conv2d call on 1x1x8x8", cost, 15, False, ".1f"))
    progress("import")
    claims.append(_claim("time of import fastconv over that of import numpy", _import_ratio(), 1.5, False, ".2f"))
    return _together(list(parts), [_C.label, _NUMBA.label], claims)


def _threads(seconds: float, clock: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure on one thread, on two, and on two while another process computes on one of two cores."""
    parts = [
        measure_all(_THREADED, [_C, _TORCH], Settings(threads, "wall", seconds, busy), progress)
        for threads, busy in _CONDITIONS
    ]
    claims = []
    for one, two, busy in zip(*(part["rows"] for part in parts), strict=True):
        layer = f"{one['layer']}, {one['direction']}, N={one['n']}"
        single, idle, loaded = (row["contenders"][_C.label]["seconds"] for row in (one, two, busy))
        if single > LONG_SECONDS:
            claims.append(_claim(f"{layer}: two threads over one", single / idle, 1.9, True, ".2f"))
        claims.append(_claim(f"{layer}: a core busy, time over that on idle cores", loaded / idle, 2.3, False, ".2f"))
    return _together(parts, [_C.label], claims)


def _maps(seconds: float, clock: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Functions between convolutions beside torch and beside a copy; activations fused into 1x1 layers beside relu."""
    parts, claims = [], []
    activated = [Contender(name, f"{peers.__name__}.fused", {"activation": name}) for name in ACTIVATIONS]
    for threads in _MAP_THREADS:
        settings = Settings(threads, clock, seconds / 8)
        parts.append(measure_all(_MAPPED, [_OURS, _TORCH, _COPY], settings, progress))
        rows, on = parts[-1]["rows"], f"{threads} thread{'s' * (threads > 1)}"
        for label, chosen, text, goal in (
            (_TORCH.label, rows, "all, speed over torch", 1.5),
            (_COPY.label, [row for row in rows if row["network"] == "memory"], "beyond the caches, of a copy", 0.9),
        ):
            ratios = [r for row in chosen if (r := row["contenders"].get(label, {}).get("ratio"))]
            if ratios:
                claims.append(_claim(f"{text}, {on}: geometric mean", geometric_mean(ratios), goal, True, ".2f"))
    parts.append(measure_all(_FUSED, activated, Settings(1, clock, seconds), progress))
    for name in ACTIVATIONS[1:]:
        ratios = [r for row in parts[-1]["rows"] if (r := row["contenders"].get(name, {}).get("ratio"))]
        if ratios:
            text = f"{name} in 1x1 layers of 16 to 96 channels, of the time with {ACTIVATIONS[0]}: geometric mean"
            claims.append(_claim(text, geometric_mean(ratios), 1.25, False, ".2f"))
    return _together(parts, [_OURS.label], claims)


def _together(parts: list[dict[str, Any]], ours: list[str], claims: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rows": [row for part in parts for row in part["rows"]],
        "versions": {name: version for part in parts for name, version in part["versions"].items()},
        "missing": {label: reason for part in parts for label, reason in part["missing"].items()},
        "ours": ours,
        "claims": claims,
    }


#: Threads, and whether a core is busy.
_CONDITIONS = ((1, False), (2, False), (2, True))

#: Layers of at least this long on one thread are to gain from a second one.
LONG_SECONDS = 1e-3

#: name -> the number of steps, and what measures: what ``measure_all`` returns, and the ``claims``.
SUITES: dict[str, tuple[int, Callable[[float, str, Callable[[str], None]], dict[str, Any]]]] = {
    "slice": (1 + len(_DIRECT) * len(DIRECTIONS) * len(_PRECISIONS) + 1 + 1, _slice),
    "threads": (len(_CONDITIONS) * len(_THREADED), _threads),
    "maps": (len(_MAP_THREADS) * len(_MAPPED) + len(_FUSED), _maps),
}


def _claim(text: str, measured: float, goal: float, at_least: bool, spec: str) -> dict[str, Any]:
    met = measured >= goal if at_least else measured <= goal
    relation = "at least" if at_least else "at most"
    return {"claim": text, "measured": measured, "relation": relation, "goal": goal, "met": met, "format": spec}


def _import_ratio() -> float:
    """Processor time, in fresh processes, in turns."""
    return median(_import_seconds("fastconv") / _import_seconds("numpy") for _ in range(_IMPORTS))


def _import_seconds(package: str) -> float:
    program = f"import time; start = time.process_time(); import {package}; print(time.process_time() - start)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
