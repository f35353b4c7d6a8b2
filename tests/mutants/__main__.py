"""Breaks the code on purpose, one small break after another, and says which test turned red.

    python tests/mutants              every mutant
    python tests/mutants gemm pool    those whose names begin with one of these words
    python tests/mutants --unbroken   their tests on the code as it is: they are green
    python tests/mutants --jobs 2     two at a time, each in a copy of its own
    python tests/mutants --list       their names

The mutants are the tables of the .toml files beside this one: ``file``, the text ``old`` in it, which stands there
once, the text ``new`` in its place, and the files of ``tests`` that are to turn red, ``only`` those of their tests that
``pytest -k`` finds by it: few, so that it takes seconds. All happens in a copy of the project. Of the C library only
what a mutant touches is compiled anew, and of the kernels' bodies only one instruction set (``isa``, scalar unless
said), on which the tests then run alone. What Numba compiles is kept in the copy for as long as no source of its
backend changes: a break in one of them finds nothing there.

A mutant that no test sees has survived: the exit status is 1 then, as where no test runs, or where they do not end in
time, unless the mutant says that it makes one hang (``hangs``).
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: Seconds that the tests of a mutant may take, and of one that makes a test hang.
_PATIENCE, _PATIENCE_TO_HANG = 300, 60


@dataclass(frozen=True)
class Mutant:
    """In ``file``, ``new`` instead of ``old``; ``only`` these ``tests`` run, on ``isa`` alone where that is named."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    only: str = ""
    isa: str | None = None
    hangs: bool = False

    @property
    def is_c(self) -> bool:
        return self.file.startswith("csrc/")

    @property
    def selection(self) -> str:
        """For ``pytest -k``: what Numba has to compile first is for its own mutants alone."""
        targets = "numba" if "backends/numba/" in self.file else "not numba"
        if self.is_c:
            targets += " and not reference"
        return f"{targets} and ({self.only})" if self.only else targets

    def applied(self, text: str) -> str:
        """``text`` of the file, broken. ValueError if the place is not there, or not the only one."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its text stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    """All of them, in the order of the files."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text()).items():
            if table["file"].endswith(".inc"):
                table = {"isa": "scalar", **table}
            found.append(Mutant(f"{path.stem}-{name}", **table))
    return found


class _CannotRun(Exception):
    """Nothing that a test could see: it does not compile, or no test is named, or they take too long."""


