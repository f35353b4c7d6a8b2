"""Contenders in processes of their own, timed in turns, round by round."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

import numpy as np

from .layers import Problem

__all__ = ["Contender", "Failure", "Settings", "clock_rate", "measure_all"]

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "FASTCONV_NUM_THREADS",
)

#: Of what one layer's share of time is divided into.
ROUNDS = 7
FEWEST_ROUNDS = 3

#: After two rounds a way of a contender this much slower than its best one is not timed any further.
HOPELESS = 1.25

#: A round counts if, between the contenders' turns, the peak stayed above this part of the best that has been seen:
#: where a neighbour shares the core it falls by a third. Other rounds are repeated, up to so many times as many in all
#: (not where the clock is on the wall, by which the peak swings more than that).
#: A problem for which that is not enough is measured once more after all others, and again, so many times.
QUIET = 0.9
PATIENCE = 3
AGAIN = 2

#: Threads of the contender before spin for a while before they sleep.
SETTLE_SECONDS = 0.01

#: Results differ by rounding only, relative to their root mean square.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


#: Of an error's text.
LONGEST_REASON = 200


#: The module that is fastconv itself.
OURS = f"{__package__}.peers.ours"


class Failure(Exception):
    """A contender could not do what was asked; the message says why."""


class _Died(Exception):
    """A worker's process is gone; the message is the last thing that it said."""


@dataclass(frozen=True)
class Contender:
    """Whom to start: a module with a class ``Peer`` as those of ``peers`` have, under this label."""

    label: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    threads: int = 1
    clock: str = "auto"
    seconds: float = 1.0
    #: Another process keeps one of the cores busy.
    busy: bool = False


class Worker:
    """A contender's process. Raises ``Failure`` if it cannot run here."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.label = contender.label
        self.ours = contender.module == OURS
        self._contender = contender
        self._threads = threads
        self._launch()

    def _launch(self) -> None:
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(self._threads))
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends them
        )
        try:
            about = self._answer("open", self._contender.module, self._threads, self._contender.options)
        except _Died as death:
            raise Failure(f"its process does not start: {death}") from None
        except Failure:
            self.close()
            raise
        self.versions: dict[str, str] = about["versions"]
        self.has_cycles: bool = about["cycles"]

    def ask(self, method: str, *arguments: Any) -> Any:
        """The worker's answer. Where its process dies of the question, a new one takes its place: ``Failure``."""
        try:
            return self._answer(method, *arguments)
        except _Died as death:
            self._launch()
            raise Failure(f"its process died: {death}") from None

    def _answer(self, method: str, *arguments: Any) -> Any:
        try:
            pickle.dump((method, arguments), self._process.stdin)
            self._process.stdin.flush()
            status, answer = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise _Died(self._last_words()) from None
        if status == "ok":
            return answer
        reason = next(iter(answer.strip().splitlines()), "")[:LONGEST_REASON]
        if status in ("Refused", "NotImplementedError"):
            raise Failure(reason)
        if status in ("ImportError", "ModuleNotFoundError"):
            raise Failure(f"not installed: {reason}")
        raise Failure(f"{status}: {reason}")

    def _last_words(self) -> str:
        self.close()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:LONGEST_REASON] if lines else f"exit code {self._process.returncode}"

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start(contenders: Iterable[Contender], threads: int) -> tuple[list[Worker], dict[str, str]]:
    """The contenders that run here, and why the others do not."""
    workers, missing = [], {}
    for contender in contenders:
        try:
            workers.append(Worker(contender, threads))
        except Failure as failure:
            missing[contender.label] = str(failure)
    return workers, missing


def clock_of(workers: list[Worker], settings: Settings) -> str:
    """``"cycles"`` or ``"wall"``. ValueError if cycles are demanded of processes that cannot count them."""
    possible = all(worker.has_cycles for worker in workers)
    if settings.clock == "cycles" and not possible:
        raise ValueError("clock 'cycles': this system does not let processes count them; allowed is 'wall'")
    if settings.clock == "auto":
        return "cycles" if possible and settings.threads == 1 and not settings.busy else "wall"
    return settings.clock


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that computes on the last of this process's cores, and never waits."""
    program = "import os\nprint(flush=True)\nwhile True: pass"
    if hasattr(os, "sched_getaffinity"):
        program = f"import os\nos.sched_setaffinity(0, [{max(os.sched_getaffinity(0))}])\n{program}"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass
class _Candidate:
    """One way of one contender, and what its calls took, round by round: (cycles, seconds)."""

    worker: Worker
    name: str
    note: str
    warm_up: float | None
    calls: int = 1
    times: list[tuple[float, float]] = field(default_factory=list)

    def time(self) -> tuple[float, float]:
        cycles, seconds = self.worker.ask("time", self.name, self.calls)
        return cycles / self.calls, seconds / self.calls


