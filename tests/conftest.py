"""What every test may ask for: ``target``, each backend on each instruction set that this machine can run."""

from __future__ import annotations

import pytest

from fastconv import testing


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", testing.targets(), ids=str)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", ["float32", "float64"])


def pytest_report_header() -> str:
    return "fastconv runs here on: " + ", ".join(map(str, testing.targets()))
