"""What compiled code is kept on disk for: this processor, and these sources. Pieces of work in another order. Plans in
proportion to the layer, whatever its numbers; sums in proportion to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import testing
from fastconv.backends import backend
from fastconv.settings import settings
from fastconv.spec import conv_spec
from fastconv.spec.conv import MAX_PADDED

pytestmark = pytest.mark.skipif(fc.backends()["numba"] is not None, reason="the numba backend cannot run here")

_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import fastconv as fc

read = Path.read_bytes
Path.read_bytes = lambda path: read(path) + (b"# changed" if path.name == sys.argv[1] else b"")
from fastconv.backends.numba.conv import depthwise_strips
from fastconv.backends.numba.core.target import ISA

x, dy = np.ones((1, 8, 5, 6)), np.ones((1, 8, 5, 6))
with fc.use_backend("numba"):
    dw = fc.conv2d_backward_weight(x, dy, (8, 1, 3, 3), 1, 1, groups=8)
stats = depthwise_strips.multiply_weights.stats
print(ISA, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), dw[3, 0].tolist())
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
    assert _run(tmp_path, "strips.py")[1:] == ["0", "1", _GRADIENT]


def test_code_is_not_loaded_from_where_others_can_write(tmp_path: Path) -> None:
    from fastconv.backends.numba.core import compile as compiling

    def place() -> str | None:
        compiling._code_directory.cache_clear()
        return compiling._code_directory()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling.config, "CACHE_DIR", "")
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
        assert not isinstance(compiling.jit(lambda x: x)._cache, compiling._Cache)
    compiling._code_directory.cache_clear()


def test_without_a_directory_to_write_to_it_still_runs(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    _, *compiled = _run(tmp_path / "a file")
    assert compiled[2] == _GRADIENT


@pytest.mark.parametrize(
    ("kind", "layout", "height", "groups", "stride"),
    [
        *[("depthwise_pixels.Pixels", "NHWC", height, 19, 1) for height in (15, 16, 17, 18, 21, 28)],
        *[("depthwise_pixels.Pixels", "NHWC", height, 19, 2) for height in (31, 33, 34, 36)],
        ("depthwise_strips.Strips", "NCHW", 17, 19, 1),
        ("depthwise_strips.Strips", "NCHW", 33, 19, 2),
        ("direct.Direct", "NCHW", 17, 1, 1),
        ("direct.Direct", "NCHW", 33, 1, 2),
    ],
)
def test_pieces_in_another_order(kind, layout, height, groups, stride, monkeypatch) -> None:
    """A thread may be late: what a piece writes, with what is added to it, no other piece touches."""
    module, name = kind.split(".")
    walked = getattr(import_module(f"fastconv.backends.numba.conv.{module}"), name)
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


def test_a_call_is_through_when_all_threads_are() -> None:
    joined, through = threading.Event(), []

    def work() -> None:
        if threading.current_thread() is threading.main_thread():
            assert joined.wait(60)
            return
        joined.set()
        through.append(sum(range(3_000_000)))

    import_module("fastconv.backends.numba.core.workers").run(work, 2)
    assert len(through) == 1


def test_an_error_in_another_thread_is_raised() -> None:
    joined = threading.Event()

    def work() -> None:
        if threading.current_thread() is threading.main_thread():
            assert joined.wait(60)
            return
        joined.set()
        raise MemoryError("in a thread")

    with pytest.raises(MemoryError, match="in a thread"):
        import_module("fastconv.backends.numba.core.workers").run(work, 2)


def _on_numba(function):
    with fc.use_backend("numba"):
        return function()


def _as_the_reference(function) -> None:
    with fc.use_backend("reference"):
        expected = function()
    testing.assert_exact(_on_numba(function), expected)


@pytest.mark.parametrize("groups", [1, 20])
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_taps_and_outputs_as_far_apart_as_may_be(groups: int, layout: str) -> None:
    far = MAX_PADDED
    rng = np.random.default_rng(0)
    x, y = (testing.integers(rng, (1, 20, size) if layout == "NCL" else (1, size, 20), "float32") for size in (10, 2))
    w = testing.integers(rng, (20, 20 // groups, 2), "float32")
    dilated = {"dilation": far, "groups": groups, "layout": layout}
    for pads in ((0, far), (far, 0)):
        kw = {**dilated, "padding": (pads,)}
        _as_the_reference(lambda kw=kw: fc.conv1d(x, w, **kw))
        _as_the_reference(lambda kw=kw: fc.conv1d_backward_input(x, w, x.shape, **kw))
        _as_the_reference(lambda kw=kw: fc.conv1d_backward_weight(x, x, w.shape, **kw))
    kw = {"stride": far, "padding": ((1, far),), "groups": groups, "layout": layout}
    _as_the_reference(lambda: fc.conv1d(x, w, **kw))
    _as_the_reference(lambda: fc.conv1d_backward_input(y, w, x.shape, **kw))
    _as_the_reference(lambda: fc.conv1d_backward_weight(x, y, w.shape, **kw))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_stride_beyond_a_single_output(ndim: int) -> None:
    x, w = (np.ones((1, 1) + (size,) * ndim, "float32") for size in (3, 1))
    forward, to_input, to_weight = (getattr(fc, f"conv{ndim}d{t}") for t in ("", "_backward_input", "_backward_weight"))
    _as_the_reference(lambda: forward(x, w, stride=2**31))
    _as_the_reference(lambda: to_input(w, w, x.shape, stride=2**31))
    _as_the_reference(lambda: to_weight(x, w, w.shape, stride=2**31))


@pytest.mark.parametrize("direction", ["fwd", "bwd_input", "bwd_weight"])
@pytest.mark.parametrize(
    ("shape", "w_shape", "kw"),
    [
        ((1, 1, 2**28), (1, 1, 5), {}),
        ((1, 16, 2**26), (16, 16, 3), {}),
        ((1, 2**26, 16), (16, 16, 3), {"layout": "NLC"}),
        ((1, 2**26, 16), (16, 1, 3), {"layout": "NLC", "groups": 16}),
        ((1, 16, 2**26), (16, 1, 3), {"groups": 16}),
        ((1, 4, 2**14, 2**14), (4, 2, 3, 3), {"groups": 2}),
        ((1, 4, 2**14, 2**14), (4, 2, 3, 3), {"groups": 2, "stride": 2**10}),
    ],
)
def test_a_plan_takes_no_memory_for_each_position(direction: str, shape, w_shape, kw) -> None:
    kernel = backend("numba").compile(conv_spec(direction, shape, w_shape, "float32", **kw), settings())
    tracemalloc.start()
    try:
        kernel = backend("numba").compile(conv_spec(direction, shape, w_shape, "float32", **kw), settings())
        assert kernel.workspace_bytes > 0
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_only_positions_that_taps_reach_are_planned() -> None:
    spec = conv_spec("bwd_input", (1, 1, 3000, 3000), (1, 1, 3, 3), "float32", stride=1000)
    kernel, anything = backend("numba").compile(spec, settings()), (9, 9, 3, 1)
    assert len(kernel._made(anything, anything, anything, None, None).jobs) == 9


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_axis_of_one_element_may_have_any_stride(layout: str) -> None:
    rng = np.random.default_rng(0)
    shape = (1, 1, 7, 20) if layout == "NHWC" else (1, 20, 1, 7)
    x, w = (testing.integers(rng, s, "float32") for s in (shape, (20, 20, 3, 3)))
    strides = tuple(2**62 if n == 1 else s for n, s in zip(shape, x.strides, strict=True))
    view = np.lib.stride_tricks.as_strided(x, shape, strides)
    for kernel in (w, w[..., :2, :2]):
        _as_the_reference(lambda kernel=kernel: fc.conv2d(view, kernel, padding=20, dilation=20, layout=layout))


@pytest.mark.parametrize(
    ("shape", "w_shape", "kw"),
    [
        ((1, 1, 3_000_000), (1, 1, 1), {}),
        ((1, 2, 3_000_000), (2, 1, 1), {"groups": 2}),
        ((1, 16, 1_000_000), (16, 1, 3), {"groups": 16}),
        ((1, 1_000_000, 16), (16, 1, 3), {"groups": 16, "layout": "NLC"}),
        ((1, 16, 600_000), (16, 16, 3), {}),
        ((1, 16, 400, 600), (16, 16, 3, 3), {}),
    ],
    ids=["product", "rows", "strips", "pixels", "line", "square"],
)
def test_long_sums_of_gradients_are_sums_of_sums(shape, w_shape, kw) -> None:
    """One after another a million equal numbers would be off by 1e-4 and more."""
    n, last = len(shape) - 2, kw.get("layout") == "NLC"
    x, kernel = np.full(shape, 0.1, "float32"), w_shape[2:]
    dy_shape = [s if i in (0, n + 1 if last else 1) else s - kernel[0] + 1 for i, s in enumerate(shape)]
    dy = np.full(dy_shape, 0.1, "float32")
    dw = _on_numba(lambda: getattr(fc, f"conv{n}d_backward_weight")(x, dy, w_shape, **kw))
    channels = dy_shape[-1 if last else 1]
    np.testing.assert_allclose(dw, np.float64(np.float32(0.1)) ** 2 * (dy.size // channels), rtol=1e-5)


def test_long_sums_of_products_are_sums_of_sums() -> None:
    x = np.full((1, 1, 200_000), 0.1, "float32")
    y = _on_numba(lambda: fc.conv1d(x, x))
    np.testing.assert_allclose(y, np.float64(np.float32(0.1)) ** 2 * 200_000, rtol=1e-5)
    a = np.full((2, 5_000_000), 0.1, "float32")
    y = _on_numba(lambda: fc.matmul(a, a.T))
    np.testing.assert_allclose(y, np.float64(np.float32(0.1)) ** 2 * 5_000_000, rtol=1e-5)
