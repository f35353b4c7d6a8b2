"""A process that runs problems one after the other, and may end at any of them; and what its parent sees of it."""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .drawing import VARIANTS, again, problem
from .draws import Problem
from .judge import Verdict, verdict

__all__ = ["Limits", "Report", "Task", "Worker"]


@dataclass(frozen=True)
class Task:
    """Problems ``start`` to ``start + count`` of ``seed``; or, where there are any, those that ``choices`` make.

    forked: each in a process of its own, that begins as the worker's did.
    """

    functions: tuple[str, ...]
    settings: tuple[dict[str, Any], ...]
    seed: int = 0
    start: int = 0
    count: int = 0
    choices: tuple[dict[str, int], ...] = ()
    forked: bool = False

    def problem(self, number: int) -> Problem | None:
        if self.choices:
            return again(self.choices[number], self.functions, self.settings)
        return problem(self.seed, number, self.functions, self.settings)

    @property
    def numbers(self) -> range:
        return range(len(self.choices)) if self.choices else range(self.start, self.start + self.count)


#: After so many problems a worker reports.
_PART = 20


@dataclass
class Report:
    """What came of a part of a task: how often each (function, settings, outcome), and the failures."""

    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, Verdict]] = field(default_factory=list)
    last: bool = False


@dataclass(frozen=True)
class Limits:
    """What a problem may take: processor seconds, seconds, bytes of memory beyond what the process had before."""

    processor: float = 40.0
    wall: float = 300.0
    memory: int = 2**30


def _label(p: Problem) -> str:
    return " ".join(str(p.settings[k]) for k in ("use_backend", "use_isa") if k in p.settings) or "free choice"


# ------------------------------------------------------------------------------------------------- in the process


def _serve(progress: mmap.mmap) -> None:
    faulthandler.enable()
    tasks, reports = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # whatever prints must not disturb the reports
    while True:
        try:
            task: Task = tasks.recv()
        except EOFError:
            return
        report = Report()
        for number in task.numbers:
            progress[:8] = struct.pack("q", number)
            p = task.problem(number)
            if p is not None:
                found = _in_a_fork(p) if task.forked and hasattr(os, "fork") else _verdict(p)
                report.calls[p.function, _label(p), found.kind] += 1
                if found.failed:
                    report.failures.append((number, found))
            # In parts: what comes next may end the process.
            if report.failures or (number + 1) % _PART == 0:
                reports.send(report)
                report = Report()
        progress[:8] = struct.pack("q", -1)
        report.last = True
        reports.send(report)


def _verdict(p: Problem) -> Verdict:
    try:
        return verdict(p)
    except Exception:
        return Verdict("tester", f"the tester itself failed: {traceback.format_exc()}")


def _in_a_fork(p: Problem) -> Verdict:
    """A tenth of the time that a new worker takes."""
    import resource  # where there is a fork

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (8, 9))
        with os.fdopen(writing, "wb") as file:
            pickle.dump(_verdict(p), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return pickle.loads(said)
    return Verdict("time" if -status in (signal.SIGXCPU, signal.SIGKILL) else "crash", f"status {status}")


# -------------------------------------------------------------------------------------------------- in its parent


class Worker:
    """A process for problems; another one where it ended."""

    def __init__(self, limits: Limits = Limits(), prepare: str = "") -> None:
        """``prepare``: a module that the process imports first."""
        self.limits, self.prepare = limits, prepare
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fastconv-check-")
        folder = Path(self._folder.name)
        (folder / "progress").write_bytes(struct.pack("q", -1))
        with open(folder / "progress", "r+b") as file:
            self._progress = mmap.mmap(file.fileno(), 8)
        self._errors = folder / "errors"
        # The package that is running here, not one that lies in the current directory.
        paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        # Not "-m": what is pickled has to belong to this module by its name.
        program = f"import sys; from {__name__} import main; main(*sys.argv[1:])"
        command = [sys.executable, "-P", "-c", program, str(folder / "progress"), self.prepare]
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._tasks = Connection(os.dup(self._process.stdin.fileno()), readable=False)
        self._reports = Connection(os.dup(self._process.stdout.fileno()), writable=False)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._tasks.close()
            self._reports.close()
            self._folder.cleanup()
        self._process = None

    def run(self, task: Task, until: float | None = None) -> Iterator[tuple[int, Verdict] | Report]:
        """What comes of the task: a report, or the number that ended the process; then the rest of the task.

        ``until``: the ``time.monotonic()`` from which on nothing more is begun.
        """
        while task.numbers and (until is None or time.monotonic() < until):
            if self._process is None:
                self._start()
            process = self._process
            assert process is not None
            try:
                self._tasks.send(task)
                while (end := self._wait(process.pid, until)) is None:
                    report = self._reports.recv()
                    yield report
                    if report.last:
                        return
            except (EOFError, OSError):
                end = ""
            number = struct.unpack("q", self._progress[:8])[0]
            if end == "":
                status = process.wait()
                said = self._errors.read_text(errors="replace").strip()
                end = f"crash: the process ended with status {status}: {_important(said)}"
            self.stop()
            if number < 0:
                raise RuntimeError(f"the worker does not run: {end}")
            if end == "stopped":
                return
            kind, text = end.split(": ", 1)
            yield number, Verdict(kind, text)
            if task.choices:
                return
            # The same call under other settings is not worth as long a wait.
            start = (number // VARIANTS + 1) * VARIANTS
            task = replace(task, start=start, count=max(0, task.start + task.count - start))

    def _wait(self, pid: int, until: float | None) -> str | None:
        """None once there is a report, or the process has ended; else why it was given up."""
        began: tuple[int, float, float, int] | None = None
        while True:
            if self._reports.poll(0.1):
                return None
            now, number = time.monotonic(), struct.unpack("q", self._progress[:8])[0]
            if until is not None and now > until + 5:
                return "stopped"
            cpu, rss = _usage(pid)
            if began is None or began[0] != number:
                began = number, now, cpu, rss
            elif number >= 0:
                if cpu - began[2] > self.limits.processor or now - began[1] > self.limits.wall:
                    return f"time: no end after {now - began[1]:.0f} s ({cpu - began[2]:.0f} s of processor time)"
                if rss - began[3] > self.limits.memory:
                    return f"memory: {(rss - began[3]) / 2**30:.1f} GiB more after {now - began[1]:.1f} s"


def _important(text: str) -> str:
    """The lines that say what happened."""
    lines = [line.strip() for line in text.splitlines()]
    of_sanitizers = [i for i, line in enumerate(lines) if "ERROR: AddressSanitizer" in line or "runtime error" in line]
    if of_sanitizers:
        said = lines[of_sanitizers[0] :][:8]
    else:
        said = [line for line in lines if line.startswith("Fatal") or "/fastconv/" in line][:5] or lines[-3:]
    return " | ".join(said)


def _usage(pid: int) -> tuple[float, int]:
    """Processor seconds and resident bytes of a process; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def main(path: str, prepare: str = "") -> None:
    with open(path, "r+b") as file:
        progress = mmap.mmap(file.fileno(), 8)
    if prepare:
        __import__(prepare)
    _serve(progress)
