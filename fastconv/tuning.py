"""Which algorithm is fastest, measured: for the layers that a user runs, on this processor, remembered in a file.

The file is ``autotune-<version>.json`` in the user's cache directory, and holds a table for each processor. A process
reads it when ``autotune`` is first called, and never otherwise: which algorithm runs, and so the last bits of results,
depends on no file that the program did not ask for.

A choice is made once for a problem, with the threads that were there when it was measured, and never again: so results
still do not depend on the number of threads. They may differ in their last bits from those before the measurement.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ._threads import get_num_threads
from ._version import __version__
from .arguments import flag
from .arrays import new_array
from .backends import backend
from .backends.base import Kernel
from .machine import cache_directory, cpu_model
from .memo import forget
from .settings import Settings, changed
from .spec import ConvSpec

__all__ = ["autotune", "forget_autotuned"]

#: Runs of each candidate: at least so many, and as many as fit this time (in seconds, of all candidates).
LEAST_RUNS, MOST_RUNS, TIME = 4, 50, 0.1

#: One that takes this many times the best one's time is not run again.
HOPELESS = 1.5

#: The heuristics' choice stays where the best one saves less than this part of its time.
WORTH = 0.03


@dataclass(frozen=True)
class Winner:
    """What was measured: the fastest, and how many times as fast it is as ``before``, which heuristics take."""

    backend: str
    algorithm: str
    gain: float
    before: str
    threads: int

    def __str__(self) -> str:
        found = (
            f"{self.gain:.2f}x as fast as the heuristics' choice, {self.before}"
            if self.gain > 1
            else "as heuristics do"
        )
        return f"autotuned on {self.threads} threads: {found}"


#: Winners by problem: what this process has measured, and has read from the file where it did.
_winners: dict[str, Winner] = {}
_file_was_read = False


@contextmanager
def autotune(on: bool = True, *, measure: bool = True) -> Iterator[None]:
    """Within this context (of this thread or task) convolutions met for the first time are measured.

    Every algorithm that can compute one, of every backend, is run several times on arrays of its shape; the fastest
    computes it from then on, in this process. A file in the user's cache directory keeps what was found for later
    ones, each of which reads it when it first calls this function, and not before. The precision that was asked for is
    kept: with ``precision("strict")`` only direct algorithms take part. ``explain`` says what was found.

    ``autotune(measure=False)``: what the file has holds in this process from here on, but nothing is measured.
    ``autotune(False)``: heuristics alone choose; nothing is measured, and what is remembered is not used.
    ``forget_autotuned`` removes the file. The environment variable ``FASTCONV_CACHE`` moves it to another directory;
    ``off`` means no file. Raises TypeError where ``on`` or ``measure`` is not a bool.
    """
    on, measure = flag("on", on), flag("measure", measure)
    if on:
        _read_file()
    before = dict(_winners)
    try:
        with changed(tuning="off" if not on else "measured" if measure else "remembered"):
            yield
    finally:
        if on and before != _winners:
            _save()
            # Choices that were made by heuristics before.
            forget()


def forget_autotuned() -> None:
    """Forget what ``autotune`` has found: in this process, and in the file, for every processor.

    From then on heuristics choose. Plans keep the kernels that they were made with. A file that cannot be removed
    raises OSError.
    """
    global _file_was_read
    _winners.clear()
    _file_was_read = False
    forget()
    if path := _file():
        path.unlink(missing_ok=True)


def winner(spec: ConvSpec, given: Settings, candidates: Callable[[ConvSpec, Settings], list[Kernel]]) -> Winner | None:
    """What is measured to be fastest for ``spec``; None where nothing was measured and nothing is to be.

    ``candidates`` are those that can compute a spec, the one first that heuristics take.
    """
    key = _key(spec, given)
    if key not in _winners and given.tuning == "measured":
        plain = _plain(spec)
        _winners[key] = _measure(plain, candidates(plain, given))
    return _winners.get(key)


# -------------------------------------------------------------------------------------------------- measuring


def _plain(spec: ConvSpec) -> ConvSpec:
    """Without its epilogue, which costs every algorithm the same."""
    return replace(spec, bias=False, residual=False, activation=None)


def _key(spec: ConvSpec, given: Settings) -> str:
    free = Settings(tuning=given.tuning)
    forced = [f"{name}={value}" for name, value in given._asdict().items() if value != getattr(free, name)]
    return " ".join([*forced, repr(_plain(spec))])


def _operands(spec: ConvSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays for one call: what it reads, and where the result goes."""
    rng = np.random.default_rng(0)
    x, w, y = (spec.x_shape, spec.types.x), (spec.w_shape, spec.types.w), (spec.y_shape, spec.types.y)
    order = {"fwd": (x, w, y), "bwd_input": (y, w, x), "bwd_weight": (x, y, w)}[spec.direction]
    first, second, result = (new_array(shape, np.dtype(name)) for shape, name in order)
    for operand in (first, second):
        operand[...] = rng.random(operand.shape, np.float32)
    return first, second, result