def measure(
    problem: Problem, workers: list[Worker], settings: Settings, clock: str, ceilings: dict[str, float]
) -> dict[str, Any]:
    """Time one problem on all workers, in turns. What a row of the report's JSON holds.

    Every contender's best way counts. A ratio is the median, over the rounds, of the time of a contender over the time
    of the first worker in the same round: above 1 the first one is faster.
    """
    hand = clock == "wall"
    candidates: list[_Candidate] = []
    refused: dict[str, str] = {}
    samples = {}
    for worker in workers:
        try:
            for name, found in worker.ask("prepare", problem).items():
                candidates.append(_Candidate(worker, name, *found["about"]))
                if found["sample"] is not None:
                    samples[worker.label, name] = found["sample"]
        except Failure as failure:
            refused[worker.label] = str(failure)
    differences = {" ".join(key): _difference(s, next(iter(samples.values()))) for key, s in samples.items()}
    wrong = {key: f"{value:.1e}" for key, value in differences.items() if not value <= TOLERANCE[problem.dtype]}
    with neighbour() if settings.busy else nullcontext():
        peaks, quiet = _rounds(problem, candidates, workers, settings, hand, refused, ceilings)

    how = {"clock": clock, "threads": settings.threads, "cores": "one busy" if settings.busy else "idle"}
    row = _description(problem) | how | {"refused": refused, "wrong": wrong, "quiet": quiet}
    if peaks:
        row["peak"] = {"per_second": _ceiling(peaks, True)}
        if all(p[1] for p in peaks):
            row["peak"] |= {
                "per_cycle": _ceiling(peaks, False),
                "ghz": max(p[1] / p[2] for p in peaks) / 1e9,
            }
    best: dict[str, _Candidate] = {}
    for candidate in candidates:
        now = best.get(candidate.worker.label)
        if now is None or _rank(candidate, hand) < _rank(now, hand):
            best[candidate.worker.label] = candidate
    row["contenders"] = {label: _figures(problem, c, peaks, hand) for label, c in best.items()}
    first = best.get(workers[0].label)
    for label, candidate in best.items():
        if first is not None and candidate is not first:
            ratios = [b[hand] / a[hand] for a, b in zip(first.times, candidate.times, strict=True)]
            row["contenders"][label]["ratio"] = median(ratios)
    return row


