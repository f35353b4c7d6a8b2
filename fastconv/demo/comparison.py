"""The demo's work on every backend: how long it takes, and how far the results are from the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from rich.table import Table

from .. import dispatch, nn
from . import digits, photos

__all__ = ["Line", "compare", "table"]

Stage = Callable[[], list[np.ndarray]]

ENOUGH_SECONDS = 0.3


@dataclass(frozen=True)
class Line:
    """One stage on one backend: seconds of the first call (with compilation) and of a later one.

    ``difference``: the largest one from the reference's result, divided by the largest value of that array.
    """

    stage: str
    backend: str
    first: float
    steady: float
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def _stages(photo: photos.Photo, x: np.ndarray, t: np.ndarray, seed: int) -> dict[str, tuple[Stage, float]]:
    net = digits.network(seed)
    batch = slice(0, 64)

    def convolution() -> list[np.ndarray]:
        return [photos.filtered(photo.gray, photos.EDGES)]

    def step() -> list[np.ndarray]:
        net.train()
        _, gradient = nn.cross_entropy(net(x[batch]), t[batch])
        net.backward(gradient, need_dx=False)
        return [parameter.grad for parameter in net.parameters().values()]

    def inference() -> list[np.ndarray]:
        return [nn.predict(net, x)]

    # Float32 rounds at 1e-7; sums of up to some thousand products, and five layers, add to it.
    return {
        f"edges of a {photos.SIZE}x{photos.SIZE} photo": (convolution, 1e-5),
        "training step, 64 digits": (step, 1e-4),
        f"inference, {len(x)} digits": (inference, 1e-4),
    }


def compare(photo: photos.Photo, x: np.ndarray, t: np.ndarray, seed: int) -> list[Line]:
    """Every stage on every backend that can run here."""
    lines = []
    usable = [name for name, reason in dispatch.backends().items() if reason is None]
    for stage, (run, tolerance) in _stages(photo, x, t, seed).items():
        with dispatch.use_backend("reference"):
            expected = run()
        for name in usable:
            with dispatch.use_backend(name):
                start = perf_counter()
                results = run()
                first = perf_counter() - start
                steady = _steady(run)
            difference = max(float(abs(r - e).max() / abs(e).max()) for r, e in zip(results, expected, strict=True))
            lines.append(Line(stage, name, first, steady, difference, tolerance))
    return lines


def _steady(run: Stage) -> float:
    times = []
    while len(times) < 3 or sum(times) < ENOUGH_SECONDS:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)


def table(lines: list[Line]) -> Table:
    """The comparison as a rich table."""
    result = Table(title="The same work on every backend", caption="differences are relative to the largest value")
    result.add_column("stage")
    result.add_column("backend")
    for title in ("first call", "later calls", "difference", "tolerance"):
        result.add_column(title, justify="right")
    for i, line in enumerate(lines):
        last = i + 1 == len(lines) or lines[i + 1].stage != line.stage
        verdict = "green" if line.passed else "bold red"
        result.add_row(
            line.stage if i == 0 or lines[i - 1].stage != line.stage else "",
            line.backend,
            _time(line.first),
            _time(line.steady),
            "" if line.backend == "reference" else f"[{verdict}]{line.difference:.1e}[/]",
            "" if line.backend == "reference" else f"{line.tolerance:.0e}",
            end_section=last,
        )
    return result


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"
