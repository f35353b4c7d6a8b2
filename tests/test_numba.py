"""What compiled code is kept on disk for: this processor, and these sources. Pieces of work in another order."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc

pytestmark = pytest.mark.skipif(fc.backends()["numba"] is not None, reason="the numba backend cannot run here")

_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import fastconv as fc

read = Path.read_bytes
Path.read_bytes = lambda path: read(path) + (b"# changed" if path.name == sys.argv[1] else b"")
from fastconv.backends.numba import simd, strips

x, dy = np.ones((1, 8, 5, 6)), np.ones((1, 8, 5, 6))
with fc.use_backend("numba"):
    dw = fc.conv2d_backward_weight(x, dy, (8, 1, 3, 3), 1, 1, groups=8)
stats = strips.multiply_weights.stats
print(simd.ISA, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), dw[3, 0].tolist())
"""

_GRADIENT = "[[20.0, 24.0, 20.0], [25.0, 30.0, 25.0], [20.0, 24.0, 20.0]]"


def _run(directory: Path, changed: str = "nothing", **environment: str) -> list[str]:
    """Instruction set, loads and compilations of a process, and its result; it takes one file for changed."""
    place = {"XDG_CACHE_HOME": str(directory), "LOCALAPPDATA": str(directory), "HOME": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, changed],
        env={**os.environ, **place, "NUMBA_CACHE_DIR": "", "FASTCONV_CACHE": "", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(" ", 3)


def test_code_is_compiled_once_for_each_processor_and_each_state_of_the_sources(tmp_path: Path) -> None:
    isa, *compiled = _run(tmp_path)
    assert compiled == ["0", "1", _GRADIENT]
    assert any(path.suffix == ".nbc" for path in tmp_path.rglob("fastconv/numba/*")), "it is with the user's caches"
    assert _run(tmp_path) == [isa, "1", "0", _GRADIENT]
    # Code for the processor of another machine that shares the directory is not for this one, nor the other way round.
    generic, *compiled = _run(tmp_path, NUMBA_CPU_NAME="generic")
    assert compiled == ["0", "1", _GRADIENT]
    assert generic in ("vector128", "neon")
    assert _run(tmp_path) == [isa, "1", "0", _GRADIENT]
    # The file of another function, of which this one is made, too.
    assert _run(tmp_path, "engine.py")[1:] == ["0", "1", _GRADIENT]


def test_code_is_not_loaded_from_where_others_can_write(tmp_path: Path) -> None:
    from fastconv.backends.numba import simd

    def place() -> str | None:
        simd._code_directory.cache_clear()
        return simd._code_directory()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simd.config, "CACHE_DIR", "")
        patch.setenv("FASTCONV_CACHE", str(tmp_path))
        ours = tmp_path / "numba"
        assert place() == str(ours)
        assert ours.stat().st_mode & 0o777 == 0o700
        ours.chmod(0o770)
        with pytest.warns(UserWarning, match=r"not kept.*numba can be written to by others \(mode 770\)"):
            assert place() is None
        ours.chmod(0o700)
        with patch.context() as another:
            another.setattr(os, "geteuid", lambda: ours.stat().st_uid + 1)
            with pytest.warns(UserWarning, match="belongs to user"):
                assert place() is None
        assert place() == str(ours)
        patch.setenv("FASTCONV_CACHE", "off")
        assert place() is None
        assert not isinstance(simd.jit(lambda x: x)._cache, simd._Cache)
    simd._code_directory.cache_clear()


def test_without_a_directory_to_write_to_it_still_runs(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    _, *compiled = _run(tmp_path / "a file")
    assert compiled[2] == _GRADIENT


@pytest.mark.parametrize(
    ("kind", "layout", "height", "groups", "stride"),
    [
        *[("pixels.Pixels", "NHWC", height, 19, 1) for height in (15, 16, 17, 18, 21, 28)],
        *[("pixels.Pixels", "NHWC", height, 19, 2) for height in (31, 33, 34, 36)],
        ("strips.Strips", "NCHW", 17, 19, 1),
        ("strips.Strips", "NCHW", 33, 19, 2),
        ("direct.Direct", "NCHW", 17, 1, 1),
        ("direct.Direct", "NCHW", 33, 1, 2),
    ],
)
def test_pieces_in_another_order(kind, layout, height, groups, stride, monkeypatch) -> None:
    """A thread may be late: what a piece writes, with what is added to it, no other piece touches."""
    module, name = kind.split(".")
    walked = getattr(import_module(f"fastconv.backends.numba.{module}"), name)
    kernel, taken = walked.kernel, []

    def backwards(counter, pieces, *rest):
        for piece in reversed(range(pieces)):
            counter[0] = piece
            kernel(counter, piece + 1, *rest)
            taken.append(piece)

    rng = np.random.default_rng(0)
    channels = groups if groups > 1 else 3
    shape = (2, channels, height, 11) if layout == "NCHW" else (2, height, 11, channels)
    x = rng.integers(-3, 4, shape).astype("f4")
    w = rng.integers(-3, 4, (max(groups, 24), channels // groups, 3, 3)).astype("f4")
    w = w[:groups] if groups > 1 else w
    more = {"stride": stride, "padding": 1, "groups": groups, "layout": layout}
    with fc.use_backend("numba"):
        y = fc.conv2d(x, w, None, **more)
        residual = rng.integers(-3, 4, y.shape).astype("f4")
        more |= {"residual": residual, "activation": "relu"}
        expected = fc.conv2d(x, w, None, **more)
        monkeypatch.setattr(walked, "kernel", staticmethod(backwards))
        given = fc.conv2d(x, w, None, **more)
    assert len(taken) > 1
    np.testing.assert_array_equal(given, expected)