class Copy:
    """A copy of the project, whose C library is compiled source by source and only where something has changed."""

    def __init__(self, root: Path) -> None:
        """The files that git tracks, as they are now."""
        self.root = root
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        sys.path.insert(0, str(root))
        from csrc import build_ffi

        sys.path.pop(0)
        # Every path is relative: so ccache finds what an earlier copy compiled.
        self.objects = Path("build", "mutants")
        (root / self.objects).mkdir(parents=True)
        extension = build_ffi.extension(str(root / self.objects))
        self.sources = [Path(os.path.relpath(root / source, root)) for source in extension.sources]
        self.compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = [flag for flag in extension.extra_compile_args if not flag.startswith("-O")]
        self.flags = [*flags, "-fPIC", f"-I{sysconfig.get_path('include')}", "-Icsrc"]
        self.flags += [f"-D{name}={value}" for name, value in extension.define_macros]
        self._compile(self.sources)
        self._link([])

    def twin(self, root: Path) -> Copy:
        """Another one."""
        shutil.copytree(self.root, root)
        twin = copy.copy(self)
        twin.root = root
        return twin

    def _object(self, source: Path, broken: bool = False) -> Path:
        return self.objects / (re.sub(r"\W", "_", str(source)) + (".broken.o" if broken else ".o"))

    def _has(self, source: Path, file: str) -> bool:
        """Whether this file is a part of this source, or the source itself."""
        parts = (self.root / self._object(source)).with_suffix(".d").read_text().replace("\\\n", " ").split()[1:]
        return file in map(os.path.normpath, parts)

    def _touched(self, mutant: Mutant) -> list[Path]:
        """The sources that its file is a part of; of the instruction sets its own, where it is a kernel's body."""
        users = [source for source in self.sources if self._has(source, mutant.file)]
        touched = [
            s for s in users if not (mutant.isa and s.parent.name == "units" and s.stem.split("_")[0] != mutant.isa)
        ]
        if not touched:
            raise _CannotRun(f"no source includes {mutant.file}")
        return touched

    @contextmanager
    def broken(self, mutant: Mutant) -> Iterator[None]:
        """Inside, the file is broken and what is compiled of it; afterwards all is whole."""
        path = self.root / mutant.file
        whole = path.read_text()
        path.write_text(mutant.applied(whole))
        try:
            if mutant.is_c:
                touched = self._touched(mutant)
                self._compile(touched, broken=True)
                self._link(touched)
            yield
        finally:
            path.write_text(whole)
            if mutant.is_c:
                self._link([])

    def _compile(self, sources: list[Path], broken: bool = False) -> None:
        def one(source: Path) -> None:
            to = str(self._object(source, broken))
            # Kernels' bodies take three times as long where they are optimised.
            optimised = "-O0" if broken and source.parent.name == "units" else "-O1"
            command = [*self.compiler, *self.flags, optimised, "-MMD", "-c", str(source), "-o", to]
            if (ran := subprocess.run(command, cwd=self.root, capture_output=True, text=True)).returncode:
                raise _CannotRun(f"{source} does not compile:\n{ran.stderr}")

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(one, sources))

    def _link(self, broken: list[Path]) -> None:
        """Of the broken objects of these sources, and of the whole ones of the others."""
        objects = [str(self._object(source, source in broken)) for source in self.sources]
        output = str(Path("fastconv", "_c.abi3.so"))
        command = [*self.compiler, "-shared", "-pthread", *objects, "-lm", "-o", output]
        subprocess.run(command, cwd=self.root, check=True)

    def red(self, mutant: Mutant) -> str | None:
        """The first test that turns red, as all is now; None if all are green."""
        caches = {"FASTCONV_CACHE": str(self.root / "build" / "cache"), "NUMBA_CACHE_DIR": ""}
        given = {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", **caches}
        if mutant.isa:
            given["FASTCONV_ISA"] = mutant.isa
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += [*mutant.tests.split(), "-k", mutant.selection]
        process = subprocess.Popen(
            command, cwd=self.root, env=os.environ | given, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True
        )
        try:
            out, error = process.communicate(timeout=_PATIENCE_TO_HANG if mutant.hangs else _PATIENCE)
        except subprocess.TimeoutExpired:
            if mutant.hangs:
                return f"a test that hangs, among {mutant.tests}"
            raise _CannotRun(f"no end after {_PATIENCE} s") from None
        finally:
            # And the processes that its tests have started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode == 0:
            return None
        if process.returncode == 1:
            return re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", out, re.MULTILINE)[1]
        if process.returncode in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL):
            where = re.search(r'File "[^"]*(tests/test_\w+\.py)", line \d+ in (test_\w+)', error)
            return f"{where[1]}::{where[2]}, which crashes" if where else f"a test that crashes, among {mutant.tests}"
        raise _CannotRun(f"pytest ends with status {process.returncode}\n{out}{error}")


def _judged(mutant: Mutant, project: Copy, unbroken: bool) -> tuple[bool, str]:
    """Whether it is as it is to be, and what to say of it."""
    started = time.monotonic()
    try:
        with nullcontext() if unbroken else project.broken(mutant):
            red = project.red(mutant)
        verdict, right = red or ("green" if unbroken else "SURVIVED"), (red is None) == unbroken
    except (_CannotRun, ValueError) as error:
        verdict, right = f"CANNOT RUN, {error}", False
    return right, f"{verdict} ({time.monotonic() - started:.0f} s)"


def run(chosen: list[Mutant], unbroken: bool, jobs: int) -> list[str]:
    """Prints a line for each; returns the names of those that are not as they are to be."""
    wrong = []
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(jobs) as pool:
        first = Copy(Path(directory) / "0" / "fastconv")
        free: SimpleQueue[Copy] = SimpleQueue()
        for project in (first, *(first.twin(Path(directory) / str(i) / "fastconv") for i in range(1, jobs))):
            free.put(project)

        def judged(mutant: Mutant) -> tuple[bool, str]:
            project = free.get()
            try:
                return _judged(mutant, project, unbroken)
            finally:
                free.put(project)

        running = {pool.submit(judged, mutant): mutant for mutant in chosen}
        for number, done in enumerate(as_completed(running), 1):
            name, (right, verdict) = running[done].name, done.result()
            if not right:
                wrong.append(name)
            print(f"{number}/{len(chosen)} {name}: {verdict}", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--unbroken", action="store_true", help="break nothing: all tests are to be green")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if not arguments.names or m.name.startswith(tuple(arguments.names))]
    if not chosen:
        parser.error(f"no name begins with {' or '.join(arguments.names)}")
    if arguments.unbroken:
        chosen = list({(m.tests, m.selection, m.isa): m for m in chosen}.values())
    if arguments.list:
        print(*(m.name for m in chosen), sep="\n")
        return 0
    started = time.monotonic()
    wrong = run(chosen, arguments.unbroken, arguments.jobs)
    right, minutes = len(chosen) - len(wrong), (time.monotonic() - started) / 60
    print(f"{right} of {len(chosen)} as they are to be, in {minutes:.0f} minutes", *wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
