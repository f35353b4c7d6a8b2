"""Builds the extension ``fastconv._c``: csrc/*/*.c behind cffi (API mode), declared by fastconv.h.

No ``-march``: every file of isa/ switches its own instruction set on, and the CPU is asked at run time.
``FASTCONV_CFLAGS`` adds flags (sanitizers, debugging) to the compiler's and the linker's command lines.
Run as a script it builds in place, beside the Python sources.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cffi import FFI
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext as _build_ext

ROOT = Path(__file__).resolve().parent.parent
EXTRA = shlex.split(os.environ.get("FASTCONV_CFLAGS", ""))

#: What an sdist holds besides the package: all that building, testing and measuring it takes.
SHIPPED = ("csrc", "tests", "benchmarks", ".ci", "*.md")


#: A run for Python, to whom an array of pointers is a small layer's work: arrays one by one, with their slots.
CALL = """
static int fc_call(const fc_plan *plan, const unsigned char *slots, void *a, void *b, void *c, void *d, void *e,
                   void *workspace, int nthreads)"""
BODY = """ {
  void *const given[] = {a, b, c, d, e};
  void *arrays[FC_SLOTS] = {0};
  for (int i = 0; i < 5; i++)
    if (given[i]) arrays[slots[i]] = given[i];
  return fc_run(plan, arrays, workspace, nthreads);
}
"""


#: So that programs without Python can load the library: its data may be missing, its functions until they are called.
WEAK = "#pragma weak _Py_NoneStruct\n"
LAZY = ["-Wl,-z,lazy"] if sys.platform == "linux" else []
#: No names of functions that nobody asks for, unless for a debugger.
BARE = ["-Wl,-s"] if sys.platform == "linux" and not EXTRA else []


def _declarations(header: str) -> str:
    """What cffi understands of a header: no preprocessor, and nothing that only it can decide."""
    header = re.sub(r"^#ifdef __cplusplus$.*?^#endif$", "", header, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^#.*$|\bFC_API\b", "", header, flags=re.MULTILINE)


def _files(*patterns: str) -> list[str]:
    """Those of the patterns' files that are sources, relative to the project's root."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    kept = [p for p in found if "__pycache__" not in p.parts and p.suffix not in (".o", ".so")]
    return sorted(str(p.relative_to(ROOT)) for p in kept)


#: The parts of csrc/isa/bodies.h, those first that take longest to compile, and which of them are units of both dtypes.
PARTS, WHOLE = ("PRODUCTS", "POOLS", "DEPTHWISE", "CONVOLUTIONS", "MAPS", "PLANES"), ("PLANES",)

#: Flags of the bodies, and of all others. Vectors of convolutions are as fast at -O2, in three quarters of the code.
#: Tiles that fill the registers, and what the compiler itself makes vectors of, are not.
FAST, SMALL = ["-O3"], ["-O2", "-funswitch-loops", "-fsplit-loops"]


def _units(directory: str) -> list[str]:
    """Several units of each file of isa/, written to ``directory``: they compile side by side, each in less memory."""
    units = []
    os.makedirs(ROOT / directory, exist_ok=True)
    for part in PARTS:
        for isa in _files("csrc/isa/*.c"):
            for bits in (0,) if part in WHOLE else (32, 64):
                unit = os.path.join(directory, f"{Path(isa).stem}_{part.lower()}_{bits or 'all'}.c")
                text = f'#define FC_PART FC_PART_{part}\n#define FC_ONLY {bits}\n#include "isa/{Path(isa).name}"\n'
                # As it was, if it was: what is up to date is not compiled again.
                if not (ROOT / unit).is_file() or (ROOT / unit).read_text() != text:
                    (ROOT / unit).write_text(text)
                units.append(unit)
    return units


def extension(directory: str) -> Extension:
    """The extension, with cffi's generated wrapper in ``directory``."""
    header = (ROOT / "csrc" / "fastconv.h").read_text()
    others = [source for source in _files("csrc/*/*.c") if Path(source).parent.name != "isa"]
    ffi = FFI()
    ffi.cdef(f"{_declarations(header)}{CALL};")
    ffi.set_source(
        "fastconv._c",
        f'#include "fastconv.h"\n{WEAK}{CALL}{BODY}',
        sources=[*_units(os.path.join(directory, "units")), *others],
        depends=_files("csrc/**/*"),
        include_dirs=["csrc"],
        libraries=["m"],
        extra_compile_args=[
            *("-std=gnu11", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"),
            "-fno-asynchronous-unwind-tables",
            *(EXTRA or ["-g0"]),
        ],
        extra_link_args=["-pthread", *LAZY, *BARE, *EXTRA],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        py_limited_api=True,
    )
    return ffi.distutils_extension(tmpdir=directory)


def _is_fast(source: str) -> bool:
    """Whether it is a unit of bodies that need the compiler's vectors, or all of its registers."""
    isa, _, part = Path(source).stem.partition("_")
    return Path(source).parent.name == "units" and (isa == "scalar" or not part.startswith("convolutions"))


def _taken(compiler: list[str], flags: list[str]) -> list[str]:
    """Those of the flags that the compiler knows."""

    def known(flag: str) -> bool:
        command = [*compiler, flag, "-E", "-x", "c", os.devnull]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    return [flag for flag in flags if known(flag)]


def _cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class build_ext(_build_ext):
    """Builds the real extension instead of the one that pyproject.toml announces, one compiler a core."""

    def finalize_options(self) -> None:
        build = self.get_finalized_command("build").build_base
        self.distribution.ext_modules[:] = [extension(os.path.join(build, "ffi"))]
        super().finalize_options()
        # An earlier build with other flags looks up to date.
        self.force = self.force or bool(EXTRA)

    def get_source_files(self) -> list[str]:
        return _files(*(f"{name}/**/*" if (ROOT / name).is_dir() else name for name in SHIPPED))

    def run(self) -> None:
        super().run()
        # Other programs find the header beside the library.
        for built in self.extensions:
            self.copy_file("csrc/fastconv.h", os.path.dirname(self.get_ext_fullpath(built.name)))

    def build_extensions(self) -> None:
        compile_files, small = self.compiler.compile, _taken(self.compiler.compiler_so, SMALL)

        def compile_at_once(sources: list[str], extra_postargs: list[str], **options: Any) -> list[str]:
            def one(source: str) -> list[str]:
                return compile_files(
                    [source], extra_postargs=[*(FAST if _is_fast(source) else small), *extra_postargs], **options
                )

            with ThreadPoolExecutor(_cpus()) as pool:
                return [o for objects in pool.map(one, sources) for o in objects]

        self.compiler.compile = compile_at_once
        super().build_extensions()


def main() -> None:
    os.chdir(ROOT)
    command = build_ext(Distribution({"name": "fastconv", "ext_modules": [Extension("fastconv._c", [])]}))
    command.inplace = True
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    sys.exit(main())
