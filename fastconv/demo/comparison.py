"""The demo's work on every backend: how long it takes, and how far the results are from the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from rich.table import Table

from .. import nn
from ..backends import backends, use_backend
from . import digits, photos

__all__ = ["Line", "compare", "table"]

Stage = Callable[[], list[np.ndarray]]

BATCH = 64
ENOUGH_SECONDS = 0.3


@dataclass(frozen=True)
class Line:
    """One stage on one backend: seconds of the first call (with compilation) and of a later one.

    ``difference``: the largest one from the reference's result, divided by the largest value of that array.
    ``refusal``: why this backend does not compute the stage; then the numbers are 0.
    """

    stage: str
    backend: str
    tolerance: float
    first: float = 0.0
    later: float = 0.0
    difference: float = 0.0
    refusal: str | None = None

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


def _stages(photo: photos.Photo, x: np.ndarray, t: np.ndarray, seed: int) -> dict[str, tuple[Stage, float]]:
    net = digits.network(seed)

    def edges() -> list[np.ndarray]:
        return [photos.filtered(photo.gray, photos.EDGES)]

    def step() -> list[np.ndarray]:
        # A generator of its own for dropout: every backend drops the same elements.
        net.train().seed(np.random.default_rng(seed))
        net.zero_grad()
        _, gradient = nn.cross_entropy(net(x[:BATCH]), t[:BATCH])
        net.backward(gradient, need_dx=False)
        return [parameter.grad for parameter in net.parameters().values()]

    def inference() -> list[np.ndarray]:
        return [nn.predict(net, x)]

    # Float32 rounds at 1e-7; a network adds up sums of thousands of products, layer after layer.
    return {
        f"{photos.SIZE}x{photos.SIZE} photo": (edges, 1e-5),
        f"train {BATCH} digits": (step, 1e-4),
        f"read {len(x)} digits": (inference, 1e-4),
    }


def compare(photo: photos.Photo, x: np.ndarray, t: np.ndarray, seed: int) -> list[Line]:
    """Every stage on every backend that can run here."""
    lines = []
    usable = [name for name, reason in backends().items() if reason is None]
    for stage, (run, tolerance) in _stages(photo, x, t, seed).items():
        with use_backend("reference"):
            expected = run()
        for name in usable:
            with use_backend(name):
                lines.append(_measure(run, expected, stage, name, tolerance))
    return lines


def _measure(run: Stage, expected: list[np.ndarray], stage: str, backend: str, tolerance: float) -> Line:
    start = perf_counter()
    try:
        results = run()
    except NotImplementedError as error:
        return Line(stage, backend, tolerance, refusal=str(error))
    first = perf_counter() - start
    difference = max(float(abs(r - e).max() / abs(e).max()) for r, e in zip(results, expected, strict=True))
    return Line(stage, backend, tolerance, first, _steady(run), difference)


def _steady(run: Stage) -> float:
    times = []
    while len(times) < 3 or sum(times) < ENOUGH_SECONDS:
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)


def table(lines: list[Line]) -> Table:
    """The comparison as a rich table."""
    result = Table(
        title="the same work on every backend", caption="difference: the largest, relative to the largest value"
    )
    result.add_column("stage", no_wrap=True)
    result.add_column("backend")
    for title in ("first call", "later", "difference", "allowed"):
        result.add_column(title, justify="right")
    for i, line in enumerate(lines):
        result.add_row(
            line.stage if i == 0 or lines[i - 1].stage != line.stage else "",
            line.backend,
            *(("refused", "", "", "") if line.refusal else _cells(line)),
            end_section=i + 1 == len(lines) or lines[i + 1].stage != line.stage,
        )
    return result


def _cells(line: Line) -> tuple[str, ...]:
    times = _time(line.first), _time(line.later)
    if line.backend == "reference":
        return *times, "", ""
    colour = "green" if line.passed else "bold red"
    return *times, f"[{colour}]{line.difference:.1e}[/]", f"{line.tolerance:.0e}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.2f} ms"