def _measure(spec: ConvSpec, kernels: list[Kernel]) -> Winner:
    times = _seconds(kernels, _operands(spec)) if len(kernels) > 1 else [1.0]
    best = times.index(min(times))
    if times[best] > (1 - WORTH) * times[0]:
        best = 0
    gain = round(times[0] / times[best], 2)
    before, kernel = kernels[0], kernels[best]
    return Winner(kernel.backend, kernel.algorithm, gain, f"{before.algorithm} of {before.backend}", get_num_threads())


def _seconds(kernels: list[Kernel], operands: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[float]:
    """The least time of a call of each, run in turns."""
    first, second, out = operands
    calls = []
    for kernel in kernels:
        weights = kernel.pack(second) if kernel.spec.packed else second
        calls.append((kernel, weights))
        kernel(first, weights, None, None, out)  # compiled and in memory from here on
    times = [inf] * len(kernels)
    begin = perf_counter()
    for run in range(MOST_RUNS):
        if run >= LEAST_RUNS and perf_counter() - begin > TIME:
            break
        best = min(times)
        for i, (kernel, weights) in enumerate(calls):
            if run == 0 or times[i] <= HOPELESS * best:
                start = perf_counter()
                kernel(first, weights, None, None, out)
                times[i] = min(times[i], perf_counter() - start)
    return times


# --------------------------------------------------------------------------------------------------- the file


def _file() -> Path | None:
    directory = cache_directory()
    return directory and directory / f"autotune-{__version__}.json"


@cache
def _processor() -> str:
    """What a choice depends on besides the problem."""
    isas = " ".join(name for name, reason in backend("c").isas().items() if reason is None)
    return f"{cpu_model()}, {os.cpu_count()} CPUs" + (f", {isas}" if isas else "")


def _read_file() -> None:
    """What the file has for this processor holds from here on; what this process has measured goes before it."""
    global _file_was_read
    path = _file()
    if _file_was_read or path is None:
        return
    _file_was_read = True
    found = _read(path).get(_processor(), {})
    if found.keys() - _winners.keys():
        _winners.update(found | _winners)
        # Choices that were made by heuristics before.
        forget()


def _read(path: Path) -> dict[str, dict[str, Winner]]:
    """The file's tables by processor; none, and a warning, where it is not what was written."""
    import json  # most programs need neither this nor a file

    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        return {cpu: {key: _winner(entry) for key, entry in table.items()} for cpu, table in tables.items()}
    except FileNotFoundError:
        return {}
    except Exception as error:  # whatever the file holds, it is no reason not to compute
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"{path} is ignored: it holds no choices of fastconv.autotune ({reason})", stacklevel=2)
        return {}


def _winner(entry: Any) -> Winner:
    winner = Winner(**entry)
    for name, kind in {"backend": str, "algorithm": str, "gain": float, "before": str, "threads": int}.items():
        if not isinstance(getattr(winner, name), kind):
            raise TypeError(f"{name} is {getattr(winner, name)!r}")
    return winner


def _save() -> None:
    """Adds this process's choices to the file, which other processes may read and replace at any time."""
    import json
    import tempfile

    path = _file()
    if path is None:
        return
    tables = _read(path)
    tables[_processor()] = tables.get(_processor(), {}) | _winners
    plain = {cpu: {key: asdict(winner) for key, winner in table.items()} for cpu, table in tables.items()}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            temporary = file.name
            json.dump(plain, file, indent=1)
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(f"the choices of fastconv.autotune are not remembered: {error}", stacklevel=2)
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
