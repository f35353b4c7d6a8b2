"""Arrays that end, or start, at a page that may not be touched: a stray access ends a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastconv import testing
from fastconv.testing import Target

HERE = Path(__file__).parent


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages are made on Linux only")
@pytest.mark.parametrize("compiled", [t for t in testing.targets() if t.backend != "reference"], ids=str)
def test_no_access_beyond_the_arrays(compiled: Target) -> None:
    arguments = [
        sys.executable,
        "-X",
        "faulthandler",
        str(HERE / "guard_pages.py"),
        compiled.backend,
        compiled.isa or "",
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}:\n{done.stderr}"
    assert "every case ran" in done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="guard pages are made on Linux only")
@pytest.mark.parametrize(("side", "index"), [("end", 5), ("start", -1)])
def test_a_guard_page_does_stop_a_process(side: str, index: int) -> None:
    program = f"""
import ctypes, numpy as np
from fastconv.testing import guarded
x = guarded(np.zeros(5), {side!r})
print(ctypes.c_double.from_address(x.ctypes.data).value)
print(ctypes.c_double.from_address(x.ctypes.data + 8 * {index}).value)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "0.0\n"
    assert done.returncode < 0
