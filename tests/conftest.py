"""What every test may ask for: ``target``, each backend on each instruction set that this machine can run.

``pooling_target``: those that do not refuse pooling. ``dtype``: both.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cases.pool import A_POOLING

import fastconv
from fastconv import testing

# Processes that tests start find these modules and the fastconv under test, not one in the current directory.
os.environ["PYTHONSAFEPATH"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), str(Path(fastconv.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
).rstrip(os.pathsep)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", testing.targets(), ids=str)
    if "pooling_target" in metafunc.fixturenames:
        metafunc.parametrize("pooling_target", testing.targets(A_POOLING), ids=str)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", ["float32", "float64"])


def pytest_report_header() -> str:
    return "fastconv runs here on: " + ", ".join(map(str, testing.targets()))
