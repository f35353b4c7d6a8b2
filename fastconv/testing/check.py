"""``fastconv check``: random calls on every backend beside the reference, until a time or a number is reached.

Each call runs in a process that may end. A failure is run again in a process of its own, shrunk, and printed as a line
of Python.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .._options import at_least, positive
from .drawing import FUNCTIONS, settings_here
from .draws import Problem
from .judge import Verdict
from .worker import Limits, Report, Task, Worker

__all__ = ["Failure", "Finding", "add_to", "check", "shrunk"]

#: Problems that a worker is given at once, and seconds that one failure is shrunk for.
_CHUNK, _SHRINKING = 200, 30.0

#: Choices that say which call it is, and on whom: shrinking leaves them.
_KEPT = ("function", "target")


@dataclass(frozen=True)
class Failure:
    """A problem, shrunk, and what was wrong with it; ``alone``: also when nothing ran before it."""

    seed: int
    number: int
    verdict: Verdict
    problem: Problem
    alone: bool = True

    def __str__(self) -> str:
        lines = [str(self.problem), f"# {self.verdict.kind}: {self.verdict.text}"]
        lines += [f"# ran: {self.verdict.ran}"] if self.verdict.ran else []
        lines += [] if self.alone else ["# only after the problems before it"]
        return "\n  ".join([*lines, f"# --problem {self.seed}:{self.number}"])


@dataclass
class Finding:
    """What a check found: how often each (function, who, outcome), and the failures of different kinds."""

    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    alike: Counter[tuple[str, ...]] = field(default_factory=Counter)
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------------- shrinking


def shrunk(
    task: Task, choices: dict[str, int], found: Verdict, seconds: float = _SHRINKING, worker: Worker | None = None
) -> tuple[dict[str, int], Verdict]:
    """The smallest choices found in ``seconds`` that fail as ``found`` did, and their verdict."""
    until = time.monotonic() + seconds
    with worker or Worker(Limits(processor=8, wall=40)) as own:

        def fails(candidate: dict[str, int]) -> Verdict | None:
            verdict = alone(task, candidate, own, forked=found.kind in ("crash", "time"))
            return verdict if verdict.kind == found.kind else None

        def accepted(candidate: dict[str, int]) -> bool:
            nonlocal choices, found
            if time.monotonic() > until or (verdict := fails(candidate)) is None:
                return False
            choices, found = candidate, verdict
            return True

        # Many at once first: every run of what crashes costs a process.
        count = len(choices)
        while count > 1:
            count //= 2
            names = [name for name in choices if name not in _KEPT and choices[name]]
            for i in range(0, len(names), max(count, 1)):
                accepted({**choices, **dict.fromkeys(names[i : i + count], 0)})
        smaller = True
        while smaller and time.monotonic() < until:
            smaller = False
            for name in sorted(choices, key=lambda n: -choices[n]):
                value = 0 if name in _KEPT else choices[name]
                less = sorted({0, 1, 2, value // 2, value - 1})
                smaller |= any(0 <= v < value and accepted({**choices, name: v}) for v in less)
    return {k: v for k, v in choices.items() if v}, found


def alone(task: Task, choices: dict[str, int], worker: Worker, forked: bool = False) -> Verdict:
    """What comes of the problem that these choices make, without the others."""
    single = Task(task.functions, task.settings, choices=(choices,), forked=forked)
    found = [f for event in worker.run(single) for f in (event.failures if isinstance(event, Report) else [event])]
    return found[0][1] if found else Verdict()


# ---------------------------------------------------------------------------------------------------------- checks


def check(
    seed: int = 0,
    seconds: float | None = None,
    calls: int | None = None,
    start: int = 0,
    backends: Sequence[str] = (),
    functions: Sequence[str] = FUNCTIONS,
    jobs: int = 1,
    most: int = 20,
    say: Any = print,
    prepare: str = "",
    shrinking: float = _SHRINKING,
) -> Finding:
    """Runs problems of ``seed`` from ``start`` on for ``seconds``, or so many ``calls``, or until ``most`` failures.

    backends, functions: only those. ``jobs`` processes share the work. ``say`` is called with each failure.
    ``prepare``: a module that each process imports first. Failures alike in function, outcome and who ran are counted,
    and the first of them shrunk.
    """
    settings = tuple(settings_here(backends))
    finding, lock, began = Finding(), threading.Lock(), time.monotonic()
    until = None if seconds is None else began + seconds
    chunks = iter(range(start, start + calls if calls is not None else sys.maxsize, _CHUNK))
    errors: list[BaseException] = []

    def task_of(first: int) -> Task:
        count = _CHUNK if calls is None else min(_CHUNK, start + calls - first)
        return Task(tuple(functions), settings, seed, first, count)

    def handle(task: Task, number: int, verdict: Verdict) -> None:
        problem = task.problem(number)
        assert problem is not None
        alike = _kind(problem, verdict)
        with lock:
            finding.alike[alike] += 1
            if finding.alike[alike] > 1 or len(finding.failures) >= most:
                return
        with Worker(Limits(processor=30, wall=120), prepare) as own:
            again = alone(task, problem.choices, own)
        if again.failed:
            small_worker = Worker(Limits(processor=8, wall=40), prepare)
            choices, small_verdict = shrunk(task, problem.choices, again, shrinking, small_worker)
            again = again if small_verdict.kind != again.kind else small_verdict
            if again.kind == "crash":  # a worker of its own can say more
                with Worker(Limits(processor=8, wall=40), prepare) as own:
                    again = alone(task, choices, own)
            small = Task(task.functions, task.settings, choices=(choices,)).problem(0)
            assert small is not None
            failure = Failure(seed, number, again, small)
        else:
            failure = Failure(seed, number, verdict, problem, alone=False)
        with lock:
            if all(str(failure.problem) != str(other.problem) for other in finding.failures):
                finding.failures.append(failure)
                say(failure)

    def work() -> None:
        try:
            with Worker(prepare=prepare) as worker:
                while (until is None or time.monotonic() < until) and len(finding.failures) < most and not errors:
                    with lock:
                        first = next(chunks, None)
                    if first is None:
                        return
                    task = task_of(first)
                    for event in worker.run(task, until):
                        if isinstance(event, Report):
                            with lock:
                                finding.calls += event.calls
                            for failure in event.failures:
                                handle(task, *failure)
                        else:
                            problem = task.problem(event[0])
                            assert problem is not None
                            who = str(problem.settings.get("use_backend", "free choice"))
                            with lock:
                                finding.calls[problem.function, who, event[1].kind] += 1
                            handle(task, *event)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(jobs - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    finding.seconds = time.monotonic() - began
    return finding


def _kind(problem: Problem, verdict: Verdict) -> tuple[str, ...]:
    """What failures that may have one cause have in common."""
    if verdict.kind in ("accepted", "error", "unclear error") or verdict.kind.startswith("error"):
        return verdict.kind, re.sub(r"[\W\d]+", " ", verdict.text.split("; right:")[0])[:70]
    backend, _, algorithm = (*verdict.ran.split(", ")[0].split(" ", 2), "", "")[:3]
    who = backend or problem.settings.get("use_backend", "free choice")
    return re.sub(r"\d", "n", problem.function), verdict.kind, who, algorithm


def summary(finding: Finding) -> str:
    """Calls by function and by who ran them, and how many a second."""
    total = sum(finding.calls.values())
    lines = []
    for title, which in (("function", 0), ("by", 1), ("outcome", 2)):
        counts: Counter[str] = Counter()
        for key, count in finding.calls.items():
            counts[key[which] or "as right"] += count
        counted = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        lines += textwrap.wrap(f"{title}: {counted}", 120, subsequent_indent="  ", break_on_hyphens=False)
    lines.append(f"{total} calls in {finding.seconds:.0f} s, {total / max(finding.seconds, 1e-9):.0f} a second")
    more = {key: count for key, count in finding.alike.items() if count > 1}
    lines += [f"{count} failures like this: {', '.join(key)}" for key, count in more.items()]
    lines.append(f"{len(finding.failures)} failures of different kinds" if finding.failures else "no failure")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------- command line


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``fastconv check``."""
    parser.add_argument(
        "--seconds", type=positive, metavar="N", help="how long (default: 60, or until --calls are made)"
    )
    parser.add_argument(
        "--calls", type=at_least(1), metavar="N", help="how many calls, the same ones for the same seed"
    )
    parser.add_argument("--seed", type=at_least(0), metavar="S", help="of the calls (default: a new one every time)")
    parser.add_argument("--problem", type=_problem, metavar="SEED:NUMBER", help="this one call")
    parser.add_argument("--backend", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument(
        "--function",
        action="append",
        default=[],
        metavar="NAME",
        help="only those whose name begins so; may be repeated",
    )
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, metavar="N", help="processes at once (default: %(default)s)"
    )
    parser.add_argument(
        "--failures", type=at_least(1), default=20, metavar="N", help="stop after so many (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _problem(text: str) -> tuple[int, int]:
    seed, colon, number = text.partition(":")
    if not (colon and seed.isdecimal() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed is SEED:NUMBER, as a failure is printed with")
    return int(seed), int(number)


def _run(arguments: argparse.Namespace) -> int:
    functions = [f for f in FUNCTIONS if not arguments.function or f.startswith(tuple(arguments.function))]
    if not functions:
        print(f"fastconv check: no function begins with {', '.join(arguments.function)}", file=sys.stderr)
        return 2
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    seconds, calls, start = arguments.seconds, arguments.calls, 0
    if arguments.problem:
        seed, start = arguments.problem
        calls = 1
    elif seconds is None and calls is None:
        seconds = 60.0
    print(f"seed {seed}; {len(functions)} functions", flush=True)

    def say(failure: Failure) -> None:
        print(f"\n{failure}", flush=True)

    try:
        finding = check(
            seed, seconds, calls, start, arguments.backend, functions, arguments.jobs, arguments.failures, say
        )
    except (RuntimeError, ValueError) as error:
        print(f"fastconv check: {error}", file=sys.stderr)
        return 2
    print(f"\n{summary(finding)}")
    return 1 if finding.failures else 0
