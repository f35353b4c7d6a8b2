"""Builds the extension ``fastconv._c``: csrc/*.c and csrc/isa/*.c behind cffi (API mode), declared by fastconv.h.

No ``-march``: every file of isa/ switches its own instruction set on, and the CPU is asked at run time.
``FASTCONV_CFLAGS`` adds flags (sanitizers, debugging) to the compiler's and the linker's command lines.
Run as a script it builds in place, beside the Python sources.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from cffi import FFI
from setuptools.command.build_ext import build_ext as _build_ext

ROOT = Path(__file__).resolve().parent.parent
EXTRA = shlex.split(os.environ.get("FASTCONV_CFLAGS", ""))


def declarations() -> str:
    """fastconv.h without its preprocessor lines: what cffi parses."""
    header = (ROOT / "csrc" / "fastconv.h").read_text()
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "fastconv._c",
    '#include "fastconv.h"',
    sources=sorted(str(p.relative_to(ROOT)) for d in ("csrc", "csrc/isa") for p in (ROOT / d).glob("*.c")),
    depends=sorted(str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.[hcdi]*") if p.is_file()),
    include_dirs=["csrc"],
    libraries=["m"],
    extra_compile_args=["-std=gnu11", "-O3", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-pthread", *EXTRA],
    extra_link_args=["-pthread", *EXTRA],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=True,
)


class build_ext(_build_ext):
    """Puts the generated wrapper and our sources in the place of the extension that pyproject.toml announces."""

    def finalize_options(self) -> None:
        self.distribution.ext_modules[:] = [self._extension()]
        super().finalize_options()

    def _extension(self):
        return ffi.distutils_extension(tmpdir=str(Path(self.distribution.get_command_obj("build").build_base or "build") / "ffi"))


def main() -> None:
    from setuptools import Distribution

    os.chdir(ROOT)
    dist = Distribution({"name": "fastconv", "ext_modules": [ffi.distutils_extension(tmpdir="build/ffi")]})
    command = _build_ext(dist)
    command.inplace = True
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    sys.exit(main())
