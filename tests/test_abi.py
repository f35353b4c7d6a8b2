"""The extension is a shared library that other programs can use, by ``fastconv.h`` alone."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from os import environ
from pathlib import Path

import pytest

from fastconv.backends import backends

if reason := backends()["c"]:
    pytest.skip(f"the c backend cannot run here: {reason}", allow_module_level=True)

import fastconv._c

LIBRARY = Path(fastconv._c.__file__)
HEADER = LIBRARY.with_name("fastconv.h")
DRIVER = Path(__file__).with_name("abi_driver.c")
COMPILER = shlex.split(environ.get("CC", "cc"))

needs_compiler = pytest.mark.skipif(shutil.which(COMPILER[0]) is None, reason="there is no C compiler")
#: A library built for sanitizers wants their runtime first, which a program has where it is built for them, too.
FLAGS = [flag for flag in shlex.split(environ.get("FASTCONV_CFLAGS", "")) if flag.startswith("-fsanitize")]


@needs_compiler
@pytest.mark.parametrize("linked", [False, True] if sys.platform == "linux" else [False])
def test_a_program_in_c_needs_the_header_and_the_library_alone(tmp_path: Path, linked: bool) -> None:
    program = tmp_path / "program"
    how = (
        ["-DLINKED", str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}", "-Wl,--allow-shlib-undefined"]
        if linked
        else ["-ldl"]
    )
    built = [*COMPILER, "-std=gnu11", "-Wall", "-Wextra", "-Werror", *FLAGS, f"-I{HEADER.parent}", str(DRIVER), *how]
    subprocess.run([*built, "-o", str(program)], check=True, cwd=tmp_path)
    done = subprocess.run([str(program), str(LIBRARY)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"version \d+ on \w+: \w+, rows_then_columns, packed_gemm\n", done.stdout)


def _functions(header: str) -> set[str]:
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return set(re.findall(r"^FC_API [^;(]*?(\w+)\(", code, flags=re.MULTILINE))


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="nm has other options elsewhere")
def test_the_library_exports_the_functions_of_the_header_and_nothing_else() -> None:
    done = subprocess.run(["nm", "-D", "--defined-only", str(LIBRARY)], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in done.stdout.splitlines()}
    functions = _functions(HEADER.read_text())
    assert "fc_run_steps" in functions
    of_python = {"PyInit__c", "_cffi_pypyinit__c"}
    assert functions <= exported
    assert exported - functions <= of_python | {name for name in exported if name.startswith("__asan")}


@needs_compiler
def test_the_header_is_one_for_cxx(tmp_path: Path) -> None:
    """No names that are keywords there, and C's linkage."""
    source = tmp_path / "names.cc"
    source.write_text('#include "fastconv.h"\nint main() { return fc_version() - FC_VERSION; }\n')
    command = [
        *COMPILER,
        "-x",
        "c++",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        f"-I{HEADER.parent}",
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if "cc1plus" in done.stderr and "No such file" in done.stderr:
        pytest.skip("this compiler has no C++")
    assert done.returncode == 0, done.stderr


def test_the_header_beside_the_library_is_that_of_the_sources() -> None:
    sources = Path(__file__).parent.parent / "csrc" / "fastconv.h"
    assert HEADER.read_text() == sources.read_text()
