"""Breaks the code on purpose, one small break after another, and says which test turned red.

    python tests/mutants              every mutant
    python tests/mutants gemm pool    those whose names begin with one of these words
    python tests/mutants --unbroken   their tests on the code as it is: they are green
    python tests/mutants --list       their names

The mutants are the tables of the .toml files beside this one: ``file``, the text ``old`` in it, which stands there
once, the text ``new`` in its place, and the files of ``tests`` that are to turn red, ``only`` those of their tests that
``pytest -k`` finds by it: few, so that it takes seconds. All happens in a copy of the project. Of the C library only
what a mutant touches is compiled anew, and of the kernels' bodies only one instruction set (``isa``, scalar unless
said), on which the tests then run alone. What Numba compiles is kept in the copy.

A mutant that no test sees has survived: the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

#: Seconds after which a break counts as seen: it made a test hang.
_PATIENCE = 300


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
    """Nothing that a test could see: it does not compile, or no test is named, or none can be imported."""


class Library:
    """The C library of a copy of the project, compiled source by source and only where something has changed."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        from csrc import build_ffi

        sys.path.pop(0)
        # Every path is relative: so ccache finds what an earlier copy compiled.
        os.chdir(root)
        self.objects = Path("build", "mutants")
        self.objects.mkdir(parents=True)
        extension = build_ffi.extension(str(self.objects))
        self.sources = [Path(source) for source in extension.sources]
        self.compiler = shlex.split(os.environ.get("CC", "cc"))
        flags = [flag for flag in extension.extra_compile_args if not flag.startswith("-O")]
        self.flags = [*flags, "-O1", "-fPIC", f"-I{sysconfig.get_path('include')}", "-Icsrc"]
        self.flags += [f"-D{name}={value}" for name, value in extension.define_macros]
        self._compile(self.sources)
        self.build()

    def _object(self, source: Path, broken: bool = False) -> Path:
        return self.objects / (re.sub(r"\W", "_", str(source)) + (".broken.o" if broken else ".o"))

    def _touched(self, mutant: Mutant) -> list[Path]:
        """The sources that its file is a part of; of the instruction sets its own, where it is a kernel's body."""
        parts = [self._object(s).with_suffix(".d").read_text().replace("/isa/..", "").split() for s in self.sources]
        users = [s for s, files in zip(self.sources, parts, strict=True) if mutant.file in files]
        return [s for s in users if not (mutant.isa and s.parent.name == "isa" and s.stem != mutant.isa)]

    def build(self, mutant: Mutant | None = None) -> None:
        """As the sources are, of which this mutant is the only one that is broken. Whole objects are kept."""
        touched = self._touched(mutant) if mutant else []
        self._compile(touched, broken=True)
        objects = [str(self._object(source, source in touched)) for source in self.sources]
        output = str(Path("fastconv", "_c.abi3.so"))
        subprocess.run([*self.compiler, "-shared", "-pthread", *objects, "-lm", "-o", output], check=True)

    def _compile(self, sources: list[Path], broken: bool = False) -> None:
        def one(source: Path) -> None:
            to = str(self._object(source, broken))
            command = [*self.compiler, *self.flags, "-MMD", "-c", str(source), "-o", to]
            if (ran := subprocess.run(command, capture_output=True, text=True)).returncode:
                raise _CannotRun(f"{source} does not compile:\n{ran.stderr}")

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(one, sources))


def _copied(to: Path) -> None:
    """The files that git tracks, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _red(mutant: Mutant, root: Path) -> str | None:
    """The first test that turned red; None if all are green."""
    caches = {"FASTCONV_CACHE": str(root / "build" / "cache"), "NUMBA_CACHE_DIR": ""}
    given = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", **caches}
    if mutant.isa:
        given["FASTCONV_ISA"] = mutant.isa
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [*mutant.tests.split(), "-k", mutant.selection]
    try:
        ran = subprocess.run(
            command, cwd=root, env=os.environ | given, capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"a test that hangs, among {mutant.tests}"
    if ran.returncode == 0:
        return None
    if ran.returncode == 1:
        return re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", ran.stdout, re.MULTILINE)[1]
    if ran.returncode < 0:
        return f"a test that crashes, among {mutant.tests}"
    raise _CannotRun(f"pytest ends with status {ran.returncode}\n{ran.stdout}{ran.stderr}")


def run(chosen: list[Mutant], unbroken: bool) -> list[str]:
    """Prints a line for each; returns the names of those that are not as they are to be."""
    wrong, whole_library = [], True
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "fastconv"
        _copied(root)
        library = Library(root)
        for number, mutant in enumerate(chosen, 1):
            started = time.monotonic()
            path = root / mutant.file
            whole = path.read_text()
            try:
                if not unbroken:
                    path.write_text(mutant.applied(whole))
                    if mutant.is_c or not whole_library:
                        library.build(mutant if mutant.is_c else None)
                    whole_library = not mutant.is_c
                red = _red(mutant, root)
                verdict = red or ("green" if unbroken else "SURVIVED")
                right = (red is None) == unbroken
            except (_CannotRun, ValueError) as error:
                verdict, right = f"CANNOT RUN, {error}", False
            path.write_text(whole)
            if not right:
                wrong.append(mutant.name)
            print(f"{number}/{len(chosen)} {mutant.name}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of names (default: all)")
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--unbroken", action="store_true", help="break nothing: all tests are to be green")
    arguments = parser.parse_args()
    chosen = [m for m in mutants() if not arguments.names or m.name.startswith(tuple(arguments.names))]
    if not chosen:
        parser.error(f"no name begins with {' or '.join(arguments.names)}")
    if arguments.unbroken:
        chosen = list({(m.tests, m.selection, m.isa): m for m in chosen}.values())
    if arguments.list:
        print(*(m.name for m in chosen), sep="\n")
        return 0
    wrong = run(chosen, arguments.unbroken)
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} as they are to be", *wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