def _rounds(
    problem: Problem,
    candidates: list[_Candidate],
    workers: list[Worker],
    settings: Settings,
    hand: bool,
    refused: dict[str, str],
    ceilings: dict[str, float],
) -> tuple[list[tuple[float, int, float]], bool]:
    """Fill the candidates' times, put those that fail among the refused; the peaks, and whether all rounds were quiet.

    ``ceilings``: the best peak so far of each dtype.
    """
    once: dict[int, float] = {}
    peaks: list[tuple[float, int, float]] = []
    ours = next((worker for worker in workers if worker.ours), None)

    def turn(candidate: _Candidate) -> tuple[float, float] | None:
        if settings.threads > 1:
            sleep(SETTLE_SECONDS)
        try:
            return candidate.time()
        except Failure as failure:
            refused[candidate.worker.label] = str(failure)
            candidates[:] = [c for c in candidates if c.worker is not candidate.worker]
            return None

    def is_quiet() -> bool:
        peak = ours and ours.ask("peak", problem.dtype)
        if not peak:
            return True
        peaks.append(peak)
        speed = peak[0] / peak[1 + hand]
        best = ceilings[problem.dtype] = max(ceilings.get(problem.dtype, 0.0), speed)
        return hand or speed >= QUIET * best

    def one_round() -> tuple[bool, dict[int, tuple[float, float]]]:
        quiet, times = is_quiet(), {}
        for candidate in list(candidates):
            if candidate in candidates and id(candidate) not in hopeless and (time := turn(candidate)):
                times[id(candidate)] = time
                quiet = is_quiet() and quiet
        return quiet, times

    for candidate in list(candidates):
        if candidate in candidates and (time := turn(candidate)):
            once[id(candidate)] = max(time[1], 1e-7)
    if not candidates:
        return [], True
    total = sum(once[id(c)] for c in candidates)
    rounds = int(min(ROUNDS, max(FEWEST_ROUNDS, settings.seconds // total)))
    for candidate in candidates:
        candidate.calls = max(1, int(settings.seconds / (rounds * len(candidates)) / once[id(candidate)]))
    hopeless: set[int] = set()
    kept: list[dict[int, tuple[float, float]]] = []
    patience, all_quiet = (PATIENCE - 1) * rounds, True
    while len(kept) < rounds:
        quiet, times = one_round()
        if not quiet and patience:
            patience -= 1
            continue
        all_quiet = all_quiet and quiet
        kept.append(times)
        for candidate in candidates:
            candidate.times = [times[id(candidate)] for times in kept if id(candidate) in times]
        if len(kept) == 2:
            hopeless = {
                id(c) for c in candidates if _typical(c, hand) > HOPELESS * _best_of(c.worker, candidates, hand)
            }
    return peaks, all_quiet


def _typical(candidate: _Candidate, hand: bool) -> float:
    return median(t[hand] for t in candidate.times)


def _rank(candidate: _Candidate, hand: bool) -> tuple[int, float]:
    """Those that ran in every round come first."""
    return -len(candidate.times), _typical(candidate, hand)


def _best_of(worker: Worker, candidates: list[_Candidate], hand: bool) -> float:
    return min(_typical(c, hand) for c in candidates if c.worker is worker)


def _description(problem: Problem) -> dict[str, Any]:
    layer = problem.layer
    return {
        "op": layer.op,
        "network": layer.network,
        "layer": layer.layer,
        "shape": str(layer),
        "class": layer.kind,
        "n": problem.n,
        "dtype": problem.dtype,
        "direction": problem.direction,
        "weights": problem.weights,
        "precision": problem.precision,
        "operations": problem.operations,
    }


def _ceiling(peaks: list[tuple[float, int, float]], hand: bool) -> float:
    """Operations a cycle (by hand: a second) of the best round: what slows a loop between registers is no limit."""
    return max(p[0] / p[1 + hand] for p in peaks)


def _figures(
    problem: Problem, candidate: _Candidate, peaks: list[tuple[float, int, float]], hand: bool
) -> dict[str, Any]:
    figures = {
        "how": candidate.name,
        "note": candidate.note,
        "warm_up": candidate.warm_up,
        "calls": candidate.calls,
        "rounds": len(candidate.times),
        "cycles": median(t[0] for t in candidate.times),
        "seconds": median(t[1] for t in candidate.times),
    }
    if peaks and problem.layer.op in ("conv", "gemm"):
        speed = median(problem.operations / t[hand] for t in candidate.times)
        figures["of_peak"] = speed / _ceiling(peaks, hand)
    return figures


def _difference(sample: tuple[Any, np.ndarray], other: tuple[Any, np.ndarray]) -> float:
    """The largest difference of two results' samples, relative to their root mean square; infinite if shapes differ."""
    if tuple(sample[0]) != tuple(other[0]):
        return float("inf")
    scale = float(np.sqrt(np.mean(other[1] ** 2))) or 1.0
    return float(np.max(np.abs(sample[1] - other[1]), initial=0.0)) / scale


def measure_all(
    problems: Sequence[Problem],
    contenders: Sequence[Contender],
    settings: Settings,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Time every problem on all contenders that run here: ``rows``, ``versions``, and who is ``missing`` and why.

    The first contender is what the others are compared with. ``progress`` is told what comes next. Ctrl-C ends it
    early, with what there is. ValueError if the first contender cannot run.
    """
    with ExitStack() as stack:
        workers, missing = start(contenders, settings.threads)
        for worker in workers:
            stack.callback(worker.close)
        if contenders[0].label in missing:
            raise ValueError(f"{contenders[0].label} cannot run here: {missing[contenders[0].label]}")
        clock = clock_of(workers, settings)
        rows: list[dict[str, Any]] = []
        ceilings: dict[str, float] = {}
        with suppress(KeyboardInterrupt):
            for problem in problems:
                progress(f"{problem.layer.network} {problem.layer.layer} {problem.direction}")
                rows.append(measure(problem, workers, settings, clock, ceilings))
            for _ in range(AGAIN):
                for number, row in enumerate(rows):
                    if not row["quiet"]:
                        progress(f"{row['network']} {row['layer']} {row['direction']}, again")
                        rows[number] = measure(problems[number], workers, settings, clock, ceilings)
        versions = {name: version for worker in workers for name, version in worker.versions.items()}
        return {"rows": rows, "versions": versions, "missing": missing}


def clock_rate(rows: list[dict[str, Any]]) -> float | None:
    """The highest rate in GHz at which cycles were counted, which is the processor's while nobody disturbed it."""
    figures = [f["cycles"] / f["seconds"] / 1e9 for row in rows for f in row["contenders"].values()]
    peaks = [row["peak"]["ghz"] for row in rows if "ghz" in row.get("peak", {})]
    return max(figures + peaks, default=0.0) or None
