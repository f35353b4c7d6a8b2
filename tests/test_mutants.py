"""The breaks of tests/mutants fit the code as it is, and none of it is left out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What has no mutant, and why.
NONE = {
    "csrc/core/cpu.c": "asks the CPU: on one machine it is right or it is not",
    "csrc/isa/avx512.c": "few machines run it",
    "csrc/isa/neon.c": "few machines run it",
    "csrc/isa/scalar.c": "includes scalar_vocabulary.h",
    "csrc/kernels/peak.inc": "measures, computes nothing",
    "fastconv/backends/heuristics.py": "reads what algorithms are chosen by: any of them is right",
    "fastconv/backends/numba/__init__.py": "hands on",
    "fastconv/backends/numba/conv/__init__.py": "hands on",
    "fastconv/backends/numba/conv/winograd/__init__.py": "is empty",
    "fastconv/backends/numba/core/__init__.py": "is empty",
    "fastconv/backends/numba/core/target.py": "asks the CPU: on one machine it is right or it is not",
    "fastconv/backends/numba/gemm/__init__.py": "hands on",
    "fastconv/backends/numba/pool/__init__.py": "hands on",
    "fastconv/nn/__init__.py": "hands on",
    "fastconv/nn/layers/__init__.py": "hands on",
    "fastconv/ops/__init__.py": "is empty",
    "fastconv/ops/overloads.py": "is never run",
}

_spec = importlib.util.spec_from_file_location("mutants", ROOT / "tests" / "mutants" / "__main__.py")
_module = importlib.util.module_from_spec(_spec)
sys.modules["mutants"] = _module
_spec.loader.exec_module(_module)
MUTANTS = _module.mutants()


def test_each_breaks_one_place_and_names_tests() -> None:
    wrong = []
    texts = {file: (ROOT / file).read_text() for file in {m.file for m in MUTANTS}}
    for m in MUTANTS:
        if texts[m.file].count(m.old) != 1:
            wrong.append(f"{m.name}: its text stands {texts[m.file].count(m.old)} times in {m.file}")
        if m.new == m.old:
            wrong.append(f"{m.name}: breaks nothing")
        wrong += [f"{m.name}: there is no {file}" for file in m.tests.split() if not (ROOT / file).is_file()]
    assert not wrong, "\n".join(wrong)


def test_they_are_many_and_each_has_a_name() -> None:
    names = [m.name for m in MUTANTS]
    assert len(names) >= 80
    assert len(set(names)) == len(names)


def test_every_file_that_computes_has_one() -> None:
    python = ("fastconv/backends/**/*.py", "fastconv/ops/*.py", "fastconv/nn/**/*.py")
    patterns = ("csrc/*/*.c", "csrc/kernels/*.inc", *python)
    files = {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}
    broken = {m.file for m in MUTANTS}
    assert NONE.keys() <= files - broken
    assert sorted(files - broken - NONE.keys()) == []
